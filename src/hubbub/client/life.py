"""One client's life: as many connections as it takes, and what has to outlast each of them.

| state        | means                                  | next                                          |
| ------------ | -------------------------------------- | --------------------------------------------- |
| connecting   | the first hello                        | connected, or over: someone waits for it      |
| connected    | welcomed; carrying                     | reconnecting, over                            |
| reconnecting | a jittered wait, then a hello          | connected, reconnecting, over                 |
| over         | closed, or given up with a problem     |                                               |

Positions heard, requests unanswered, events not yet taken and cursors not yet told belong to the life, not
to the connection.

Whoever came in by name or password comes back with the token of the last welcome, and in time for a newer one. When
it is refused, a guest's name may still be free; anybody else is asked for a password, if somebody can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from msgspec import UNSET

from hubbub.client.address import Address
from hubbub.client.asking import Asking
from hubbub.client.backoff import Backoff
from hubbub.client.connection import Connection, Timing
from hubbub.client.hearing import Hearing
from hubbub.client.inbox import Inbox
from hubbub.client.marks import Marks
from hubbub.client.pipes import Lost
from hubbub.client.tokens import lifetime_s
from hubbub.client.trust import Trust
from hubbub.core import frames
from hubbub.core.errors import BadRequest, Problem, Unauthorized, Unavailable

FINAL = frozenset({"unauthorized", "name_taken", "bad_request"})
"""Refusals of a hello after which another hello would be refused just the same."""

_PROMPTED_TRIES = 3
_NOT_TAKEN = "Nobody takes the events, and the answer lies behind them: read them in a task of their own."

_log = logging.getLogger("hubbub.client")


Ask = Callable[[str, Problem], Awaitable[str | None]]
"""Asks somebody for the password of this name, which the server wants because of that; None: they give none."""


class State(StrEnum):
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands with the connection. `in_s`: the next attempt; `reason`: for a person."""

    state: State
    in_s: float = 0.0
    reason: str = ""


