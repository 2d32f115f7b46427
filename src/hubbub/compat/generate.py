"""`/generate`: a context is queued for the model script, and its words come as server-sent events while it prints them.

A task is a run in a thread of its own; task, run and thread have the same UUID. Leaving the stream cancels it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from hubbub.compat.requests import Given, User, body_of, error, event, given, let_in, speaker
from hubbub.core import frames
from hubbub.core.errors import Problem
from hubbub.hub import threads
from hubbub.hub.access import Caller
from hubbub.hub.conversing import GENERATE, ask, open_between
from hubbub.hub.following import follow
from hubbub.hub.hub import Hub
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.callers import HubIn
from hubbub.transports.streams import EventStream

router = APIRouter(route_class=StrictRoute, dependencies=[Depends(let_in)], tags=["generate"])

SUMMARY = "Queue a context for the model script, and read what it prints as server-sent events"


class Context(Given):
    context: str = Field(min_length=1, max_length=frames.MAX_TEXT_BYTES)


@router.get("/generate", summary=SUMMARY, status_code=200, response_class=EventStream)
async def generate(
    request: Request, hub: HubIn, context: Annotated[str, Query(min_length=1)], user: User = None
) -> Response:
    return await _queued(request, hub, context, user)


@router.post(
    "/generate",
    summary=f"{SUMMARY}; for contexts too long for an address",
    status_code=200,
    response_class=EventStream,
    openapi_extra=body_of(Context),
)
async def generate_long(request: Request, hub: HubIn, user: User = None) -> Response:
    return await _queued(request, hub, (await given(request, Context)).context, user)


async def _queued(request: Request, hub: Hub, context: str, user: str | None) -> Response:
    id = str(uuid4())
    caller = await speaker(request, user, id)
    hub.people.require_pace(caller.name)
    room = await open_between(hub, caller, GENERATE.name, id)
    try:
        _, _, place = await ask(hub, caller, room, GENERATE.name, context, run=id)
    except Problem:
        await threads.delete(hub, caller, id)
        raise

    def leave() -> None:
        hub.spawn(hub.runs.cancel_by(caller, frames.RunCancel(run=id)))

    return EventStream(request, _tokens(hub, caller, id, place), leave)


async def _tokens(hub: Hub, caller: Caller, id: str, place: int) -> AsyncGenerator[bytes, None]:
    yield event("task", id=id, position=place)
    try:
        async with contextlib.aclosing(follow(hub, caller, id)) as told:
            async for frame in told:
                match frame:
                    case frames.RunQueued() if frame.position != place:
                        place = frame.position
                        yield event("task", id=id, position=place)
                    case frames.RunDelta():
                        yield event("token", text=frame.text)
                    case frames.RunReset():
                        yield event("reset", id=id)
                    case frames.RunCancelled():
                        yield event("error", error="The task was stopped.", code="cancelled", id=id)
                    case frames.RunFailed():
                        yield event("error", error=frame.error, code="failed", id=id)
                    case frames.RunCompleted():
                        yield event("done", id=id)
    except Problem as over:
        yield error(over, id=id)
