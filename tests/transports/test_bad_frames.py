"""Bad frames in good framing: a typed error, and the connection goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.server import House, fresh
from support.talkers import TALKERS, Talker

pytestmark = pytest.mark.usefixtures("bystanders")


@pytest.fixture(params=TALKERS)
async def talker(house: House, request: pytest.FixtureRequest) -> AsyncIterator[Talker]:
    """Somebody who has said hello; the connection must still be good at the end."""
    async with await house.talk(request.param, fresh("mallory")) as talker:
        yield talker
        assert (await talker.ask("ping"))["type"] == "pong"


def nested(depth: int) -> str:
    """A request whose deepest value lies at this level, the frame itself being level 1."""
    levels = depth - 2  # the frame, and the metadata
    return '{"type":"message.send","thread":"lobby","text":"x","metadata":{"a":%s%s}}' % ("[" * levels, "]" * levels)  # noqa: UP031


UNREADABLE = {
    "nothing": b"",
    "garbage": b"\x00\x01garbage",
    "not an object": b'["type"]',
    "a string": b'"ping"',
    "null": b"null",
    "cut off": b'{"type": "ping"',
    "two objects": b'{"type":"ping"}{"type":"ping"}',
    "a key twice": b'{"type":"ping","id":1,"id":2}',
    "a key twice, escaped": b'{"type":"ping","id":1,"\\u0069d":2}',
    "a key twice, inside": b'{"type":"message.send","thread":"lobby","text":"x","metadata":{"a":{"b":1,"b":2}}}',
    "NaN": b'{"type":"message.send","thread":"lobby","text":"x","metadata":{"a":NaN}}',
    "Infinity": b'{"type":"message.send","thread":"lobby","text":"x","metadata":{"a":-Infinity}}',
    "byte-order mark": b'\xef\xbb\xbf{"type":"ping"}',
    "half a surrogate pair": b'{"type":"message.send","thread":"lobby","text":"\\ud83d"}',
    "half a surrogate pair in a key": b'{"type":"ping","\\udc00":1}',
    "no type": b'{"id":1}',
    "type of a wrong type": b'{"type":1}',
    "33 levels": nested(33).encode(),
    "100,000 levels": nested(100_000).encode(),
    "257 keys": json.dumps({"type": "ping", **{str(n): n for n in range(256)}}).encode(),
    "a number of 100,000 digits": b'{"type":"ping","n":' + b"9" * 100_000 + b"]}",
    "single quotes": b"{'type':'ping'}",
    "a trailing comma": b'{"type":"ping",}',
    "control character": b'{"type":"ping","a":"\x01"}',
    "a newline in a string": b'{"type":"ping","a":"\n"}',
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_is_no_frame_is_answered_with_bad_frame(talker: Talker, what: str) -> None:
    await talker.send_payload(UNREADABLE[what])

    error = await talker.take("error")
    assert error["code"] == "bad_frame"
    assert set(error) - {"id"} == {"type", "code", "title", "detail"}


@pytest.mark.parametrize("kind", ["binary", "framed"])  # in text a WebSocket itself must break off
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
async def test_what_is_not_utf8_is_answered_with_bad_frame(house: House, kind: str, bad: bytes) -> None:
    async with await house.talk(kind, fresh("mallory")) as talker:
        await talker.send_payload(b'{"type":"message.send","thread":"lobby","text":"' + bad + b'"}')
        assert (await talker.take("error"))["code"] == "bad_frame"
        await talker.send_payload(b'{"type":"ping","' + bad + b'":1}')
        assert (await talker.take("error"))["code"] == "bad_frame"
        assert (await talker.ask("ping"))["type"] == "pong"


GOOD = {
    "32 levels": nested(32).encode(),
    "256 keys": json.dumps({"type": "ping", **{str(n): n for n in range(255)}}).encode(),
    "white space": b' \n{ "type" : "ping" }\t ',
    "an escaped pair": b'{"type":"message.send","thread":"lobby","text":"\\ud83d\\ude00"}',
    "unknown fields": b'{"type":"ping","later":{"version":[1]}}',
    "a colon in a text": b'{"type":"message.send","thread":"lobby","text":"a:b \\":\\" c"}',
}


@pytest.mark.parametrize("what", GOOD)
async def test_what_is_unusual_but_right_is_accepted(talker: Talker, what: str) -> None:
    await talker.send_payload(GOOD[what])

    reply = await talker.take(None, lambda frame: frame["type"] in ("pong", "ack", "error"))
    assert reply["type"] in ("pong", "ack")


async def test_an_unknown_type_is_named_and_the_id_echoed(talker: Talker) -> None:
    for kind in ("shout", "welcome", "message", "Hello", "message.send ", "x" * 1000, ""):
        error = await talker.ask(kind)
        assert (error["type"], error["code"]) == ("error", "unknown_type")


WRONG = [
    ("message.send", {"thread": "lobby"}),
    ("message.send", {"text": "to nobody"}),
    ("message.send", {"thread": "lobby", "to": "bob", "text": "to two places"}),
    ("message.send", {"thread": "lobby", "text": ""}),
    ("message.send", {"thread": "lobby", "text": 5}),
    ("message.send", {"thread": "lobby", "text": None}),
    ("message.send", {"thread": "lobby", "text": "x", "message_type": "shout"}),
    ("message.send", {"thread": "lobby", "text": "x", "message_type": 1}),
    ("message.send", {"thread": "lobby", "text": "x", "metadata": []}),
    ("message.send", {"thread": "lobby", "text": "x", "metadata": "x"}),
    ("message.send", {"thread": "lobby", "text": "x", "reply_to": "nothing"}),
    ("message.send", {"thread": "lobby", "text": "x", "reply_to": "999999-abc"}),
    ("message.send", {"thread": "lobby", "text": "x", "reply_to": 1}),
    ("message.send", {"thread": "../x", "text": "x"}),
    ("message.send", {"thread": 5, "text": "x"}),
    ("message.send", {"to": "", "text": "x"}),
    ("message.send", {"to": "a b", "text": "x"}),
    ("message.send", {"to": "exit", "text": "x"}),
    ("message.send", {"to": ["a"], "text": "x"}),
    ("thread.create", {"title": 1}),
    ("thread.create", {"members": "bob"}),
    ("thread.create", {"members": ["a b"]}),
    ("thread.create", {"members": [1]}),
    ("thread.create", {"public": "yes"}),
    ("thread.join", {}),
    ("thread.add", {"thread": "lobby"}),
    ("history", {"thread": "lobby", "after": -1}),
    ("history", {"thread": "lobby", "after": 1.5}),
    ("history", {"thread": "lobby", "limit": True}),
    ("history", {"thread": "lobby", "after": 2**63}),
    ("seen", {"thread": "lobby"}),
    ("seen", {"thread": "lobby", "seq": -1}),
    ("seen", {"thread": "lobby", "seq": "1"}),
    ("seen", {"thread": "lobby", "seq": 1e300}),
    ("run.start", {"thread": "lobby"}),
    ("run.cancel", {}),
    ("run.cancel", {"run": "a b"}),
    ("thread.list", {"public": 1}),
]


async def test_wrong_and_missing_values_are_bad_requests_that_say_what_was_expected(talker: Talker) -> None:
    answers = [(kind, fields, await talker.ask(kind, **fields)) for kind, fields in WRONG]

    others = [answer for answer in answers if answer[2].get("code") != "bad_request"]
    assert others == []
    assert all(len(answer[2]["detail"]) > 10 for answer in answers)


async def test_a_message_to_oneself_is_refused(talker: Talker) -> None:
    name = talker.welcome["user"]
    for spelling in (name, name.upper()):
        assert (await talker.ask("message.send", to=spelling, text="x"))["code"] == "bad_request"


SIZES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("message.send", {"text": "x" * 65536}, {"text": "x" * 65537}, "too_large"),
    ("message.send", {"text": "é" * 32768}, {"text": "é" * 32768 + "x"}, "too_large"),
    ("message.send", {"text": "x"}, {"text": ""}, "bad_request"),
    (
        "message.send",
        {"text": "x", "metadata": {"a": "x" * (16384 - 8)}},
        {"text": "x", "metadata": {"a": "x" * (16384 - 7)}},
        "too_large",
    ),
    ("message.send", {"text": "x", "key": "k" * 128}, {"text": "x", "key": "k" * 129}, "bad_request"),
    ("thread.create", {"title": "é" * 200}, {"title": "é" * 201}, "bad_request"),
]


@pytest.mark.parametrize(("kind", "good", "bad", "code"), SIZES, ids=lambda value: str(value)[:20])
async def test_at_the_limit_is_accepted_and_one_above_is_refused(
    talker: Talker, kind: str, good: dict[str, Any], bad: dict[str, Any], code: str
) -> None:
    where = {"thread": await talker.group()} if kind == "message.send" else {}

    assert (await talker.ask(kind, **where, **good))["type"] in ("ack", "thread")
    error = await talker.ask(kind, **where, **bad)
    assert (error["type"], error["code"]) == ("error", code)


async def test_a_frame_of_exactly_a_mebibyte_is_read(talker: Talker) -> None:
    frame = b'{"type":"ping","id":"big","pad":"%s"}'
    await talker.send_payload(frame % (b"x" * ((1 << 20) - len(frame) + 2)))

    assert (await talker.take("pong"))["id"] == "big"


@pytest.mark.parametrize("kind", TALKERS)
async def test_nothing_but_hello_is_answered_before_hello(house: House, kind: str) -> None:
    async with await house.connect(kind) as stranger:
        for request, fields in [("ping", {}), ("who", {}), ("message.send", {"thread": "lobby", "text": "x"})]:
            assert (await stranger.ask(request, **fields))["code"] == "hello_required"
        assert (await stranger.ask("nonsense"))["code"] == "unknown_type"
        await stranger.hello(fresh("late"))


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_refused_hello_can_be_said_again(house: House, kind: str) -> None:
    ann = fresh("ann")
    async with await house.talk("text", ann), await house.connect(kind) as stranger:
        for fields, code in [
            ({"token": "nonsense"}, "unauthorized"),
            ({"token": ""}, "unauthorized"),
            ({"token": 5}, "bad_request"),
            ({"user": ann}, "name_taken"),
            ({"user": ann.upper()}, "name_taken"),
            ({"user": "openai"}, "name_taken"),
            ({"user": "a b"}, "bad_request"),
            ({"user": ""}, "bad_request"),
            ({"user": "x" * 65}, "bad_request"),
            ({"user": "раypal"}, "bad_request"),
            ({"user": "exit"}, "bad_request"),
            ({"user": fresh("x"), "threads": "lobby"}, "bad_request"),
            ({"user": fresh("x"), "client": "x" * 201}, "bad_request"),
        ]:
            error = await stranger.ask("hello", **fields)
            assert (error["type"], error.get("code"), fields) == ("error", code, fields)
        await stranger.hello(fresh("fine"))


async def test_hello_twice_is_refused_and_changes_nothing(talker: Talker) -> None:
    for user in (talker.welcome["user"], fresh("another")):
        error = await talker.ask("hello", user=user)
        assert error["type"] == "error"
    ack = await talker.post("lobby", "still me")
    assert (await talker.message("still me"))["seq"] == ack["seq"]
    assert (await talker.ask("who"))["online"].count(talker.welcome["user"]) == 1


@pytest.mark.parametrize("kind", ["text", "framed"])
async def test_who_says_no_hello_in_time_is_told_and_closed(own_house, kind: str) -> None:
    async with own_house() as house:
        hub = house.app.hub
        hub.limits = dataclasses.replace(hub.limits, hello_s=0.1)
        async with await house.connect(kind) as silent:
            if kind == "framed":
                silent.writer.write(b"\x00")
            bye = await silent.take("bye")
            await silent.drain()

    assert (bye["code"], bye["resume"]) == ("hello_required", False)
