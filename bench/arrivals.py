"""When tasks come: seconds from the start, ascending. The same seed makes the same trace."""

from __future__ import annotations

import random
from collections.abc import Sequence

BURST = 4
BURST_S = 0.02
"""A burst is four tasks within so many seconds, as when one message asks several assistants."""


def rate(rho: float, cost: Sequence[float]) -> float:
    """Tasks a second that keep one worker busy for the share `rho` of the time if every batch is full."""
    return rho * len(cost) / cost[-1]


def poisson(per_s: float, seconds: float, seed: int) -> list[float]:
    """Tasks that come independently of each other. At least one."""
    chance = random.Random(seed)
    found = [chance.expovariate(per_s)]
    while found[-1] < seconds:
        found.append(found[-1] + chance.expovariate(per_s))
    return found[:-1] or [0.0]


def bursts(per_s: float, seconds: float, seed: int, size: int = BURST, within_s: float = BURST_S) -> list[float]:
    """As many tasks, but `size` of them within `within_s`; the bursts come independently of each other."""
    chance = random.Random(-seed - 1)
    starts = poisson(per_s / size, seconds, seed)
    return sorted(start + chance.uniform(0, within_s) for start in starts for _ in range(size))
