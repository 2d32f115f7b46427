"""Accounts over HTTP: register, sign in and out, passwords, tokens, and what admins do with other people's."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from hubbub.core import names
from hubbub.core.errors import BadRequest, Unauthorized
from hubbub.core.nouns import Account, Kind, Scope, Token, stamp
from hubbub.hub import access
from hubbub.hub.access import Need
from hubbub.hub.gate import MAX_LABEL
from hubbub.hub.hub import Hub
from hubbub.hub.passwords import MAX_PASSWORD, MIN_PASSWORD
from hubbub.transports import site
from hubbub.transports.bodies import StrictRoute
from hubbub.transports.callers import (
    Address,
    Body,
    Caller,
    HubIn,
    MemberName,
    ThreadId,
    answer,
    headers_of,
    site_of,
)

router = APIRouter(prefix="/api", route_class=StrictRoute, tags=["accounts"])

Name = Annotated[str, Field(min_length=1, max_length=256)]
Password = Annotated[str, Field(max_length=1024)]
NewPassword = Annotated[str, Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)]
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 20


class Guest(Body):
    user: Name


class Registration(Body):
    user: Name
    password: NewPassword


class Login(Body):
    user: Name
    password: Password


class PasswordChange(Body):
    old: Password
    new: NewPassword


class NewToken(Body):
    label: str = Field("", max_length=MAX_LABEL, description="what it is for")
    scopes: list[Scope] = Field([Scope.READ, Scope.WRITE], min_length=1, max_length=3)
    expires_in: int | None = Field(None, ge=1, le=10 * 366 * 86400, description="seconds; for good when left out")
    user: Name | None = Field(None, description="for whom, when an admin asks; a name without an account gets one")
    kind: Kind = Field(Kind.DEVICE, description="what a member made that way is")


class NewAccount(Body):
    user: Name
    password: NewPassword | None = None
    admin: bool = False


class AccountChange(Body):
    admin: bool | None = None
    disabled: bool | None = None
    password: NewPassword | None = None


def _signed_in(request: Request, hub: Hub, caller: access.Caller, status: int = 200, *, keep: bool = True) -> Response:
    """A new token for whoever has just proved who they are; with `keep`, their browser keeps it, too. Whoever came in
    with what their browser keeps is not told it: a script that has crept into a page is to get no hold of it."""
    token = hub.gate.issue(caller)
    expires_s = hub.gate.auth.expires_s
    told = {} if caller.by_cookie else {"access_token": token}
    response = answer({**told, "token_type": "bearer", "expires_in": int(expires_s), "user": caller.name}, status)
    if keep:
        _keep(request, response, token, expires_s)
    response.headers["cache-control"] = "no-store"
    return response


def _keep(request: Request, response: Response, token: str, seconds: float) -> None:
    headers = headers_of(request)
    here = site_of(request)
    response.headers["set-cookie"] = site.set_cookie(
        site.cookie_name(headers), token, seconds, secure=here.scheme(headers) == "https", root=here.root
    )


@router.get("/auth", summary="What signing in takes here")
async def signing_in(hub: HubIn) -> Response:
    return answer({"guests": hub.gate.auth.guests, "registration": hub.gate.registration})


@router.post("/auth/guest", summary="Speak under a name nobody is using", status_code=201)
async def sign_in_as_guest(request: Request, hub: HubIn, address: Address, body: Guest) -> Response:
    caller = hub.gate.identify(None, body.user, address)
    await hub.arrive(caller.name)
    return _signed_in(request, hub, caller, 201, keep=False)


@router.post("/auth/register", summary="Make a name one's own", status_code=201)
async def register(request: Request, hub: HubIn, address: Address, body: Registration) -> Response:
    """A guest who speaks under the name shows their token. From then on the name needs its password."""
    guest = None
    if token := site.bearer(headers_of(request)):
        guest = hub.gate.identify(token, None, address)
    caller = await hub.gate.register(body.user, body.password, address, guest)
    return _signed_in(request, hub, caller, 201)


async def _login(request: Request) -> Login:
    """JSON, or the form of OAuth2's password grant (RFC 6749, section 4.3)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        given = await request.json()
    else:
        try:
            form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=MAX_FIELDS)
        except ValueError:
            raise BadRequest(
                f"The form has more than {MAX_FIELDS} fields; 'username' and 'password' will do."
            ) from None
        given = {"user": form.get("username", [""])[0], "password": form.get("password", [""])[0]}
    try:
        return Login.model_validate(given)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


_LOGIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Login.model_json_schema()},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password"]},
                        "username": {"type": "string", "minLength": 1, "maxLength": 256},
                        "password": {"type": "string", "maxLength": 1024, "format": "password"},
                    },
                }
            },
        },
    }
}


@router.post("/auth/login", summary="Sign in with a password", openapi_extra=_LOGIN_BODY)
async def login(
    request: Request, hub: HubIn, address: Address, body: Annotated[Login, Depends(_login, use_cache=False)]
) -> Response:
    return _signed_in(request, hub, await hub.gate.login(body.user, body.password, address))


@router.post("/auth/logout", summary="Make the token shown worthless, on open connections too", status_code=204)
async def logout(request: Request, hub: HubIn, address: Address) -> Response:
    headers = headers_of(request)
    token, kept = site.bearer(headers), site.cookie(headers)
    response = Response(status_code=204)
    if token is None and kept is None:
        raise Unauthorized("There is nothing to sign out of: no token was shown.")
    if token is None:
        _keep(request, response, "", 0)
    try:
        await hub.gate.sign_out(hub.gate.identify(token, None, address, kept))
    except Unauthorized:
        if token is not None:
            raise
    return response


