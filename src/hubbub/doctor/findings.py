"""What a look at an installation comes to: sentences, each with how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The worst first."""

    UNSAFE = "unsafe"  # somebody may do or read what they should not
    WRONG = "wrong"  # something does not work, or soon will not
    NOTE = "note"  # worth knowing; all is well nevertheless
    FINE = "fine"

    @property
    def counts(self) -> bool:
        """Is there something to do?"""
        return self in (Level.UNSAFE, Level.WRONG)


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one thing. `about` is one word, the same in every version, for machines."""

    level: Level
    about: str
    sentence: str


def unsafe(about: str, sentence: str) -> Finding:
    return Finding(Level.UNSAFE, about, sentence)


def wrong(about: str, sentence: str) -> Finding:
    return Finding(Level.WRONG, about, sentence)


def note(about: str, sentence: str) -> Finding:
    return Finding(Level.NOTE, about, sentence)


def fine(about: str, sentence: str) -> Finding:
    return Finding(Level.FINE, about, sentence)
