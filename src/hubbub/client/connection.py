"""One connection: from hello until it is lost. The client makes as many of these as it needs.

Three tasks live as long as it does: one reads, one writes what the ledger has ready, one asks every 20 s
whether the server still answers. The first that ends, ends all.

Replies come in the order of the requests, so a `pong` is also proof that everything asked before it was
answered. What was not is lost, and the connection with it: the next one asks again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from hubbub.client.address import Address
from hubbub.client.decode import Unreadable, decode, problem_named, problem_of
from hubbub.client.ledger import Ledger
from hubbub.client.pipes import Lost, Pipe, open_pipe
from hubbub.client.trust import Trust
from hubbub.core import frames
from hubbub.core.wire import encode


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The defaults are for people and networks; tests scale them."""

    base_s: float = 0.5  # first wait between two connections, at most
    cap_s: float = 15.0  # longest such wait
    connect_s: float = 10.0  # from the first packet to the welcome
    ping_every_s: float = 20.0
    pong_within_s: float = 10.0
    mark_every_s: float = 0.25  # `seen` cursors are moved no more often
    goodbye_s: float = 2.0  # what closing may take


class Connection:
    """A connection that was welcomed. Make it with `open`; `run` carries it to its end."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._read_ahead: deque[frames.Frame] = deque()
        self._pings = count(1)
        self._pong: asyncio.Event = asyncio.Event()
        self._expected = ""
        self._frames_read = 0
        self.paused = False  # not reading, because nobody takes the events

    @classmethod
    async def open(
        cls, address: Address, trust: Trust, hello: frames.Hello, timing: Timing
    ) -> tuple[Connection, frames.Welcome]:
        """Connect and say hello. Raises Lost; its `problem` is the server's refusal, if it gave one."""
        pipe: Pipe | None = None
        try:
            async with asyncio.timeout(timing.connect_s):
                pipe = await open_pipe(address, trust)
                connection = cls(pipe)
                return connection, await connection._greet(hello)
        except TimeoutError:
            if pipe is not None:
                await pipe.close()
            raise Lost(f"{address} did not answer within {timing.connect_s:g} s") from None
        except BaseException:
            if pipe is not None:
                await pipe.close()
            raise

    async def _greet(self, hello: frames.Hello) -> frames.Welcome:
        await self._pipe.send([encode(hello)])
        early: list[frames.Frame] = []
        while True:
            frame = await self._next()
            if isinstance(frame, frames.Welcome):
                self._read_ahead.extendleft(reversed(early))
                return frame
            if isinstance(frame, frames.Error):
                problem = problem_of(frame)
                raise Lost(problem.detail, retry_after=problem.retry_after, problem=problem)
            early.append(frame)

    async def run(
        self,
        ledger: Ledger,
        clock: Callable[[], float],
        work: asyncio.Event,
        take: Callable[[frames.Frame], None],
        room: Callable[[Connection], Awaitable[None]],
        timing: Timing,
        stay_s: float | None = None,
    ) -> Lost:
        """Carry requests and frames until the connection is lost, or `stay_s` seconds have passed, and return why.

        `work` is set by whoever puts something into the ledger; `take` gets every frame but pongs and byes,
        in order; `room` returns when another may be read.
        """
        # No TaskGroup: before Python 3.13 one that fails leaves its task marked as being cancelled, and in a task
        # that lives on (the next connection is made in the same one) no later asyncio.timeout works.
        tasks = [
            asyncio.create_task(self._read(take, room)),
            asyncio.create_task(self._write(ledger, clock, work)),
            asyncio.create_task(self._keep_alive(ledger, timing)),
        ]
        if stay_s is not None:
            tasks.append(asyncio.create_task(self._stay(ledger, stay_s)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._pipe.close()
        why = [task.exception() for task in done]
        for wrong in why:
            if wrong is not None and not isinstance(wrong, Lost):
                raise wrong
        return next(lost for lost in why if isinstance(lost, Lost))

    async def say_bye(self) -> None:
        await self._pipe.send([encode(frames.ByeSend())])

    async def _read(self, take: Callable[[frames.Frame], None], room: Callable[[Connection], Awaitable[None]]) -> None:
        while True:
            frame = await self._next()
            if isinstance(frame, frames.Pong):
                if frame.id == self._expected:
                    self._pong.set()
                continue
            take(frame)
            await room(self)

    async def _next(self) -> frames.Frame:
        while not self._read_ahead:
            try:
                for payload in await self._pipe.receive():
                    frame = decode(payload)
                    if frame is not None:
                        self._read_ahead.append(frame)
            except Unreadable as wrong:
                raise Lost(str(wrong)) from None
        self._frames_read += 1
        frame = self._read_ahead.popleft()
        if isinstance(frame, frames.Bye):
            raise Lost(
                frame.reason or frame.code,
                retry_after=frame.retry_after,
                resume=frame.resume,
                problem=problem_named(frame.code, frame.reason or frame.code),
            )
        return frame

    async def _write(self, ledger: Ledger, clock: Callable[[], float], work: asyncio.Event) -> None:
        while True:
            work.clear()
            now = clock()
            if ready := ledger.ready(now):
                await self._pipe.send([encode(frame) for frame in ready])
                continue
            due = ledger.due()
            try:
                await asyncio.wait_for(work.wait(), None if due is None else max(due - now, 0.001))
            except TimeoutError:
                continue

    async def _keep_alive(self, ledger: Ledger, timing: Timing) -> None:
        while True:
            await asyncio.sleep(timing.ping_every_s)
            if self.paused:
                continue
            self._expected = f"ping-{next(self._pings)}"
            self._pong.clear()
            before = {id: entry.times for id, entry in ledger.asked.items()}
            try:
                async with asyncio.timeout(timing.pong_within_s):
                    await self._pipe.send([encode(frames.Ping(id=self._expected))])
            except TimeoutError:
                raise Lost("the server does not read") from None
            await self._ponged(timing.pong_within_s)
            for id, times in before.items():
                entry = ledger.asked.get(id)
                if entry is not None and entry.times == times:
                    raise Lost("an answer went missing")

    async def _stay(self, ledger: Ledger, stay_s: float) -> None:
        await asyncio.sleep(stay_s)
        if ledger.asked:  # not all of it can be asked twice
            await asyncio.sleep(1.0)
        raise Lost("the token is renewed")

    async def _ponged(self, within_s: float) -> None:
        """Wait for the pong. While this side does not read, or frames do come, it is not silence."""
        read = -1
        while not self._pong.is_set():
            if not self.paused and read == self._frames_read:
                raise Lost(f"the server has not answered for {within_s:g} s")
            read = self._frames_read
            try:
                await asyncio.wait_for(self._pong.wait(), within_s)
            except TimeoutError:
                continue
