"""How fast is too fast: a token bucket (burst, then a steady rate)."""

from __future__ import annotations


class Pace:
    """`burst` at once, then `rate` a second. Time is the caller's, in seconds, never going back."""

    __slots__ = ("_left", "at", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._left = burst
        self.at = now

    def take(self, now: float) -> float:
        """0.0 when one more is allowed (and counted), else how many seconds to wait for it."""
        self._left = min(self.burst, self._left + (now - self.at) * self.rate)
        self.at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self.rate
