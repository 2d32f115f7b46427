"""The people an attack needs: with an account, as an admin, with a token. Passwords cost a tenth of a second each, so
accounts are made without one unless a test is about passwords."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hubbub.core.nouns import Scope
from hubbub.hub.access import Caller
from support.server import House, fresh

PASSWORD = "a long enough password"


async def account(house: House, name: str | None = None, *, admin: bool = False, password: bool = False) -> str:
    """A new account, signed up already: its name."""
    gate = house.app.hub.gate
    hashed = await gate.hash(PASSWORD) if password else ""
    return (await gate.add(name or fresh("member"), password_hash=hashed, admin=admin)).name


def signed(house: House, name: str) -> str:
    """A signed token for an account, or for a guest of that name."""
    gate = house.app.hub.gate
    known = gate.account(name)
    return gate.issue(Caller(name, generation=known.generation if known else 0))


async def member(house: House, name: str | None = None, *, admin: bool = False) -> tuple[str, str]:
    """Somebody with an account: their name, and a signed token."""
    name = await account(house, name, admin=admin)
    return name, signed(house, name)


async def opaque(house: House, name: str, scopes: Iterable[Scope] = (Scope.READ, Scope.WRITE)) -> tuple[str, str]:
    """A device token of an account: its id, and its secret."""
    token, secret = await house.app.hub.gate.make_token(name, "attack", scopes, by="the test", expires_s=3600)
    return token.id, secret


def now() -> int:
    return int(time.time())
