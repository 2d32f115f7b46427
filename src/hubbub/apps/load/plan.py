"""What a load test is to do, and what it may not ask for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from hubbub.core.errors import BadRequest

MAX_REQUESTS = 10_000_000
MAX_CONCURRENCY = 10_000
MAX_TURNS = 1_000
MAX_DURATION_S = 86_400.0
MAX_RATE = 100_000.0
MAX_TIMEOUT_S = 3_600.0
MAX_STEPS = 50
MAX_MESSAGE = 1_000
"""Characters, as `POST /chat` takes them."""

USUAL_REQUESTS = 10


class Stair(NamedTuple):
    """From `begins_s` after the start, so many at once."""

    level: int
    begins_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Raises BadRequest: it is not one that can be carried out.

    Args:
        requests: how many turns altogether; None: as many as the duration lets.
        duration_s: no turn begins later than this after the start.
        concurrency: how many turns are under way at once at most; each is had over a connection of its own.
        rate: turns a second, begun whether or not earlier ones have ended, as long as fewer than `concurrency` are
            under way. None: each begins when the one before it has ended.
        turns: of one conversation; then another is begun.
        ramp_up_s: begin with one at once, and reach `concurrency` in `steps` after so long.
        timeout_s: from when a turn counts to its end.
    """

    requests: int | None = None
    duration_s: float | None = None
    concurrency: int = 1
    rate: float | None = None
    turns: int = 1
    ramp_up_s: float = 0.0
    steps: int = 10
    message: str = "Hello, how are you?"
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        _between("--requests", self.requests, 1, MAX_REQUESTS)
        _between("--concurrency", self.concurrency, 1, MAX_CONCURRENCY)
        _between("--turns", self.turns, 1, MAX_TURNS)
        _between("--duration", self.duration_s, 0.1, MAX_DURATION_S)
        _between("--rate", self.rate, 0.01, MAX_RATE)
        _between("--ramp-up", self.ramp_up_s, 0, MAX_DURATION_S)
        _between("--steps", self.steps, 2, MAX_STEPS)
        _between("--timeout", self.timeout_s, 0.05, MAX_TIMEOUT_S)
        if not self.message.strip() or len(self.message) > MAX_MESSAGE:
            raise BadRequest(f"--message is to have 1 to {MAX_MESSAGE} characters; it has {len(self.message)}.")
        if not self.ramp_up_s:
            return
        if self.rate is not None:
            raise BadRequest("--ramp-up raises the concurrency, and --rate leaves it open; give one of them.")
        if self.requests is None and self.duration_s is None:
            raise BadRequest("--ramp-up needs --duration or --requests, to know how long to go on.")
        if self.duration_s is not None and self.duration_s <= self.ramp_up_s:
            raise BadRequest(
                f"--duration {self.duration_s:g} is over before --ramp-up {self.ramp_up_s:g} has reached its height."
            )

    @property
    def most(self) -> int | None:
        """How many turns there may be."""
        return USUAL_REQUESTS if self.requests is None and self.duration_s is None else self.requests

    @property
    def mode(self) -> Literal["open", "closed"]:
        return "closed" if self.rate is None else "open"

    def stairs(self) -> list[Stair]:
        """The concurrency over time, from 0 s on; rising."""
        if not self.ramp_up_s or self.concurrency == 1:
            return [Stair(self.concurrency, 0.0)]
        last = min(self.steps, self.concurrency) - 1
        levels = [1 + round((self.concurrency - 1) * step / last) for step in range(last + 1)]
        assert all(low < high for low, high in pairwise(levels))
        return [Stair(level, self.ramp_up_s * step / last) for step, level in enumerate(levels)]


def _between(flag: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise BadRequest(f"{flag} is to be from {least:g} to {most:,.0f}; it is {value:g}.")
