"""The TCP port: length-prefixed frames for programs, lines for a person with `nc` or `telnet`.

The first byte decides. Every length prefix begins with 0x00, as frames are at most 1 MiB; whatever else comes first is
somebody typing. A connection that is silent for a second is greeted like a person.
"""

from __future__ import annotations

import asyncio
from typing import cast

from hubbub.core.forms import FRAMED
from hubbub.core.framing import Overlong, Splitter
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.door import SocketDoor
from hubbub.transports.lines import PROMPT, LineDoor

GREET_AFTER_S = 1.0
NAME_S = 120.0
"""How long a person may take to give a name."""


class Threshold(asyncio.Protocol):
    """A connection nobody has spoken on yet."""

    __slots__ = ("_greeted", "_hub", "_timer", "_transport")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(GREET_AFTER_S, self._greet)

    def _greet(self) -> None:
        self._greeted = True
        self._transport.write(PROMPT.encode())
        self._timer = asyncio.get_running_loop().call_later(NAME_S, self._transport.close)

    def data_received(self, data: bytes) -> None:
        self._timer.cancel()
        hub = self._hub
        door = FramedDoor(hub) if data[0] == 0 else LineDoor(hub, greeted=self._greeted, hello_s=NAME_S)
        self._transport.set_protocol(door)
        door.connection_made(self._transport)
        door.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()


class FramedDoor(SocketDoor):
    """A program speaking length-prefixed frames."""

    __slots__ = ("_splitter", "session")

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._splitter = Splitter()
        self.session = Session(hub, self, FRAMED)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        try:
            payloads = self._splitter.feed(data)
        except Overlong as overlong:
            for payload in overlong.before:
                self.session.receive(payload)
            self.session.refuse(overlong)
            return
        for payload in payloads:
            self.session.receive(payload)
        self.session.waits(self._splitter.unfinished, bool(payloads))

    def finish(self) -> None:
        if self._splitter.unfinished:
            self.session.refuse_payload("The connection ended in the middle of a frame.")
        super().finish()
