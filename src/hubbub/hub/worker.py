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
from hubbub.core.ports import Bus, Engine, EngineFailure, Event, Lease

log = structlog.get_logger("hubbub.worker")

WINDOW_S = 0.025
"""How long the oldest task may wait for batch-mates."""


class Worker:
    """Run `work` as a task; cancel it to stop."""

    def __init__(self, bus: Bus, engine: Engine, *, batch: int = 4, window_s: float = WINDOW_S) -> None:
        self._bus = bus
        self._engine = engine
        self._batch = min(batch, engine.batch)
        self._window_s = window_s
        self._free = asyncio.Semaphore(engine.at_once)

    async def work(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as batches:
            while True:
                await self._free.acquire()
                leases = await self._bus.take(self._batch, self._window_s)
                batches.create_task(self._answer(leases)).add_done_callback(lambda _: self._free.release())

    async def _answer(self, leases: list[Lease]) -> None:
        answers = [_Answer(lease) for lease in leases]
        state, error = RunState.COMPLETED, None
        pieces = None
        try:
            for answer in answers:
                self._shout(answer.lease, RunStarted, {})
            pieces = self._engine.answer([lease.task.prompt for lease in leases])
            async for index, piece in pieces:
                if isinstance(piece, EngineFailure):
                    await self._fail(answers[index], str(piece))
                elif isinstance(piece, str):
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
        for answer in answers:
            if not answer.over:
                await self._bus.done(answer.lease, state, error)

    async def _fail(self, answer: _Answer, error: str) -> None:
        if not answer.over:
            answer.over = True
            await self._bus.done(answer.lease, RunState.FAILED, error)

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
            answer.over = True
            await self._bus.done(answer.lease, RunState.COMPLETED, truncated=truncated)

    def _shout(self, lease: Lease, kind: type[RunStarted] | type[RunDelta], more: dict[str, object]) -> None:
        task = lease.task
        frame = kind(run=task.run, thread=task.thread, assistant=task.assistant, attempt=task.attempt, **more)  # type: ignore[arg-type]
        self._bus.publish(Event(task.thread, frame))


class _Answer:
    """One answer of the batch while it is being written."""

    __slots__ = ("bytes", "lease", "length", "over")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.length = 0  # code points
        self.bytes = 0
        self.over = False
