"""The answers as this node knows them, and what brings them level with Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import structlog

from hubbub.buses import redis_words as words
from hubbub.buses.answers import Answer
from hubbub.buses.redis_leases import PIECE_TEXT, Leases
from hubbub.buses.redis_pipe import Command, Pipe
from hubbub.core.errors import Problem
from hubbub.core.frames import RunDelta, RunStarted
from hubbub.core.nouns import Task
from hubbub.core.ports import Event

log = structlog.get_logger("hubbub.redis")

MOST_COMPARED = 256


class Mirror:
    """Hears words, and asks Redis where they leave a gap.

    Args:
        hear: is given every event that is to be shown, in an order that fits.
        over: is given a run that has ended, or is lost.
        compare_s: every so often, about, what is open here is compared with Redis.
    """

    def __init__(
        self, pipe: Pipe, leases: Leases, hear: Callable[[Event], None], over: Callable[[str], None], compare_s: float
    ) -> None:
        self._pipe = pipe
        self._leases = leases
        self._hear = hear
        self._over = over
        self._compare_s = compare_s
        self.answers: dict[str, Answer] = {}
        self.mine: dict[str, int] = {}  # run -> the attempt that was put here
        self._reading: dict[str, int] = {}  # run -> code points there were when it was last heard of
        self.compare_now = asyncio.Event()

    def begun(self, run: str, attempt: int) -> Answer:
        """That answer, in that attempt or a later one."""
        answer = self.answers.get(run)
        if answer is None or answer.attempt < attempt:
            answer = self.answers[run] = Answer(attempt)
        return answer

    def put(self, run: str, attempt: int) -> None:
        """It was put here, and is nobody's until somebody takes it."""
        self.mine[run] = attempt
        answer = self.answers.get(run)
        if answer is not None and answer.attempt < attempt:
            del self.answers[run]

    def drop(self, run: str) -> None:
        self.answers.pop(run, None)
        self.mine.pop(run, None)
        self._reading.pop(run, None)

    # Hearing

    def heard(self, event: Event) -> None:
        frame = event.frame
        if isinstance(frame, RunStarted):
            self.begun(frame.run, frame.attempt)
        elif isinstance(frame, RunDelta):
            answer = self.begun(frame.run, frame.attempt)
            if not answer.extend(frame):
                if answer.attempt == frame.attempt and answer.length < frame.offset:
                    self._read(frame.run, frame.offset + len(frame.text))
                return
        self._hear(event)

    def ended(self, ended: words.Ended) -> None:
        answer = self.begun(ended.run, ended.attempt)
        if answer.attempt != ended.attempt or answer.state.ended:
            return
        if answer.length < ended.length:
            self._read(ended.run, ended.length)
            return
        answer.end(ended.state, ended.error, truncated=ended.truncated, usage=ended.usage, model=ended.model)
        self._over(ended.run)

    def lost(self, run: str, attempt: int, *, forgotten: bool = False) -> None:
        """Whoever wrote that attempt has fallen silent, or Redis has forgotten it."""
        self._leases.drop(run, attempt)
        if run not in self.answers and self.mine.get(run) != attempt:
            return
        answer = self.begun(run, attempt)
        if answer.attempt == attempt and not answer.state.ended and not answer.lost:
            answer.lost, answer.forgotten = True, forgotten
            self._over(run)

    # Asking

    def _read(self, run: str, length: int) -> None:
        """Read an answer, as more of it has been heard of than came: `length` code points."""
        known = self._reading.get(run)
        self._reading[run] = max(length, known or 0)
        if known is None:
            self._pipe.push(Command("READ", lambda: (run,), lambda reply: self._was_read(run, reply), patient=False))

    def _was_read(self, run: str, reply: Any) -> None:
        length = self._reading.pop(run, 0)
        if isinstance(reply, BaseException) or run not in self.answers:
            return
        before = self.answers[run].length
        self.take(run, reply)
        answer = self.answers.get(run)
        if answer is not None and answer.attempt == reply[0] and before < answer.length < length:
            self._read(run, length)  # it went on meanwhile

    def take(self, run: str, reply: Any) -> None:
        """What READ has answered: tell what is new of it."""
        attempt, state, task, ended, text = reply
        if not attempt or state == b"queued" or run in self._leases:
            return
        try:
            self._catch_up(run, attempt, words.decode_task(task), text.decode())
            if state == b"cancelled":
                self.begun(run, attempt).cancel()
            elif ended:
                self.ended(words.decode_end(ended))
        except ValueError as wrong:
            log.warning("answer_not_understood", run=run, why=type(wrong).__name__)

    def _catch_up(self, run: str, attempt: int, task: Task, text: str) -> None:
        answer = self.begun(run, attempt)
        for offset in range(answer.length, len(text), PIECE_TEXT):
            delta = RunDelta(
                run=run,
                thread=task.thread,
                assistant=task.assistant,
                attempt=attempt,
                offset=offset,
                text=text[offset : offset + PIECE_TEXT],
            )
            if answer.extend(delta):
                self._hear(Event(task.thread, delta))

    async def compare(self) -> None:
        """Find what no word told, for ever: an end, a lost worker, a Redis that forgot everything."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._compare_s * random.uniform(0.5, 1.5)):
                    await self.compare_now.wait()
            self.compare_now.clear()
            known = {run: self._known(run) for run in [*self.mine, *self.answers]}
            runs = list(known)
            if not runs:  # is it there at all?
                self._pipe.push(Command("PING", tuple, patient=False))
            for first in range(0, len(runs), MOST_COMPARED):
                some = runs[first : first + MOST_COMPARED]
                try:
                    found = await self._pipe.call("STATUS", *some, patient=False)
                    for run, (attempt, state, size) in zip(some, found, strict=True):
                        if self._known(run) == known[run] and run not in self._leases:
                            self._compared(run, known[run], attempt, state, size)
                except (Problem, ValueError, TypeError) as failure:
                    log.debug("not_compared", why=type(failure).__name__)

    def _known(self, run: str) -> int:
        """The newest attempt at a run that is known here; 0 when it is not."""
        answer = self.answers.get(run)
        return max(answer.attempt if answer else 0, self.mine.get(run, 0))

    def _compared(self, run: str, known: int, attempt: int, state: bytes, size: int) -> None:
        """Redis says how it is with a run."""
        answer = self.answers.get(run)
        if attempt < known:  # it has lost what it knew
            if run in self.mine:
                self.lost(run, known, forgotten=True)
            elif not attempt:
                self.drop(run)
        elif state == b"lost":
            self.lost(run, attempt)
        elif answer is not None and answer.state.ended and answer.attempt == attempt:
            return
        elif state == b"cancelled":
            self.begun(run, attempt).cancel()
        elif state == b"queued":
            return
        elif state != b"running" or len(self.begun(run, attempt).text.encode()) < size:
            self._read(run, 0)
