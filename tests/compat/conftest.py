"""One server for all tests of a file; no test may leave a traceback in the log."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.server import House, no_tracebacks, serving


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
