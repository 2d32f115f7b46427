"""Who may do what: one function, asked by every verb on every transport."""

from __future__ import annotations

from enum import Enum

from hubbub.core.errors import NotFound
from hubbub.hub.room import Room


class Need(Enum):
    """What somebody must be to a thread for what they want to do there."""

    MEMBER = "a member"
    JOINABLE = "a member, or anyone when the thread is public"


def may(name: str, room: Room, need: Need = Need.MEMBER) -> bool:
    """May `name` do in this thread what takes `need`?"""
    return name in room.members or (need is Need.JOINABLE and room.thread.public)


def require(name: str, room: Room, need: Need = Need.MEMBER) -> None:
    """Raises NotFound unless `may`: what is forbidden looks as if it were not there."""
    if not may(name, room, need):
        raise NotFound("There is no such thread here.")
