"""Events on their way from the wire to who takes them.

`full` is the moment to stop reading the socket: then the server sees a slow reader and stops sending, and
nothing is lost. Who waits for a reply has to be read for even so, because the reply lies behind the events:
up to `overfull`, sixteen times as many.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hubbub.core import frames

OVERFULL = 16


class Inbox:
    """`limit` is how many events wait before reading stops. One task takes, one puts."""

    __slots__ = ("_closed", "_events", "_news", "changed", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changed = asyncio.Event()  # set when an event was taken
        self._events: deque[frames.Frame] = deque()
        self._news = asyncio.Event()
        self._closed: BaseException | bool = False

    @property
    def full(self) -> bool:
        return len(self._events) >= self.limit

    @property
    def overfull(self) -> bool:
        return len(self._events) >= self.limit * OVERFULL

    def put(self, event: frames.Frame) -> None:
        """Never waits; the caller looks at `full` before reading on."""
        self._events.append(event)
        self._news.set()

    async def take(self) -> frames.Frame | None:
        """The next event; None when the client is closed. After the last, raises why it gave up."""
        while not self._events:
            if isinstance(self._closed, BaseException):
                raise self._closed
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        event = self._events.popleft()
        self.changed.set()
        return event

    def close(self, why: BaseException | None = None) -> None:
        """No event comes any more. Those that wait can still be taken. The first close counts."""
        if self._closed is False:
            self._closed = why or True
            self._news.set()
