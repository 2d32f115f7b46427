"""The verbs of threads: make, join, leave, add, remove, rename, delete, list.

Whoever joins, leaves, is added or removed becomes a `notification` message of the thread, in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hubbub.core import frames, news
from hubbub.core.errors import BadRequest, NotFound, Unavailable
from hubbub.core.lines import clean_output
from hubbub.core.nouns import LOBBY, Draft, Membership, Role, Thread, new_id
from hubbub.core.ports import Asker
from hubbub.hub import access
from hubbub.hub.access import Caller, Need
from hubbub.hub.room import Room, bounded

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub


async def create(hub: Hub, caller: Caller, request: frames.ThreadCreate) -> frames.ThreadFrame:
    """A new group of the caller, who owns it, and those they name."""
    access.require(caller, Need.ACT)
    name = caller.name
    hub.people.require_pace(name)
    title = _title(request.title)
    members = [name]
    for wanted in request.members:
        member = (await hub.addressee(wanted)).name
        if member not in members:
            members.append(member)
    room = await hub.open_thread(Thread(id=new_id(), title=title, public=request.public), members)
    return frames.ThreadFrame(thread=room.view(0))


async def join(hub: Hub, caller: Caller, request: frames.ThreadJoin) -> frames.ThreadFrame:
    """Become a member of a public thread."""
    hub.people.require_pace(caller.name)
    room = await hub.room_for(caller, request.thread, Need.ENTER)
    notice = _notice(hub, room, caller.name, caller.name, "joined", f"{caller.name} joined.")
    return await _enter(hub, room, caller.name, Membership(thread=room.id, member=caller.name, seen=-1), notice)


async def add(hub: Hub, caller: Caller, request: frames.ThreadAdd, seen: int = -1) -> frames.ThreadFrame:
    """Make somebody else a member, who has seen the thread up to `seen` (below 0: all there is)."""
    room = await hub.room_for(caller, request.thread, Need.WRITE)
    _not_private(room)
    member = (await hub.addressee(request.member)).name
    if member in hub.assistants.unlisted:
        raise NotFound(f"'{member}' joins no thread.")
    notice = _notice(hub, room, caller.name, member, "added", f"{caller.name} added {member}.")
    entering = Membership(thread=room.id, member=member, seen=seen)
    return await _enter(hub, room, caller.name, entering, notice, _asker(caller, Need.WRITE))


async def _enter(
    hub: Hub, room: Room, by: str, entering: Membership, notice: Draft, asker: Asker | None = None
) -> frames.ThreadFrame:
    with _in_doubt(hub, room):
        message = await hub.store.join(entering, notice, asker)
    if message is not None:
        role = await hub.store.role(room.id, entering.member)  # readers stay readers
        if role is not None:
            hub.entered(room, entering.member, message.seq - 1, role)
        hub.others.entered(room, [entering.member])
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


async def leave(hub: Hub, caller: Caller, request: frames.ThreadLeave) -> frames.ThreadFrame:
    """Stop being a member. When nobody owns the thread then, one of the others does."""
    room = await hub.room_for(caller, request.thread, Need.LEAVE)
    notice = _notice(hub, room, caller.name, caller.name, "left", f"{caller.name} left.")
    return await _depart(hub, room, caller.name, notice)


async def remove(hub: Hub, caller: Caller, request: frames.ThreadRemove) -> frames.ThreadFrame:
    """End somebody's membership: nothing newer reaches them. Oneself anybody may."""
    known = hub.people.known(request.member)
    if known is not None and known.name == caller.name:
        return await leave(hub, caller, frames.ThreadLeave(thread=request.thread))
    room = await hub.room_for(caller, request.thread, Need.OWN)
    if known is None or known.name not in room.members:
        raise NotFound(f"'{request.member}' is not in this thread.")
    notice = _notice(hub, room, caller.name, known.name, "removed", f"{caller.name} removed {known.name}.")
    changed = await _depart(hub, room, known.name, notice, _owner(caller, room))
    hub.gate.audit("member_removed", user=known.name, by=caller.name, thread=room.id)
    return changed


async def set_role(hub: Hub, caller: Caller, request: frames.ThreadRole) -> frames.ThreadFrame:
    """Say what somebody may do in the thread."""
    room = await hub.room_for(caller, request.thread, Need.OWN)
    _not_private(room)
    known = hub.people.known(request.member)
    if known is None or known.name not in room.members:
        raise NotFound(f"'{request.member}' is not in this thread.")
    role = request.role
    notice = _notice(hub, room, caller.name, known.name, "role", f"{caller.name} made {known.name} {_a(role)}.", role)
    with _in_doubt(hub, room):
        message = await hub.store.set_role(room.id, known.name, role, notice, _owner(caller, room))
    if message is not None:
        hub.entered(room, known.name, role=role)
        hub.others.entered(room, [known.name])
        hub.posted(message)
        changed(hub, room)
        hub.gate.audit("role_changed", user=known.name, by=caller.name, thread=room.id, role=role)
    return frames.ThreadFrame(thread=room.view(await _seen(hub, room, caller.name)))


