"""Requests that two servers in a row could read differently: never a second answer, never as somebody else."""

from __future__ import annotations

import json

import pytest

from support.raw import HANDSHAKE, Wire, request, ws_frame
from support.server import House, fresh
from tests.attack.people import member

HIDDEN = b"GET /api/me?user=smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST /api/threads/lobby/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = b'{"text":"t"}'


def length(data: bytes = BODY) -> bytes:
    return b"content-length: %d\r\n" % len(data)


TE = b"transfer-encoding: chunked\r\n"
CHUNKED = b"c\r\n" + BODY + b"\r\n0\r\n\r\n"

ONE_ANSWER_AT_MOST: dict[str, bytes] = {
    "CL.TE": POST + length(b"0\r\n\r\n" + HIDDEN) + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE.CL": POST + b"transfer-encoding: chunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "two lengths": POST + length() + b"content-length: 5\r\n\r\n" + BODY + HIDDEN,
    "a length that is a list": POST + b"content-length: 12, 5\r\n\r\n" + BODY + HIDDEN,
    "a length with a sign": POST + b"content-length: +12\r\n\r\n" + BODY + HIDDEN,
    "a length below nothing": POST + b"content-length: -1\r\n\r\n" + BODY + HIDDEN,
    "a length in hex": POST + b"content-length: 0xc\r\n\r\n" + BODY + HIDDEN,
    "a length with an underscore": POST + b"content-length: 1_2\r\n\r\n" + BODY + HIDDEN,
    "a length with a space": POST + b"content-length: 1 2\r\n\r\n" + BODY + HIDDEN,
    "no length": POST + b"content-length:\r\n\r\n" + BODY + HIDDEN,
    "a length too long to count": POST + b"content-length: " + b"9" * 40 + b"\r\n\r\n" + BODY + HIDDEN,
    "space before the colon": POST + b"transfer-encoding : chunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "space before the length's colon": POST + b"content-length : 12\r\n\r\n" + BODY + HIDDEN,
    "a folded header": POST
    + b"x: y\r\n transfer-encoding: chunked\r\n"
    + length()
    + b"\r\n"
    + BODY
    + b"\r\n\r\n"
    + HIDDEN,
    "a folded coding": POST + b"transfer-encoding:\r\n chunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "a line ended by LF": POST + b"x: y\ntransfer-encoding: chunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "a head ended by LF": POST + length() + b"\n" + BODY + HIDDEN,
    "a CR in a value": POST + b"x: y\rtransfer-encoding: chunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "a NUL in a value": POST + b"x: y\0z\r\n" + length() + b"\r\n" + BODY + HIDDEN,
    "an unknown coding": POST + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKED + HIDDEN,
    "identity": POST + b"transfer-encoding: identity\r\n" + length() + b"\r\n" + BODY + HIDDEN,
    "chunked twice": POST + b"transfer-encoding: chunked, chunked\r\n\r\n" + CHUNKED + HIDDEN,
    "chunked and not last": POST + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKED + HIDDEN,
    "chunked in two headers": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n" + CHUNKED + HIDDEN,
    "chunked after a tab": POST + b"transfer-encoding: \x0bchunked\r\n" + length() + b"\r\n" + CHUNKED + HIDDEN,
    "a chunk's size with a sign": POST + TE + b"\r\n+c\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size in a spelling": POST
    + b"transfer-encoding: chunked\r\n\r\n0xc\r\n"
    + BODY
    + b"\r\n0\r\n\r\n"
    + HIDDEN,
    "a chunk's size too long": POST + TE + b"\r\n" + b"F" * 30 + b"\r\n" + BODY + HIDDEN,
    "a chunk ended by LF": POST + TE + b"\r\nc\n" + BODY + b"\n0\n\n" + HIDDEN,
    "a chunk longer than it says": POST + TE + b"\r\n5\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN,
    "a LF in a chunk's extension": POST
    + b"transfer-encoding: chunked\r\n\r\nc;a\nb\r\n"
    + BODY
    + b"\r\n0\r\n\r\n"
    + HIDDEN,
    "a request line of two": b"GET /api/me HTTP/1.1 HTTP/1.1\r\nhost: localhost\r\n\r\n" + HIDDEN,
    "an old version": b"GET /api/me\r\n" + HIDDEN,
    "a version nobody has": b"GET /api/me HTTP/3.7\r\nhost: localhost\r\n\r\n" + HIDDEN,
    "a line before the headers": b"GET /api/me HTTP/1.1\r\n host: localhost\r\n\r\n" + HIDDEN,
    "a header without a name": b"GET /api/me HTTP/1.1\r\n: x\r\nhost: localhost\r\n\r\n" + HIDDEN,
    "a header without a colon": b"GET /api/me HTTP/1.1\r\nhost: localhost\r\nx\r\n\r\n" + HIDDEN,
    "HTTP/2's beginning": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "another protocol offered": b"GET /api/me HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: h2c\r\n"
    b"http2-settings: AA\r\n\r\n" + HIDDEN,
    "CONNECT": b"CONNECT evil.example:80 HTTP/1.1\r\nhost: evil.example:80\r\n\r\n" + HIDDEN,
}


