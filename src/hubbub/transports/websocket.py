"""The door `/ws`: a text message is one frame, a binary message holds length-prefixed frames (RFC 6455).

The server answers in the kind the client's `hello` came in. Framing is `core.websocket`; this moves the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from hubbub.core.errors import OUTSIDE
from hubbub.core.forms import BINARY, TEXT
from hubbub.core.framing import MAX_FRAME_BYTES
from hubbub.core.websocket import TOO_BIG, Binary, Broken, Close, Ping, Pong, Receiver, Text, close_frame, pong_frame
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.transports.door import SocketDoor

MAX_BINARY_BYTES = MAX_FRAME_BYTES + 4
"""A binary message may hold several frames, but no more bytes than the longest single one."""


class WebSocketDoor(SocketDoor):
    """One WebSocket connection after its handshake.

    Args:
        connections: the server's set of what it has to close at shutdown; the door keeps itself in it.
        token, cookie: what the handshake showed; see `SocketDoor` for the rest.
    """

    kind = "websocket"
    __slots__ = ("_connections", "_receiver", "session")

    def __init__(
        self,
        hub: Hub,
        connections: set[Any],
        token: str | None = None,
        cookie: str | None = None,
        address: str = "",
        counted: str = "",
    ) -> None:
        super().__init__(address, counted)
        self._connections = connections
        self._receiver = Receiver(MAX_BINARY_BYTES)
        self.session = Session(hub, self, TEXT)
        self.session.offered = token
        self.session.cookie = cookie

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        progressed = False
        for event in self._receiver.feed(data):
            kind = type(event)
            progressed |= kind is Text or kind is Binary
            if self.closing:
                if kind is Close:
                    self.transport.close()
            elif kind is Text:
                if len(event.payload) > MAX_FRAME_BYTES:  # type: ignore[union-attr]
                    self._broken(Broken(TOO_BIG, f"a frame holds at most {MAX_FRAME_BYTES} bytes"))
                    break
                if self.session.fresh:
                    self.session.form = TEXT
                self.session.receive(event.payload)  # type: ignore[union-attr]
            else:
                self._on[kind](self, event)
        self.session.waits(self._receiver.unfinished, progressed)

    def _binary(self, event: Binary) -> None:
        if self.session.fresh:
            self.session.form = BINARY
        self.session.receive_frames(event.payload)

    def _ping(self, event: Ping) -> None:
        self.write(pong_frame(event.payload))

    def _pong(self, event: Pong) -> None: ...

    def _close(self, event: Close) -> None:
        self.closing = True
        self.session.lost()
        self.write(close_frame(1000 if event.code == 1005 else event.code))
        self.transport.close()

    def _broken(self, event: Broken) -> None:
        self.session.lost()
        self.closing = True
        self.write(close_frame(event.code, event.reason))
        self.hang_up()

    _on: ClassVar[dict[type, Callable[[WebSocketDoor, Any], None]]] = {
        Binary: _binary,
        Ping: _ping,
        Pong: _pong,
        Close: _close,
        Broken: _broken,
    }

    def farewell(self, code: str, reason: str) -> bytes:
        return close_frame(OUTSIDE[code].close if code else 1000, reason)

    def eof_received(self) -> bool:
        return False  # a WebSocket is not half-closed; it ends

    def shutdown(self) -> None:
        """uvicorn asks every connection to go."""
        self.session.end("shutdown", "The server is restarting.", retry_after=1)
