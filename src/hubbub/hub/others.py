"""The other nodes: who is connected to them, and what this one remembers that they have changed.

Whatever is remembered here can be read from the store again, so what is heard only says when to. Who is connected is
kept nowhere: every node says every two seconds how many it has, with a digest of their names, and whoever finds that it
knows others asks for all of them. A node that has said nothing for eight seconds counts as gone, and who was connected
to it with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from hubbub.core import news
from hubbub.core.errors import NotFound, Problem
from hubbub.core.nouns import LOBBY, new_id
from hubbub.hub.sweep import compare_heads

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub
    from hubbub.hub.room import Room

log = structlog.get_logger("hubbub.others")

ALIVE_EVERY_S = 2.0
SILENT_S = 8.0
COMPARE_EVERY_S = 30.0
"""How often it is looked for what nobody has told, in the rooms that are open; and at once after the bus was away."""

EVERYBODY_EVERY_S = 600.0
"""How often all members are read again: there may be very many, and one who is not known is asked for."""

NAMES_AT_ONCE = 2000


class _Node:
    """One of the others, as far as it was heard."""

    def __init__(self) -> None:
        self.names: dict[str, bool] = {}
        self.digest = 0
        self.heard_at = 0.0
        self.asked_at = 0.0


class Others:
    """Owned by the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.node = new_id()[:12]
        self._mine: dict[str, bool] = {}  # who is connected here, and is the name held
        self._digest = 0
        self._nodes: dict[str, _Node] = {}
        self.online: Counter[str] = Counter()  # name -> to how many other nodes they are connected
        self.holders: Counter[str] = Counter()  # likewise, holding the name
        self._compared_at = self._read_at = time.monotonic()
        self._missed = False  # something, since the last comparing began
        self._comparing = False
        self._gone = False  # it has said so

    @property
    def names(self) -> list[str]:
        """Who is connected elsewhere."""
        return list(self.online)

    @property
    def there(self) -> bool:
        """Has another node been heard lately?"""
        return bool(self._nodes)

    def tell(self, said: news.AnyNews) -> None:
        if not self._gone:  # whoever heard of this node again would take it for one that is there
            self._hub.bus.tell(said)

    async def live(self) -> None:
        """Say every so often that this node is there, and notice who is not; have it looked for what nobody told."""
        while not self._hub.bus.alone:
            self.tell(news.Alive(node=self.node, count=len(self._mine), digest=self._digest))
            now = time.monotonic()
            for id in [id for id, node in self._nodes.items() if now - node.heard_at > SILENT_S]:
                log.warning("node_silent", node=id, connected=len(self._nodes[id].names))
                self._left(id)
            if now - self._compared_at > COMPARE_EVERY_S:
                self._begin_to_compare()
            await asyncio.sleep(ALIVE_EVERY_S)

    def stop(self) -> None:
        self.tell(news.Leaving(node=self.node))
        self._gone = True

    # Saying

    def connected(self, name: str, held: bool | None) -> None:
        """Somebody is connected here, holding the name or not; None: no more."""
        if self._hub.bus.alone or self._mine.get(name) is held:
            return
        self._digest ^= _put(self._mine, name, held)
        self.tell(news.Here(node=self.node, names={name: held}))

    def entered(self, room: Room, names: list[str], *, gone: bool = False) -> None:
        self.tell(news.Entered(node=self.node, thread=room.id, names=names, gone=gone))

    # Hearing

    def heed(self, said: news.AnyNews) -> None:
        """What another node said."""
        if said.node == self.node:
            return
        hub = self._hub
        match said:
            case news.Alive():
                self._alive(said)
            case news.Here():
                self._here(said)
            case news.Who(asked=asked) if asked == self.node:
                self._tell_all()
            case news.Leaving():
                self._left(said.node)
            case news.Known(member=member):
                hub.people.remember(member)
                if member.arrived and (lobby := hub.rooms.get(LOBBY)) and member.name not in lobby.members:
                    hub.entered(lobby, member.name)
                    if member.name in self.online:  # which was heard before anybody shared a thread with them
                        hub.presence(member.name, True)
            case news.Entered(thread=thread, names=names, gone=gone):
                if gone and (room := hub.rooms.get(thread)):  # at once: the next event is not for them
                    for name in [name for name in names if name in room.members]:
                        hub.departed(room, name)
                if thread in hub.rooms or any(hub.people.sessions_of(name) for name in names):
                    hub.spawn(self._look_at(thread))
            case news.Renamed(thread=thread) if thread in hub.rooms:
                hub.spawn(self._read_again(hub.rooms[thread]))
            case news.Gone(thread=thread) if thread in hub.rooms:
                hub.thread_gone(hub.rooms[thread])
            case news.Assistants():
                hub.spawn(hub.assistants.learn())

    def missed(self) -> None:
        """Some of it may have got lost. Messages are looked for at once, all else after what is being compared."""
        self._hub.spawn(compare_heads(self._hub))
        self._missed = True
        self._begin_to_compare()

    def _begin_to_compare(self) -> None:
        if not self._comparing:
            self._comparing = True
            self._hub.spawn(self._compare_all())

    async def _compare_all(self) -> None:
        """It may take longer than a node may be silent. Where the store cannot be used it is tried again soon."""
        try:
            again = True
            while again:
                if self._missed:
                    self._missed = False
                    self._read_at = float("-inf")
                await self.compare()
                again = self._missed
        except Problem as failure:
            log.warning("not_compared", reason=failure.detail)
            self._compared_at = float("-inf")
        finally:
            self._comparing = False

    async def _look_at(self, thread: str) -> None:
        """Believe the store about who is in it."""
        with contextlib.suppress(NotFound):
            await self._hub.recheck(await self._hub.room(thread))

    async def _read_again(self, room: Room) -> None:
        thread = await self._hub.store.thread(room.id)
        if thread is not None:
            room.thread = thread

    async def compare(self) -> None:
        """Look for whatever was not told, or not heard."""
        hub = self._hub
        if (now := time.monotonic()) - self._read_at > EVERYBODY_EVERY_S:
            for member in await hub.store.members():
                hub.people.remember(member)
            self._read_at = now
        await hub.assistants.learn()
        for room in list(hub.rooms.values()):
            thread = await hub.store.thread(room.id)
            if thread is None:
                hub.thread_gone(room)
                continue
            room.thread = thread
            await hub.recheck(room)
            await asyncio.sleep(0)
        for name in list(self._mine):
            heard = {id for session in hub.people.sessions_of(name) for id in session.rooms}
            for thread, _ in await hub.store.threads_of(name):
                if thread.id not in heard:
                    await self._look_at(thread.id)
        self._compared_at = time.monotonic()

    # Who is connected where

    def _alive(self, said: news.Alive) -> None:
        node = self._node(said.node)
        now = time.monotonic()
        if (len(node.names), node.digest) != (said.count, said.digest) and now - node.asked_at > ALIVE_EVERY_S / 2:
            node.asked_at = now
            self.tell(news.Who(node=self.node, asked=said.node))

    def _tell_all(self) -> None:
        names = list(self._mine.items())
        for at in range(0, max(1, len(names)), NAMES_AT_ONCE):
            some = dict(names[at : at + NAMES_AT_ONCE])
            self.tell(news.Here(node=self.node, names={**some}, first=at == 0))

    def _here(self, said: news.Here) -> None:
        node = self._node(said.node)
        changes = dict(said.names)
        if said.first:
            changes |= dict.fromkeys(node.names.keys() - said.names.keys())
        self._change(node, changes)

    def _left(self, id: str) -> None:
        node = self._nodes.get(id)
        if node is not None:
            self._change(node, dict.fromkeys(node.names))
            del self._nodes[id]

    def _node(self, id: str) -> _Node:
        node = self._nodes.get(id)
        if node is None:
            node = self._nodes[id] = _Node()
            log.info("node_heard", node=id)
        node.heard_at = time.monotonic()
        return node

    def _change(self, node: _Node, changes: dict[str, bool | None]) -> None:
        for name, held in changes.items():
            before = node.names.get(name)
            if before is held:
                continue
            node.digest ^= _put(node.names, name, held)
            self.holders[name] += (held is True) - (before is True)
            self.online[name] += (held is not None) - (before is not None)
            was_here = self.online[name] - (held is not None) + (before is not None) > 0
            for counter in (self.holders, self.online):
                if not counter[name]:
                    del counter[name]
            is_here = name in self.online
            if was_here is not is_here and not self._hub.people.connected(name):
                self._hub.presence(name, is_here)


def _put(names: dict[str, bool], name: str, held: bool | None) -> int:
    """Write it down; by what the digest changes."""
    change = 0
    if name in names:
        change ^= _digest(name, names.pop(name))
    if held is not None:
        names[name] = held
        change ^= _digest(name, held)
    return change


def _digest(name: str, held: bool) -> int:
    return int.from_bytes(hashlib.blake2b(f"{held:d}{name}".encode(), digest_size=6).digest(), "big")