def _a(role: Role) -> str:
    return f"{'an' if role is Role.OWNER else 'a'} {role}"


async def _depart(hub: Hub, room: Room, member: str, notice: Draft, asker: Asker | None = None) -> frames.ThreadFrame:
    _not_private(room)
    owner = room.members.get(member) is Role.OWNER
    with _in_doubt(hub, room):
        message = await hub.store.leave(room.id, member, notice, asker)
    if message is not None:
        hub.departed(room, member)
        hub.others.entered(room, [member], gone=True)
        hub.posted(message)
        if owner:
            await hub.recheck(room)  # the store has given it to somebody else
        changed(hub, room)
    return frames.ThreadFrame(thread=room.view())


def _asker(caller: Caller, need: Need) -> Asker:
    assert need.roles is not None
    return Asker(caller.name, need.roles)


def _owner(caller: Caller, room: Room) -> Asker | None:
    """Whose right is looked at again in the transaction; that of an admin is none of the store's business."""
    return _asker(caller, Need.OWN) if room.members.get(caller.name) is Role.OWNER else None


async def rename(hub: Hub, caller: Caller, id: str, title: str | None, public: bool | None) -> frames.ThreadFrame:
    """Change what a thread is called or who may join it."""
    room = await hub.room_for(caller, id, Need.OWN)
    _not_private(room)
    if id == LOBBY:
        raise BadRequest("The lobby is everybody's; it keeps its title and stays public.")
    title = None if title is None else _title(title)
    room.thread = await hub.store.update_thread(id, title=title, public=public)
    hub.others.tell(news.Renamed(node=hub.others.node, thread=id))
    changed(hub, room)
    return frames.ThreadFrame(thread=room.view(await _seen(hub, room, caller.name)))


async def delete(hub: Hub, caller: Caller, id: str) -> None:
    """Remove a thread with everything in it."""
    room = await hub.room_for(caller, id, Need.OWN)
    if id == LOBBY:
        raise BadRequest("The lobby cannot be deleted.")
    await hub.store.delete_thread(id)
    hub.gate.audit("thread_deleted", by=caller.name, thread=id)
    hub.others.tell(news.Gone(node=hub.others.node, thread=id))
    hub.thread_gone(room)


async def listing(hub: Hub, caller: Caller, request: frames.ThreadList) -> frames.Threads:
    """My threads; with `public` also those I could join."""
    access.require(caller, Need.LISTEN)
    mine = await hub.store.threads_of(caller.name)
    views = [(await hub.room(thread.id)).view(seen) for thread, seen in mine]
    if request.public:
        known = {thread.id for thread, _ in mine}
        views += [(await hub.room(t.id)).view() for t in await hub.store.public_threads() if t.id not in known]
    return frames.Threads(threads=bounded(views))


async def get(hub: Hub, caller: Caller, id: str) -> frames.ThreadView:
    """One thread I am in, or could join."""
    room = await hub.room_for(caller, id, Need.JOIN)
    return room.view(await _seen(hub, room, caller.name))


async def members(hub: Hub, caller: Caller, id: str, after: str, limit: int) -> dict[str, Any]:
    """Who is in a thread, with their roles, in the order of joining: up to `limit` after the one called `after`."""
    room = await hub.room_for(caller, id, Need.JOIN)
    everybody = list(room.members.items())
    known = hub.people.known(after) if after else None
    if after and (known is None or known.name not in room.members):
        raise NotFound(f"'{after}' is not in this thread.")
    begin = 1 + list(room.members).index(known.name) if known else 0
    page = [{"name": name, "role": role, "online": hub.people.online(name)} for name, role in everybody[begin:]][:limit]
    return {"members": page, "more": begin + limit < len(everybody)}


def changed(hub: Hub, room: Room) -> None:
    """Tell everyone in the thread what it looks like now."""
    hub.publish(room.id, frames.ThreadFrame(thread=room.view()))


async def _seen(hub: Hub, room: Room, name: str) -> int | None:
    return await hub.store.see(room.id, name, 0) if name in room.members else None


def _notice(hub: Hub, room: Room, by: str, member: str, event: str, text: str, role: Role | None = None) -> Draft:
    return Draft(
        thread=room.id,
        sender=by,
        text=text,
        timestamp=hub.stamp(),
        destination=room.id,
        type="notification",
        metadata={"event": event, "member": member} | ({"role": role} if role else {}),
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
