"""What nodes tell each other beside events: who is where, and what each of them remembers that has changed.

A hint like an event, it may be lost or come twice; each node finds out by itself, later, what it was not told.
"""

from __future__ import annotations

import msgspec

from hubbub.core.nouns import Member


class News(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="news"):
    """Said by `node`."""

    node: str


class Entered(News, frozen=True, kw_only=True, tag="entered"):
    """These became members of a thread, left it, or may do something else there; those who are `gone` left it."""

    thread: str
    names: list[str]
    gone: bool = False


class Renamed(News, frozen=True, kw_only=True, tag="renamed"):
    """A thread is called something else, or was opened or closed to the public."""

    thread: str


class Gone(News, frozen=True, kw_only=True, tag="gone"):
    """A thread was deleted."""

    thread: str


class Known(News, frozen=True, kw_only=True, tag="known"):
    """Somebody is here for the first time; since when they are in the lobby, if they have arrived."""

    member: Member


class Assistants(News, frozen=True, kw_only=True, tag="assistants"):
    """Some were made, changed or deleted."""


class Alive(News, frozen=True, kw_only=True, tag="alive"):
    """Said every two seconds: so many are connected there, and a digest of who."""

    count: int
    digest: int


class Who(News, frozen=True, kw_only=True, tag="who"):
    """Who is connected to `asked`?"""

    asked: str


class Here(News, frozen=True, kw_only=True, tag="here"):
    """These are connected, with whether somebody holds the name (so that nobody else may use it); None: no more.
    `first`: and nobody else is, but for those that follow."""

    names: dict[str, bool | None]
    first: bool = False


class Leaving(News, frozen=True, kw_only=True, tag="leaving"):
    """The node stops."""


AnyNews = Entered | Renamed | Gone | Known | Assistants | Alive | Who | Here | Leaving
