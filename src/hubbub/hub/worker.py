"""The worker: takes a batch of runs from the queue, lets an engine write the answers, shouts every piece.

It never opens the store: the prompt travels with the task, and the end of an answer is told to the bus. Each answer of
a batch ends, fails or is cancelled alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog

from hubbub.core.frames import MAX_ANSWER_BYTES, RunDelta, RunStarted
from hubbub.core.nouns import RunState
from hubbub.core.ports import Bus, Engine, EngineFailure, Event, Lease, Usage
from hubbub.hub.meter import Meter, note

log = structlog.get_logger("hubbub.worker")

WINDOW_S = 0.025
"""How long the oldest task waits for batch-mates at most, when nobody says so."""

WINDOW_SHARE = 0.1
"""So much of what a batch takes to be written, at most. For tasks that come independently any waiting is a loss; those
that come together, as when one message asks several assistants, come within milliseconds. With half of it bursts take
1.14 times as long as they could at a program that writes four answers in 0.24 s, with this 1.00 times (simulated)."""

AGAIN_S = 0.1
LOOK_EVERY_S = 0.1
"""How soon it is noticed that nobody wants what an engine is silent about."""


class Worker:
    """Run `work` as a task; cancel it to stop.

    Args:
        name: the engine's, in the tasks it is to write.
        batch: tasks written together, at most as many as the engine takes.
        window_s: how long the oldest task waits for others; None: a tenth of a batch's time, at most 25 ms.
        meter: where it is counted.
    """

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        *,
        name: str = "demo",
        batch: int = 4,
        window_s: float | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._bus = bus
        self._engine = engine
        self._name = name
        self._meter = meter or Meter()
        self._batch = min(batch, engine.batch)
        self._window_s = window_s
        self._batch_s: float | None = None  # that batches took lately
        self._free = asyncio.Semaphore(engine.at_once)
        self._taking: asyncio.Task[None] | None = None
        self.writing = 0  # answers, now

    @property
    def window_s(self) -> float:
        """How long the oldest task waits for others now."""
        if self._window_s is not None:
            return self._window_s
        return WINDOW_S if self._batch_s is None else min(WINDOW_S, WINDOW_SHARE * self._batch_s)

    async def keep(self) -> None:
        """Work, and begin anew after a bug."""
        while True:
            try:
                return await self.work()
            except Exception:
                log.exception("worker_died")
                await asyncio.sleep(AGAIN_S)

    async def work(self) -> None:
        """Answer until cancelled, or until what was begun when `finish` was called has ended."""
        async with asyncio.TaskGroup() as batches:
            self._taking = batches.create_task(self._take(batches))

    def finish(self) -> None:
        """Take no more."""
        if self._taking is not None:
            self._taking.cancel()

    async def _take(self, batches: asyncio.TaskGroup) -> None:
        while True:
            await self._free.acquire()
            leases = await self._bus.take(self._name, self._batch, self.window_s)
            batches.create_task(self._answer(leases)).add_done_callback(lambda _: self._free.release())

    async def _answer(self, leases: list[Lease]) -> None:
        self.writing += len(leases)
        try:
            await self._write_all(leases)
        finally:
            self.writing -= len(leases)

    async def _write_all(self, leases: list[Lease]) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        answers = [_Answer(lease, began) for lease in leases]
        self._note_batch(leases)
        state, error = RunState.COMPLETED, None
        pieces = None
        try:
            for answer in answers:
                self._shout(answer.lease, RunStarted, {})
            pieces = self._engine.answer([lease.task.prompt for lease in leases])
            async with self._while_wanted(answers):
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
        note(self._meter.counts.batch_s, self._name, took_s)
        log.debug("batch_ended", engine=self._name, batch=len(leases), seconds=round(took_s, 3))
        self._batch_s = took_s if self._batch_s is None else self._batch_s + (took_s - self._batch_s) / 4
        for answer in answers:
            await self._end(answer, state, error)

    def _is_wanted(self, answer: _Answer) -> bool:
        """False once it is over, also because it was cancelled or taken over."""
        if not answer.over and not self._bus.wanted(answer.lease):
            answer.over = True
            self._note_answer(answer, RunState.CANCELLED)
        return not answer.over

    @contextlib.asynccontextmanager
    async def _while_wanted(self, answers: list[_Answer]) -> AsyncIterator[None]:
        """Leave what is inside when nobody wants any of these answers: an engine that is silent brings no piece by
        which that would be noticed."""
        loop = asyncio.get_running_loop()
        looking: asyncio.TimerHandle | None = None
        try:
            async with asyncio.timeout(None) as patience:

                def look() -> None:
                    nonlocal looking
                    wanted = [self._is_wanted(answer) for answer in answers]  # of each, as it is noted
                    if any(wanted):
                        looking = loop.call_later(LOOK_EVERY_S, look)
                    else:
                        patience.reschedule(loop.time())

                looking = loop.call_later(LOOK_EVERY_S, look)
                yield
        except TimeoutError:
            if not patience.expired():
                raise
        finally:
            if looking is not None:
                looking.cancel()

    async def _end(
        self, answer: _Answer, state: RunState, error: str | None = None, *, truncated: bool = False
    ) -> None:
        if not answer.over:
            answer.over = True
            self._note_answer(answer, state)
            model = answer.lease.task.prompt.model or self._engine.name
            await self._bus.done(answer.lease, state, error, truncated=truncated, usage=answer.usage, model=model)

    async def _write(self, answer: _Answer, piece: str) -> None:
        if answer.over:
            return
        if not self._is_wanted(answer):
            return
        room = MAX_ANSWER_BYTES - answer.bytes
        encoded = piece.encode()
        truncated = len(encoded) > room
        if truncated:
            piece = encoded[:room].decode(errors="ignore")
        if piece:
            self._note_piece(answer)
            self._shout(answer.lease, RunDelta, {"offset": answer.length, "text": piece})
            answer.length += len(piece)
            answer.bytes += len(encoded)
        if truncated or not encoded:
            await self._end(answer, RunState.COMPLETED, truncated=truncated)

    # Counting; the log has a line a run at `info`, and what lies between its ends at `debug`

    def _note_batch(self, leases: list[Lease]) -> None:
        reason = self._meter.batch(self._name, leases, self._batch)
        for lease in leases:
            more = {"waited_s": round(lease.waited_s, 3), "batch": len(leases), "reason": reason}
            log.debug("run_taken", **_common(lease), engine=self._name, **more)

    def _note_piece(self, answer: _Answer) -> None:
        now = asyncio.get_running_loop().time()
        counts = self._meter.counts
        if answer.pieces:
            note(counts.piece_gap_s, self._name, now - answer.last)
        else:
            answer.first = now
            note(counts.first_piece_s, self._name, now - answer.began)
            log.debug(
                "run_first_piece", **_common(answer.lease), engine=self._name, after_s=round(now - answer.began, 3)
            )
        answer.pieces += 1
        answer.last = now

    def _note_answer(self, answer: _Answer, state: RunState) -> None:
        """What the engine has written of it; how the run ends is for the node to say."""
        self._meter.used(self._name, answer.usage)
        now = asyncio.get_running_loop().time()
        log.info(
            "run_written",
            **_common(answer.lease),
            engine=self._name,
            state=str(state),
            waited_s=round(answer.lease.waited_s, 3),
            **({"first_piece_s": round(answer.first - answer.began, 3)} if answer.pieces else {}),
            pieces=answer.pieces,
            characters=answer.length,
            seconds=round(now - answer.began, 3),
        )

    def _shout(self, lease: Lease, kind: type[RunStarted] | type[RunDelta], more: dict[str, object]) -> None:
        task = lease.task
        frame = kind(run=task.run, thread=task.thread, assistant=task.assistant, attempt=task.attempt, **more)  # type: ignore[arg-type]
        self._bus.publish(Event(task.thread, frame))


class _Answer:
    """One answer of the batch while it is being written."""

    __slots__ = ("began", "bytes", "first", "last", "lease", "length", "over", "pieces", "usage")

    def __init__(self, lease: Lease, began: float) -> None:
        self.lease = lease
        self.began = self.first = self.last = began  # of the batch, and when pieces came
        self.pieces = 0
        self.length = 0  # code points
        self.bytes = 0
        self.over = False
        self.usage: Usage | None = None


def _common(lease: Lease) -> dict[str, Any]:
    task = lease.task
    return {"run": task.run, "thread": task.thread, "assistant": task.assistant, "attempt": task.attempt}
