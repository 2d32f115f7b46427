"""One node alone: without a bus that reaches beyond its process, nobody there hears what another one says.

A document says which node it is and until when; the node that is in it says so again every second. The times are the
server's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import structlog

from hubbub.core.errors import Problem, Unavailable
from hubbub.core.nouns import new_id
from hubbub.stores.mongo_server import Queue, Server

log = structlog.get_logger("hubbub.stores.mongo")

RENEW_EVERY_S = 1.0
TERM_S = 4.0
AGAIN_S = 0.2
NOBODY = {"node": "", "until": datetime.fromtimestamp(0, UTC)}


class Alone:
    """One owner, one event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._node = new_id()[:12]
        self._renewing: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Raises Unavailable: another node has it, and has said so while this one waited for its term to run out."""
        late = time.monotonic() + TERM_S + 2 * AGAIN_S
        async with self._server.call(Queue.WRITING):
            await self._server["meta"].update_one({"_id": "alone"}, {"$setOnInsert": NOBODY}, upsert=True)
        while not await self._renew():
            if time.monotonic() > late:
                raise Unavailable(
                    f"Another Hubbub runs on the MongoDB database '{self._server.db.name}'. Several on one database "
                    "take REDIS_URL, the same for all of them."
                )
            await asyncio.sleep(AGAIN_S)
        self._renewing = asyncio.create_task(self._keep())

    async def let_go(self) -> None:
        """Never fails; the term then runs out by itself."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        with contextlib.suppress(Problem):
            async with self._server.call(Queue.WRITING):
                await self._server["meta"].update_one({"_id": "alone", "node": self._node}, {"$set": NOBODY})

    async def _renew(self) -> bool:
        free = {"$or": [{"node": self._node}, {"$expr": {"$lte": ["$until", "$$NOW"]}}]}
        term = {"node": self._node, "until": {"$add": ["$$NOW", int(TERM_S * 1000)]}}
        async with self._server.call(Queue.WRITING):
            taken = await self._server["meta"].update_one({"_id": "alone", **free}, [{"$set": term}])
        return bool(taken.matched_count)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                if not await self._renew():
                    log.error("not_alone", hint="another Hubbub came while this one stood still; stop one of them")
            except Problem as failure:
                log.debug("term_not_renewed", code=failure.code)
