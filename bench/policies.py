"""What batching can reach: the best that one could do who knows every arrival, and what a rule would do.

One worker writes up to `len(cost)` answers together; a batch of b takes `cost[b - 1]` seconds, and each answer of it is
there when the batch ends. Tasks are taken in the order they came. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

Cost = Sequence[float]
"""Seconds that a batch of 1, 2, 3 … answers takes."""


def affine(fixed_s: float, each_s: float, most: int = 4) -> list[float]:
    """The cost of a program that takes `fixed_s` whatever it does, and `each_s` for each answer."""
    return [fixed_s + each_s * size for size in range(1, most + 1)]


def best(arrivals: Sequence[float], cost: Cost) -> float:
    """The least sum of latencies (from arrival to the end of the batch) there is, in seconds.

    A batch is a stretch of the arrivals, and begins when the last of them is there and the worker is free: to begin
    later gains nothing. What can follow the first n tasks depends on nothing but when the worker is free again, so of
    all ways to that point those are kept to which no other is equal or better in both: in that moment and in the sum.
    """
    ways: list[list[tuple[float, float]]] = [[(float("-inf"), 0.0)]]
    before = [0.0]
    for arrival in arrivals:
        before.append(before[-1] + arrival)
    for done, newest in enumerate(arrivals, 1):
        reached = []
        for size in range(1, min(len(cost), done) + 1):
            came = before[done] - before[done - size]
            for free, total in ways[done - size]:
                end = max(free, newest) + cost[size - 1]
                reached.append((end, total + size * end - came))
        ways.append(_undominated(reached))
    return min(total for _, total in ways[-1])


def _undominated(reached: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for end, total in sorted(reached):
        if not kept or total < kept[-1][1] - 1e-9:
            kept.append((end, total))
    return kept


def simulated(arrivals: Sequence[float], cost: Cost, window_s: float = 0.0) -> list[float]:
    """The latency of each task when a free worker takes what there is as soon as a batch is full or its oldest task
    has waited `window_s`; 0: at once (the greedy rule)."""
    latencies: list[float] = []
    free = float("-inf")
    while len(latencies) < len(arrivals):
        at = len(latencies)
        due = arrivals[at] + window_s
        if at + len(cost) <= len(arrivals):
            due = min(due, arrivals[at + len(cost) - 1])
        start = max(free, due)
        size = min(len(cost), bisect_right(arrivals, start) - at)
        free = start + cost[size - 1]
        latencies += [free - arrival for arrival in arrivals[at : at + size]]
    return latencies


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so great a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def in_time(latencies: Sequence[float], limit_s: float) -> float:
    """The share of answers that came within the limit."""
    return sum(latency <= limit_s for latency in latencies) / len(latencies)
