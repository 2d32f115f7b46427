"""The verbs of threads: make, join, leave, add, remove, rename, delete, list.

Whoever joins, leaves, is added or removed becomes a `notification` message of the thread, in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hubbub.core import frames
from hubbub.core.errors import BadRequest, NotFound, Unavailable
from hubbub.core.forms import Shout
from hubbub.core.lines import clean_output
from hubbub.core.nouns import LOBBY, Draft, Membership, Thread, new_id
from hubbub.hub.access import Need
from hubbub.hub.room import Room, bounded

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub


async def create(hub: Hub, name: str, request: frames.ThreadCreate) -> frames.ThreadFrame:
    """A new group of the caller and those they name."""
    hub.people.require_pace(name)
    title = _title(request.title)
    members = [name]
    for wanted in request.members:
        member = (await hub.addressee(wanted)).name
        if member not in members:
            members.append(member)
    room = await hub.open_thread(Thread(id=new_id(), title=title, public=request.public), members)
    return frames.ThreadFrame(thread=room.view(0))


async def join(hub: Hub, name: str, request: frames.ThreadJoin) -> frames.ThreadFrame:
    """Become a member of a public thread."""
    room = await hub.room_for(name, request.thread, Need.JOINABLE)
    return await _enter(hub, room, name, name, "joined", f"{name} joined.")


async def add(hub: Hub, name: str, request: frames.ThreadAdd, seen: int = -1) -> frames.ThreadFrame:
    """Make somebody else a member, who has seen the thread up to `seen` (below 0: all there is)."""
    room = await hub.room_for(name, request.thread)
    member = (await hub.addressee(request.member)).name
    _not_private(room)
    return await _enter(hub, room, name, member, "added", f"{name} added {member}.", seen)


async def _enter(
    hub: Hub, room: Room, by: str, member: str, event: str, text: str, seen: int = -1
) -> frames.ThreadFrame:
    notice = _notice(hub, room, by, member, event, text)
    with _in_doubt(hub, room):
        message = await hub.store.join(Membership(thread=room.id, member=member, seen=seen), notice)
    if message is not None:
        hub.entered(room, member, message.seq - 1)
        hub.posted(message)
        changed(hub, room)
    return frames.ThreadFrame(thread=room.view(await _seen(hub, room, by)))


@contextlib.contextmanager
def _in_doubt(hub: Hub, room: Room) -> Iterator[None]:
    """When the store cannot say whether it was done, the room finds out later who is in it."""
    try:
        yield
    except Unavailable:
        hub.unsure.add(room)
        raise


async def leave(hub: Hub, name: str, request: frames.ThreadLeave) -> frames.ThreadFrame:
    """Stop being a member."""
    room = await hub.room_for(name, request.thread)
    return await _depart(hub, room, name, name, "left", f"{name} left.")


async def remove(hub: Hub, name: str, request: frames.ThreadRemove) -> frames.ThreadFrame:
    """End somebody's membership: nothing newer reaches them."""
    room = await hub.room_for(name, request.thread)
    known = hub.people.known(request.member)
    if known is None or known.name not in room.members:
        raise NotFound(f"'{request.member}' is not in this thread.")
    if room.id == LOBBY and known.name != name:
        raise BadRequest("The lobby is everybody's; nobody is put out of it.")
    return await _depart(hub, room, name, known.name, "removed", f"{name} removed {known.name}.")


async def _depart(hub: Hub, room: Room, by: str, member: str, event: str, text: str) -> frames.ThreadFrame:
    _not_private(room)
    with _in_doubt(hub, room):
        message = await hub.store.leave(room.id, member, _notice(hub, room, by, member, event, text))
    if message is not None:
        hub.departed(room, member)
        hub.posted(message)
        changed(hub, room)
    return frames.ThreadFrame(thread=room.view())


async def rename(hub: Hub, name: str, id: str, title: str | None, public: bool | None) -> frames.ThreadFrame:
    """Change what a thread is called or who may join it."""
    room = await hub.room_for(name, id)
    _not_private(room)
    if id == LOBBY:
        raise BadRequest("The lobby is everybody's; it keeps its title and stays public.")
    title = None if title is None else _title(title)
    room.thread = await hub.store.update_thread(id, title=title, public=public)
    changed(hub, room)
    return frames.ThreadFrame(thread=room.view(await _seen(hub, room, name)))


async def delete(hub: Hub, name: str, id: str) -> None:
    """Remove a thread with everything in it."""
    room = await hub.room_for(name, id)
    if id == LOBBY:
        raise BadRequest("The lobby cannot be deleted.")
    await hub.store.delete_thread(id)
    for session in [session for session in room.sessions() if session.ready]:
        session.tell([Shout(frames.Reset(thread=id, reason="The thread was deleted."))])
    for member in list(room.members):
        hub.departed(room, member)
    hub.close_room(room)


async def listing(hub: Hub, name: str, request: frames.ThreadList) -> frames.Threads:
    """My threads; with `public` also those I could join."""
    mine = await hub.store.threads_of(name)
    views = [(await hub.room(thread.id)).view(seen) for thread, seen in mine]
    if request.public:
        known = {thread.id for thread, _ in mine}
        views += [(await hub.room(t.id)).view() for t in await hub.store.public_threads() if t.id not in known]
    return frames.Threads(threads=bounded(views))


async def get(hub: Hub, name: str, id: str) -> frames.ThreadView:
    """One thread I am in, or could join."""
    room = await hub.room_for(name, id, Need.JOINABLE)
    return room.view(await _seen(hub, room, name))


def changed(hub: Hub, room: Room) -> None:
    """Tell everyone in the thread what it looks like now."""
    hub.publish(room.id, frames.ThreadFrame(thread=room.view()))


async def _seen(hub: Hub, room: Room, name: str) -> int | None:
    return await hub.store.see(room.id, name, 0) if name in room.members else None


def _notice(hub: Hub, room: Room, by: str, member: str, event: str, text: str) -> Draft:
    return Draft(
        thread=room.id,
        sender=by,
        text=text,
        timestamp=hub.stamp(),
        destination=room.id,
        type="notification",
        metadata={"event": event, "member": member},
    )


def _title(text: str) -> str:
    """A title as it is stored. Raises BadRequest: it holds what could make a line look like another."""
    title = text.strip()
    if clean_output(title) != title:
        raise BadRequest("A title is one line without control characters.")
    return title


def _not_private(room: Room) -> None:
    if room.thread.private:
        raise BadRequest("A private thread belongs to its two members; make a group for more.")
