"""Who may sign in. See `core.ports.Accounts` for what each method promises.

Every change takes the next number from one document, in its transaction. That document orders them: no later change
can be committed before an earlier one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Account, Rights, Scope, Token, new_generation
from hubbub.stores.mongo_log import Log
from hubbub.stores.mongo_rows import Doc
from hubbub.stores.mongo_server import Queue

T = TypeVar("T")

LANE = "rights"


class MongoAccounts:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._meta = log.server["meta"]
        self._accounts = log.server["accounts"]
        self._tokens = log.server["tokens"]
        self._signed_out = log.server["signed_out"]

    async def changes_after(self, version: int) -> Rights:
        async with self._log.server.call(Queue.RIGHTS):
            doc = await self._meta.find_one({"_id": "rights"})
            now = int(doc["value"]) if doc else 0
            if now == version:
                return Rights(version=version)
            # Later ones may be among what follows; they are read again, which does no harm.
            later = {"version": {"$gt": version}}
            return Rights(
                version=now,
                accounts=tuple([_account(doc) async for doc in self._accounts.find(later)]),
                tokens=tuple([_token(doc) async for doc in self._tokens.find(later)]),
                signed_out={doc["_id"]: doc["expires"] async for doc in self._signed_out.find(later)},
            )

    async def add(self, account: Account) -> None:
        async def work(session: AsyncClientSession, version: int) -> None:
            doc = {
                "_id": names.key(account.name),
                "name": account.name,
                "password": account.password,
                "admin": account.admin,
                "disabled": account.disabled,
                "generation": account.generation,
                "version": version,
            }
            try:
                await self._accounts.insert_one(doc, session=session)
            except DuplicateKeyError:
                raise NameTaken("Username already taken.") from None

        await self._change(work)

    async def change(
        self,
        name: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
    ) -> Account:
        given: dict[str, Any] = {
            "password": password,
            "admin": admin,
            "disabled": disabled,
            "generation": new_generation() if sign_out else None,
        }
        changes = {field: value for field, value in given.items() if value is not None}

        async def work(session: AsyncClientSession, version: int) -> Account:
            doc = await self._accounts.find_one_and_update(
                {"_id": names.key(name)},
                {"$set": {**changes, "version": version}},
                session=session,
                return_document=ReturnDocument.AFTER,
            )
            if doc is None:
                raise NotFound(f"There is no account '{name}'.")
            return _account(doc)

        return await self._change(work)

    async def add_token(self, token: Token) -> None:
        async def work(session: AsyncClientSession, version: int) -> None:
            doc = {
                "_id": token.id,
                "member": token.member,
                "label": token.label,
                "digest": token.digest,
                "scopes": [scope.value for scope in token.scopes],
                "created": token.created,
                "expires": token.expires,
                "revoked": token.revoked,
                "version": version,
            }
            await self._tokens.insert_one(doc, session=session)

        await self._change(work)

    async def revoke_token(self, id: str) -> None:
        async def work(session: AsyncClientSession, version: int) -> None:
            gone = {"$set": {"revoked": True, "version": version}}
            await self._tokens.update_one({"_id": id}, gone, session=session)

        await self._change(work)

    async def sign_out(self, id: str, expires: float, now: float) -> None:
        async def work(session: AsyncClientSession, version: int) -> None:
            await self._signed_out.delete_many({"expires": {"$lte": now}}, session=session)
            doc = {"expires": expires, "version": version}
            await self._signed_out.replace_one({"_id": id}, doc, upsert=True, session=session)

        await self._change(work)

    async def _change(self, work: Callable[[AsyncClientSession, int], Awaitable[T]]) -> T:
        async def numbered(session: AsyncClientSession) -> T:
            doc = await self._meta.find_one_and_update(
                {"_id": "rights"}, {"$inc": {"value": 1}}, session=session, return_document=ReturnDocument.AFTER
            )
            assert doc is not None
            return await work(session, int(doc["value"]))

        return await self._log.write([LANE], numbered)


def _account(doc: Doc) -> Account:
    return Account(
        name=doc["name"],
        password=doc["password"],
        admin=doc["admin"],
        disabled=doc["disabled"],
        generation=doc["generation"],
    )


def _token(doc: Doc) -> Token:
    return Token(
        id=doc["_id"],
        member=doc["member"],
        label=doc["label"],
        digest=doc["digest"],
        scopes=tuple(map(Scope, doc["scopes"])),
        created=doc["created"],
        expires=doc["expires"],
        revoked=doc["revoked"],
    )
