"""What a member may be called, and when two spellings are the same name.

Names are 1–64 characters of letters, digits, `_`, `-` and `.`, normalised by NFKC, of one script, and not only
dots; nothing in them is invisible. Two names are equal when their `key`s are: case does not count. `exit` is refused
because it is how a person in line mode leaves.
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
# Letters and marks that are drawn as nothing (DerivedCoreProperties.txt, Default_Ignorable_Code_Point).
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
# Writing systems that are really written together; everything else must stay alone.
_TOGETHER = (
    frozenset({"LATIN"}),
    frozenset({"CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "LATIN"}),
    frozenset({"CJK", "IDEOGRAPHIC", "HANGUL", "LATIN"}),
    frozenset({"CJK", "IDEOGRAPHIC", "BOPOMOFO", "LATIN"}),
)
_DIGITS_OF = {"ARABIC-INDIC": "ARABIC", "EXTENDED": "ARABIC"}
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
    if name.isascii():
        return name.strip().casefold()
    folded = unicodedata.normalize("NFKC", name.strip()).casefold()
    return unicodedata.normalize("NFKC", folded)  # folding "Ϊ́" leaves it in pieces that "ΐ" is not in


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
    marks = False  # may a combining mark come here? It belongs to the letter before it
    for char in name:
        category = unicodedata.category(char)
        if category[0] == "M":
            plain = marks
        else:
            plain = category[0] == "L" or category == "Nd" or char in "_-."
            marks = category[0] == "L"
        if not plain or _UNSEEN.match(char):
            raise BadRequest(f"The name contains {char!a}. {_RULE}")
        if category[0] == "L" or (category == "Nd" and not char.isascii()):
            script = unicodedata.name(char, "UNKNOWN").split()[0]
            scripts.add(_DIGITS_OF.get(script, script))
    if len(scripts) > 1 and not any(scripts <= group for group in _TOGETHER):
        raise BadRequest(f"The name mixes {' and '.join(sorted(s.title() for s in scripts))} letters. {_RULE}")
