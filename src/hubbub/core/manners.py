"""What an assistant is told about itself rather than asked: `help`, `personality NAME`, `rotate`.

Each holds for one thread. An answer to them takes no model: it is known here, and so are the instructions of the
personality in force.
"""

from __future__ import annotations

import re

from hubbub.core import names
from hubbub.core.nouns import Assistant

SHOWN = 32
"""Of a name that is none, so many characters are given back; no personality has a longer one."""

_MENTION = re.compile(r"\s*@([\w.-]+)[,:]?\s*")
_COMMAND = re.compile(r"(help|rotate|personality)(?:\s+(\S+))?\s*[.!]?", re.IGNORECASE)


def command(text: str, assistant: Assistant) -> tuple[str, str] | None:
    """(help, rotate or personality; what stands behind it) when the text is nothing else, whatever it mentions first.
    Only `help` is one for an assistant with a single manner."""
    mention = _MENTION.match(text)
    if mention is not None and names.key(mention[1]) == names.key(assistant.name):
        text = text[mention.end() :]
    found = _COMMAND.fullmatch(text.strip())
    if found is None:
        return None
    word, what = found[1].casefold(), (found[2] or "").rstrip(".!").casefold()
    if word != "personality" and what:
        return None
    return (word, what) if word == "help" or assistant.personalities else None


def in_force(assistant: Assistant, chosen: str) -> str:
    """The personality of a thread: what was chosen there, if it still exists, else the first; empty: there is none."""
    return chosen if chosen in assistant.personalities else next(iter(assistant.personalities), "")


def obey(asked: tuple[str, str], assistant: Assistant, chosen: str) -> tuple[str, str]:
    """What to answer, and the personality from then on."""
    now = in_force(assistant, chosen)
    word, what = asked
    every = list(assistant.personalities)
    if word == "help":
        return _help(assistant, now), now
    if word == "rotate":
        then = every[(every.index(now) + 1) % len(every)]
        return f"I am {then} now.", then
    then = next((name for name in every if name.casefold() == what), "")
    if then:
        return f"I am {then} now.", then
    return (
        f"I have no personality '{what[:SHOWN]}'. " if what else f"I am {now}. "
    ) + f"There are: {', '.join(every)}.", now


def _help(assistant: Assistant, now: str) -> str:
    name = assistant.name
    lines = [f"I am {name}. I answer when you write to me, mention me as @{name}, or reply to something I said."]
    if assistant.every:
        lines.append(f"I also answer after every {_many(assistant.every, 'message')}.")
    if assistant.every_s:
        lines.append(f"I also speak up every {assistant.every_s:g} seconds while somebody listens.")
    lines.append("help: this text")
    if assistant.personalities:
        every = ", ".join(f"{one} (now)" if one == now else one for one in assistant.personalities)
        lines += [f"personality NAME: {every}", "rotate: the next one", "A personality holds for one thread."]
    return "\n".join(lines)


def _many(count: int, noun: str) -> str:
    return noun if count == 1 else f"{count} {noun}s"
