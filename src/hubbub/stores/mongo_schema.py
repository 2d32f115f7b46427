"""What a database of ours looks like: its collections, what a document in each must be, and the indexes.

The server checks every document it is given. Several nodes may begin on an empty database at once: a step says how
things are to be, so that taking it twice, even at the same time, comes to the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import Kind, Role, RunState, new_id
from hubbub.stores.archive import Move
from hubbub.stores.mongo_rows import Doc

EXISTS = 48
"""MongoDB's NamespaceExists."""

_TEXT = {"bsonType": "string"}
_MAYBE_TEXT = {"bsonType": ["string", "null"]}
_COUNT = {"bsonType": ["int", "long"], "minimum": 0}
_MAYBE_COUNT = {"bsonType": ["int", "long", "null"]}
_YES_NO = {"bsonType": "bool"}
_ORDER = {"bsonType": "timestamp"}
_TERM = {"node": _TEXT, "until": {"bsonType": "date"}}
_SECONDS = {"bsonType": ["double", "int", "long"]}


def _one_of(*words: str) -> Doc:
    return {"enum": [str(word) for word in words]}


def _documents(required: Doc, optional: Doc | None = None) -> Doc:
    required = {"_id": {}, **required}
    return {
        "$jsonSchema": {
            "bsonType": "object",
            "required": list(required),
            "properties": required | (optional or {}),
            "additionalProperties": False,
        }
    }


COLLECTIONS: dict[str, Doc] = {
    "messages": _documents(
        {
            "_id": _TEXT,
            "thread": _TEXT,
            "seq": {"bsonType": ["int", "long"], "minimum": 1},
            "sender": _TEXT,
            "type": _TEXT,
            "text": _TEXT,
            "timestamp": _TEXT,
        },
        {"destination": _TEXT, "metadata": _TEXT, "reply_to": _TEXT, "run": _TEXT, "key": _TEXT},
    ),
    "threads": _documents(
        {
            "_id": _TEXT,
            "n": _ORDER,
            "title": _TEXT,
            "public": _YES_NO,
            "head": _COUNT,
            "member_count": _COUNT,
            "version": _COUNT,
            "touched": _COUNT,
            "deleting": _YES_NO,
        },
        {"pair": _TEXT},
    ),
    "memberships": _documents(
        {
            "thread": _TEXT,
            "member": _TEXT,
            "n": _ORDER,
            "seen": _COUNT,
            "role": _one_of(*Role),
            "personality": _TEXT,
        }
    ),
    "readers": _documents({"thread": _TEXT, "member": _TEXT}),
    "members": _documents({"_id": _TEXT, "n": _ORDER, "name": _TEXT, "kind": _one_of(*Kind), "arrived": _YES_NO}),
    "runs": _documents(
        {
            "_id": _TEXT,
            "n": _ORDER,
            "thread": _TEXT,
            "assistant": _TEXT,
            "trigger": _COUNT,
            "depth": _COUNT,
            "state": _one_of(*RunState),
            "open": _YES_NO,
            "attempt": _COUNT,
            "error": _MAYBE_TEXT,
            "message": _MAYBE_TEXT,
            "seq": _MAYBE_COUNT,
            "asked_by": _TEXT,
        }
    ),
    "assistants": _documents({"_id": _TEXT, "n": _ORDER, "body": _TEXT}),
    "accounts": _documents(
        {
            "_id": _TEXT,
            "name": _TEXT,
            "password": _TEXT,
            "admin": _YES_NO,
            "disabled": _YES_NO,
            "generation": _COUNT,
            "version": _COUNT,
        }
    ),
    "tokens": _documents(
        {
            "_id": _TEXT,
            "member": _TEXT,
            "label": _TEXT,
            "digest": _TEXT,
            "scopes": {"bsonType": "array", "items": _TEXT},
            "created": _SECONDS,
            "expires": {"bsonType": ["double", "int", "long", "null"]},
            "revoked": _YES_NO,
            "version": _COUNT,
        }
    ),
    "signed_out": _documents({"_id": _TEXT, "expires": _SECONDS, "version": _COUNT}),
    "meta": _documents(
        {}, {"schema": _COUNT, "epoch": _TEXT, "value": _COUNT, "move": _TEXT, "writes": _COUNT, **_TERM}
    ),
}


