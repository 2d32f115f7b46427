"""Who may sign in, in the file of the default store."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, cast

import apsw

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Account, Rights, Scope, Token, new_generation

_ACCOUNT = "name, password, admin, disabled, generation"
_TOKEN = "id, member, label, digest, scopes, created, expires, revoked"


class File(Protocol):
    """What is needed of the store around this."""

    @property
    def writer(self) -> apsw.Connection: ...

    def write(self, work: Callable[[], Any]) -> Future[Any]: ...

    def read(self, sql: str, bindings: tuple[object, ...]) -> list[tuple[Any, ...]]: ...


class SqliteAccounts:
    """See `core.ports.Accounts` for what each method promises."""

    def __init__(self, file: File) -> None:
        self._file = file

    async def changes_after(self, version: int) -> Rights:
        read = self._file.read
        now = int(read("SELECT value FROM meta WHERE name = 'rights'", ())[0][0])
        if now == version:
            return Rights(version=version)
        # Later ones may be among what follows; they are read again, which does no harm.
        return Rights(
            version=now,
            accounts=tuple(map(_account, read(f"SELECT {_ACCOUNT} FROM accounts WHERE version > ?", (version,)))),
            tokens=tuple(map(_token, read(f"SELECT {_TOKEN} FROM tokens WHERE version > ?", (version,)))),
            signed_out=dict(
                cast(
                    "list[tuple[str, float]]", read("SELECT id, expires FROM signed_out WHERE version > ?", (version,))
                )
            ),
        )

    async def add(self, account: Account) -> None:
        def work() -> None:
            key = names.key(account.name)
            if self._file.writer.execute("SELECT 1 FROM accounts WHERE key = ?", (key,)).fetchone():
                raise NameTaken("Username already taken.")
            self._file.writer.execute(
                f"INSERT INTO accounts (key, {_ACCOUNT}, version) VALUES (?,?,?,?,?,?,?)",
                (
                    key,
                    account.name,
                    account.password,
                    account.admin,
                    account.disabled,
                    account.generation,
                    self._next(),
                ),
            )

        await self._file.write(work)

    async def change(
        self,
        name: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
    ) -> Account:
        def work() -> Account:
            key = names.key(name)
            if not self._file.writer.execute("SELECT 1 FROM accounts WHERE key = ?", (key,)).fetchone():
                raise NotFound(f"There is no account '{name}'.")
            row = self._file.writer.execute(
                "UPDATE accounts SET password = coalesce(?, password), admin = coalesce(?, admin),"
                " disabled = coalesce(?, disabled), generation = coalesce(?, generation), version = ?"
                f" WHERE key = ? RETURNING {_ACCOUNT}",
                (password, admin, disabled, new_generation() if sign_out else None, self._next(), key),
            ).fetchone()
            return _account(cast("tuple[Any, ...]", row))

        return cast(Account, await self._file.write(work))

    async def add_token(self, token: Token) -> None:
        def work() -> None:
            self._file.writer.execute(
                f"INSERT INTO tokens ({_TOKEN}, version) VALUES (?,?,?,?,?,?,?,?,?)",
                (
                    token.id,
                    token.member,
                    token.label,
                    token.digest,
                    " ".join(token.scopes),
                    token.created,
                    token.expires,
                    token.revoked,
                    self._next(),
                ),
            )

        await self._file.write(work)

    async def revoke_token(self, id: str) -> None:
        def work() -> None:
            if self._file.writer.execute("SELECT 1 FROM tokens WHERE id = ?", (id,)).fetchone():
                self._file.writer.execute("UPDATE tokens SET revoked = 1, version = ? WHERE id = ?", (self._next(), id))

        await self._file.write(work)

    async def sign_out(self, id: str, expires: float, now: float) -> None:
        def work() -> None:
            self._file.writer.execute("DELETE FROM signed_out WHERE expires <= ?", (now,))
            self._file.writer.execute(
                "INSERT OR REPLACE INTO signed_out (id, expires, version) VALUES (?,?,?)", (id, expires, self._next())
            )

        await self._file.write(work)

    def _next(self) -> int:
        sql = "UPDATE meta SET value = value + 1 WHERE name = 'rights' RETURNING value"
        return int(cast("tuple[str]", self._file.writer.execute(sql).fetchone())[0])


def _account(row: tuple[Any, ...]) -> Account:
    name, password, admin, disabled, generation = row
    return Account(name=name, password=password, admin=bool(admin), disabled=bool(disabled), generation=generation)


def _token(row: tuple[Any, ...]) -> Token:
    id, member, label, digest, scopes, created, expires, revoked = row
    return Token(
        id=id,
        member=member,
        label=label,
        digest=digest,
        scopes=tuple(map(Scope, scopes.split())),
        created=created,
        expires=expires,
        revoked=bool(revoked),
    )
