"""When does a message oblige an assistant to answer?

Addressed means: written in its private thread, naming it as `@name`, or a reply to something it said. Assistants
may answer each other, to a depth of three, so that two of them never echo for ever.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from itertools import takewhile

from hubbub.core import names
from hubbub.core.nouns import Message

MAX_DEPTH = 3

_AT = re.compile(r"(?<![\w@.])@")


def may_mention(text: str) -> bool:
    """Is it worth looking for names in this text? The signs are those that are one after NFKC."""
    return any(sign in text for sign in "@＠﹫")


def mentions(text: str) -> set[str]:
    """The keys of the names a text addresses with `@`, with and without a full stop that ends a sentence."""
    text = unicodedata.normalize("NFKC", text)
    found: set[str] = set()
    for at in _AT.finditer(text):
        word = takewhile(_in_a_name, (text[i] for i in range(at.end(), len(text))))
        name = names.key("".join(word))
        found |= {name, name.rstrip(".-")}
    return found - {""}


def _in_a_name(char: str) -> bool:
    return char.isalnum() or char in "_.-" or unicodedata.category(char)[0] == "M"


def addressed(
    message: Message,
    assistant: str,
    *,
    private: bool,
    mentioned: Container[str] = (),
    replied_to: str | None = None,
    depth: int = 0,
) -> bool:
    """Does `message` ask `assistant` for an answer?

    Args:
        private: the thread is the private one of the sender and somebody.
        mentioned: the `mentions` of its text.
        replied_to: the sender of the message this one replies to, if any.
        depth: how many assistants answered each other before this message; 0 when a person or device wrote it.
    """
    if message.sender == assistant or depth >= MAX_DEPTH or message.type not in ("chat", "command"):
        return False
    if private:
        return message.destination == assistant
    return replied_to == assistant or names.key(assistant) in mentioned


def counts(message: Message, assistant: str) -> bool:
    """Is it one of the messages after so many of which an assistant answers by itself?"""
    return message.type == "chat" and message.sender != assistant
