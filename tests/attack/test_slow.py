"""Whoever sends a little now and then holds a place for so long and no longer, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter

import pytest

from support.raw import HANDSHAKE, Wire, request, ws_frame
from support.server import House, fresh
from tests.attack.people import attacked

LIMIT_S = 0.6
LATE_S = LIMIT_S + 2.0
"""Silence and unfinished frames are looked for once a second."""


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    limits = dict.fromkeys(("hello_s", "name_s", "head_s", "frame_s"), LIMIT_S)
    async with attacked(tmp_path_factory.mktemp("home"), store="memory", **limits) as house:
        yield house


async def closed_while_trickling(wire: Wire, piece: Callable[[], bytes]) -> tuple[float, bytes]:
    """Send a little again and again; how long it took until the server closed, and what it said."""
    began, said = perf_counter(), b""

    async def trickle() -> None:
        while True:
            wire.send(piece())
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    try:
        said = await wire.rest(within_s=LATE_S + 1)
    finally:
        trickling.cancel()
    return perf_counter() - began, said


async def a_head(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    wire.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
    return wire, lambda: b"x: y\r\n"


async def a_request_line(house: House) -> tuple[Wire, Callable[[], bytes]]:
    return await Wire.open(house.port), lambda: b"G"


async def the_head_of_an_upgrade(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    wire.send(request("GET", "/ws", HANDSHAKE)[:-2])
    return wire, lambda: b"x: y\r\n"


async def a_body(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    head = b"POST /api/threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    wire.send(head + b"content-length: 100000\r\n\r\n")
    return wire, lambda: b" "


async def chunks(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    head = b"POST /api/threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    wire.send(head + b"transfer-encoding: chunked\r\n\r\n")
    return wire, lambda: b"1\r\n \r\n"


async def a_hello_over_tcp(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.tcp_port)
    wire.send(b"\0\0\x10\0{")
    return wire, lambda: b" "


async def frames_before_a_hello(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.tcp_port)
    return wire, lambda: b"\0\0\0\x0f" + b'{"type":"ping"}'


async def a_name(house: House) -> tuple[Wire, Callable[[], bytes]]:
    return await Wire.open(house.tcp_port), lambda: b"j"


async def empty_lines_for_a_name(house: House) -> tuple[Wire, Callable[[], bytes]]:
    return await Wire.open(house.tcp_port), lambda: b"\n"


async def a_hello_in_a_websocket(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    await wire.upgrade()
    wire.send(ws_frame(0x81, b" " * 4000)[:8])
    return wire, lambda: b" "


async def pings_before_a_hello(house: House) -> tuple[Wire, Callable[[], bytes]]:
    wire = await Wire.open(house.port)
    await wire.upgrade()
    return wire, lambda: ws_frame(0x89, b"")


async def a_frame_in_pieces(house: House) -> tuple[Wire, Callable[[], bytes]]:
    """After a hello: a message that never ends."""
    wire = await Wire.open(house.port)
    await wire.upgrade()
    wire.send(ws_frame(0x81, b'{"type":"hello","user":"%s"}' % fresh("slow").encode()))
    await wire.frame()
    wire.send(ws_frame(0x01, b"{"))
    return wire, lambda: ws_frame(0x00, b" ")


TRICKLES: list[Callable[[House], Awaitable[tuple[Wire, Callable[[], bytes]]]]] = [
    a_head,
    a_request_line,
    the_head_of_an_upgrade,
    a_body,
    chunks,
    a_hello_over_tcp,
    frames_before_a_hello,
    a_name,
    empty_lines_for_a_name,
    a_hello_in_a_websocket,
    pings_before_a_hello,
    a_frame_in_pieces,
]


async def test_nobody_holds_a_place_by_trickling(house: House) -> None:
    async def one(trickle: Callable[..., Awaitable[tuple[Wire, Callable[[], bytes]]]]) -> tuple[str, float]:
        wire, piece = await trickle(house)
        async with wire:
            took, _ = await closed_while_trickling(wire, piece)
        return trickle.__name__, took

    took = dict(await asyncio.gather(*(one(trickle) for trickle in TRICKLES)))

    assert not {name: seconds for name, seconds in took.items() if seconds > LATE_S}


async def test_nor_by_saying_nothing(house: House) -> None:
    async def one(port: int, first: bytes) -> None:
        async with await Wire.open(port) as wire:
            wire.send(first)
            await wire.rest(within_s=LATE_S + 2)  # line mode greets after a second, and then waits for a name

    opened = (
        (house.port, b""),
        (house.tcp_port, b""),
        (house.tcp_port, b"\0"),
        (house.port, request("GET", "/ws", HANDSHAKE)),
    )
    await asyncio.gather(*(one(port, first) for port, first in opened))


async def test_many_half_open_connections_stop_nobody(house: House) -> None:
    halves = []
    for turn in range(300):
        wire = await Wire.open((house.port, house.tcp_port)[turn % 2])
        wire.send((b"GET / HTTP/1.1\r\nhost:", b"\0\0\x10", b"PO", b"\0")[turn % 4])
        halves.append(wire)

    async with await house.talk("text", fresh("ann")) as ann, await house.talk("framed", fresh("bob")) as bob:
        began = perf_counter()
        for turn in range(20):
            await ann.write(bob.welcome["user"], f"{turn}")
            await bob.message(f"{turn}")
        assert perf_counter() - began < 1.0
        async with house.http() as client:
            assert (await client.get("/healthz")).status_code == 200

    for wire in halves:
        await wire.rest(within_s=LATE_S + 2)
        wire.cut()
