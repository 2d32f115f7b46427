"""`POST /chat` and a conversation's history: one message, and the answer of `openai` as server-sent events.

A conversation is a thread of its own, with a UUID for an id, whose log is all the context there is: another process
goes on with it, and one who left the stream finds the answer in the history.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from hubbub.compat.requests import Given, User, body_of, error, event, given, let_in, speaker
from hubbub.core import frames
from hubbub.core.errors import NotFound, Problem
from hubbub.core.nouns import Message, Run
from hubbub.hub import posting
from hubbub.hub.access import Caller, Need
from hubbub.hub.conversing import ask, open_between, room_with
from hubbub.hub.following import follow
from hubbub.hub.hub import Hub
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.callers import HubIn, answer
from hubbub.transports.streams import EventStream

ASSISTANT = "openai"
MAX_MESSAGE = 1000
MAX_SHOWN = 100

router = APIRouter(route_class=StrictRoute, dependencies=[Depends(let_in)], tags=["chat"])


class Chat(Given):
    message: str = Field(min_length=1, max_length=MAX_MESSAGE)
    conversation_id: UUID | None = None


@router.post(
    "/chat",
    summary="Ask, and read the answer as server-sent events",
    status_code=200,
    response_class=EventStream,
    openapi_extra=body_of(Chat),
)
async def chat(request: Request, hub: HubIn, user: User = None) -> Response:
    asked = await given(request, Chat)
    if ASSISTANT not in hub.assistants.by_name:
        raise NotFound(f"The assistant '{ASSISTANT}' does not answer on this server; HUBBUB_OPENAI=1 lets it.")
    id = str(asked.conversation_id or uuid4())
    caller = await speaker(request, user, id)
    hub.people.require_pace(caller.name)
    if asked.conversation_id is None:
        room = await open_between(hub, caller, ASSISTANT, id)
    else:
        try:
            room = await room_with(hub, caller, ASSISTANT, id, Need.WRITE)
        except NotFound:
            return EventStream(request, _unknown(id))
    question, run, _ = await ask(hub, caller, room, ASSISTANT, asked.message)
    return EventStream(request, _answer(hub, caller, question, run))


async def _unknown(id: str) -> AsyncGenerator[bytes, None]:
    yield error(NotFound(f"There is no conversation {id} here; leave the id out to begin one."))


async def _answer(hub: Hub, caller: Caller, question: Message, run: Run) -> AsyncGenerator[bytes, None]:
    """The answer as it comes. Whoever leaves it does not stop it."""
    id = question.thread
    yield event("connected", conversation_id=id, message_id=question.id, run=run.id, status="connected")
    try:
        async with contextlib.aclosing(follow(hub, caller, run.id)) as told:
            async for frame in told:
                match frame:
                    case frames.RunDelta():
                        piece = {"content": frame.text, "conversation_history_length": question.seq}
                        yield event("message", type="partial_response", **piece)
                    case frames.RunReset():
                        yield event("message", type="reset", content="")
                    case frames.RunCancelled():
                        yield event("error", error="The answer was stopped.", code="cancelled")
                    case frames.RunFailed():
                        yield event("error", error=frame.error, code="failed")
                    case frames.RunCompleted():
                        message = await hub.store.message(id, frame.seq)
                        if message is not None:
                            yield event("message", type="complete", content=message.text, **_cost(message))
                            whole = {"message_id": message.id, "message_content": message.text}
                            yield event("completed", conversation_id=id, **whole, total_messages=message.seq)
    except Problem as over:
        yield error(over)


def _cost(message: Message) -> dict[str, Any]:
    usage = message.metadata.get("usage")
    return {"total_tokens": usage["prompt"] + usage["completion"]} if usage else {}


@router.get("/conversations/{id}/history", summary="The newest messages of a conversation, ascending")
async def history(
    request: Request,
    hub: HubIn,
    id: UUID,
    user: User = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SHOWN)] = frames.DEFAULT_HISTORY,
) -> Response:
    thread = str(id)
    caller = await speaker(request, user, thread)
    room = await room_with(hub, caller, ASSISTANT, thread, Need.READ)
    page = await posting.history(hub, caller, frames.HistoryGet(thread=thread, limit=limit))
    messages = [
        {
            "id": message.id,
            "role": "assistant" if message.sender == ASSISTANT else "user",
            "content": message.text,
            "timestamp": message.timestamp,
            "metadata": message.metadata,
        }
        for message in page.messages
    ]
    return answer({"conversation_id": thread, "messages": messages, "total_messages": room.known})
