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
from hubbub.transports.door import SocketDoor, peer_of
from hubbub.transports.lines import PROMPT, LineDoor

GREET_AFTER_S = 1.0
TOO_MANY = b"Too many connections from your address; close one first.\n"


class Threshold(asyncio.Protocol):
    """A connection nobody has spoken on yet. `counted`: the address it was counted for already."""

    __slots__ = ("_counted", "_greeted", "_hub", "_timer", "_transport")

    def __init__(self, hub: Hub, counted: str = "") -> None:
        self._hub = hub
        self._counted = counted
        self._greeted = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._counted:
            address = peer_of(transport)
            if not self._hub.addresses.enter(address):
                self._transport.write(TOO_MANY)
                self._transport.close()
                return
            self._counted = address
        self._timer = asyncio.get_running_loop().call_later(GREET_AFTER_S, self._greet)

    def _greet(self) -> None:
        self._greeted = True
        self._transport.write(PROMPT.encode())
        self._timer = asyncio.get_running_loop().call_later(self._hub.limits.name_s, self._transport.close)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:  # refused
            return
        self._timer.cancel()
        hub = self._hub
        if data[0] == 0:
            door: SocketDoor = FramedDoor(hub, self._counted)
        else:
            door = LineDoor(hub, self._counted, greeted=self._greeted, hello_s=hub.limits.name_s)
        self._transport.set_protocol(door)
        door.connection_made(self._transport)
        door.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._counted:
            self._hub.addresses.leave(self._counted)


class FramedDoor(SocketDoor):
    """A program speaking length-prefixed frames."""

    kind = "tcp"
    __slots__ = ("_splitter", "session")

    def __init__(self, hub: Hub, counted: str) -> None:
        super().__init__(counted=counted)
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
