"""A soak: everybody comes and goes on every transport, and at the end nothing of them is left and nothing has grown.

The population is fixed, so that what the server may keep (its members, the log on disk) does not pass for a leak. It is
looked at only when everybody has left: then every count is to be what it was, and what the memory has gained between
one such moment and the next is growth.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
import websockets

from hubbub.hub import asking, sweep
from support.crowds import connections, own_kb
from support.inbox import Over
from support.lines import PROMPT, LineClient
from support.listeners import SseReader
from support.process import running
from support.raw import Wire
from support.server import no_tracebacks, serving
from support.talkers import TALKERS, FramedClient, Talker
from support.witness import Ports, connect

SEED = int(os.environ.get("HUBBUB_SEED", "1"))
WORKERS = 16
ROUND_S = 12.0
WARM_S = 150.0
LEFT = (Over, OSError, EOFError, websockets.ConnectionClosed, websockets.InvalidMessage)
TOLD_TO_SWEEP = """
import apsw, ctypes, gc, signal, sys
from hubbub.__main__ import main

def sweep(*_):
    gc.collect()
    for connection in apsw.connections():
        connection.release_memory()
    ctypes.CDLL(None).malloc_trim(0)

signal.signal(signal.SIGUSR1, sweep)
sys.argv[0] = "hubbub"
main()
"""
"""The server, which upon SIGUSR1 gives back whatever it keeps only to be faster."""


class Visitor:
    """Comes, does something, and leaves in one way or another; again and again, on one transport after the other."""

    def __init__(self, number: int, at: Ports, visits: Counter[str], errors: list[Any]) -> None:
        self.number = number
        self.at = at
        self.visits = visits
        self.errors = errors
        self.chance = Random(f"{SEED}/{number}")
        self.tokens: dict[str, str] = {}
        self.big: str | None = None  # a thread with much in it

    async def live(self, until: float) -> None:
        ways = [self.talk, self.talk, self.talk, self.stream, self.type, self.ask, self.stall, self.say_nothing]
        while time.monotonic() < until:
            way = self.chance.choice(ways)
            with contextlib.suppress(*LEFT):
                await way()
            self.visits[way.__name__] += 1

    async def talk(self) -> None:
        """Some requests over a connection: a thread made, joined, written to, left; an answer asked for and stopped."""
        kind = self.chance.choice(TALKERS)
        talker = await connect(self.at, kind)
        try:
            await self._hello(talker, f"{kind}{self.number}")
            other = f"{kind}{(self.number + 1) % WORKERS}"  # one neighbour, so that private threads do not become more
            made = await talker.ask("thread.create", title="soak", members=["openai"], public=True)
            thread = made["thread"]["id"]
            for what, fields in [
                ("message.send", {"to": other, "text": "psst"}),
                ("message.send", {"thread": "lobby", "text": "hello"}),
                ("thread.add", {"thread": thread, "member": other}),
                ("message.send", {"thread": thread, "text": "@openai count to 50"}),
                *(("typing", {"thread": thread}), ("who", {}), ("history", {"thread": "lobby"}), ("check", {})),
                *(("thread.list", {"public": True}), ("thread.remove", {"thread": thread, "member": other})),
                ("thread.join", {"thread": "lobby"}),
            ]:
                if self.chance.random() < 0.8:
                    self._look(await talker.ask(what, **fields))
            if self.chance.random() < 0.5:
                reply = await talker.ask("run.start", thread=thread, assistant="openai")
                self._look(reply)
                if reply["type"] == "run":
                    self._look(await talker.ask("run.cancel", run=reply["run"]["id"]))
            self._look(await talker.ask("thread.leave", thread=thread))
            self._look(await talker.ask("thread.join", thread=thread))
            headers = {"authorization": f"Bearer {talker.welcome['token']}"}
            async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
                await http.delete(f"http://127.0.0.1:{self.at.port}/api/threads/{thread}")
            match self.chance.randrange(3):
                case 0:
                    await talker.send("bye")
                    await talker.drain()
                case 1:
                    await talker.close()
        finally:
            talker.cut()

    async def _hello(self, talker: Talker, name: str) -> None:
        token = self.tokens.get(name)
        await talker.hello(None if token else name, **({"token": token} if token else {}))
        self.tokens[name] = talker.welcome["token"]

    def _look(self, reply: dict[str, Any]) -> None:
        if reply["type"] == "error" and reply["code"] in ("internal", "unavailable", "bad_frame", "unauthorized"):
            self.errors.append(reply)

    async def stream(self) -> None:
        """Listen for a moment, and cut."""
        path = self.chance.choice(["/api/events", "/api/threads/lobby/events"])
        async with await SseReader.open(self.at.port, f"{path}?user=listener{self.number}") as stream:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(0, 0.3)):
                    await stream.drain()

    async def type(self) -> None:
        """A person with nc; every other one hangs up instead of leaving."""
        name = f"nc{self.number}-{self.visits['type'] % 2}"
        async with await LineClient.open(self.at.tcp_port) as person:
            person.type(name)
            await person.sees(PROMPT)
            while not (await person.line()).startswith("Connected!"):  # it is not known yet that the last one is gone
                await person.sees(PROMPT)
                await asyncio.sleep(0.05)
                person.type(name)
            for line in ("#lobby: hi", f"nc{self.number + 1}-0: hi", "!who", "!threads", "!check", "openai: a joke"):
                person.type(line)
            if self.chance.random() < 0.5:
                person.type("exit")
                await person.rest()
            else:
                await person.sees("No more messages.")
                person.cut()

    async def ask(self) -> None:
        """Requests over HTTP."""
        base, user = f"http://127.0.0.1:{self.at.port}/api", {"user": f"rest{self.number}"}
        async with httpx2.AsyncClient(base_url=base, params=user, trust_env=False) as http:
            made = (await http.post("/threads", json={"title": "soak", "public": True})).json()
            for method, path, body in [
                ("POST", "/threads/lobby/messages", {"text": "hi"}),
                ("POST", f"/threads/{made['id']}/messages", {"text": "hi"}),
                ("PATCH", f"/threads/{made['id']}", {"title": "renamed"}),
                ("GET", "/unseen", None),
                ("GET", "/threads/lobby/messages", None),
                ("PUT", "/threads/lobby/seen", {"seq": 1}),
                ("DELETE", f"/threads/{made['id']}", None),
            ]:
                answer = await http.request(method, path, json=body)
                if answer.status_code >= 500:
                    self.errors.append(answer.text)

    async def stall(self) -> None:
        """Ask for much, read nothing, and go."""
        sleeper = await FramedClient.open(self.at.tcp_port, 4096)
        try:
            await self._hello(sleeper, f"stalled{self.number}")
            if self.big is None:
                self.big = await sleeper.group(title="big")
                for _ in range(8):
                    await sleeper.post(self.big, "x" * 60_000)
            for _ in range(20):
                await sleeper.send("history", thread=self.big)
            await asyncio.sleep(self.chance.uniform(0, 0.3))
        finally:
            sleeper.cut()

    async def say_nothing(self) -> None:
        """Come and go without a hello, or in the middle of a frame."""
        visitor = await FramedClient.open(self.at.tcp_port)
        visitor.writer.write(self.chance.choice([b"", b"\0", b"\0\0\0\x20{", b"half a na"]))
        await asyncio.sleep(self.chance.uniform(0, 0.1))
        visitor.cut()


def line_through(times: list[float], sizes: list[float]) -> tuple[float, float]:
    """The slope by least squares, and its standard error."""
    slope, at_zero = statistics.linear_regression(times, sizes)
    middle = statistics.mean(times)
    rest = sum((size - at_zero - slope * time) ** 2 for time, size in zip(times, sizes, strict=True))
    return slope, math.sqrt(rest / (len(times) - 2) / sum((time - middle) ** 2 for time in times))


async def churn(at: Ports, seconds: float, visitors: list[Visitor]) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(*(visitor.live(until) for visitor in visitors))


async def soon(true: Callable[[], bool], within_s: float = 15.0) -> bool:
    """Does it become true? Looked at often; there is nothing that would tell."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                if true():
                    return True
                await asyncio.sleep(0.05)
    return true()


