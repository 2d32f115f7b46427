"""What the command line asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`short`: see only that everything works. Empty or zero elsewhere: each bench's own choice."""

    short: bool = False
    seconds: float = 0.0
    rounds: int = 0
    readers: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
