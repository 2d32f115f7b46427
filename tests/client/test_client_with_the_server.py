"""The client, the thermometer and the terminal client against the server itself, over real sockets."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hubbub import config
from hubbub.app import App
from hubbub.apps import thermometer
from hubbub.apps.chat import chat
from hubbub.client import Client, Timing
from hubbub.core import frames
from hubbub.core.errors import NameTaken

FAST = Timing(base_s=0.05, cap_s=0.2, mark_every_s=0.0)
LIMIT_S = 15


def settings(home: Path, port: int = 0, tcp_port: int = 0) -> config.Settings:
    return config.load({"home": home, "port": port, "tcp_port": tcp_port, "send_rate": 0, "send_burst": 0}, {})


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with App(settings(tmp_path)) as app:
        yield app


def tcp(app: App) -> str:
    return f"tcp://127.0.0.1:{app.tcp_port}"


def address(app: App, scheme: str) -> str:
    return tcp(app) if scheme == "tcp" else f"ws://127.0.0.1:{app.http_port}/ws"


async def hear(client: Client, count: int, sender: str) -> list[str]:
    heard: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        while len(heard) < count:
            frame = await client.next()
            if isinstance(frame, frames.MessageFrame) and frame.message.sender == sender:
                heard.append(frame.message.text)
    return heard


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_two_people_hear_each_other(app: App, scheme: str) -> None:
    async with (
        Client(address(app, scheme), user="alice") as alice,
        Client(address(app, scheme), user="bob") as bob,
    ):
        acks = await asyncio.gather(*(alice.send(str(n), to="bob") for n in range(100)))

        assert [ack.seq for ack in acks] == list(range(1, 101))
        assert await hear(bob, 100, "alice") == [str(n) for n in range(100)]
        assert "bob" in (await alice.request(frames.WhoGet())).online


async def test_a_name_in_use_is_refused(app: App) -> None:
    async with Client(tcp(app), user="alice"):
        with pytest.raises(NameTaken):
            await Client(tcp(app), user="alice").__aenter__()


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_a_restart_of_the_server_loses_and_doubles_nothing(tmp_path: Path, scheme: str) -> None:
    async with App(settings(tmp_path)) as first:
        ports = first.http_port, first.tcp_port
        alice = Client(address(first, scheme), user="alice", timing=FAST)
        bob = Client(address(first, scheme), user="bob", timing=FAST)
        await alice.__aenter__()
        await bob.__aenter__()
        before = [await alice.send(f"before {n}", to="bob") for n in range(3)]
    sending = [asyncio.create_task(alice.send(f"away {n}", to="bob")) for n in range(20)]
    await asyncio.sleep(0.05)
    async with App(settings(tmp_path, *ports)):
        async with asyncio.timeout(LIMIT_S):
            acks = await asyncio.gather(*sending)
            heard = await hear(bob, 23, "alice")
        await alice.aclose()
        await bob.aclose()

    assert [ack.seq for ack in (*before, *acks)] == list(range(1, 24))
    assert heard == [f"before {n}" for n in range(3)] + [f"away {n}" for n in range(20)]


async def test_an_answer_is_heard_to_the_character_over_cuts(app: App) -> None:
    async with Client(tcp(app), user="alice", timing=FAST) as alice:
        await alice.send("tell me a story", to="openai")
        written, pieces = "", 0
        async with asyncio.timeout(LIMIT_S):
            while True:
                frame = await alice.next()
                if isinstance(frame, frames.RunDelta):
                    assert frame.offset == len(written)
                    written += frame.text
                    pieces += 1
                    connection = alice._life._connection
                    if pieces in (2, 4) and connection is not None:
                        await connection._pipe.close()
                elif isinstance(frame, frames.MessageFrame) and frame.message.run:
                    break

        assert frame.message.text.startswith(written)
        assert pieces > 4


async def test_the_thermometer_remembers_its_subscribers_by_the_log(app: App) -> None:
    async def device() -> asyncio.Task[None]:
        task = asyncio.create_task(thermometer.run(tcp(app), interval_s=0.2, reboot_s=0.01))
        await asyncio.sleep(0)
        return task

    async with Client(tcp(app), user="alice", timing=FAST) as alice:
        await alice.send("subscribe", to="thermometer1")  # it is not there yet
        task = await device()
        assert (await hear(alice, 1, "thermometer1")) == ["Subscription confirmed."]
        await hear(alice, 2, "thermometer1")
        task.cancel()
        await asyncio.wait([task])
        await alice.send("range", to="thermometer1")

        task = await device()
        heard = await hear(alice, 2, "thermometer1")
        assert sum(text.startswith("Temperature range") for text in heard) == 1
        await alice.send("unsubscribe", to="thermometer1")
        while (await hear(alice, 1, "thermometer1")) != ["Unsubscribed."]:
            pass
        task.cancel()
        await asyncio.wait([task])


async def test_a_pipe_into_the_terminal_client_arrives(app: App) -> None:
    mine, theirs = os.pipe()
    os.write(theirs, b"bob: hi\n!check\n")
    os.close(theirs)
    out, err = io.StringIO(), io.StringIO()

    code = await asyncio.wait_for(chat(tcp(app), "alice", stdin=mine, out=out, err=err), LIMIT_S)

    os.close(mine)
    assert (code, err.getvalue()) == (0, "")
    assert out.getvalue().startswith("Connected! Users online: ")
    assert "User 'bob' is offline. Message saved.\nNo more messages.\n" in out.getvalue()
    async with Client(tcp(app), user="bob") as bob:
        assert await hear(bob, 1, "alice") == ["hi"]
