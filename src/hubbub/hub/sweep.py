"""What has to be noticed sooner or later: silence, slow readers, unused rooms, ends and messages nobody mentioned."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from hubbub.core.errors import Unavailable

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.sweep")

EVERY_S = 1.0
UNUSED_S = 60.0
"""How long a room without readers, or the pace of somebody silent, is kept."""


COMPARE_EVERY_S = 10.0
"""While the bus cannot be used it is every round."""

COMPARE_AT_ONCE = 500
"""Rooms asked about in one query, which takes under a millisecond."""


async def sweep(hub: Hub) -> None:
    """Sweep until cancelled. What goes wrong once is logged, and tried again the next time."""
    compared = time.monotonic()
    while True:
        began = time.monotonic()
        await asyncio.sleep(EVERY_S)
        try:
            late = time.monotonic() - began - EVERY_S
            if late > EVERY_S:
                forgive(hub, late)
            look(hub, time.monotonic())
            await hub.runs.sweep()
            await hub.asking.sweep()
            for room in list(hub.unsure):
                await hub.recheck(room)
            deaf = set(hub.bus.checks().values()) - {"ok"}
            if deaf or time.monotonic() - compared >= COMPARE_EVERY_S:
                compared = time.monotonic()
                await compare_heads(hub, unheard=bool(deaf))
        except Unavailable as failure:  # of the store; it may be back the next time
            log.warning("sweep_interrupted", reason=failure.detail)
        except Exception:
            log.exception("sweep_failed")


def forgive(hub: Hub, late: float) -> None:
    """This process stood still for `late` seconds (stopped, or its machine asleep): nobody else is to blame for them,
    and what people sent meanwhile has not been read yet."""
    hub.waiting_for_hello = {session: deadline + late for session, deadline in hub.waiting_for_hello.items()}
    hub.unfinished = {session: since + late for session, since in hub.unfinished.items()}
    hub.slow = {session: (left, since + late) for session, (left, since) in hub.slow.items()}


def look(hub: Hub, now: float) -> None:
    """One round. `now` in monotonic seconds."""
    for session, deadline in list(hub.waiting_for_hello.items()):
        if now > deadline:
            del hub.waiting_for_hello[session]
            session.refuse_silence()
    for session, (left, since) in list(hub.slow.items()):
        waiting = session.door.unsent()
        if waiting < left:
            hub.slow[session] = (waiting, now)
        elif now - since > hub.limits.slow_s:
            del hub.slow[session]
            hub.counts.slow_closed += 1
            session.end("slow", "You did not read for too long; resume from your cursor.", retry_after=1)
    for session, since in list(hub.unfinished.items()):
        if session.reading_paused:  # it is not the client who keeps the rest back
            hub.unfinished[session] = now
        elif now - since > hub.limits.frame_s:
            del hub.unfinished[session]
            session.end("slow", f"A frame did not arrive whole within {hub.limits.frame_s:g} s.", retry_after=1)
    for room in list(hub.rooms.values()):
        if room.deserted and now - room.touched > UNUSED_S:
            hub.close_room(room)
    hub.people.forget_paces(now - UNUSED_S)
    hub.addresses.forget(now - UNUSED_S)


async def compare_heads(hub: Hub, *, unheard: bool = False) -> None:
    """The bus brings hints: what it lost, and nothing newer has shown to be missing, is found by asking the store. So
    is the end of an answer whose message was told by a reading of the log that then failed.

    Args:
        unheard: also in rooms nobody listens to, as who was removed there may still ask for what is in them.
    """
    rooms = [room for room in hub.rooms.values() if unheard or not room.deserted]
    for at in range(0, len(rooms), COMPARE_AT_ONCE):
        some = rooms[at : at + COMPARE_AT_ONCE]
        heads = await hub.store.heads([room.id for room in some])
        for room in some:
            if room.runs or heads.get(room.id, 0) > room.known:
                hub.fill(room)
        await asyncio.sleep(0)
