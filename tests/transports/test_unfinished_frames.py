"""A frame that is begun and never ended: it may take its time, but not for ever."""

from __future__ import annotations

import json
import time

import pytest

from hubbub.hub.sweep import look
from support.raw import ws_frame
from support.server import House, fresh
from support.talkers import FramedClient, Talker, WsClient, prefixed

BEGINNINGS = {
    "framed": b"\x00\x00\x01\x00{",
    "text": ws_frame(0x81, b"x" * 500)[:100],
    "binary": ws_frame(0x82, b"x" * 9)[:3],
}


def raw(talker: Talker, data: bytes) -> None:
    """Bytes past the client's own framing."""
    if isinstance(talker, FramedClient):
        talker.writer.write(data)
    else:
        assert isinstance(talker, WsClient)
        talker.socket.transport.write(data)


@pytest.mark.parametrize("kind", BEGINNINGS)
async def test_a_frame_that_does_not_arrive_whole_in_time_ends_the_connection(house: House, kind: str) -> None:
    hub = house.app.hub
    async with await house.talk(kind, fresh("mallory")) as mallory, await house.talk("text", fresh("ann")) as ann:
        await ann.ask("ping")
        raw(mallory, BEGINNINGS[kind])
        [session] = await unfinished(house, mallory)
        look(hub, time.monotonic() + hub.limits.frame_s - 1)
        assert session.ready
        look(hub, time.monotonic() + hub.limits.frame_s + 1)
        bye = await mallory.take("bye")
        assert (bye["code"], bye["resume"]) == ("slow", True)
        assert (await ann.ask("ping"))["type"] == "pong"
    assert not hub.unfinished


@pytest.mark.parametrize("kind", BEGINNINGS)
async def test_a_frame_that_arrives_in_pieces_but_in_time_is_answered(house: House, kind: str) -> None:
    ping = json.dumps({"type": "ping", "id": 7}).encode()
    whole = {"framed": prefixed(ping), "text": ws_frame(0x81, ping), "binary": ws_frame(0x82, prefixed(ping))}[kind]
    async with await house.talk(kind, fresh("ann")) as ann:
        raw(ann, whole[:9])
        await unfinished(house, ann)
        raw(ann, whole[9:])
        await ann.take("pong", id=7)
        assert not house.app.hub.unfinished


async def test_each_frame_has_its_own_time(house: House) -> None:
    ping = prefixed(json.dumps({"type": "ping"}).encode())
    async with await house.talk("framed", fresh("ann")) as ann:
        raw(ann, ping + ping[:5])
        [session] = await unfinished(house, ann)
        house.app.hub.unfinished[session] -= 25
        raw(ann, ping[5:] + ping[:5])
        await ann.take("pong")
        await ann.take("pong")
        look(house.app.hub, time.monotonic() + 10)
        assert session.ready


async def test_who_is_not_read_from_is_not_blamed(house: House) -> None:
    hub = house.app.hub
    async with await house.talk("framed", fresh("ann")) as ann:
        raw(ann, BEGINNINGS["framed"])
        [session] = await unfinished(house, ann)
        session.reading_paused = True
        look(hub, time.monotonic() + hub.limits.frame_s + 1)
        assert session.ready


async def unfinished(house: House, talker: Talker) -> list:  # type: ignore[type-arg]
    """The sessions that have sent the beginning of a frame, once there is one."""
    async with await house.talk("framed", fresh("other")) as other:
        while not house.app.hub.unfinished:
            await other.ask("ping")
    return list(house.app.hub.unfinished)
