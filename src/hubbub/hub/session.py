"""The protocol of one live connection, whatever carries its bytes.

    NEW ──hello──▶ READY ──bye, end, lost──▶ CLOSED

A door feeds `receive` with payloads (or `handle` with requests) and writes what it is given. Replies go out in the
order of the requests. Sends overlap each other, so that a pipelining client shares commits; any other request waits
for what came before it. A session whose door is full begins nothing new and is written nothing until it drains.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from hubbub.core import frames, names, wire
from hubbub.core.errors import OUTSIDE, BadFrame, HelloRequired, Internal, NameTaken, Problem, Unavailable
from hubbub.core.feed import Feed
from hubbub.core.forms import Form, Shout
from hubbub.core.framing import Overlong, Splitter
from hubbub.core.nouns import Message
from hubbub.hub import access, catch_up, posting
from hubbub.hub.access import NEEDS, VISITOR, Caller, Need
from hubbub.hub.meter import add
from hubbub.hub.requests import BEFORE_HELLO, OURS, VERBS, Answered, Finish, Leave, error, with_id
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.session")

NOBODY = Caller("", frozenset())

MAX_IN_FLIGHT = 64
"""Sends of one connection that may be waiting for their commit."""

MAX_WAITING = 64
"""Requests read but not begun; beyond that the connection is not read."""


class State(Enum):
    NEW = "new"
    READY = "ready"
    CLOSED = "closed"


class Door(Protocol):
    """The transport, as the session needs it."""

    @property
    def kind(self) -> str:
        """What is spoken there, for counting."""

    def write(self, data: bytes, /) -> None:
        """Send bytes, without waiting."""

    def fileno(self) -> int:
        """The socket, while bytes may be given to it past `write`; -1 if they may not."""

    @property
    def address(self) -> str:
        """Where the other side is, for counting; "" when that is not known."""

    def unsent(self) -> int:
        """How many written bytes the socket has not taken yet."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def settle(self) -> None:
        """Store what has to be stored before a person who leaves finds the connection closed."""

    def end(self, code: str, reason: str) -> None:
        """Close the connection after what was written, saying why in the transport's own way. `code` is one of
        errors.OUTSIDE, or "" for a normal end."""


