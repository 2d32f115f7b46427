"""What people connect with, each in the fewest lines: written from the protocol page, not from our own client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import websockets

PATIENCE_S = 20


class Reader:
    """Collects what one connection is told, whatever carries it."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hear(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        self._more.set()

    async def until(self, wanted: Any) -> dict[str, Any]:
        """The first frame, heard already or not, for which `wanted` is true."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for frame in self.frames:
                    if wanted(frame):
                        return frame
                if self._task is not None and self._task.done():
                    raise ConnectionError("the connection ended")
                self._more.clear()
                await self._more.wait()

    def answer(self, run: str) -> str:
        """The answer as its pieces make it, joined by the rule of the protocol."""
        text = ""
        for frame in self.frames:
            if frame["type"] == "run.delta" and frame["run"] == run:
                assert frame["offset"] <= len(text), "the server left a hole"
                text += frame["text"][len(text) - frame["offset"] :]
        return text

    def texts(self, thread: str) -> list[tuple[int, str]]:
        return [
            (frame["seq"], frame["message"]["text"])
            for frame in self.frames
            if frame["type"] == "message" and frame["thread"] == thread
        ]


class Framed(Reader):
    """A program on the TCP port."""

    async def connect(self, port: int, **hello: Any) -> Framed:
        self._in, self._out = await asyncio.open_connection("127.0.0.1", port)
        self._task = asyncio.create_task(self._read())
        self.send(type="hello", **hello)
        self.welcome = await self.until(lambda frame: frame["type"] in ("welcome", "error"))
        return self

    def send(self, **frame: Any) -> None:
        payload = json.dumps(frame).encode()
        self._out.write(len(payload).to_bytes(4, "big") + payload)

    async def _read(self) -> None:
        try:
            while True:
                size = int.from_bytes(await self._in.readexactly(4), "big")
                self.hear(json.loads(await self._in.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            asyncio.get_running_loop().call_soon(self._more.set)  # nothing more will come

    def cut(self) -> None:
        assert self._task is not None
        self._task.cancel()
        self._out.transport.abort()


class WebSocket(Reader):
    """A program on the WebSocket, in text messages."""

    async def connect(self, port: int, **hello: Any) -> WebSocket:
        self._socket = await websockets.connect(f"ws://127.0.0.1:{port}/ws", compression=None)
        self._task = asyncio.create_task(self._read())
        await self.send(type="hello", **hello)
        self.welcome = await self.until(lambda frame: frame["type"] in ("welcome", "error"))
        return self

    async def send(self, **frame: Any) -> None:
        await self._socket.send(json.dumps(frame))

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                self.hear(json.loads(message))
        except websockets.ConnectionClosed:
            return

    async def close(self) -> None:
        await self._socket.close()


class Stream(Reader):
    """A listener to server-sent events, over a bare socket."""

    async def connect(self, port: int, path: str, last_event_id: str = "") -> Stream:
        self.ids: list[str] = []
        self._in, self._out = await asyncio.open_connection("127.0.0.1", port)
        more = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
        self._out.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode())
        head = await self._in.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        try:
            while True:
                for line in (await self._in.readuntil(b"\n\n")).decode().splitlines():
                    if line.startswith("id: "):
                        self.ids.append(line[4:])
                    elif line.startswith("data: "):
                        self.hear(json.loads(line[6:]))
        except (asyncio.IncompleteReadError, OSError):
            return

    def cut(self) -> None:
        assert self._task is not None
        self._task.cancel()
        self._out.transport.abort()


class Person:
    """Somebody with nc: types lines, sees text."""

    async def connect(self, port: int, name: str) -> Person:
        self.seen = ""
        self._in, self._out = await asyncio.open_connection("127.0.0.1", port)
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._read())
        await self.sees("Enter your username: ")
        self.types(name)
        await self.sees("Connected!")
        return self

    def types(self, line: str) -> None:
        self._out.write(line.encode() + b"\n")

    async def _read(self) -> None:
        while chunk := await self._in.read(4096):
            self.seen += chunk.decode()
            self._more.set()

    async def sees(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while text not in self.seen:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} never came; seen was {self.seen!r}") from None

    def leave(self) -> None:
        self._out.close()
