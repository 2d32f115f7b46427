"""What all that writes to a thread shares: its turn, a transaction that holds the thread, a message in its log."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from hubbub.core.errors import KeyConflict, NotFound
from hubbub.core.nouns import Draft, Message, Role
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_appends import NO_THREAD, Appends, again, own_mark
from hubbub.stores.mongo_lanes import Committed, Lanes
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_server import Queue, Server, outcomes, outside

T = TypeVar("T")
A = TypeVar("A")

MAX_TOGETHER = 256


class Log:
    """The writing side of a store, on one event loop."""

    def __init__(self, server: Server, committed: Committed | None = None) -> None:
        self.server = server
        self._appends = Appends(server)
        self._lanes = Lanes(self._appends.fly, committed)

    def append(self, draft: Draft, roles: frozenset[Role] | None) -> Future[Message]:
        return self._lanes.append(draft, roles)

    async def alone(
        self, lanes: Sequence[str], work: Callable[[], Awaitable[T]], *, group: object = None, marks: bool = False
    ) -> T:
        """Do `work` in its turn; `lanes` are the threads it changes, and what else is to be made once.

        Args:
            group: see `ends_with`.
            marks: only marks are moved.
        """

        async def turn() -> T:
            try:
                with outcomes():
                    return await work()
            finally:
                for lane in () if marks else lanes:
                    self._appends.forget(lane)

        return await self._lanes.alone(lanes, turn, group)

    def ends_with(self, group: object, lanes: Sequence[str]) -> bool:
        """See `Lanes.ends_with`."""
        return self._lanes.ends_with(group, lanes)

    async def write(self, lanes: Sequence[str], work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """`alone`, in one transaction."""
        return await self.alone(lanes, lambda: self.transaction(work))

    async def transaction(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """See `Server.transaction`."""
        async with self.server.place(Queue.WRITING):
            return await self.server.transaction(work)

    async def close(self) -> None:
        await self._lanes.close()

    # Within a transaction

    async def hold(self, session: AsyncClientSession, thread: str) -> Doc:
        """The thread, which nobody else changes until this transaction is over; what is read after this is true until
        then. Raises NotFound."""
        live = {"_id": thread, "deleting": False}
        found = await self.server["threads"].find_one_and_update(
            live, {"$inc": {"touched": 1}}, session=session, return_document=ReturnDocument.AFTER
        )
        if found is None:
            raise NotFound(NO_THREAD)
        return found

    async def post(self, session: AsyncClientSession, held: Doc, draft: Draft | None, **changes: int) -> Message | None:
        """Write a message into a held thread, and add `changes` to the numbers in its document. Raises KeyConflict."""
        first = None
        if draft is not None and draft.key is not None:
            used = {"sender": draft.sender, "key": draft.key}
            first = await self.server["messages"].find_one(used, session=session)
        if draft is not None and first is None:
            changes["head"] = 1
        if changes:
            await self.server["threads"].update_one({"_id": held["_id"]}, {"$inc": changes}, session=session)
        if draft is None:
            return None
        if first is not None:
            outcome = again(draft, rows.message(first))
            if isinstance(outcome, KeyConflict):
                raise outcome
            return outcome
        message = draft.numbered(held["head"] + 1)
        await self.server["memberships"].bulk_write(
            [own_mark(message.thread, message.sender, held["head"], message.seq)], session=session
        )
        await self.server["messages"].insert_one(rows.of_message(message, draft.key), session=session)
        return message


class _Waiting(Generic[A, T]):
    __slots__ = ("call", "outcome")

    def __init__(self, call: A) -> None:
        self.call = call
        self.outcome: T | Exception | None = None


class Together(Generic[A, T]):
    """Calls of one kind that follow each other in the same lanes: whoever's turn comes first does them all.

    Args:
        work: what each of these calls, up to `MAX_TOGETHER`, comes to: a result, or the problem to raise. Whoever
            does it may be cancelled meanwhile; then it is done again for the others.
        marks: see `Log.alone`.
    """

    def __init__(
        self, log: Log, work: Callable[[Sequence[A]], Awaitable[Sequence[T | Exception]]], *, marks: bool = False
    ) -> None:
        self._log = log
        self._work = work
        self._marks = marks
        self._newest: dict[tuple[str, ...], dict[_Waiting[A, T], None]] = {}

    async def __call__(self, lanes: tuple[str, ...], call: A) -> T:
        mine = _Waiting[A, T](call)
        group = self._newest.get(lanes)
        if group is None or not self._log.ends_with(group, lanes):
            group = self._newest[lanes] = {}
        group[mine] = None

        async def turn() -> None:
            if mine.outcome is not None:
                return
            some = list(group)[:MAX_TOGETHER]
            try:
                done: Sequence[T | Exception] = await self._work([one.call for one in some])
            except Exception as failure:
                done = [outside(failure)] * len(some)
            for one, outcome in zip(some, done, strict=True):
                one.outcome = outcome
                group.pop(one, None)

        try:
            await self._log.alone(lanes, turn, group=group, marks=self._marks)
        finally:
            group.pop(mine, None)
            if not group and self._newest.get(lanes) is group:
                del self._newest[lanes]
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        assert mine.outcome is not None
        return mine.outcome
