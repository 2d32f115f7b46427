"""One server for all tests of a file, each of which brings its own names; no test may leave a traceback in the log."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.server import House, fresh, no_tracebacks, serving


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The server of this file."""
    async with serving(tmp_path_factory.mktemp("home")) as house:
        yield house


@pytest.fixture
def own_house(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[House]]:
    """A server for this test alone: `async with own_house(setting=value) as house`."""
    return partial(serving, tmp_path / "home")


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with no_tracebacks():
        yield


@pytest.fixture
async def bystanders(house: House) -> AsyncIterator[None]:
    """Two people who go on talking whatever the test does to the server beside them."""
    async with await house.talk("text", fresh("ann")) as ann, await house.talk("framed", fresh("bob")) as bob:
        enough = asyncio.Event()

        async def talk() -> None:
            number = 0
            while not enough.is_set():
                await ann.write(bob.welcome["user"], f"{number}")
                assert (await bob.message(f"{number}"))["seq"] == number + 1
                number += 1
                await asyncio.sleep(0.01)  # they are people

        talking = asyncio.create_task(talk())
        yield
        enough.set()
        await talking
