"""No bytes on any port crash, hang or leak: valid frames mutated, and garbage, on every transport of a real server.

Judged by rules of its own, not by the server's code: every reply is of the protocol, in the order of the requests, with
the request's id; what is no frame is answered with `bad_frame`; and at the end the database holds what was acknowledged
and nothing else. Two bystanders talk all the while. `HUBBUB_SEED` chooses another run, or repeats one that failed.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from pathlib import Path
from random import Random

import pytest

from support.crowds import client_frame, connections, own_kb
from support.garbage import BYTES, CODES, REPLIES, REQUEST_LINES, SEED, Unsure, judge, long, mutate, mutate_bytes, read
from support.inbox import Frame
from support.process import Server, running
from support.raw import Wire, request
from support.talkers import FramedClient, WsClient, prefixed

BATCH = 64
PONG = 0x8A
LONG = pytest.mark.long, pytest.mark.timeout(1800)
COUNTS = [10_000, pytest.param(1_000_000, marks=LONG)]


# What goes on beside it


class Town:
    """A server, two people who talk, a thread of theirs nobody else may see, and everything that was granted."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.slowest_s = 0.0
        self.said = 0
        self.messages: set[str] = set()  # ids acknowledged to the fuzzer
        self.threads: set[str] = {"lobby"}  # ids it was shown
        self.changes = 0  # of threads, granted

    async def begin(self) -> None:
        self.ann = await FramedClient.open(self.server.tcp_port)
        self.bob = await WsClient.open(self.server.port)
        await self.bob.hello("bob")
        await self.ann.hello("ann")
        self.square = await self.ann.group("bob", title="square")
        self.quiet = await self.ann.group("bob", title="quiet")
        for number in range(3):
            await self.ann.post(self.quiet, f"{number}")

    async def talk(self) -> None:
        """Until cancelled: each ack, and each delivery, within a second."""
        while True:
            began = time.monotonic()
            ack = await self.ann.post(self.square, f"still here {self.said}")
            while (await self.bob.take("message", thread=self.square))["seq"] != ack["seq"]:
                pass
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.said += 1
            # Something for people with nc to be shown, as long as nobody has put ann out of the lobby.
            await self.ann.ask("message.send", thread="lobby", text="\x1b[2J\x07\x9b\x7f")
            for one in (self.ann, self.bob):
                one.heard.clear()
                one._kept.clear()
            await asyncio.sleep(0.02)

    def granted(self, reply: Frame) -> None:
        kind = reply.get("type")
        if kind == "ack" or ("message" in reply and "delivery" in reply):
            self.messages.add(reply["message"])
            self.threads.add(reply["thread"])
        elif kind == "thread":
            self.threads.add(reply["thread"]["id"])
            self.changes += 1

    def check(self, mine: str) -> None:
        """The database holds what was granted, and nothing more."""
        db = sqlite3.connect(self.server.home / "hubbub.db")
        rows = db.execute("SELECT id, type FROM messages WHERE sender LIKE ?", (mine + "%",)).fetchall()
        stored = {id for id, _ in rows}
        assert self.messages <= stored, "acknowledged and lost"
        others = [kind for id, kind in rows if id not in self.messages]
        assert set(others) <= {"notification"}, "stored without an acknowledgement"
        assert len(others) <= self.changes
        threads = {id for (id,) in db.execute("SELECT id FROM threads")}
        assert threads == self.threads | {self.quiet, self.square}
        assert db.execute("SELECT count(*) FROM messages WHERE thread = ?", (self.quiet,)).fetchone() == (3,)
        members = db.execute("SELECT member FROM memberships WHERE thread = ?", (self.quiet,)).fetchall()
        assert {name for (name,) in members} == {"ann", "bob"}
        db.close()


def corpus(town: Town) -> list[Frame]:
    """Valid requests of each kind, many to the thread that is not the fuzzer's."""
    return [json.loads(line) for line in REQUEST_LINES.replace("QUIET", town.quiet).split("\n") if line]


# Frames: WebSocket text and binary, TCP


