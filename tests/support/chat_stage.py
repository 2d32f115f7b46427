"""A small server for `POST /chat` that plays what a test wrote for it, the wrong lines too."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Self

CHUNKED = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
PIECES = ("Hello, ", "how ", "are you?")


class Scene:
    """One question, and the means to answer it."""

    def __init__(
        self, asked: dict[str, str], headers: dict[str, str], number: int, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self.headers = headers
        self.number = number  # of the question, from 0 on
        self._writer = writer

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    def head(self, status: int = 200, more: bytes = CHUNKED) -> None:
        self.raw(b"HTTP/1.1 %d Thus\r\n%b\r\n" % (status, more))

    def chunk(self, data: bytes) -> None:
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, name: str, type: str | None = None, **data: Any) -> None:
        said = json.dumps({"type": type or name, **data})
        self.chunk(f"event: {name}\ndata: {said}\n\n".encode())

    def connected(self, conversation: str = "c1") -> None:
        self.head()
        self.event("connected", conversation_id=conversation, message_id="m1", status="connected")

    def pieces(self, *pieces: str) -> None:
        for piece in pieces or PIECES:
            self.event("message", "partial_response", content=piece)

    def complete(self, content: str = "".join(PIECES)) -> None:
        self.event("message", "complete", content=content)

    def completed(self, content: str = "".join(PIECES), total: int = 2, conversation: str = "c1") -> None:
        self.event("completed", conversation_id=conversation, message_content=content, total_messages=total)

    def end(self) -> None:
        self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        self._writer.close()

    def well(self, total: int = 2) -> None:
        """The whole answer, as it should be."""
        self.connected()
        self.pieces()
        self.complete()
        self.completed(total=total)
        self.end()


Play = Callable[[Scene], Awaitable[None]]


class ChatStage:
    """Several connections at once; on each, one question after the other."""

    def __init__(self, play: Play, tls: ssl.SSLContext | None = None) -> None:
        self._play = play
        self._tls = tls
        self.scenes: list[Scene] = []
        self._another = asyncio.Event()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def asked(self, times: int) -> None:
        """Wait until there have been so many questions."""
        while len(self.scenes) < times:
            self._another.clear()
            await self._another.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = [line.partition(": ") for line in head.splitlines()[1:] if line]
                headers = {name.lower(): value for name, _, value in lines}
                body = await reader.readexactly(int(headers["content-length"]))
                scene = Scene(json.loads(body), headers, len(self.scenes), writer)
                self.scenes.append(scene)
                self._another.set()
                await self._play(scene)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
