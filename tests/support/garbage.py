"""Frames gone wrong, and a judge of what is answered to them that shares no code with the server.

`mutate` makes bytes of a valid frame, most of them no frame any more; `judge` knows from the protocol page what may be
answered. `HUBBUB_SEED` chooses another run, or repeats one that failed.
"""

from __future__ import annotations

import json
import os
import re
from random import Random
from typing import Any

from support.inbox import Frame

SEED = int(os.environ.get("HUBBUB_SEED", "1"))
_CODES = (
    "bad_frame bad_request unknown_type hello_required unauthorized not_found name_taken key_conflict too_large "
    "rate_limited queue_full storage_full unavailable slow shutdown"
)
CODES = frozenset(_CODES.split())
_REPLIES = "welcome ack error thread threads history checked ok who run pong message"
REPLIES = frozenset(_REPLIES.split())
_REQUESTS = (
    "hello message.send thread.create thread.join thread.leave thread.add thread.remove thread.list history check "
    "seen typing who run.start run.cancel ping bye"
)
REQUESTS = frozenset(_REQUESTS.split())

REQUEST_LINES = """
{"type": "ping", "id": 1}
{"type": "who", "id": "w"}
{"type": "message.send", "id": 2, "thread": "lobby", "text": "hello", "metadata": {"a": [1, {"b": null}]}}
{"type": "message.send", "id": "k", "thread": "lobby", "text": "a key", "key": "the same", "reply_to": "1-x"}
{"type": "message.send", "id": 3, "to": "ann", "text": "privately", "message_type": "command"}
{"type": "message.send", "id": 4, "thread": "QUIET", "text": "not mine"}
{"type": "thread.create", "id": 5, "title": "t", "members": ["nobody-yet"], "public": false}
{"type": "thread.join", "id": 6, "thread": "QUIET"}
{"type": "thread.leave", "id": 7, "thread": "QUIET"}
{"type": "thread.add", "id": 8, "thread": "QUIET", "member": "bob"}
{"type": "thread.remove", "id": 9, "thread": "QUIET", "member": "bob"}
{"type": "thread.list", "id": 10, "public": true}
{"type": "history", "id": 11, "thread": "lobby", "after": 0, "limit": 3}
{"type": "history", "id": 12, "thread": "QUIET"}
{"type": "check", "id": 18}
{"type": "seen", "id": 13, "thread": "lobby", "seq": 1}
{"type": "typing", "id": 14, "thread": "QUIET"}
{"type": "run.start", "id": 15, "thread": "QUIET", "assistant": "openai"}
{"type": "run.cancel", "id": 16, "run": "nothing"}
{"type": "hello", "id": 17, "user": "ann", "resume": {"epoch": "x", "threads": {"lobby": 1}, "runs": {}}}
"""
"""One valid request of each kind, and more to a thread that the sender is not in."""


# Mutations

WEIRD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**53, 2**53 + 1, 2**63, -(2**64), 10**40, 1e308, -0.0),
    *("", "x" * 65, "x" * 300, "\0", "\ud800", "\udfff x", "a\u202eb", "\u200b", "é" * 40, "🙂", "../x", "exit", "a b"),
    *([], {}, [[]], [None], {"a": {"b": [1]}}, ["lobby"] * 300, {str(n): n for n in range(257)}, "lobby", "openai"),
]
BYTES = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x00", b"\xef\xbb\xbf", b"\\ud83d", b"NaN", b"}"]
BYTES += [b'"', b"\\", b"{", b"[", b":", b",", b"1e999", b"-", b"\n", b"\r\n", b"\x1b[2J", b"\xff\xfa", b"\t", b"::"]


def nested(chance: Random) -> Any:
    value: Any = 1
    for _ in range(chance.choice((5, 30, 31, 33, 100))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def mutate_fields(chance: Random, frame: Frame) -> bytes:
    frame = dict(frame)
    name = chance.choice(list(frame))
    match chance.randrange(7):
        case 0:
            del frame[name]
        case 1 | 2:
            frame[name] = chance.choice(WEIRD)
        case 3:
            frame[name] = nested(chance)
        case 4:
            frame["type"] = chance.choice(["message.send", "thread.create", "seen", "history", "check", "Hello", "", 7])
        case 5:
            frame[chance.choice(["text", "thread", "to", "key", "metadata", "id", "x"])] = chance.choice(WEIRD)
        case 6:  # a key twice
            body = json.dumps(frame)
            return f"{body[:-1]},{json.dumps(name)}:{json.dumps(chance.choice(WEIRD))}}}".encode()
    return json.dumps(frame).encode()


def mutate_bytes(chance: Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at:at] = chance.choice(BYTES)
            case 2:
                del made[at : at + chance.choice((1, 2, 10))]
            case 3:
                made[at:at] = made[at : at + chance.randrange(20)]
            case 4 if at < len(made):
                made[at] = chance.randrange(256)
            case 5 if chance.random() < 0.2:
                del made[at:]
    return bytes(made)


def long(frame: Frame, size: int) -> bytes:
    """The frame, so many bytes long."""
    body = json.dumps({**frame, "pad": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def mutate(chance: Random, frame: Frame) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return json.dumps(frame).encode()
    if kind < 0.5:
        return mutate_fields(chance, frame)
    if kind < 0.9:
        return mutate_bytes(chance, json.dumps(frame).encode())
    if kind < 0.9005:
        return long(frame, chance.choice((70_000, 1 << 20)))
    return chance.randbytes(chance.choice((0, 1, 4, 30, 200)))


# Judgement


def read(payload: bytes) -> Frame | None:
    """The frame these bytes are by the rules of the protocol page. Raises Unsure where the rules leave room."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found) or len(made) > 256:
            raise ValueError
        return made

    def constant(_: str) -> None:
        raise ValueError

    try:
        frame = json.loads(payload.decode(), object_pairs_hook=pairs, parse_constant=constant)
        if not isinstance(frame, dict) or depth(frame) > 32:
            return None
        json.dumps(frame, ensure_ascii=False).encode()  # no lone surrogate
    except (ValueError, RecursionError):
        return None
    if re.search(rb"[0-9][eE]|[0-9]{20}", payload):
        raise Unsure
    return frame


class Unsure(Exception):
    """How big a number may be is not said."""


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def judge(payload: bytes, reply: Frame) -> None:
    """Hold a reply against what was sent."""
    at = f"HUBBUB_SEED={SEED}: {payload[:300]!r} was answered with {reply}"
    assert reply["type"] in REPLIES, at
    if reply["type"] == "error":
        assert reply["code"] in CODES, at
    try:
        frame = read(payload)
    except Unsure:
        return
    id = frame.get("id") if frame else None
    good = id is None or (isinstance(id, str) and len(id) <= 64) or (type(id) is int and abs(id) <= 2**53)
    if frame is None or not isinstance(frame.get("type"), str) or not good:
        assert reply.get("code") == "bad_frame", at
    elif frame["type"] not in REQUESTS:
        assert reply.get("code") == "unknown_type", at
    else:
        assert reply.get("code") != "bad_frame", at
    if good:
        assert reply.get("id") == id, at
