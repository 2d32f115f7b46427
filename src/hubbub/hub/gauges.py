"""How things stand in the hub now, as numbers; looked at when somebody asks, so that nobody has to keep them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hubbub.hub.meter import Gauge

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

DOORS = ("websocket", "tcp", "lines", "sse", "lobby")


def gauges(hub: Hub) -> Iterator[Gauge]:
    """Takes a millisecond for ten thousand connections."""
    doors = Counter(dict.fromkeys(DOORS, 0))
    doors.update(session.door.kind for session in hub.sessions)
    for door, count in doors.items():
        yield Gauge("connections", "Connections that are let in", count, {"door": door})
    yield Gauge("connections_new", "Connections that have not said who they are", len(hub.waiting_for_hello))
    yield Gauge("connections_slow", "Connections whose socket is full", len(hub.slow))
    yield Gauge("rooms_open", "Threads somebody hears or has used lately", len(hub.rooms))
    yield Gauge("members", "Members and assistants ever seen", len(hub.people.members), adds=False)
    yield Gauge("stopping", "1 while this process lets everybody go", float(hub.stopping), adds=False)
    for (engine, state), count in hub.runs.standing().items():
        labels = {"engine": engine, "state": state}
        yield Gauge("runs_open", "Answers that wait in the queue or are being written", count, labels)
    yield Gauge("runs_unstored", "Answers whose end could not be stored yet", hub.runs.unstored)
