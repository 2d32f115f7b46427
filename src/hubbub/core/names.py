"""What a member may be called, and when two spellings are the same name.

Names are 1–64 characters of letters, digits, `_`, `-` and `.`, normalised by NFKC, of one script, and not only
dots. Two names are equal when their `key`s are: case does not count. `exit` is refused because it is how a
person in line mode leaves.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from hubbub.core.errors import BadRequest

MAX_NAME = 64
RESERVED = frozenset({"exit"})
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Writing systems that are really written together; everything else must stay alone.
_TOGETHER = (
    frozenset({"LATIN"}),
    frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "LATIN"}),
    frozenset({"CJK", "HANGUL", "LATIN"}),
    frozenset({"CJK", "BOPOMOFO", "LATIN"}),
)
_RULE = "A name has 1 to 64 letters, digits, '_', '-' or '.', all of one script."


def normalise(name: str) -> str:
    """The name as it is stored. Raises BadRequest with the rule that was broken."""
    name = unicodedata.normalize("NFKC", name.strip())
    if not _PLAIN.fullmatch(name):
        _check(name)
    if not name.strip("."):
        raise BadRequest(f"A name cannot be made of dots only. {_RULE}")
    if name.casefold() in RESERVED:
        raise BadRequest(f"The name '{name}' has a meaning of its own here; choose another.")
    return name


def key(name: str) -> str:
    """What makes two spellings one name."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, if any is close."""
    by_key = {key(k): k for k in known}
    close = difflib.get_close_matches(key(name), by_key, n=1, cutoff=0.75)
    return by_key[close[0]] if close and close[0] != key(name) else None


def _check(name: str) -> None:
    if not name:
        raise BadRequest(f"The name is empty. {_RULE}")
    if len(name) > MAX_NAME:
        raise BadRequest(f"The name has {len(name)} characters. {_RULE}")
    scripts: set[str] = set()
    for char in name:
        category = unicodedata.category(char)
        if char in "_-." or category == "Nd":
            continue
        if category[0] == "M" and scripts:  # a combining mark belongs to the letter before it
            continue
        if category[0] != "L":
            raise BadRequest(f"The name contains {char!a}. {_RULE}")
        scripts.add(unicodedata.name(char, "UNKNOWN").split()[0])
    if len(scripts) > 1 and not any(scripts <= group for group in _TOGETHER):
        raise BadRequest(f"The name mixes {' and '.join(sorted(s.title() for s in scripts))} letters. {_RULE}")
