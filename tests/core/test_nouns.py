"""The nouns can't be changed, ids can't be guessed, and a draft knows the message it would have made."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.core.nouns import Draft, Member, Message, RunState, message_id, new_id, seq_of, stamp

OPAQUE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def draft(**changes: Any) -> Draft:
    fields = {
        "thread": "lobby",
        "sender": "alice",
        "text": "hello",
        "timestamp": stamp(0),
        "destination": "lobby",
        "metadata": {"mood": "fine"},
        "reply_to": "1-x",
    }
    return Draft(**{**fields, **changes})


MESSAGE = Message(
    id="7-x",
    thread="lobby",
    seq=7,
    sender="alice",
    destination="lobby",
    type="chat",
    text="hello",
    timestamp=stamp(99),
    metadata={"mood": "fine"},
    reply_to="1-x",
)


def test_a_noun_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Member(name="alice").name = "bob"  # type: ignore[misc]


def test_two_drafts_do_not_share_their_metadata() -> None:
    one = Draft(thread="t", sender="a", text="x", timestamp="", destination="t")
    other = Draft(thread="t", sender="a", text="x", timestamp="", destination="t")

    one.metadata["mine"] = True

    assert other.metadata == {}


def test_a_repeat_has_the_same_body_whenever_it_is_sent() -> None:
    assert draft(timestamp=stamp(5)).same_body(MESSAGE)


@pytest.mark.parametrize(
    "change",
    [
        {"thread": "garden"},
        {"text": "hello!"},
        {"type": "command"},
        {"metadata": {}},
        {"metadata": {"mood": "fine", "more": 1}},
        {"reply_to": None},
    ],
)
def test_another_body_is_told_apart(change: dict[str, Any]) -> None:
    assert not draft(**change).same_body(MESSAGE)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0)])
def test_metadata_that_python_calls_equal_but_json_does_not_is_another_body(one: object, other: object) -> None:
    message = msgspec.structs.replace(MESSAGE, metadata={"on": [one]})

    assert draft(metadata={"on": [one]}).same_body(message)
    assert not draft(metadata={"on": [other]}).same_body(message)


def test_the_order_of_metadata_keys_does_not_make_another_body() -> None:
    message = msgspec.structs.replace(MESSAGE, metadata={"a": 1, "b": {"c": 2, "d": 3}})

    assert draft(metadata={"b": {"d": 3, "c": 2}, "a": 1}).same_body(message)


def test_ids_are_opaque_and_never_come_twice() -> None:
    ids = [new_id() for _ in range(1000)] + [message_id(7) for _ in range(1000)]

    assert len(set(ids)) == 2000
    assert all(OPAQUE.fullmatch(id) for id in ids)


@given(st.integers(1, 2**53 - 1))
def test_a_message_id_carries_its_seq(seq: int) -> None:
    assert seq_of(message_id(seq)) == seq
    assert OPAQUE.fullmatch(message_id(seq))


@pytest.mark.parametrize("text", ["", "-", "x", "x-1", "-1", "٣-x", "²-x", "+1-x", " 1-x", "9" * 5000 + "-x", "12"])
def test_what_is_no_message_id_has_seq_0(text: str) -> None:
    assert seq_of(text) == 0


@pytest.mark.parametrize(
    ("state", "ended"),
    [("queued", False), ("running", False), ("completed", True), ("failed", True), ("cancelled", True)],
)
def test_a_run_has_ended_in_three_of_its_states(state: str, ended: bool) -> None:
    assert RunState(state).ended is ended


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
        (1795207020.123, "2026-11-20T20:37:00.123Z"),
        (253402300799, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_a_timestamp_is_utc_with_milliseconds(now: float, text: str) -> None:
    assert stamp(now) == text


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_timestamps_sort_as_the_moments_they_name(one: float, other: float) -> None:
    assert (stamp(min(one, other))) <= stamp(max(one, other))
