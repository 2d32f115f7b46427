"""`POST /messages/` and `GET /messages/{user}`: private messages in the words of the message API of the TCP chat.

Reading moves no cursor: what was read here is still told to whoever connects as unseen.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from hubbub.compat.requests import Given, body_of, given, let_in
from hubbub.core import frames, names
from hubbub.core.errors import NotFound
from hubbub.core.nouns import Message
from hubbub.hub import access, posting
from hubbub.hub.access import Caller, Need
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.callers import HubIn, MemberName, address, answer, headers_of, hub_of
from hubbub.transports.site import bearer, cookie

MAX_SHOWN = 200

router = APIRouter(route_class=StrictRoute, dependencies=[Depends(let_in)], tags=["messages"])


class Sent(Given):
    """`timestamp` may be given, and is not believed."""

    sender: str = Field(min_length=1, max_length=256)
    destination: str = Field(min_length=1, max_length=256)
    message: str
    type: str = "chat"
    metadata: dict[str, Any] = Field({})


async def _speaking_as(request: Request, name: str) -> Caller:
    """The caller, who has to be the one of that name. Raises NotFound when they are somebody else, and what `identify`
    does."""
    hub, headers = hub_of(request), headers_of(request)
    caller = hub.gate.identify(bearer(headers), name, address(request), cookie(headers))
    if names.key(caller.name) != names.key(name):
        raise NotFound(f"You are '{caller.name}'; messages of '{name}' are not yours to send or to read.")
    await hub.arrive(caller.name)
    return caller


@router.post("/messages/", summary="Write to a member privately, as the one who asks", openapi_extra=body_of(Sent))
@router.post("/messages", include_in_schema=False)
async def send(request: Request, hub: HubIn) -> Response:
    sent = await given(request, Sent)
    caller = await _speaking_as(request, sent.sender)
    hub.people.require_pace(caller.name)
    letter = frames.MessageSend(to=sent.destination, text=sent.message, message_type=sent.type, metadata=sent.metadata)
    ack = await posting.send(hub, caller, letter)
    stored = await hub.store.message(ack.thread, ack.seq)
    assert stored is not None
    return answer(_shown(stored))


@router.get("/messages/{user}", summary="The newest private messages to the one who asks, ascending")
@router.get("/messages/{user}/", include_in_schema=False)
async def read(request: Request, hub: HubIn, user: MemberName) -> Response:
    caller = await _speaking_as(request, user)
    access.require(caller, Need.LISTEN)
    found: list[Message] = []
    for thread, _ in await hub.store.threads_of(caller.name):
        if thread.private:
            page = await posting.history(hub, caller, frames.HistoryGet(thread=thread.id, limit=MAX_SHOWN))
            found += [message for message in page.messages if message.destination == caller.name]
            found = _newest(found)
    return answer({"messages": [_shown(message) for message in found]})


def _newest(found: list[Message]) -> list[Message]:
    """As many of the newest as a page of history holds, in messages and in bytes."""
    found.sort(key=lambda message: message.timestamp)
    kept, left = 0, frames.MAX_HISTORY_BYTES
    for message in reversed(found[-MAX_SHOWN:]):
        left -= len(message.text.encode())
        if left < 0 and kept:
            break
        kept += 1
    return found[len(found) - kept :]


def _shown(message: Message) -> dict[str, Any]:
    return {
        "sender": message.sender,
        "destination": message.destination,
        "message": message.text,
        "timestamp": message.timestamp,
        "type": message.type,
        "metadata": message.metadata,
    }
