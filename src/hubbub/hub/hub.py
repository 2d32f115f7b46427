"""What is going on in this process: who is here, which rooms are open, who reads what.

The hub owns every background task of the house. The verbs (posting.py, threads.py, runs.py) are functions and a class
that take it; `access.py` is the one place where permission is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import structlog

from hubbub.core import frames, names, news
from hubbub.core.errors import KeyConflict, NotFound, Problem
from hubbub.core.feed import Feed
from hubbub.core.forms import Shout, SseForm
from hubbub.core.nouns import LOBBY, SHOWN_MEMBERS, Assistant, Kind, Member, Membership, Message, Role, Thread, stamp
from hubbub.core.ports import Bus, Event, Store
from hubbub.hub import access, catch_up
from hubbub.hub.access import Caller, Need
from hubbub.hub.addresses import Addresses
from hubbub.hub.asking import Asking
from hubbub.hub.assistants import Assistants
from hubbub.hub.auth import Auth
from hubbub.hub.following import Followers
from hubbub.hub.gate import Audit, Gate
from hubbub.hub.gauges import gauges
from hubbub.hub.limits import Limits
from hubbub.hub.meter import Meter
from hubbub.hub.others import Others
from hubbub.hub.people import People
from hubbub.hub.room import Room, bounded
from hubbub.hub.runs import Runs
from hubbub.hub.session import Session
from hubbub.hub.sweep import sweep

log = structlog.get_logger("hubbub.hub")

DRAIN_S = 3.0
"""How long sessions may take to get the answers they are owed when the hub stops."""

RESTARTED_S = 1.0
ELSEWHERE_S = 0.1
BACK_AT_ONCE = 100
LATEST_S = 10.0
"""After that time (the second where there are other nodes) so many sessions may come back, a tenth of a second later
as many again, and so on; nobody is told to wait this much longer. Clients add a random part of their own."""

RECHECKS = 10
"""Times a room's members are read at once until nobody has come or gone meanwhile."""

FINISH_S = 2.0
"""How long background work may take to finish when the hub stops."""


def _unheard(event: str, /, **details: str | None) -> None:
    """Nobody keeps a record."""


