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
    """Of one sender in one thread; -1 for one who is not in it."""

    __slots__ = ("member", "seen", "thread")

    def __init__(self, thread: str, member: str, seen: int) -> None:
        self.thread = thread
        self.member = member
        self.seen = seen


class Marks:
    """`writer` gives the connection the open group writes on."""

    def __init__(self, writer: Callable[[], apsw.Connection]) -> None:
        self._writer = writer
        self._marks: dict[tuple[str, str], Mark] = {}  # of whoever sent something lately
        self._moved: list[Mark] = []  # in the open group

    def sent(self, thread: str, sender: str, seq: int) -> None:
        """Somebody's message was given this number."""
        mark = self._marks.get((thread, sender)) or self._load(thread, sender)
        if mark.seen == seq - 1:
            mark.seen = seq
            self._moved.append(mark)

    def _load(self, thread: str, sender: str) -> Mark:
        if len(self._marks) >= MAX_MARKS:
            self.write()
            self._marks.clear()
        mark = self._marks[thread, sender] = Mark(thread, sender, self.stored(thread, sender))
        return mark

    def stored(self, thread: str, member: str) -> int:
        """What was written; -1 for one who is not in the thread."""
        row = (
            self._writer()
            .execute("SELECT seen FROM memberships WHERE thread = ? AND member = ?", (thread, member))
            .fetchone()
        )
        return cast(int, row[0]) if row else -1

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
