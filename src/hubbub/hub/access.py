"""Who may do what: one function, asked by every verb on every transport, for every request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hubbub.core import frames
from hubbub.core.errors import NotFound, Unauthorized
from hubbub.core.nouns import Role, Scope
from hubbub.hub.room import Room

ALL = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they proved it with."""

    name: str
    scopes: frozenset[Scope] = ALL
    admin: bool = False  # of the whole server
    signed: str = ""  # the id of the signed token that was shown; none for a guest who only gave a name
    token: str = ""  # or of the other kind of token
    generation: int = 0  # of the account the signed one is for; 0 for a guest
    expires: float | None = None  # when, in Unix seconds


class Need(Enum):
    """What somebody must be for what they want to do, and what a token must allow."""

    NOTHING = "nothing", None
    LISTEN = "signed in", Scope.READ
    ACT = "signed in", Scope.WRITE
    ADMIN = "an admin of the server", Scope.ADMIN
    READ = "in the thread", Scope.READ
    JOIN = "in the thread, or anybody when it is public", Scope.READ
    ENTER = "in the thread, or anybody when it is public", Scope.WRITE
    WRITE = "a member or an owner of the thread", Scope.WRITE
    OWN = "an owner of the thread, or an admin when it is public", Scope.WRITE

    def __init__(self, who: str, scope: Scope | None) -> None:
        self.who = who
        self.scope = scope


NEEDS: dict[type[frames.Request], Need] = {
    frames.Hello: Need.NOTHING,
    frames.MessageSend: Need.WRITE,
    frames.ThreadCreate: Need.ACT,
    frames.ThreadJoin: Need.ENTER,
    frames.ThreadLeave: Need.READ,
    frames.ThreadAdd: Need.WRITE,
    frames.ThreadRemove: Need.OWN,
    frames.ThreadRole: Need.OWN,
    frames.ThreadList: Need.LISTEN,
    frames.HistoryGet: Need.READ,
    frames.Check: Need.LISTEN,
    frames.Seen: Need.READ,
    frames.TypingSend: Need.WRITE,
    frames.WhoGet: Need.LISTEN,
    frames.RunStart: Need.WRITE,
    frames.RunCancel: Need.WRITE,
    frames.Ping: Need.NOTHING,
    frames.ByeSend: Need.NOTHING,
}
"""What every request needs. One that is not in here cannot be asked for."""


def may(caller: Caller, need: Need, room: Room | None = None) -> bool:
    """May they do, in this thread or in none, what takes `need`?"""
    if need.scope is not None and need.scope not in caller.scopes:
        return False
    if need is Need.ADMIN:
        return caller.admin
    if room is None:
        return True
    role = room.members.get(caller.name)
    if need is Need.READ:
        return role is not None
    if need is Need.WRITE:
        return role is Role.MEMBER or role is Role.OWNER
    if need is Need.OWN:
        return role is Role.OWNER or (caller.admin and room.thread.public)
    if need is Need.JOIN or need is Need.ENTER:
        return role is not None or room.thread.public
    raise AssertionError(f"{need} is not about a thread")


def require(caller: Caller, need: Need, room: Room | None = None) -> None:
    """Raises Unauthorized when the token does not allow it, else NotFound unless `may`: to whoever cannot even read
    the thread, what is forbidden looks as if it were not there."""
    if may(caller, need, room):
        return
    if need.scope is not None and need.scope not in caller.scopes:
        raise Unauthorized(f"This token does not allow that; it takes one with the scope '{need.scope}'.")
    if room is not None and room.members.get(caller.name) is not None:
        raise NotFound(f"That takes {need.who}.")
    raise NotFound("There is no such thread here." if room is not None else "There is nothing like that here.")
