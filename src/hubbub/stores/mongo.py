"""The store for several nodes: a MongoDB replica set, on which any number of them work at once.

Whatever two nodes could do to each other's threads is decided by transactions that write the thread's document
(mongo_appends.py, mongo_members.py); nodes need not know of each other. Names, texts and metadata of users are only
ever values.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import PyMongoError

from hubbub.core.errors import NotFound
from hubbub.core.nouns import Draft, Member, Membership, Message, Role, Run, RunState, Thread
from hubbub.core.ports import Asker, Page
from hubbub.stores import mongo_rows as rows
from hubbub.stores import mongo_schema
from hubbub.stores.archive import require_done
from hubbub.stores.mongo_accounts import MongoAccounts
from hubbub.stores.mongo_alone import Alone
from hubbub.stores.mongo_appends import NO_THREAD
from hubbub.stores.mongo_assistants import MongoAssistants
from hubbub.stores.mongo_lanes import Committed
from hubbub.stores.mongo_log import Log
from hubbub.stores.mongo_members import MongoMembers
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_runs import MongoRuns
from hubbub.stores.mongo_server import Server, opening
from hubbub.stores.mongo_threads import MongoThreads


class MongoStore:
    """See `core.ports.Store` for what each method promises. One event loop makes it and uses it.

    Args:
        uri: of a replica set, of one server at least.
        name: of the database, which is made when there is none.
        committed: see `Lanes`.
        alone: is no other node to use it? `open` then waits some seconds for one that was killed.
    """

    def __init__(self, uri: str, name: str, *, committed: Committed | None = None, alone: bool = False) -> None:
        self._uri = uri
        self._name = name
        self._committed = committed
        self._alone = alone
        self._opened = False
        self.epoch = ""

    async def open(self) -> None:
        server = Server(self._uri, self._name)
        try:
            await server.connect()
            self.epoch = await mongo_schema.migrate(server.db)
            require_done(await mongo_schema.move(server.db), f"the MongoDB database '{self._name}'")
            self._term = Alone(server)
            self._log = Log(server, self._committed)
            self._threads = MongoThreads(self._log)
            await self._threads.sweep_all()
            if self._alone:
                await self._term.take()
        except PyMongoError as failure:
            await server.close()
            raise opening(failure, server.client.topology_description) from None
        except BaseException:
            await server.close()
            raise
        self._server = server
        self._crowd = MongoMembers(self._log)
        self._runs = MongoRuns(self._log)
        self.accounts = MongoAccounts(self._log)
        self.assistants = MongoAssistants(server)
        self._opened = True

    async def close(self) -> None:
        if self._opened:
            self._opened = False
            await self._log.close()
            await self._term.let_go()
            await self._server.close()

    # Messages

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Future[Message]:
        return self._log.append(draft, roles)

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        return await self._page(thread, {"$gt": after}, ASCENDING, limit, max_bytes, max(0, after))

    async def read_before(self, thread: str, before: int | None, limit: int, max_bytes: int) -> Page:
        below = {"$gt": 0} if before is None else {"$lt": before}
        page = await self._page(thread, below, DESCENDING, limit, max_bytes, None)
        if page.messages and not page.more and page.messages[-1].seq > 1:
            raise NotFound(NO_THREAD)
        return Page(page.messages[::-1], page.more)

    async def _page(self, thread: str, seq: Doc, direction: int, limit: int, max_bytes: int, last: int | None) -> Page:
        """`last`: the number that those in the page follow, where it is known."""
        taken: list[Message] = []
        async with self._server.call():
            found = self._server["messages"].find({"thread": thread, "seq": seq}).sort("seq", direction)
            async with found.limit(limit + 1) as docs:
                async for doc in docs:
                    if last is not None and doc["seq"] != last + direction:
                        raise NotFound(NO_THREAD)  # it is just being swept away
                    message = rows.message(doc)
                    last = message.seq
                    max_bytes -= len(message.text.encode())
                    if len(taken) == limit or (taken and max_bytes < 0):
                        return Page(taken, True)
                    taken.append(message)
        if not taken and await self.thread(thread) is None:
            raise NotFound(NO_THREAD)
        return Page(taken, False)

    async def message(self, thread: str, seq: int) -> Message | None:
        async with self._server.call():
            doc = await self._server["messages"].find_one({"thread": thread, "seq": seq})
        return rows.message(doc) if doc else None

    # Members and threads

    async def members(self) -> list[Member]:
        async with self._server.call():
            return [rows.member(doc) async for doc in self._server["members"].find().sort("n", ASCENDING)]

    async def add_member(self, member: Member, joins: Sequence[tuple[str, int | None]] = ()) -> Member:
        return await self._crowd.add(member, joins)

    async def create_thread(self, thread: Thread, members: Sequence[Membership]) -> Thread:
        return await self._threads.create(thread, members)

    async def thread(self, id: str) -> Thread | None:
        async with self._server.call():
            doc = await self._server["threads"].find_one({"_id": id, "deleting": False})
        return rows.thread(doc) if doc else None

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        live = {"_id": {"$in": list(threads)}, "deleting": False}
        async with self._server.call():
            return {doc["_id"]: doc["head"] async for doc in self._server["threads"].find(live, {"head": 1})}

    async def update_thread(self, id: str, *, title: str | None = None, public: bool | None = None) -> Thread:
        return await self._threads.update(id, title=title, public=public)

    async def delete_thread(self, id: str) -> None:
        await self._threads.delete(id)

    async def private_thread(self, one: str, other: str) -> Thread | None:
        return await self._threads.of_pair(rows.pair(one, other))

    async def threads_of(self, member: str) -> list[tuple[Thread, int]]:
        async with self._server.call():
            places = self._server["memberships"].find({"member": member}).sort("n", ASCENDING)
            seen = {doc["thread"]: doc["seen"] async for doc in places}
            live = {"_id": {"$in": list(seen)}, "deleting": False}
            found = {doc["_id"]: rows.thread(doc) async for doc in self._server["threads"].find(live)}
        return [(found[id], mark) for id, mark in seen.items() if id in found]

    async def public_threads(self) -> list[Thread]:
        public = {"public": True, "deleting": False}
        async with self._server.call():
            return [rows.thread(doc) async for doc in self._server["threads"].find(public).sort("n", ASCENDING)]

    async def memberships(self, thread: str) -> list[Membership]:
        async with self._server.call():
            found = self._server["memberships"].find({"thread": thread}).sort("n", ASCENDING)
            return [rows.membership(doc) async for doc in found]

    async def role(self, thread: str, member: str) -> Role | None:
        one = {"thread": thread, "member": member}
        async with self._server.call():
            doc = await self._server["memberships"].find_one(one, {"role": 1})
        return Role(doc["role"]) if doc else None

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None = None) -> Message | None:
        return await self._crowd.join(membership, notice, by)

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None = None) -> Message | None:
        return await self._crowd.leave(thread, member, notice, by)

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None = None
    ) -> Message | None:
        return await self._crowd.set_role(thread, member, role, notice, by)

    async def see(self, thread: str, member: str, seq: int) -> int:
        return await self._crowd.see(thread, member, seq)

    # Runs

    async def begin_run(self, run: Run) -> Run | None:
        return await self._runs.begin(run)

    async def last_asked(self, thread: str, assistant: str) -> int:
        return await self._runs.last_asked(thread, assistant)

    async def run(self, id: str) -> Run | None:
        return await self._runs.one(id)

    async def open_runs(self) -> list[Run]:
        return await self._runs.open()

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        return await self._runs.move(id, state, attempt)

    async def end_run(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None = None
    ) -> Message | None:
        return await self._runs.end(id, attempt, state, error, draft, personality)
