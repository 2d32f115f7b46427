"""SIGTERM under load: what was asked is answered, everybody is told when to come back, and the exit is clean."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubbub.app import App
from support.load import WANDERING, Crowd
from support.process import Server, running
from support.raw import Wire, request
from support.server import serving, settings
from support.talkers import FramedClient, to
from support.witness import LOBBY

SOON_S = 10.0
"""The promise is 30 s. Half of that is for machines slower than any we know."""


@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
async def test_sigterm_under_load_answers_what_was_asked_and_tells_everyone_when_to_come_back(
    tmp_path: Path, cycles: int
) -> None:
    chance = Random(cycles)
    dismissed = told = 0
    async with running(tmp_path / "home") as server:
        crowd = Crowd(server, WANDERING, windows=(8, 1))
        async with crowd.there():
            for cycle in range(cycles):
                stalled = await readers_that_do_not_read(server, 4)
                crowd.say(f"{cycle}", 60, size=2000)
                acked = crowd.writers[0].testimony.acked.setdefault(LOBBY, {})
                wanted = len(acked) + chance.randrange(1, 60)
                await crowd.writers[0].until(lambda acked=acked, wanted=wanted: len(acked) >= wanted)  # type: ignore[misc]
                here = [one for one in crowd.everybody if one.ready.is_set()]
                goodbyes = {one.name: len(one.byes) for one in here}
                began = time.monotonic()
                assert await server.stop() == 0, server.said[-2000:]
                assert time.monotonic() - began < SOON_S
                for one in here:
                    await one.until(lambda one=one: not one.ready.is_set(), 5)  # type: ignore[misc]
                    dismissed += 1
                    for bye in one.byes[goodbyes[one.name] :][:1]:
                        told += 1
                        assert bye["code"] == "shutdown"
                        assert bye["resume"] is True
                        assert 0 < bye["retry_after"] <= 11
                for writer in stalled:
                    writer.transport.abort()
                await server.start()
            await crowd.settled()
            await crowd.all_heard()
        await server.kill()
        assert "Traceback" not in server.said, server.said[server.said.index("Traceback") - 500 :][:3000]

    # Who writes to a connection that has just been closed may lose what it had not read yet: that is TCP.
    assert told >= 0.9 * dismissed > 0
    await crowd.judged(tmp_path / "home")


async def readers_that_do_not_read(server: Server, count: int) -> list[asyncio.StreamWriter]:
    """Streams of the lobby that ask and then never read."""
    writers = []
    for n in range(count):
        sock = await to(server.port, 2048)
        _, writer = await asyncio.open_connection(sock=sock, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"GET /api/threads/lobby/events?user=stalled{n} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        writers.append(writer)
    return writers


async def test_what_was_asked_before_the_signal_is_answered_before_the_goodbye(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as server:
        alice = await FramedClient.open(server.tcp_port)
        await alice.hello("alice")
        for n in range(50):
            await alice.send("message.send", thread="lobby", text=str(n), id=n)
        await alice.send("ping", id="last")
        assert (await alice.take("ack", id=0))["seq"] == 1
        assert await server.stop() == 0
        heard = await alice.drain()

    acks = [frame["id"] for frame in heard if frame["type"] == "ack"]
    assert acks == list(range(50))
    kinds = [frame["type"] for frame in heard]
    assert kinds.index("pong") < kinds.index("bye") == len(kinds) - 1


async def test_who_comes_while_the_server_goes_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as house, await house.connect("framed") as alice:
        house.app.hub.stopping = True
        refused = await alice.ask("hello", user="alice")
        house.app.hub.stopping = False

    assert (refused["type"], refused["code"], refused["retry_after"]) == ("error", "shutdown", 1)


async def test_a_crowd_is_not_told_to_come_back_at_the_same_moment(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as house:
        crowd = [await house.talk("framed", f"member{n}") for n in range(250)]
    waits = [(await one.take("bye"))["retry_after"] for one in crowd]

    assert sorted(waits) == [1.0] * 100 + [1.1] * 100 + [1.2] * 50


async def test_a_stream_that_is_being_opened_when_the_server_goes_is_answered_with_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, going_on = asyncio.Event(), asyncio.Event()
    async with serving(tmp_path / "home", store="memory") as house:
        read = house.app.hub.store.threads_of

        async def slowly(member: str) -> Any:
            reading.set()
            await going_on.wait()
            return await read(member)

        monkeypatch.setattr(house.app.hub.store, "threads_of", slowly)
        async with await Wire.open(house.port) as wire:
            wire.send(b"GET /api/events?user=bob HTTP/1.1\r\nhost: localhost\r\n\r\n")
            async with asyncio.timeout(5):
                await reading.wait()
                house.app.hub.dismiss()
                said = await wire.response()
            going_on.set()

    assert (said.status, said.json["code"], said.json["retry_after"]) == (503, "shutdown", 1)


async def test_who_was_let_in_just_before_the_end_gets_an_answer_and_who_says_nothing_is_let_go(tmp_path: Path) -> None:
    app = App(settings(tmp_path / "home"))
    await app.__aenter__()
    asking, silent = await Wire.open(app.http_port), await Wire.open(app.http_port)
    last = await Wire.open(app.http_port)  # let in after both
    last.send(request("GET", "/healthz", {"host": "localhost"}))
    assert (await last.response()).status == 200

    going = asyncio.create_task(app.__aexit__(None, None, None))
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):  # refused, or reset while it waited to be let in
            while True:
                (await Wire.open(app.http_port)).cut()
    asking.send(request("GET", "/healthz", {"host": "localhost"}))
    answer = await asking.response()

    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await silent.rest(within_s=3) == b""
    assert await last.rest(within_s=3) == b""
    async with asyncio.timeout(5):
        await going
