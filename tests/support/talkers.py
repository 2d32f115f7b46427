"""Clients that speak frames both ways: over TCP with length prefixes, over a WebSocket in text or binary."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.inbox import WAIT_S, Frame, Inbox, Over

TALKERS = ("text", "binary", "framed")


def prefixed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


class Talker(Inbox):
    """A connection that asks and hears."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = itertools.count(1)
        self.welcome: Frame = {}

    async def send_payload(self, payload: bytes) -> None:
        """One frame's bytes, right or wrong, in correct framing."""
        raise NotImplementedError

    def cut(self) -> None:
        """End the connection without a word."""
        raise NotImplementedError

    async def close(self) -> None:
        self.cut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.send_payload(json.dumps({"type": kind, **fields}).encode())

    async def ask(self, kind: str, **fields: Any) -> Frame:
        """Send a request and take its reply (of `check`, the last frame)."""
        id = next(self._ids)
        await self.send(kind, id=id, **fields)
        return await self.take(None, lambda frame: frame["type"] != "message", id=id)

    async def hello(self, user: str | None = None, **fields: Any) -> Frame:
        who = {} if user is None else {"user": user}
        self.welcome = await self.ask("hello", **who, **fields)
        assert self.welcome["type"] == "welcome", self.welcome
        return self.welcome

    async def write(self, to: str, text: str, **fields: Any) -> Frame:
        """A private message: its acknowledgement."""
        ack = await self.ask("message.send", to=to, text=text, **fields)
        assert ack["type"] == "ack", ack
        return ack

    async def post(self, thread: str, text: str, **fields: Any) -> Frame:
        ack = await self.ask("message.send", thread=thread, text=text, **fields)
        assert ack["type"] == "ack", ack
        return ack

    async def group(self, *members: str, **fields: Any) -> str:
        """A new thread with these others: its id."""
        reply = await self.ask("thread.create", members=list(members), **fields)
        assert reply["type"] == "thread", reply
        id: str = reply["thread"]["id"]
        return id


class FramedClient(Talker):
    """TCP, length-prefixed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None) -> Self:
        sock = await to(port, receive_buffer)
        limit = 1 << 24 if receive_buffer is None else 4096
        return cls(*await asyncio.open_connection(sock=sock, limit=limit, **encrypted(tls)))

    async def send_payload(self, payload: bytes) -> None:
        self.writer.write(prefixed(payload))
        await self.writer.drain()

    async def _read(self) -> Frame:
        try:
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            frame: Frame = json.loads(await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            raise Over(str(end)) from None
        return frame

    def cut(self) -> None:
        self.writer.transport.abort()


class WsClient(Talker):
    """A WebSocket, in text or in binary."""

    def __init__(self, socket: ClientConnection, *, binary: bool) -> None:
        super().__init__()
        self.socket = socket
        self.binary = binary
        self._unread: list[bytes] = []
        self._spoken_to = False

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        binary: bool = False,
        path: str = "/ws",
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        **more: Any,
    ) -> Self:
        sock = await to(port, receive_buffer)
        quiet: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
        quiet["max_queue"] = None if receive_buffer is None else 1
        uri = f"wss://localhost:{port}{path}" if tls else f"ws://127.0.0.1:{port}{path}"
        return cls(await connect(uri, sock=sock, ssl=tls, **quiet, **more), binary=binary)

    async def send_payload(self, payload: bytes) -> None:
        await self.send_message(prefixed(payload) if self.binary else payload, text=not self.binary)

    async def send_message(self, data: bytes, *, text: bool = False) -> None:
        """One WebSocket message as it is."""
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(data, text=text)

    async def _read(self) -> Frame:
        if not self._unread:
            try:
                data = await self.socket.recv()
            except ConnectionClosed as end:
                raise Over(str(end)) from None
            if isinstance(data, str):
                # A server that has not read its hello yet cannot know in which kind to say goodbye.
                early = not self._spoken_to and '"type":"bye"' in data
                assert early or not self.binary, "a text message came to somebody who speaks binary"
                self._unread.append(data.encode())
            else:
                assert self.binary, "a binary message came to somebody who speaks text"
                self._unread += split(data)
        self._spoken_to = True
        frame: Frame = json.loads(self._unread.pop(0))
        return frame

    async def closing(self) -> tuple[int, str]:
        """Wait for the end: the close code and its reason."""
        await self.drain()
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""

    def cut(self) -> None:
        self.socket.transport.abort()

    async def close(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.socket.close()


def split(data: bytes) -> list[bytes]:
    """The payloads of a binary message; it must hold whole frames only."""
    payloads = []
    while data:
        length = int.from_bytes(data[:4], "big")
        assert len(data) >= 4 + length, "a binary message ends inside a frame"
        payloads.append(data[4 : 4 + length])
        data = data[4 + length :]
    return payloads


async def to(port: int, receive_buffer: int | None = None) -> socket.socket:
    """A connected socket; with `receive_buffer`, one that holds as little as the system allows."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


def encrypted(tls: ssl.SSLContext | None) -> dict[str, Any]:
    """What asyncio takes to speak TLS to this machine."""
    return {"ssl": tls, "server_hostname": "localhost"} if tls else {}
