"""The server stands still for a while and goes on: nobody is closed for it, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.load import Crowd
from support.power import altered, frozen
from support.process import Server, running
from support.talkers import FramedClient, prefixed
from support.witness import LOBBY

SHORT_LIMITS = """
from hubbub.hub import sweep
from hubbub.hub.limits import Limits
sweep.EVERY_S = 0.2
names = {"hello_s": 1.5, "slow_s": 1.5, "frame_s": 1.5}
fields = [name for name in Limits.__dataclass_fields__]
Limits.__init__.__defaults__ = tuple(map(lambda n, d: names.get(n, d), fields, Limits.__init__.__defaults__))
"""
LONG = [pytest.mark.long, pytest.mark.timeout(300)]


async def freeze(server: Server, seconds: float, meanwhile: Callable[[], Awaitable[None]]) -> None:
    server.signal(signal.SIGSTOP)
    await frozen(server.pid)
    await asyncio.sleep(seconds / 2)
    await meanwhile()
    await asyncio.sleep(seconds / 2)
    server.signal(signal.SIGCONT)


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=LONG)])
async def test_a_server_frozen_under_load_goes_on_and_nobody_is_closed(tmp_path: Path, seconds: float) -> None:
    async with running(tmp_path / "home") as server:
        crowd = Crowd(server)
        async with crowd.there():
            for n in range(2):
                crowd.say(f"before {n}", 40)
                some = crowd.writers[n]
                await some.until(lambda some=some: len(some.testimony.acked.get(LOBBY, ())) >= 10)  # type: ignore[misc]
            before = len(crowd.writers[0].testimony.acked[LOBBY])

            async def meanwhile() -> None:
                crowd.say("meanwhile", 40)

            await freeze(server, seconds / 2, meanwhile)
            assert not any(writer.settled for writer in crowd.writers), "nothing was asked of a frozen server"
            await freeze(server, seconds / 2, meanwhile_nothing)
            await crowd.settled()
            await crowd.all_heard()
        assert len(crowd.writers[0].testimony.acked[LOBBY]) > before
        assert await server.stop() == 0
    assert [one.connections for one in crowd.everybody] == [1] * 5
    assert crowd.codes() == set()
    assert server.said == ""
    await crowd.judged(tmp_path / "home")


async def meanwhile_nothing() -> None: ...


async def test_who_spoke_while_the_server_was_frozen_is_not_taken_for_silent(tmp_path: Path) -> None:
    async with running(tmp_path / "home", program=altered(SHORT_LIMITS)) as server:
        bob = await FramedClient.open(server.tcp_port)
        await bob.hello("bob")
        alice = await FramedClient.open(server.tcp_port)
        alice.writer.write(prefixed(b'{"type": "hello", "id": 1, "user": "alice"}')[:9])
        await bob.ask("ping")
        carol = await FramedClient.open(server.tcp_port)
        await carol.hello("carol")
        frame = prefixed(b'{"type": "ping", "id": "late"}')
        carol.writer.write(frame[:9])
        await bob.ask("ping")

        async def meanwhile() -> None:
            alice.writer.write(prefixed(b'{"type": "hello", "id": 1, "user": "alice"}')[9:])
            carol.writer.write(frame[9:])

        await freeze(server, 2.5, meanwhile)
        assert (await alice.take(id=1))["type"] == "welcome"
        assert (await carol.take(id="late"))["type"] == "pong"
        for one in (alice, bob, carol):
            assert (await one.ask("ping"))["type"] == "pong"
            one.cut()


async def test_who_could_not_be_told_by_a_frozen_server_is_not_taken_for_slow(tmp_path: Path) -> None:
    async with running(tmp_path / "home", program=altered(SHORT_LIMITS)) as server:
        alice = await FramedClient.open(server.tcp_port)
        await alice.hello("alice")
        bob = await FramedClient.open(server.tcp_port, receive_buffer=4096)
        await bob.hello("bob")
        for _ in range(100):
            await alice.post(LOBBY, "x" * 60_000)
        await asyncio.sleep(0.5)  # the server has looked, and bob has read nothing since

        heard: list[int] = []

        async def read() -> None:
            while len(heard) < 100:
                heard.append((await bob.take("message"))["seq"])

        reading: list[asyncio.Task[None]] = []

        async def meanwhile() -> None:
            reading.append(asyncio.create_task(read()))

        await freeze(server, 2.5, meanwhile)
        await reading[0]
        assert heard == list(range(1, 101))
        alice.cut()
        bob.cut()
