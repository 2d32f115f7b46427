"""Which messages oblige which assistants to answer, each asked about once and in order.

Beginning a run counts everything up to its question as seen by the assistant. So what was not looked at before a crash
is what lies after its mark, and the questions of a thread are looked at one after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from hubbub.core import triggers
from hubbub.core.errors import NotFound, Problem, StorageFull, Unavailable
from hubbub.core.nouns import Assistant, Kind, Member, Message, seq_of
from hubbub.hub import access
from hubbub.hub.access import Caller, Need
from hubbub.hub.conversing import GENERATE
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.asking")

MARK_EVERY_S = 30.0
MARKS_AT_ONCE = 200
"""Marks that are moved together, so that they share a commit."""

LOOK_EVERY_S = 3.0
PAGE = 100
PAGE_BYTES = 256 << 10
MAX_ASKED = 1000
"""Messages of a thread that wait to be looked at."""

MAX_ANSWERS = 20
"""So many assistants answer one message, whoever else it mentions; each of their answers may ask others again."""

ALONE = 3
"""So many times an assistant speaks up by itself until a person or a device says something."""


class Asking:
    """Looks at messages; owned by the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._asked: dict[str, deque[Message]] = {}  # by thread: what is being looked at, oldest first
        self._at_work: set[str] = set()  # threads whose questions somebody is looking at
        self._considered: dict[tuple[str, str], int] = {}  # (thread, assistant) -> seq no crash has to look at again
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}  # likewise -> up to which seq, how many messages
        self._spoke: dict[tuple[str, str], int] = {}  # likewise -> the last stretch of time it was looked at
        self._marked_at = self._looked_at = time.monotonic()

    async def start(self) -> None:
        """Let the assistants arrive; look at what they have not seen."""
        hub = self._hub
        for name in hub.assistants.by_name:
            await hub.arrive(name, Kind.ASSISTANT)
        for name in hub.assistants.unlisted:
            hub.people.remember(await hub.store.add_member(Member(name=name, kind=Kind.ASSISTANT)))
        for name in list(hub.assistants.by_name):
            for thread, seen in await hub.store.threads_of(name):
                more, at = thread.head > seen, seen
                while more:
                    page = await hub.store.read_after(thread.id, at, PAGE, PAGE_BYTES)
                    for message in page.messages:
                        await self._consider_again(message, name)
                        at = message.seq
                    more = page.more
                if at > seen and thread.id not in self._asked:
                    await hub.store.see(thread.id, name, at)

    async def _consider_again(self, message: Message, name: str) -> None:
        """After a crash: what lies after the assistant's mark."""
        if message.thread not in self._asked:
            try:
                room = await self._hub.room(message.thread)
                await self._consider(room, message, {name: self._hub.assistants.by_name[name]})
                return
            except (Unavailable, StorageFull):
                pass
        self._asked.setdefault(message.thread, deque()).append(message)

    async def stop(self) -> None:
        """What was considered need not be looked at again."""
        await self._move_marks()

    # Messages

    def consider(self, message: Message) -> None:
        """A new message: does an assistant in its thread have to answer? Each is asked about once and in order, as
        beginning a run counts everything before its question as seen."""
        room = self._hub.rooms.get(message.thread)
        if room is None or room.opened_at < message.seq <= room.considered:
            return
        if message.seq > room.considered + 1:
            self._hub.fill(room)  # which brings those before it first
            return
        room.considered = max(room.considered, message.seq)  # one from before is acknowledged again
        if not (room.assistants or triggers.may_mention(message.text)) or GENERATE.name in room.members:
            return  # a context at /generate is a text to go on with, whoever it mentions
        for name in room.assistants:
            self._considered[message.thread, name] = message.seq
        if message.type in ("chat", "command") and (
            room.thread.private or message.reply_to or triggers.may_mention(message.text) or self._counts_in(room)
        ):
            asked = self._asked.setdefault(message.thread, deque())
            if len(asked) < MAX_ASKED:
                asked.append(message)
                self._go_on(message.thread)

    def _counts_in(self, room: Room) -> bool:
        """Does somebody answer there after a number of messages?"""
        known = self._hub.assistants.by_name
        return any(known[name].every for name in room.assistants if name in known)

    def _go_on(self, thread: str) -> None:
        if thread not in self._at_work:
            self._at_work.add(thread)
            self._hub.spawn(self._work_off(thread))

    async def _work_off(self, thread: str) -> None:
        """Look at the questions of a thread in their order. One that cannot be stored now stays the first, and the
        sweep goes on with it: beginning a run marks everything up to its question as seen."""
        asked = self._asked[thread]
        try:
            while asked:
                await self._consider(await self._hub.room(thread), asked[0], dict(self._hub.assistants.by_name))
                asked.popleft()
        except (Unavailable, StorageFull) as failure:
            log.warning("run_not_begun", thread=thread, code=failure.code)
        except NotFound:  # the thread was deleted
            asked.clear()
        except BaseException:
            if asked:
                asked.popleft()  # a bug; the others are not to wait for it for ever
            raise
        finally:
            self._at_work.discard(thread)
            if not asked:
                del self._asked[thread]

    async def _consider(self, room: Room, message: Message, assistants: dict[str, Assistant]) -> None:
        hub = self._hub
        replied_to = None
        if message.reply_to:
            original = await hub.store.message(room.id, seq_of(message.reply_to))
            if original is not None and original.id == message.reply_to:
                replied_to = original.sender
        depth, asker = 0, message.sender
        if message.run is not None and (asked := await hub.store.run(message.run)):
            depth, asker = asked.depth + 1, asked.asked_by or asker
        mentioned = triggers.mentions(message.text) if triggers.may_mention(message.text) else set()
        addressed = {
            name
            for name in assistants
            if triggers.addressed(
                message, name, private=room.thread.private, mentioned=mentioned, replied_to=replied_to, depth=depth
            )
        }
        tried = 0
        for name, assistant in sorted(assistants.items(), key=lambda one: one[0] not in addressed):
            if tried >= MAX_ANSWERS:
                log.warning("too_many_asked", thread=room.id, message=message.id)
                break
            if not access.may(Caller(name), Need.WRITE, room) and (name in room.members or room.thread.private):
                continue  # it may only read there, or is no part of it
            if name not in addressed and not await self._due(room, assistant, message, depth):
                continue
            tried += 1
            try:
                await hub.runs.let_in(room, message.sender, name, message.seq - 1)
                by = asker if name in addressed else _of(assistant)
                await hub.runs.begin(room, name, by, trigger=message.seq, depth=depth)
                if assistant.every:
                    self._counts[room.id, name] = (message.seq, 0)
            except (Unavailable, StorageFull):
                raise
            except Problem as refused:
                log.warning("run_not_begun", thread=room.id, assistant=name, code=refused.code)

    # So many messages

    async def _due(self, room: Room, assistant: Assistant, message: Message, depth: int) -> bool:
        """Has it heard enough to answer by itself? Not while it is writing."""
        if not assistant.every or assistant.name not in room.members or depth >= triggers.MAX_DEPTH:
            return False
        at = (room.id, assistant.name)
        if not triggers.counts(message, assistant.name):
            return False
        if at in self._counts:
            upto, count = self._counts[at]
            count += message.seq > upto
        else:
            count = await self._heard(assistant, message)
        self._counts[at] = (message.seq, count)
        return count >= assistant.every and not self._hub.runs.writing(*at)

    async def _heard(self, assistant: Assistant, message: Message) -> int:
        """Messages of others up to this one since it was last asked; at most as many as it waits for."""
        store, thread, name = self._hub.store, message.thread, assistant.name
        since = await store.last_asked(thread, name) or await store.see(thread, name, 0)
        count, before, more = 0, message.seq + 1, True
        while more and count < assistant.every:
            page = await store.read_before(thread, before, PAGE, PAGE_BYTES)
            for earlier in reversed(page.messages):
                if earlier.seq <= since:
                    return count
                count += triggers.counts(earlier, name)
            more = page.more
            before = page.messages[0].seq if page.messages else 0
        return count

    # So many seconds

    async def _speak_up(self) -> None:
        """Begin the answers nobody asked for, where somebody listens. Every node looks at the same stretches of time,
        and one run is begun in each."""
        hub = self._hub
        for assistant in [one for one in hub.assistants.by_name.values() if one.every_s]:
            stretch = int(hub.clock() / assistant.every_s)
            for room in [room for room in hub.rooms.values() if assistant.name in room.assistants and room.heard]:
                at = (room.id, assistant.name)
                last = self._spoke.setdefault(at, stretch)
                if stretch > last and not hub.runs.writing(*at):
                    self._spoke[at] = stretch
                    try:
                        if await self._is_answered(room, assistant.name):
                            digest = hashlib.sha256(f"{hub.store.epoch} {at} {stretch}".encode()).hexdigest()
                            await hub.runs.begin(room, assistant.name, _of(assistant), id=digest[:22])
                    except (Unavailable, StorageFull):
                        raise
                    except Problem as refused:  # the queue is full; what else the sweep does is not to wait for it
                        log.warning("run_not_begun", thread=room.id, assistant=assistant.name, code=refused.code)

    async def _is_answered(self, room: Room, name: str) -> bool:
        """Has it said fewer than ALONE things since somebody who is no assistant? Two of them would answer each other
        for ever."""
        page = await self._hub.store.read_before(room.id, None, PAGE, PAGE_BYTES)
        own = 0
        for message in reversed(page.messages):
            if message.run is None:
                return True
            own += message.sender == name
            if own >= ALONE:
                return False
        return not page.more

    # Sooner or later

    async def sweep(self) -> None:
        """Go on where the store had failed, speak up, remember how far the assistants have read. Of rooms that are
        closed nothing is kept; the log tells it."""
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            for thread in list(self._asked):
                self._go_on(thread)
        await self._speak_up()
        rooms = self._hub.rooms
        self._spoke = {at: stretch for at, stretch in self._spoke.items() if at[0] in rooms}
        self._counts = {at: count for at, count in self._counts.items() if at[0] in rooms}
        if now - self._marked_at > MARK_EVERY_S:
            self._marked_at = now
            await self._move_marks()

    async def _move_marks(self) -> None:
        """Where the store cannot be used the rest waits for the next time."""
        considered, self._considered = list(self._considered.items()), {}
        for at in range(0, len(considered), MARKS_AT_ONCE):
            some = [self._move_mark(*place, seq) for place, seq in considered[at : at + MARKS_AT_ONCE]]
            if not all(await asyncio.gather(*some)):
                self._considered = dict(considered[at:]) | self._considered
                return

    async def _move_mark(self, thread: str, name: str, seq: int) -> bool:
        """False: the store cannot be used."""
        if asked := self._asked.get(thread):
            self._considered.setdefault((thread, name), seq)
            seq = min(seq, asked[0].seq - 1)
        try:
            await self._hub.store.see(thread, name, seq)
        except (Unavailable, StorageFull):
            return False
        except Problem as failure:
            log.debug("mark_not_moved", thread=thread, code=failure.code)
        return True


def _of(assistant: Assistant) -> str:
    """Whose turn in the queue is taken by what an assistant says of itself."""
    return assistant.owner or assistant.name
