"""Bad requests on the HTTP port: each is answered with the right status, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.raw import HANDSHAKE, Wire, request, ws_frame
from support.server import House, fresh

pytestmark = pytest.mark.usefixtures("bystanders")


async def answer(house: House, data: bytes) -> Any:
    async with await Wire.open(house.port) as wire:
        wire.send(data)
        return await wire.response()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x00\x00\x00\x05hello",
        b"\x16\x03\x01\x01\x0e" + bytes(range(250)),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda data: repr(data[:25]),
)
async def test_what_is_no_good_request_is_answered_with_a_4xx_and_closed(house: House, data: bytes) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(data)
        wire.end()
        said = await wire.rest(2.0)

    assert said.startswith(b"HTTP/1.1 4"), said


@pytest.mark.parametrize(
    "target", ["http://localhost/healthz", "http://localhost", "*", "//", "/%", "/%ff", "/" + "x" * 8000]
)
async def test_unusual_targets_are_answered(house: House, target: str) -> None:
    for method in ("GET", "OPTIONS"):
        said = await answer(house, request(method, target))
        assert 200 <= said.status < 500


async def test_a_request_is_answered_although_nothing_more_can_come_behind_it(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        body = b'{"to":"joe","text":"hi"}'
        wire.send(request("POST", "/api/messages", {**JSON, "content-length": str(len(body))}) + body)
        wire.end()
        said = await wire.response()

    assert said.status == 201


async def test_a_request_cut_off_is_forgotten(house: House) -> None:
    for data in (
        b"GET /",
        b"GET / HTTP/1.1\r\nhost:",
        request("POST", "/api/messages", {"content-length": "100"}) + b"{",
    ):
        async with await Wire.open(house.port) as wire:
            wire.send(data)
            wire.end()
            await wire.rest(2.0)


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/nothing", "/api", "/ws/x/y", "/api/threads/bad%20id", "/api/runs/%2e"]
)
async def test_unknown_addresses_are_problems_with_a_code(house: House, path: str) -> None:
    said = await answer(house, request("GET", path))

    assert said.headers["content-type"] == "application/problem+json"
    assert (said.status, said.json["code"]) in ((404, "not_found"), (400, "bad_request"))


@pytest.mark.parametrize(
    "path", ["/api/threads/bad.id/events", "/api/threads/a%20b/events", f"/api/threads/{'x' * 65}/events"]
)
async def test_a_stream_of_no_possible_thread_is_refused(house: House, path: str) -> None:
    said = await answer(house, request("GET", path))

    assert said.status in (400, 404)
    assert said.json["code"] in ("bad_request", "not_found")


async def test_a_stream_of_an_unknown_thread_is_not_found(house: House) -> None:
    said = await answer(house, request("GET", "/api/threads/nowhere/events"))

    assert (said.status, said.json["code"]) == (404, "not_found")
    assert said.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/health"),
        ("DELETE", "/healthz"),
        ("POST", "/api/me"),
        ("DELETE", "/api/messages"),
        ("PUT", "/api/threads"),
        ("POST", "/api/events"),
        ("POST", "/"),
    ],
)
async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(house: House, method: str, path: str) -> None:
    said = await answer(house, request(method, path))

    assert said.status == 405
    assert said.headers["allow"]
    assert (said.headers["content-type"], said.json["status"]) == ("application/problem+json", 405)
    assert said.json["code"]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b'"x"'),
        (JSON, b"null"),
        (JSON, b"\xff\xfe"),
        (JSON, b'{"to":"bob","text":5}'),
        (JSON, b'{"to":"bob"}'),
        (JSON, b'{"text":"x"}'),
        (JSON, b'{"to":"bob","text":"x","metadata":[]}'),
        (JSON, b'{"to":"bob","text":"x","sender":"mallory"}'),
        (JSON, b'{"to":"bob","text":"x","key":""}'),
        (JSON, b'{"to":"bob","text":"x","reply_to":"%s"}' % (b"x" * 65)),
        (JSON, b'{"to":"bob","text":"\\ud83d"}'),
        (JSON, b'{"to":"bob","text":"x","metadata":{"a":"\\ud83d"}}'),
        (JSON, b'{"to":"bob","text":"x","metadata":{"a":NaN}}'),
        (JSON, b'{"to":"bob","text":"x","metadata":{"a":Infinity}}'),
        (JSON, b'{"to":"bob","text":"x","metadata":{"a":1,"a":2}}'),
        (JSON, b'{"to":"bob","text":"x","metadata":' + b'{"a":' * 40 + b"1" + b"}" * 41),
        (JSON, b'{"to":"bob","text":"x","metadata":' + b"[" * 100_000),
        (JSON, b'{"to":"bob","text":"x","metadata":{"a":' + b"9" * 5000 + b"}}"),
        (JSON, b'{"to":"a b","text":"x"}'),
        ({"content-type": "text/plain"}, b'{"to":"bob","text":"x"}'),
        ({"content-type": "application/x-www-form-urlencoded"}, b"to=bob&text=x"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
async def test_a_wrong_body_is_a_bad_request(house: House, headers: dict[str, str], body: bytes) -> None:
    said = await answer(
        house,
        request("POST", f"/api/messages?user={fresh('mallory')}", {**headers, "content-length": str(len(body))}, body),
    )

    assert (said.status, said.headers["content-type"]) == (400, "application/problem+json")
    assert said.json["code"] in ("bad_request", "bad_frame")


async def test_the_limits_of_a_message_are_the_same_over_rest(house: House) -> None:
    async with house.http(user=fresh("ann")) as http:
        for fields, status in [
            ({"text": "x" * 65536}, 201),
            ({"text": "x" * 65537}, 413),
            ({"text": ""}, 400),
            ({"text": "x", "metadata": {"a": "x" * (16384 - 8)}}, 201),
            ({"text": "x", "metadata": {"a": "x" * (16384 - 7)}}, 413),
            ({"text": "x", "key": "k" * 129}, 400),
        ]:
            said = await http.post("/api/messages", json={"to": "bob", **fields})
            assert said.status_code == status
        for title, status in [("t" * 200, 201), ("t" * 201, 400)]:
            assert (await http.post("/api/threads", json={"title": title})).status_code == status


async def test_a_body_above_a_mebibyte_is_refused_before_it_is_read(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(request("POST", "/api/messages", {**JSON, "content-length": str(1 << 30)}) + b'{"to":"bob","text":"')
        said = await wire.response()

    assert (said.status, said.json["code"]) == (413, "too_large")


async def test_a_body_that_never_ends_is_refused(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(request("POST", "/api/messages", {**JSON, "transfer-encoding": "chunked"}))
        for _ in range(40):
            wire.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
        said = await wire.response()

    assert said.status == 413


# Heads


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_above_16_kib_is_refused(house: House, end: bytes) -> None:
    said = await answer(house, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 17_000 + end)

    assert said.status == 431


async def test_a_head_of_a_thousand_short_headers_is_refused(house: House) -> None:
    said = await answer(
        house, b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x-%d: y%s\r\n" % (n, b"y" * 20) for n in range(1000))
    )

    assert said.status == 431


async def test_a_head_below_16_kib_is_fine(house: House) -> None:
    said = await answer(house, request("GET", "/healthz", {"x-long": "x" * 15_000}))

    assert said.status == 200


async def test_a_head_that_trickles_in_is_timed_out(own_house) -> None:
    async with own_house(head_s=0.3) as house, await Wire.open(house.port) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")

        async def trickle() -> None:
            while True:
                wire.send(b"x-a: b\r\n")
                await asyncio.sleep(0.05)  # this is what it is about

        trickling = asyncio.create_task(trickle())
        said = await wire.response()
        trickling.cancel()

    assert said.status == 408


async def test_a_second_head_that_trickles_in_is_timed_out_too(own_house) -> None:
    async with own_house(head_s=0.3) as house, await Wire.open(house.port) as wire:
        wire.send(request("GET", "/healthz"))
        assert (await wire.response()).status == 200
        wire.send(b"GET /healthz HTTP/1.1\r\nhost: ")
        assert (await wire.response()).status == 408


async def test_a_body_that_trickles_in_is_timed_out(own_house) -> None:
    async with own_house(frame_s=0.3) as house, await Wire.open(house.port) as wire:
        wire.send(b"POST /api/threads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
        wire.send(b"content-length: 1000\r\n\r\n{")

        async def trickle() -> None:
            while True:
                wire.send(b" ")
                await asyncio.sleep(0.05)  # this is what it is about

        trickling = asyncio.create_task(trickle())
        said = await wire.response()
        trickling.cancel()

    assert said.status == 408


# Pipelines and upgrades


async def test_pipelined_requests_are_answered_in_their_order(house: House) -> None:
    name = fresh("ann")
    body = json.dumps({"to": fresh("bob"), "text": "x"}).encode()
    async with await Wire.open(house.port) as wire:
        post = request("POST", f"/api/messages?user={name}", JSON, body)
        wire.send((request("GET", "/healthz") + post + request("GET", "/nothing")) * 10)
        statuses = [(await wire.response()).status for _ in range(30)]

    assert statuses == [200, 201, 404] * 10


async def test_a_stream_asked_for_behind_another_request_comes_after_its_answer(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/healthz") + request("GET", f"/api/events?user={fresh('ann')}"))
        first = await wire.response()
        head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 5)

    assert (first.status, first.body) == (200, b"ok")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in head


async def test_nothing_but_events_comes_on_a_stream_whatever_is_sent_behind_its_request(house: House) -> None:
    async with await Wire.open(house.port) as wire, await house.talk("text", fresh("bob")) as bob:
        name = fresh("ann")
        await bob.write(name, "so that we share a small thread")
        wire.send(request("GET", f"/api/events?user={name}") + request("GET", "/healthz"))
        await bob.take("presence", user=name, online=True)
        wire.send(request("GET", "/nothing") + b"garbage")
        await bob.write(name, "an event")
        async with asyncio.timeout(5):
            said = await wire.reader.readuntil(b"an event")

    assert said.count(b"HTTP/1.1") == 1
    assert b"text/event-stream" in said


async def test_a_websocket_opened_behind_another_request_waits_for_its_answer_or_is_refused(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/healthz") + request("GET", "/ws", HANDSHAKE))
        first = await wire.response()

    assert first.status == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sec-websocket-version": "8"}, 426),
        ({"sec-websocket-version": ""}, 426),
        ({"sec-websocket-key": "short"}, 400),
        ({"sec-websocket-key": ""}, 400),
        ({"connection": "keep-alive, Upgrade"}, 101),
        ({"upgrade": "WebSocket"}, 101),
        ({"sec-websocket-extensions": "permessage-deflate"}, 101),
        ({"sec-websocket-protocol": "chat"}, 101),
    ],
    ids=str,
)
async def test_handshakes_are_judged(house: House, change: dict[str, str], status: int) -> None:
    said = await answer(house, request("GET", "/ws", {**HANDSHAKE, **change}))

    assert said.status == status
    if status == 426:
        assert said.headers["sec-websocket-version"] == "13"
    if status == 101:
        assert said.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-extensions" not in said.headers
        assert "sec-websocket-protocol" not in said.headers


async def test_a_handshake_with_another_method_or_address_is_refused(house: House) -> None:
    assert (await answer(house, request("POST", "/ws", HANDSHAKE))).status == 405
    assert (await answer(house, request("GET", "/nothing", HANDSHAKE))).status == 404
    assert (await answer(house, request("GET", "/ws/", HANDSHAKE))).status == 404


async def test_ws_without_an_upgrade_is_told_what_is_there(house: House) -> None:
    said = await answer(house, request("GET", "/ws"))

    assert said.status in (400, 404, 426)


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "websocket2"])
async def test_an_upgrade_to_something_else_is_ignored(house: House, protocol: str) -> None:
    """RFC 9110 §7.8: a server may ignore the field; `curl --http2` sends h2c with every request."""
    said = await answer(house, request("GET", "/healthz", {"connection": "Upgrade", "upgrade": protocol}))
    assert (said.status, said.body) == (200, b"ok")


async def test_a_page_of_another_site_cannot_open_a_websocket(house: House) -> None:
    said = await answer(house, request("GET", "/ws", {**HANDSHAKE, "origin": "https://evil.example"}))
    assert said.status == 403


async def test_a_page_of_this_server_can(house: House) -> None:
    own = {"host": f"127.0.0.1:{house.port}", "origin": f"http://127.0.0.1:{house.port}"}
    said = await answer(house, request("GET", "/ws", {**HANDSHAKE, **own}))
    assert said.status == 101


@pytest.mark.parametrize("path", ["/ws", "/ws/NAME"])
async def test_the_first_frame_may_come_in_the_segment_of_the_handshake(house: House, path: str) -> None:
    name = fresh("ann")
    async with await house.talk("text", fresh("bob")) as bob, await Wire.open(house.port) as wire:
        hello = json.dumps({"type": "hello", "user": name}).encode()
        send = json.dumps({"type": "message.send", "thread": "lobby", "text": "early"}).encode()
        frames = ws_frame(0x81, hello) + ws_frame(0x81, send)
        if path != "/ws":
            frames = ws_frame(0x82, b"\x00\x00\x00\x05early")
        await wire.upgrade(path.replace("NAME", name), frames)

        assert (await bob.message("early"))["sender"] == name
