"""REST: the same verbs as one request each. Bodies are checked by pydantic, answers are the frames themselves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field
from starlette.responses import Response

from hubbub.core import frames
from hubbub.core.nouns import Role
from hubbub.hub import access, posting, threads
from hubbub.hub.access import Need
from hubbub.hub.hub import Hub
from hubbub.transports import streams
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.callers import Body, Caller, HubIn, MemberName, ThreadId, answer

router = APIRouter(prefix="/api", route_class=StrictRoute)


Seq = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=frames.MAX_HISTORY)]


class NewThread(Body):
    title: str = Field("", max_length=frames.MAX_TITLE)
    members: list[str] = Field([], max_length=1000)
    public: bool = False


class ThreadChange(Body):
    title: str | None = Field(None, max_length=frames.MAX_TITLE)
    public: bool | None = None


class MemberRole(Body):
    role: Role


class NewMessage(Body):
    text: str
    message_type: str = "chat"
    metadata: dict[str, Any] = Field({})
    key: str | None = Field(None, min_length=1, max_length=frames.MAX_KEY)
    reply_to: str | None = Field(None, max_length=64)


class NewPrivateMessage(NewMessage):
    to: str = Field(min_length=1, max_length=256)


class Cursor(Body):
    seq: int = Field(ge=0, le=2**53)


class NewRun(Body):
    assistant: str = Field(min_length=1, max_length=256)


class NewAssistant(Body):
    """`engine`, `model`: the server's own when empty. It answers when addressed; also by itself after `every` messages
    of others, or every `every_s` seconds while people listen. `in_turn`: after the answers asked for before."""

    name: str = Field(min_length=1, max_length=256)
    instructions: str = ""
    engine: str = ""
    model: str = ""
    personalities: dict[str, str] = Field({})
    every: int = 0
    every_s: float = Field(0.0, allow_inf_nan=False)
    in_turn: bool = False


class AssistantChange(Body):
    instructions: str | None = None
    engine: str | None = None
    model: str | None = None
    personalities: dict[str, str] | None = None
    every: int | None = None
    every_s: float | None = Field(None, allow_inf_nan=False)
    in_turn: bool | None = None


# Who is there


@router.get("/users", summary="Everyone who was ever here, and who is now")
async def users(hub: HubIn, caller: Caller) -> Response:
    access.require(caller, Need.LISTEN)
    known = [member for member in hub.people.members.values() if member.arrived]
    return answer(
        {"users": [{"name": m.name, "kind": str(m.kind), "online": hub.people.online(m.name)} for m in known[:1000]]}
    )


# Assistants


@router.get("/assistants", summary="Who answers here")
async def assistants(hub: HubIn, caller: Caller) -> Response:
    return answer({"assistants": hub.assistants.listing(caller)})


@router.post("/assistants", summary="Make an assistant, a member that answers", status_code=201)
async def make_assistant(hub: HubIn, caller: Caller, body: NewAssistant) -> Response:
    return answer(await hub.assistants.create(caller, **body.model_dump()), 201)


@router.get("/assistants/{name}", summary="One assistant; its instructions for whoever may change it")
async def get_assistant(hub: HubIn, caller: Caller, name: MemberName) -> Response:
    return answer(hub.assistants.get(caller, name))


@router.patch("/assistants/{name}", summary="Change an assistant of mine")
async def change_assistant(hub: HubIn, caller: Caller, name: MemberName, body: AssistantChange) -> Response:
    return answer(await hub.assistants.change(caller, name, body.model_dump(exclude_none=True)))


@router.delete("/assistants/{name}", summary="Have an assistant of mine answer no more", status_code=204)
async def delete_assistant(hub: HubIn, caller: Caller, name: MemberName) -> Response:
    await hub.assistants.delete(caller, name)
    return Response(status_code=204)


# Threads


@router.post("/threads", summary="Make a thread", status_code=201)
async def make_thread(hub: HubIn, caller: Caller, body: NewThread) -> Response:
    request = frames.ThreadCreate(title=body.title, members=body.members, public=body.public)
    return answer((await threads.create(hub, caller, request)).thread, 201)


@router.get("/threads", summary="My threads; with `public=true` also those I could join")
async def list_threads(hub: HubIn, caller: Caller, public: bool = False) -> Response:
    return answer(await threads.listing(hub, caller, frames.ThreadList(public=public)))


@router.get("/threads/{id}", summary="One thread")
async def get_thread(hub: HubIn, caller: Caller, id: ThreadId) -> Response:
    return answer(await threads.get(hub, caller, id))


@router.patch("/threads/{id}", summary="Rename a thread, open or close it")
async def change_thread(hub: HubIn, caller: Caller, id: ThreadId, body: ThreadChange) -> Response:
    return answer((await threads.rename(hub, caller, id, body.title, body.public)).thread)


@router.delete("/threads/{id}", summary="Delete a thread with everything in it", status_code=204)
async def delete_thread(hub: HubIn, caller: Caller, id: ThreadId) -> Response:
    await threads.delete(hub, caller, id)
    return Response(status_code=204)


@router.put("/threads/{id}/members/{member}", summary="Add a member, or join a public thread oneself")
async def add_member(hub: HubIn, caller: Caller, id: ThreadId, member: MemberName) -> Response:
    if (known := hub.people.known(member)) and known.name == caller.name:
        return answer((await threads.join(hub, caller, frames.ThreadJoin(thread=id))).thread)
    return answer((await threads.add(hub, caller, frames.ThreadAdd(thread=id, member=member))).thread)


@router.get("/threads/{id}/members", summary="Who is in a thread, and their roles")
async def thread_members(
    hub: HubIn, caller: Caller, id: ThreadId, after: Annotated[str, Query(max_length=256)] = "", limit: Limit = 100
) -> Response:
    return answer(await threads.members(hub, caller, id, after, limit))


@router.patch("/threads/{id}/members/{member}", summary="Say what a member may do: owner, member or reader")
async def set_role(hub: HubIn, caller: Caller, id: ThreadId, member: MemberName, body: MemberRole) -> Response:
    return answer(
        (await threads.set_role(hub, caller, frames.ThreadRole(thread=id, member=member, role=body.role))).thread
    )


@router.delete("/threads/{id}/members/{member}", summary="Remove a member, or leave", status_code=204)
async def remove_member(hub: HubIn, caller: Caller, id: ThreadId, member: MemberName) -> Response:
    await threads.remove(hub, caller, frames.ThreadRemove(thread=id, member=member))
    return Response(status_code=204)


# Messages

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=frames.MAX_KEY)]


async def _send(
    hub: Hub,
    caller: access.Caller,
    body: NewMessage,
    key: str | None,
    *,
    thread: str | None = None,
    to: str | None = None,
) -> Response:
    hub.people.require_pace(caller.name)
    request = frames.MessageSend(
        thread=thread,
        to=to,
        text=body.text,
        message_type=body.message_type,
        metadata=body.metadata,
        key=body.key or key,
        reply_to=body.reply_to,
    )
    return answer(await posting.send(hub, caller, request), 201)


@router.post("/threads/{id}/messages", summary="Post to a thread", status_code=201)
async def post_message(
    hub: HubIn, caller: Caller, id: ThreadId, body: NewMessage, key: IdempotencyKey = None
) -> Response:
    return await _send(hub, caller, body, key, thread=id)


@router.post("/messages", summary="Write to a member privately", status_code=201)
async def post_private_message(
    hub: HubIn, caller: Caller, body: NewPrivateMessage, key: IdempotencyKey = None
) -> Response:
    return await _send(hub, caller, body, key, to=body.to)


@router.get("/threads/{id}/messages", summary="Read a thread, ascending")
async def read_messages(
    hub: HubIn,
    caller: Caller,
    id: ThreadId,
    after: Seq | None = None,
    before: Seq | None = None,
    limit: Limit = frames.DEFAULT_HISTORY,
) -> Response:
    request = frames.HistoryGet(thread=id, after=after, before=before, limit=limit)
    return answer(await posting.history(hub, caller, request))


@router.get("/unseen", summary="What others wrote that I have not seen; does not move my cursors")
async def unseen(hub: HubIn, caller: Caller, limit: Limit = frames.MAX_HISTORY) -> Response:
    return answer(await posting.peek(hub, caller, limit))


@router.put("/threads/{id}/seen", summary="Move my cursor forward")
async def move_cursor(hub: HubIn, caller: Caller, id: ThreadId, body: Cursor) -> Response:
    await posting.seen(hub, caller, frames.Seen(thread=id, seq=body.seq))
    return answer(await threads.get(hub, caller, id))


# Runs


@router.post("/threads/{id}/runs", summary="Ask an assistant for an answer", status_code=201)
async def start_run(hub: HubIn, caller: Caller, id: ThreadId, body: NewRun) -> Response:
    reply = await hub.runs.start_by(caller, frames.RunStart(thread=id, assistant=body.assistant))
    return answer(reply.run, 201)


@router.get("/runs/{id}", summary="How far a run has come")
async def get_run(hub: HubIn, caller: Caller, id: ThreadId) -> Response:
    return answer(await hub.runs.how(caller, id))


@router.post("/runs/{id}/cancel", summary="Stop a run; what it wrote so far stays")
async def cancel_run(hub: HubIn, caller: Caller, id: ThreadId) -> Response:
    return answer((await hub.runs.cancel_by(caller, frames.RunCancel(run=id))).run)


Position = Annotated[int, Query(ge=0, lt=streams.NO_ATTEMPT)]


@router.get("/runs/{id}/events", summary="One run as server-sent events; resumes from `Last-Event-ID` or a position")
async def run_events(
    request: Request,
    caller: Caller,
    id: ThreadId,
    attempt: Position = 0,
    offset: Position = 0,
    cursor: Annotated[str, Header(alias="Last-Event-ID", max_length=256)] = "",
) -> Response:
    return await streams.answer_run(request, caller, id, attempt, offset, cursor)
