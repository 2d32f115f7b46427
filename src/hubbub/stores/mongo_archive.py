"""A MongoDB database as an archive. See `stores.archive.Archive` for what each method promises.

Each batch is a transaction that writes the note of the move, too: whoever begins takes that note over, and a batch that
a killed one left under way can be committed no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from hubbub.core.errors import BadRequest, KeyConflict, Unavailable
from hubbub.core.nouns import RunState
from hubbub.stores import mongo_schema
from hubbub.stores.archive import BATCH_ROWS, About, Kind, Move, Row, Value, require_done
from hubbub.stores.mongo_log import Log
from hubbub.stores.mongo_rows import NEXT, Doc
from hubbub.stores.mongo_server import Server, is_duplicate, opening, outcomes
from hubbub.stores.mongo_threads import MongoThreads

APP = "hubbub migrate"

PATIENCE_S = 120.0
"""How long one call may take. Nobody waits for a single one here, and what has an order but no index of it is sorted
before the first row comes."""

STRETCH = 100_000
"""Rows that are read with one cursor: the server counts all its batches as one call."""

GONE_S = 1.0
"""How long connections of whoever has just stopped may be seen."""

MORE: dict[str, Doc] = {"threads": {"version": 0, "touched": 0, "deleting": False}}
"""What a document has beside its row."""


class MongoArchive:
    """One event loop makes it and uses it. `uri` and `name` are as for `MongoStore`."""

    def __init__(self, uri: str, name: str) -> None:
        self._server = Server(uri, name, APP, PATIENCE_S)
        self.name = f"the MongoDB database '{name}'"
        self._holder = 0

    async def open(self, *, fill: bool) -> None:
        server = self._server
        await server.connect()
        try:
            if not fill and await server["meta"].find_one({"_id": "hubbub"}) is None:
                raise BadRequest(f"There are no data in {self.name}.")
            await self.require_alone()
            await mongo_schema.migrate(server.db)
            if not fill:
                require_done(await mongo_schema.move(server.db), self.name)
                await MongoThreads(Log(server)).sweep_all()
        except PyMongoError as failure:
            raise opening(failure, server.client.topology_description) from None

    async def close(self) -> None:
        await self._server.close()

    async def require_alone(self) -> None:
        """As far as the user in the URI may see, and of one server."""
        until = time.monotonic() + GONE_S
        with outcomes():
            while await self._server.others():
                if time.monotonic() > until:
                    raise Unavailable(
                        f"A Hubbub is running on {self.name}. Stop every server and command that uses it, then try "
                        "again."
                    )
                await asyncio.sleep(0.1)

    async def about(self) -> About:
        with outcomes():
            meta = {doc["_id"]: doc async for doc in self._server["meta"].find({"_id": {"$in": ["hubbub", "rights"]}})}
            move = await mongo_schema.move(self._server.db)
        return About(epoch=meta["hubbub"]["epoch"], rights=meta["rights"]["value"], move=move)

    async def count(self, kind: Kind) -> int:
        with outcomes():
            return await self._server[kind.name].estimated_document_count()

    async def rows(self, kind: Kind, after: Row | None = None) -> AsyncGenerator[Row, None]:
        count = STRETCH
        while count == STRETCH:
            count = 0
            behind = {} if after is None else await self._behind(kind, after)
            found = self._server[kind.name].find(behind, sort=_order(kind, ASCENDING), allow_disk_use=True)
            with outcomes():
                async with found.limit(STRETCH).batch_size(BATCH_ROWS) as docs:
                    async for doc in docs:
                        count += 1
                        after = _row(kind, doc)
                        yield after

    async def _behind(self, kind: Kind, after: Row) -> Doc:
        fields = [_field(kind, field) for field in kind.key]
        values = list(kind.identity(after))
        if kind.in_order:
            with outcomes():
                doc = await self._server[kind.name].find_one(dict(zip(fields, values, strict=True)))
            if doc is None:
                raise Unavailable(f"{kind.name} are missing in {self.name}: somebody else is using it.")
            fields, values = ["n", "_id"], [doc["n"], doc["_id"]]
        same = [dict(zip(fields[:at], values[:at], strict=True)) for at in range(len(fields))]
        return {"$or": [{**same[at], field: {"$gt": values[at]}} for at, field in enumerate(fields)]}

    async def last(self, kind: Kind) -> Row | None:
        with outcomes():
            doc = await self._server[kind.name].find_one({}, sort=_order(kind, DESCENDING), allow_disk_use=True)
        return _row(kind, doc) if doc else None

    async def begin(self, move: Move, rights: int) -> None:
        async def work(session: AsyncClientSession) -> int:
            meta = self._server["meta"]
            await meta.update_one({"_id": "hubbub"}, {"$set": {"epoch": move.epoch}}, session=session)
            await meta.update_one({"_id": "rights"}, {"$set": {"value": rights}}, session=session)
            note = {"$set": {"move": msgspec.json.encode(move).decode()}, "$inc": {"value": 1, "writes": 1}}
            held = await meta.find_one_and_update(
                {"_id": "move"}, note, upsert=True, return_document=ReturnDocument.AFTER, session=session
            )
            assert held is not None
            return int(held["value"])

        with outcomes():
            self._holder = await self._server.transaction(work)

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        docs = [_doc(kind, row) for row in rows]

        async def work(session: AsyncClientSession) -> None:
            await self._hold(session)
            await self._server[kind.name].insert_many(docs, session=session)

        with outcomes():
            try:
                await self._server.transaction(work)
            except PyMongoError as failure:
                if is_duplicate(failure):
                    raise KeyConflict("Two rows have what one of them alone may have.") from None
                raise

    async def finish(self, move: Move) -> None:
        done = msgspec.json.encode(msgspec.structs.replace(move, done=True)).decode()

        async def work(session: AsyncClientSession) -> None:
            await self._hold(session)
            await self._server["meta"].update_one({"_id": "move"}, {"$set": {"move": done}}, session=session)

        with outcomes():
            await self._server.transaction(work)

    async def _hold(self, session: AsyncClientSession) -> None:
        ours = {"_id": "move", "value": self._holder}
        held = await self._server["meta"].update_one(ours, {"$inc": {"writes": 1}}, session=session)
        if not held.matched_count:
            raise Unavailable(f"Another 'hubbub migrate' has begun to move data into {self.name}.")

    async def leave(self, move: Move) -> None:
        still_here = {"_id": "hubbub", "epoch": {"$in": [move.epoch, move.left]}}
        with outcomes():
            left = await self._server["meta"].update_one(still_here, {"$set": {"epoch": move.left}})
        if not left.matched_count:
            raise Unavailable(f"What is in {self.name} was moved to another place meanwhile.")


def _order(kind: Kind, direction: int) -> list[tuple[str, int]]:
    fields = ["n", "_id"] if kind.in_order else [_field(kind, field) for field in kind.key]
    return [(field, direction) for field in fields]


def _field(kind: Kind, field: str) -> str:
    """What it is called in the documents."""
    return "_id" if (field,) == kind.key or (kind.name, field) == ("messages", "id") else field


def _row(kind: Kind, doc: Doc) -> Row:
    values: list[Value] = []
    for field, type in kind.fields.items():
        value: Any = doc.get(_field(kind, field))
        if field == "scopes":
            value = " ".join(value)
        values.append(None if value is None else type(value))
    return tuple(values)


def _doc(kind: Kind, row: Row) -> Doc:
    required = mongo_schema.COLLECTIONS[kind.name]["$jsonSchema"]["required"]
    doc: Doc = dict(MORE.get(kind.name, {}))
    for field, value in zip(kind.fields, row, strict=True):
        name = _field(kind, field)
        if value is not None or name in required:
            doc[name] = str(value).split() if field == "scopes" else value
    if kind.in_order:
        doc["n"] = NEXT
    if kind.name == "runs":
        doc["open"] = not RunState(doc["state"]).ended
    return doc
