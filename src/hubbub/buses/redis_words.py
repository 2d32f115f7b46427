"""What nodes tell each other over Redis's channels, as JSON. All of it are hints: the truth is in the keys."""

from __future__ import annotations

import functools
import operator
from typing import Any

import msgspec

from hubbub.core import frames
from hubbub.core.news import AnyNews
from hubbub.core.nouns import RunState, Task
from hubbub.core.ports import Usage


class Word(msgspec.Struct, frozen=True, kw_only=True, tag_field="word"):
    """`node` said it; scripts say it for nobody."""

    node: str = ""


class Said(Word, frozen=True, kw_only=True, tag="event"):
    """An event for everybody who hears the thread."""

    thread: str
    frame: functools.reduce(operator.or_, frames.SERVER_FRAMES)  # type: ignore[valid-type]


class Told(Word, frozen=True, kw_only=True, tag="news"):
    """What nodes tell each other."""

    news: AnyNews


class Ended(Word, frozen=True, kw_only=True, tag="ended"):
    """An answer is finished. Its text has `length` code points. The same JSON stays with the run."""

    run: str
    attempt: int
    length: int
    state: RunState
    error: str | None = None
    truncated: bool = False
    usage: Usage | None = None
    model: str = ""


class Lost(Word, frozen=True, kw_only=True, tag="lost"):
    """Whoever wrote it has fallen silent."""

    run: str
    attempt: int


class Stop(Word, frozen=True, kw_only=True, tag="stop"):
    """Nobody need go on with it; `forget`: nor remember it."""

    run: str
    forget: bool


class Hushed(Word, frozen=True, kw_only=True, tag="hushed"):
    """What this node said lately may have been lost."""


class Bell(Word, frozen=True, kw_only=True, tag="bell"):
    """There is something to take for that engine."""

    engine: str


_encode = msgspec.json.Encoder().encode
_word = msgspec.json.Decoder(Said | Told | Ended | Lost | Stop | Hushed | Bell)
_task = msgspec.json.Decoder(Task)
_ended = msgspec.json.Decoder(Ended)


def encode(word: Word | Task) -> bytes:
    return _encode(word)


def decode(payload: bytes) -> Any:
    """One of the words above. Raises ValueError: it is none."""
    return _strict(_word, payload)


def decode_task(payload: bytes) -> Task:
    """Raises ValueError."""
    task: Task = _strict(_task, payload)
    return task


def decode_end(payload: bytes) -> Ended:
    """Raises ValueError."""
    ended: Ended = _strict(_ended, payload)
    return ended


def _strict(decoder: msgspec.json.Decoder[Any], payload: bytes) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise ValueError(type(wrong).__name__) from None
