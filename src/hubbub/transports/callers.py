"""What the HTTP routes have in common: who asks, how bodies are checked, how answers look."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Query, Request
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from hubbub.core import frames, wire
from hubbub.core.errors import Problem
from hubbub.hub import access
from hubbub.hub.hub import Hub
from hubbub.transports import problems, site
from hubbub.transports.site import Site

# What the docs page needs for its sign-in; the token itself is read by `caller`.
shown_token = OAuth2PasswordBearer(
    "api/auth/login", auto_error=False, description="A signed token, or one of `/api/tokens`."
)


def hub_of(request: Request) -> Hub:
    hub: Hub = request.state.hub
    return hub


def site_of(request: Request) -> Site:
    here: Site = request.state.site
    return here


def headers_of(request: Request) -> dict[str, str]:
    return site.fields(request.headers.raw)


def address(request: Request) -> str:
    """Where the request comes from, for counting."""
    return site_of(request).address(request.client.host if request.client else "", headers_of(request))


async def caller(
    request: Request,
    user: Annotated[str | None, Query(description="who is asking, while guests are allowed")] = None,
    shown: Annotated[str | None, Depends(shown_token)] = None,
) -> access.Caller:
    """Who is asking: the bearer of a token, the guest named by `?user=`, who is signed in in this browser, or
    `visitor`."""
    hub, headers = hub_of(request), headers_of(request)
    asking = hub.gate.identify(site.bearer(headers), user, address(request), site.cookie(headers))
    await hub.arrive(asking.name)
    return asking


HubIn = Annotated[Hub, Depends(hub_of)]
Caller = Annotated[access.Caller, Depends(caller)]
Address = Annotated[str, Depends(address)]
ThreadId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MemberName = Annotated[str, Path(min_length=1, max_length=256)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def answer(value: Any, status: int = 200) -> Response:
    """A value of ours as a response; replies lose the `type` that only a live connection needs."""
    if isinstance(value, frames.Frame):
        value = msgspec.to_builtins(value)
        value.pop("type", None)
    return Response(wire.encode_value(value), status, problems.AS_IT_IS, media_type="application/json")


def answer_problem(problem: Problem) -> Response:
    """A refusal as an RFC 9457 document."""
    return answer_document(problems.problem_document(problem), problem.http, problems.problem_headers(problem))


def answer_document(document: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(wire.encode_value(document), status, headers, media_type=problems.MEDIA_TYPE)
