"""Asks a model, directly or through a server in front of it, and writes down when each piece of the answer arrives.

`python -m bench.asker KIND PORT TCP_PORT AT_ONCE [KEY]`: `chat` asks by Chat Completions, on a connection for each
question; `ws`, `tcp` and `sse` ask Hubbub's assistant, each member in a private thread and on one connection; with
`sse` the question is posted over REST. On a line of input all ask at once, and are answered by a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.relay import content
from hubbub import process
from hubbub.core.framing import Splitter, prefixed

WITHIN_S = 120.0
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEAD_END = b"\r\n\r\n"


def masked(payload: bytes) -> bytes:
    """A WebSocket text message from a client; its mask is zero, so nothing is masked."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + payload


def post(path: str, body: dict[str, Any], key: str = "") -> bytes:
    payload = json.dumps(body).encode()
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{bearer}"
    return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(payload), payload)


class Ear(asyncio.Protocol):
    """One connection that hears answers. `arrived` has the code points so far and the moment, for each piece."""

    def __init__(self, kind: str) -> None:
        self.arrived: list[tuple[int, float]] = []
        self.text = ""
        self.wrong = ""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kind = kind
        self._splitter = Splitter()
        self._head = kind != "tcp"  # of HTTP, still to come
        self._held = b""

    def expect(self) -> asyncio.Future[None]:
        self.arrived, self.text = [], ""
        self.ended = asyncio.get_running_loop().create_future()
        return self.ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(self.ended)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        try:
            for payload in self._payloads(data):
                self._hear(payload, now)
        except (ValueError, LookupError) as failure:
            self.wrong = f"{type(failure).__name__} {failure} in {data[:200]!r}"
            self._end(self.ended)

    def _payloads(self, data: bytes) -> Iterator[bytes]:
        if self._kind == "tcp":
            yield from self._splitter.feed(data)
            return
        self._held += data
        if self._head:
            head, end, rest = self._held.partition(HEAD_END)
            if not end:
                return
            if head.split(b" ", 2)[1] not in (b"101", b"200"):
                raise ValueError("refused")
            self._head, self._held = False, rest
            self._end(self.ready)
        if self._kind == "ws":
            while (frame := self._frame()) is not None:
                yield frame
            return
        *events, self._held = self._held.split(b"\n\n")
        for event in events:  # the lengths of chunks, where there are any, stand between events
            at = event.find(b"data:")
            if at >= 0:
                yield event[at:]

    def _frame(self) -> bytes | None:
        """The next message of a server, which is whole and not masked."""
        held = self._held
        if len(held) < 10 and (len(held) < 2 or len(held) < 2 + {126: 2, 127: 8}.get(held[1], 0)):
            return None
        start = 2 + {126: 2, 127: 8}.get(held[1], 0)
        length = int.from_bytes(held[2:start], "big") if start > 2 else held[1]
        if len(held) < start + length:
            return None
        self._held = held[start + length :]
        return held[start : start + length]

    def _hear(self, payload: bytes, now: float) -> None:
        if self._kind == "chat":
            if payload.endswith(b"[DONE]"):
                self._end(self.ended)
            else:
                self._add(content(payload), now)
            return
        if self._kind == "sse":
            payload = payload.removeprefix(b"data:")
        frame = json.loads(payload)
        if frame["type"] == "run.delta":
            if frame["offset"] != len(self.text):
                self.wrong = f"a piece began at {frame['offset']}, not at {len(self.text)}"
            self._add(frame["text"], now)
        elif frame["type"] == "welcome":
            self._end(self.ready)
        elif frame["type"] == "run.completed":
            self._end(self.ended)
        elif frame["type"] in ("run.failed", "error", "bye"):
            raise ValueError("refused")

    def _add(self, text: str, now: float) -> None:
        if text:
            self.text += text
            self.arrived.append((len(self.text), now))

    @staticmethod
    def _end(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


class Asker:
    """One who asks, as `name`."""

    def __init__(self, kind: str, port: int, tcp_port: int, name: str, key: str) -> None:
        self._kind = kind
        self._port = port
        self._tcp_port = tcp_port
        self._name = name
        self._key = key

    async def arrive(self) -> None:
        """Connect and be welcome."""
        if self._kind == "chat":
            return
        port = self._tcp_port if self._kind == "tcp" else self._port
        self._ear = await self._dial(port)
        hello = json.dumps({"type": "hello", "user": self._name}).encode()
        if self._kind == "sse":
            self._ear.transport.write(f"GET /api/events?user={self._name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        elif self._kind == "ws":
            self._ear.transport.write(UPGRADE + masked(hello))
        else:
            self._ear.transport.write(prefixed(hello))
        await self._ear.ready

    async def ask(self, question: str) -> dict[str, Any]:
        """When it was sent, and what came when."""
        sent = time.monotonic()
        if self._kind == "chat":
            self._ear = await self._dial(self._port)
            body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": question}]}
            self._ear.transport.write(post("/v1/chat/completions", body, self._key))
            ended = self._ear.ended
        else:
            ended = self._ear.expect()
            asked: dict[str, Any] = {"to": "openai", "text": question}
            if self._kind == "sse":
                dial = asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", self._port)
                mouth = (await dial)[0]
                mouth.write(post(f"/api/messages?user={self._name}", asked))
            else:
                payload = json.dumps({"type": "message.send", **asked}).encode()
                self._ear.transport.write(masked(payload) if self._kind == "ws" else prefixed(payload))
        await ended
        if self._kind == "chat":
            self._ear.transport.close()
        elif self._kind == "sse":
            mouth.close()
        if self._ear.wrong:
            raise ValueError(self._ear.wrong)
        return {"sent": sent, "arrived": self._ear.arrived, "text": self._ear.text}

    async def _dial(self, port: int) -> Any:
        return (await asyncio.get_running_loop().create_connection(lambda: Ear(self._kind), "127.0.0.1", port))[1]


async def main(kind: str, port: int, tcp_port: int, at_once: int, key: str) -> None:
    askers = [Asker(kind, port, tcp_port, f"{kind}{at_once}x{number}", key) for number in range(at_once)]
    for asker in askers:
        await asker.arrive()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    round_number = 0
    print(json.dumps({"void": ""}), flush=True)
    while await lines.readline():
        round_number += 1
        names = [f"question-{kind}-{at_once}-{round_number}-{number}" for number in range(at_once)]
        used, began = time.process_time(), time.monotonic()
        void, answers = "", []
        try:
            async with asyncio.timeout(WITHIN_S):
                answers = await asyncio.gather(*(asker.ask(name) for asker, name in zip(askers, names, strict=True)))
        except (TimeoutError, OSError, ValueError) as failure:
            void = f"{kind}: {type(failure).__name__} {failure}"
        told = {
            "rate": sum(len(answer["arrived"]) for answer in answers) / (time.monotonic() - began),
            "cpu_s": time.process_time() - used,
            "answers": dict(zip(names, answers, strict=False)),
            "void": void,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    process.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), "".join(sys.argv[5:])))
