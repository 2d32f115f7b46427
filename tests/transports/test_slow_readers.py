"""A reader that does not read: nobody else notices, it misses nothing, and in the end it is sent away."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hubbub.hub.session import Session
from support.inbox import Inbox
from support.listeners import SseReader
from support.server import House, fresh, serving
from support.talkers import TALKERS, FramedClient, Talker, WsClient

COUNT = 250
BIG = 50_000  # bytes a message: together far more than the sockets between take
SMALL_BUFFER = 4096


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with serving(tmp_path_factory.mktemp("home"), store="memory") as house:
        yield house


@pytest.fixture
def impatient(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = house.app.hub
    monkeypatch.setattr(hub, "limits", dataclasses.replace(hub.limits, slow_s=0.1))


async def lazy(house: House, kind: str, token: str) -> Any:
    """A reader whose socket takes next to nothing; it reads when asked to, and not before."""
    if kind == "stream":
        return await SseReader.open(house.port, "/api/events", token=token, receive_buffer=SMALL_BUFFER)
    if kind == "framed":
        reader: Talker = await FramedClient.open(house.tcp_port, SMALL_BUFFER)
    else:
        reader = await WsClient.open(house.port, binary=kind == "binary", receive_buffer=SMALL_BUFFER)
    await reader.hello(token=token)
    return reader


def in_the_kernel(session: Session) -> int:
    """Bytes of memory that the system spends on what this reader has not taken."""
    sock = session.door.transport.get_extra_info("socket")  # type: ignore[attr-defined]
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def text(number: int) -> str:
    return f"{number:06} " + "x" * BIG


async def flood(alice: Talker, thread: str, count: int = COUNT) -> None:
    for number in range(count):
        await alice.send("message.send", thread=thread, text=text(number))
        if number % 20 == 19:
            await alice.ask("ping")
    await alice.ask("ping")


async def in_order(reader: Inbox, thread: str, first: int = 1) -> None:
    for seq in range(first, COUNT + 1):
        frame = await reader.take("message", thread=thread)
        assert frame["seq"] == seq
        assert frame["message"]["text"] == text(seq - 1)


@pytest.mark.parametrize("kind", [*TALKERS, "stream"])
async def test_others_chat_on_and_the_slow_one_gets_everything_once_and_in_order(house: House, kind: str) -> None:
    ann, bob, eve = fresh("ann"), fresh("bob"), fresh("eve")
    async with await house.talk("framed", ann) as alice, await house.talk("text", eve) as evelyn:
        async with await house.talk("text", bob) as robert:
            token = robert.welcome["token"]
        thread = await alice.group(bob, eve)
        slow = await lazy(house, kind, token)
        await flood(alice, thread)
        await in_order(evelyn, thread)
        [(session, _)] = house.app.hub.slow.items()

        assert session.name == bob
        assert session.door.unsent() + in_the_kernel(session) <= 1 << 20
        await in_order(slow, thread)
        end = await alice.post(thread, "end")
        assert (await slow.message("end"))["seq"] == end["seq"]
        assert len([f for f in slow.heard if f.get("thread") == thread and f["type"] == "message"]) == COUNT + 1
        slow.cut()


@pytest.mark.parametrize("kind", [*TALKERS, "stream"])
async def test_whoever_has_one_byte_waiting_is_written_nothing_past_it(house: House, kind: str) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice:
        async with await house.talk("text", bob) as robert:
            token = robert.welcome["token"]
        thread = await alice.group(bob)
        slow = await lazy(house, kind, token)
        [session] = house.app.hub.people.sessions_of(bob)
        while not session.door.unsent():
            await alice.post(thread, "x" * 20_000)
        assert session.stopped
        assert session in house.app.hub.rooms[thread].behind
        slow.cut()


@pytest.mark.parametrize("kind", TALKERS)
async def test_an_answer_written_meanwhile_reaches_the_slow_one_without_a_hole(house: House, kind: str) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice:
        async with await house.talk("text", bob) as robert:
            token = robert.welcome["token"]
        thread = await alice.group(bob, "openai")
        slow = await lazy(house, kind, token)
        await flood(alice, thread)
        await alice.post(thread, "@openai count to 300")
        await alice.take("run.delta")
        await in_order(slow, thread)
        written = ""
        while True:
            frame = await slow.take(None, lambda f: f["type"] == "run.delta" or f.get("message", {}).get("run"))
            if frame["type"] == "message":
                break
            assert frame["offset"] <= len(written), "a hole"
            written = written[: frame["offset"]] + frame["text"]
        await slow.take("run.completed")
        slow.cut()

    assert frame["message"]["text"].endswith(" 299 300")
    assert written in ("", frame["message"]["text"])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", [*TALKERS, "stream"])
async def test_who_does_not_read_for_too_long_is_told_closed_and_may_resume(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice:
        await alice.write(bob, "so that we share a small thread")
        async with await house.talk("text", bob) as robert:
            token, epoch = robert.welcome["token"], robert.welcome["server"]["epoch"]
        await alice.take("presence", user=bob, online=False)
        thread = await alice.group(bob)
        before = house.app.meter.counts.copy()
        slow = await lazy(house, kind, token)
        await flood(alice, thread)
        await alice.take("presence", user=bob, online=False)
        since = house.app.meter.counts.since(before)
        assert since.slow_closed == 1
        assert since.stalls >= 1
        assert since.catch_ups >= 1
        heard = await slow.drain()
        assert {key: heard[-1][key] for key in ("type", "code", "resume")} == {
            "type": "bye",
            "code": "slow",
            "resume": True,
        }
        if isinstance(slow, WsClient):
            assert slow.socket.close_code == 4008
        seqs = [frame["seq"] for frame in heard if frame["type"] == "message" and frame["thread"] == thread]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) < COUNT
        resume = {"epoch": epoch, "threads": {thread: len(seqs)}}
        async with await house.talk("framed", token=token, resume=resume) as back:
            await in_order(back, thread, len(seqs) + 1)


@pytest.mark.usefixtures("impatient")
async def test_who_reads_slowly_but_reads_is_kept(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice:
        async with await house.talk("text", bob) as robert:
            token = robert.welcome["token"]
        thread = await alice.group(bob)
        slow = await lazy(house, "framed", token)
        stalls = house.app.hub.counts.stalls
        flooding = asyncio.create_task(flood(alice, thread, 200))  # it reads all the while
        for seq in range(1, 201):
            assert (await slow.take("message", thread=thread))["seq"] == seq
        await flooding
        slow.cut()
        assert house.app.hub.counts.stalls > stalls


async def test_a_person_who_does_not_read_misses_no_line(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice, await house.nc(bob) as person:
        person.reader._limit = SMALL_BUFFER  # asyncio stops reading there
        thread = await alice.group(bob)
        await flood(alice, thread)
        assert [session.name for session in house.app.hub.slow] == [bob]
        for number in range(COUNT):
            line = await person.line()
            while f"[{ann}]" not in line:
                line = await person.line()
            assert f"{number:06} x" in line
