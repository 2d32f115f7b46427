"""How long things took, or how large they were: counts in buckets that grow by a tenth each.

Twenty-four buckets a decade, so that any quantile is within 5 % of a value that was there. Two sketches add up, and
of one that only grows the part since an earlier copy is a sketch, too: that is how minutes are told apart without
anybody who measures something having to know of minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10

import msgspec

PER_DECADE = 24
LOWEST, HIGHEST = -6 * PER_DECADE, 6 * PER_DECADE
"""A microsecond, if these are seconds, to 10^6; what is beyond counts as one of them."""


class Sketch(msgspec.Struct):
    """Values above 0. `counts` by the number of the bucket, `total` of the values."""

    counts: dict[int, int] = {}
    total: float = 0.0

    def note(self, value: float) -> None:
        place = bucket(value)
        self.counts[place] = self.counts.get(place, 0) + 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def mean(self) -> float | None:
        """None while there is nothing."""
        count = self.count
        return self.total / count if count else None

    def quantile(self, share: float) -> float | None:
        """The value that `share` of the values do not exceed, within 5 %; None while there is nothing."""
        left = max(1, ceil(share * self.count))
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return middle(place)
        return None

    def up_to(self, bounds: Sequence[float]) -> list[int]:
        """How many values do not exceed each bound. Exact where a bucket ends: at the twenty-fourth parts of decades,
        and for whole numbers up to 10."""
        found = sorted(self.counts.items())
        return [sum(count for place, count in found if place <= bucket(bound)) for bound in bounds]

    def plus(self, other: Sketch) -> Sketch:
        counts = dict(self.counts)
        for place, count in other.counts.items():
            counts[place] = counts.get(place, 0) + count
        return Sketch(counts, self.total + other.total)

    def since(self, before: Sketch) -> Sketch:
        """What has come since `before` was a copy of this."""
        new = {place: count - before.counts.get(place, 0) for place, count in self.counts.items()}
        return Sketch({place: count for place, count in new.items() if count}, self.total - before.total)


def bucket(value: float) -> int:
    """The number of the bucket: it ends at 10 to its 24th part."""
    if value <= 0:
        return LOWEST
    return min(HIGHEST, max(LOWEST, ceil(PER_DECADE * log10(value) - 1e-9)))


def middle(place: int) -> float:
    """The value that is as far from both ends of the bucket, by ratio to it."""
    upper = 10.0 ** (place / PER_DECADE)
    lower = 10.0 ** ((place - 1) / PER_DECADE)
    return float(2 * upper * lower / (upper + lower))
