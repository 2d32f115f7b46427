"""Names that pass for somebody else's, and what else of a message its sender would like to choose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh
from support.talkers import TALKERS
from tests.attack.people import PASSWORD, account, member

VICTIM = "Normal.Joe-1"
LOOK_ALIKES = {
    "in upper case": "NORMAL.JOE-1",
    "l for 1": "Normal.Joe-l",
    "I for 1": "Normal.Joe-I",
    "zero for o": "N0rmal.Joe-1",
    "rn for m": "Norrnal.Joe-1",
    "full width": "Ｎｏｒｍａｌ.Joe-1",
    "a ligature-like letter": "Normaℓ.Joe-1",
    "a superscript": "Normal.Joe-¹",
    "spaces around it": "  Normal.Joe-1 ",
}
REFUSED_AT_ALL = {
    "one letter Cyrillic": "Normаl.Joe-1",
    "one letter Greek": "Nοrmal.Joe-1",
    "a zero width space": "Normal.\u200bJoe-1",
    "a zero width joiner": "Normal.Joe\u200d-1",
    "a word joiner": "\u2060Normal.Joe-1",
    "a soft hyphen": "Nor\u00admal.Joe-1",
    "right to left": "\u202e1-eoJ.lamroN",
    "an isolate": "Normal.\u2066Joe-1\u2069",
    "a variation selector": "Normal.Joe\ufe0f-1",
    "a tag": "Normal.Joe-1\U000e0031",
    "a hangul filler": "Normal.Joe-1\u3164",
    "a mark on a digit": "Normal.Joe-1\u0301",
    "an enclosing mark": "Normal.\u20ddJoe-1",
    "a NUL": "Normal.Joe-1\0",
    "an escape": "Normal.Joe\x1b[1m",
    "a new line": "Normal\nJoe-1",
    "a space": "Normal Joe-1",
    "a line separator": "Normal\u2028Joe",
    "an at sign": "@Normal.Joe-1",
    "markup": "<b>Joe</b>",
    "a slash": "Normal/Joe",
    "only dots": "..",
    "nothing": "   ",
    "too long": "J" * 65,
    "how one leaves": "EXIT",
}
WHOLE = {"асе": "ace", "оре": "ope", "ѕсоре": "scope", "ΑΒΕ": "ABE", "рorn": ""}
"""Words that are drawn with another alphabet altogether."""


async def by_hello(house: House, name: str) -> str:
    for kind in TALKERS:
        async with await house.connect(kind) as talker:
            answer = await talker.ask("hello", user=name)
            if answer["type"] == "welcome":
                return str(answer["user"])
    return ""


async def by_registering(house: House, name: str) -> str:
    async with house.http() as http:
        answer = await http.post("/api/auth/register", json={"user": name, "password": PASSWORD})
    assert answer.status_code in (201, 400, 409), answer.text
    return str(answer.json().get("user", ""))


async def as_a_guest(house: House, name: str) -> str:
    async with house.http() as http:
        answer = await http.post("/api/auth/guest", json={"user": name})
        asked = await http.get("/api/me", params={"user": name})
    assert answer.status_code in (201, 400, 401, 409), answer.text
    assert asked.status_code in (200, 400, 401, 409), asked.text
    return str(answer.json().get("user", "") or asked.json().get("user", ""))


async def by_plain_chat(house: House, name: str) -> str:
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/ws/" + quote(name, safe=""), HANDSHAKE))
        if (await wire.response()).status != 101:
            return ""
        try:
            async with asyncio.timeout(0.3):
                await wire.close_code()
        except TimeoutError:
            return name
        return ""


async def by_nc(house: House, name: str) -> str:
    async with await house.nc() as person:
        person.type(name.replace("\n", " "))
        person.type("exit")
        person.end()
        return name if "Connected!" in await person.rest() else ""


WAYS: list[Callable[[House, str], Awaitable[str]]] = [by_hello, by_registering, as_a_guest, by_plain_chat, by_nc]


@pytest.fixture(scope="module")
async def victims(house: House) -> list[object]:
    """The same name three times: an account's, and, under another, a guest's who is here; besides the assistant's."""
    await account(house, VICTIM)
    held = [await house.talk("framed", name) for name in ("Guest.Moll-1", *filter(None, WHOLE.values()))]
    return [*held]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nobody_passes_for_an_account(house: House, victims: object, way: Callable[..., Awaitable[str]]) -> None:
    for what, name in (LOOK_ALIKES | REFUSED_AT_ALL).items():
        assert not await way(house, name), what


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nobody_passes_for_a_guest_who_is_here(
    house: House, victims: object, way: Callable[..., Awaitable[str]]
) -> None:
    for name in ("GUEST.MOLL-1", "Guest.Mo11-1", "Guest.MoIl-l", "Guest.Moll-1", "Guest.Mοll-1", *filter(None, WHOLE)):
        assert not await way(house, name), name


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nobody_passes_for_an_assistant_or_for_the_visitor(
    house: House, way: Callable[..., Awaitable[str]]
) -> None:
    for name in ("openai", "OpenAI", "OPENAl", "0penai", "OpenAl", "OpenA1", "openaı", "oрenai"):
        assert not await way(house, name), name
    assert not await by_registering(house, "visitor")
    assert not await by_registering(house, "Visitor")


