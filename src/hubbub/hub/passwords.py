"""Passwords: hashed with argon2id where they disturb nobody, and guessed no faster than `Attempts` lets them.

One hash takes about 0.1 s and 64 MiB, so at most two are made at once and few may wait for them. Whoever is unknown
costs the same time as somebody who is known, so that nobody learns who has an account (OWASP, Authentication).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from hubbub.core.errors import BadRequest, RateLimited

if TYPE_CHECKING:
    from pwdlib import PasswordHash

T = TypeVar("T")

MIN_PASSWORD, MAX_PASSWORD = 8, 256
AT_ONCE = 2
MAX_WAITING = 32
MAX_OF_ONE = 4
"""Hashes under way or waiting for one address, so that nobody can take all the places."""

FAILURES = 5
WINDOW_S = 60.0
LONGEST_S = 3600.0
MAX_REMEMBERED = 20_000
"""Pairs of account and address whose failures are kept; of more, the oldest are forgiven."""


class Passwords:
    """Makes and checks hashes, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "password")
        self._under_way = 0
        self._of: Counter[str] = Counter()  # by address

    @cached_property
    def _hasher(self) -> PasswordHash:
        from pwdlib import PasswordHash  # only those need it who have accounts
        from pwdlib.hashers.argon2 import Argon2Hasher

        return PasswordHash((Argon2Hasher(),))

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash("the password of nobody")

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises BadRequest: too short or too long; RateLimited: too many at once."""
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise BadRequest(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters, not {len(password)}.")
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, hashed: str, whose: str = "") -> bool:
        """Is it the password of that hash? An empty hash is nobody's, and takes as long. Raises RateLimited: too many
        at once, or too many of `whose`."""

        def check() -> bool:
            return self._hasher.verify(password[:MAX_PASSWORD], hashed or self._nobodys) and bool(hashed)

        return await self._run(check, whose) and len(password) <= MAX_PASSWORD

    async def _run(self, work: Callable[[], T], whose: str = "") -> T:
        if self._under_way >= AT_ONCE + MAX_WAITING or (whose and self._of[whose] >= MAX_OF_ONE):
            raise RateLimited("Too many people are signing in at once.", retry_after=1)
        self._under_way += 1
        self._of[whose] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._under_way -= 1
            self._of[whose] -= 1
            if not self._of[whose]:
                del self._of[whose]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Failures:
    count: int
    since: float
    until: float = 0.0  # no other try before


class Attempts:
    """How often somebody at an address may try to be somebody: so many failures a minute, then after a minute once
    more, and after every further failure twice as long.

    A try counts as a failure until it has succeeded, so that many at the same moment are no way around.
    """

    def __init__(self, failures: int = FAILURES) -> None:
        self._free = failures
        self._failures: dict[tuple[str, str], _Failures] = {}  # by account and address, the longest unchanged first

    def begin(self, account: str, address: str, now: float) -> None:
        """Count a try. Raises RateLimited. `now` in monotonic seconds."""
        key = account, address
        known = self._failures.pop(key, None)
        if known is None or now - max(known.since, known.until) > WINDOW_S * (1 if known.count < self._free else 60):
            known = _Failures(0, now)
        self._failures[key] = known
        if now < known.until:
            raise RateLimited("Too many wrong passwords.", retry_after=round(known.until - now, 3))
        known.count += 1
        if known.count >= self._free:
            known.until = now + min(LONGEST_S, WINDOW_S * 2 ** (known.count - self._free))
        if len(self._failures) > MAX_REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, account: str, address: str) -> None:
        self._failures.pop((account, address), None)

    def undone(self, account: str, address: str) -> None:
        """The try came to no answer."""
        known = self._failures.get((account, address))
        if known is not None:
            known.count -= 1
            known.until = 0.0
