"""What every door on a socket has in common: the session's view of the transport, and flow control both ways."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import ClassVar, cast

from hubbub.hub.session import Session

LINGER_S = 1.0
"""How long a closing connection may take to read what it was still told."""

SEND_BUFFER = 256 << 10
"""Bytes the kernel keeps for one reader; Linux counts its own bookkeeping and takes twice that."""


class SocketDoor(asyncio.Protocol):
    """A `hub.session.Door` on an asyncio transport. Subclasses say how bytes come in and how to say goodbye."""

    __slots__ = ("_address", "_file", "closing", "counted", "session", "transport", "write")

    kind: ClassVar[str]
    session: Session

    def __init__(self, address: str = "", counted: str = "") -> None:
        """`address`: where the other side is, when the transport does not tell. `counted`: for which address this
        connection was counted."""
        self.closing = False
        self.counted = counted
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write: Callable[[bytes], None] = self.transport.write
        self._file = socket_of(self.transport)
        quicken(self.transport)
        # From the first byte that the socket does not take, until it has taken all: `pause_writing`. A transport that
        # encrypts pauses at its limit already, not only above it, and with 0 it would at nothing.
        self.transport.set_write_buffer_limits(high=1 if encrypts(self.transport) else 0, low=0)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.session.lost()
        self.write = nowhere
        if self.counted:
            self.session.hub.addresses.leave(self.counted)

    def pause_writing(self) -> None:
        self.session.stop()

    def resume_writing(self) -> None:
        self.session.go_on()

    def fileno(self) -> int:
        """Good until `connection_lost` has returned: only then does a transport close its socket."""
        return self._file

    @property
    def address(self) -> str:
        return self._address or peer_of(self.transport)

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def settle(self) -> None: ...

    def farewell(self, code: str, reason: str) -> bytes:
        """What the transport itself says before it closes."""
        return b""

    def end(self, code: str, reason: str) -> None:
        if self.closing:
            return
        self.closing = True
        if last := self.farewell(code, reason):
            self.write(last)
        self.hang_up()

    def hang_up(self) -> None:
        """Close once the other side has read what it was told, or LINGER_S later. Closing at once could reset the
        connection while bytes of the client are still unread, and take the last words with it."""
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # it has reset the connection meanwhile
                self.transport.write_eof()
        else:  # encrypted: this writes everything, says that it is the end, and waits for the other side to say so, too
            self.transport.close()
        asyncio.get_running_loop().call_later(LINGER_S, self.cut)

    def cut(self) -> None:
        """That was long enough."""
        self.transport.abort()

    def eof_received(self) -> bool:
        """The client has said all it will. What it asked for is still answered, then the connection closes."""
        if self.closing:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Close once what was asked for has been answered."""
        self.session.finish()


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The other side's address; "" for one that has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def socket_of(transport: asyncio.Transport) -> int:
    """The file of a transport that sends bytes as they are, -1 for any other."""
    sock = transport.get_extra_info("socket")
    return -1 if sock is None or encrypts(transport) else int(sock.fileno())


def encrypts(transport: asyncio.BaseTransport) -> bool:
    return transport.get_extra_info("sslcontext") is not None


def nowhere(data: bytes) -> None:
    """For what is written to a connection that is gone."""


def quicken(transport: asyncio.Transport) -> None:
    """No waiting for full packets, a peer that has vanished is noticed within two minutes, and one that does not read
    fills no more than SEND_BUFFER: left to itself Linux would let it have 4 MiB."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
