"""Waiting for frames: whatever a client hears is kept in order, and a test takes from it what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

WAIT_S = 5.0
"""How long any single thing may take before a test gives up on it."""

Frame = dict[str, Any]


class Over(Exception):
    """The other side has closed the connection."""


class Inbox:
    """The hearing half of a client. Subclasses say how the next frame is read; it raises Over at the end."""

    def __init__(self) -> None:
        self.heard: list[Frame] = []
        self._kept: list[Frame] = []

    async def _read(self) -> Frame:
        raise NotImplementedError

    async def take(self, kind: str | None = None, where: Callable[[Frame], bool] | None = None, **fields: Any) -> Frame:
        """The first frame not yet taken that is of this type and has these fields; others stay for later."""
        for frame in self._kept:
            if _fits(frame, kind, where, fields):
                self._kept.remove(frame)
                return frame
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    frame = await self._read()
                    self.heard.append(frame)
                    if _fits(frame, kind, where, fields):
                        return frame
                    self._kept.append(frame)
        except TimeoutError:
            raise AssertionError(f"no {kind} {fields} came; instead: {self._kept[-20:]}") from None
        except Over as over:
            raise Over(f"closed before {kind} {fields} came ({over}); instead: {self._kept[-20:]}") from None

    async def next(self) -> Frame:
        """The very next frame, whatever it is."""
        return await self.take()

    async def message(self, text: str | None = None, **fields: Any) -> dict[str, Any]:
        """The next message event (with that text): the message itself."""
        frame = await self.take("message", lambda f: "id" not in f and (text is None or f["message"]["text"] == text))
        assert fields.items() <= frame["message"].items()
        message: dict[str, Any] = frame["message"]
        return message

    async def messages(self, count: int, thread: str) -> list[dict[str, Any]]:
        """The next `count` messages of a thread."""
        return [(await self.take("message", thread=thread))["message"] for _ in range(count)]

    async def drain(self) -> list[Frame]:
        """Everything until the other side closes."""
        while True:
            try:
                await self.take("there is no such type")
            except Over:
                return self.heard


def _fits(frame: Frame, kind: str | None, where: Callable[[Frame], bool] | None, fields: Frame) -> bool:
    return (
        (kind is None or frame.get("type") == kind)
        and all(key in frame and frame[key] == value for key, value in fields.items())
        and (where is None or where(frame))
    )
