"""What a name looks like, so that nobody can take one that passes for somebody else's.

A name is of one script (core/names.py), but a whole one can still be drawn like another: Cyrillic `асе` like `ace`,
`J0e` like `Joe`, `rnary` like `mary`. The lists of what is drawn alike are Unicode's, from a library.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from hubbub.core import names

_PLAIN_SHAPES = {"I": "l", "1": "l", "0": "O", "m": "rn"}
"""All there is to know of ASCII names."""

_AMONG_CAPITALS = re.compile("(?<![a-km-z])l(?![a-km-z])")
"""An `l` without a small letter beside it is read as a capital I, which is an `i`: `OpenAl` passes for `openai`."""


def shapes(name: str) -> set[str]:
    """What `name` looks like, as written and in lower case: two names that share one could be taken for each other
    (UTS 39, section 4: confusable detection)."""
    written = "".join(map(_shape_of(name), name))
    small = "".join(map(_shape_of(name), names.key(name)))
    return {written.casefold(), small.casefold(), _AMONG_CAPITALS.sub("i", written).casefold()}


def _shape_of(name: str) -> Callable[[str], str]:
    return _plain_shape if name.isascii() else _any_shape


def _plain_shape(char: str) -> str:
    return _PLAIN_SHAPES.get(char, char)


@lru_cache(maxsize=4096)
def _any_shape(char: str) -> str:
    """The character, or several, that stand for all those drawn like `char`."""
    # Imported here because names in ASCII do not need the 0.05 s it takes.
    from confusable_homoglyphs.confusables import confusables_data  # type: ignore[import-untyped]

    seen: list[str] = []
    while char not in seen:
        seen.append(char)
        alike = [one["c"] for one in confusables_data.get(char, ())]
        if len(alike) != 1:  # whatever is drawn like something else lists that alone; that one lists all the others
            return _plain_shape(char)
        char = alike[0]
    return _plain_shape(min(seen))  # two that list each other
