"""Answers being written. See `core.ports.Store` for what each method promises."""

from __future__ import annotations

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from hubbub.core.nouns import Draft, Message, Run, RunState
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo_log import Log


class MongoRuns:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._runs = log.server["runs"]
        self._memberships = log.server["memberships"]

    async def begin(self, run: Run) -> Run | None:
        async def make(session: AsyncClientSession) -> Run:
            await self._log.hold(session, run.thread)
            await self._runs.insert_one(rows.of_run(run), session=session)
            if run.trigger:
                heard = {"thread": run.thread, "member": run.assistant}
                await self._memberships.update_one(heard, {"$max": {"seen": run.trigger}}, session=session)
            return run

        async def work() -> Run | None:
            try:
                return await self._log.transaction(make)
            except DuplicateKeyError:
                return None

        return await self._log.alone([run.thread], work)

    async def last_asked(self, thread: str, assistant: str) -> int:
        asked = {"thread": thread, "assistant": assistant, "trigger": {"$gt": 0}}
        async with self._log.server.call():
            found = await self._runs.find_one(asked, {"trigger": 1}, sort=[("trigger", DESCENDING)])
        return int(found["trigger"]) if found else 0

    async def one(self, id: str) -> Run | None:
        async with self._log.server.call():
            doc = await self._runs.find_one({"_id": id})
        return rows.run(doc) if doc else None

    async def open(self) -> list[Run]:
        async with self._log.server.call():
            return [rows.run(doc) async for doc in self._runs.find({"open": True}).sort("n", ASCENDING)]

    async def move(self, id: str, state: RunState, attempt: int) -> Run | None:
        async with self._log.server.call():
            doc = await self._runs.find_one_and_update(
                {"_id": id, "open": True, "attempt": {"$lte": attempt}},
                {"$set": {"state": state.value, "open": not state.ended, "attempt": attempt}},
                return_document=ReturnDocument.AFTER,
            )
        return rows.run(doc) if doc else None

    async def end(
        self, id: str, attempt: int, state: RunState, error: str | None, draft: Draft, personality: str | None
    ) -> Message | None:
        async def work(session: AsyncClientSession) -> Message | None:
            open_yet = {"_id": id, "open": True, "attempt": attempt}
            run = await self._runs.find_one(open_yet, {"assistant": 1}, session=session)
            if run is None:
                return None
            held = await self._log.hold(session, draft.thread)
            message = await self._log.post(session, held, draft)
            assert message is not None
            ended = {
                "state": state.value,
                "open": False,
                "error": error,
                "message": message.id,
                "seq": message.seq,
            }
            await self._runs.update_one({"_id": id}, {"$set": ended}, session=session)
            if personality is not None:
                its = {"thread": draft.thread, "member": run["assistant"]}
                await self._memberships.update_one(its, {"$set": {"personality": personality}}, session=session)
            return message

        return await self._log.write([draft.thread], work)
