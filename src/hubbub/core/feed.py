"""What one listener has heard, and so what it has to be told next.

A listener in step with its threads needs no feed. One that is joining, resuming or slow has nothing queued for
it; it has a `Feed`: a seq for each thread and, for each answer being written, the attempt and the number of code
points. Given any event, the feed answers with one of three words, and whatever the bus lost, doubled or
reordered, the listener hears each thread once and in order.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    NEXT = "next"  # tell it
    OLD = "old"  # already heard
    GAP = "gap"  # read the store after the last seq heard


class Feed:
    """Positions of one listener. Unknown threads are not heard at all; unknown runs stand at (0, 0)."""

    __slots__ = ("runs", "threads")

    def __init__(self, threads: dict[str, int] | None = None, runs: dict[str, tuple[int, int]] | None = None) -> None:
        self.threads = dict(threads or {})
        self.runs = dict(runs or {})

    def ask(self, thread: str, seq: int) -> Verdict:
        """What to do with message `seq`; NEXT also moves the position to it."""
        heard = self.threads[thread]
        if seq <= heard:
            return Verdict.OLD
        if seq > heard + 1:
            return Verdict.GAP
        self.threads[thread] = seq
        return Verdict.NEXT

    def piece(self, run: str, attempt: int, offset: int, text: str) -> tuple[int, str] | None:
        """The part of this piece that is new, with its offset; None when there is nothing new or it leaves a hole.

        A higher attempt starts the answer again; a lower one is over.
        """
        known, have = self.runs.get(run, (0, 0))
        if attempt < known:
            return None
        if attempt > known:
            have = 0
        if offset > have or offset + len(text) <= have:
            return None
        self.runs[run] = (attempt, offset + len(text))
        return have, text[have - offset :]
