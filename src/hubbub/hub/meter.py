"""What this process has done since it started, counted so that counting costs nearly nothing.

Whoever does something adds to a plain number; nothing else happens there. Everything an operator wants to know, over
which minutes and as which quantiles, is made of these numbers when somebody asks. `Counts` is one value that can be
sent elsewhere and added up, so that several processes can be shown as one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import field

from hubbub.core.nouns import RunState
from hubbub.core.ports import Lease, Usage
from hubbub.core.sketch import Sketch
from hubbub.hub.vitals import Vitals, load, vitals

LOOK_EVERY_S = 0.5
MINUTE_S = 60.0
MINUTES = 120
"""Minutes that are remembered one by one."""

SLOWEST = 20
"""Of the requests of a minute, and of the last hour together."""

REASONS = ("full", "window", "alone")
"""Why a batch was not left to wait for more."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Counts(msgspec.Struct):
    """Everything that only grows. Times in seconds; what stands in a key is named beside it, divided by a space."""

    messages: int = 0
    deliveries: int = 0  # frames written to readers in step
    delivered_bytes: int = 0
    catch_ups: int = 0
    stalls: int = 0  # times that a reader's socket was full
    slow_closed: int = 0
    rate_limited: int = 0
    wrong_passwords: int = 0
    sessions: dict[str, int] = {}  # door
    refused_early: dict[str, int] = {}  # status; before any route was looked for
    requests: dict[str, int] = {}  # method route status
    request_s: dict[str, Sketch] = {}  # method route
    runs: dict[str, int] = {}  # engine state; that have ended
    retried: dict[str, int] = {}  # engine
    cancelled: dict[str, int] = {}  # engine state; what it was in
    queue_full: dict[str, int] = {}  # engine
    batches: dict[str, int] = {}  # engine reason
    batch_size: dict[str, Sketch] = {}  # engine, like all below
    batch_s: dict[str, Sketch] = {}
    waited_s: dict[str, Sketch] = {}
    first_piece_s: dict[str, Sketch] = {}  # from the beginning of the batch
    piece_gap_s: dict[str, Sketch] = {}
    tokens: dict[str, int] = {}  # engine kind
    commits_lost: int = 0
    group_size: Sketch = field(default_factory=Sketch)  # writes in a commit
    commit_s: Sketch = field(default_factory=Sketch)
    loop_lag_s: Sketch = field(default_factory=Sketch)

    def plus(self, other: Counts) -> Counts:
        """Both together, as of two processes or two minutes."""
        return Counts(**{name: _plus(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__})

    def since(self, before: Counts) -> Counts:
        """What has come since `before` was a copy of this; what has not grown is left out."""
        return Counts(**{name: _since(getattr(self, name), getattr(before, name)) for name in self.__struct_fields__})

    def copy(self) -> Counts:
        return self.plus(Counts())


def _plus(one: Any, other: Any) -> Any:
    if isinstance(one, int):
        return one + other
    if isinstance(one, Sketch):
        return one.plus(other)
    return {
        key: _plus(one[key], other[key]) if key in one and key in other else _copy(one, other, key)
        for key in {**one, **other}
    }


def _copy(one: Any, other: Any, key: str) -> Any:
    value = one.get(key, other.get(key))
    return value.plus(Sketch()) if isinstance(value, Sketch) else value


def _since(now: Any, before: Any) -> Any:
    if isinstance(now, int):
        return now - before
    if isinstance(now, Sketch):
        return now.since(before)
    grown = {
        key: _since(value, before[key]) if key in before else _plus(value, type(value)()) for key, value in now.items()
    }
    return {key: value for key, value in grown.items() if (value.counts if isinstance(value, Sketch) else value)}


class Slow(msgspec.Struct, frozen=True, order=True):
    """A request that took long. `at` in Unix seconds."""

    seconds: float
    route: str
    status: int
    at: float


class Gauge(msgspec.Struct, frozen=True):
    """Something that is as it is now. `name` without the prefix. `adds`: two processes have as much of it as both
    together; else they know of the same thing, and the greater value is the newer one."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = {}
    adds: bool = True

    def plus(self, other: Gauge) -> Gauge:
        value = self.value + other.value if self.adds else max(self.value, other.value)
        return msgspec.structs.replace(self, value=value)


class Told(msgspec.Struct, frozen=True):
    """What another process of the same server says of itself. Of one that has ended there are only `counts`, `logged`
    and `cpu_s`, which go on counting, and no `vitals`."""

    counts: Counts
    logged: dict[str, int] = {}
    cpu_s: float = 0.0
    gauges: list[Gauge] = []
    slowest: list[Slow] = []
    vitals: Vitals | None = None


class Others(Protocol):
    """The other processes that are one server with this one."""

    def told(self, mine: Told) -> list[Told]:
        """Say how this process is, so that nothing it shows is taken back should it end here; and what the others have
        said lately."""


class Minute(msgspec.Struct, frozen=True):
    """What a minute has brought, and how things stood when it ended at `at`, in Unix seconds."""

    at: float
    seconds: float
    counts: Counts
    cpu: float  # share of one processor
    vitals: Vitals
    queued: int
    slowest: list[Slow]


class Meter:
    """One for each process.

    Args:
        home: the directory whose disk is watched.
        logged: entries of this process's log, by level.
        others: those it tells of together with its own process; nobody by default.
    """

    def __init__(
        self,
        *,
        version: str = "0",
        home: Path | None = None,
        logged: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.time,
        others: Others | None = None,
    ) -> None:
        self.version = version
        self.counts = Counts()
        self.others = others
        self.heard: list[Told] = []
        self.logged: Mapping[str, int] = logged if logged is not None else {}
        self.gauges: list[Callable[[], Iterable[Gauge]]] = []
        self.minutes: deque[Minute] = deque(maxlen=MINUTES)
        self.clock = clock
        self.began_at = clock()
        self._home = home
        self._started = time.monotonic()
        self._minute_began = self._started
        self._slowest: list[Slow] = []
        self._cpu_before = self.cpu_s()
        self._before = self.total()  # as it was when this minute began

    def hear(self) -> None:
        """Ask the others; what this meter tells is of them, too, as they were now."""
        if self.others is not None:
            self.heard = self.others.told(self.tell())

    def tell(self) -> Told:
        """What this process says of itself."""
        return Told(
            counts=self.counts,
            logged=dict(self.logged),
            cpu_s=time.process_time(),
            gauges=self._gauges(),
            slowest=self._slowest,
            vitals=vitals(self._home),
        )

    def total(self) -> Counts:
        """A copy of what has been counted."""
        whole = self.counts.copy()
        for told in self.heard:
            whole = whole.plus(told.counts)
        return whole

    def log_entries(self) -> dict[str, int]:
        entries = dict(self.logged)
        for told in self.heard:
            for level, count in told.logged.items():
                add(entries, level, count)
        return entries

    def cpu_s(self) -> float:
        return time.process_time() + sum(told.cpu_s for told in self.heard)

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    def expect(self, engines: Iterable[str]) -> None:
        """Begin what these engines may do at 0, so that the first time it happens is seen to be one more."""
        counts = self.counts
        for engine in engines:
            for count in (counts.retried, counts.queue_full):
                count.setdefault(engine, 0)
            for reason in REASONS:
                counts.batches.setdefault(f"{engine} {reason}", 0)
            for state in RunState:
                (counts.runs if state.ended else counts.cancelled).setdefault(f"{engine} {state}", 0)

    # What is noted where it happens and takes more than adding to a number

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request, `seconds` after it came. `route` is the template, never what somebody put into it; "" for none."""
        counts = self.counts
        name = f"{method if method in METHODS else 'OTHER'} {route or '(none)'}"
        add(counts.requests, f"{name} {status}")
        note(counts.request_s, name, seconds)
        slowest = self._slowest
        if len(slowest) < SLOWEST or seconds > slowest[-1].seconds:
            slowest.append(Slow(seconds, name, status, self.clock()))
            slowest.sort(reverse=True)
            del slowest[SLOWEST:]

    def batch(self, engine: str, leases: list[Lease], most: int) -> str:
        """A batch was taken: which of REASONS it was, full, its window over, or to be written alone."""
        reason = "alone" if leases[0].task.attempt > 1 else "full" if len(leases) >= most else "window"
        add(self.counts.batches, f"{engine} {reason}")
        note(self.counts.batch_size, engine, len(leases))
        for lease in leases:
            note(self.counts.waited_s, engine, lease.waited_s)
        return reason

    def used(self, engine: str, usage: Usage | None) -> None:
        if usage is not None:
            add(self.counts.tokens, f"{engine} prompt", usage.prompt)
            add(self.counts.tokens, f"{engine} completion", usage.completion)

    def committed(self, writes: int, seconds: float | None) -> None:
        """So many writes shared a commit; None: they were lost."""
        if seconds is None:
            self.counts.commits_lost += 1
        else:
            self.counts.group_size.note(writes)
            self.counts.commit_s.note(seconds)

    def ended(self, engine: str, state: RunState) -> None:
        add(self.counts.runs, f"{engine} {state}")

    # Time

    async def watch(self) -> None:
        """Until cancelled: see how late this loop is, and tell the minutes apart."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            self.counts.loop_lag_s.note(max(0.0, now - began - LOOK_EVERY_S))
            if now - self._minute_began >= MINUTE_S:
                await asyncio.to_thread(load)
                self.turn()

    def turn(self) -> None:
        """The minute is over."""
        self.hear()
        self.minutes.append(self.this_minute())
        self._before = self.total()
        self._minute_began = time.monotonic()
        self._cpu_before = self.cpu_s()
        self._slowest = []

    def this_minute(self) -> Minute:
        """The minute that is not over, as far as it has come."""
        seconds = max(1e-3, time.monotonic() - self._minute_began)
        queued = sum(
            gauge.value for gauge in self.now() if gauge.name == "runs_open" and gauge.labels["state"] == "queued"
        )
        return Minute(
            at=self.clock(),
            seconds=seconds,
            counts=self.total().since(self._before),
            cpu=max(0.0, self.cpu_s() - self._cpu_before) / seconds,
            vitals=self.vitals(),
            queued=int(queued),
            slowest=sorted([*self._slowest, *(slow for told in self.heard for slow in told.slowest)], reverse=True)[
                :SLOWEST
            ],
        )

    def last(self, minutes: int) -> list[Minute]:
        """So many of the last minutes, as far as they are remembered, and the one that is not over."""
        return [*list(self.minutes)[-minutes:], self.this_minute()]

    def vitals(self) -> Vitals:
        mine = vitals(self._home)
        each = [mine, *(told.vitals for told in self.heard if told.vitals is not None)]
        return msgspec.structs.replace(
            mine,
            cpu_s=mine.cpu_s + sum(told.cpu_s for told in self.heard),
            resident=sum(one.resident for one in each),
            files=None if mine.files is None else sum(one.files or 0 for one in each),
            files_most=None if mine.files_most is None else sum(one.files_most or 0 for one in each),
        )

    def now(self) -> list[Gauge]:
        """How things stand, as far as this process and the others know of them."""
        whole: dict[tuple[str, ...], Gauge] = {}
        for gauge in [*self._gauges(), *(gauge for told in self.heard for gauge in told.gauges)]:
            key = (gauge.name, *gauge.labels.values())
            known = whole.get(key)
            whole[key] = gauge if known is None else known.plus(gauge)
        return list(whole.values())

    def _gauges(self) -> list[Gauge]:
        return [gauge for tell in self.gauges for gauge in tell()]


def add(counts: dict[str, int], key: str, amount: int = 1) -> None:
    counts[key] = counts.get(key, 0) + amount


def note(sketches: dict[str, Sketch], key: str, value: float) -> None:
    sketch = sketches.get(key)
    if sketch is None:
        sketch = sketches[key] = Sketch()
    sketch.note(value)
