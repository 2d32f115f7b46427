"""A model server on loopback that does exactly what a test tells it, however wrong, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Script:
    """Plays `acts`, the last one again and again."""

    acts: list[Act]
    port: int = 0
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a question has come."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection came to its end, from either side."""

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
            self.asked.append(Asked(head[0], headers, body))
            self.reached.set()
            act = asyncio.ensure_future(self.acts[min(len(self.asked), len(self.acts)) - 1](writer))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([act, gone], return_when=asyncio.FIRST_COMPLETED)
            for task in (act, gone):
                task.cancel()
            await asyncio.wait([act, gone])
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.left.set()


@contextlib.asynccontextmanager
async def playing(*acts: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[Script]:
    script = Script(list(acts), scheme="https" if tls else "http")
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


def piece(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}]})


def end(reason: str = "stop") -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def cost(prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"choices": [], "usage": usage})


DONE = b"data: [DONE]\n\n"


def event(found: object) -> bytes:
    return b"data: " + json.dumps(found).encode() + b"\n\n"


def streams(*parts: bytes, kind: str = "text/event-stream", then: str = "end") -> Act:
    """Send `parts` one after the other, each a chunk; `then` end the answer, `cut` the connection, or `wait`."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for part in parts:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0)
        if then == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif then == "wait":
            await asyncio.Event().wait()

    return act


def bytewise(*parts: bytes) -> Act:
    return streams(*(bytes([byte]) for byte in b"".join(parts)))


def heartbeats(*parts: bytes, every_s: float = 0.01) -> Act:
    """`parts`, and then nothing but comments, for ever."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(parts))
        while True:
            writer.write(b": still here\n\n")
            await writer.drain()
            await asyncio.sleep(every_s)

    return act


def says(status: str, body: object = "", **headers: str) -> Act:
    """A plain answer: `status` is `404 Not Found`; a body that is no text is sent as JSON."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{named}\r\n".encode() + raw)
        await writer.drain()

    return act


def sends(raw: bytes) -> Act:
    """These bytes, and the connection is closed."""

    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return act


async def silent(writer: asyncio.StreamWriter) -> None:
    """Nothing, for ever."""
    await asyncio.Event().wait()
