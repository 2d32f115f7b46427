"""When does a message oblige an assistant to answer?

Addressed means: written in its private thread, naming it as `@name`, or a reply to something it said. Assistants
may answer each other, to a depth of three, so that two of them never echo for ever.
"""

from __future__ import annotations

import re

from hubbub.core.nouns import Message

MAX_DEPTH = 3

_MENTION = re.compile(r"(?<![\w@.])@([\w.-]{1,64})")


def mentions(text: str) -> set[str]:
    """The names a text addresses with `@`, casefolded, with and without a full stop that ends a sentence."""
    found: set[str] = set()
    for name in _MENTION.findall(text):
        found.add(name.casefold())
        found.add(name.casefold().rstrip(".-"))
    return found


def addressed(
    message: Message, assistant: str, *, private: bool, replied_to: str | None = None, depth: int = 0
) -> bool:
    """Does `message` ask `assistant` for an answer?

    Args:
        private: the thread is the private one of the sender and somebody.
        replied_to: the sender of the message this one replies to, if any.
        depth: how many assistants answered each other before this message; 0 when a person or device wrote it.
    """
    if message.sender == assistant or depth >= MAX_DEPTH or message.type not in ("chat", "command"):
        return False
    if private:
        return message.destination == assistant
    return replied_to == assistant or assistant.casefold() in mentions(message.text)