class Line:
    """One connection of the fuzzer that hears nothing but its replies."""

    def __init__(self, wire: Wire, kind: str) -> None:
        self.wire = wire
        self.kind = kind
        self.buffer = b""

    @classmethod
    async def open(cls, server: Server, kind: str) -> Line:
        self = cls(await Wire.open(server.tcp_port if kind == "framed" else server.port), kind)
        if kind != "framed":
            await self.wire.upgrade()
        return self

    def framed(self, payload: bytes) -> bytes:
        if self.kind == "framed":
            return prefixed(payload)
        if self.kind == "text":
            return client_frame("ws", payload)
        frame = bytearray(client_frame("ws", prefixed(payload)))
        frame[0] = 0x82
        return bytes(frame)

    async def frames(self) -> list[Frame]:
        """What has come; at least one. None when the connection ended."""
        while True:
            found = []
            while (payload := self._take()) is not None:
                found.append(json.loads(payload))
            if found:
                return found
            data = await self.wire.reader.read(1 << 18)
            if not data:
                raise EOFError
            self.buffer += data

    def _take(self) -> bytes | None:
        data = self.buffer
        head, length = 4, int.from_bytes(data[:4], "big")
        if self.kind != "framed":
            if len(data) < 2:
                return None
            head, length = 2, data[1]
            if length > 125:
                head = 4 if length == 126 else 10
                length = int.from_bytes(data[2:head], "big")
            if data[0] == 0x88:
                return None
        if len(data) < head or len(data) < head + length:
            return None
        self.buffer = data[head + length :]
        if self.kind != "framed" and data[0] == PONG:  # by chance it had sent a ping
            return self._take()
        return data[head + (4 if self.kind == "binary" else 0) : head + length]

    async def exchange(self, payloads: list[bytes], mark: str) -> list[Frame]:
        """Send all of them and a ping; the replies before the pong."""
        ping = json.dumps({"type": "ping", "id": mark}).encode()
        self.wire.send(b"".join(map(self.framed, [*payloads, ping])))
        replies: list[Frame] = []
        async with asyncio.timeout(10):
            while not replies or replies[-1].get("id") != mark:
                replies += await self.frames()
        return replies[:-1]


def broken(chance: Random, line: Line, frame: Frame) -> bytes:
    """Bytes whose framing is wrong, or that are cut off."""
    good = line.framed(json.dumps(frame).encode())
    match chance.randrange(5):
        case 0:
            return good[: chance.randrange(len(good))]
        case 1:
            return mutate_bytes(chance, good[:14]) + good[14:]
        case 2:
            return chance.randbytes(chance.choice((1, 3, 20, 500)))
        case 3 if line.kind == "text":
            return line.framed(b'{"type":"ping","id":"' + chance.choice(BYTES[:4]) + b'"}')
        case _:
            return bytes([chance.randrange(256)]) * 4 + good


def overlong(line: Line) -> bytes:
    """The beginning of a frame that is announced as longer than any may be."""
    return line.framed(long({}, 1 << 21))[:100]


async def fuzz_frames(town: Town, kind: str, count: int, chance: Random) -> None:
    done, number, token = 0, 0, None
    while done < count:
        line = await Line.open(town.server, kind)
        if number % 25 == 0:
            token = None
        name = f"mallory{number // 25}"
        number += 1
        who = {"token": token} if token else {"user": name}
        hello = json.dumps({"type": "hello", "threads": [], **who}).encode()
        [welcome] = await line.exchange([hello], "hello")
        assert welcome["type"] == "welcome", f"HUBBUB_SEED={SEED}: {welcome}"
        token = welcome["token"]
        frames = corpus(town)
        idle = [frame for frame in frames if frame.get("thread") == town.quiet or frame["type"] in ("ping", "who")]
        for batch in range(16):
            payloads = [mutate(chance, chance.choice(frames)) for _ in range(BATCH)]
            if kind == "text":
                payloads = [payload for payload in payloads if is_text(payload)]
            replies = await line.exchange(payloads, f"mark{batch}")
            replies = [reply for reply in replies if reply["type"] != "message"]  # parts of a `checked`
            assert len(replies) == len(payloads), f"HUBBUB_SEED={SEED}: {len(payloads)} sent, {len(replies)} answered"
            for payload, reply in zip(payloads, replies, strict=True):
                judge(payload, reply)
                town.granted(reply)
            done += len(payloads)
        if chance.random() < 0.2:
            line.wire.send(overlong(line))
        else:
            line.wire.send(broken(chance, line, chance.choice(idle)))  # if it is whole after all, it changes nothing
            line.wire.end()
        await ended(line)
        done += 1


