"""Who is known to this server, who of them is here now, and how fast they send."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from hubbub.core import names
from hubbub.core.errors import NameTaken, RateLimited
from hubbub.core.nouns import Member
from hubbub.core.pace import Pace
from hubbub.hub.looks import shapes
from hubbub.hub.meter import Counts

if TYPE_CHECKING:
    from hubbub.hub.session import Session

MAX_ALIKE = 2000
"""Names that are compared with a misspelt one; comparing takes about 20 µs each."""


class Rates(Protocol):
    """What of `Limits` is needed here; 0 means no limit."""

    @property
    def send_rate(self) -> float: ...

    @property
    def send_burst(self) -> float: ...

    @property
    def member_connections(self) -> int: ...


@dataclass(slots=True)
class _Here:
    """A member as far as this process knows them."""

    sessions: dict[Session, None] = field(default_factory=dict)
    claims: int = 0  # sessions that hold the name, so that nobody else may use it without its token
    announced: bool = False  # were the others told that they are here?


class Assistants(Container[str], Iterable[str], Protocol):
    """Names that are always here."""


class Elsewhere(Protocol):
    """Who is connected to other nodes."""

    @property
    def online(self) -> Mapping[str, int]: ...

    @property
    def holders(self) -> Mapping[str, int]: ...

    def connected(self, name: str, held: bool | None) -> None:
        """Tell them that somebody is connected here, holding the name or not; None: no more."""


class People:
    """Nothing here waits, and nothing is told to anyone: that is for the hub."""

    def __init__(self, rates: Rates, assistants: Assistants, counts: Counts, others: Elsewhere) -> None:
        self.members: dict[str, Member] = {}  # by key, oldest first
        self._shapes: dict[str, str] = {}  # what a name looks like -> whose it is
        self._rates = rates
        self._counts = counts
        self._others = others
        self._assistants = assistants
        self._here: dict[str, _Here] = {}
        self._paces: dict[str, Pace] = {}  # of whoever sent something lately

    # Known

    def remember(self, member: Member) -> Member:
        self.members[names.key(member.name)] = member
        if member.arrived:
            for shape in shapes(member.name):
                self._shapes.setdefault(shape, member.name)
        return member

    def known(self, name: str) -> Member | None:
        """The member of that name, in any spelling."""
        return self.members.get(names.key(name))

    def hint(self, name: str) -> str:
        """` Did you mean 'Joe'?` when somebody who was here before has a name like that, else nothing."""
        alike = (member.name for member in self.members.values() if abs(len(member.name) - len(name)) <= 2)
        near = names.nearest(name, [one for one in islice(alike, MAX_ALIKE) if self.members[names.key(one)].arrived])
        return f" Did you mean '{near}'?" if near else ""

    def looks_like(self, name: str) -> str | None:
        """Somebody else who was here before and whose name `name` could be taken for."""
        for shape in shapes(name):
            other = self._shapes.get(shape)
            if other is not None and names.key(other) != names.key(name):
                return other
        return None

    def own_shape(self, name: str) -> None:
        """What `name` looks like is this member's from now on, whoever was here before."""
        self._shapes.update(dict.fromkeys(shapes(name), name))

    def require_distinct(self, name: str) -> None:
        """Raises NameTaken: it looks like the name of somebody else who was here before."""
        if other := self.looks_like(name):
            raise NameTaken(f"'{name}' looks too much like '{other}'; choose another name.")

    # Here

    def claim(self, session: Session, name: str) -> None:
        """The session speaks as `name` from now on, and nobody else does without the name's token. Raises RateLimited:
        they have too many connections."""
        here = self._here.get(name)
        if here is None:
            here = self._here[name] = _Here()
        most = self._rates.member_connections
        alike = here.claims if session.claims else len(here.sessions) - here.claims
        if most and alike >= most:  # readers who only name themselves take no place of whoever has the name
            self._counts.rate_limited += 1
            raise RateLimited(f"'{name}' has {most} connections already; close one first.", retry_after=1)
        here.sessions[session] = None
        here.claims += session.claims
        self._others.connected(name, here.claims > 0)

    def claimed(self, name: str) -> bool:
        """Does somebody hold the name?"""
        here = self._here.get(name)
        return (here is not None and here.claims > 0) or name in self._others.holders

    def announce(self, name: str) -> bool:
        """Are the others to be told that they are here? Once, until they are gone."""
        here = self._here.get(name)
        if here is None or here.announced:
            return False
        here.announced = True
        return True

    def release(self, session: Session) -> bool:
        """The session is gone. Are the others to be told that its member is?"""
        here = self._here.get(session.name)
        if here is None or session not in here.sessions:
            return False
        del here.sessions[session]
        here.claims -= session.claims
        if here.sessions:
            self._others.connected(session.name, here.claims > 0)
            return False
        del self._here[session.name]
        self._others.connected(session.name, None)
        return here.announced

    def online(self, name: str) -> bool:
        return name in self._here or name in self._others.online or name in self._assistants

    def connected(self, name: str) -> bool:
        """To this node?"""
        return name in self._here

    def everyone_online(self) -> list[str]:
        elsewhere = (name for name in self._others.online if name not in self._here)
        return [*self._here, *elsewhere, *self._assistants]

    def sessions_of(self, name: str) -> list[Session]:
        here = self._here.get(name)
        return list(here.sessions) if here else []

    # How fast

    def require_pace(self, name: str) -> None:
        """Count one more message of `name`. Raises RateLimited."""
        if not self._rates.send_rate or not self._rates.send_burst:
            return
        now = time.monotonic()
        pace = self._paces.get(name)
        if pace is None:
            pace = self._paces[name] = Pace(self._rates.send_rate, self._rates.send_burst, now)
        wait_s = pace.take(now)
        if wait_s:
            self._counts.rate_limited += 1
            raise RateLimited("You are sending too fast.", retry_after=round(wait_s, 3))

    def forget_paces(self, before: float) -> None:
        """Of those who have sent nothing since."""
        self._paces = {name: pace for name, pace in self._paces.items() if pace.at > before}
