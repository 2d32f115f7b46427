"""Who is in which thread, and as what. See `core.ports.Store` for what each method promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace
from pymongo import ASCENDING, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from hubbub.core import names
from hubbub.core.errors import LAST_OWNER, NOT_HERE, BadRequest, NotFound
from hubbub.core.nouns import Draft, Kind, Member, Membership, Message, Role
from hubbub.core.ports import Asker
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_appends import NO_THREAD
from hubbub.stores.mongo_log import Log, Together
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_server import Queue

ARRIVALS = "arrivals"
"""The lane of whoever comes for the first time."""


class MongoMembers:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._memberships = log.server["memberships"]
        self._members = log.server["members"]
        self._readers = log.server["readers"]
        self._threads = log.server["threads"]
        self._let_in = Together(log, self._arrive)
        self._move = Together(log, self._mark, marks=True)

    async def add(self, member: Member, joins: Sequence[tuple[str, int | None]]) -> Member:
        return await self._let_in((ARRIVALS, *(thread for thread, _ in joins)), (member, joins))

    async def _arrive(self, arriving: Sequence[tuple[Member, Sequence[tuple[str, int | None]]]]) -> list[Member]:
        """All of them name the same threads."""
        keys = list({names.key(member.name) for member, _ in arriving})

        async def work(session: AsyncClientSession) -> list[Member]:
            found = self._members.find({"_id": {"$in": keys}}, session=session)
            before = {doc["_id"]: rows.member(doc) async for doc in found}
            now = dict(before)
            marks: dict[str, dict[str, int | None]] = {thread: {} for thread, _ in arriving[0][1]}
            for member, joins in arriving:
                key = names.key(member.name)
                known = now.get(key)
                if known is None or (member.arrived and not known.arrived):
                    now[key] = replace(known, arrived=True) if known else member
                    for thread, seen in joins:
                        marks[thread][now[key].name] = seen
            for thread, seen_by in marks.items():
                if seen_by:
                    await self._enter_all(session, thread, seen_by)
            made = [rows.of_member(member) for key, member in now.items() if key not in before]
            arrived = [key for key, member in before.items() if now[key] != member]
            if made:
                await self._members.insert_many(made, session=session)
            if arrived:
                await self._members.update_many({"_id": {"$in": arrived}}, {"$set": {"arrived": True}}, session=session)
            return [now[names.key(member.name)] for member, _ in arriving]

        return await self._log.transaction(work)

    async def _enter_all(self, session: AsyncClientSession, thread: str, marks: Mapping[str, int | None]) -> None:
        held = await self._log.hold(session, thread)
        inside = {"thread": thread, "member": {"$in": list(marks)}}
        there = {doc["member"] async for doc in self._memberships.find(inside, {"member": 1}, session=session)}
        docs = [
            rows.of_membership(thread, name, held["head"] if seen is None else seen, Role.MEMBER)
            for name, seen in marks.items()
            if name not in there
        ]
        if docs:
            await self._memberships.insert_many(docs, session=session)
            await self._log.post(session, held, None, version=1, member_count=len(docs))

    async def join(self, membership: Membership, notice: Draft | None, by: Asker | None) -> Message | None:
        thread, member = membership.thread, membership.member

        async def work(session: AsyncClientSession, held: Doc) -> Message | None:
            if await self._one(session, thread, member) is not None:
                return None
            demoted = await self._readers.find_one({"thread": thread, "member": member}, session=session)
            role = Role.READER if demoted else membership.role
            seen = membership.seen if membership.seen >= 0 else held["head"]
            await self._enter(session, thread, member, seen, role)
            return await self._log.post(session, held, notice, version=1, member_count=1)

        return await self._change(thread, by, work)

    async def leave(self, thread: str, member: str, notice: Draft | None, by: Asker | None) -> Message | None:
        async def work(session: AsyncClientSession, held: Doc) -> Message | None:
            gone = await self._memberships.find_one_and_delete({"thread": thread, "member": member}, session=session)
            if gone is None:
                return None
            if gone["role"] == Role.OWNER and not await self._owners(session, thread):
                await self._crown(session, thread)
            return await self._log.post(session, held, notice, version=1, member_count=-1)

        return await self._change(thread, by, work)

    async def set_role(
        self, thread: str, member: str, role: Role, notice: Draft | None, by: Asker | None
    ) -> Message | None:
        async def work(session: AsyncClientSession, held: Doc) -> Message | None:
            now = await self._one(session, thread, member)
            if now is None or now["role"] == role:
                return None
            if await self._owners(session, thread) == [member]:
                raise BadRequest(LAST_OWNER)
            await self._set_role(session, thread, member, role)
            return await self._log.post(session, held, notice, version=1)

        return await self._change(thread, by, work)

    async def see(self, thread: str, member: str, seq: int) -> int:
        return await self._move((thread,), (thread, member, seq))

    async def _mark(self, seen: Sequence[tuple[str, str, int]]) -> list[int | Exception]:
        """In one thread."""
        thread = seen[0][0]
        async with self._log.server.place(Queue.WRITING):
            found = await self._threads.find_one({"_id": thread, "deleting": False}, {"head": 1})
            if found is None:
                raise NotFound(NO_THREAD)
            forward = [
                UpdateOne({"thread": thread, "member": member}, {"$max": {"seen": max(0, min(seq, found["head"]))}})
                for _, member, seq in seen
            ]
            await self._memberships.bulk_write(forward, ordered=False)
            theirs = {"thread": thread, "member": {"$in": [member for _, member, _ in seen]}}
            marks = {doc["member"]: doc["seen"] async for doc in self._memberships.find(theirs)}
        not_in = NotFound("You are not in this thread.")
        return [marks.get(member, not_in) for _, member, _ in seen]

    async def _change(
        self,
        thread: str,
        by: Asker | None,
        work: Callable[[AsyncClientSession, Doc], Awaitable[Message | None]],
    ) -> Message | None:
        async def judged(session: AsyncClientSession) -> Message | None:
            held = await self._log.hold(session, thread)
            if by is not None:
                asker = await self._one(session, thread, by.name)
                if asker is None or asker["role"] not in by.roles:
                    raise NotFound(NOT_HERE)
            return await work(session, held)

        return await self._log.write([thread], judged)

    # Within a transaction that holds the thread

    async def _one(self, session: AsyncClientSession, thread: str, member: str) -> Doc | None:
        return await self._memberships.find_one({"thread": thread, "member": member}, {"role": 1}, session=session)

    async def _enter(self, session: AsyncClientSession, thread: str, member: str, seen: int, role: Role) -> None:
        await self._memberships.insert_one(rows.of_membership(thread, member, seen, role), session=session)

    async def _owners(self, session: AsyncClientSession, thread: str) -> list[str]:
        """At most two of them."""
        owners = {"thread": thread, "role": Role.OWNER.value}
        return [doc["member"] async for doc in self._memberships.find(owners, {"member": 1}, session=session).limit(2)]

    async def _crown(self, session: AsyncClientSession, thread: str) -> None:
        """Whoever may write and has been in longest owns it from now on, or else whoever may read."""
        assistants = self._members.find({"kind": Kind.ASSISTANT.value}, {"name": 1}, session=session)
        no_heirs = [doc["name"] async for doc in assistants]
        for role in (Role.MEMBER, Role.READER):
            heirs = {"thread": thread, "role": role.value, "member": {"$nin": no_heirs}}
            heir = await self._memberships.find_one(heirs, {"member": 1}, sort=[("n", ASCENDING)], session=session)
            if heir is not None:
                await self._set_role(session, thread, heir["member"], Role.OWNER)
                return

    async def _set_role(self, session: AsyncClientSession, thread: str, member: str, role: Role) -> None:
        one = {"thread": thread, "member": member}
        await self._memberships.update_one(one, {"$set": {"role": role.value}}, session=session)
        if role is Role.READER:  # and stays one after leaving and coming back
            await self._readers.update_one(one, {"$setOnInsert": one}, upsert=True, session=session)
        else:
            await self._readers.delete_one(one, session=session)
