"""The order in which tasks that wait are taken: by turns among those who asked.

Each member's tasks wait in rounds, one a round, and a newcomer begins in the round that is being served. So whoever
asks for a hundred answers at once lets the next person wait for one of them, not for a hundred (start-time fair
queueing, Goyal, Vin and Cheng, SIGCOMM 1996, with every task taken to cost the same). A later attempt at something
goes before all: it has waited already.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

import msgspec

from hubbub.core.nouns import Task

FIRST = -1
"""The round of later attempts."""


class Waiting(msgspec.Struct, order=True):
    """A task and when it was put, in its place in the order."""

    round: int
    n: int
    task: Task
    put_at: float

    @property
    def again(self) -> bool:
        return self.task.attempt > 1


class Turns:
    """Tasks of one engine that wait. Bounded by whoever puts them in."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._round = 0  # that is being served
        self._last: dict[str, int] = {}  # member -> the round of their newest task, where it is still to come
        self._n = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting)

    def put(self, task: Task, now: float) -> int:
        """Its place, 1 for the next."""
        self._n += 1
        turn = FIRST
        if task.attempt == 1:
            turn = max(self._round, self._last.get(task.member, -1) + 1)
            self._last[task.member] = turn
        waiting = Waiting(turn, self._n, task, now)
        insort(self._waiting, waiting)
        return self._waiting.index(waiting) + 1

    def place(self, run: str) -> int | None:
        """1 for the next; None when it does not wait here."""
        return next((place for place, one in enumerate(self._waiting, 1) if one.task.run == run), None)

    def oldest(self) -> float:
        """When the one that has waited longest was put."""
        return min(one.put_at for one in self._waiting)

    def whole(self, limit: int) -> bool:
        """Is there nothing to wait for? A batch is full, or what comes next is written alone."""
        return len(self._waiting) >= limit or (bool(self._waiting) and self._waiting[0].again)

    def pop(self, limit: int) -> list[Waiting]:
        """Up to `limit` of the next. A later attempt comes alone: it may be what ended the worker before."""
        batch: list[Waiting] = []
        while self._waiting and len(batch) < limit and not (batch and (batch[0].again or self._waiting[0].again)):
            batch.append(self._waiting.pop(0))
            self._round = max(self._round, batch[-1].round)
        self._last = {member: turn for member, turn in self._last.items() if turn >= self._round}
        return batch

    def remove(self, run: str) -> None:
        """It need not be written any more."""
        self._waiting = [one for one in self._waiting if one.task.run != run]
