"""A server to attack, and the people an attack needs: with an account, as an admin, with a token."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from hubbub.core.nouns import Scope
from hubbub.hub.access import Caller
from support.server import House, fresh, serving

PASSWORD = "a long enough password"


@asynccontextmanager
async def attacked(home: Path, **flags: Any) -> AsyncIterator[House]:
    """A server whose passwords cost a tenth of what they otherwise do: the same hash with less memory."""
    async with serving(home, **flags) as house:
        passwords = house.app.hub.gate._passwords
        passwords.__dict__["_hasher"] = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=16 << 10),))
        yield house


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


def cookie(house: House, token: str) -> dict[str, str]:
    """The header in which a browser shows it, by whichever name it knows the server."""
    return {"cookie": f"hubbub={token}; hubbub_{house.port}={token}"}