@router.post("/auth/refresh", summary="A new token, before the old one expires")
async def refresh(request: Request, hub: HubIn, caller: Caller) -> Response:
    if caller.token or caller.expires is None:
        raise BadRequest("Only a signed token can be exchanged for a new one; show it.")
    return _signed_in(request, hub, caller, keep=caller.by_cookie)


@router.post("/auth/password", summary="Change my password; everybody signed in with the old one is signed out")
async def change_password(
    request: Request, hub: HubIn, caller: Caller, address: Address, body: PasswordChange
) -> Response:
    changed = await hub.gate.change_password(caller, body.old, body.new, address)
    return _signed_in(request, hub, replace(changed, by_cookie=caller.by_cookie))


@router.get("/me", summary="Who the request speaks as")
async def me(hub: HubIn, caller: Caller) -> Response:
    return answer(
        {
            "user": caller.name,
            "online": hub.people.online(caller.name),
            "registered": hub.gate.account(caller.name) is not None,
            "admin": caller.admin,
            "scopes": sorted(caller.scopes),
        }
    )


# Tokens


def _view(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "user": token.member,
        "label": token.label,
        "scopes": list(token.scopes),
        "created": stamp(token.created),
        "expires": None if token.expires is None else stamp(token.expires),
    }


@router.post(
    "/tokens", summary="A token for a device, a bot or a program; its secret is told this once", status_code=201
)
async def make_token(hub: HubIn, caller: Caller, body: NewToken) -> Response:
    name = caller.name
    if body.user is not None and names.key(body.user) != names.key(name):
        access.require(caller, Need.ADMIN)
        name = body.user
        if hub.gate.account(name) is None:
            if body.kind is Kind.ASSISTANT:
                raise BadRequest("An assistant needs no token.")
            name = (await hub.gate.add(name, kind=body.kind)).name
            hub.gate.audit("account_made", user=name, by=caller.name)
    elif caller.token:
        raise Unauthorized("A token makes no further tokens; sign in with the password.")
    elif hub.gate.account(name) is None:
        raise Unauthorized("Register first; a guest's name is only lent.")
    token, secret = await hub.gate.make_token(name, body.label, body.scopes, by=caller.name, expires_s=body.expires_in)
    response = answer(_view(token) | {"token": secret}, 201)
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/tokens", summary="My tokens, without their secrets")
async def tokens(
    hub: HubIn, caller: Caller, of: Annotated[str | None, Query(description="whose, when an admin asks")] = None
) -> Response:
    access.require(caller, Need.LISTEN)
    name = caller.name
    if of is not None and names.key(of) != names.key(name):
        access.require(caller, Need.ADMIN)
        account = hub.gate.account(of)
        name = account.name if account else of
    return answer({"tokens": [_view(token) for token in hub.gate.tokens_of(name)]})


@router.delete("/tokens/{id}", summary="Revoke a token, on open connections too", status_code=204)
async def revoke_token(hub: HubIn, caller: Caller, id: ThreadId) -> Response:
    access.require(caller, Need.ACT)
    await hub.gate.revoke_token(id, by=caller)
    return Response(status_code=204)


# What admins do


def _account(hub: Hub, account: Account) -> dict[str, Any]:
    return {
        "user": account.name,
        "admin": account.admin,
        "disabled": account.disabled,
        "password": bool(account.password),
        "online": hub.people.online(account.name),
        "tokens": len(hub.gate.tokens_of(account.name)),
    }


async def _as_admin(caller: Caller) -> access.Caller:
    access.require(caller, Need.ADMIN)
    return caller


Admin = Annotated[access.Caller, Depends(_as_admin)]


@router.get("/accounts", summary="Every account, for admins")
async def accounts(hub: HubIn, admin: Admin) -> Response:
    return answer({"accounts": [_account(hub, account) for account in hub.gate.accounts()[:1000]]})


@router.post("/accounts", summary="Add somebody, for admins", status_code=201)
async def add_account(hub: HubIn, admin: Admin, body: NewAccount) -> Response:
    hub.gate.require_free(names.normalise(body.user))
    hashed = await hub.gate.hash(body.password) if body.password is not None else ""
    account = await hub.gate.add(body.user, password_hash=hashed, admin=body.admin)
    hub.gate.audit("account_made", user=account.name, by=admin.name, admin="on" if account.admin else None)
    return answer(_account(hub, account), 201)


@router.patch("/accounts/{name}", summary="Change somebody's rights or password, for admins")
async def change_account(hub: HubIn, admin: Admin, name: MemberName, body: AccountChange) -> Response:
    account = await hub.gate.change(name, by=admin.name, admin=body.admin, disabled=body.disabled)
    if body.password is not None:
        account = await hub.gate.set_password(name, body.password, by=admin.name)
    return answer(_account(hub, account))


@router.post("/accounts/{name}/sign-out", summary="Sign somebody out everywhere, for admins", status_code=204)
async def sign_out_everywhere(hub: HubIn, admin: Admin, name: MemberName) -> Response:
    await hub.gate.sign_out_everywhere(name, by=admin.name)
    return Response(status_code=204)
