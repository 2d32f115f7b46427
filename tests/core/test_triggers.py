"""An assistant answers when it is spoken to, and two assistants do not echo for ever."""

from __future__ import annotations

from typing import Any

import pytest

from hubbub.core import triggers
from hubbub.core.nouns import Message, stamp
from hubbub.core.triggers import MAX_DEPTH, mentions


def said(text: str, **changes: Any) -> Message:
    fields = {
        "id": "1-x",
        "thread": "garden",
        "seq": 1,
        "sender": "alice",
        "destination": "garden",
        "type": "chat",
        "text": text,
        "timestamp": stamp(0),
        "metadata": {},
    }
    return Message(**{**fields, **changes})


def addressed(message: Message, assistant: str, **more: Any) -> bool:
    return triggers.addressed(message, assistant, mentioned=mentions(message.text), **more)


@pytest.mark.parametrize(
    "text",
    [
        "@openai tell me a joke",
        "what do you think, @openai?",
        "@OpenAI",
        "(@openai)",
        "thanks @openai.",
        "ask @openai...",
        "@openai's turn",
        "@openai: hello",
        "@bob @openai hello",
        "hello\n@openai",
        "@ｏｐｅｎａｉ hello",
    ],
)
def test_a_mention_asks_the_assistant(text: str) -> None:
    assert addressed(said(text), "openai", private=False)


@pytest.mark.parametrize(
    "text",
    [
        "openai is nice",
        "me@openai",
        "write to me@openai.com",
        "a.@openai",
        "@@openai",
        "@openai2 hello",
        "@open ai",
        "@openai_beta",
        "@openai-next",
        "@ openai",
        "",
    ],
)
def test_what_only_looks_like_a_mention_asks_nobody(text: str) -> None:
    assert not addressed(said(text), "openai", private=False)


@pytest.mark.parametrize("name", ["Zoë", "हिन्दी", "สมศรี", "dr.who", "a_b-c", "x" * 64, "Привет"])
def test_an_assistant_of_any_name_can_be_mentioned(name: str) -> None:
    assert addressed(said(f"hello @{name}, are you there?"), name, private=False)
    assert addressed(said(f"hello @{name.upper()}"), name, private=False)


def test_a_longer_name_does_not_mention_its_beginning() -> None:
    assert not addressed(said("@" + "x" * 65), "x" * 64, private=False)


def test_a_text_may_mention_several() -> None:
    assert mentions("@Bob and @carol. And dave@example.org") == {"bob", "carol", "carol."}
    assert mentions("nobody @ all") == set()


def test_everything_said_in_private_asks_its_assistant() -> None:
    message = said("hello", destination="openai")

    assert addressed(message, "openai", private=True)
    assert not addressed(message, "claude", private=True)


def test_in_private_a_mention_of_somebody_else_asks_nobody() -> None:
    assert not addressed(said("do you know @openai?", destination="bob"), "openai", private=True)


def test_a_reply_to_an_assistant_asks_it() -> None:
    assert addressed(said("why?"), "openai", private=False, replied_to="openai")
    assert not addressed(said("why?"), "openai", private=False, replied_to="bob")


def test_an_assistant_does_not_ask_itself() -> None:
    message = said("I am @openai", sender="openai")

    assert not addressed(message, "openai", private=False, replied_to="openai")


@pytest.mark.parametrize(
    ("type", "asks"), [("chat", True), ("command", True), ("notification", False), ("subscription", False)]
)
def test_readings_and_notices_ask_nobody(type: str, asks: bool) -> None:
    message = said("@openai was added", type=type)

    assert addressed(message, "openai", private=False) is asks


def test_assistants_answer_each_other_to_a_depth_of_three() -> None:
    message = said("and you, @openai?", sender="claude")

    asked = [addressed(message, "openai", private=False, depth=depth) for depth in range(5)]

    assert MAX_DEPTH == 3
    assert asked == [True, True, True, False, False]
