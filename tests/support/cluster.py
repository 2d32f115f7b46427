"""Three servers on one MongoDB and one Redis, all of them real processes, with a bad network between them if wanted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubbub.core.nouns import Message, new_id
from hubbub.stores.mongo import MongoStore
from support import mongod
from support.faulty import CLEAN, End, Faults, FaultyProxy
from support.mongod import Mongod
from support.process import Server
from support.redis import RedisServer, redis_server
from support.witness import LOBBY

DATABASE = "nodes"
LEASE_S = 2.0
AWAY = Faults(up=0, down=0, end=End.HOLE)
"""A network that swallows everything and tells nobody."""


@dataclass
class Place:
    """Where a proxy leads; may be moved."""

    port: int

    @property
    def tcp_port(self) -> int:
        return self.port


class Doors:
    """The ports of the nodes, for each connection those of the next one, as a load balancer would have it."""

    def __init__(self, nodes: Sequence[Server], first: int = 0) -> None:
        self._next = itertools.islice(itertools.cycle(nodes), first % len(nodes), None)

    @property
    def port(self) -> int:
        return next(self._next).port

    @property
    def tcp_port(self) -> int:
        return next(self._next).tcp_port


class OpenDoors(Doors):
    """Leaves out those that do not serve, as one that asks `/readyz` would."""

    def __init__(self, nodes: Sequence[Server]) -> None:
        self._next = (node for node in itertools.cycle(nodes) if node.serves)


class Cluster:
    """What a test may break. `to_redis` and `to_mongo` are the ways of each node; there are none to the database where
    it has several members, as the driver finds those by itself."""

    def __init__(
        self,
        nodes: list[Server],
        redis: RedisServer,
        members: list[Mongod],
        to_redis: list[FaultyProxy],
        to_mongo: list[FaultyProxy],
        redis_place: Place,
    ) -> None:
        self.nodes = nodes
        self.redis = redis
        self.members = members
        self.to_redis = to_redis
        self.to_mongo = to_mongo
        self._redis_place = redis_place

    @property
    def said(self) -> str:
        return "".join(node.said for node in self.nodes)

    def doors(self, first: int = 0) -> Doors:
        return Doors(self.nodes, first)

    def open_doors(self) -> Doors:
        return OpenDoors(self.nodes)

    @contextlib.asynccontextmanager
    async def nonsense_for_redis(self) -> AsyncIterator[None]:
        """Whoever asks Redis is answered by something that is none."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while await reader.read(4096):
                    writer.write(b"+OK\r\n" * 20 + b"\x00\xff*3\r\n")
                    await writer.drain()
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as liar:
            self._redis_place.port = liar.sockets[0].getsockname()[1]
            for way in self.to_redis:
                way.end_all(End.RST)
            try:
                yield
            finally:
                self._redis_place.port = self.redis.port
                for way in self.to_redis:
                    way.end_all(End.RST)

    async def log(self) -> list[Message]:
        """What MongoDB holds of the lobby."""
        async with self.store() as store:
            log: list[Message] = []
            more = True
            while more:
                page = await store.read_after(LOBBY, len(log), 1000, 1 << 30)
                log += page.messages
                more = page.more
        return log

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[MongoStore]:
        store = MongoStore(mongod.uri(self.members), DATABASE)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


@contextlib.contextmanager
def cut_off(way: FaultyProxy) -> Iterator[None]:
    """Nothing passes there, and nobody is told."""
    way.faults = AWAY
    way.end_all(End.HOLE)
    try:
        yield
    finally:
        way.faults = CLEAN


@contextlib.contextmanager
def frozen(process: Server | Mongod | RedisServer) -> Iterator[None]:
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def cluster(home: Path, *, members: int = 1, nodes: int = 3) -> AsyncIterator[Cluster]:
    """Everything is killed at the end, however that comes."""
    async with contextlib.AsyncExitStack() as stack:
        databases = stack.enter_context(mongod.replica_set(members))
        redis = await stack.enter_async_context(redis_server())
        place = Place(redis.port)
        to_redis, to_mongo, servers = [], [], []
        shared = {
            "HUBBUB_REDIS_TASKS_QUEUE_NAME": new_id(),
            "HUBBUB_DATABASE_NAME": DATABASE,
            "HUBBUB_JWT_SECRET_KEY": "0123456789abcdef0123456789abcdef",
            "HUBBUB_LEASE_S": str(LEASE_S),
        }
        for number in range(nodes):
            way = await stack.enter_async_context(FaultyProxy(place, seed=number))
            to_redis.append(way)
            uri = mongod.uri(databases)
            if members == 1:
                to_mongo.append(await stack.enter_async_context(FaultyProxy(Place(databases[0].port), seed=number)))
                uri = f"mongodb://127.0.0.1:{to_mongo[-1].port}/?directConnection=true"
            own = {"HUBBUB_REDIS_URL": f"redis://127.0.0.1:{way.port}/0", "HUBBUB_DATABASE_URI": uri}
            server = Server(home / f"node{number}", {**shared, **own})
            stack.push_async_callback(_end, server)
            servers.append(server)
        await asyncio.gather(*(server.start() for server in servers))
        yield Cluster(servers, redis, databases, to_redis, to_mongo, place)


async def _end(server: Server) -> None:
    if server._process is not None and server.returncode is None:
        await server.kill()


async def until(true: Callable[[], object], within_s: float) -> None:
    """Wait for something another process does."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
