"""The MongoDB server behind a store: the client, transactions, and what its failures mean.

Everything is written with `w: majority, j: true` and read from the primary with read concern majority: what was told
to anybody survives the loss of any minority of the servers, and what a node has written it reads at once. Linearizable
reads would cost a write each, and only keep a primary that was cut off, and does not know it yet, from telling what
was true some seconds ago. Such a primary cannot commit, and whatever is judged is judged inside a transaction. There
the newest data are read, committed on a majority or not: they come before it in the log that the others copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidName, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.topology_description import TopologyDescription

from hubbub.core.errors import Internal, Problem, StorageFull, Unavailable
from hubbub.stores.mongo_rows import Doc

T = TypeVar("T")

PATIENCE_S = 4.0
"""How long a call tries before it says Unavailable."""

FAREWELL_S = 1.0
"""How long the server may take to be told that we are leaving."""

HINDERED_S = 1.0
"""How long somebody else's transaction may stand in the way before it is asked whose it is."""

ORPHAN_S = 2.0
"""A transaction of ours that has been open for so long has lost its node; they take some milliseconds."""

APP = "hubbub"

MAX_NAME = 63
"""Bytes in the name of a database, says MongoDB."""

DUPLICATE = 11000
OUT_OF_DISK_SPACE = 14031
AUTHENTICATION_FAILED, UNAUTHORIZED = 18, 13

AT_ONCE = 32
"""Calls in a queue (see `Queue`) under way at once; the others wait their turn here. With 1000 at once MongoDB did half
as much (221 new members a second beside 435), and some were lost: whoever waits in the driver's pool instead can keep
it from everybody for good when they are cancelled twice, at the end of the program for one (PyMongo 4.20 on Python
3.11)."""

FLIGHTS = 192
"""Transactions of flights (mongo_lanes.py) at most. They need not wait: many calls travel in each."""

AGAIN_S = 0.004
"""At most so long after it met another transaction one begins again."""

BUSY = "The database cannot keep up; try again in a moment."
AWAY = "The database does not answer; the outcome is unknown. Try again in a moment."
ONE_NODE = (
    "is not a replica set, which transactions need. One server alone can be one: start it with --replSet rs0, and run "
    "once: mongosh --eval 'rs.initiate()'"
)


class Queue(Enum):
    """Who waits behind whom. Thousands who come back at once have much to read; whoever writes has others of a thread
    waiting behind them, and what was taken from somebody has to be known within a second."""

    READING = "reading"
    WRITING = "writing"
    RIGHTS = "rights"


class _InTheWay(Exception):
    """Another transaction has something this one wants; nothing was written."""

    def __init__(self, failure: OperationFailure) -> None:
        self.failure = failure


class Server:
    """A database on a MongoDB server, for the event loop that made it.

    Args:
        uri: may hold a password, so it is shown to nobody; neither is what the driver says of it.
        app: what works on the database; the MongoDB server tells it of each connection.
        patience_s: how long a call tries.
    """

    def __init__(self, uri: str, name: str, app: str = APP, patience_s: float = PATIENCE_S) -> None:
        self._app = f"{app} {name}"
        self._patience_s = patience_s
        if len(name.encode()) > MAX_NAME:
            raise Unavailable(f"HUBBUB_DATABASE_NAME has more than {MAX_NAME} bytes: {name[:MAX_NAME]!r} and more.")
        try:
            self.client: AsyncMongoClient[Doc] = AsyncMongoClient(
                uri,
                appname=self._app,
                connect=False,
                w="majority",
                journal=True,
                readConcernLevel="majority",
                readPreference="primary",
                retryReads=True,
                retryWrites=True,
                timeoutMS=int(patience_s * 1000),
                serverSelectionTimeoutMS=int(PATIENCE_S * 1000),
                connectTimeoutMS=2000,
                tz_aware=True,
                maxPoolSize=AT_ONCE * len(Queue) + FLIGHTS,
                maxConnecting=AT_ONCE * len(Queue) + FLIGHTS,
            )
        except (PyMongoError, ValueError) as wrong:
            raise no_address(wrong) from None
        try:
            self.db: AsyncDatabase[Doc] = self.client[name]
        except InvalidName as wrong:
            raise Unavailable(f"HUBBUB_DATABASE_NAME cannot be {name!r}: {wrong}.") from None
        self._places = {queue: asyncio.Semaphore(AT_ONCE) for queue in Queue}

    def __getitem__(self, collection: str) -> AsyncCollection[Doc]:
        return self.db[collection]

    async def connect(self) -> None:
        """Raises Unavailable with the sentence to show: nobody answers, or it cannot do transactions."""
        try:
            with pymongo.timeout(PATIENCE_S):
                judge(await self.client.admin.command("hello"))
        except PyMongoError as failure:
            raise opening(failure, self.client.topology_description) from None

    async def close(self) -> None:
        """Soon, also when nobody answers."""
        with pymongo.timeout(FAREWELL_S):
            await self.client.close()

    @asynccontextmanager
    async def place(self, queue: Queue = Queue.READING) -> AsyncIterator[None]:
        """For a few requests that belong together: together they take no longer than one may. Whoever has a place
        must not wait for another. Raises Unavailable: none has become free for that long."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._places[queue].acquire()
        except TimeoutError:
            raise Unavailable(BUSY, retry_after=1) from None
        try:
            with pymongo.timeout(self._patience_s):
                yield
        finally:
            self._places[queue].release()

    @asynccontextmanager
    async def call(self, queue: Queue = Queue.READING) -> AsyncIterator[None]:
        """`place`, and failures in our words."""
        async with self.place(queue):
            with outcomes():
                yield

    async def transaction(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again when another one was in the way, and commit it. While the outcome of the
        commit is unknown it is asked for, by the number the transaction has; nothing is written twice.

        Raises what `work` raises, which undoes everything, and PyMongoError: the outcome may be unknown.
        """
        began = time.monotonic()
        look_at = began + HINDERED_S

        async def attempt(session: AsyncClientSession) -> T:
            try:
                return await work(session)
            except OperationFailure as failure:
                if failure.has_error_label("TransientTransactionError"):
                    raise _InTheWay(failure) from failure
                raise

        with pymongo.timeout(self._patience_s):
            async with self.client.start_session() as session:
                while True:
                    try:
                        return await session.with_transaction(
                            attempt,
                            read_concern=ReadConcern("local"),
                            write_concern=WriteConcern("majority", j=True),
                            read_preference=ReadPreference.PRIMARY,
                        )
                    except _InTheWay as hindered:
                        if time.monotonic() > began + self._patience_s:
                            raise hindered.failure from None
                    # The driver would wait longer each time, up to half a second, and so hardly ever come between the
                    # transactions of a busy node.
                    await asyncio.sleep(random.uniform(0, AGAIN_S))
                    if time.monotonic() > look_at:
                        look_at = time.monotonic() + HINDERED_S
                        await self._end_orphans()

    async def others(self) -> int:
        """How many connections servers and commands of ours have to this database, as far as one may see."""
        pipeline: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": False, "idleConnections": True}},
            {"$match": {"appName": f"{APP} {self.db.name}", "command.hello": {"$exists": False}}},
        ]
        now = self.client.get_database("admin", read_concern=ReadConcern("local"))
        async with await now.aggregate(pipeline) as found:
            return len([doc async for doc in found])

    async def _end_orphans(self) -> None:
        """End the transactions of nodes that were killed in the middle of one. MongoDB itself would keep everybody out
        of the threads they had touched for a minute. One that is ended though its node lives is begun again there."""
        with contextlib.suppress(PyMongoError):
            pipeline: list[dict[str, Any]] = [
                {"$currentOp": {"allUsers": False, "idleSessions": True}},
                {"$match": {"appName": self._app, "transaction.timeOpenMicros": {"$gt": int(ORPHAN_S * 1_000_000)}}},
                {"$project": {"id": "$lsid.id"}},
            ]
            now = self.client.get_database("admin", read_concern=ReadConcern("local"))
            async with await now.aggregate(pipeline) as found:
                orphans = [{"id": doc["id"]} async for doc in found]
            if orphans:
                await self.client.admin.command("killSessions", orphans)


