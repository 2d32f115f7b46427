"""Reading what an endpoint of `compat` tells, event by event."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from support.inbox import WAIT_S

Event = tuple[str, dict[str, Any]]


class Stream:
    """The events of one answer, as they come."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.heard: list[Event] = []
        self._lines = response.aiter_lines()

    async def next(self) -> Event | None:
        """The next event, None at the end of the stream."""
        kind, data = "", ""
        async with asyncio.timeout(WAIT_S):
            async for line in self._lines:
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif not line and kind:
                    self.heard.append((kind, json.loads(data)))
                    return self.heard[-1]
        return None

    async def take(self, kind: str) -> dict[str, Any]:
        """The next event of that kind."""
        while (event := await self.next()) is not None:
            if event[0] == kind:
                return event[1]
        raise AssertionError(f"no {kind} came; instead: {self.heard}")

    async def all(self) -> list[Event]:
        while await self.next() is not None:
            pass
        return self.heard

    def text(self) -> str:
        """What the pieces say together."""
        return "".join(
            data.get("text", data.get("content", ""))
            for kind, data in self.heard
            if kind == "token" or data["type"] == "partial_response"
        )


@contextlib.asynccontextmanager
async def streaming(http: httpx2.AsyncClient, method: str, path: str, **how: Any) -> AsyncIterator[Stream]:
    """Ask, and read; leaving the block leaves the stream."""
    async with http.stream(method, path, **how) as response:
        if response.status_code != 200:
            await response.aread()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def told(http: httpx2.AsyncClient, method: str, path: str, **how: Any) -> Stream:
    """The whole of it."""
    async with streaming(http, method, path, **how) as stream:
        await stream.all()
        return stream
