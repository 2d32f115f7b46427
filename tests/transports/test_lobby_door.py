"""`/ws/{user}`: the plain chat in length-prefixed binary messages, unchanged for its clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.inbox import WAIT_S
from support.raw import Wire, ws_frame
from support.server import House, fresh

Order = Literal["big", "little"]


def packed(text: str, order: Order = "big") -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, order) + data


async def told(socket: ClientConnection, order: Order = "big") -> str:
    """The next line, in the form it must have."""
    async with asyncio.timeout(WAIT_S):
        data = await socket.recv()
    assert isinstance(data, bytes)
    assert int.from_bytes(data[:4], order) == len(data) - 4
    return data[4:].decode()


async def line(socket: ClientConnection, start: str, order: Order = "big") -> str:
    """The next line that begins so."""
    while not (text := await told(socket, order)).startswith(start):
        pass
    return text


@contextlib.asynccontextmanager
async def enter(house: House, user: str) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{house.port}/ws/{user}", proxy=None) as socket:
        await socket.ping()  # its answer comes after the door was opened
        yield socket


async def test_everyone_in_the_lobby_but_the_sender_is_told(house: House) -> None:
    ann, bob, eve = fresh("ann"), fresh("bob"), fresh("eve")
    async with (
        await house.talk("framed", eve) as evelyn,
        await house.nc(fresh("carl")) as carl,
        enter(house, ann) as alice,
        enter(house, bob) as robert,
    ):
        await alice.send(packed("hello ☃"))
        assert await line(robert, ann) == f"{ann}: hello ☃"
        assert (await evelyn.message("hello ☃"))["thread"] == "lobby"
        await carl.sees(f"[#lobby][{ann}] hello ☃\n")
        await robert.send(packed("hi"))
        assert await line(alice, bob) == f"{bob}: hi"
        await evelyn.post("lobby", "from elsewhere")
        assert await line(alice, eve) == await line(robert, eve) == f"{eve}: from elsewhere"


async def test_answers_come_in_the_order_of_bytes_last_used(house: House) -> None:
    async with await house.talk("text", fresh("eve")) as eve, enter(house, fresh("ann")) as alice:
        name = eve.welcome["user"]
        orders: list[Order] = ["big", "little", "big"]
        await eve.post("lobby", "before she wrote")
        assert await line(alice, name, "big") == f"{name}: before she wrote"
        for order in orders:
            await alice.send(packed(f"I am {order}", order))
            await eve.message(f"I am {order}")
            await eve.post("lobby", f"to {order}")
            assert await line(alice, name, order) == f"{name}: to {order}"


async def test_coming_and_going_is_told(own_house) -> None:
    async with own_house() as house, enter(house, "alice") as alice:
        async with enter(house, "bob"):
            assert await told(alice) == "Server: Client bob joined the chat"
        assert await told(alice) == "Server: Client bob left the chat"


async def test_a_second_connection_of_the_same_user_is_closed(house: House) -> None:
    ann = fresh("ann")
    async with enter(house, ann) as first, await house.talk("text", fresh("bob")) as bob:
        for name in (ann, ann.upper()):
            second = await connect(f"ws://127.0.0.1:{house.port}/ws/{name}", proxy=None)
            with pytest.raises(ConnectionClosed):
                await told(second)
            assert second.close_reason == "Client ID already in use."
        await first.send(packed("still here"))
        assert await bob.message("still here")


async def test_a_user_connected_elsewhere_is_refused_too(house: House) -> None:
    ann = fresh("ann")
    async with await house.talk("framed", ann):
        second = await connect(f"ws://127.0.0.1:{house.port}/ws/{ann}", proxy=None)
        with pytest.raises(ConnectionClosed):
            await told(second)
        assert second.close_reason == "Client ID already in use."


@pytest.mark.parametrize("user", ["a%20b", "exit", "...", "x" * 65, "%00"])
async def test_a_name_that_breaks_the_rules_is_closed_with_the_reason(house: House, user: str) -> None:
    socket = await connect(f"ws://127.0.0.1:{house.port}/ws/{user}", proxy=None)
    with pytest.raises(ConnectionClosed):
        await told(socket)
    assert socket.close_code == 1008
    assert socket.close_reason


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\x00\x00\x00\x06hello", b"\xff\xff\xff\xffhello", b"hello", packed(""), packed("") + b"\xff"],
)
async def test_a_message_of_another_length_than_it_says_is_answered_and_the_chat_goes_on(
    house: House, data: bytes
) -> None:
    async with await house.talk("text", fresh("bob")) as bob, enter(house, fresh("ann")) as alice:
        await alice.send(data)
        assert len(await line(alice, "Server: ")) > 20
        await alice.send(packed("and on"))
        assert await bob.message("and on")


async def test_text_that_is_not_utf8_or_too_long_is_refused(house: House) -> None:
    async with await house.talk("text", fresh("bob")) as bob, enter(house, fresh("ann")) as alice:
        await alice.send(b"\x00\x00\x00\x02\xff\xfe")
        assert "UTF-8" in await line(alice, "Server: The text")
        await alice.send(packed("x" * 65536))
        assert await bob.message("x" * 65536)
        await alice.send(packed("x" * 65537))
        with pytest.raises(ConnectionClosed):
            await line(alice, "nothing begins so")
        assert alice.close_code == 1009


async def test_a_close_without_a_code_is_answered(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        await wire.upgrade(f"/ws/{fresh('ann')}")
        wire.send(ws_frame(0x88, b""))
        first, payload = await wire.frame()

    assert first == 0x88
    assert payload in (b"", (1000).to_bytes(2, "big"))


async def test_what_was_said_before_is_not_told(house: House) -> None:
    async with await house.talk("text", fresh("bob")) as bob:
        await bob.post("lobby", "too early")
        async with enter(house, fresh("ann")) as alice:
            await bob.post("lobby", "in time")
            name = bob.welcome["user"]
            assert await line(alice, name) == f"{name}: in time"
