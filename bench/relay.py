"""Stands between a model server and whoever asks it: writes down when a question came and when each piece went out.

`python -m bench.relay MODEL_PORT TOKENS PER_S` prints its port. It asks for TOKENS tokens whatever it was asked for,
and hands the model's own events on unchanged, but no faster than PER_S of them a second for each answer: the tiny model
writes thousands, a real one some dozens. On a line of input it prints what it has written down, and forgets it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from bench.replay import until
from hubbub import process

QUESTION = re.compile(r"question-[\w-]+")
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
)


def content(event: bytes) -> str:
    """The text in one event of a Chat Completions stream; empty when it carries none."""
    data = event.removeprefix(b"data:").strip()
    if not data.startswith(b"{"):
        return ""
    choices = json.loads(data).get("choices")
    return (choices[0].get("delta", {}).get("content") or "") if choices else ""


class Relay:
    """Listens. `record` has for each question when it came, and for each piece the code points so far and when it
    left, by time.monotonic(), which is the same in every process of a machine."""

    def __init__(self, model_port: int, tokens: int, per_s: float) -> None:
        self.record: dict[str, dict[str, Any]] = {}
        self.wrong: list[str] = []
        self._model_port = model_port
        self._tokens = tokens
        self._per_s = per_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError) as failure:
            self.wrong.append(f"the relay: {type(failure).__name__} {failure}")
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        came = time.monotonic()
        if not head.startswith(b"POST /v1/chat/completions "):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        asked = json.loads(body)
        question = QUESTION.findall(json.dumps(asked["messages"]))[-1]
        asked |= {"max_tokens": self._tokens, "temperature": 1.0}
        answer: dict[str, Any] = {"came": came, "left": [], "text": ""}
        self.record[question] = answer
        writer.write(HEAD)
        first = 0.0
        async with aclosing(self._ask(json.dumps(asked).encode())) as events:
            async for event in events:
                if text := content(event):
                    first = first or time.monotonic()
                    if self._per_s:
                        await until(first + len(answer["left"]) / self._per_s)
                    answer["text"] += text
                    answer["left"].append((len(answer["text"]), time.monotonic()))
                writer.write(event)

    async def _ask(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The events of the model's answer, each with the blank line that ends it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._model_port)
        try:
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head or b"transfer-encoding: chunked" not in head:
                raise ValueError(f"the model answered {head!r}")
            held = b""
            while size := int(await reader.readline(), 16):
                held += (await reader.readexactly(size + 2))[:-2]
                *events, held = held.split(b"\n\n")
                for event in events:
                    yield event + b"\n\n"
        finally:
            writer.close()


async def main(model_port: int, tokens: int, per_s: float) -> None:
    relay = Relay(model_port, tokens, per_s)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps({"rate": 0, "record": relay.record, "void": ". ".join(relay.wrong[:3])}), flush=True)
        relay.record, relay.wrong = {}, []


if __name__ == "__main__":
    process.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
