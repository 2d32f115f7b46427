"""What came of the turns, counted as they end. Its size grows with the seconds that pass, not with the turns."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter

from hubbub.apps.load.plan import Stair
from hubbub.apps.load.quantiles import Times
from hubbub.apps.load.turn import Turn

MAX_KINDS = 40
"""Kinds of failure told apart; a server that makes up statuses does not fill the memory."""
OTHER = "other"


class Count:
    """Some of the turns: those of one second, or of one concurrency."""

    __slots__ = ("began", "failed", "first", "ok", "pieces", "whole")

    def __init__(self) -> None:
        self.began = 0
        self.ok = 0
        self.failed = 0
        self.pieces = 0
        self.whole = Times()
        self.first = Times()


class Second:
    """One second of the run: turns by when they ended, pieces by when they came."""

    __slots__ = ("began", "failed", "first_max", "ok", "pieces", "whole_max")

    def __init__(self) -> None:
        self.began = 0
        self.ok = 0
        self.failed = 0
        self.pieces = 0
        self.whole_max = 0.0
        self.first_max = 0.0


class Tally:
    """Whole times are those of the turns that went well; first pieces and gaps of all that had any."""

    def __init__(self, start: float, stairs: list[Stair]) -> None:
        self.start = start
        self.stairs = stairs
        self._begins = [start + stair.begins_s for stair in stairs]
        self.steps = [Count() for _ in stairs]
        self.seconds: list[Second] = []
        self.under_way = 0
        self.began = 0
        self.ok = 0
        self.failed = 0
        self.pieces = 0
        self.sent = 0
        self.received = 0
        self.kinds: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.whole = Times()
        self.first = Times()
        self.gaps = Times()
        self.connects = Times()
        self.late = Times()  # how long after its place an open arrival began

    def begin(self, asked: float) -> Turn:
        turn = Turn(asked, time.perf_counter())
        self.began += 1
        self.under_way += 1
        self._second(turn.began).began += 1
        self._step(turn).began += 1
        self.late.add(turn.began - turn.asked)
        return turn

    def end(self, turn: Turn) -> None:
        turn.ended = time.perf_counter()
        self.under_way -= 1
        self.sent += turn.sent
        self.received += turn.received
        if turn.connect_s is not None:
            self.connects.add(turn.connect_s)
        step, second = self._step(turn), self._second(turn.ended)
        if turn.failure is None:
            assert turn.whole is not None
            took = turn.whole - turn.asked
            self.ok += 1
            step.ok += 1
            second.ok += 1
            self.whole.add(took)
            step.whole.add(took)
            second.whole_max = max(second.whole_max, took)
        else:
            self.failed += 1
            step.failed += 1
            second.failed += 1
            kind = turn.failure.kind if turn.failure.kind in self.kinds or len(self.kinds) < MAX_KINDS else OTHER
            self.kinds[kind] += 1
            self.examples.setdefault(kind, turn.failure.detail)
        self._pieces(turn, step)

    def _pieces(self, turn: Turn, step: Count) -> None:
        if not turn.pieces:
            return
        first = turn.pieces[0] - turn.asked
        self.first.add(first)
        step.first.add(first)
        second = self._second(turn.pieces[0])
        second.first_max = max(second.first_max, first)
        self.pieces += len(turn.pieces)
        step.pieces += len(turn.pieces)
        before = 0.0
        for at in turn.pieces:
            self._second(at).pieces += 1
            if before:
                self.gaps.add(at - before)
            before = at

    def _second(self, at: float) -> Second:
        number = int(at - self.start)
        while len(self.seconds) <= number:
            self.seconds.append(Second())
        return self.seconds[number]

    def _step(self, turn: Turn) -> Count:
        """By the concurrency when it began."""
        return self.steps[bisect_right(self._begins, turn.began) - 1]
