"""The bus of a single process: events are function calls, the queue of runs is a deque."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable

from hubbub.buses.answers import Answer
from hubbub.core.errors import QueueFull
from hubbub.core.frames import RunDelta
from hubbub.core.news import AnyNews
from hubbub.core.nouns import RunState, Task
from hubbub.core.ports import Event, Lease, Progress, Resumed, Usage
from hubbub.core.turns import Turns

MAX_QUEUE = 256
"""Tasks of one engine that may wait."""

SOONEST_S = 1.0
LATEST_S = 60.0
"""When to try again at a full queue, at the soonest and at the latest."""


class _Queue:
    """What waits for one engine, and how often a place in it becomes free."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.more = asyncio.Event()
        self._taken_at: float | None = None
        self._gap_s = SOONEST_S * 5

    def taken(self, count: int, now: float) -> None:
        if self._taken_at is not None and self.turns:
            self._gap_s += ((now - self._taken_at) / count - self._gap_s) / 4
        self._taken_at = now

    @property
    def retry_after(self) -> float:
        """Seconds until a place is free, by how it went lately."""
        return float(round(min(LATEST_S, max(SOONEST_S, self._gap_s))))


class LocalBus:
    """See `core.ports.Bus`. Here nothing is ever lost, doubled or reordered, and leases do not end by themselves:
    the only worker lives and dies with this process."""

    alone = True

    def __init__(self, max_queue: int = MAX_QUEUE) -> None:
        self._hearers: list[Callable[[Event], None]] = []
        self._enders: list[Callable[[str], None]] = []
        self._queues: defaultdict[str, _Queue] = defaultdict(_Queue)
        self._max_queue = max_queue
        self._leased: dict[str, Lease] = {}
        self._answers: dict[str, Answer] = {}
        self._fence = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def checks(self) -> dict[str, str]:
        return {}

    def publish(self, event: Event) -> None:
        frame = event.frame
        if isinstance(frame, RunDelta):
            self._extend(frame)
        for hear in self._hearers:
            hear(event)

    def _extend(self, delta: RunDelta) -> None:
        answer = self._answers.get(delta.run)
        if answer is None or answer.attempt < delta.attempt:
            answer = self._answers[delta.run] = Answer(delta.attempt)
        answer.extend(delta)

    def tell(self, news: AnyNews) -> None: ...

    def listen(
        self,
        hear: Callable[[Event], None],
        ended: Callable[[str], None],
        heed: Callable[[AnyNews], None] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        self._hearers.append(hear)
        self._enders.append(ended)

    async def put(self, task: Task) -> int:
        queue = self._queues[task.engine]
        waits = queue.turns.place(task.run)
        if waits is not None:
            return waits
        answer = self._answers.get(task.run)
        if answer is not None and answer.attempt >= task.attempt:
            return 0
        if len(queue.turns) >= self._max_queue and task.attempt == 1:  # what was accepted once is not refused again
            raise QueueFull(
                f"{len(queue.turns)} answers are waiting already; try again later.", retry_after=queue.retry_after
            )
        place = queue.turns.put(task, asyncio.get_running_loop().time())
        queue.more.set()
        return place

    async def place(self, run: str) -> int | None:
        return next((place for queue in self._queues.values() if (place := queue.turns.place(run))), None)

    async def take(self, engine: str, limit: int, wait_s: float) -> list[Lease]:
        loop = asyncio.get_running_loop()
        queue = self._queues[engine]
        while True:
            if not queue.turns:
                queue.more.clear()
                await queue.more.wait()
                continue
            left = queue.turns.oldest() + wait_s - loop.time()
            if left <= 0 or queue.turns.whole(limit):
                break
            queue.more.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await queue.more.wait()
        now = loop.time()
        batch = queue.turns.pop(limit)
        queue.taken(len(batch), now)
        leases: list[Lease] = []
        for waiting in batch:
            self._fence += 1
            task = waiting.task
            self._leased[task.run] = Lease(task, self._fence, now - waiting.put_at)
            self._answers[task.run] = Answer(task.attempt)
            leases.append(self._leased[task.run])
        return leases

    def wanted(self, lease: Lease) -> bool:
        return self._leased.get(lease.task.run) is lease

    async def done(
        self,
        lease: Lease,
        state: RunState,
        error: str | None = None,
        *,
        truncated: bool = False,
        usage: Usage | None = None,
        model: str = "",
    ) -> None:
        run = lease.task.run
        if not self.wanted(lease):
            return
        del self._leased[run]
        answer = self._answers.get(run)
        if answer is None or answer.attempt != lease.task.attempt:
            answer = self._answers[run] = Answer(lease.task.attempt)
        answer.end(state, error, truncated=truncated, usage=usage, model=model)
        for ended in self._enders:
            ended(run)

    async def resume(self, run: str, attempt: int) -> Resumed:
        answer = self._answers.get(run)
        known = await self.place(run) is not None or (answer is not None and answer.attempt == attempt)
        return Resumed.GOES_ON if known else Resumed.LOST  # with the process that put it

    def cancel(self, run: str) -> None:
        self._leave(run)
        if answer := self._answers.get(run):
            answer.cancel()

    async def settled(self, run: str) -> Progress | None:
        return self.so_far(run)

    def so_far(self, run: str) -> Progress | None:
        answer = self._answers.get(run)
        return None if answer is None else answer.progress

    def forget(self, run: str) -> None:
        self._answers.pop(run, None)
        self._leave(run)

    def _leave(self, run: str) -> None:
        self._leased.pop(run, None)
        for queue in self._queues.values():
            queue.turns.remove(run)
