"""Every implementation of a port, each given in turn to the same tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hubbub.buses.local import LocalBus
from hubbub.buses.redis import RedisBus
from hubbub.core.nouns import new_id
from hubbub.core.ports import Bus, Store
from hubbub.stores import group_commit, sqlite
from hubbub.stores.archive import Archive, Move
from hubbub.stores.memory import MemoryStore
from hubbub.stores.mongo import MongoStore
from hubbub.stores.mongo_archive import MongoArchive
from hubbub.stores.sqlite import SqliteStore
from hubbub.stores.sqlite_archive import SqliteArchive

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import mongod
from support.redis import RedisServer

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""What survives a power cut is not asked here, so the files may lie where syncing costs nothing."""


@pytest.fixture(scope="session")
def mongo() -> Iterator[mongod.Mongod]:
    """A replica set of one server."""
    with mongod.replica_set() as (server,):
        yield server


@pytest.fixture(params=["memory", "sqlite", "sqlite committing in a thread", "mongodb"])
async def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    if request.param == "mongodb":
        server = request.getfixturevalue("mongo")
        mongod.wipe(server, "contracts")
        kept = MongoStore(mongod.uri([server]), "contracts")
        await kept.open()
        yield kept
        await kept.close()
        return
    if request.param == "sqlite committing in a thread":
        monkeypatch.setattr(sqlite, "SLOW_S", -1.0)  # every disk is slow
        monkeypatch.setattr(group_commit, "SLOW_S", -1.0)
    with TemporaryDirectory(dir=IN_MEMORY) as home:
        made: Store = MemoryStore() if request.param == "memory" else sqlite.SqliteStore(Path(home) / "hubbub.db")
        await made.open()
        yield made
        await made.close()


class Place:
    """Where there are no rows; makes archives and stores of it. `clear` leaves nothing at all there."""

    def __init__(self, archive: Callable[[], Archive], store: Callable[[], Store], clear: Callable[[], None]) -> None:
        self.archive = archive
        self.store = store
        self.clear = clear


@pytest.fixture(params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        file = tmp_path / "hubbub.db"
        return Place(lambda: SqliteArchive(file), lambda: SqliteStore(file), lambda: None)
    server = request.getfixturevalue("mongo")
    uri = mongod.uri([server])

    def drop() -> None:
        with server.client() as client:
            client.drop_database("archive")

    mongod.wipe(server, "archive")
    return Place(lambda: MongoArchive(uri, "archive"), lambda: MongoStore(uri, "archive"), drop)


@pytest.fixture
async def archive(place: Place) -> AsyncIterator[Archive]:
    """One that is being filled."""
    made = place.archive()
    await made.open(fill=True)
    await made.begin(Move(epoch="epoch", left="left"), rights=7)
    yield made
    await made.close()


@pytest.fixture(scope="session")
async def redis() -> AsyncIterator[RedisServer]:
    """Started by the first who needs it."""
    server = RedisServer()
    yield server
    await server.stop()


@pytest.fixture(params=["local", "redis"])
async def bus(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[Bus]:
    made: Bus = LocalBus(max_queue=8)
    if request.param == "redis":
        if not redis.runs:
            await redis.start()
        made = RedisBus(redis.url, new_id(), max_queue=8)
    await made.open()
    yield made
    await made.close()


Later = Callable[[float], Awaitable[None]]


@pytest.fixture
async def later(bus: Bus, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Later:
    """Let seconds pass for what waits in the queue."""

    async def pass_(seconds: float) -> None:
        if isinstance(bus, LocalBus):
            loop = asyncio.get_running_loop()
            clock = loop.time
            monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
            return
        async with redis.client() as client:  # its clock is nobody's to move; what waits has waited longer
            async for key in client.scan_iter("*:since:*"):
                for member in await client.zrange(key, 0, -1):
                    await client.zincrby(key, -seconds * 1000, member)

    return pass_
