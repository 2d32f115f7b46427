"""Bytes, right or wrong, and what comes back for them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import dataclass, field
from typing import Any, Self

from support.inbox import WAIT_S

HANDSHAKE = {
    "host": "localhost",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Wire:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def end(self) -> None:
        self.writer.write_eof()

    async def rest(self, within_s: float = WAIT_S) -> bytes:
        """Everything until the server closes, which must be soon."""
        data = b""
        try:
            async with asyncio.timeout(within_s):
                while piece := await self.reader.read(65536):
                    data += piece
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"still open after {within_s} s; it said {data!r}") from None
        return data

    async def response(self) -> Response:
        """The next HTTP response, by its content-length (or to the end)."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            status = int(first.split()[1])
            if status == 101:
                return Response(status, headers)
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
            return Response(status, headers, body)

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame of the server: its first byte and its payload."""
        async with asyncio.timeout(WAIT_S):
            first, length = await self.reader.readexactly(2)
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            return first, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """Read frames until the close frame; its code. The connection must end after it."""
        while True:
            first, payload = await self.frame()
            if first == 0x88:
                await self.rest(within_s=3)
                return int.from_bytes(payload[:2], "big")

    async def upgrade(self, path: str = "/ws", also: bytes = b"") -> None:
        """Become a WebSocket; `also` goes out in the same segment as the handshake."""
        self.send(request("GET", path, HANDSHAKE) + also)
        assert (await self.response()).status == 101

    def cut(self) -> None:
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request."""
    fields = {"host": "localhost", **(headers or {})}
    if body:
        fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body


def ws_frame(first: int, payload: bytes, *, masked: bool = True, length: bytes | None = None) -> bytes:
    """A client's WebSocket frame; `length` in place of the right length bytes."""
    if length is None:
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    if not masked:
        return bytes([first]) + length + payload
    key = os.urandom(4)
    hidden = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + key + hidden


def ws_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()
