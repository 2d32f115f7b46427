"""What one address may take: so many connections, and so many requests without a token.

Behind loopback is the machine's own owner, or a proxy that was not announced; its limits are skipped unless asked for.
"""

from __future__ import annotations

import ipaddress
import time
from functools import lru_cache

from hubbub.core.errors import RateLimited
from hubbub.core.pace import Pace
from hubbub.hub.meter import Counts

MAX_REMEMBERED = 50_000


class Addresses:
    """Counts by address.

    Args:
        connections: open at once; 0 = no limit.
        strangers_per_minute: requests without a valid token, and tries to sign in; 0 = no limit.
        loopback: hold loopback to it, too.
    """

    def __init__(
        self, connections: int, strangers_per_minute: float, *, loopback: bool, counts: Counts | None = None
    ) -> None:
        self._most = connections
        self._per_minute = strangers_per_minute
        self._loopback = loopback
        self._counts = counts or Counts()
        self._open: dict[str, int] = {}
        self._paces: dict[str, Pace] = {}

    def _limited(self, address: str) -> bool:
        return bool(address) and (self._loopback or not _is_loopback(address))

    def enter(self, address: str) -> bool:
        """Count a new connection. False: there are too many, and it was not counted."""
        if not self._most or not self._limited(address):
            return True
        address = whose(address)
        count = self._open.get(address, 0)
        if count >= self._most:
            self._counts.rate_limited += 1
            return False
        self._open[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted is gone."""
        address = whose(address)
        count = self._open.get(address, 0)
        if count > 1:
            self._open[address] = count - 1
        else:
            self._open.pop(address, None)

    def count(self, address: str) -> None:
        """Count a request of somebody nobody knows. Raises RateLimited."""
        if not self._per_minute or not self._limited(address):
            return
        address = whose(address)
        now = time.monotonic()
        pace = self._paces.get(address)
        if pace is None:
            if len(self._paces) >= MAX_REMEMBERED:
                del self._paces[next(iter(self._paces))]
            pace = self._paces[address] = Pace(self._per_minute / 60, self._per_minute, now)
        if wait_s := pace.take(now):
            self._counts.rate_limited += 1
            raise RateLimited("Too many requests without a token from your address.", retry_after=round(wait_s, 3))

    def forget(self, before: float) -> None:
        """Of those who have asked for nothing since, in monotonic seconds."""
        self._paces = {address: pace for address, pace in self._paces.items() if pace.at > before}

    def limited(self, address: str) -> str:
        """Whose it is, for counting; "" when nothing is counted for it."""
        return whose(address) if self._limited(address) else ""


@lru_cache(maxsize=1024)
def whose(address: str) -> str:
    """What stands for everybody behind an address: of IPv6 its first 64 bits, as one host has all the others."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))
    return address


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