KEPT = frozenset({"members", "_forms"})
"""What the hub may keep of people who have left: that they exist; and the forms of streams, one of each."""


async def test_after_a_crowd_has_come_and_gone_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "UNUSED_S", 1.0)
    monkeypatch.setattr(asking, "MARK_EVERY_S", 1.0)
    visits: Counter[str] = Counter()
    errors: list[Any] = []
    with no_tracebacks():
        async with serving(tmp_path / "home") as house:
            hub = house.app.hub

            def counts() -> dict[str, int]:
                """Every collection of the hub, its runs, its questions and the bus; tasks, and open connections."""
                found = {"tasks": len(asyncio.all_tasks()), "connections": connections(os.getpid())}
                for part in (hub, hub.runs, hub.asking, hub.bus):
                    sized = {name: value for name, value in vars(part).items() if hasattr(value, "__len__")}
                    found |= {f"{type(part).__name__}.{name}": len(value) for name, value in sized.items()}
                return {name: count for name, count in found.items() if name.split(".")[-1] not in KEPT}

            visitors = [Visitor(number, house, visits, errors) for number in range(WORKERS)]
            async with httpx2.AsyncClient(trust_env=False) as http:  # what is loaded once
                await http.get(f"http://127.0.0.1:{house.port}/api/threads")
            await soon(lambda: not hub.rooms)
            before = counts()
            busy: Counter[str] = Counter()

            async def watch() -> None:
                while True:
                    busy.update(hub=len(hub.sessions), slow=len(hub.slow), runs=len(hub.runs._open))
                    await asyncio.sleep(0.01)

            watching = asyncio.create_task(watch())
            await churn(house, ROUND_S, visitors)
            watching.cancel()
            await asyncio.wait([watching])
            await soon(lambda: counts() == before, 8.0)  # sooner than the sweep would mend it
            print(f"{visits.total()} visits: {dict(visits)}; before {before}")
            assert counts() == before
    assert min(busy.values()) > 0, "nobody was ever there, or slow, or answered"
    assert errors == []
    assert len(visits) == 6
    assert min(visits.values()) > 5


