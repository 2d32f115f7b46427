"""How long to wait before trying again: exponential, with full jitter.

The wait is drawn evenly from 0 to min(cap, base · 2ⁿ), which spreads a crowd of returning clients best
(Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Where the server says when to come
back, that is the least, and the jitter comes on top of it.
"""

from __future__ import annotations

import random

LONGEST_S = 300.0
"""A server that asks for more than this is asked again after this."""

STEADY_S = 5.0
"""A connection that held this long ends the row of failures. A shorter one counts as one more."""


def wait_s(tries: int, rand: random.Random, base_s: float, cap_s: float, retry_after: float | None = None) -> float:
    """How long to wait after `tries` failures in a row before this one."""
    ceiling = min(cap_s, base_s * 2.0 ** min(tries, 32))
    if retry_after is not None and retry_after > 0:
        return min(retry_after, LONGEST_S) + rand.uniform(0, min(ceiling, base_s))
    return rand.uniform(0, ceiling)


class Backoff:
    """One row of failed connections. `rand` is where chance comes from."""

    __slots__ = ("_base_s", "_cap_s", "_rand", "tries")

    def __init__(self, rand: random.Random, base_s: float = 0.5, cap_s: float = 15.0) -> None:
        self._rand = rand
        self._base_s = base_s
        self._cap_s = cap_s
        self.tries = 0

    def next_s(self, retry_after: float | None = None) -> float:
        """Seconds to wait now; one more try is counted."""
        self.tries += 1
        return wait_s(self.tries - 1, self._rand, self._base_s, self._cap_s, retry_after)

    def held(self, lasted_s: float) -> None:
        """A connection was made and lasted this long."""
        if lasted_s >= STEADY_S:
            self.tries = 0
