"""A look at a database of ours from outside a server, which changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pymongo
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from hubbub.stores.mongo_schema import STEPS
from hubbub.stores.mongo_server import APP, PATIENCE_S, judge, no_address, opening


class Look(msgspec.Struct, frozen=True):
    """`schema` is 0 where there is nothing yet; `known` is what this version brings it to."""

    schema: int
    known: int
    accounts: int  # that are not disabled
    admins: int


def look(uri: str, name: str) -> Look:
    """Raises Unavailable with the sentence to show: it cannot be used."""
    try:
        client = MongoClient[dict[str, Any]](uri, appname=APP, serverSelectionTimeoutMS=int(PATIENCE_S * 1000))
    except (PyMongoError, ValueError) as wrong:
        raise no_address(wrong) from None
    with client, pymongo.timeout(PATIENCE_S):
        try:
            judge(client.admin.command("hello"))
            db = client[name]
            meta = db["meta"].find_one({"_id": "hubbub"}) or {}
            able = {"disabled": False}
            accounts = db["accounts"].count_documents(able)
            admins = db["accounts"].count_documents({**able, "admin": True})
        except PyMongoError as failure:
            raise opening(failure, client.topology_description) from None
    return Look(int(meta.get("schema", 0)), len(STEPS), accounts, admins)