@contextmanager
def outcomes() -> Iterator[None]:
    """What the driver says, in our words."""
    try:
        yield
    except PyMongoError as failure:
        raise outside(failure) from failure


def outside(failure: BaseException) -> Problem:
    """The problem to tell for what the driver said."""
    if isinstance(failure, Problem):
        return failure
    if isinstance(failure, PyMongoError):
        if isinstance(failure, OperationFailure) and _no_room(failure):
            return StorageFull("There is no room left for the database; reading still works.", retry_after=5)
        return Unavailable(AWAY, retry_after=1)
    return Internal(f"A write failed unexpectedly ({type(failure).__name__}).")


def judge(hello: Mapping[str, Any]) -> None:
    """Raises Unavailable: the server that says this of itself cannot do transactions."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise Unavailable(f"The MongoDB server {ONE_NODE}.")


def no_address(wrong: Exception) -> Unavailable:
    """What the driver says of an address may have a password in it."""
    return Unavailable(
        f"HUBBUB_DATABASE_URI is no address of a MongoDB server ({type(wrong).__name__}); expected one such as "
        "mongodb://127.0.0.1:27017/?replicaSet=rs0, a password in it percent-encoded."
    )


def opening(failure: PyMongoError, servers: TopologyDescription) -> Unavailable:
    """Why the database cannot be opened."""
    if isinstance(failure, OperationFailure) and failure.code == AUTHENTICATION_FAILED:
        return Unavailable("The MongoDB server does not know the user or the password in HUBBUB_DATABASE_URI.")
    if isinstance(failure, OperationFailure) and failure.code == UNAUTHORIZED:
        return Unavailable(
            "The user in HUBBUB_DATABASE_URI may not do what is needed; give them the roles readWrite and dbAdmin on "
            "the database."
        )
    if isinstance(failure, OperationFailure):
        return Unavailable(f"The database cannot be opened: MongoDB refuses with the code {failure.code}.")
    if any(server.server_type_name == "RSGhost" for server in servers.server_descriptions().values()):
        return Unavailable(f"The MongoDB server {ONE_NODE}.")
    return Unavailable(
        "No MongoDB server that can be written to answers at HUBBUB_DATABASE_URI within "
        f"{PATIENCE_S:g} seconds: is it running, and is the address right?"
    )


def _no_room(failure: OperationFailure) -> bool:
    """What a hosted MongoDB says of a quota has a code of its own for everything, so its words count."""
    said = str(failure).lower()
    return failure.code == OUT_OF_DISK_SPACE or "no space left on device" in said or "space quota" in said


def is_duplicate(failure: PyMongoError) -> bool:
    """Did a unique index refuse it?"""
    if not isinstance(failure, OperationFailure):
        return False
    if failure.code == DUPLICATE:
        return True
    errors = (failure.details or {}).get("writeErrors", ())
    return any(error.get("code") == DUPLICATE for error in errors)