class Session:
    """One connection of one member. `claims` is False for readers that only name themselves (SSE without a token)."""

    __slots__ = (
        "_catching_up",
        "_drained",
        "_in_flight",
        "_verb",
        "_waiting",
        "caller",
        "claims",
        "cookie",
        "door",
        "feed",
        "form",
        "hub",
        "name",
        "offered",
        "only",
        "reading_paused",
        "resets",
        "rooms",
        "state",
        "stopped",
    )

    def __init__(self, hub: Hub, door: Door, form: Form, *, hello_s: float | None = None) -> None:
        self.hub: Hub = hub
        self.door = door
        self.form = form
        self.name: str = ""
        self.caller: Caller = NOBODY
        self.offered: str | None = None  # the token its connection came with, for a hello that shows none
        self.cookie: str | None = None  # the same, from a browser
        self.state = State.NEW
        self.claims = True
        self.rooms: dict[str, Room] = {}
        self.only: frozenset[str] | None = None
        self.feed: Feed | None = None  # where it stands while it is behind
        self.resets: list[frames.Frame] = []  # to be told before anything else
        self.stopped = False  # its socket is full
        self._waiting: deque[frames.Request] | None = None
        self._in_flight: deque[tuple[Any, Future[Message]]] | None = None
        self._verb: Future[Any] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._drained: Future[None] | None = None
        self.reading_paused = False
        hub.waiting_for_hello[self] = time.monotonic() + (hub.limits.hello_s if hello_s is None else hello_s)

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def entering(self) -> bool:
        """Is it being put into its member's rooms, or in them already?"""
        return self.feed is not None or self.ready

    @property
    def fresh(self) -> bool:
        """Has nobody introduced themselves yet?"""
        return self.state is State.NEW and self._verb is None

    @property
    def write(self) -> Callable[[bytes], None]:
        return self.door.write

    def tell(self, shouts: Sequence[Shout]) -> None:
        """Write frames to this session alone."""
        if self.state is not State.CLOSED:
            data = self.form.encode(shouts)
            if data:
                self.door.write(data)

    # The beginning

    async def begin(
        self, caller: Caller, only: list[str] | None = None, resume: frames.Resume | None = None
    ) -> list[frames.ThreadView]:
        """Become the caller and enter their rooms, behind. What was missed is told after `listen`. When this raises,
        the session is as new as before."""
        hub = self.hub
        access.require(caller, Need.LISTEN)
        name = caller.name
        self.claims = self.claims and names.key(name) != VISITOR  # who is everybody who gives no name
        hub.people.claim(self, name)
        self.name, self.caller = name, caller
        hub.sessions.add(self)
        deadline = hub.waiting_for_hello.pop(self, 0.0)
        try:
            member = await hub.arrive(name)
            if member.name != name:  # somebody spelled it differently in the meantime
                raise NameTaken("Username already taken.")
            views = await hub.enter(self, only, resume)
            if resume and resume.runs:
                await self._find_ended_runs()
            if self.state is not State.NEW:
                raise Unavailable("The connection was closed.")
        except BaseException:
            hub.leave(self)
            self.name, self.caller, self.feed, self.resets = "", NOBODY, None, []
            if self.state is State.NEW:
                hub.waiting_for_hello[self] = deadline
            raise
        self.state = State.READY
        add(hub.counts.sessions, self.door.kind)
        return views

    async def _find_ended_runs(self) -> None:
        """Runs the client was reading whose message it already has: only their end is to be told."""
        assert self.feed is not None
        for id in list(self.feed.runs):
            run = await self.hub.store.run(id)
            if run is None or run.thread not in self.rooms:
                self.feed.runs.pop(id, None)
            elif run.seq is not None and run.seq <= self.feed.threads.get(run.thread, 0):
                self.resets.append(catch_up.end_frame(run))
                self.feed.runs.pop(id, None)

    def listen(self) -> None:
        """From now on, hear: first what was missed, then live."""
        resets, self.resets = self.resets, []
        if resets:
            self.tell([Shout(frame) for frame in resets])
        self.catch_up()

    # In

    def receive(self, payload: bytes) -> None:
        """One payload from the client."""
        try:
            request = wire.decode(payload)
        except wire.Undecodable as wrong:
            self._answer_in_order(error(wrong.problem, wrong.id))
        else:
            self.handle(request)

    def receive_frames(self, message: bytes) -> None:
        """One message that holds whole length-prefixed frames."""
        splitter = Splitter()
        try:
            payloads = splitter.feed(message)
        except Overlong as overlong:
            for payload in overlong.before:
                self.receive(payload)
            self.refuse(overlong)
            return
        for payload in payloads:
            self.receive(payload)
        if splitter.unfinished or not payloads:
            self._answer_in_order(error(BadFrame("The message ends in the middle of a length-prefixed frame."), None))

    def waits(self, unfinished: bool, progressed: bool) -> None:
        """After every piece of what the client sends: does it end inside a frame, and did it complete one?"""
        if not unfinished:
            if self in self.hub.unfinished:
                del self.hub.unfinished[self]
        elif self.state is not State.CLOSED and (progressed or self not in self.hub.unfinished):
            self.hub.unfinished[self] = time.monotonic()

    def handle(self, request: frames.Request) -> None:
        """One request from the client."""
        if self.state is State.CLOSED:
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(request)
        if len(self._waiting) > MAX_WAITING and not self.reading_paused:
            self.reading_paused = True
            self.door.pause_reading()
        self._advance()

    def refuse(self, problem: Problem) -> None:
        """The client broke the framing: say so and close."""
        self.tell([Shout(error(problem, None))])
        self.end(problem.code, problem.detail)

    def refuse_payload(self, detail: str) -> None:
        """Something that is no frame, inside framing that is still whole."""
        self._answer_in_order(error(BadFrame(detail), None))

    def finish(self) -> None:
        """Nothing more will come: close after the last reply, and after what the member had missed."""
        self.handle(Finish())

    def _answer_in_order(self, frame: frames.Frame) -> None:
        """Reply to something that could not be begun, after the replies still owed."""
        if self._waiting or self._in_flight or self._verb:
            self.handle(Answered(frame=frame))
        else:
            self.tell([Shout(frame)])

    def _advance(self) -> None:
        waiting = self._waiting
        while waiting and self._verb is None and not self.stopped and self.state is not State.CLOSED:
            request = waiting[0]
            if type(request) is frames.MessageSend and self.state is State.READY:
                room = posting.open_room(self.hub, self.caller, request)
                if self._in_flight and (room is None or len(self._in_flight) >= MAX_IN_FLIGHT):
                    return
                waiting.popleft()
                self._send(request, room)
            elif self._in_flight:
                return
            else:
                waiting.popleft()
                self._begin(request)
        if not waiting:
            self._waiting = None
        if self.reading_paused and not waiting and not self.stopped and self.state is not State.CLOSED:
            self.reading_paused = False
            self.door.resume_reading()

    def _send(self, request: frames.MessageSend, room: Room | None) -> None:
        try:
            self.hub.people.require_pace(self.name)
            if room is None:  # the thread has to be looked up first, or made
                work = posting.send(self.hub, self.caller, request)
                self._verb = self.hub.spawn(self._run(work, request.id))
                return
            posted = posting.post(self.hub, room, self.caller, request)
        except Problem as refused:
            if not self._in_flight:
                self.tell([Shout(error(refused, request.id))])
                return
            posted = self.hub.refused(refused)
        if self._in_flight is None:
            self._in_flight = deque()
        self._in_flight.append((request.id, posted))
        posted.add_done_callback(self._sent)

    def _sent(self, _: Future[Message]) -> None:
        owed = self._in_flight
        if not owed or not owed[0][1].done():
            return
        shouts = []
        while owed and owed[0][1].done():
            id, posted = owed.popleft()
            try:
                frame: frames.Frame = posting.ack(self.hub, posted.result(), id)
            except Problem as refused:
                frame = error(refused, id)
            shouts.append(Shout(frame))
        if not owed:
            self._in_flight = None
        self.tell(shouts)
        self._advance()

    def _begin(self, request: frames.Request) -> None:
        verb = VERBS[type(request)]
        try:
            if self.state is State.NEW and verb not in BEFORE_HELLO:
                raise HelloRequired('Introduce yourself first: {"type": "hello", "user": "…"}.')
            if type(request) not in OURS:
                access.require(self.caller, NEEDS[type(request)])
            result = verb(self, request)
        except Problem as refused:
            self.tell([Shout(error(refused, request.id))])
            return
        if isawaitable(result):
            self._verb = self.hub.spawn(self._run(result, request.id))
        elif result is not None:
            self.tell([Shout(with_id(result, request.id))])

    async def _run(self, work: Awaitable[Any], id: str | int | None) -> None:
        try:
            result = await work
            if isinstance(result, frames.Frame):
                self.tell([Shout(with_id(result, id))])
        except Problem as refused:
            self.tell([Shout(error(refused, id))])
        except Exception:
            log.exception("request_failed", member=self.name)
            self.tell([Shout(error(Internal("The request failed on our side; it was logged."), id))])
        finally:
            self._verb = None
            self._advance()

    # Being heard

    def catch_up(self) -> None:
        """Read what this session has not heard, unless that is under way."""
        if self._catching_up is None and self.feed is not None and self.state is State.READY:
            self.hub.counts.catch_ups += 1
            self._catching_up = self.hub.spawn(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            while self.feed is not None and not self.stopped and self.ready:
                await catch_up.catch_up(self, self.hub.store, self.hub.bus)
        except Problem as failure:  # the store is away: the client comes back with its cursor
            self.end(failure.code, failure.detail, retry_after=failure.retry_after or 1)
        except Exception:
            log.exception("catching_up_failed", member=self.name)
            self.end("internal", "Reading what you missed failed on our side; it was logged.", retry_after=1)
        finally:
            self._catching_up = None

    async def in_step(self) -> None:
        """Wait until everything missed was told, or the connection is gone."""
        while self.feed is not None and self.state is State.READY:
            if self._catching_up is not None:
                await asyncio.wait([self._catching_up])
            else:
                await self.drained()

    def stop(self) -> None:
        """The socket is full: from now on this session is behind in all its rooms."""
        if self.stopped or self.state is State.CLOSED:
            return
        self.stopped = True
        self.hub.counts.stalls += 1
        self.hub.slow[self] = (self.door.unsent(), time.monotonic())
        if self.feed is None:
            self.feed = Feed()
        for room in self.rooms.values():
            if room.step_out(self):
                room.behind.add(self)
                self.feed.threads[room.id] = room.head
                for id, run in room.runs.items():
                    self.feed.runs[id] = (run.attempt, run.heard)
        if not self.reading_paused:
            self.reading_paused = True
            self.door.pause_reading()

    def go_on(self) -> None:
        """The socket has drained."""
        if not self.stopped:
            return
        self.stopped = False
        self.hub.slow.pop(self, None)
        self._let_go()
        self.catch_up()
        self._advance()

    async def drained(self) -> None:
        """Wait until the socket takes more, or is gone."""
        if self.stopped and self.state is not State.CLOSED:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    # The end

    def refuse_silence(self) -> None:
        """No hello came in time."""
        self.end("hello_required", "No hello came in time.", retry_after=0)

    def dismiss(self, reason: str, retry_after: float) -> None:
        """The server goes away: answer what was asked, then end. Who does not read is not waited for."""
        if self.stopped or self.fresh:
            self.end("shutdown", reason, retry_after=retry_after)
        else:
            self.handle(Leave(reason=reason, retry_after=retry_after))

    def end(self, code: str, reason: str, *, retry_after: float = 0.0) -> None:
        """Say `bye` and close. The client may resume unless it was refused."""
        if self.state is State.CLOSED:
            return
        resume = OUTSIDE[code].retry if code else False
        bye = frames.Bye(code=code or "bye", reason=reason, resume=resume, retry_after=retry_after)
        try:
            self.tell([Shout(bye)])
        finally:
            self.lost()
            self.door.end(code, reason)

    def lost(self) -> None:
        """The connection is gone."""
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._waiting = None
            self._let_go()
            self.hub.leave(self)

    def _let_go(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
