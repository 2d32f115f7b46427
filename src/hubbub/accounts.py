"""Accounts from outside the server: what `hubbub user` does to the data, whether or not a server runs on them.

The verbs are the gate's own, on a hub that serves nobody. A server that runs on the same data learns of a change within
a second, and lets go of whoever may no longer be there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hubbub.buses.local import LocalBus
from hubbub.config import Settings
from hubbub.core import names
from hubbub.core.errors import BadRequest, NameTaken, NotFound, Unavailable
from hubbub.core.nouns import Account, Assistant, Kind, Scope, Token
from hubbub.core.ports import Store
from hubbub.hub.access import VISITOR, Caller
from hubbub.hub.auth import Auth
from hubbub.hub.conversing import GENERATE
from hubbub.hub.gate import MAX_LABEL, Gate
from hubbub.hub.hub import Hub
from hubbub.process import audit_log, prepare_home
from hubbub.stores.sqlite import DATABASE, SqliteStore
from hubbub.stores.sqlite_file import InUse

BY = "command line"
"""Who did it, in the audit log."""

ME = Caller(BY, admin=True)
DAY_S = 86_400.0
MAX_DAYS = 3660


@dataclass(frozen=True, slots=True)
class Row:
    """An account as it is listed."""

    account: Account
    kind: Kind
    tokens: int


class Accounts:
    """The accounts of an installation. Made by `opened`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._gate: Gate = hub.gate

    def rows(self) -> list[Row]:
        """By name."""
        listed = sorted(self._gate.accounts(), key=lambda account: names.key(account.name))
        return [Row(account, self._kind(account.name), len(self._gate.tokens_of(account.name))) for account in listed]

    def _kind(self, name: str) -> Kind:
        member = self._hub.people.known(name)
        return member.kind if member is not None else Kind.PERSON

    def account(self, name: str) -> Account:
        """Raises NotFound."""
        account = self._gate.account(name)
        if account is None:
            known = [account.name for account in self._gate.accounts()]
            near = names.nearest(name, known)
            raise NotFound(f"There is no account '{name}'." + (f" Did you mean '{near}'?" if near else ""))
        return account

    async def add(self, name: str, password: str | None, *, admin: bool = False, kind: Kind = Kind.PERSON) -> Account:
        """Raises NameTaken, BadRequest: it is no name for this, or the password is too short or too long."""
        self._require_free(name)
        hashed = "" if password is None else await self._gate.hash(password)
        account = await self._gate.add(name, password_hash=hashed, admin=admin, kind=kind)
        self._gate.audit("account_made", user=account.name, by=BY, admin="on" if admin else None)
        return account

    def _require_free(self, name: str) -> None:
        name = names.normalise(name)
        if self._gate.account(name) is not None:
            raise NameTaken(f"There is an account '{name}' already.")
        if names.key(name) == VISITOR or self._hub.assistants.is_one(name):
            raise NameTaken(f"The name '{name}' has a meaning of its own here; choose another.")
        self._gate.require_free(name)

    async def set_password(self, name: str, password: str) -> Account:
        """Whoever is signed in with the old one is signed out. Raises NotFound, BadRequest."""
        account = self.account(name)
        await self._gate.set_password(account.name, password, by=BY)
        return account

    async def change(self, name: str, *, admin: bool | None = None, disabled: bool | None = None) -> Account:
        """Raises NotFound."""
        return await self._gate.change(self.account(name).name, by=BY, admin=admin, disabled=disabled)

    async def sign_out(self, name: str) -> Account:
        """Raises NotFound."""
        account = self.account(name)
        await self._gate.sign_out_everywhere(account.name, by=BY)
        return account

    # Tokens

    async def make_token(
        self, name: str, label: str, scopes: Iterable[Scope], expires_days: float | None
    ) -> tuple[Token, str, bool]:
        """A token, its secret, and whether the name has only now got its account, a device's. Raises NameTaken,
        BadRequest."""
        if len(label) > MAX_LABEL:
            raise BadRequest(f"A label has {MAX_LABEL} characters at most, not {len(label)}.")
        if expires_days is not None and not 0 < expires_days <= MAX_DAYS:
            raise BadRequest(f"A token expires after more than 0 and at most {MAX_DAYS} days, not {expires_days:g}.")
        made = self._gate.account(name) is None
        account = await self.add(name, None, kind=Kind.DEVICE) if made else self.account(name)
        expires_s = None if expires_days is None else expires_days * DAY_S
        token, secret = await self._gate.make_token(account.name, label, scopes, by=BY, expires_s=expires_s)
        return token, secret, made

    def tokens(self, name: str) -> list[Token]:
        """Those that are worth something, oldest first. Raises NotFound."""
        return self._gate.tokens_of(self.account(name).name)

    async def revoke(self, id: str) -> Token:
        """Raises NotFound."""
        try:
            return await self._gate.revoke_token(id, by=ME)
        except NotFound:
            raise NotFound(f"There is no token {id}; 'hubbub user tokens NAME' lists those of an account.") from None


@asynccontextmanager
async def opened(settings: Settings, *, make: bool = False) -> AsyncIterator[Accounts]:
    """The accounts in the home directory, or in MongoDB; with `make`, it and the data are made when there are none.

    Raises BadRequest: the store keeps no file, or there are no data; Unavailable: they cannot be opened.
    """
    if settings.store == "memory" and not settings.database_uri:
        raise BadRequest(
            f"HUBBUB_STORE is '{settings.store}': accounts are known to the server alone then, and gone when it stops."
        )
    store = await _store(settings, make=make)
    try:
        auth = Auth(secrets.token_bytes(32), guests=settings.guests_allowed)  # it signs nothing
        assistants = [Assistant(name="openai")] if settings.openai else []
        hub = Hub(store, LocalBus(), auth, assistants=assistants, unlisted=[GENERATE], audit=_audit(settings.logs))
        try:
            await hub.learn()
            yield Accounts(hub)
        finally:
            hub.gate.close()
    finally:
        await store.close()


async def _store(settings: Settings, *, make: bool) -> Store:
    """The data, open."""
    if settings.database_uri:
        from hubbub.stores.mongo import MongoStore

        prepare_home(settings.home)  # for the audit log
        kept = MongoStore(settings.database_uri, settings.database_name)
        await kept.open()
        return kept
    home: Path = settings.home
    path = home / DATABASE
    if not path.exists():
        if not make:
            raise BadRequest(f"There are no data in {home}.")
        prepare_home(home)
    _require_own(path if path.exists() else home)
    return await _open(path)


async def _open(path: Path) -> SqliteStore:
    """Ours alone when nobody has it, else beside the server that does."""
    store = SqliteStore(path)
    try:
        await store.open()
    except InUse:
        store = SqliteStore(path, beside=True)
        await store.open()
    return store


def _require_own(path: Path) -> None:
    """Raises BadRequest: the data belong to somebody else, who could not use what we would leave there."""
    owner = path.stat().st_uid
    if owner != os.geteuid():
        name = str(owner)
        with contextlib.suppress(KeyError):
            name = pwd.getpwuid(owner).pw_name
        raise BadRequest(
            f"The data in {path.parent} belong to {name}; run this as {name}: sudo -u {name} hubbub user …"
        )


def _audit(directory: Path) -> Callable[..., None]:
    """The audit log; nothing is to be changed that could not be noted. Raises Unavailable."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(directory / "audit.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as failure:
        raise Unavailable(
            f"The audit log {directory / 'audit.log'} cannot be written ({failure.strerror}), so nothing was changed."
        ) from None
    return audit_log(directory, rotates=False)