class Hub:
    """Everything that is shared between the doors. Create it, `start` it, `stop` it."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        auth: Auth,
        *,
        assistants: Iterable[Assistant] = (),
        unlisted: Iterable[Assistant] = (),
        engines: frozenset[str] = frozenset({"demo"}),
        engine: str = "demo",
        limits: Limits | None = None,
        registration: bool | None = None,
        audit: Audit = _unheard,
        clock: Callable[[], float] = time.time,
        version: str = "0",
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter(version=version)
        self.counts = self.meter.counts
        self.meter.gauges.append(partial(gauges, self))
        self.store = store
        self.bus = bus
        self.limits = limits or Limits()
        self.gate = Gate(self, auth, registration=auth.guests if registration is None else registration, audit=audit)
        self.addresses = Addresses(
            self.limits.address_connections,
            self.limits.strangers_per_minute,
            loopback=self.limits.limit_loopback,
            counts=self.counts,
        )
        self.clock = clock
        self.version = version
        self.rooms: dict[str, Room] = {}
        self.followers = Followers()
        self.assistants = Assistants(self, assistants, engines, engine, unlisted)
        self.asking: Asking = Asking(self)
        self.runs: Runs = Runs(self)
        self.meter.expect(self.assistants.engines)
        self.others = Others(self)
        self.people = People(self.limits, self.assistants.by_name, self.counts, self.others)
        self._private: dict[tuple[str, str], Room] = {}  # open private rooms, by (one key, other key)
        self.sessions: set[Session] = set()
        self.waiting_for_hello: dict[Session, float] = {}  # until when, in monotonic seconds
        self.slow: dict[Session, tuple[int, float]] = {}  # bytes not taken yet, since when
        self.unfinished: dict[Session, float] = {}  # have sent the beginning of a frame, since when
        self._places: dict[str, dict[Room, None]] = {}  # the open rooms each member is in
        self.unsure: set[Room] = set()  # somebody came or went, or did not: the store did not say
        self._loading: dict[str, asyncio.Task[Room]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._filling: set[str] = set()
        self._forms: dict[type[SseForm], SseForm] = {}
        self._standing: set[asyncio.Task[Any]] = set()
        self._emptied = asyncio.Event()  # nobody is left
        self.stopping = False
        self.stopped = False

    # Life

    async def start(self) -> None:
        """Read what must be known at once, take up the runs that were interrupted, begin to sweep."""
        await self.learn()
        self.bus.listen(self._hear, self.runs.noticed_end, self.others.heed, self.others.missed)
        await self.runs.start()
        await self.asking.start()
        self.spawn(sweep(self), standing=True)
        self.spawn(self.others.live(), standing=True)
        self.spawn(self.gate.watch(), standing=True)
        self.spawn(self.meter.watch(), standing=True)

    async def learn(self) -> None:
        """Read what must be known before anything else, who there is; make the lobby. All that is needed to use the
        gate's verbs without serving anybody."""
        for member in await self.store.members():
            self.people.remember(member)
        await self.assistants.learn()
        await self.gate.refresh()
        if await self.store.thread(LOBBY) is None:
            with contextlib.suppress(KeyConflict):  # somebody else was first
                await self.store.create_thread(Thread(id=LOBBY, title=LOBBY, public=True), [])

    def dismiss(self) -> None:
        """Say goodbye to every session once it has its answers, and when to come back: not all at the same moment."""
        self.stopping = True
        self.followers.wake_all()
        for place, session in enumerate([*self.sessions, *self.waiting_for_hello]):
            session.dismiss("The server is restarting.", self.back_in_s + min(LATEST_S, place // BACK_AT_ONCE / 10))

    @property
    def back_in_s(self) -> float:
        """When whoever is sent away may come back: as soon as this process may be there again, or to another node."""
        return ELSEWHERE_S if self.others.there else RESTARTED_S

    async def drain(self) -> None:
        """Let everybody go who can, and nobody in."""
        self.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.sessions:
                    self._emptied.clear()
                    await self._emptied.wait()

    async def stop(self) -> None:
        """Say goodbye to every session and finish what was begun."""
        self.stopping = True
        self.followers.wake_all()
        for session in [*self.sessions, *self.waiting_for_hello]:
            session.end("shutdown", "The server is restarting.", retry_after=self.back_in_s)
        self.others.stop()
        await self.asking.stop()
        brief = self._tasks - self._standing
        if brief:
            await asyncio.wait(brief, timeout=FINISH_S)
        self.stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.gate.close()

    def spawn(self, work: Coroutine[Any, Any, Any], *, standing: bool = False) -> asyncio.Task[Any]:
        """Run something in the background, owned by the hub; what it raises is logged. `standing` work never ends by
        itself, so nobody waits for it when the hub stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        if standing:
            self._standing.add(task)
            task.add_done_callback(self._standing.discard)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, Problem):
            log.error("background_task_failed", task=task.get_coro().__qualname__, exc_info=error)  # type: ignore[union-attr]

    def form_of(self, kind: type[SseForm]) -> SseForm:
        """The one form of that kind, so that everyone who reads it shares its bytes."""
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = kind(self.store.epoch)
        return form

    def stamp(self) -> str:
        return stamp(self.clock())

    # Events

    def publish(self, thread: str, frame: frames.Frame) -> None:
        self.bus.publish(Event(thread, frame))

    def _hear(self, event: Event) -> None:
        room = self.rooms.get(event.thread)
        if room is not None:
            try:
                room.shout(event.frame)
            except Exception:
                room.failed(room.sessions())
        if self.followers.runs and isinstance(event.frame, frames.RunFrame):
            self.followers.wake(event.frame.run, changed=not isinstance(event.frame, frames.RunDelta))

    def posted(self, message: Message) -> None:
        """A message was committed: shout it, and see whether an assistant has to answer."""
        self.publish(message.thread, frames.MessageFrame(thread=message.thread, seq=message.seq, message=message))
        self.asking.consider(message)  # the room has done so, unless the bus is slow or has lost it

    def fill(self, room: Room) -> None:
        """Read what the store has and the bus has not brought, unless that is under way."""
        if room.id not in self._filling:
            self._filling.add(room.id)
            task = self.spawn(catch_up.fill(room, self.store, self.recheck))
            task.add_done_callback(lambda _: self._filling.discard(room.id))

    # Members

    async def arrive(self, name: str, kind: Kind = Kind.PERSON) -> Member:
        """The member of that name, who from now on has signed in at least once and is in the lobby."""
        known = self.people.known(name)
        if known is not None and known.arrived:
            return known
        wanted = Member(name=names.normalise(name), kind=kind, arrived=True)
        member = self.people.remember(await self.store.add_member(wanted, [(LOBBY, None)]))
        self.others.tell(news.Known(node=self.others.node, member=member))
        lobby = self.rooms.get(LOBBY)
        if lobby is not None and member.name not in lobby.members:
            self.entered(lobby, member.name)
            if len(lobby.members) <= SHOWN_MEMBERS:  # in a crowd nobody is told who came in silently
                self.publish(LOBBY, frames.ThreadFrame(thread=lobby.view()))
        return member

    async def addressee(self, name: str) -> Member:
        """Somebody to write to. A name nobody knows may be written to while guests are allowed."""
        known = self.people.known(name)
        if known is not None:
            return known
        if not self.gate.auth.guests:
            raise NotFound(f"Nobody is called '{name}' here.{self.people.hint(name)}")
        self.people.require_distinct(names.normalise(name))
        member = await self.store.add_member(Member(name=names.normalise(name)))
        return self.people.known(member.name) or self.people.remember(member)

    # Sessions

    async def enter(
        self, session: Session, only: list[str] | None, resume: frames.Resume | None
    ) -> list[frames.ThreadView]:
        """Put the session into its member's rooms, behind; what it hears starts at its cursors. The threads it
        hears. The caller then lets it catch up."""
        name = session.name
        same_log = resume is not None and resume.epoch in (None, self.store.epoch)
        session.only = None if only is None else frozenset(only)
        # From here on it is `entering`: threads its member enters meanwhile are put into its rooms.
        session.feed = Feed(runs=dict(resume.runs) if resume and same_log else None)
        mine = await self.store.threads_of(name)
        if only is not None:
            unknown = set(only) - {thread.id for thread, _ in mine}
            if unknown:
                raise NotFound(f"There is no thread {min(unknown)!r} for you.")
            mine = [(thread, seen) for thread, seen in mine if thread.id in only]
        views = []
        for thread, seen in mine:
            try:
                room = self.rooms.get(thread.id) or await self.room(thread.id)
            except NotFound:  # deleted meanwhile
                continue
            if name not in room.members:  # removed while rooms were opened
                continue
            at = seen
            if resume is not None and thread.id in resume.threads:
                at = resume.threads[thread.id] if same_log else seen
                if not same_log or at > max(room.known, thread.head):
                    reason = "The server's data was replaced." if not same_log else "The cursor is above the head."
                    session.resets.append(frames.Reset(thread=thread.id, reason=reason))
                    at = min(seen, room.known)
            self.listen(session, room, at)
            views.append(room.view(seen))
        views = bounded(views)
        if self.people.announce(name) and name not in self.others.online:
            self.presence(name, True)
        return views

    def listen(self, session: Session, room: Room, at: int) -> None:
        """The session hears the room after seq `at`, once it has caught up."""
        if session.feed is None:
            session.feed = Feed()
        session.rooms[room.id] = room
        session.feed.threads[room.id] = at
        room.behind.add(session)

    def leave(self, session: Session) -> None:
        """The session is gone. Safe to call for one that never entered."""
        self.waiting_for_hello.pop(session, None)
        self.slow.pop(session, None)
        self.unfinished.pop(session, None)
        self.sessions.discard(session)
        if not self.sessions:
            self._emptied.set()
        for room in session.rooms.values():
            room.step_out(session)
        session.rooms = {}
        if self.people.release(session) and session.name not in self.others.online:
            self.presence(session.name, False)

    def presence(self, name: str, online: bool) -> None:
        """Somebody has come, or is connected no more, here and elsewhere."""
        told: dict[Session, None] = {}
        for room in self._places.get(name, ()):
            if online:
                room.offline.pop(name, None)
            else:
                room.offline[name] = None
            if len(room.members) <= SHOWN_MEMBERS:
                told.update(dict.fromkeys(room.sessions()))
        shouts = [Shout(frames.Presence(user=name, online=online))]
        for session in told:
            if session.name != name and session.ready and not session.stopped:
                session.tell(shouts)

    # Rooms

    async def room(self, id: str) -> Room:
        """The room of a thread, opened when nobody was in it. Raises NotFound."""
        room = self.rooms.get(id)
        if room is not None:
            return room
        loading = self._loading.get(id)
        if loading is None:
            loading = self._loading[id] = self.spawn(self._load(id))
            loading.add_done_callback(lambda _: self._loading.pop(id, None))
        return await asyncio.shield(loading)

    async def _load(self, id: str) -> Room:
        thread = await self.store.thread(id)
        if thread is None:
            raise NotFound("There is no such thread here.")
        members = await self.store.memberships(id)
        room = self.rooms[id] = Room(
            thread,
            members,
            fill=self.fill,
            heard=self.asking.consider,
            so_far=self.bus.so_far,
            counts=self.counts,
        )
        for membership in members:
            self.entered(room, membership.member, membership.seen, membership.role)
        if thread.private:
            one, other = (names.key(membership.member) for membership in members)
            room.pair = (one, other)
            self._private[one, other] = self._private[other, one] = room
        room.touched = time.monotonic()
        # Whatever was committed while this was read has been shouted to nobody, and whoever came or went was not
        # noticed here.
        await catch_up.fill(room, self.store, self.recheck)
        await self.recheck(room)
        return room

    async def recheck(self, room: Room) -> None:
        """Believe the store about who is in the room, and put into it whoever is connected and does not hear it."""
        if self.rooms.get(room.id) is room:
            self.unsure.add(room)  # until the store has answered
        for _ in range(RECHECKS):
            changes = room.changes
            now = {membership.member: membership for membership in await self.store.memberships(room.id)}
            if room.changes == changes:
                break
        else:  # people come and go all the time: what was read is of the past
            return
        for name in room.members.keys() - now.keys():
            self.departed(room, name)
        for name, membership in now.items():
            sessions = self.people.sessions_of(name)
            if room.members.get(name) is not membership.role or any(room.id not in one.rooms for one in sessions):
                self.entered(room, name, membership.seen, membership.role)
        self.unsure.discard(room)

    def _place(self, room: Room, name: str, role: Role) -> None:
        self._places.setdefault(name, {})[room] = None
        room.enter(name, role, online=self.people.online(name))
        if name in self.assistants.by_name:
            room.assistants[name] = None

    async def room_for(self, caller: Caller, id: str, need: Need) -> Room:
        """The room, if they may do there what needs `need`. Forbidden looks like absent: raises NotFound."""
        room = self.rooms.get(id) or await self.room(id)
        access.require(caller, need, room)
        room.touched = time.monotonic()
        return room

    def private_room(self, name: str, other: str) -> Room | None:
        """The private room of the two, if it is open."""
        return self._private.get((names.key(name), names.key(other)))

    def refused(self, problem: Problem) -> asyncio.Future[Message]:
        """A post that was refused, for its place among the replies."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        future.set_exception(problem)
        return future

    def entered(self, room: Room, name: str, seen: int | None = None, role: Role = Role.MEMBER) -> None:
        """Somebody became a member: their sessions are told, and hear the room from `seen` on (None: from now)."""
        self._place(room, name, role)
        for session in self.people.sessions_of(name):
            if session.only is None and room.id not in session.rooms and session.entering:
                if session.ready and not session.stopped:
                    session.tell([Shout(frames.ThreadFrame(thread=room.view()))])
                self.listen(session, room, room.known if seen is None else seen)
                session.catch_up()

    def departed(self, room: Room, name: str) -> None:
        """Somebody is no longer a member: their sessions are told, and nothing newer reaches them."""
        room.depart(name)
        self._forget_place(room, name)
        for session in self.people.sessions_of(name):
            if session.rooms.pop(room.id, None) is None:
                continue
            room.step_out(session)
            if session.feed is not None:
                session.feed.threads.pop(room.id, None)
                for run in room.runs:
                    session.feed.runs.pop(run, None)
            if session.ready and not session.stopped:
                session.tell([Shout(frames.ThreadFrame(thread=room.view()))])

    def _forget_place(self, room: Room, name: str) -> None:
        places = self._places.get(name)
        if places is not None:
            places.pop(room, None)
            if not places:
                del self._places[name]

    async def open_thread(self, thread: Thread, members: list[str]) -> Room:
        """Make a thread and its room; its members hear it from the first message on. The first one owns it; a private
        thread belongs to both."""
        memberships = [
            Membership(thread=thread.id, member=name, role=Role.OWNER if thread.private or not place else Role.MEMBER)
            for place, name in enumerate(members)
        ]
        made = await self.store.create_thread(thread, memberships)
        room = await self.room(made.id)
        for membership in memberships:
            self.entered(room, membership.member, 0, membership.role)
        self.others.entered(room, members)
        return room

    def thread_gone(self, room: Room) -> None:
        """It was deleted, with everything in it."""
        for session in [session for session in room.sessions() if session.ready]:
            session.tell([Shout(frames.Reset(thread=room.id, reason="The thread was deleted."))])
        for member in list(room.members):
            self.departed(room, member)
        self.close_room(room)
        self.runs.thread_gone(room.id)

    def close_room(self, room: Room) -> None:
        for name in room.members:
            self._forget_place(room, name)
        if room.pair is not None:
            self._private.pop(room.pair, None)
            self._private.pop(room.pair[::-1], None)
        self.rooms.pop(room.id, None)
        self.unsure.discard(room)