def _index(*fields: str, unique: bool = False, where: Doc | None = None) -> IndexModel:
    more: Doc = {} if where is None else {"partialFilterExpression": where}
    return IndexModel([(field, ASCENDING) for field in fields], unique=unique, **more)


INDEXES: dict[str, list[IndexModel]] = {
    "messages": [
        _index("thread", "seq", unique=True),
        _index("sender", "key", unique=True, where={"key": {"$type": "string"}}),
    ],
    "threads": [
        _index("pair", unique=True, where={"pair": {"$type": "string"}}),
        _index("n", where={"public": True}),
        _index("deleting", where={"deleting": True}),
    ],
    "memberships": [
        _index("thread", "member", unique=True),
        _index("member", "n"),
        _index("thread", "role", "n"),
    ],
    "readers": [_index("thread", "member", unique=True)],
    "runs": [
        _index("thread", "assistant", "trigger", unique=True, where={"trigger": {"$gt": 0}}),
        _index("n", where={"open": True}),
    ],
    "accounts": [_index("version")],
    "tokens": [_index("version"), _index("digest", unique=True)],
    "signed_out": [_index("version")],
}


async def _house(db: AsyncDatabase[Doc]) -> None:
    for name, validator in COLLECTIONS.items():
        await _collection(db, name, validator)
    for name, indexes in INDEXES.items():
        await db[name].create_indexes(indexes)


async def _collection(db: AsyncDatabase[Doc], name: str, validator: Doc) -> None:
    rules: Doc = {"validator": validator, "validationLevel": "strict", "validationAction": "error"}
    try:
        await db.create_collection(name, check_exists=False, **rules)
    except CollectionInvalid:
        await db.command("collMod", name, **rules)
    except OperationFailure as refused:
        if refused.code != EXISTS:
            raise
        await db.command("collMod", name, **rules)


STEPS: tuple[Callable[[AsyncDatabase[Doc]], Awaitable[None]], ...] = (_house,)
"""The way from an empty database to ours. Step 1 leads to schema 1, and so on."""


async def migrate(db: AsyncDatabase[Doc]) -> str:
    """Bring the database up to date, and give it an epoch when it has none; the epoch.

    Raises Unavailable: it is of a newer version.
    """
    meta = db["meta"]
    found: Doc = await meta.find_one({"_id": "hubbub"}) or {}
    schema = int(found.get("schema", 0))
    if schema > len(STEPS):
        raise Unavailable(
            f"The database '{db.name}' was written by a newer Hubbub (schema {schema}, this one knows {len(STEPS)}). "
            "Use that version, or another database with HUBBUB_DATABASE_NAME."
        )
    if schema == len(STEPS) and "epoch" in found:
        return str(found["epoch"])
    for step in STEPS[schema:]:
        await step(db)
    first: list[dict[str, Any]] = [{"_id": "rights", "value": 0}, {"_id": "hubbub", "epoch": new_id()[:8]}]
    for doc in first:
        try:
            await meta.insert_one(doc)
        except DuplicateKeyError:  # another node was first
            continue
    await meta.update_one({"_id": "hubbub"}, {"$max": {"schema": len(STEPS)}})
    kept = await meta.find_one({"_id": "hubbub"})
    assert kept is not None
    return str(kept["epoch"])


async def move(db: AsyncDatabase[Doc]) -> Move | None:
    """The move into this database, if there was one."""
    found = await db["meta"].find_one({"_id": "move"})
    return msgspec.json.decode(found["move"], type=Move) if found else None
