"""A frame is checked once, at the door, and what is wrong with it is said in words."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub.core import frames
from hubbub.core.errors import BadFrame, BadRequest, TooLarge, UnknownType
from hubbub.core.framing import MAX_FRAME_BYTES
from hubbub.core.wire import Undecodable, decode, decode_object, encode


def refusal(payload: bytes | str) -> Undecodable:
    with pytest.raises(Undecodable) as refused:
        decode(payload if isinstance(payload, bytes) else payload.encode())
    return refused.value


def assert_bad_frame(payload: bytes | str, words: str) -> None:
    wrong = refusal(payload)
    assert type(wrong.problem) is BadFrame
    assert words in wrong.problem.detail


def nested(depth: int, leaf: str = "1") -> str:
    """A `hello` that is `depth` levels deep, the frame itself being the first."""
    return '{"type":"hello","x":' + "[" * (depth - 1) + leaf + "]" * (depth - 1) + "}"


# What a frame is


def test_a_request_is_read_with_its_id_and_its_defaults() -> None:
    request = decode(b'{"type": "message.send", "id": "a1", "thread": "lobby", "text": "hi"}')

    assert request == frames.MessageSend(id="a1", thread="lobby", text="hi")
    assert (request.metadata, request.message_type, request.key) == ({}, "chat", None)


def test_fields_nobody_knows_are_left_for_the_future() -> None:
    assert decode(b'{"type":"ping","colour":"blue"}') == frames.Ping()


@pytest.mark.parametrize("kind", sorted(frames.REQUESTS))
def test_every_request_can_be_sent_to_the_server(kind: str) -> None:
    fields = {"thread": "lobby", "text": "x", "member": "bob", "seq": 0, "assistant": "openai", "run": "r"}
    fields |= {"role": "owner", "password": "correct horse"}
    payload = json.dumps({"type": kind, "id": 7, **fields}).encode()

    request = decode(payload)

    assert type(request) is frames.REQUESTS[kind]
    assert request.id == 7


def test_a_frame_goes_out_as_it_could_come_in() -> None:
    request = frames.MessageSend(id=3, to="bob", text='Grüße: "x" 👋', metadata={"a": [1, None, {"b": 0.5}]})

    assert decode(encode(request)) == request


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b"{}x",
        b'{"type":"ping"}{"type":"ping"}',
        b"{'type':'ping'}",
        b'{"type":"ping",}',
        b"\0",
    ],
)
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    assert_bad_frame(payload, "not valid JSON")


@pytest.mark.parametrize("payload", [b"[]", b'"hello"', b"1", b"null", b"true", b'[{"type":"ping"}]'])
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    assert_bad_frame(payload, "one JSON object")


def test_a_byte_order_mark_is_refused() -> None:
    assert_bad_frame(b'\xef\xbb\xbf{"type":"ping"}', "not valid JSON")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_another_encoding_is_refused(encoding: str) -> None:
    assert type(refusal('{"type":"ping"}'.encode(encoding)).problem) is BadFrame


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_bytes_that_are_not_utf_8_are_refused(raw: bytes) -> None:
    assert_bad_frame(b'{"type":"ping","x":"' + raw + b'"}', "")
    assert_bad_frame(b'{"type":"ping","' + raw + b'":1}', "")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "+1", ".5", "0x1"])
@pytest.mark.parametrize("colon", ["", ": : :"])
def test_numbers_that_json_does_not_have_are_refused(number: str, colon: str) -> None:
    assert_bad_frame(f'{{"type":"ping","note":"{colon}","x":{number}}}', "not valid JSON")


@pytest.mark.parametrize("colon", ["", ": : :"])
def test_control_characters_are_escaped_or_refused(colon: str) -> None:
    assert_bad_frame(f'{{"type":"ping","note":"{colon}","x":"a\nb"}}', "not valid JSON")
    assert decode_object(f'{{"type":"ping","note":"{colon}","x":"a\\nb"}}'.encode())["x"] == "a\nb"


@pytest.mark.parametrize(
    "half", [r"\ud800", r"\uDFFF", r"x\uD83Dx", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud800A"]
)
def test_half_of_a_surrogate_pair_is_refused_in_texts_and_keys(half: str) -> None:
    assert type(refusal(f'{{"type":"ping","x":["{half}"]}}').problem) is BadFrame
    assert type(refusal(f'{{"type":"ping","x":{{"{half}":1}}}}').problem) is BadFrame


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert decode_object(rb'{"\ud83d\ude00":"\uD83D\uDC4B"}') == {"😀": "👋"}


# No key twice


@pytest.mark.parametrize(
    "twice",
    [
        '{"type":"ping","type":"ping"}',
        '{"type":"ping","a":1,"b":2,"a":1}',
        '{"type":"ping","x":{"a":1,"a":1}}',
        '{"type":"ping","x":[[{"a":1},{"b":{"a":1,"a":2}}]]}',
        '{"type":"ping","a" :1,"a":2}',
        '{"type":"ping","a"\n\t : 1,"a"\r:2}',
        '{"type":"ping","a":1,"\\u0061":2}',
        '{"type":"ping","\\u0061":1,"\\u0061":2}',
        '{"type":"ping","é":1,"\\u00e9":2}',
        '{"type":"ping","a/b":1,"a\\/b":2}',
        '{"type":"ping","":1,"":2}',
        '{"type":"ping","a":"x: y","a":":"}',
        '{"type":"ping","\\"":1,"\\"":2}',
        '{"type":"ping","\\":":1,"\\":":2}',
        '{"type":"ping","x":{"a":{"b":1},"a":{"b":1}}}',
        '{"type":"ping","x":{"a":1},"x":{}}',
        '{"type":"ping","x":{"a":1},"x":{"b":[1,2,{"c":3}]}}',
    ],
)
def test_a_key_given_twice_is_refused(twice: str) -> None:
    assert_bad_frame(twice, "is given twice in one object")


def test_the_key_that_came_twice_is_named() -> None:
    assert "'\\u0061'" not in refusal('{"type":"ping","abc":1,"\\u0061bc":2}').problem.detail
    assert "'abc'" in refusal('{"type":"ping","abc":1,"\\u0061bc":2}').problem.detail


@pytest.mark.parametrize(
    "once",
    [
        '{"type":"ping","a":{"a":{"a":1}},"b":{"a":1}}',
        '{"type":"ping","x":[{"a":1},{"a":1}]}',
        '{"type":"ping","a":"a: a:","b":"\\"a\\":1"}',
        '{"type":"ping","a" : 1, "A" : 2}',
        '{"type":"ping","a:":1,"a":2}',
    ],
)
def test_the_same_key_in_different_objects_is_not_twice(once: str) -> None:
    assert decode_object(once.encode()) == json.loads(once)


class _Pairs(tuple):  # type: ignore[type-arg]
    """An object as it is written: its keys may come twice."""


json_text = st.one_of(
    st.sampled_from(["", ":", '":', '"', "\\", "a", "b", "é", '":"', "{", ",", "\\u0061"]), st.text(max_size=6)
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**25), 10**25),
        st.floats(allow_nan=False, allow_infinity=False),
        json_text,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.tuples(json_text, inner), max_size=4).map(_Pairs),
    ),
    max_leaves=12,
)


def written(value: Any, chance: Random) -> str:
    """One of the many ways to write a value down."""

    def blank() -> str:
        return chance.choice(["", "", "", " ", "\n", "\t\r "])

    def letter(char: str) -> str:
        if ord(char) < 0x10000 and chance.random() < 0.2:
            return f"\\u{ord(char):04x}"
        return json.dumps(char, ensure_ascii=False)[1:-1]

    def string(text: str) -> str:
        return '"' + "".join(map(letter, text)) + '"'

    if isinstance(value, _Pairs):
        members = [f"{blank()}{string(k)}{blank()}:{blank()}{written(v, chance)}{blank()}" for k, v in value]
        return "{" + (",".join(members) or blank()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{blank()}{written(v, chance)}{blank()}" for v in value) + "]"
    return string(value) if isinstance(value, str) else json.dumps(value)


def has_a_key_twice(value: Any) -> bool:
    if isinstance(value, _Pairs):
        return len({k for k, _ in value}) < len(value) or any(has_a_key_twice(v) for _, v in value)
    return isinstance(value, list) and any(map(has_a_key_twice, value))


@given(pairs=st.lists(st.tuples(json_text, json_values), max_size=5).map(_Pairs), seed=st.integers())
def test_any_object_is_read_as_the_standard_library_reads_it_and_no_key_comes_twice(pairs: _Pairs, seed: int) -> None:
    payload = written(pairs, Random(seed)).encode()

    if has_a_key_twice(pairs):
        with pytest.raises(Undecodable, match="given twice"):
            decode_object(payload)
    else:
        assert decode_object(payload) == json.loads(payload)


@given(st.binary(max_size=40))
@example(b'{"":' * 3000)
@example(b"[" * MAX_FRAME_BYTES)
@example(b'{"a":' * (MAX_FRAME_BYTES // 5))
@example(b'{"x":"' + b"\\ud800" * 1000)
@example(b'{"x":1' + b"0" * 10000 + b"}")
@example(b'{"x":":","y":1' + b"0" * 10000 + b"}")
def test_no_bytes_do_anything_but_be_refused(payload: bytes) -> None:
    try:
        decode(payload)
    except Undecodable as refused:
        encode(frames.Error(code=refused.problem.code, title="", detail=refused.problem.detail))


# Limits


def test_32_levels_are_accepted_and_33_refused() -> None:
    assert decode_object(nested(32).encode())["type"] == "hello"
    assert decode_object(nested(31, '{"a":1}').encode())["type"] == "hello"

    assert_bad_frame(nested(33), "deeper than 32 levels")
    assert_bad_frame(nested(32, '{"a":1}'), "deeper than 32 levels")
    assert_bad_frame(nested(32, "[]"), "deeper than 32 levels")


def test_256_keys_an_object_are_accepted_and_257_refused() -> None:
    at = {"type": "ping", **{f"k{i}": {f"n{j}": j for j in range(256)} for i in range(255)}}

    assert decode_object(json.dumps(at).encode()) == at
    assert_bad_frame(json.dumps({**at, "one": 1}), "257 keys; the limit is 256")
    assert_bad_frame(json.dumps({"type": "ping", "x": [{str(i): i for i in range(257)}]}), "257 keys; the limit is 256")


def test_a_mebibyte_is_accepted_and_one_byte_more_refused() -> None:
    start, end = b'{"type":"ping","x":"', b'"}'
    at = start + b"x" * (MAX_FRAME_BYTES - len(start) - len(end)) + end

    assert len(at) == MAX_FRAME_BYTES
    assert decode(at) == frames.Ping()
    wrong = refusal(at + b" ")
    assert type(wrong.problem) is TooLarge
    assert "1048577 bytes; the limit is 1048576" in wrong.problem.detail


@pytest.mark.parametrize("id", ["", "x" * 64, "ß" * 64, 0, -1, 2**53, -(2**53)])
def test_an_id_within_its_limits_is_accepted(id: str | int) -> None:
    assert decode(json.dumps({"type": "ping", "id": id}).encode()).id == id


@pytest.mark.parametrize("id", ["x" * 65, 2**53 + 1, -(2**53) - 1, 10**30, 1.0, True, [], {}, ["a"]])
def test_an_id_outside_its_limits_is_refused(id: object) -> None:
    assert_bad_frame(json.dumps({"type": "ping", "id": id}), "'id' must be")


def test_no_id_is_the_same_as_null() -> None:
    assert decode(b'{"type":"ping","id":null}') == decode(b'{"type":"ping"}') == frames.Ping()


# Types and fields


@pytest.mark.parametrize("frame", ["{}", '{"type":1}', '{"type":null}', '{"type":["ping"]}', '{"Type":"ping"}'])
def test_a_frame_without_a_type_is_refused(frame: str) -> None:
    assert_bad_frame(frame, "needs a 'type'")


@pytest.mark.parametrize("kind", ["", "nonsense", "Ping", "ack", "message", "welcome", "x" * 1000])
def test_a_type_that_is_no_request_is_refused_with_those_that_are(kind: str) -> None:
    wrong = refusal(json.dumps({"type": kind, "id": 5}))

    assert type(wrong.problem) is UnknownType
    assert "message.send" in wrong.problem.detail
    assert len(wrong.problem.detail) < 500


@pytest.mark.parametrize(
    "payload",
    ['{"id":5}', '{"id":5,"type":"nonsense"}', '{"id":5,"type":"seen"}', '{"id":5,"type":"seen","thread":[],"seq":0}'],
)
def test_a_refusal_is_answered_to_the_id_that_was_asked(payload: str) -> None:
    assert refusal(payload).id == 5


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"type": "message.send", "thread": "lobby"}, "text"),
        ({"type": "message.send", "thread": "lobby", "text": 5}, "text"),
        ({"type": "message.send", "thread": 5, "text": "x"}, "thread"),
        ({"type": "message.send", "thread": "a b", "text": "x"}, "thread"),
        ({"type": "message.send", "thread": "x" * 65, "text": "x"}, "thread"),
        ({"type": "message.send", "thread": "", "text": "x"}, "thread"),
        ({"type": "message.send", "to": "", "text": "x"}, "to"),
        ({"type": "message.send", "thread": "t", "text": "x", "metadata": []}, "metadata"),
        ({"type": "message.send", "thread": "t", "text": "x", "key": ""}, "key"),
        ({"type": "message.send", "thread": "t", "text": "x", "key": "k" * 129}, "key"),
        ({"type": "message.send", "thread": "t", "text": "x", "reply_to": 7}, "reply_to"),
        ({"type": "message.send", "thread": "t", "text": "x", "message_type": None}, "message_type"),
        ({"type": "hello", "user": 5}, "user"),
        ({"type": "hello", "threads": "lobby"}, "threads"),
        ({"type": "hello", "threads": ["lobby", 5]}, "threads"),
        ({"type": "hello", "resume": {"threads": {"lobby": -1}}}, "resume.threads"),
        ({"type": "hello", "resume": {"threads": {"lobby": 2**53 + 1}}}, "resume.threads"),
        ({"type": "hello", "resume": {"runs": {"r": [1]}}}, "resume.runs"),
        ({"type": "hello", "resume": {"runs": {"r": [1, "2"]}}}, "resume.runs"),
        ({"type": "seen", "thread": "t", "seq": -1}, "seq"),
        ({"type": "seen", "thread": "t", "seq": 1.5}, "seq"),
        ({"type": "seen", "thread": "t"}, "seq"),
        ({"type": "history", "thread": "t", "limit": 0}, "limit"),
        ({"type": "history", "thread": "t", "limit": 201}, "limit"),
        ({"type": "history", "thread": "t", "limit": "many"}, "limit"),
        ({"type": "thread.create", "title": "x" * 201}, "title"),
        ({"type": "thread.create", "members": ["bob", None]}, "members"),
        ({"type": "thread.create", "public": "yes"}, "public"),
        ({"type": "run.start", "thread": "t"}, "assistant"),
    ],
)
def test_a_wrong_field_is_named(frame: dict[str, Any], field: str) -> None:
    wrong = refusal(json.dumps(frame))

    assert type(wrong.problem) is BadRequest
    assert field in wrong.problem.detail
    assert wrong.problem.detail.startswith(f"{frame['type']}: ")
    assert wrong.problem.detail.endswith(".")
    assert "$." not in wrong.problem.detail
    assert "`" not in wrong.problem.detail


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "message.send", "thread": "x" * 64, "text": "x", "key": "k" * 128},
        {"type": "history", "thread": "t", "limit": 200, "after": 2**53},
        {"type": "history", "thread": "t", "limit": 1, "before": 0},
        {"type": "thread.create", "title": "x" * 200, "members": ["m"] * 1000},
        {"type": "hello", "user": "x" * 256, "client": "c" * 200, "threads": ["t"] * 256},
    ],
)
def test_a_field_at_its_limit_is_accepted(frame: dict[str, Any]) -> None:
    decode(json.dumps(frame).encode())
