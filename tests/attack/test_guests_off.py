"""With guests off nobody gets anything without a token: every route, every verb, every door is walked."""

from __future__ import annotations

import json

import pytest

from hubbub.asgi import build
from hubbub.core import frames
from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh
from support.talkers import TALKERS
from tests.attack.people import account, signed
from tests.attack.table import OPEN

IN_THE_PATH = {"id": "lobby", "member": "somebody", "name": "somebody", "user": "somebody"}


def routes(house: House) -> list[tuple[str, str]]:
    """Every method and path that is not open to everybody."""
    found = {
        (method, route.path)  # type: ignore[attr-defined]
        for route in _flat(build(house.app.settings).routes)
        for method in getattr(route, "methods", None) or ()
    }
    found |= {
        (method.upper(), path) for path, item in build(house.app.settings).openapi()["paths"].items() for method in item
    }
    return sorted(one for one in found if " ".join(one) not in OPEN)


def _flat(some: object) -> list[object]:
    return [one for route in some for one in (_flat(route.routes) if hasattr(route, "routes") else [route])]  # type: ignore[attr-defined]


@pytest.mark.parametrize("asking", ["", "?user=somebody", "?user=visitor", "?user="])
async def test_no_route_answers_a_stranger(closed_house: House, asking: str) -> None:
    walked = routes(closed_house)
    assert len(walked) > 30

    async with closed_house.http() as http:
        for method, path in walked:
            # A body that would do: of two refusals the one for the body must not come first.
            body = {"user": fresh("somebody"), "text": "t", "to": "x", "seq": 1, "role": "owner", "assistant": "openai"}
            for given in (None, body):
                answer = await http.request(method, path.format(**IN_THE_PATH) + asking, json=given)
                assert answer.status_code == 401, (method, path, answer.status_code, answer.text)
                assert answer.json()["code"] == "unauthorized"


async def test_what_is_open_is_open(closed_house: House) -> None:
    async with closed_house.http() as http:
        for path in ("/health", "/healthz", "/readyz", "/", "/openapi.json"):
            assert (await http.get(path)).status_code == 200, path
        assert (await http.post("/api/auth/guest", json={"user": "x"})).status_code == 401
        assert (await http.post("/api/auth/register", json={"user": "x1", "password": "12345678"})).status_code == 201


@pytest.mark.parametrize("kind", TALKERS)
async def test_no_verb_answers_a_stranger(closed_house: House, kind: str) -> None:
    fields = {
        "thread": "lobby",
        "member": "x",
        "role": "owner",
        "seq": 1,
        "assistant": "openai",
        "run": "r",
        "text": "t",
        "password": "12345678",
    }
    async with await closed_house.connect(kind) as talker:
        for hello in ({}, {"user": fresh("somebody")}, {"user": "visitor"}):
            assert (await talker.ask("hello", **hello))["code"] == "unauthorized"
            for verb, frame in frames.REQUESTS.items():
                if verb in ("hello", "bye"):
                    continue
                given = {name: value for name, value in fields.items() if name in frame.__struct_fields__}
                assert (await talker.ask(verb, **given))["code"] == "hello_required", verb


async def test_no_door_lets_a_stranger_in(closed_house: House) -> None:
    async with await closed_house.nc() as person:
        person.type(fresh("somebody"))
        await person.sees("Password for somebody")
        person.type("a guess")
        await person.sees("The name or the password is wrong.")
        person.type("#lobby: hello")
        person.type("!history #lobby")
        person.type("!who")
        person.type("exit")
        person.end()
        rest = await person.rest()
    assert "Connected" not in rest
    assert "Users online" not in rest
    async with await Wire.open(closed_house.port) as wire:
        wire.send(request("GET", f"/ws/{fresh('somebody')}", HANDSHAKE))
        assert (await wire.response()).status == 101
        assert await wire.close_code() == 1008


async def test_a_guests_token_from_before_is_worth_nothing(closed_house: House) -> None:
    name = fresh("guest")

    async with closed_house.http(signed(closed_house, name)) as http:
        assert (await http.get("/api/me")).status_code == 401


async def test_somebody_nobody_knows_cannot_be_written_to(closed_house: House) -> None:
    name = await account(closed_house)
    async with closed_house.http(signed(closed_house, name)) as http:
        answer = await http.post("/api/messages", json={"to": fresh("stranger"), "text": "hello"})
    assert answer.status_code == 404
    assert "Nobody is called" in json.dumps(answer.json())
