"""The worker: takes a batch of runs from the queue, lets an engine write the answers, shouts every piece.

It never opens the store: the prompt travels with the task, and the end of an answer is told to the bus. Each answer of
a batch ends, fails or is cancelled alone.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from hubbub.core.frames import MAX_ANSWER_BYTES, RunDelta, RunStarted
from hubbub.core.nouns import RunState
from hubbub.core.ports import Bus, Engine, EngineFailure, Event, Lease, Usage

log = structlog.get_logger("hubbub.worker")

WINDOW_S = 0.025
"""How long the oldest task waits for batch-mates at most, when nobody says so."""

WINDOW_SHARE = 0.05
"""So much of what a batch takes to be written, at most. For tasks that come independently any waiting is a loss; those
that come together, as when one message asks several assistants, come within milliseconds."""


class Worker:
    """Run `work` as a task; cancel it to stop.

    Args:
        name: the engine's, in the tasks it is to write.
        batch: tasks written together, at most as many as the engine takes.
        window_s: how long the oldest task waits for others; None: a twentieth of a batch's time, at most 25 ms.
    """

    def __init__(
        self, bus: Bus, engine: Engine, *, name: str = "demo", batch: int = 4, window_s: float | None = None
    ) -> None:
        self._bus = bus
        self._engine = engine
        self._name = name
        self._batch = min(batch, engine.batch)
        self._window_s = window_s
        self._batch_s: float | None = None  # that batches took lately
        self._free = asyncio.Semaphore(engine.at_once)

    @property
    def window_s(self) -> float:
        """How long the oldest task waits for others now."""
        if self._window_s is not None:
            return self._window_s
        return WINDOW_S if self._batch_s is None else min(WINDOW_S, WINDOW_SHARE * self._batch_s)

    async def work(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as batches:
            while True:
                await self._free.acquire()
                leases = await self._bus.take(self._name, self._batch, self.window_s)
                batches.create_task(self._answer(leases)).add_done_callback(lambda _: self._free.release())

    async def _answer(self, leases: list[Lease]) -> None:
        answers = [_Answer(lease) for lease in leases]
        state, error = RunState.COMPLETED, None
        pieces = None
        now = asyncio.get_running_loop().time
        began = now()
        try:
            for answer in answers:
                self._shout(answer.lease, RunStarted, {})
            pieces = self._engine.answer([lease.task.prompt for lease in leases])
            async for index, piece in pieces:
                if isinstance(piece, EngineFailure):
                    await self._end(answers[index], RunState.FAILED, str(piece))
                elif isinstance(piece, Usage):
                    answers[index].usage = piece
                else:
                    await self._write(answers[index], piece)
                if all(answer.over for answer in answers):
                    break
        except EngineFailure as failure:
            state, error = RunState.FAILED, str(failure)
        except Exception:
            log.exception("engine_failed", engine=self._engine.name)
            state, error = RunState.FAILED, "The model failed unexpectedly; it was logged."
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                with contextlib.suppress(Exception):  # whatever an engine does at its end, the batch is over
                    await close()
        took_s = now() - began
        self._batch_s = took_s if self._batch_s is None else self._batch_s + (took_s - self._batch_s) / 4
        for answer in answers:
            await self._end(answer, state, error)

    async def _end(
        self, answer: _Answer, state: RunState, error: str | None = None, *, truncated: bool = False
    ) -> None:
        if not answer.over:
            answer.over = True
            model = answer.lease.task.prompt.model or self._engine.name
            await self._bus.done(answer.lease, state, error, truncated=truncated, usage=answer.usage, model=model)

    async def _write(self, answer: _Answer, piece: str) -> None:
        if answer.over:
            return
        if not self._bus.wanted(answer.lease):  # cancelled, or taken over
            answer.over = True
            return
        room = MAX_ANSWER_BYTES - answer.bytes
        encoded = piece.encode()
        truncated = len(encoded) > room
        if truncated:
            piece = encoded[:room].decode(errors="ignore")
        if piece:
            self._shout(answer.lease, RunDelta, {"offset": answer.length, "text": piece})
            answer.length += len(piece)
            answer.bytes += len(encoded)
        if truncated or not encoded:
            await self._end(answer, RunState.COMPLETED, truncated=truncated)

    def _shout(self, lease: Lease, kind: type[RunStarted] | type[RunDelta], more: dict[str, object]) -> None:
        task = lease.task
        frame = kind(run=task.run, thread=task.thread, assistant=task.assistant, attempt=task.attempt, **more)  # type: ignore[arg-type]
        self._bus.publish(Event(task.thread, frame))


class _Answer:
    """One answer of the batch while it is being written."""

    __slots__ = ("bytes", "lease", "length", "over", "usage")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.length = 0  # code points
        self.bytes = 0
        self.over = False
        self.usage: Usage | None = None
