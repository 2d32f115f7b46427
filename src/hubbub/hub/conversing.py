"""Asking one assistant in a thread of its own: what an endpoint of one question and one answer is made of.

Whoever shows nothing speaks in such a thread under a name that follows from the thread's id, and that nobody can know
who does not know the id: so the id is its key, and no list of anybody's shows the thread.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hubbub.core import frames
from hubbub.core.errors import NotFound
from hubbub.core.nouns import Assistant, Message, Run, Thread
from hubbub.hub import access, posting
from hubbub.hub.access import VISITOR, Caller, Need
from hubbub.hub.room import Room

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

GENERATE = Assistant(name="generate", engine="script")
"""Writes what is asked for at `/generate`. It is in no list, and no message addresses it."""

PAGE = 100
PAGE_BYTES = 512 << 10


def visitor_of(thread: str) -> str:
    """Who speaks in the thread when nobody says who they are."""
    return f"{VISITOR}-{hashlib.sha256(thread.encode()).hexdigest()[:24]}"


async def open_between(hub: Hub, caller: Caller, assistant: str, id: str) -> Room:
    """A new thread of the two, which nobody else is in. Its id is the caller's to choose, and no other thread's."""
    access.require(caller, Need.ACT)
    await hub.addressee(caller.name)
    return await hub.open_thread(Thread(id=id), [caller.name, assistant])


async def room_with(hub: Hub, caller: Caller, assistant: str, id: str, need: Need) -> Room:
    """The thread, if they may do there what needs `need`. Raises NotFound, also when the assistant is not in it."""
    room = await hub.room_for(caller, id, need)
    if assistant not in room.members:
        raise NotFound("There is no such thread here.")
    return room


async def ask(
    hub: Hub, caller: Caller, room: Room, assistant: str, text: str, run: str = ""
) -> tuple[Message, Run, int]:
    """Post to the room and have that assistant answer, whether the text mentions it or not: the message, the run and
    its place in the queue. `run` is the id the answer is to have. Raises whatever `posting.post` does; QueueFull: the
    text is posted, and so is that."""
    message = await posting.post(hub, room, caller, frames.MessageSend(thread=room.id, text=text))
    begun = await hub.runs.begin(room, assistant, caller.name, trigger=message.seq, id=run)
    return message, *(begun or (await _begun(hub, message, assistant), 0))


async def _begun(hub: Hub, message: Message, assistant: str) -> Run:
    """The run of a message that had asked by itself: it is open, or it has left a message behind the question."""
    for run in await hub.store.open_runs():
        if (run.thread, run.assistant, run.trigger) == (message.thread, assistant, message.seq):
            return run
    at, more = message.seq, True
    while more:
        page = await hub.store.read_after(message.thread, at, PAGE, PAGE_BYTES)
        for later in page.messages:
            ended = await hub.store.run(later.run) if later.run and later.sender == assistant else None
            if ended is not None and ended.trigger == message.seq:
                return ended
        at, more = page.messages[-1].seq if page.messages else at, page.more
    raise NotFound("The answer is no longer there.")
