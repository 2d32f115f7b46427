"""The callers of the matrix on a running server, and threads in which each of them is what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from hubbub.core import frames
from hubbub.core.nouns import Role, Scope, Thread, new_id
from hubbub.hub import threads
from hubbub.hub.access import Caller
from hubbub.hub.conversing import open_between, visitor_of
from support.server import House, fresh
from tests.attack.people import member, opaque


@dataclass
class One:
    """A caller: `token` is what they show, if anything; guests only say their name."""

    letter: str
    name: str
    token: str | None = None


@dataclass
class Cast:
    house: House
    owner: str
    other: str
    callers: dict[str, One] = field(default_factory=dict)

    @classmethod
    async def of(cls, house: House) -> Cast:
        owner, _ = await member(house)
        other, _ = await member(house)
        cast = cls(house, owner, other)
        for letter in "rmoax":
            name, token = await member(house, admin=letter == "a")
            cast.callers[letter] = One(letter, name, token)
        for letter, scope in (("R", Scope.READ), ("W", Scope.WRITE), ("v", Scope.READ)):
            name, _ = await member(house)
            id, secret = await opaque(house, name, [scope] if letter != "v" else list(Scope))
            if letter == "v":
                await house.app.hub.store.accounts.revoke_token(id)
                await house.app.hub.gate.refresh()
            cast.callers[letter] = One(letter, name, secret)
        cast.callers["g"] = One("g", fresh("guest"))
        await house.app.hub.arrive(cast.callers["g"].name)
        cast.callers["n"] = One("n", "visitor")
        return cast

    async def thread(self, caller: One, *, public: bool) -> str:
        """A new thread in which the caller is what their letter says; `other` is a member."""
        hub = self.house.app.hub
        inside = caller.letter in "rmoxRWv"
        people = [self.owner, self.other, *([caller.name] if inside else [])]
        room = await hub.open_thread(Thread(id=new_id(), title=fresh("t"), public=public), people)
        by = Caller(self.owner)
        if caller.letter == "x":
            await threads.remove(hub, by, frames.ThreadRemove(thread=room.id, member=caller.name))
        role = {"r": Role.READER, "o": Role.OWNER, "R": Role.OWNER, "W": Role.OWNER, "v": Role.OWNER}.get(caller.letter)
        if role:
            await threads.set_role(hub, by, frames.ThreadRole(thread=room.id, member=caller.name, role=role))
        return room.id

    async def run(self, thread: str) -> str:
        """An answer in that thread."""
        hub = self.house.app.hub
        reply = await hub.runs.start_by(Caller(self.owner), frames.RunStart(thread=thread, assistant="openai"))
        return reply.run.id

    async def conversation(self, one: One) -> str:
        """A conversation with the assistant, begun by them."""
        id = str(uuid4())
        name = visitor_of(id) if one.letter == "n" else one.name
        await open_between(self.house.app.hub, Caller(name), "openai", id)
        return id