def is_text(payload: bytes) -> bool:
    """A WebSocket itself has to end at what is not; that is for `broken`."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


async def ended(line: Line) -> None:
    """The server closes soon, and says nothing but frames before it."""
    try:
        async with asyncio.timeout(3):
            while True:
                for frame in await line.frames():
                    assert frame["type"] in {*REPLIES, "bye"}, frame
                    assert frame.get("code") in {None, "bye", *CODES}, frame
    except (EOFError, ConnectionError):
        pass
    except TimeoutError:
        raise AssertionError(f"HUBBUB_SEED={SEED}: still open after its framing was broken") from None
    finally:
        line.wire.cut()


# Lines


_LINES = b"""ann: hello|#lobby: hello all|nobody-yet: are you there|12:30 see you|http://example.com|nonsense|#: x|:
!check|!who|!threads|!help|!history ann|!history #lobby|!join lobby|!nothing|#quiet: let me in|ann: xxxxxxxxxxxxxxxx
\x1b[2Jann: clear|\xff\xfb\x01ann: telnet|ann\b\b\bbob: hi"""
LINES = _LINES.replace(b"\n", b"|").split(b"|")


async def fuzz_lines(town: Town, kind: str, count: int, chance: Random) -> None:
    done, number = 0, 0
    while done < count:
        wire = await Wire.open(town.server.tcp_port)
        wire.send(f"mallory{number % 50}-{number // 50 % 20}\n".encode())
        await shown(wire, b"Users online: ")
        number += 1
        for batch in range(16):
            typed = []
            while len(typed) < BATCH:
                line = mutate_bytes(chance, chance.choice(LINES))
                line = chance.randbytes(chance.choice((3, 40, 300))) if chance.random() < 0.1 else line
                if not any(piece.strip().lower().startswith(b"ex") for piece in line.split(b"\n")):  # not `exit`
                    typed.append(line)
            if chance.random() < 0.02:
                typed.append(b"ann: " + b"x" * 70_000)
            wire.send(b"\n".join([*typed, f"\n!mark{batch}\n".encode()]))
            said = await shown(wire, f"no command !mark{batch}".encode())
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said.decode()), f"HUBBUB_SEED={SEED}: {said[:500]!r}"
            done += len(typed)
        wire.cut()


async def shown(wire: Wire, text: bytes) -> bytes:
    said = b""
    try:
        async with asyncio.timeout(5):
            while text not in said:
                piece = await wire.reader.read(1 << 18)
                assert piece, f"HUBBUB_SEED={SEED}: closed after {said[-500:]!r}"
                said += piece
            if not said.endswith(b"\n"):
                said += await wire.reader.readline()
    except TimeoutError:
        raise AssertionError(f"HUBBUB_SEED={SEED}: {text!r} was not shown, but {said[-500:]!r}") from None
    return said


# Requests over HTTP


async def fuzz_bodies(town: Town, kind: str, count: int, chance: Random) -> None:
    routes: list[tuple[str, str, Frame]] = [
        ("POST", "/api/messages", {"to": "ann", "text": "hi", "metadata": {"a": 1}}),
        ("POST", "/api/threads/lobby/messages", {"text": "hi", "key": "the same", "message_type": "chat"}),
        ("POST", f"/api/threads/{town.quiet}/messages", {"text": "not mine"}),
        ("POST", "/api/threads", {"title": "t", "members": ["nobody-yet"], "public": False}),
        ("PATCH", f"/api/threads/{town.quiet}", {"title": "mine now"}),
        ("PUT", "/api/threads/lobby/seen", {"seq": 1}),
        ("POST", f"/api/threads/{town.quiet}/runs", {"assistant": "openai"}),
        ("POST", "/api/runs/nothing/cancel", {"x": 1}),
    ]
    done = 0
    while done < count:
        async with await Wire.open(town.server.port) as wire:
            for _ in range(16):
                asked = []
                for _ in range(8):
                    method, path, body = chance.choice(routes)
                    asked.append((method, f"{path}?user=mallory{done // 2000}", mutate(chance, body)))
                json_type = {"content-type": "application/json"}
                wire.send(b"".join(request(method, path, json_type, body) for method, path, body in asked))
                for _, path, body in asked:
                    said = await wire.response()
                    judge_response(path, body, said.status, said.headers, said.body)
                    if said.status == 201 and "delivery" in said.json:
                        town.granted(said.json)
                    elif said.status == 201:
                        town.granted({"type": "thread", "thread": said.json})
                    done += 1


def judge_response(path: str, body: bytes, status: int, headers: dict[str, str], answer: bytes) -> None:
    at = f"HUBBUB_SEED={SEED}: {path} {body[:300]!r} was answered with {status} {answer[:300]!r}"
    assert 200 <= status < 500, at
    if status >= 400:
        assert headers["content-type"] == "application/problem+json", at
        assert json.loads(answer)["code"] in CODES, at
    try:
        frame = read(body)
    except Unsure:
        return
    if frame is None and "/cancel" not in path:
        assert status >= 400, at


# Request heads of streams


HEADS = [b"GET /api/threads/lobby/events?user=mallory", b"GET /api/events?user=mallory", b"GET /api/events"]
HEADS += [b"GET /api/threads/QUIET/events?user=mallory", b"GET /api/threads/lobby/events"]
MORE = [b"", b"last-event-id: xxxx.1\r\n", b"last-event-id: x.1.run.1.5\r\n", b"last-event-id: x.lobby:1\r\n"]
MORE += [b"authorization: Bearer a.b.c\r\norigin: http://x\r\n", b"accept: text/event-stream\r\n"]


async def fuzz_heads(town: Town, kind: str, count: int, chance: Random) -> None:
    heads = [head.replace(b"QUIET", town.quiet.encode()) + b" HTTP/1.1\r\nhost: x\r\n" for head in HEADS]
    heads = [head + more + b"\r\n" for head in heads for more in MORE]

    async def one() -> None:
        head = mutate_bytes(chance, chance.choice(heads))
        if chance.random() < 0.05:
            head = chance.randbytes(chance.choice((1, 30, 300))) + b"\r\n\r\n"
        async with await Wire.open(town.server.port) as wire:
            wire.send(head)
            try:
                async with asyncio.timeout(0.3 if b"\r\n\r\n" in head else 0.001):
                    said = await wire.reader.read(1 << 16)
            except TimeoutError:  # it waits for the rest of something
                wire.end()
                try:
                    said = await wire.rest(5)
                except AssertionError as wrong:
                    raise AssertionError(f"HUBBUB_SEED={SEED}: {head!r}: {wrong}") from None
            except ConnectionError:
                said = b""
            at = f"HUBBUB_SEED={SEED}: {head!r} was answered with {said[:300]!r}"
            if said:
                assert re.match(rb"HTTP/1\.1 (200|4\d\d|1\d\d) ", said), at

    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(some() for _ in range(20)))


# The tests


async def gone(server: Server, open_before: int) -> None:
    """Wait until nothing is left of the fuzzer's connections."""
    ends = time.monotonic() + 10
    while (left := connections(server.pid) - open_before) > 0:
        assert time.monotonic() < ends, f"HUBBUB_SEED={SEED}: {left} connections are still open"
        await asyncio.sleep(0.1)


FUZZERS = {
    "text": fuzz_frames,
    "binary": fuzz_frames,
    "framed": fuzz_frames,
    "lines": fuzz_lines,
    "bodies": fuzz_bodies,
    "heads": fuzz_heads,
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", FUZZERS)
async def test_no_bytes_crash_hang_or_leak_and_what_was_refused_changed_nothing(
    tmp_path: Path, kind: str, count: int
) -> None:
    async with running(tmp_path / "home") as server:
        town = Town(server)
        await town.begin()
        talking = asyncio.create_task(town.talk())
        chance = Random(f"{SEED}/{kind}")
        fuzz = FUZZERS[kind]
        open_before = connections(server.pid)
        await fuzz(town, kind, count // 4, chance)
        before = own_kb(server.pid)
        began = time.monotonic()
        await fuzz(town, kind, count - count // 4, chance)
        took = time.monotonic() - began
        await gone(server, open_before)
        grown = (own_kb(server.pid) - before) / 1024
        assert not talking.done(), talking
        talking.cancel()
        await asyncio.wait([talking])
        print(
            f"{kind}: {count * 3 / 4 / took:,.0f}/s, {grown:.1f} MiB grown, {len(town.messages)} acks, "
            f"{town.changes} changes of threads, {town.said} said beside it, {town.slowest_s * 1000:.0f} ms at most"
        )
        assert grown < 32 + count * 400 / (1 << 20), "more than what was granted can account for"
        assert town.slowest_s < 1
        assert town.said > 5
        await server.kill()
        assert "Traceback" not in server.said, server.said[-3000:]
        assert "level=error" not in server.said, server.said[-3000:]
        if kind not in ("lines", "heads"):  # which are told nothing of what they did
            town.check("mallory")
