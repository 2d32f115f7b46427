"""One server for all attacks of a file, unless they need one of their own; none may leave a traceback in the log."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.server import House, no_tracebacks
from tests.attack.people import attacked


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The server of this file; guests are allowed."""
    async with attacked(tmp_path_factory.mktemp("home"), store="memory") as house:
        yield house


@pytest.fixture(scope="module")
async def closed_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Another one, where guests are off."""
    async with attacked(tmp_path_factory.mktemp("closed"), store="memory", guests="off") as house:
        yield house


@pytest.fixture
def own_house(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[House]]:
    """A server for this test alone: `async with own_house(setting=value) as house`."""
    return partial(attacked, tmp_path / "home")


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with no_tracebacks():
        yield
