"""Making, changing and deleting threads. See `core.ports.Store` for what each method promises.

A thread may have more messages than a transaction should delete. So it is first marked, which hides it from everybody,
and then swept; its id is free once that is done. A node that dies between leaves the rest to the next one that starts,
or wants the id.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from hubbub.core.errors import KeyConflict, NotFound
from hubbub.core.nouns import Membership, Thread
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_appends import NO_THREAD
from hubbub.stores.mongo_log import Log
from hubbub.stores.mongo_server import Queue

BROOM = 1000
"""Messages that are swept in one transaction."""


class MongoThreads:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._threads = log.server["threads"]
        self._messages = log.server["messages"]

    async def create(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        pair = rows.pair(members[0].member, members[1].member) if thread.private else None

        async def make(session: AsyncClientSession) -> Thread:
            await self._threads.insert_one(rows.of_thread(thread, pair, len(members)), session=session)
            docs = [rows.of_membership(thread.id, one.member, one.seen, one.role) for one in members]
            if docs:
                await self._log.server["memberships"].insert_many(docs, session=session)
            return replace(thread, head=0, member_count=len(members))

        async def work() -> Thread:
            if pair and (known := await self.of_pair(pair, Queue.WRITING)):
                return known
            try:
                return await self._log.transaction(make)
            except DuplicateKeyError:
                if pair and (known := await self.of_pair(pair, Queue.WRITING)):  # another node was first
                    return known
            async with self._log.server.place(Queue.WRITING):
                old = await self._threads.find_one({"_id": thread.id, "deleting": True}, {"_id": 1})
            if old:
                await self.sweep(thread.id)
                return await self._log.transaction(make)
            raise KeyConflict(f"There is a thread {thread.id!r} already.")

        return await self._log.alone([thread.id, f"pair {pair}"] if pair else [thread.id], work)

    async def of_pair(self, pair: str, queue: Queue = Queue.READING) -> Thread | None:
        async with self._log.server.call(queue):
            doc = await self._threads.find_one({"pair": pair})
        return rows.thread(doc) if doc else None

    async def update(self, id: str, *, title: str | None, public: bool | None) -> Thread:
        given = {"title": title, "public": public}
        changes = {field: value for field, value in given.items() if value is not None}

        async def work() -> Thread:
            live = {"_id": id, "deleting": False}
            async with self._log.server.place(Queue.WRITING):
                doc = await self._threads.find_one_and_update(
                    live, {"$set": changes, "$inc": {"touched": 1}}, return_document=ReturnDocument.AFTER
                )
            if doc is None:
                raise NotFound(NO_THREAD)
            return rows.thread(doc)

        return await self._log.alone([id], work)

    async def delete(self, id: str) -> None:
        async def hide(session: AsyncClientSession) -> bool:
            mark = {"$set": {"deleting": True}, "$unset": {"pair": ""}, "$inc": {"version": 1}}
            if not (await self._threads.update_one({"_id": id}, mark, session=session)).matched_count:
                return False
            for collection in ("memberships", "readers", "runs"):
                await self._log.server[collection].delete_many({"thread": id}, session=session)
            return True

        async def work() -> None:
            if await self._log.transaction(hide):
                await self.sweep(id)

        await self._log.alone([id], work)

    async def sweep(self, id: str) -> None:
        """Finish a deletion. Several may be at it; each holds the thread while it sweeps, so that nobody sweeps a new
        one of the same id."""

        async def some(session: AsyncClientSession) -> bool:
            doomed = {"_id": id, "deleting": True}
            held = await self._threads.update_one(doomed, {"$inc": {"touched": 1}}, session=session)
            if not held.matched_count:
                return False
            found = self._messages.find({"thread": id}, {"_id": 1}, session=session).limit(BROOM)
            messages = [doc["_id"] async for doc in found]
            await self._messages.delete_many({"_id": {"$in": messages}}, session=session)
            if len(messages) < BROOM:
                await self._threads.delete_one(doomed, session=session)
            return len(messages) == BROOM

        while await self._log.transaction(some):
            pass

    async def sweep_all(self) -> None:
        """Finish what others have begun."""
        doomed = [doc["_id"] async for doc in self._threads.find({"deleting": True}, {"_id": 1})]
        for id in doomed:
            await self.sweep(id)