class Life:
    def __init__(
        self,
        address: Address,
        who: frames.Hello,
        rand: random.Random,
        clock: Callable[[], float],
        on_state: Callable[[Status], None] | None,
        in_flight: int,
        queue: int,
        timing: Timing,
        trust: Trust,
        ask: Ask | None,
    ) -> None:
        self.address = address
        self._trust = trust
        self._ask = ask
        self.on_state = on_state
        self.asking = Asking(in_flight, clock, rand, timing.base_s, timing.cap_s, self._nudge)
        self.inbox = Inbox(queue)
        self.welcome: frames.Welcome | None = None  # the newest
        self.threads: dict[str, frames.ThreadView] = {}
        self._who = who
        self._token = who.token
        self._password: str | None = None  # until the welcome
        self._guest = who.token is None
        self._clock = clock
        self._timing = timing
        self._backoff = Backoff(rand, timing.base_s, timing.cap_s)
        self._hearing = Hearing(who.threads)
        self._resumable = True
        self._work = asyncio.Event()  # set when there may be something to write
        self._marks = Marks()
        self._marked = asyncio.Event()
        self._marking = asyncio.Lock()
        self._connection: Connection | None = None
        self._over: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        return self._task is not None

    @property
    def over(self) -> bool:
        return self._over is not None

    async def begin(self) -> None:
        """Connect. Raises Unavailable when nobody answers, or the server's own refusal."""
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(first), name=f"hubbub client of {self.address}")
        try:
            await first
        except BaseException:
            await self._end()
            raise

    async def leave(self) -> None:
        """Tell the last `seen` cursors, say bye and end."""
        connection = self._connection
        if connection is not None and self._over is None:
            with contextlib.suppress(Problem, Lost, TimeoutError):
                async with asyncio.timeout(self._timing.goodbye_s):
                    await self._tell_marks()
                    await connection.say_bye()
        await self._end()

    def mark(self, thread: str, seq: int) -> None:
        self._marks.note(thread, seq)
        self._marked.set()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._finish(None)

    def _nudge(self) -> None:
        self._work.set()
        self.inbox.changed.set()

    def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.ThreadFrame):
            self.threads[frame.thread.id] = frame.thread
        if isinstance(frame, frames.Registered):
            self._token, self._guest = frame.token, False
        if isinstance(frame, frames.Reply) and frame.id is not UNSET:
            if isinstance(frame, frames.MessageFrame | frames.Checked):
                self.inbox.put(frame)  # in the order they came; what was heard before is part of the answer
            if not isinstance(frame, frames.MessageFrame):
                self.asking.replied(frame)
        elif (event := self._hearing.take(frame)) is not None:
            self.inbox.put(event)

    async def _room(self, connection: Connection) -> None:
        """Wait until another frame may be read. Who waits for a reply is read for, within limits."""
        while self.inbox.full:
            if len(self.asking.ledger):
                if not self.inbox.overfull:
                    break
                self.asking.fail(Unavailable(_NOT_TAKEN))
            connection.paused = True
            self.inbox.changed.clear()
            await self.inbox.changed.wait()
        connection.paused = False

    # Marking ------------------------------------------------------------------------------------------

    async def _mark_along(self) -> None:
        while True:
            await self._marked.wait()
            self._marked.clear()
            await self._tell_marks()
            await asyncio.sleep(self._timing.mark_every_s)

    async def _tell_marks(self) -> None:
        async with self._marking:
            await asyncio.gather(*(self._tell_mark(thread, seq) for thread, seq in self._marks.take()))

    async def _tell_mark(self, thread: str, seq: int) -> None:
        with contextlib.suppress(Problem):  # a thread that was left has no cursor to move
            await self.asking.ask(frames.Seen(thread=thread, seq=seq), None)

    # Staying connected --------------------------------------------------------------------------------

    async def _live(self, first: asyncio.Future[None]) -> None:
        marking = asyncio.create_task(self._mark_along())
        try:
            await self._stay_connected(first)
        except Exception as why:
            if not isinstance(why, Problem):
                _log.exception("the client stops")
            self._finish(why)
            if not first.done():
                first.set_exception(why)
        finally:
            marking.cancel()

    async def _stay_connected(self, first: asyncio.Future[None]) -> None:
        while True:
            hello = self._hello()
            try:
                connection, welcome = await Connection.open(self.address, self._trust, hello, self._timing)
            except Lost as refused:
                lost = refused
                if await self._has_a_password(lost, hello):
                    continue
                wait = self._after_refusal(lost, hello, first.done())
            else:
                self._welcomed(welcome)
                if not first.done():
                    first.set_result(None)
                lost = await self._carry(connection)
                if lost.problem is not None and lost.problem.code == "name_taken":
                    raise lost.problem
                self._resumable = lost.resume
                wait = self._backoff.next_s(lost.retry_after)
            if first.done():
                self._tell(Status(State.RECONNECTING, wait, lost.reason))
            await asyncio.sleep(wait)
            # Without anyone to hear, another connection would only be closed as slow again.
            while self.inbox.full and not len(self.asking.ledger):
                self.inbox.changed.clear()
                await self.inbox.changed.wait()

    async def _carry(self, connection: Connection) -> Lost:
        self._connection = connection
        began = self._clock()
        self._tell(Status(State.CONNECTED))
        life_s = lifetime_s(self._token) if self._token else None
        stay_s = life_s / 2 if life_s else None
        try:
            return await connection.run(
                self.asking.ledger, self._clock, self._work, self._take, self._room, self._timing, stay_s
            )
        finally:
            self._connection = None
            self.asking.lost()
            self._backoff.held(self._clock() - began)

    @property
    def _user(self) -> str | None:
        return self._who.user or (self.welcome.user if self.welcome else None)

    async def _has_a_password(self, lost: Lost, hello: frames.Hello) -> bool:
        """Was the hello refused because it has to be proved, and is there a password for the next one?"""
        if not isinstance(lost.problem, Unauthorized) or self._ask is None or self._user is None:
            return False
        if hello.token and self._guest:  # first by name
            return False
        password = await self._ask(self._user, lost.problem)
        if password is None:
            return False
        self._token, self._password, self._guest = None, password, False
        return True

    def _hello(self) -> frames.Hello:
        return frames.Hello(
            token=self._token,
            user=None if self._token else self._user,
            password=None if self._token else self._password,
            client=self._who.client,
            threads=self._who.threads,
            resume=self._hearing.resume() if self._resumable else None,
        )

    def _welcomed(self, welcome: frames.Welcome) -> None:
        if self.welcome is not None and welcome.server.get("epoch") != self.welcome.server.get("epoch"):
            self._marks.forget()
        self.welcome = welcome
        self.threads = {thread.id: thread for thread in welcome.threads}
        self._token = welcome.token or self._token
        self._password = None
        self._resumable = True
        self._hearing.welcomed(welcome)

    def _after_refusal(self, lost: Lost, hello: frames.Hello, was_connected: bool) -> float:
        """Seconds until the next hello. Raises what makes another one useless."""
        problem = lost.problem
        if not was_connected:
            if lost.prompted and self._backoff.tries < _PROMPTED_TRIES:
                return self._backoff.next_s()
            raise problem or Unavailable(
                f"Cannot connect: {lost.reason}. Is the server running (hubbub up), and is this its address?"
            )
        if problem is not None and problem.code in FINAL:
            if isinstance(problem, Unauthorized) and hello.token and self._guest:
                self._token = None  # it ran out; the name may still be free
                return 0.0
            if not isinstance(problem, BadRequest) or hello.resume is None:
                raise problem
            self._resumable = False  # the name was good before, so it is the positions that were refused
        return self._backoff.next_s(lost.retry_after)

    def _tell(self, status: Status) -> None:
        if self.on_state is not None:
            self.on_state(status)

    def _finish(self, why: BaseException | None) -> None:
        if self._over is None:
            self._over = why or Unavailable("The client was closed.")
            self.asking.close(self._over)
            self.inbox.close(why)
            self._tell(Status(State.CLOSED, reason=str(why or "")))
