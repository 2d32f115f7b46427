"""When the AI client speaks, and asking a person for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TextIO, TypeVar

from hubbub.apps.keyboard import Keyboard
from hubbub.core.errors import BadRequest

MODE = "Choose mode (1 for seconds, 2 for lines): "
N = "Enter N (frequency of responses in {mode}): "

LONGEST = 86_400
"""N is at most a day of seconds, or so many lines."""

TRIES = 5
"""Answers to one question that make no sense, until nobody is asked any more."""

PIPE_S = 5.0
"""How long an answer may take that does not come from a person at a terminal."""

T = TypeVar("T")


class Mode(StrEnum):
    """It speaks every so many seconds, or after every so many lines of others."""

    SECONDS = "seconds"
    LINES = "lines"


def mode(text: str) -> Mode:
    """The mode in `text`, by its name or number. Raises BadRequest."""
    asked = text.strip().casefold()
    known = {"1": Mode.SECONDS, "seconds": Mode.SECONDS, "2": Mode.LINES, "lines": Mode.LINES}
    if asked not in known:
        raise BadRequest(f"'{text.strip()[:20]}' is no mode: 1 is seconds, 2 is lines.")
    return known[asked]


def frequency(text: str) -> int:
    """The N in `text`. Raises BadRequest."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= LONGEST:
        return int(digits)
    raise BadRequest(f"'{digits[:20]}' cannot be N: it is a whole number from 1 to {LONGEST}.")


async def choose(
    given: Mode | None, n: int | None, keyboard: Keyboard, by_hand: bool, out: TextIO | None = None
) -> tuple[Mode, int]:
    """Ask for what was not given, until it makes sense.

    Args:
        by_hand: a person is at a terminal, who may take their time.

    Raises BadRequest: no answer came, or none that makes sense.
    """
    asking = _Asking(keyboard, by_hand, out or sys.stdout)
    chosen = await asking.ask(MODE, mode) if given is None else given
    often = await asking.ask(N.format(mode=chosen), frequency) if n is None else n
    return chosen, often


class _Asking:
    def __init__(self, keyboard: Keyboard, by_hand: bool, out: TextIO) -> None:
        self._keyboard = keyboard
        self._by_hand = by_hand
        self._out = out

    async def ask(self, question: str, read: Callable[[str], T]) -> T:
        for _ in range(TRIES):
            self._write(question)
            line = await self._line()
            if not self._by_hand:
                self._write("\n")
            if line is None:
                break
            try:
                return read(line)
            except BadRequest as wrong:
                self._write(f"{wrong.detail}\n")
        raise BadRequest("When does it speak? Say it with --mode seconds or --mode lines, and --n N.")

    async def _line(self) -> str | None:
        try:
            async with asyncio.timeout(None if self._by_hand else PIPE_S):
                return await self._keyboard.line()
        except TimeoutError:
            return None

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
