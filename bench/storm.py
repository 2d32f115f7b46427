"""A reconnect storm: thousands of members come back at the same moment, each for the same twenty messages.

Everybody dials at once, sends token and cursor behind the handshake without waiting, and is served when the welcome and
the last missed message are there, in order. The floor is a plain uvloop server that accepts the same connections and
answers each with the same number of bytes, made ready before.

`python -m bench.storm crowd …` is the generator, the crowd of the tests; `python -m bench.storm floor` is the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from bench import machine
from bench.house import house
from bench.options import Options
from bench.result import BUSY, Result, Void, compare
from bench.talker import Talker, talker

sys.path.append(str(machine.HERE.parent / "tests"))

COUNT = 5000
GOAL_S = 5.0
MISSED = 20
TEXT_BYTES = 120
LOBBY = "lobby"


def run(options: Options) -> Iterator[Result]:
    """Over WebSocket and over framed TCP."""
    for wire in ("ws", "tcp"):
        for count in options.readers or ((200,) if options.short else (COUNT,)):
            yield _storm(wire, count, options)


def _storm(wire: str, count: int, options: Options) -> Result:
    result = Result(
        "storm",
        f"{wire}, {count:,} come back for {MISSED}",
        "s",
        goal=GOAL_S if count == COUNT else None,
        less_is_better=True,
        goal_on="ours",
    )
    rounds = options.rounds or (1 if options.short else 5)
    try:
        with house() as server:
            post(server.tcp)
            with crowd(wire, count, server.http, server.tcp, server.pid) as ours, floor(wire) as (port, pid):
                with crowd(wire, count, port, port, pid) as theirs:
                    compare(result, rounds, lambda: storm(ours), lambda: storm(theirs))
                _note(result, ours, theirs, count)
    except Void as void:
        result.void = str(void)
    return result


def _note(result: Result, ours: Talker, theirs: Talker, count: int) -> None:
    each_us = [side.median("server_s") / count * 1e6 for side in (ours, theirs)]
    result.notes = {
        "server time a client": f"{each_us[0]:.0f}/{each_us[1]:.0f} µs",
        "server": f"{ours.median('server_cpu'):.0%}/{theirs.median('server_cpu'):.0%}",
        "generator": f"{ours.median('generator_cpu'):.0%}/{theirs.median('generator_cpu'):.0%}",
        "slowest round": f"{max(float(told['seconds']) for told in ours.told):.2f} s",
        "bytes": f"{ours.median('bytes'):,.0f}/{theirs.median('bytes'):,.0f}",
    }
    if ours.median("generator_cpu") > BUSY > ours.median("server_cpu"):
        result.void = "the generator's core was full and the server's was not: it measured itself"


def storm(side: Talker) -> float:
    """Seconds until the last one is served."""
    side.ask("storm")
    return float(side.told[-1]["seconds"])


@contextlib.contextmanager
def crowd(wire: str, count: int, port: int, tcp_port: int, pid: int) -> Iterator[Talker]:
    """A generator whose clients have all been welcome once."""
    command = [sys.executable, "-m", "bench.storm", "crowd", port, tcp_port, count, wire, pid]
    with talker(command, machine.LOAD_CORE) as made:
        made.hear()
        made.told.clear()
        yield made


@contextlib.contextmanager
def floor(wire: str) -> Iterator[tuple[int, int]]:
    """The plain server: its port and its process."""
    command = [sys.executable, "-m", "bench.storm", "floor", wire]
    process = machine.start(command, machine.SERVER_CORE, stdout=subprocess.PIPE)
    try:
        yield int(machine.line_from(process.stdout)), process.pid
    finally:
        machine.stop(process)


def post(tcp_port: int) -> None:
    """The messages that will have been missed."""
    with socket.create_connection(("127.0.0.1", tcp_port)) as sock, sock.makefile("rwb") as file:
        requests = [{"type": "hello", "user": "speaker", "threads": []}]
        requests += [{"type": "message.send", "thread": LOBBY, "text": text(seq)} for seq in range(1, MISSED + 1)]
        for request in requests:
            payload = json.dumps(request).encode()
            file.write(len(payload).to_bytes(4, "big") + payload)
        file.flush()
        for _ in requests:
            answer = json.loads(file.read(int.from_bytes(file.read(4), "big")))
            if answer["type"] not in ("welcome", "ack"):
                raise Void(f"the server said {answer}")


def text(seq: int) -> str:
    return f"message {seq} of those that were missed ".ljust(TEXT_BYTES, ".")


# The generator


@dataclass(frozen=True, slots=True)
class At:
    port: int
    tcp_port: int


def generate(port: int, tcp_port: int, count: int, wire: str, pid: int) -> None:
    """Join, cut everything, and on each line of input come back together."""
    from support.crowds import Crowd, connections

    at = At(port, tcp_port)
    with Crowd(at, goal=MISSED) as crowd:
        idle = connections(pid)
        crowd.add(count, wire, "member")
        began = time.monotonic()
        crowd.join(crowd.clients, 60)
        tell(seconds=time.monotonic() - began, void=". ".join(crowd.wrong + crowd.refused))
        for _ in sys.stdin:
            crowd.cut(crowd.clients)
            while connections(pid) > idle:  # until the server has noticed
                time.sleep(0.05)
            crowd.served = crowd.messages = crowd.bytes = 0
            for client in crowd.clients:
                client.cursor = 0
            used, server_s, began = time.process_time(), cpu_of(pid), time.monotonic()
            crowd.dial(crowd.clients)
            crowd.until(lambda: crowd.served == count or bool(crowd.wrong or crowd.refused), 60)
            seconds = time.monotonic() - began
            server_s = cpu_of(pid) - server_s
            tell(
                rate=count / seconds,
                seconds=seconds,
                bytes=crowd.bytes / count,
                server_s=server_s,
                server_cpu=server_s / seconds,
                generator_cpu=(time.process_time() - used) / seconds,
                void=". ".join((crowd.wrong + crowd.refused)[:3]),
            )


def tell(**told: object) -> None:
    print(json.dumps(told), flush=True)


def cpu_of(pid: int) -> float:
    """Seconds a process has had on a core."""
    return machine.core_time(pid)[0]


# The floor


class Ready(asyncio.Protocol):
    """Answers the first bytes of a connection with what is ready."""

    def __init__(self, welcome: bytes, everything: bytes) -> None:
        self._welcome = welcome
        self._everything = everything

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._everything if b'"resume"' in data else self._welcome)


def ready(wire: str) -> tuple[bytes, bytes]:
    """A welcome, and one with the missed messages behind it, in frames like ours."""
    frame = json.dumps(
        {
            "type": "welcome",
            "user": "member00000",
            "token": "x" * 260,
            "session": "x" * 12,
            "server": {"name": "hubbub", "version": "0.1.0", "time": "2026-01-01T00:00:00.000Z", "epoch": "x" * 16},
            "threads": [{"id": LOBBY, "title": LOBBY, "members": ["member00000"] * 50, "head": MISSED, "seen": 0}],
            "limits": dict.fromkeys(("frame_bytes", "text_bytes", "metadata_bytes", "key_characters"), 1 << 20),
        },
        separators=(",", ":"),
    ).encode()
    messages = [
        json.dumps(
            {
                "type": "message",
                "thread": LOBBY,
                "seq": seq,
                "message": {
                    "id": f"{seq}-{'x' * 11}",
                    "thread": LOBBY,
                    "seq": seq,
                    "sender": "speaker",
                    "destination": LOBBY,
                    "type": "chat",
                    "text": text(seq),
                    "timestamp": "x" * 24,
                    "metadata": {},
                    "reply_to": None,
                    "run": None,
                },
                "stored": True,
            },
            separators=(",", ":"),
        ).encode()
        for seq in range(1, MISSED + 1)
    ]
    head = b"" if wire == "tcp" else b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" + b"\r\n"
    first = head + framed(wire, frame)
    return first, first + b"".join(framed(wire, message) for message in messages)


def framed(wire: str, payload: bytes) -> bytes:
    if wire == "tcp":
        return len(payload).to_bytes(4, "big") + payload
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


async def serve(wire: str) -> None:
    welcome, everything = ready(wire)
    server = await asyncio.get_running_loop().create_server(
        lambda: Ready(welcome, everything), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    generator = roles.add_parser("crowd")
    for name, kind in (("port", int), ("tcp_port", int), ("count", int), ("wire", str), ("pid", int)):
        generator.add_argument(name, type=kind)
    roles.add_parser("floor").add_argument("wire")
    asked = parser.parse_args()
    if asked.role == "floor":
        import uvloop

        uvloop.run(serve(asked.wire))
    else:
        generate(asked.port, asked.tcp_port, asked.count, asked.wire, asked.pid)


if __name__ == "__main__":
    main()
