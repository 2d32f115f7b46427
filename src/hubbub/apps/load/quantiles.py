"""Any number of times in little memory: each is counted in a bucket 1 % wide, so that a quantile is off by 0.5 % at
most. The least and the greatest are exact."""

from __future__ import annotations

from math import exp, log

import msgspec

_STEP = log(1.01)
_LEAST = 1e-6
"""Shorter times, in seconds, are one bucket."""
_SHIFT = 1_400  # makes the buckets of all longer times positive, so that int() rounds each down
_TINY = -1


class Quantiles(msgspec.Struct, frozen=True):
    """Seconds; `p99` is the time that 99 % do not exceed."""

    count: int
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Times:
    __slots__ = ("_buckets", "_max", "_min", "_sum", "count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._min = float("inf")
        self._max = 0.0
        self._sum = 0.0
        self.count = 0

    def add(self, time_s: float) -> None:
        bucket = int(log(time_s) / _STEP + _SHIFT) if time_s > _LEAST else _TINY
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self._sum += time_s
        if time_s > self._max:
            self._max = time_s
        if time_s < self._min:
            self._min = time_s

    def at(self, share: float) -> float:
        """The time that this share of all does not exceed; there is at least one."""
        left = share * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                middle = 0.0 if bucket == _TINY else exp((bucket - _SHIFT + 0.5) * _STEP)
                return min(max(middle, self._min), self._max)
        return self._max

    def summary(self) -> Quantiles | None:
        """None when there are none."""
        if not self.count:
            return None
        shares = {f"p{round(share * 100)}": self.at(share) for share in (0.5, 0.9, 0.95, 0.99)}
        return Quantiles(self.count, self._min, self._sum / self.count, **shares, max=self._max)
