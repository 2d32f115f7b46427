"""Every implementation of a port, each given in turn to the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hubbub.buses.local import LocalBus
from hubbub.core.ports import Bus, Store
from hubbub.stores import group_commit, sqlite
from hubbub.stores.memory import MemoryStore

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""What survives a power cut is not asked here, so the files may lie where syncing costs nothing."""


@pytest.fixture(params=["memory", "sqlite", "sqlite committing in a thread"])
async def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    if request.param == "sqlite committing in a thread":
        monkeypatch.setattr(sqlite, "SLOW_S", -1.0)  # every disk is slow
        monkeypatch.setattr(group_commit, "SLOW_S", -1.0)
    with TemporaryDirectory(dir=IN_MEMORY) as home:
        made: Store = MemoryStore() if request.param == "memory" else sqlite.SqliteStore(Path(home) / "hubbub.db")
        await made.open()
        yield made
        await made.close()


@pytest.fixture(params=["local"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    made: Bus = LocalBus(max_queue=8)
    await made.open()
    yield made
    await made.close()
