"""What all that writes to a thread shares: its turn, a transaction that holds the thread, a message in its log."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from hubbub.core.errors import KeyConflict, NotFound
from hubbub.core.nouns import Draft, Message, Role
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_appends import NO_THREAD, Appends, again, own_mark
from hubbub.stores.mongo_lanes import Committed, Lanes
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_server import Server, outcomes

T = TypeVar("T")


class Log:
    """The writing side of a store, on one event loop."""

    def __init__(self, server: Server, committed: Committed | None = None) -> None:
        self.server = server
        self._appends = Appends(server)
        self._lanes = Lanes(self._appends.fly, committed)

    def append(self, draft: Draft, roles: frozenset[Role] | None) -> Future[Message]:
        return self._lanes.append(draft, roles)

    async def alone(self, lanes: Sequence[str], work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` in its turn; `lanes` are the threads it changes, and what else is to be made once."""

        async def turn() -> T:
            try:
                with outcomes():
                    return await work()
            finally:
                for lane in lanes:
                    self._appends.forget(lane)

        return await self._lanes.alone(lanes, turn)

    async def write(self, lanes: Sequence[str], work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """`alone`, in one transaction."""
        return await self.alone(lanes, lambda: self.server.transaction(work))

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
        message = rows.numbered(draft, held["head"] + 1)
        await self.server["memberships"].bulk_write(
            [own_mark(message.thread, message.sender, held["head"], message.seq)], session=session
        )
        await self.server["messages"].insert_one(rows.of_message(message, draft.key), session=session)
        return message
