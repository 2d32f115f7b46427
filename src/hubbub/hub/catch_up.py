"""Bringing a listener into step: the log after its cursor first, then the answers so far, then live.

The session entered its rooms before anything is read, so nothing falls between reading and hearing. It pulls a
bounded piece at a time and stops the moment its socket is full; when the socket drains it goes on from its feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hubbub.core import frames
from hubbub.core.errors import NotFound
from hubbub.core.feed import Feed
from hubbub.core.forms import Shout
from hubbub.core.nouns import Message, Run
from hubbub.core.ports import Bus, Store
from hubbub.hub.room import OpenRun, Room

if TYPE_CHECKING:
    from hubbub.hub.session import Session

PIECE_MESSAGES = 100
PIECE_BYTES = 128 << 10
PIECE_TEXT = 32 << 10
"""Longest part of an answer put in one frame for someone who is catching up, in code points."""


async def catch_up(session: Session, store: Store, bus: Bus) -> None:
    """Pull until the session is in step in all its rooms, or its socket is full."""
    feed = session.feed
    assert feed is not None
    # Everything unheard at the start is told before anything live, so no room is joined in the first round.
    for join in (False, True):
        for room in list(session.rooms.values()):
            try:
                await _catch_up_in(session, room, feed, store, bus, join=join)
            except NotFound:  # the thread was deleted
                feed.threads.pop(room.id, None)
                session.rooms.pop(room.id, None)
            if session.stopped:
                return
    if not feed.threads.keys() & session.rooms.keys():  # else its socket was full for a moment, or it entered a room
        session.feed = None


async def _catch_up_in(session: Session, room: Room, feed: Feed, store: Store, bus: Bus, *, join: bool) -> None:
    if not join:
        if feed.threads.get(room.id, room.known) < room.known:
            await _read_log(session, room, feed, store)
        return
    while room.id in feed.threads and room.id in session.rooms:
        room.flush()
        heard = feed.threads[room.id]
        if heard < room.head:
            await _read_log(session, room, feed, store)
        elif heard > room.head:  # the store was ahead of the bus
            await fill(room, store, session.hub.recheck)
        elif _tell_runs(session, room, feed, bus):
            del feed.threads[room.id]
            room.step_in(session)
        if session.stopped:
            return


async def fill(room: Room, store: Store, recheck: Callable[[Room], Awaitable[None]]) -> None:
    """Shout what the store has and the bus has not brought.

    Args:
        recheck: finds out who is in the room now, which the bus has not told either.
    """
    more = True
    while more:
        page = await store.read_after(room.id, room.known, PIECE_MESSAGES, PIECE_BYTES)
        if _who_is_in(room, page.messages):
            await recheck(room)
        for message in page.messages:
            room.shout(frames.MessageFrame(thread=message.thread, seq=message.seq, message=message))
        more = page.more
    for id in list(room.runs):  # an end may have been lost, or have come before its message
        run = await store.run(id)
        if run is not None and run.state.ended:
            room.shout(end_frame(run))
    room.flush()


def _who_is_in(room: Room, messages: list[Message]) -> bool:
    """Is there a notice among them that the room has not heard of? Then whoever came or went has to be known before it
    is told, as nothing newer than a removal is for whoever was removed."""
    return any(message.type == "notification" and message.seq > room.known for message in messages)


async def _read_log(session: Session, room: Room, feed: Feed, store: Store) -> None:
    more = True
    while more:
        await asyncio.sleep(0)  # a store in this process never waits, and one reader's past must not stop the others
        if session.stopped or room.id not in feed.threads:
            return
        page = await store.read_after(room.id, feed.threads[room.id], PIECE_MESSAGES, PIECE_BYTES)
        endings = {message.run: await store.run(message.run) for message in page.messages if message.run in feed.runs}
        if _who_is_in(room, page.messages):
            await session.hub.recheck(room)
        if session.stopped or room.id not in feed.threads:
            return
        shouts: list[Shout] = []
        for message in page.messages:
            if message.run in room.runs:
                room.runs[message.run].over = True
            ending = endings.get(message.run) if message.run in feed.runs else None
            if ending:
                shouts += [Shout(rest, message.seq - 1) for rest in _rest(message, ending, feed)]
            shouts.append(
                Shout(
                    frames.MessageFrame(thread=message.thread, seq=message.seq, message=message, stored=True),
                    message.seq,
                )
            )
            if ending:
                shouts.append(Shout(end_frame(ending), message.seq))
            elif message.run in room.ends:
                shouts.append(Shout(room.ends[message.run], message.seq))
        if page.messages:
            feed.threads[room.id] = page.messages[-1].seq
            session.tell(shouts)
        more = page.more


def _rest(message: Message, run: Run, feed: Feed) -> list[frames.RunDelta]:
    """What a reader who knew the beginning of this answer still has to be told of it."""
    piece = feed.piece(run.id, run.attempt, 0, message.text)
    del feed.runs[run.id]
    return _deltas(run.thread, run.id, run, *piece) if piece else []


def end_frame(run: Run) -> frames.RunFrame:
    """How a run that has ended is announced."""
    assert run.message is not None
    assert run.seq is not None
    common = {
        "run": run.id,
        "thread": run.thread,
        "assistant": run.assistant,
        "attempt": run.attempt,
        "message": run.message,
        "seq": run.seq,
    }
    if run.state == "failed":
        return frames.RunFailed(**common, error=run.error or "The answer failed.")  # type: ignore[arg-type]
    return frames.ENDS[run.state](**common)  # type: ignore[arg-type]


def _tell_runs(session: Session, room: Room, feed: Feed, bus: Bus) -> bool:
    """Bring the session level with every answer being written here. False when its socket filled up meanwhile."""
    for id in [id for id in feed.runs if id in room.ends]:  # it ended after its message was told
        session.tell([Shout(room.ends[id], room.head)])
        del feed.runs[id]
    if session.stopped:
        return False
    for id, run in room.runs.items():
        if feed.runs.get(id, (run.attempt, 0))[0] < run.attempt:
            reset = frames.RunReset(run=id, thread=room.id, assistant=run.assistant, attempt=run.attempt)
            session.tell([Shout(reset, room.head)])
            feed.runs[id] = (run.attempt, 0)
        progress = bus.so_far(id)
        if progress is None and run.told > feed.runs.get(id, (0, 0))[1]:
            run.over = True  # the bus has forgotten it: it has ended, and its message is on its way
        if run.over or progress is None or progress.attempt != run.attempt:
            continue
        text = progress.text[: run.told]
        while piece := feed.piece(id, run.attempt, 0, text[: feed.runs.get(id, (0, 0))[1] + PIECE_TEXT]):
            session.tell([Shout(delta, room.head) for delta in _deltas(room.id, id, run, *piece)])
            if session.stopped:
                return False
    for id in room.runs:
        feed.runs.pop(id, None)
    return True


def _deltas(thread: str, id: str, run: OpenRun | Run, offset: int, text: str) -> list[frames.RunDelta]:
    return [
        frames.RunDelta(
            run=id,
            thread=thread,
            assistant=run.assistant,
            attempt=run.attempt,
            offset=offset + at,
            text=text[at : at + PIECE_TEXT],
        )
        for at in range(0, len(text), PIECE_TEXT)
    ]
