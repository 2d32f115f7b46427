"""How far senders have seen their threads, the open group of writes included.

Whoever had seen everything before their own message has seen that too. Written once a group and sender rather than
once a message, that costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import apsw

MAX_MARKS = 50_000


class Mark:
    """Of one member in one thread, and their role; -1 and None for one who is not in it."""

    __slots__ = ("member", "role", "seen", "thread")

    def __init__(self, thread: str, member: str, seen: int, role: str | None) -> None:
        self.thread = thread
        self.member = member
        self.seen = seen
        self.role = role


class Marks:
    """`writer` gives the connection the open group writes on."""

    def __init__(self, writer: Callable[[], apsw.Connection]) -> None:
        self._writer = writer
        self._marks: dict[tuple[str, str], Mark] = {}  # of whoever did something lately
        self._moved: list[Mark] = []  # in the open group

    def of(self, thread: str, member: str) -> Mark:
        """As the open group leaves it."""
        return self._marks.get((thread, member)) or self._load(thread, member)

    def move(self, mark: Mark, seq: int) -> None:
        mark.seen = seq
        self._moved.append(mark)

    def _load(self, thread: str, member: str) -> Mark:
        if len(self._marks) >= MAX_MARKS:
            self.write()
            self._marks.clear()
        sql = "SELECT seen, role FROM memberships WHERE thread = ? AND member = ?"
        row = cast("tuple[int, str] | None", self._writer().execute(sql, (thread, member)).fetchone())
        mark = self._marks[thread, member] = Mark(thread, member, *(row or (-1, None)))
        return mark

    def write(self) -> None:
        """Before the commit, and before anything else in the group looks at a mark."""
        for mark in dict.fromkeys(self._moved):
            self._writer().execute(
                "UPDATE memberships SET seen = ? WHERE thread = ? AND member = ?",
                (mark.seen, mark.thread, mark.member),
            )
        self._moved.clear()

    def forget(self, thread: str, member: str) -> None:
        """It is about to change in another way than by sending."""
        self.write()
        self._marks.pop((thread, member), None)

    def clear(self) -> None:
        """Nothing of the open group is true any more."""
        self._marks.clear()
        self._moved.clear()
