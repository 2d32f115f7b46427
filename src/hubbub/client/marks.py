"""How far this client has told its member's `seen` cursors to move. No I/O.

Cursors only move forward, so of many marks in a thread the furthest is enough.
"""

from __future__ import annotations


class Marks:
    __slots__ = ("_due", "_told")

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._told: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._due)

    def note(self, thread: str, seq: int) -> None:
        """Everything in `thread` up to `seq` was seen."""
        if seq > max(self._told.get(thread, 0), self._due.get(thread, 0)):
            self._due[thread] = seq

    def take(self) -> list[tuple[str, int]]:
        """The cursors to move now; they count as told."""
        due = list(self._due.items())
        self._told.update(self._due)
        self._due.clear()
        return due

    def forget(self) -> None:
        """Another epoch: what was told before no longer counts."""
        self._due.clear()
        self._told.clear()