@pytest.mark.parametrize("minutes", [pytest.param(5, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_memory_does_not_grow_while_crowds_come_and_go(tmp_path: Path, minutes: float) -> None:
    visits: Counter[str] = Counter()
    errors: list[Any] = []
    times: list[float] = []
    sizes: list[float] = []
    async with running(tmp_path / "home", program=["-c", TOLD_TO_SWEEP]) as server:
        visitors = [Visitor(number, server, visits, errors) for number in range(WORKERS)]
        idle = connections(server.pid)
        began = time.monotonic()
        while (now := time.monotonic() - began) < minutes * 60:
            await churn(server, ROUND_S, visitors)
            assert await soon(lambda: connections(server.pid) <= idle), "connections are still open"
            server.signal(signal.SIGUSR1)
            await asyncio.sleep(0.5)  # it has nothing else to do
            if now > WARM_S:
                times.append(now)
                sizes.append(own_kb(server.pid) / 1024)
        slope, error = line_through(times, sizes)
        print(
            f"{visits.total()} visits in {now:.0f} s; {[round(size, 1) for size in sizes]} MiB; "
            f"{slope * 600:+.2f} MiB in 10 minutes, give or take {error * 600:.2f}"
        )
        assert errors == []
        assert (slope - 2 * error) * 600 < 1
        assert error * 600 < 2, "too uneven to see a leak"
        assert "Traceback" not in server.said


async def test_a_stream_that_is_being_opened_is_told_nothing_before_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path / "home", store="memory") as house:
        hub = house.app.hub
        async with await house.talk("text", "ann") as ann, await house.talk("text", "bob"):  # in the lobby first
            thread = await ann.group("bob")
        hub.close_room(hub.rooms[thread])
        read, going_on = hub.store.memberships, asyncio.Event()
        reading = asyncio.Event()

        async def slowly(id: str) -> Any:
            reading.set()
            await going_on.wait()
            return await read(id)

        monkeypatch.setattr(hub.store, "memberships", slowly)
        async with await Wire.open(house.port) as wire:
            wire.send(b"GET /api/events?user=bob HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await asyncio.wait_for(reading.wait(), 5)
            monkeypatch.undo()
            async with await house.talk("framed", "carol"):
                going_on.set()
                async with asyncio.timeout(5):
                    assert (await wire.reader.readline()).startswith(b"HTTP/1.1 200")
