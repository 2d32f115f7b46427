"""Who may sign in, in the process's memory."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Account, Rights, Token, new_generation


class MemoryAccounts:
    """See `core.ports.Accounts` for what each method promises."""

    def __init__(self) -> None:
        self._version = 0
        self._accounts: dict[str, tuple[int, Account]] = {}  # each with the version of its last change
        self._tokens: dict[str, tuple[int, Token]] = {}
        self._signed_out: dict[str, tuple[int, float]] = {}

    async def changes_after(self, version: int) -> Rights:
        return Rights(
            version=self._version,
            accounts=tuple(account for at, account in self._accounts.values() if at > version),
            tokens=tuple(token for at, token in self._tokens.values() if at > version),
            signed_out={id: expires for id, (at, expires) in self._signed_out.items() if at > version},
        )

    async def add(self, account: Account) -> None:
        key = names.key(account.name)
        if key in self._accounts:
            raise NameTaken("Username already taken.")
        self._accounts[key] = self._next(), account

    async def change(
        self,
        name: str,
        *,
        password: str | None = None,
        admin: bool | None = None,
        disabled: bool | None = None,
        sign_out: bool = False,
    ) -> Account:
        key = names.key(name)
        if key not in self._accounts:
            raise NotFound(f"There is no account '{name}'.")
        account = self._accounts[key][1]
        given: dict[str, Any] = {"password": password, "admin": admin, "disabled": disabled}
        changes = {field: value for field, value in given.items() if value is not None}
        if sign_out:
            changes["generation"] = new_generation()
        account = replace(account, **changes)
        self._accounts[key] = self._next(), account
        return account

    async def add_token(self, token: Token) -> None:
        self._tokens[token.id] = self._next(), token

    async def revoke_token(self, id: str) -> None:
        if id in self._tokens:
            self._tokens[id] = self._next(), replace(self._tokens[id][1], revoked=True)

    async def sign_out(self, id: str, expires: float, now: float) -> None:
        self._signed_out = {id: kept for id, kept in self._signed_out.items() if kept[1] > now}
        self._signed_out[id] = self._next(), expires

    def _next(self) -> int:
        self._version += 1
        return self._version
