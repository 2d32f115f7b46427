"""The verbs of messages: send, read, check what is new, move the cursor, say that one is typing."""

from __future__ import annotations

import time
from asyncio import Future
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from hubbub.core import frames, wire
from hubbub.core.errors import BadRequest, NotFound, StorageFull, TooLarge, Unavailable
from hubbub.core.framing import MAX_FRAME_BYTES
from hubbub.core.nouns import Draft, Message, MessageType, Thread, new_id, seq_of
from hubbub.hub import access
from hubbub.hub.access import Caller, Need
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

CHECK_PAGE = 100
_TYPES = frozenset(MessageType)


def open_room(hub: Hub, caller: Caller, request: frames.MessageSend) -> Room | None:
    """Where a message goes, if that is known without waiting; else `send` finds it, or says what is wrong."""
    if request.thread is not None:
        return hub.rooms.get(request.thread) if request.to is None else None
    return hub.private_room(caller.name, request.to) if request.to is not None else None


async def send(hub: Hub, caller: Caller, request: frames.MessageSend) -> frames.Ack:
    """Post and acknowledge. Raises the Problem for what is wrong with the request."""
    room = await _room(hub, caller, request)
    return ack(hub, await post(hub, room, caller, request))


async def _room(hub: Hub, caller: Caller, request: frames.MessageSend) -> Room:
    access.require(caller, Need.ACT)
    name = caller.name
    if (request.thread is None) == (request.to is None):
        raise BadRequest("A message goes either to a 'thread' (its id) or 'to' a member (a name); give one of them.")
    if request.thread is not None:
        return await hub.room_for(caller, request.thread, Need.WRITE)
    assert request.to is not None
    _check(hub, request)
    addressee = await hub.addressee(request.to)
    if addressee.name == name:
        raise BadRequest("A message to oneself goes nowhere; write to somebody else.")
    thread = await hub.store.private_thread(name, addressee.name)
    if thread is not None:
        return await hub.room(thread.id)
    return await hub.open_thread(Thread(id=new_id(), private=True), [name, addressee.name])


def _check(hub: Hub, request: frames.MessageSend) -> None:
    text = request.text
    size = len(text) if text.isascii() else len(text.encode())
    if not size:
        raise BadRequest("The text is empty; a message has at least one character.")
    if size > hub.limits.text_bytes:
        raise TooLarge(f"The text has {size} bytes of UTF-8; the limit is {hub.limits.text_bytes}.")
    if request.message_type not in _TYPES:
        raise BadRequest(f"'message_type' is one of {', '.join(MessageType)}, not {request.message_type[:32]!r}.")
    if request.metadata:
        size = len(wire.encode_value(request.metadata))
        if size > frames.MAX_METADATA_BYTES:
            raise TooLarge(f"The metadata has {size} bytes; the limit is {frames.MAX_METADATA_BYTES}.")


def post(hub: Hub, room: Room, caller: Caller, request: frames.MessageSend) -> Future[Message]:
    """Post to an open room. Messages are numbered in the order of the calls; the future is done once it is on disk.
    Raises the Problem for what is wrong with the request."""
    access.require(caller, Need.WRITE, room)
    room.touched = time.monotonic()
    _check(hub, request)
    if request.reply_to is not None and not 0 < seq_of(request.reply_to) <= room.known:
        raise BadRequest("'reply_to' is the id of a message in the same thread.")
    draft = Draft(
        thread=room.id,
        sender=caller.name,
        text=request.text,
        timestamp=hub.stamp(),
        destination=room.destination(caller.name),
        type=request.message_type,
        metadata=request.metadata,
        reply_to=request.reply_to,
        key=request.key,
    )
    posted = hub.store.append(draft, Need.WRITE.roles)
    posted.add_done_callback(partial(_committed, hub))
    return posted


def _committed(hub: Hub, posted: Future[Message]) -> None:
    if not posted.cancelled() and posted.exception() is None:
        hub.counts.messages += 1
        hub.posted(posted.result())


