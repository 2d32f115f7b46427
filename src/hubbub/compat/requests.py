"""What the endpoints of the older projects have in common: who asks, what a body may be, how events look."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, ValidationError

from hubbub.core import wire
from hubbub.core.errors import BadRequest, Problem
from hubbub.hub.access import Caller
from hubbub.hub.conversing import visitor_of
from hubbub.transports.callers import address, headers_of, hub_of
from hubbub.transports.site import bearer, cookie

FORM = "application/x-www-form-urlencoded"
FORMS = (FORM, "multipart/form-data")
MAX_FIELDS = 20

User = Annotated[str | None, Query(description="who is asking, while guests are allowed")]


async def let_in(request: Request) -> None:
    """Before anything of a request is looked at: is whoever asks one who may, by the token they show, or as a guest?
    Raises Unauthorized, RateLimited."""
    hub, headers = hub_of(request), headers_of(request)
    token = bearer(headers)
    if token is not None or not hub.gate.auth.guests:
        hub.gate.identify(token, None, address(request), cookie(headers))


class Given(BaseModel):
    """A body. What those projects did not know they did not mind."""

    model_config = ConfigDict(extra="ignore")


_Given = TypeVar("_Given", bound=Given)


async def given(request: Request, model: type[_Given]) -> _Given:
    """The body, as JSON or as a form of either kind. Raises BadRequest, TooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields: Any
    if kind in FORMS:
        await request.body()  # which is bounded
        async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
            fields = {name: value for name, value in form.items() if value != ""}
    else:
        fields = await request.json() if await request.body() else {}
    try:
        return model.model_validate(fields)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def body_of(model: type[Given]) -> dict[str, Any]:
    """How the description of the API shows such a body."""
    schema = model.model_json_schema()
    content = {kind: {"schema": schema} for kind in ("application/json", *FORMS)}
    return {"requestBody": {"required": True, "content": content}}


async def speaker(request: Request, user: str | None, thread: str) -> Caller:
    """Who asks in that thread. Who shows nothing is nobody else's guest, but one who is known there alone.

    Raises Unauthorized, NameTaken, RateLimited or BadRequest.
    """
    hub, headers = hub_of(request), headers_of(request)
    token, kept = bearer(headers), cookie(headers)
    if token is None and kept is None and user is None:
        return hub.gate.identify(None, visitor_of(thread), address(request))
    caller = hub.gate.identify(token, user, address(request), kept)
    await hub.arrive(caller.name)
    return caller


def event(kind: str, **fields: Any) -> bytes:
    """A server-sent event whose data say their `type`: the event's, unless `type` is among the fields."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), wire.encode_value({"type": kind, **fields}))


def error(problem: Problem, **fields: Any) -> bytes:
    return event("error", error=problem.detail, code=problem.code, **fields)
