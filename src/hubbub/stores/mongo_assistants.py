"""Who answers. See `core.ports.Assistants` for what each method promises."""

from __future__ import annotations

import msgspec
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Assistant
from hubbub.stores.mongo_rows import NEXT
from hubbub.stores.mongo_server import Server

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Assistant).decode


class MongoAssistants:
    """What is kept of one is text: the names of its personalities are the user's, and may be anything."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._assistants = server["assistants"]
        self._memberships = server["memberships"]

    async def all(self) -> list[Assistant]:
        async with self._server.call():
            return [_from_json(doc["body"]) async for doc in self._assistants.find().sort("n", ASCENDING)]

    async def add(self, assistant: Assistant) -> None:
        doc = {"_id": names.key(assistant.name), "n": NEXT, "body": _to_json(assistant).decode()}
        async with self._server.call():
            try:
                await self._assistants.insert_one(doc)
            except DuplicateKeyError:
                raise NameTaken(f"There is an assistant called '{assistant.name}' already.") from None

    async def change(self, assistant: Assistant) -> None:
        body = {"$set": {"body": _to_json(assistant).decode()}}
        async with self._server.call():
            changed = await self._assistants.update_one({"_id": names.key(assistant.name)}, body)
        if not changed.matched_count:
            raise NotFound(f"No assistant is called '{assistant.name}'.")

    async def delete(self, name: str) -> None:
        async with self._server.call():
            await self._assistants.delete_one({"_id": names.key(name)})

    async def personality(self, thread: str, member: str) -> str:
        async with self._server.call():
            doc = await self._memberships.find_one({"thread": thread, "member": member}, {"personality": 1})
        return str(doc["personality"]) if doc else ""