def ack(hub: Hub, message: Message, id: str | int | None = None) -> frames.Ack:
    """Say that a message is on disk, and who of the others is away."""
    room = hub.rooms.get(message.thread)
    delivery, offline, count = room.delivery(message.sender) if room else ("stored", [], 0)
    hint: str | UnsetType = UNSET
    if (
        message.seq == 1
        and message.destination != message.thread
        and (other := hub.people.known(message.destination))
        and not other.arrived
    ):
        hint = hub.people.hint(other.name).strip() or UNSET
    return frames.Ack(
        thread=message.thread,
        seq=message.seq,
        message=message.id,
        timestamp=message.timestamp,
        delivery=delivery,
        offline=offline,
        offline_count=count,
        hint=hint,
        id=UNSET if id is None else id,
    )


async def history(hub: Hub, caller: Caller, request: frames.HistoryGet) -> frames.History:
    """A stretch of a thread's log, ascending."""
    if request.after is not None and request.before is not None:
        raise BadRequest("Give 'after' or 'before', not both.")
    room = await hub.room_for(caller, request.thread, Need.READ)
    if request.after is not None:
        page = await hub.store.read_after(room.id, request.after, request.limit, frames.MAX_HISTORY_BYTES)
    else:
        page = await hub.store.read_before(room.id, request.before, request.limit, frames.MAX_HISTORY_BYTES)
    await hub.room_for(caller, room.id, Need.READ)  # still, as the store may have taken its time
    reply = frames.History(thread=room.id, messages=page.messages, more=page.more)
    while len(reply.messages) > 1 and len(wire.encode(reply)) > MAX_FRAME_BYTES:  # escapes can take six bytes each
        half = len(reply.messages) // 2
        kept = reply.messages[:half] if request.after is not None else reply.messages[half:]
        reply = replace(reply, messages=kept, more=True)
    return reply


async def _still_in(hub: Hub, caller: Caller, thread: str) -> bool:
    """Are they in the thread now, whatever the store said before it was read?"""
    try:
        await hub.room_for(caller, thread, Need.READ)
    except NotFound:
        return False
    return True


async def unseen(hub: Hub, caller: Caller) -> AsyncIterator[list[Message]]:
    """What others wrote after the member's cursors, a page at a time; a page's cursor has moved once the next one
    is asked for."""
    access.require(caller, Need.LISTEN)
    name = caller.name
    for thread, seen in await hub.store.threads_of(name):
        at, more = seen, thread.head > seen
        while more:
            page = await hub.store.read_after(thread.id, at, CHECK_PAGE, frames.MAX_HISTORY_BYTES)
            if not await _still_in(hub, caller, thread.id):
                break
            others = [message for message in page.messages if message.sender != name]
            if others:
                yield others
            if page.messages:
                at = page.messages[-1].seq
                try:
                    await hub.store.see(thread.id, name, at)
                except (StorageFull, Unavailable):
                    pass  # reading goes on; they are told again the next time
                except NotFound:  # they were removed from it meanwhile
                    break
            more = page.more


async def peek(hub: Hub, caller: Caller, limit: int) -> dict[str, Any]:
    """The first `limit` messages of others after the member's cursors, without moving them."""
    access.require(caller, Need.LISTEN)
    name = caller.name
    found: list[Message] = []
    for thread, seen in await hub.store.threads_of(name):
        at, more = seen, thread.head > seen
        while more and len(found) <= limit:
            page = await hub.store.read_after(thread.id, at, CHECK_PAGE, frames.MAX_HISTORY_BYTES)
            if not await _still_in(hub, caller, thread.id):
                break
            found += [message for message in page.messages if message.sender != name]
            at, more = page.messages[-1].seq if page.messages else at, page.more
    return {"messages": found[:limit], "more": len(found) > limit}


async def seen(hub: Hub, caller: Caller, request: frames.Seen) -> frames.Ok:
    """Move the member's cursor forward."""
    room = await hub.room_for(caller, request.thread, Need.READ)
    await hub.store.see(room.id, caller.name, request.seq)
    return frames.Ok()


async def typing(hub: Hub, caller: Caller, request: frames.TypingSend) -> frames.Ok:
    """Tell everyone in the thread that something is being written. Not kept."""
    hub.people.require_pace(caller.name)
    room = await hub.room_for(caller, request.thread, Need.WRITE)
    hub.publish(room.id, frames.Typing(thread=room.id, user=caller.name))
    return frames.Ok()
