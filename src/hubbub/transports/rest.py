"""REST: the same verbs as one request each. Bodies are checked by pydantic, answers are the frames themselves."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hubbub.core import frames, wire
from hubbub.core.errors import Problem
from hubbub.hub import posting, threads
from hubbub.hub.hub import Hub
from hubbub.transports import problems
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.sse import bearer

router = APIRouter(prefix="/api", route_class=StrictRoute)


def hub_of(request: Request) -> Hub:
    hub: Hub = request.state.hub
    return hub


async def caller(
    request: Request,
    user: Annotated[str | None, Query(description="who is asking, while guests are allowed")] = None,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> str:
    """Who is asking: the bearer of a token, or the guest named by `?user=`, or `visitor`."""
    hub = hub_of(request)
    return (await hub.arrive(hub.people.identify(bearer(authorization or ""), user))).name


HubIn = Annotated[Hub, Depends(hub_of)]
Caller = Annotated[str, Depends(caller)]
ThreadId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MemberName = Annotated[str, Path(min_length=1, max_length=256)]
Seq = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=frames.MAX_HISTORY)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Guest(Body):
    user: str = Field(min_length=1, max_length=256)


class NewThread(Body):
    title: str = Field("", max_length=frames.MAX_TITLE)
    members: list[str] = Field([], max_length=1000)
    public: bool = False


class ThreadChange(Body):
    title: str | None = Field(None, max_length=frames.MAX_TITLE)
    public: bool | None = None


class NewMessage(Body):
    text: str
    message_type: str = "chat"
    metadata: dict[str, Any] = {}
    key: str | None = Field(None, min_length=1, max_length=frames.MAX_KEY)
    reply_to: str | None = Field(None, max_length=64)


class NewPrivateMessage(NewMessage):
    to: str = Field(min_length=1, max_length=256)


class Cursor(Body):
    seq: int = Field(ge=0, le=2**53)


class NewRun(Body):
    assistant: str = Field(min_length=1, max_length=256)


def answer(value: Any, status: int = 200) -> Response:
    """A value of ours as a response; replies lose the `type` that only a live connection needs."""
    if isinstance(value, frames.Frame):
        value = msgspec.to_builtins(value)
        value.pop("type", None)
    return Response(wire.encode_value(value), status, media_type="application/json")


def answer_problem(problem: Problem) -> Response:
    """A refusal as an RFC 9457 document."""
    return answer_document(problems.problem_document(problem), problem.outside.http, problems.problem_headers(problem))


def answer_document(document: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(wire.encode_value(document), status, headers, media_type=problems.MEDIA_TYPE)


# Who am I


@router.post("/auth/guest", summary="Speak under a name nobody is using", status_code=201)
async def sign_in_as_guest(hub: HubIn, body: Guest) -> Response:
    name = (await hub.arrive(hub.people.identify(None, body.user))).name
    token = hub.auth.issue(name, hub.clock())
    return answer(
        {"access_token": token, "token_type": "bearer", "expires_in": int(hub.auth.expires_s), "user": name}, 201
    )


@router.get("/me", summary="Who the request speaks as")
async def me(hub: HubIn, name: Caller) -> Response:
    return answer({"user": name, "online": hub.people.online(name)})


@router.get("/users", summary="Everyone who was ever here, and who is now")
async def users(hub: HubIn, name: Caller) -> Response:
    known = [member for member in hub.people.members.values() if member.arrived]
    return answer(
        {"users": [{"name": m.name, "kind": str(m.kind), "online": hub.people.online(m.name)} for m in known[:1000]]}
    )


@router.get("/assistants", summary="Who answers here")
async def assistants(hub: HubIn, name: Caller) -> Response:
    return answer({"assistants": [{"name": a.name, "model": a.model} for a in hub.runs.assistants.values()]})


# Threads


@router.post("/threads", summary="Make a thread", status_code=201)
async def make_thread(hub: HubIn, name: Caller, body: NewThread) -> Response:
    request = frames.ThreadCreate(title=body.title, members=body.members, public=body.public)
    return answer((await threads.create(hub, name, request)).thread, 201)


@router.get("/threads", summary="My threads; with `public=true` also those I could join")
async def list_threads(hub: HubIn, name: Caller, public: bool = False) -> Response:
    return answer(await threads.listing(hub, name, frames.ThreadList(public=public)))


@router.get("/threads/{id}", summary="One thread")
async def get_thread(hub: HubIn, name: Caller, id: ThreadId) -> Response:
    return answer(await threads.get(hub, name, id))


@router.patch("/threads/{id}", summary="Rename a thread, open or close it")
async def change_thread(hub: HubIn, name: Caller, id: ThreadId, body: ThreadChange) -> Response:
    return answer((await threads.rename(hub, name, id, body.title, body.public)).thread)


@router.delete("/threads/{id}", summary="Delete a thread with everything in it", status_code=204)
async def delete_thread(hub: HubIn, name: Caller, id: ThreadId) -> Response:
    await threads.delete(hub, name, id)
    return Response(status_code=204)


@router.put("/threads/{id}/members/{member}", summary="Add a member, or join a public thread oneself")
async def add_member(hub: HubIn, name: Caller, id: ThreadId, member: MemberName) -> Response:
    if (known := hub.people.known(member)) and known.name == name:
        return answer((await threads.join(hub, name, frames.ThreadJoin(thread=id))).thread)
    return answer((await threads.add(hub, name, frames.ThreadAdd(thread=id, member=member))).thread)


@router.delete("/threads/{id}/members/{member}", summary="Remove a member, or leave", status_code=204)
async def remove_member(hub: HubIn, name: Caller, id: ThreadId, member: MemberName) -> Response:
    if (known := hub.people.known(member)) and known.name == name:
        await threads.leave(hub, name, frames.ThreadLeave(thread=id))
    else:
        await threads.remove(hub, name, frames.ThreadRemove(thread=id, member=member))
    return Response(status_code=204)


# Messages

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=frames.MAX_KEY)]


async def _send(
    hub: Hub, name: str, body: NewMessage, key: str | None, *, thread: str | None = None, to: str | None = None
) -> Response:
    hub.people.require_pace(name)
    request = frames.MessageSend(
        thread=thread,
        to=to,
        text=body.text,
        message_type=body.message_type,
        metadata=body.metadata,
        key=body.key or key,
        reply_to=body.reply_to,
    )
    return answer(await posting.send(hub, name, request), 201)


@router.post("/threads/{id}/messages", summary="Post to a thread", status_code=201)
async def post_message(
    hub: HubIn, name: Caller, id: ThreadId, body: NewMessage, key: IdempotencyKey = None
) -> Response:
    return await _send(hub, name, body, key, thread=id)


@router.post("/messages", summary="Write to a member privately", status_code=201)
async def post_private_message(
    hub: HubIn, name: Caller, body: NewPrivateMessage, key: IdempotencyKey = None
) -> Response:
    return await _send(hub, name, body, key, to=body.to)


@router.get("/threads/{id}/messages", summary="Read a thread, ascending")
async def read_messages(
    hub: HubIn,
    name: Caller,
    id: ThreadId,
    after: Seq | None = None,
    before: Seq | None = None,
    limit: Limit = frames.DEFAULT_HISTORY,
) -> Response:
    request = frames.HistoryGet(thread=id, after=after, before=before, limit=limit)
    return answer(await posting.history(hub, name, request))


@router.get("/unseen", summary="What others wrote that I have not seen; does not move my cursors")
async def unseen(hub: HubIn, name: Caller, limit: Limit = frames.MAX_HISTORY) -> Response:
    return answer(await posting.peek(hub, name, limit))


@router.put("/threads/{id}/seen", summary="Move my cursor forward")
async def move_cursor(hub: HubIn, name: Caller, id: ThreadId, body: Cursor) -> Response:
    await posting.seen(hub, name, frames.Seen(thread=id, seq=body.seq))
    return answer(await threads.get(hub, name, id))


# Runs


@router.post("/threads/{id}/runs", summary="Ask an assistant for an answer", status_code=201)
async def start_run(hub: HubIn, name: Caller, id: ThreadId, body: NewRun) -> Response:
    reply = await hub.runs.start_by(name, frames.RunStart(thread=id, assistant=body.assistant))
    return answer(reply.run, 201)


@router.get("/runs/{id}", summary="How far a run has come")
async def get_run(hub: HubIn, name: Caller, id: ThreadId) -> Response:
    return answer(hub.runs.view(await hub.runs.get(name, id)))


@router.post("/runs/{id}/cancel", summary="Stop a run; what it wrote so far stays")
async def cancel_run(hub: HubIn, name: Caller, id: ThreadId) -> Response:
    return answer((await hub.runs.cancel_by(name, frames.RunCancel(run=id))).run)
