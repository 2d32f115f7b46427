"""Bytes to a server and back: TCP, and binary WebSocket messages, both as length-prefixed frames.

A pipe only moves payloads. Whatever ends it is one exception, `Lost`, with a reason for a person.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Protocol

from hubbub.client.address import Address
from hubbub.client.trust import Trust
from hubbub.core.errors import Problem, TooLarge, Unavailable
from hubbub.core.framing import MAX_FRAME_BYTES, Splitter, prefixed

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

READ_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 8 * MAX_FRAME_BYTES
"""Longest WebSocket message read: a server may put many frames into one."""


class Lost(Exception):
    """The connection is over; a later one may go on. `retry_after`: seconds, if the server said so."""

    def __init__(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        resume: bool = True,
        problem: Problem | None = None,
        prompted: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.resume = resume
        self.problem = problem  # a refusal by the server, where it gave one
        self.prompted = prompted  # the server took this client for a person at a terminal


class Pipe(Protocol):
    async def receive(self) -> list[bytes]:
        """The next payloads, at least one. Raises Lost. Not reading is what slows the server down."""

    async def send(self, payloads: list[bytes]) -> None:
        """Write them in one go and wait while the peer does not read. Raises Lost."""

    async def close(self) -> None:
        """Never raises, and never waits long."""


async def open_pipe(address: Address, trust: Trust) -> Pipe:
    """Connect. The caller limits the time. Raises Lost with why not, in words; BadRequest: nobody to trust."""
    tls = trust.context() if address.encrypted else None
    try:
        if address.framed:
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
            return TcpPipe(reader, writer)
        return await WebSocketPipe.open(address, tls)
    except ssl.SSLError as wrong:
        reason = _why_not_encrypted(address, wrong)
        raise Lost(reason, problem=Unavailable(f"Cannot connect: {reason}.")) from None
    except OSError as wrong:
        raise Lost(_in_words(address, wrong)) from None


class TcpPipe:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter()
        self._spoken = False

    async def receive(self) -> list[bytes]:
        while True:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError as wrong:
                raise Lost(_plain(wrong)) from None
            if not data:
                raise Lost("the server closed the connection")
            if not self._spoken and data[0] != 0:
                # A frame of at most 1 MiB begins with 0x00; this is the prompt for a person.
                raise Lost("the server took this client for a person with a terminal", prompted=True)
            self._spoken = True
            try:
                if payloads := self._splitter.feed(data):
                    return payloads
            except TooLarge as wrong:
                raise Lost(f"the server broke the framing: {wrong.detail}") from None

    async def send(self, payloads: list[bytes]) -> None:
        try:
            self._writer.write(b"".join(map(prefixed, payloads)))
            await self._writer.drain()
        except OSError as wrong:
            raise Lost(_plain(wrong)) from None

    async def close(self) -> None:
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)
        except (OSError, TimeoutError):
            self._writer.transport.abort()


class WebSocketPipe:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, address: Address, tls: ssl.SSLContext | None) -> WebSocketPipe:
        # Imported here: who speaks TCP should not pay for it.
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

        try:
            return cls(
                await connect(
                    str(address),
                    ssl=tls,
                    compression=None,
                    proxy=None,
                    ping_interval=None,  # the client's own ping also proves that the server answers
                    open_timeout=None,
                    close_timeout=1.0,
                    max_size=MAX_MESSAGE_BYTES,
                    max_queue=2,
                )
            )
        except InvalidStatus as wrong:
            code = wrong.response.status_code
            raise Lost(f"{address} answered HTTP {code} instead of a WebSocket") from None
        except (InvalidMessage, InvalidHandshake):
            raise Lost(f"{address} does not speak WebSocket") from None

    async def receive(self) -> list[bytes]:
        from websockets.exceptions import ConnectionClosed

        while True:
            try:
                data = await self._socket.recv(decode=False)
            except (ConnectionClosed, OSError) as wrong:
                raise Lost(_plain(wrong)) from None
            splitter = Splitter()
            try:
                payloads = splitter.feed(data)
            except TooLarge as wrong:
                raise Lost(f"the server broke the framing: {wrong.detail}") from None
            if splitter.unfinished:
                raise Lost("the server broke the framing: a message ends inside a frame")
            if payloads:
                return payloads

    async def send(self, payloads: list[bytes]) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(b"".join(map(prefixed, payloads)))
        except (ConnectionClosed, OSError) as wrong:
            raise Lost(_plain(wrong)) from None

    async def close(self) -> None:
        from websockets.exceptions import WebSocketException

        try:
            await self._socket.close()
        except (OSError, WebSocketException):
            self._socket.transport.abort()


def _plain(wrong: Exception) -> str:
    if isinstance(wrong, OSError) and wrong.strerror:
        return wrong.strerror.lower()
    return "the server closed the connection" if not str(wrong) else str(wrong)


def _in_words(address: Address, wrong: OSError) -> str:
    if isinstance(wrong, socket.gaierror):
        return f"there is no host named {address.host}"
    if isinstance(wrong, ConnectionRefusedError) or "Connect call failed" in str(wrong):
        return f"nothing listens on {address}"
    return f"{address} cannot be reached ({_plain(wrong)})"


def _why_not_encrypted(address: Address, wrong: ssl.SSLError) -> str:
    if isinstance(wrong, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} cannot be trusted ({wrong.verify_message.rstrip('.')}). "
            "When it is your own, give the certificate of whoever signed it with --ca FILE"
        )
    return f"{address} does not speak TLS ({(wrong.reason or str(wrong)).replace('_', ' ').lower()})"
