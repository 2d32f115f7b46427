"""Carries out a plan: as many tasks as turns are under way at once at most, each with a talker of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from hubbub.apps.load.pacing import Pacing
from hubbub.apps.load.plan import Plan
from hubbub.apps.load.report import Report, report
from hubbub.apps.load.tally import Tally
from hubbub.apps.load.turn import Kind, Talker
from hubbub.apps.load.watch import Watch
from hubbub.core.errors import BadRequest
from hubbub.core.nouns import stamp

PAUSE_S = 0.1
"""After a refused connection, where turns do not come at their own rate: nothing is learnt from trying faster."""
SPARE_FILES = 64
SHOWN_EVERY_S = 0.5


class Load:
    """One load test.

    Args:
        talkers: makes the talker of each task.
        talker: what they are called in the report.
        shows: is told the counts twice a second, and how long it has been going.
    """

    def __init__(
        self,
        plan: Plan,
        talkers: Callable[[], Talker],
        *,
        url: str,
        talker: str,
        shows: Callable[[Tally, float], None] | None = None,
    ) -> None:
        self._plan = plan
        self._talkers = talkers
        self._url = url
        self._talker = talker
        self._shows = shows

    async def run(self) -> None:
        """Until it is over. Cancelled, it ends at once, and there is a report of what came until then. Raises
        BadRequest: this machine gives a process fewer connections than the plan needs."""
        make_room(self._plan.concurrency)
        self._started = stamp(time.time())
        self._start = time.perf_counter()
        self._tally = Tally(self._start, self._plan.stairs())
        self._pacing = Pacing(self._plan, self._start)
        self._watch = Watch()
        self._over = False
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._watch.run()), group.create_task(self._show())]
                async with asyncio.TaskGroup() as talking:
                    for place in range(self._plan.concurrency):
                        talking.create_task(self._talk(place))
                for task in beside:
                    task.cancel()
            self._over = True
        finally:
            self._ended = time.perf_counter()

    def report(self) -> Report:
        """After run has ended, in whatever way."""
        return report(
            self._plan,
            self._tally,
            self._watch,
            url=self._url,
            talker=self._talker,
            started=self._started,
            elapsed_s=self._ended - self._start,
            interrupted=not self._over,
        )

    async def _talk(self, place: int) -> None:
        """Has turn after turn, once so many are to be under way that it is needed."""
        begins_s = next(stair.begins_s for stair in self._tally.stairs if stair.level > place)
        if begins_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._start + begins_s - time.perf_counter()):
                    await self._pacing.over.wait()
        talker = self._talkers()
        had = 0
        try:
            while (asked := await self._pacing.next()) is not None:
                if had % self._plan.turns == 0:
                    talker.begin()
                had = had + 1 if await self._turn(talker, asked) else 0
        finally:
            talker.hang_up()

    async def _turn(self, talker: Talker, asked: float) -> bool:
        """Did it go well?"""
        turn = self._tally.begin(asked)
        left_s = self._plan.timeout_s - (turn.began - asked)
        if left_s <= 0:
            turn.fail(Kind.TIMED_OUT, f"Nobody was free to ask within {self._plan.timeout_s:g} s.")
        else:
            try:
                async with asyncio.timeout(left_s):
                    await talker.have(turn, self._plan.message)
            except TimeoutError:
                told = f"It had not ended after {self._plan.timeout_s:g} s; {len(turn.pieces)} pieces had come."
                turn.fail(Kind.TIMED_OUT, told)
        self._tally.end(turn)
        if turn.failure is None:
            return True
        if turn.failure.kind in (Kind.REFUSED, Kind.OWN_LIMIT) and self._plan.rate is None:
            await asyncio.sleep(PAUSE_S)
        return False

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(SHOWN_EVERY_S)
            if self._shows is not None:
                self._shows(self._tally, time.perf_counter() - self._start)


def make_room(connections: int) -> None:
    """Let this process have that many. Raises BadRequest: it may not."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if needed <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise BadRequest(
            f"--concurrency {connections} needs {needed} open files, and this machine gives a process {hard} at most."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
