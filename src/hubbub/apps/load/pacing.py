"""When the next turn begins.

Closed: as soon as who has it is free. Open: at its place in an even row of arrivals. Such a turn counts from its place,
not from when somebody was free for it, so that a server that stalls is charged with everybody it kept waiting and not
only with those who had got through to it.
"""

from __future__ import annotations

import asyncio
import time

from hubbub.apps.load.plan import Plan


class Pacing:
    """Gives out the turns of a plan. Times are those of time.perf_counter."""

    def __init__(self, plan: Plan, start: float) -> None:
        self._start = start
        self._most = plan.most
        self._rate = plan.rate
        self._end = None if plan.duration_s is None else start + plan.duration_s
        self._given = 0
        self._somebody_waits = False  # for the next arrival; the others who are free wait behind
        self._free: list[asyncio.Future[None]] = []
        self.over = asyncio.Event()
        """No further turn is given out."""

    async def next(self) -> float | None:
        """From when the next turn counts, once it is time for it; None: it was the last.

        Open arrivals that were due before the end, and found nobody free, are made up for after it. Of those who are
        free, whoever has rested least gets the next, so that connections stay warm and no more are made than it takes.
        """
        if self._rate is None:
            now = time.perf_counter()
            if self._all_given() or (self._end is not None and now >= self._end):
                self.over.set()
                return None
            self._given += 1
            return now
        if self._somebody_waits:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._free.append(place)
            await place
        self._somebody_waits = True
        try:
            return await self._arrival(self._rate)
        finally:
            self._hand_over()

    async def _arrival(self, rate: float) -> float | None:
        """For the one who waits for the next arrival."""
        due = self._start + self._given / rate
        if self._all_given() or (self._end is not None and due >= self._end):
            self.over.set()
            return None
        self._given += 1
        wait_s = due - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        return min(due, time.perf_counter())  # timers may fire a little early

    def _hand_over(self) -> None:
        while self._free:
            place = self._free.pop()
            if not place.done():
                place.set_result(None)
                return
        self._somebody_waits = False

    def _all_given(self) -> bool:
        return self._most is not None and self._given >= self._most
