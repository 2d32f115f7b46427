"""Who may do what: one function, asked by every verb on every transport, for every request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hubbub.core import frames
from hubbub.core.errors import NotFound, Unauthorized
from hubbub.core.nouns import Role, Scope
from hubbub.hub.room import Room

ALL = frozenset(Scope)

VISITOR = "visitor"
"""Who acts when a request names nobody and guests are allowed: everybody at once, so the name is nobody's."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they proved it with."""

    name: str
    scopes: frozenset[Scope] = ALL
    admin: bool = False  # of the whole server
    sign_in: str = ""  # what all signed tokens that come of one sign-in have in common
    token: str = ""  # or the id of the other kind of token
    by_cookie: bool = False  # their browser keeps what they came in with, out of the reach of any script
    generation: int = 0  # of the account the signed one is for; 0 for a guest
    expires: float | None = None  # when, in Unix seconds


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """What somebody must be for what they want to do, and what a token must allow.

    Not an Enum: its members take a tenth of a microsecond to get at, and this is asked for every message.
    """

    who: str
    scope: Scope | None  # None: also a token that allows nothing
    roles: frozenset[Role] | None = None  # None: it is not about a thread
    anybody: bool = False  # in a public thread, or where no thread is concerned
    admin: bool = False  # an admin, likewise

    NOTHING: ClassVar[Need]
    LISTEN: ClassVar[Need]
    ACT: ClassVar[Need]
    ADMIN: ClassVar[Need]
    READ: ClassVar[Need]
    LEAVE: ClassVar[Need]
    JOIN: ClassVar[Need]
    ENTER: ClassVar[Need]
    WRITE: ClassVar[Need]
    OWN: ClassVar[Need]


Need.NOTHING = Need("nothing", None, anybody=True)
Need.LISTEN = Need("somebody signed in", Scope.READ, anybody=True)
Need.ACT = Need("somebody signed in", Scope.WRITE, anybody=True)
Need.ADMIN = Need("an admin of the server", Scope.ADMIN, admin=True)
Need.READ = Need("somebody in the thread", Scope.READ, frozenset(Role))
Need.LEAVE = Need("somebody in the thread", Scope.WRITE, frozenset(Role))
Need.JOIN = Need("somebody in the thread, or a public one", Scope.READ, frozenset(Role), anybody=True)
Need.ENTER = Need("somebody in the thread, or a public one", Scope.WRITE, frozenset(Role), anybody=True)
Need.WRITE = Need("a member or an owner of the thread", Scope.WRITE, frozenset({Role.MEMBER, Role.OWNER}))
Need.OWN = Need("an owner of the thread", Scope.WRITE, frozenset({Role.OWNER}), admin=True)

NEEDS: dict[type[frames.Request], Need] = {
    frames.Hello: Need.NOTHING,
    frames.Register: Need.ACT,
    frames.MessageSend: Need.WRITE,
    frames.ThreadCreate: Need.ACT,
    frames.ThreadJoin: Need.ENTER,
    frames.ThreadLeave: Need.LEAVE,
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
    if need.roles is not None:
        if room is None or room.members.get(caller.name) in need.roles:
            return True
        if not room.thread.public:
            return False
    return need.anybody or (need.admin and caller.admin)


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


def owns(caller: Caller, owner: str) -> bool:
    """May they change what `owner` made? An admin may; what came with the server (owner "") is theirs alone."""
    return Need.ACT.scope in caller.scopes and (caller.admin or (owner != "" and caller.name == owner))


def require_owner(caller: Caller, owner: str) -> None:
    """Raises Unauthorized when the token does not allow it, else NotFound unless they own it."""
    require(caller, Need.ACT)
    if not owns(caller, owner):
        raise NotFound("That takes whoever made it, or an admin of the server.")
