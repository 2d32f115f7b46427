"""The bus of several processes: the queue and the answers are in Redis, where workers anywhere take and write them.

Every node mirrors the answers it shows or writes, so that nobody here waits for Redis: what is said changes the mirror
at once and goes out by one ordered pipe. Words that come over Redis's channels are hints. A piece that leaves a gap, or
an end that does not fit, is read from Redis; every other second all open answers are compared with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from hubbub.buses import redis_words as words
from hubbub.buses.answers import Answer
from hubbub.buses.local import LATEST_S, MAX_QUEUE, SOONEST_S
from hubbub.buses.redis_ear import Ear
from hubbub.buses.redis_leases import Leases
from hubbub.buses.redis_mirror import Mirror
from hubbub.buses.redis_pipe import PATIENCE_S, Address, Command, Pipe, Value
from hubbub.buses.redis_scripts import DAY_MS, KEEP_MS
from hubbub.core.errors import Problem, QueueFull, Unavailable
from hubbub.core.frames import RunDelta
from hubbub.core.news import AnyNews
from hubbub.core.nouns import RunState, Task
from hubbub.core.ports import Event, Lease, Progress, Resumed, Usage

log = structlog.get_logger("hubbub.redis")

LEASE_S = 10.0
COMPARE_S = 2.0
RECHECK_S = 1.0
"""Whoever waits for tasks looks again so often, whatever rings."""


class RedisBus:
    """See `core.ports.Bus`.

    Args:
        url: where Redis is; may hold a password, which is shown to nobody. Raises BadRequest: it cannot be one.
        name: what the names of all keys begin with, in braces.
        lease_s: after so long without a sign of life a worker has lost what it was writing.
        compare_s: every so often, about, open runs are compared with Redis; half a lease, at most 2 s, when unset.
        hears: False for a node that only writes.
    """

    alone = False

    def __init__(
        self,
        url: str,
        name: str = "hubbub",
        *,
        lease_s: float = LEASE_S,
        max_queue: int = MAX_QUEUE,
        compare_s: float | None = None,
        hears: bool = True,
    ) -> None:
        self.address = Address(url)
        base = f"{{{name}}}"
        self._node = secrets.token_hex(8)
        self._pipe = Pipe(self.address, base, self._hushed)
        channels = [f"{base}:work", *([f"{base}:events"] if hears else [])]
        self._ear = Ear(self.address, channels, self._heard, self._may_have_missed)
        self._leases = Leases(self._pipe, self._node, lease_s, self._show)
        often_s = min(COMPARE_S, lease_s / 2) if compare_s is None else compare_s
        self._mirror = Mirror(self._pipe, self._leases, self._hear, self._over, often_s)
        self._lease_ms = round(lease_s * 1000)
        self._max_queue = max_queue
        self._hearers: list[Callable[[Event], None]] = []
        self._enders: list[Callable[[str], None]] = []
        self._heeders: list[Callable[[AnyNews], None]] = []
        self._puzzled = False
        self._missers: list[Callable[[], None]] = []
        self._takers: dict[str, set[asyncio.Event]] = {}  # by engine
        self._unwanted: set[asyncio.Future[Any]] = set()  # answers to a TAKE nobody waits for any more
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def open(self) -> None:
        for work in (self._pipe.run(), self._ear.run(), self._leases.renew(), self._mirror.compare()):
            self._tasks.append(asyncio.create_task(_logged(work)))
        self._pipe.push(Command("PING", tuple, patient=False))
        await self._ear.tried(PATIENCE_S)

    async def close(self) -> None:
        if not self._tasks:
            return
        if self._unwanted:
            await asyncio.wait(self._unwanted, timeout=PATIENCE_S)
        self._leases.hand_back_all()
        await self._pipe.said(PATIENCE_S)
        left, self._tasks = set(self._tasks), []
        while left:  # before Python 3.12, asyncio.wait_for, which redis-py uses, may swallow a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.1)
        for connection in (self._pipe, self._ear):
            with contextlib.suppress(Exception):  # it may be gone already
                await connection.close()

    def checks(self) -> dict[str, str]:
        trouble = self._pipe.trouble or self._ear.trouble
        return {"redis": "ok" if trouble is None else f"Redis at {self.address} cannot be used: {trouble}."}

    # Events

    def listen(
        self,
        hear: Callable[[Event], None],
        ended: Callable[[str], None],
        heed: Callable[[AnyNews], None] | None = None,
        missed: Callable[[], None] | None = None,
    ) -> None:
        self._hearers.append(hear)
        self._enders.append(ended)
        self._heeders += [heed] if heed else []
        self._missers += [missed] if missed else []

    def tell(self, news: AnyNews) -> None:
        self._pipe.say("events", words.encode(words.Told(node=self._node, news=news)))

    def publish(self, event: Event) -> None:
        frame = event.frame
        if isinstance(frame, RunDelta):
            if self._leases.write(frame):
                return  # it is shown once Redis has it
            self._mirror.begun(frame.run, frame.attempt).extend(frame)
        said = words.Said(node=self._node, thread=event.thread, frame=frame)
        self._pipe.say("events", words.encode(said))
        self._hear(event)

    def _show(self, piece: RunDelta) -> None:
        """Redis has taken a piece that is written here."""
        if self._mirror.begun(piece.run, piece.attempt).extend(piece):
            self._hear(Event(piece.thread, piece))

    def _hear(self, event: Event) -> None:
        for hear in self._hearers:
            hear(event)

    def _over(self, run: str) -> None:
        for ended in self._enders:
            ended(run)

    def _hushed(self) -> None:
        """Whoever heard everything else will not notice what they were not told."""
        self._pipe.say("events", words.encode(words.Hushed(node=self._node)))

    def _may_have_missed(self) -> None:
        self._mirror.compare_now.set()
        for missed in self._missers:
            missed()
        for engine in self._takers:
            self._ring(engine)

    def _heard(self, payload: bytes) -> None:
        try:
            word = words.decode(payload)
        except ValueError as wrong:
            # A later version may say many of them; one line tells that it is there.
            tell, self._puzzled = log.debug if self._puzzled else log.warning, True
            tell("word_not_understood", why=str(wrong), bytes=len(payload))
            return
        if isinstance(word, words.Bell):
            self._ring(word.engine)
        elif word.node == self._node:
            return
        elif isinstance(word, words.Told):
            for heed in self._heeders:
                heed(word.news)
        elif isinstance(word, words.Said):
            self._mirror.heard(Event(word.thread, word.frame))
        elif isinstance(word, words.Ended):
            self._mirror.ended(word)
        elif isinstance(word, words.Lost):
            self._mirror.lost(word.run, word.attempt)
        elif isinstance(word, words.Hushed):
            self._may_have_missed()
        else:
            self._stop(word.run, forget=word.forget)

    # The queue

    async def put(self, task: Task) -> int:
        args = (task.run, task.attempt, task.engine, task.member, words.encode(task), self._max_queue, DAY_MS)
        said, place, *more = await self._ask("PUT", *args)
        if said == b"full":
            raise QueueFull(
                f"{place} answers are waiting already; try again later.",
                retry_after=float(round(min(LATEST_S, max(SOONEST_S, more[0] / 1000)))),
            )
        self._mirror.put(task.run, task.attempt)
        self._ring(task.engine)
        return int(place)

    async def place(self, run: str) -> int | None:
        return int(await self._ask("PLACE", run)) or None

    async def _ask(self, script: str, *args: Value) -> Any:
        """Raises Unavailable, soon."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._pipe.call(script, *args, patient=False)
        except TimeoutError:
            raise Unavailable(f"Redis at {self.address} cannot be used: it does not answer in time.") from None

    def _ring(self, engine: str) -> None:
        for taker in self._takers.get(engine, ()):
            taker.set()

    async def take(self, engine: str, limit: int, wait_s: float) -> list[Lease]:
        bell = asyncio.Event()
        takers = self._takers.setdefault(engine, set())
        takers.add(bell)
        try:
            while True:
                bell.clear()
                # Sent twice, it takes once: the token says that it is the same.
                args = (secrets.token_hex(8), engine, limit, round(wait_s * 1000), self._lease_ms, self._node, DAY_MS)
                reply = self._pipe.call("TAKE", *args)
                left_s = RECHECK_S
                try:
                    said, found = await asyncio.shield(reply)
                    if said == b"taken":
                        if leases := [self._hold(lease) for lease in _leases(found)]:
                            return leases
                    elif found > 0:
                        left_s = min(left_s, found / 1000)
                except asyncio.CancelledError:
                    self._unwanted.add(reply)
                    reply.add_done_callback(self._take_nothing_along)
                    raise
                except (Problem, ValueError, TypeError) as failure:
                    log.warning("nothing_taken", why=type(failure).__name__)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await bell.wait()
        finally:
            takers.discard(bell)

    def _hold(self, lease: Lease) -> Lease:
        self._mirror.answers[lease.task.run] = Answer(lease.task.attempt)
        self._leases.hold(lease)
        return lease

    def _take_nothing_along(self, reply: asyncio.Future[Any]) -> None:
        self._unwanted.discard(reply)
        if not reply.cancelled() and reply.exception() is None and reply.result()[0] == b"taken":
            for lease in _leases(reply.result()[1]):
                self._leases.hand_back(lease)

    # Answers

    def wanted(self, lease: Lease) -> bool:
        return self._leases.wanted(lease)

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
        if not self.wanted(lease):
            return
        run = lease.task.run
        ended = words.Ended(
            node=self._node,
            run=run,
            attempt=lease.task.attempt,
            length=self._leases.written(lease),
            state=state,
            error=error,
            truncated=truncated,
            usage=usage,
            model=model,
        )
        if await self._leases.end(lease, ended):
            self._mirror.ended(ended)

    async def resume(self, run: str, attempt: int) -> Resumed:
        reply = await self._ask("READ", run)
        if reply[0] != attempt:
            return Resumed.FORGOTTEN
        if reply[1] == b"lost":
            return Resumed.LOST
        self._mirror.mine[run] = attempt
        self._mirror.take(run, reply)
        return Resumed.GOES_ON

    def cancel(self, run: str) -> None:
        self._stop(run, forget=False)
        args = (run, self._node, KEEP_MS)
        self._pipe.push(Command("CANCEL", lambda: args))

    def forget(self, run: str) -> None:
        self._stop(run, forget=True)
        args = (run, self._node)
        self._pipe.push(Command("FORGET", lambda: args))

    def _stop(self, run: str, *, forget: bool) -> None:
        self._leases.drop(run)
        self._mirror.mine.pop(run, None)
        if forget:
            self._mirror.drop(run)
        elif answer := self._mirror.answers.get(run):
            answer.cancel()

    async def settled(self, run: str) -> Progress | None:
        with contextlib.suppress(Problem, ValueError, TypeError):
            attempt, _, _, _, text = await self._ask("READ", run)  # said after the cancelling, so answered after it
            answer = self._mirror.answers.get(run)
            if answer is not None and answer.attempt == attempt and answer.state is RunState.CANCELLED:
                answer.complete(text.decode())
        return self.so_far(run)

    def so_far(self, run: str) -> Progress | None:
        answer = self._mirror.answers.get(run)
        return None if answer is None else answer.progress


def _leases(found: Sequence[Any]) -> list[Lease]:
    """What a TAKE took. What cannot be understood ends with its lease."""
    leases = []
    for run, payload, fence, waited_ms in found:
        try:
            leases.append(Lease(words.decode_task(payload), int(fence), int(waited_ms) / 1000))
        except ValueError as wrong:
            log.warning("task_not_understood", run=run.decode(errors="replace")[:64], why=str(wrong))
    return leases


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("redis_task_failed")