def answers(data: bytes) -> list[int]:
    """The statuses of every answer in what came back."""
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("what", ONE_ANSWER_AT_MOST)
async def test_what_is_hidden_behind_is_not_answered(house: House, what: str) -> None:
    before = (await house.app.hub.room("lobby")).known
    async with await Wire.open(house.port) as wire:
        wire.send(ONE_ANSWER_AT_MOST[what])
        wire.end()
        said = await wire.rest()

    assert len(answers(said)) <= 1, said
    assert b"smuggled" not in said
    assert all(status >= 400 for status in answers(said)) or what == "another protocol offered", said
    assert (await house.app.hub.room("lobby")).known == before


async def test_what_is_allowed_is_read_as_one_would(house: House) -> None:
    """Extensions of chunks and trailers are HTTP; the request behind them is the second one."""
    name = fresh("second")
    second = request("GET", f"/api/me?user={name}")
    for body in (b"c;x=y\r\n" + BODY + b"\r\n0\r\n\r\n", b"C\r\n" + BODY + b"\r\n0\r\nx: y\r\n\r\n"):
        async with await Wire.open(house.port) as wire:
            wire.send(POST + b"transfer-encoding: chunked\r\n\r\n" + body + second)
            first, then = await wire.response(), await wire.response()
        assert (first.status, then.status, then.json["user"]) == (201, 200, name)


async def test_a_pipelined_request_is_nobody_elses(house: House) -> None:
    people = [await member(house) for _ in range(5)]
    wanted = [people[turn % 5] if turn % 6 else None for turn in range(30)]
    async with await Wire.open(house.port) as wire:
        for one in wanted:
            headers = {"authorization": f"Bearer {one[1]}"} if one else {}
            wire.send(request("GET", "/api/me", headers))
        for one in wanted:
            assert (await wire.response()).json["user"] == (one[0] if one else "visitor")


async def test_nor_is_one_behind_a_refusal_a_stream_or_a_cookie(house: House) -> None:
    name, token = await member(house)
    bearer = {"authorization": f"Bearer {token}"}
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/api/threads/nowhere", bearer) + request("GET", "/api/me"))
        assert (await wire.response()).status == 404
        assert (await wire.response()).json["user"] == "visitor"
        wire.send(request("GET", "/api/me", {"cookie": f"hubbub={token}"}) + request("GET", "/api/me"))
        assert (await wire.response()).json["user"] == name
        assert (await wire.response()).json["user"] == "visitor"
        wire.send(request("GET", "/api/me") + request("GET", "/api/events", bearer) + request("GET", "/api/me"))
        assert (await wire.response()).json["user"] == "visitor"
        said = await wire.reader.readuntil(b"retry: 1000\n\n")
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert b"visitor" not in said


async def test_bytes_behind_a_handshake_are_frames_and_no_request(house: House) -> None:
    _, token = await member(house)
    bearer = {"authorization": f"Bearer {token}"}
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/ws", {**HANDSHAKE, **bearer}) + request("GET", "/api/me"))
        assert (await wire.response()).status == 101
        assert b"HTTP/1.1" not in await wire.rest()
    async with await Wire.open(house.port) as wire:  # a handshake that is refused opens no tunnel
        refused = request("GET", "/ws", {**HANDSHAKE, "sec-websocket-version": "8"})
        wire.send(refused + request("GET", "/api/me", bearer))
        said = await wire.rest()
        assert len(answers(said)) == 1
        assert answers(said)[0] == 426
    async with await Wire.open(house.port) as wire:  # nor one behind somebody's request
        wire.send(
            request("GET", "/api/me", bearer) + request("GET", "/ws", HANDSHAKE) + ws_frame(0x81, b'{"type":"hello"}')
        )
        first = await wire.response()
        assert first.status == 200
        rest = await wire.rest()
        assert json.loads(first.body)["user"].encode() not in rest
