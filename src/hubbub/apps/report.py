"""What a program that runs by itself tells whoever looks at its terminal: a line each, with the time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from hubbub.core.lines import clean_output

LONGEST = 1000
"""Characters of a line that are shown."""

_GREY, _GREEN, _YELLOW, _PLAIN = "\x1b[90m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_COLOURS = {"heard": _GREY, "said": _GREEN, "lost": _YELLOW, "failed": _YELLOW}


class Report:
    """Call it with what happened, in a word, and the details.

    Args:
        colour: allow escape codes. Whoever reads the environment decides.
        now: Unix seconds.
    """

    def __init__(
        self, out: TextIO | None = None, *, colour: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        self._out = out or sys.stdout
        self._colour = colour
        self._now = now

    def __call__(self, what: str, details: str) -> None:
        at = time.strftime("%H:%M:%S", time.localtime(self._now()))
        text = " ".join(clean_output(details).split())
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
        if self._colour:
            line = f"{_GREY}{at}{_PLAIN}  {_COLOURS.get(what, '')}{what:<9}  {text}{_PLAIN}\n"
        else:
            line = f"{at}  {what:<9}  {text}".rstrip() + "\n"
        with suppress(OSError):  # whoever read it is gone; the conversation goes on
            self._out.write(line)
            self._out.flush()
