"""Whose turn it is: what is written to one thread happens in the order of the calls, and drafts share transactions.

Each thread has a lane, and so has whatever else is to be made once. Drafts that wait at the heads of their lanes fly
together: one transaction for many threads. Measured with 100 senders in 50 threads, that was 7 k messages a second,
beside 1.2 k with a transaction for each thread and 15 k for bare inserts in groups of 100. Other work has its lanes to
itself.

A flight that meets another node's in one of its threads has to begin again. Such threads are shared, for a while: they
fly with each other only, so that they keep no others, and after each flight they are left to the other node for a
moment. Measured with two nodes that each have 50 senders in the same 50 threads, that was 2 k messages a second beside
0.5 k with flights that were halved whenever they met; with one thread of each node's fifty in common, 3.5 k beside
2 k.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import Draft, Message, Role
from hubbub.stores.mongo_server import AWAY, BUSY, FLIGHTS, PATIENCE_S, outside

T = TypeVar("T")

MAX_FLIGHTS = 2
MAX_TOGETHER = 64
"""Threads in a flight."""

SLOW_S = 0.5
"""After so long a flight leaves its place to another one."""

MAX_SLOW = FLIGHTS - MAX_FLIGHTS * MAX_TOGETHER
"""Threads that such flights may still have in the air."""

SHARED_S = 1.0
"""For so long a thread is taken to be shared after another node was met there."""

MAX_SHARED = 4096
"""Threads that are remembered to be shared, before those are forgotten that no longer are."""

MAX_GROUP = 1024
MAX_GROUP_BYTES = 4 << 20
MAX_WAITING = 16384


class Posting:
    """A draft on its way."""

    __slots__ = ("done", "draft", "roles", "since")

    def __init__(self, draft: Draft, roles: frozenset[Role] | None, done: asyncio.Future[Message]) -> None:
        self.draft = draft
        self.roles = roles
        self.done = done
        self.since = time.monotonic()

    def tell(self, outcome: Message | BaseException) -> None:
        if self.done.done():  # its caller gave up
            return
        if isinstance(outcome, BaseException):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class _Turn:
    """Work that has its lanes to itself, once `granted` is done."""

    __slots__ = ("granted", "group", "has_them", "lanes")

    def __init__(self, lanes: tuple[str, ...], group: object, granted: asyncio.Future[None]) -> None:
        self.lanes = lanes
        self.group = group
        self.granted = granted
        self.has_them = False

    def give_up(self) -> None:
        if not self.granted.done():
            self.granted.set_exception(Unavailable(AWAY, retry_after=1))


Flight = dict[str, list[Posting]]
"""What flies together, by thread."""

Landed = Callable[[Iterable[str]], None]
Committed = Callable[[int, float | None], None]


class Lanes:
    """One owner, one event loop.

    Args:
        fly: writes a flight, whose threads are shared or not, tells every posting how it went, and returns the threads
            in which another node was met. Those that need not wait for the others are told to it before.
        committed: called after each flight with how many drafts it had and the seconds it took; None for those: it
            failed.
    """

    def __init__(
        self, fly: Callable[[Flight, bool, Landed], Awaitable[set[str]]], committed: Committed | None = None
    ) -> None:
        self._fly = fly
        self._committed = committed
        self._lanes: dict[str, deque[Posting | _Turn]] = {}
        self._busy: set[str] = set()
        self._ready: dict[str, None] = {}  # lanes that may have come to something
        self._flights: set[asyncio.Task[None]] = set()
        self._in_the_air = 0  # flights, without slow ones
        self._slow = 0  # threads
        self._shared: dict[str, float] = {}  # until when
        self._waiting = 0
        self._scheduled = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def append(self, draft: Draft, roles: frozenset[Role] | None) -> asyncio.Future[Message]:
        """Write it in the next flight there is room in. The future holds the message, or why it was refused."""
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        refused = self._refused()
        if refused is not None:
            done.set_exception(refused)
            return done
        self._enter(draft.thread, Posting(draft, roles, done))
        return done

    async def alone(self, lanes: Sequence[str], work: Callable[[], Awaitable[T]], group: object = None) -> T:
        """Do `work` when everything that came before in these lanes is done, and nothing else in them meanwhile.
        `group`: see `ends_with`. Raises Unavailable when that takes too long."""
        refused = self._refused()
        if refused is not None:
            raise refused
        loop = asyncio.get_running_loop()
        turn = _Turn(tuple(dict.fromkeys(lanes)), group, loop.create_future())
        for lane in turn.lanes:
            self._enter(lane, turn)
        too_late = loop.call_later(PATIENCE_S, turn.give_up)
        try:
            await turn.granted
            too_late.cancel()
            return await work()
        finally:
            too_late.cancel()
            self._leave(turn)

    def ends_with(self, group: object, lanes: Sequence[str]) -> bool:
        """Is everything that came last in these lanes a turn of this group?"""
        last = (self._lanes[lane][-1] if self._lanes.get(lane) else None for lane in lanes)
        return all(isinstance(entry, _Turn) and entry.group is group for entry in last)

    async def close(self) -> None:
        """Finish what was accepted. Nothing is accepted from now on."""
        self._closed = True
        await self._idle.wait()

    def _refused(self) -> Unavailable | None:
        if self._closed:
            return Unavailable("The store is closed.", retry_after=1)
        if self._waiting >= MAX_WAITING:
            return Unavailable(BUSY, retry_after=1)
        return None

    def _enter(self, lane: str, entry: Posting | _Turn) -> None:
        self._lanes.setdefault(lane, deque()).append(entry)
        self._waiting += 1
        self._idle.clear()
        self._look_at(lane)

    def _look_at(self, lane: str) -> None:
        if lane in self._busy:
            return
        self._ready[lane] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self._scheduled = False
        for lane in list(self._ready):
            if lane not in self._ready:  # somebody else's turn has come here meanwhile
                continue
            first = self._lanes[lane][0] if lane in self._lanes else None
            if isinstance(first, Posting):
                continue
            del self._ready[lane]
            if first is not None and self._has_come(first) and not first.granted.done():
                for one in first.lanes:
                    self._busy.add(one)
                    self._ready.pop(one, None)
                first.has_them = True
                first.granted.set_result(None)
        while self._ready and self._in_the_air < MAX_FLIGHTS:
            self._in_the_air += 1
            task = asyncio.get_running_loop().create_task(self._take_off(*self._load()))
            self._flights.add(task)

    def _has_come(self, turn: _Turn) -> bool:
        return all(lane not in self._busy and self._lanes[lane][0] is turn for lane in turn.lanes)

    def _load(self) -> tuple[Flight, bool]:
        """The first drafts of as many lanes as may fly together, all of them shared or none."""
        flight: Flight = {}
        count = size = 0
        now = time.monotonic()
        shared = self._shared.get(next(iter(self._ready)), 0.0) > now
        for lane in list(self._ready):
            if len(flight) == MAX_TOGETHER or count >= MAX_GROUP or size >= MAX_GROUP_BYTES:
                break
            if (self._shared.get(lane, 0.0) > now) is not shared:
                continue
            entries, taken = self._lanes[lane], []
            while entries and isinstance(entries[0], Posting) and count < MAX_GROUP and size < MAX_GROUP_BYTES:
                posting = entries.popleft()
                assert isinstance(posting, Posting)
                taken.append(posting)
                count += 1
                size += len(posting.draft.text)
            flight[lane] = taken
            self._busy.add(lane)
            del self._ready[lane]
        return flight, shared

    async def _take_off(self, flight: Flight, shared: bool) -> None:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        left = dict(flight)
        slow = 0

        def slow_down() -> None:
            nonlocal slow
            if left and self._slow + len(left) <= MAX_SLOW:
                slow = len(left)
                self._slow += slow
                self._in_the_air -= 1
                self._schedule()

        def leave(lanes: Iterable[str]) -> None:
            for lane in lanes:
                if (postings := left.pop(lane, None)) is not None:
                    self._waiting -= len(postings)
                    self._free(lane)

        def landed(lanes: Iterable[str]) -> None:
            now = time.monotonic()
            self._shared |= dict.fromkeys(lanes, now + SHARED_S)
            pause_s = random.uniform(0, min(now - began, SHARED_S))
            loop.call_later(pause_s, leave, list(lanes))

        slowing = loop.call_later(SLOW_S, slow_down)
        try:
            await self._fly_in_time(flight, shared, began - PATIENCE_S, landed)
        finally:
            slowing.cancel()
            self._in_the_air -= not slow
            self._slow -= slow
            self._schedule()
            try:
                if shared:  # the other node would hardly ever come between
                    await asyncio.sleep(random.uniform(0, min(time.monotonic() - began, SHARED_S)))
            finally:
                task = asyncio.current_task()
                assert task is not None
                self._flights.discard(task)
                leave(flight)

    async def _fly_in_time(self, flight: Flight, shared: bool, too_late: float, landed: Landed) -> None:
        in_time: Flight = {}
        try:
            for lane, postings in flight.items():
                fresh = [posting for posting in postings if posting.since > too_late]
                for posting in postings[: len(postings) - len(fresh)]:  # the oldest
                    posting.tell(Unavailable(AWAY, retry_after=1))
                if fresh:
                    in_time[lane] = fresh
            if in_time:
                began = time.monotonic()
                met = await self._fly(in_time, shared, landed)
                now = time.monotonic()
                self._note(in_time, now - began)
                if len(self._shared) + len(met) > MAX_SHARED:
                    self._shared = {lane: until for lane, until in self._shared.items() if until > now}
                self._shared |= dict.fromkeys(met, now + SHARED_S)
        except Exception as failure:
            self._note(in_time, None)
            problem = outside(failure)
            for postings in in_time.values():
                for posting in postings:
                    posting.tell(problem)

    def _note(self, flight: Flight, seconds: float | None) -> None:
        if self._committed is not None:
            self._committed(sum(map(len, flight.values())), seconds)

    def _leave(self, turn: _Turn) -> None:
        """It is over, or its caller gave up."""
        for lane in turn.lanes:
            self._lanes[lane].remove(turn)
            self._waiting -= 1
            if turn.has_them:
                self._free(lane)
            elif lane not in self._busy:
                self._tidy(lane)

    def _free(self, lane: str) -> None:
        self._busy.discard(lane)
        self._tidy(lane)

    def _tidy(self, lane: str) -> None:
        if self._lanes[lane]:
            self._look_at(lane)
        else:
            del self._lanes[lane]
            self._ready.pop(lane, None)
        if not self._waiting:
            self._idle.set()