async def test_two_who_look_alike_at_the_same_moment_do_not_both_get_in(house: House) -> None:
    for turn in range(10):
        names = [f"Twin{turn}-{fresh('x')[2:]}Il", ""]
        names[1] = names[0][:-2] + "lI"
        let_in = await asyncio.gather(*(by_hello(house, name) for name in names))
        assert sum(map(bool, let_in)) <= 1, let_in


async def test_writing_to_a_look_alike_gives_nobody_that_name(house: House, victims: object) -> None:
    _, token = await member(house)
    async with house.http(token) as http:
        for alike in ("Normal.Joe-l", "N0rmal.Joe-1"):
            thread = (await http.post("/api/threads", json={})).json()["id"]
            for asked in (
                http.post("/api/messages", json={"to": alike, "text": "hello"}),
                http.post("/api/threads", json={"members": [alike]}),
                http.put(f"/api/threads/{thread}/members/{alike}"),
            ):
                assert (await asked).json()["code"] == "name_taken"
        for bad in REFUSED_AT_ALL.values():
            assert (await http.post("/api/messages", json={"to": bad, "text": "t"})).status_code in (400, 404), bad
            assert (await http.post("/api/threads", json={"members": [bad]})).status_code in (400, 404), bad
            path = f"/api/threads/{thread}/members/{quote(bad, safe='')}"
            if bad == "..":  # which is no name but a way elsewhere
                continue
            assert (await http.put(path)).status_code in (400, 404), bad
    async with await house.connect("framed") as talker:
        await talker.hello(token=token)
        for bad in REFUSED_AT_ALL.values():
            assert (await talker.ask("thread.add", thread=thread, member=bad))["type"] == "error", bad

    for way in WAYS:
        assert not await way(house, "Normal.Joe-l")
        assert not await way(house, "N0rmal.Joe-1")


FALSE = {
    "sender": "Normal.Joe-1",
    "role": "owner",
    "seq": 7,
    "timestamp": "1999-01-01T00:00:00.000Z",
    "destination": "everybody",
    "run": "r",
    "admin": True,
    "generation": 5,
    "stored": False,
}


@pytest.mark.parametrize("kind", TALKERS)
async def test_what_the_server_says_of_a_message_is_the_servers(house: House, victims: object, kind: str) -> None:
    name, token = await member(house)
    async with await house.connect(kind) as talker:
        await talker.hello(token=token, **FALSE)
        thread = await talker.group(**{key: value for key, value in FALSE.items() if key != "title"})
        said = await talker.ask("message.send", thread=thread, text="hello", **FALSE, message={"sender": "x"})
        assert said["type"] == "ack"
        message = await talker.message("hello")

    assert message["sender"] == name
    assert message["seq"] == 1
    assert message["timestamp"] > "2020"
    assert message["destination"] == thread
    assert message["run"] is None
    assert message["id"].startswith("1-")


async def test_nor_over_http(house: House, victims: object) -> None:
    name, token = await member(house)
    async with house.http(token) as http:
        thread = (await http.post("/api/threads", json={})).json()["id"]
        for field, value in FALSE.items():
            refused = await http.post(f"/api/threads/{thread}/messages", json={"text": "t", field: value})
            assert refused.status_code == 400, field
            assert (await http.post("/api/threads", json={field: value})).status_code == 400, field
        for field in ("admin", "role", "scopes", "generation", "kind"):
            body = {"user": fresh("x"), "password": PASSWORD, field: True}
            assert (await http.post("/api/auth/register", json=body)).status_code == 400, field
            assert (await http.post("/api/auth/guest", json={"user": fresh("x"), field: True})).status_code == 400
        made = await http.post(f"/api/threads/{thread}/messages?sender={VICTIM}&user={VICTIM}", json={"text": "t"})
        assert made.status_code == 201
        log = (await http.get(f"/api/threads/{thread}/messages")).json()["messages"]
    assert [message["sender"] for message in log] == [name]
