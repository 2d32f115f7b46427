"""The worker alone: each answer of a batch ends, fails or is cancelled by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from hubbub.buses.local import LocalBus
from hubbub.core.frames import RunDelta
from hubbub.core.nouns import Prompt, RunState, Task
from hubbub.core.ports import EngineFailure, Piece, Progress, Usage
from hubbub.hub.worker import Worker


class Script:
    """An engine that does what it is told, and then waits for ever."""

    name = "script"
    batch = 4
    at_once = 2

    def __init__(self, *pieces: tuple[int, Piece], ends: bool = False) -> None:
        self._pieces = pieces
        self._ends = ends
        self.calls: list[int] = []
        self.closed = 0
        self.gone = asyncio.Event()

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        self.calls.append(len(prompts))
        try:
            for piece in self._pieces:
                await asyncio.sleep(0)
                yield piece
            if not self._ends:
                await asyncio.Event().wait()
        finally:
            self.closed += 1
            self.gone.set()


async def ended(engine: Script, runs: int) -> dict[str, Progress]:
    """What has become of so many runs, once all of them have ended."""
    bus, over, found = LocalBus(), asyncio.Event(), {}

    def hear(run: str) -> None:
        found[run] = bus.so_far(run)
        if len(found) == runs:
            over.set()

    bus.listen(lambda event: None, hear)
    for n in range(runs):
        run = f"r{n}"
        prompt = Prompt(run=run, assistant="openai", turns=())
        await bus.put(Task(run=run, thread="t", assistant="openai", attempt=1, prompt=prompt))
    working = asyncio.create_task(Worker(bus, engine).work())
    async with asyncio.timeout(5):
        await over.wait()
    working.cancel()
    await asyncio.wait([working])
    return {run: progress for run, progress in found.items() if progress is not None}


def states(found: dict[str, Progress]) -> list[tuple[RunState, str, str | None]]:
    return [(found[run].state, found[run].text, found[run].error) for run in sorted(found)]


async def test_an_answer_that_fails_leaves_the_others_of_its_batch_alone() -> None:
    failed = EngineFailure("It rained.")
    engine = Script((0, "one "), (1, "two "), (0, failed), (0, "late"), (1, "and more"), (1, ""))

    found = await ended(engine, 2)

    assert states(found) == [
        (RunState.FAILED, "one ", "It rained."),
        (RunState.COMPLETED, "two and more", None),
    ]
    assert (engine.calls, engine.closed) == ([2], 1)


async def test_what_an_answer_has_cost_is_no_part_of_it() -> None:
    found = await ended(Script((0, "one"), (0, Usage(3, 1)), (0, "")), 1)

    assert states(found) == [(RunState.COMPLETED, "one", None)]


async def test_the_end_of_the_engine_is_the_end_of_every_answer() -> None:
    found = await ended(Script((0, "one"), (1, "two"), ends=True), 2)

    assert states(found) == [(RunState.COMPLETED, "one", None), (RunState.COMPLETED, "two", None)]


async def test_a_silent_engine_is_stopped_once_nobody_wants_what_it_would_write() -> None:
    bus, engine = LocalBus(), Script((0, "one "))
    for n in range(2):
        prompt = Prompt(run=f"r{n}", assistant="openai", turns=())
        await bus.put(Task(run=f"r{n}", thread="t", assistant="openai", attempt=1, prompt=prompt))
    begun = asyncio.Event()
    bus.listen(lambda event: begun.set() if isinstance(event.frame, RunDelta) else None, lambda run: None)
    working = asyncio.create_task(Worker(bus, engine).work())
    async with asyncio.timeout(5):
        await begun.wait()
        bus.cancel("r0")
        await asyncio.sleep(0.25)  # the other one is still wanted
        assert engine.closed == 0
        bus.cancel("r1")
        await engine.gone.wait()
    working.cancel()
    await asyncio.wait([working])


async def test_an_engine_s_own_timeout_is_a_failure_and_not_taken_for_a_stop() -> None:
    class Hasty(Script):
        async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
            yield 0, "one "
            raise TimeoutError

    found = await ended(Hasty(), 1)

    assert states(found) == [(RunState.FAILED, "one ", "The model failed unexpectedly; it was logged.")]


@pytest.mark.parametrize(("took_s", "window_s"), [(0.1, 0.01), (0.24, 0.024), (10.0, 0.025)])
async def test_the_window_is_a_tenth_of_what_a_batch_takes_and_at_most_25_ms(took_s: float, window_s: float) -> None:
    worker = Worker(LocalBus(), Script())
    assert worker.window_s == 0.025
    worker._batch_s = took_s

    assert worker.window_s == pytest.approx(window_s)
    assert Worker(LocalBus(), Script(), window_s=2.0).window_s == 2.0
