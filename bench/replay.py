"""Tasks replayed against the real bus and worker, with an engine that takes as long as it is told to.

Every piece that is shouted and every answer that ends is checked: what was lost, doubled or reordered is in `wrong`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from hubbub.buses.local import LocalBus
from hubbub.core.frames import RunDelta
from hubbub.core.nouns import Prompt, RunState, Task, Turn
from hubbub.core.ports import Engine, Event, Lease, Piece
from hubbub.hub.worker import Worker

PIECES = 5
"""Of an answer, and as many moments of a batch in which each answer gets one."""


def piece(run: str, number: int) -> str:
    """Different for each answer and place, and not of one byte a character."""
    return f"{run}/{number} é🙂 "


def written(run: str) -> str:
    return "".join(piece(run, number) for number in range(PIECES))


async def until(moment: float) -> None:
    """Sleep until time.monotonic() is there. A loop's timers may have whole milliseconds only; the rest is spun."""
    while (left := moment - time.monotonic()) > 0:  # noqa: ASYNC110 - it is the clock that is waited for
        await asyncio.sleep(left)


class TimedEngine:
    """Writes up to `len(cost)` answers in `cost[how many - 1]` seconds, piece by piece."""

    name = "timed"
    at_once = 1

    def __init__(self, cost: Sequence[float]) -> None:
        self.batch = len(cost)
        self.calls: list[tuple[float, float, int]] = []
        """When each call began and was ready to end, and how many answers it was asked for."""
        self.yielded: dict[str, float] = {}
        """When the first piece of a run was handed over."""
        self._cost = cost

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        began, took = time.monotonic(), self._cost[len(prompts) - 1]
        for number in range(PIECES):
            await until(began + took * number / PIECES)
            for index, prompt in enumerate(prompts):
                if number == 0:
                    self.yielded[prompt.run] = time.monotonic()
                yield index, piece(prompt.run, number)
        await until(began + took)
        self.calls.append((began, time.monotonic(), len(prompts)))
        for index in range(len(prompts)):
            yield index, ""

    def gaps(self) -> list[float]:
        """Seconds from when a call was ready to end to the beginning of the next."""
        return [after[0] - before[1] for before, after in zip(self.calls, self.calls[1:], strict=False)]


class WatchedBus(LocalBus):
    """Knows who has waited with whom."""

    def __init__(self, max_queue: int) -> None:
        super().__init__(max_queue)
        self.batches: list[int] = []

    async def take(self, engine: str, limit: int, wait_s: float) -> list[Lease]:
        leases = await super().take(engine, limit, wait_s)
        self.batches.append(len(leases))
        return leases


@dataclass(slots=True)
class Played:
    """What came of a trace. Latencies are from the planned arrival to the end of the answer, in seconds."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    """Seconds from the planned arrival to when the task really was put."""
    batches: list[int] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Stage:
    """A bus, a worker, and somebody who listens to every piece.

    Args:
        window_s: the fixed window of the worker; None: as it sees fit.
        expected: the text of a run's answer.
        asked: what is said to the engine for a run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        tasks: int = 256,
        window_s: float | None = None,
        expected: Callable[[str], str] = written,
        asked: str = "",
    ) -> None:
        self.ended_at: dict[str, float] = {}
        self.wrong: list[str] = []
        self.bus = WatchedBus(max_queue=tasks)
        self._expected = expected
        self._asked = (Turn(role="user", name="alice", text=asked),)
        self._heard: dict[str, int] = {}
        self._over: dict[str, asyncio.Future[None]] = {}
        self._worker = Worker(self.bus, engine, name="demo", window_s=window_s)
        self.bus.listen(self._hear, self._ended)

    async def __aenter__(self) -> Stage:
        self._work = asyncio.create_task(self._worker.work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work

    async def ask(self, run: str) -> None:
        """Put a task and wait for the end of its answer."""
        self._over[run] = asyncio.get_running_loop().create_future()
        prompt = Prompt(run=run, assistant="openai", turns=self._asked)
        await self.bus.put(Task(run=run, thread="t", assistant="openai", attempt=1, prompt=prompt, member="alice"))
        await self._over[run]

    def _hear(self, event: Event) -> None:
        frame = event.frame
        if isinstance(frame, RunDelta):
            at = self._heard.get(frame.run, 0)
            if frame.offset != at:
                self.wrong.append(f"{frame.run} went on at {frame.offset}, not at {at}")
            self._heard[frame.run] = at + len(frame.text)

    def _ended(self, run: str) -> None:
        now = time.monotonic()
        told = self.bus.so_far(run)
        if run in self.ended_at:
            self.wrong.append(f"{run} ended twice")
        elif told is None or told.state is not RunState.COMPLETED or told.text != self._expected(run):
            self.wrong.append(f"{run} ended with {told}")
        elif self._heard.get(run) != len(told.text):
            self.wrong.append(f"{run} has {len(told.text)} characters, of which {self._heard.get(run)} were shouted")
        self.ended_at[run] = now
        self.bus.forget(run)
        if not self._over[run].done():
            self._over[run].set_result(None)


async def replay(arrivals: Sequence[float], stage: Stage) -> Played:
    """Put a task at each of these moments, come what may, and wait for all answers."""
    played = Played()
    async with stage, asyncio.TaskGroup() as asking:
        began = time.monotonic()
        for number, arrival in enumerate(arrivals):
            await until(began + arrival)
            played.late.append(time.monotonic() - began - arrival)
            asking.create_task(stage.ask(f"r{number}"))
    if len(stage.ended_at) == len(arrivals):
        played.latencies = [stage.ended_at[f"r{n}"] - began - arrival for n, arrival in enumerate(arrivals)]
        played.seconds = max(stage.ended_at.values()) - began
    played.wrong, played.batches = stage.wrong, stage.bus.batches
    return played


async def closed_loop(people: int, seconds: float, stage: Stage) -> Played:
    """So many people, each of whom asks again as soon as the answer is there."""
    played = Played()

    async def insist(name: int) -> None:
        number = 0
        while time.monotonic() < began + seconds:
            asked = time.monotonic()
            await stage.ask(f"p{name}-{number}")
            played.latencies.append(time.monotonic() - asked)
            number += 1

    async with stage, asyncio.TaskGroup() as asking:
        began = time.monotonic()
        for name in range(people):
            asking.create_task(insist(name))
    played.seconds = max(stage.ended_at.values()) - began
    played.wrong, played.batches = stage.wrong, stage.bus.batches
    return played
