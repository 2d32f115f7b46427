"""Bytes that break the framing: an error where there is a way to say it, then a clean end within a second."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.raw import Wire, ws_frame
from support.server import House, fresh
from support.talkers import prefixed, split

pytestmark = pytest.mark.usefixtures("bystanders")

SOON_S = 2.0  # a closing connection lingers for one second at most


async def frames_until_closed(wire: Wire) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in split(await wire.rest(SOON_S))]


def hello() -> bytes:
    return json.dumps({"type": "hello", "user": fresh("mallory")}).encode()


# TCP, framed


@pytest.mark.parametrize("length", [(1 << 20) + 1, 0x00FFFFFF])
@pytest.mark.parametrize("greeted", [True, False])
async def test_an_oversized_length_is_refused_at_once(house: House, length: int, greeted: bool) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send((prefixed(hello()) if greeted else b"") + length.to_bytes(4, "big") + b"x" * 100)
        said = await frames_until_closed(wire)

    assert [frame["code"] for frame in said if frame["type"] == "error"] == ["too_large"]
    assert said[-1]["type"] == "bye"


async def test_the_longest_length_of_all_is_refused_after_a_hello(house: House) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(prefixed(hello()) + b"\xff\xff\xff\xff" + b"x" * 100)
        said = await frames_until_closed(wire)

    assert [frame["code"] for frame in said if frame["type"] == "error"] == ["too_large"]


async def test_what_came_before_the_oversized_frame_is_still_done(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", bob) as robert, await Wire.open(house.tcp_port) as wire:
        requests = [{"type": "hello", "user": ann}, {"type": "message.send", "to": bob, "text": "last words", "id": 1}]
        wire.send(b"".join(prefixed(json.dumps(request).encode()) for request in requests) + b"\xff\xff\xff\xff")
        await frames_until_closed(wire)
        # It was asked for before the framing broke: done or not, but the bystander is told at most once.
        await robert.ask("ping")
        assert len([frame for frame in robert.heard if frame["type"] == "message"]) <= 1


@pytest.mark.parametrize("part", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x10", b"\x00\x00\x00\x10{"])
async def test_a_frame_cut_off_by_a_half_close_is_an_error(house: House, part: bytes) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(prefixed(hello()) + prefixed(b'{"type":"ping","id":1}') + part)
        wire.end()
        said = await frames_until_closed(wire)

    kinds = [frame["type"] for frame in said if frame["type"] not in ("presence", "message")]
    assert kinds == ["welcome", "pong", "error"]
    assert said[-1]["code"] == "bad_frame"


async def test_a_half_close_after_the_last_frame_is_answered_first(house: House) -> None:
    bob = fresh("bob")
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(prefixed(hello()))
        for number in range(100):
            body = {"type": "message.send", "to": bob, "text": f"{number}", "id": number}
            wire.send(prefixed(json.dumps(body).encode()))
        wire.end()
        said = await frames_until_closed(wire)

    assert [frame["id"] for frame in said if frame["type"] == "ack"] == list(range(100))
    async with await house.talk("text", bob) as robert:
        assert (await robert.message())["text"] == "0"


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 1000, b"\x01" * 50, bytes(range(1, 256)) * 40, b"\n" * 1000, b"\xf0\x9f\n\x80\n", b"%s%n\n" * 100],
)
async def test_garbage_on_the_tcp_port_is_no_name(house: House, data: bytes) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(data)
        wire.end()
        said = (await wire.rest(SOON_S)).decode()

    assert said.startswith("Enter your username: ")
    assert "Connected!" not in said


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1\r\n", b"POST /chat HTTP/1.0\r\n", b"GET /ws HTTP/1.1\n", b"OPTIONS * HTTP/1.1\r\n"],
)
async def test_an_http_request_on_the_tcp_port_is_closed_at_once(house: House, request_line: bytes) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(request_line + b"Host: localhost\r\nUser-Agent: somebody: hello\r\n\r\n")
        assert await wire.rest(1.0) == b""


async def test_an_http_request_that_comes_in_pieces_is_closed_too(house: House) -> None:
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(b"GET / HT")
        assert await wire.reader.readexactly(21) == b"Enter your username: "
        wire.send(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        assert await wire.rest(1.0) == b""


async def test_a_tls_hello_on_the_tcp_port_signs_nobody_in(house: House) -> None:
    client_hello = bytes.fromhex("160301010e0100010a0303") + bytes(range(256)) + b"\n\x00\x0a"
    async with await Wire.open(house.tcp_port) as wire:
        wire.send(client_hello)
        wire.end()
        assert b"Connected!" not in await wire.rest(SOON_S)


async def test_who_connects_and_leaves_without_a_word_leaves_nothing_behind(house: House) -> None:
    for port in (house.tcp_port, house.port):
        for _ in range(20):
            (await Wire.open(port)).cut()


# WebSocket

TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89

BREAKS = {
    "unmasked": (ws_frame(TEXT, b"{}", masked=False), 1002),
    "a reserved bit": (ws_frame(0xC1, b"{}"), 1002),
    "all reserved bits": (ws_frame(0xF1, b"{}"), 1002),
    "a reserved opcode": (ws_frame(0x83, b"{}"), 1002),
    "a reserved control opcode": (ws_frame(0x8B, b""), 1002),
    "a fragmented ping": (ws_frame(0x09, b""), 1002),
    "a long ping": (ws_frame(PING, b"x" * 126), 1002),
    "a continuation of nothing": (ws_frame(0x80, b"x"), 1002),
    "a new message inside another": (ws_frame(0x01, b"{") + ws_frame(TEXT, b"}"), 1002),
    "a length in too many bytes": (ws_frame(TEXT, b"", length=b"\x7e\x00\x05") + b"xxxxx", 1002),
    "a length with its top bit": (ws_frame(TEXT, b"", length=b"\x7f" + b"\xff" * 8), 1002),
    "a length of 2^62": (ws_frame(BINARY, b"", length=b"\x7f\x40" + b"\x00" * 7), 1009),
    "a length of 2 MiB": (ws_frame(TEXT, b"", length=b"\x7f" + (2 << 20).to_bytes(8, "big")), 1009),
    "fragments of 2 MiB": (
        ws_frame(0x01, b"x" * (1 << 20)) + ws_frame(0x80, b"", length=b"\x7f" + (1 << 20).to_bytes(8, "big")),
        1009,
    ),
    "no UTF-8": (ws_frame(TEXT, b'{"\xff'), 1007),
    "no UTF-8 in a fragment": (ws_frame(0x01, b'{"\xc3') + ws_frame(0x00, b"\x28"), 1007),
    "a close code of one byte": (ws_frame(CLOSE, b"\x03"), 1002),
    "a close code that must not be sent": (ws_frame(CLOSE, b"\x03\xed"), 1002),
    "a close reason that is no UTF-8": (ws_frame(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("path", ["/ws", "/ws/NAME"])
async def test_a_websocket_that_breaks_the_protocol_is_closed_with_the_right_code(
    house: House, path: str, what: str
) -> None:
    data, code = BREAKS[what]
    async with await Wire.open(house.port) as wire:
        await wire.upgrade(path.replace("NAME", fresh("mallory")))
        wire.send(data)
        assert await wire.close_code() == code


async def test_an_oversized_frame_inside_a_binary_message_is_an_error_and_the_end(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        await wire.upgrade()
        wire.send(ws_frame(BINARY, prefixed(hello())) + ws_frame(BINARY, b"\xff\xff\xff\xff{}"))
        said = []
        while True:
            first, payload = await wire.frame()
            if first == CLOSE:
                break
            said += [json.loads(frame) for frame in split(payload)]

    assert [frame["code"] for frame in said if frame["type"] == "error"] == ["too_large"]
    assert int.from_bytes(payload[:2], "big") == 1009


@pytest.mark.parametrize("message", [b"", b"\x00\x00", b"\x00\x00\x00\x05{}", b'{"type":"ping"}'])
async def test_a_binary_message_of_no_whole_frames_is_an_error(house: House, message: bytes) -> None:
    async with await house.talk("binary", fresh("mallory")) as talker:
        await talker.send_message(message)
        if message.startswith(b"{"):  # as a length this is too much by far
            assert (await talker.take("error"))["code"] == "too_large"
        else:
            assert (await talker.take("error"))["code"] == "bad_frame"
            assert (await talker.ask("ping"))["type"] == "pong"


async def test_pings_between_the_fragments_of_a_message_are_answered(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        await wire.upgrade()
        payload = hello()
        wire.send(ws_frame(0x01, payload[:5]) + ws_frame(PING, b"are you there?") + ws_frame(0x80, payload[5:]))
        assert await wire.frame() == (0x8A, b"are you there?")
        first, welcome = await wire.frame()
        assert (first, json.loads(welcome)["type"]) == (TEXT, "welcome")
        wire.send(ws_frame(CLOSE, (1000).to_bytes(2, "big") + b"done"))
        assert await wire.close_code() == 1000


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_websocket_that_vanishes_in_the_middle_is_forgotten(house: House, size: int) -> None:
    name = fresh("mallory")
    async with await house.talk("text", fresh("ann")) as alice:
        await alice.write(name, "so that we share a small thread")
        async with await Wire.open(house.port) as wire:
            await wire.upgrade()
            wire.send(ws_frame(TEXT, json.dumps({"type": "hello", "user": name}).encode()))
            await alice.take("presence", user=name, online=True)
            wire.send(ws_frame(TEXT, b"x" * 2000)[:size])
            wire.end()
            await wire.rest(SOON_S)
        await alice.take("presence", user=name, online=False)


@pytest.mark.parametrize("above", [0, 1, 4])
async def test_a_text_message_holds_a_mebibyte_and_not_a_byte_more(house: House, above: int) -> None:
    frame = json.dumps({"type": "ping", "id": 1}).encode().ljust((1 << 20) + above)
    async with await house.talk("text", fresh("mallory")) as mallory:
        await mallory.send_payload(frame)
        if above:
            assert (await mallory.closing())[0] == 1009
        else:
            await mallory.take("pong", id=1)
