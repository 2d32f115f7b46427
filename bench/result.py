"""What a bench hands back: two numbers, their ratio and its spread, or why the run does not count."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

BUSY = 0.95
"""A generator that uses more of its core than this measured itself."""


class Void(Exception):
    """Something was lost, doubled or reordered, so there is no score."""


@dataclass(slots=True)
class Result:
    """One case. `goal` bounds the ratio from below, or, when `less_is_better`, from above."""

    bench: str
    case: str
    unit: str
    ours: float = 0.0
    floor: float | None = None
    ratios: list[float] = field(default_factory=list)
    goal: float | None = None
    less_is_better: bool = False
    goal_on: str = "ratio"  # or "ours", or "added": ours less the floor's
    notes: dict[str, Any] = field(default_factory=dict)
    void: str = ""
    skipped: str = ""

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def added(self) -> float | None:
        return None if self.floor is None else self.ours - self.floor

    @property
    def reached(self) -> bool | None:
        """Is the goal reached? None when there is none, or nothing to compare."""
        value = {"ratio": self.ratio, "ours": self.ours, "added": self.added}[self.goal_on]
        if self.goal is None or value is None or self.void or self.skipped:
            return None
        return value <= self.goal if self.less_is_better else value >= self.goal

    def line(self) -> str:
        """One line for the terminal."""
        head = f"{self.bench:8} {self.case:34}"
        if self.skipped:
            return f"{head} skipped: {self.skipped}"
        if self.void:
            return f"{head} VOID: {self.void}"
        text = f"{head} {_number(self.ours)} {self.unit}"
        if self.floor is not None:
            text += f" · floor {_number(self.floor)}"
        if self.ratio is not None:
            text += f" · ratio {self.ratio:.2f} ({min(self.ratios):.2f}–{max(self.ratios):.2f})"
        if self.goal_on == "added" and self.added is not None:
            text += f" · added {_number(self.added)}"
        if self.goal is not None:
            sign, word = "≤" if self.less_is_better else "≥", {True: "reached", False: "missed", None: ""}[self.reached]
            text += f" · goal {sign} {self.goal:g} {word}"
        return text + "".join(f" · {name} {_note(value)}" for name, value in self.notes.items())

    def record(self) -> dict[str, Any]:
        """The same for a file."""
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _note(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def a_b_b_a(rounds: int, a: Callable[[], float], b: Callable[[], float]) -> Iterator[tuple[float, float]]:
    """Pairs of a measurement of each, the order turning round each time, so that drift favours neither."""
    for turn in range(rounds):
        if turn % 2:
            second = b()
            yield a(), second
        else:
            yield a(), b()


def compare(result: Result, rounds: int, ours: Callable[[], float], floor: Callable[[], float]) -> Result:
    """Fill in both numbers and the ratio of each pair."""
    pairs = list(a_b_b_a(rounds, ours, floor))
    result.ours = statistics.median(pair[0] for pair in pairs)
    result.floor = statistics.median(pair[1] for pair in pairs)
    result.ratios = [pair[0] / pair[1] for pair in pairs]
    return result
