"""An open connection of any kind, as an attacker who was thrown out would keep it: what it hears, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Self

from websockets.exceptions import ConnectionClosed

from support.inbox import WAIT_S
from support.lines import LineClient
from support.listeners import SseReader
from support.server import House
from support.talkers import FramedClient, WsClient

SIGNED_IN = ("text", "binary", "framed", "sse", "lobby")
"""Doors that let in somebody who shows a token."""

EVERY = (*SIGNED_IN, "line")
"""And the one where a name is typed."""

SAY_BYE = frozenset({"text", "binary", "framed", "sse"})
"""Doors that say why they close in a frame."""


class Ear:
    """Everything that one connection was told, as text. `over` is set at its end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.said = ""
        self.over = asyncio.Event()
        self.close_code: int | None = None
        self._more = asyncio.Event()

    @classmethod
    async def open(cls, house: House, kind: str, *, user: str, token: str | None = None) -> Self:
        """Come in by that door, as a guest of that name when there is no token."""
        self = cls(kind)
        bearer = {"authorization": f"Bearer {token}"} if token else {}
        if kind == "sse":
            stream = await (house.listen(headers=bearer) if token else house.listen(user=user))
            self._follow(stream, self._frames(stream))
        elif kind == "line":
            person = await house.nc(user)
            self._follow(person, self._lines(person))
        elif kind == "lobby":
            socket = await WsClient.open(house.port, binary=True, path=f"/ws/{user}", additional_headers=bearer)
            self._follow(socket, self._texts(socket))
            async with asyncio.timeout(WAIT_S):
                while not house.app.hub.people.online(user):  # noqa: ASYNC110  (it is told nothing when it is let in)
                    await asyncio.sleep(0.005)
        else:
            talker = await house.connect(kind)
            await talker.hello(None if token else user, **({"token": token} if token else {}))
            self._follow(talker, self._frames(talker))
        return self

    def _follow(self, connection: SseReader | LineClient | WsClient | FramedClient, reading) -> None:  # type: ignore[no-untyped-def]
        self.connection = connection
        self._task = asyncio.create_task(reading)

    def _hear(self, text: str) -> None:
        self.said += text + "\n"
        self._more.set()

    async def _frames(self, inbox) -> None:  # type: ignore[no-untyped-def]
        with contextlib.suppress(Exception):
            while True:
                self._hear(json.dumps(await inbox._read()))
        if isinstance(inbox, WsClient):
            self.close_code = inbox.socket.close_code
        self._end()

    async def _texts(self, socket: WsClient) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._hear(bytes(await socket.socket.recv())[4:].decode())
        self.close_code = socket.socket.close_code
        self._end()

    async def _lines(self, person: LineClient) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await person.reader.read(65536):
                self._hear(data.decode())
        self._end()

    def _end(self) -> None:
        self.over.set()
        self._more.set()

    async def hears(self, text: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while text not in self.said:
                assert not self.over.is_set(), f"closed before {text!r} came: {self.said[-500:]}"
                self._more.clear()
                await self._more.wait()

    async def ends(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            await self.over.wait()

    def close(self) -> None:
        self._task.cancel()
        self.connection.cut()
