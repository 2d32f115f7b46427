"""The bus of a single process: events are function calls, the queue of runs is a deque."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from hubbub.core.errors import QueueFull
from hubbub.core.frames import RunDelta
from hubbub.core.nouns import RunState, Task
from hubbub.core.ports import Event, Lease, Progress

MAX_QUEUE = 256


class _Answer:
    """An answer as far as it has come, kept in pieces so that a long one is not copied at every word."""

    __slots__ = ("attempt", "error", "length", "pieces", "state", "truncated")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.pieces: list[str] = []
        self.length = 0
        self.state = RunState.RUNNING
        self.error: str | None = None
        self.truncated = False


class LocalBus:
    """See `core.ports.Bus`. Here nothing is ever lost, doubled or reordered, and leases do not end by themselves:
    the only worker lives and dies with this process."""

    def __init__(self, max_queue: int = MAX_QUEUE) -> None:
        self._hearers: list[Callable[[Event], None]] = []
        self._enders: list[Callable[[str], None]] = []
        self._queue: deque[tuple[Task, float]] = deque()
        self._max_queue = max_queue
        self._leased: dict[str, Lease] = {}
        self._answers: dict[str, _Answer] = {}
        self._more = asyncio.Event()
        self._fence = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def publish(self, event: Event) -> None:
        frame = event.frame
        if isinstance(frame, RunDelta):
            self._extend(frame)
        for hear in self._hearers:
            hear(event)

    def _extend(self, delta: RunDelta) -> None:
        answer = self._answers.get(delta.run)
        if answer is None or answer.attempt < delta.attempt:
            answer = self._answers[delta.run] = _Answer(delta.attempt)
        if answer.attempt == delta.attempt and answer.length == delta.offset and not answer.state.ended:
            answer.pieces.append(delta.text)
            answer.length += len(delta.text)

    def listen(self, hear: Callable[[Event], None], ended: Callable[[str], None]) -> None:
        self._hearers.append(hear)
        self._enders.append(ended)

    async def put(self, task: Task) -> int:
        if len(self._queue) >= self._max_queue and task.attempt == 1:  # what was accepted once is not refused again
            raise QueueFull(f"{len(self._queue)} answers are waiting already; try again later.", retry_after=5)
        self._queue.append((task, asyncio.get_running_loop().time()))
        self._more.set()
        return len(self._queue)

    async def take(self, limit: int, wait_s: float) -> list[Lease]:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                self._more.clear()
                await self._more.wait()
                continue
            left = self._queue[0][1] + wait_s - loop.time()
            if left <= 0 or len(self._queue) >= limit:
                break
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._more.wait()
        leases: list[Lease] = []
        while self._queue and len(leases) < limit:
            task, _ = self._queue.popleft()
            self._fence += 1
            self._leased[task.run] = Lease(task, self._fence)
            self._answers[task.run] = _Answer(task.attempt)
            leases.append(self._leased[task.run])
        return leases

    def wanted(self, lease: Lease) -> bool:
        return self._leased.get(lease.task.run) is lease

    async def done(self, lease: Lease, state: RunState, error: str | None = None, *, truncated: bool = False) -> None:
        run = lease.task.run
        if not self.wanted(lease):
            return
        del self._leased[run]
        answer = self._answers.get(run)
        if answer is None or answer.attempt != lease.task.attempt:
            answer = self._answers[run] = _Answer(lease.task.attempt)
        answer.state, answer.error, answer.truncated = state, error, truncated
        for ended in self._enders:
            ended(run)

    def cancel(self, run: str) -> None:
        self._leave(run)
        answer = self._answers.get(run)
        if answer is not None and not answer.state.ended:
            answer.state = RunState.CANCELLED

    def so_far(self, run: str) -> Progress | None:
        answer = self._answers.get(run)
        if answer is None:
            return None
        if len(answer.pieces) > 1:
            answer.pieces = ["".join(answer.pieces)]
        return Progress(answer.attempt, "".join(answer.pieces), answer.state, answer.error, answer.truncated)

    def forget(self, run: str) -> None:
        self._answers.pop(run, None)
        self._leave(run)

    def _leave(self, run: str) -> None:
        self._leased.pop(run, None)
        self._queue = deque((task, at) for task, at in self._queue if task.run != run)
