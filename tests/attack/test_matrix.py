"""Every caller, every verb, every transport: what is done and what is refused, against a table of its own.

A verb or a route that the table does not know fails; so does one it knows and the code does not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import pytest

from hubbub.asgi import build
from hubbub.core import frames
from hubbub.core.nouns import LOBBY, new_id
from hubbub.hub import posting
from hubbub.hub.access import NEEDS, Caller
from support.inbox import Over
from support.listeners import Refused, SseReader
from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh
from support.talkers import TALKERS, Talker, WsClient
from tests.attack.cast import Cast, One
from tests.attack.ears import Ear
from tests.attack.table import CALLERS, OPEN, ROUTES, VERBS, WHO, Row

cells: Counter[str] = Counter()
"""How many were looked at, by transport."""


@pytest.fixture(scope="module")
async def cast(house: House) -> AsyncIterator[Cast]:
    yield await Cast.of(house)
    print(f"\nmatrix: {sum(cells.values())} cells: {dict(cells)}")


def routes_of(house: House) -> set[str]:
    """Everything the application answers over HTTP."""
    app = build(house.app.settings)
    found = {f"{method} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    found = {f"{method.upper()} {path}" for method, path in (one.split(" ", 1) for one in found)}
    for route in app.routes:
        found |= {f"{method} {route.path}" for method in getattr(route, "methods", None) or ()}  # type: ignore[attr-defined]
    return found


def test_the_table_knows_every_verb_and_every_route(house: House) -> None:
    verbs = {row.what for row in VERBS}
    routes = {row.what for row in ROUTES}

    assert verbs == set(frames.REQUESTS), "a verb has no row in the table, or a row no verb"
    assert set(NEEDS) == set(frames.REQUESTS.values())
    assert routes | OPEN == routes_of(house), "a route has no row in the table, or a row no route"


# Live connections


async def introduced(cast: Cast, kind: str, one: One) -> Talker:
    """A connection that has said hello, as far as it is let in."""
    talker = await cast.house.connect(kind)
    if one.letter != "n":
        await talker.ask("hello", **({"token": one.token} if one.token else {"user": one.name}))
    return talker


async def asked(cast: Cast, talker: Talker, one: One, row: Row, thread: str) -> str:
    """Ask for it there: the type of the reply, or its code when it is a refusal."""
    fields: dict[str, Any] = {"thread": thread}
    match row.what, row.form:
        case "message.send", "":
            fields["text"] = "hello"
        case "message.send", _:
            fields = {"to": fresh("friend"), "text": "hello"}
        case "thread.add", _:
            fields["member"] = fresh("friend")
        case (("thread.remove" | "thread.role"), form):
            fields["member"] = one.name if form else cast.other
            if row.what == "thread.role":
                fields["role"] = "owner"
        case "seen", _:
            fields["seq"] = 0
        case "run.start", _:
            fields["assistant"] = "openai"
        case "run.cancel", _:
            fields = {"run": await cast.run(thread)}
        case (("thread.create" | "thread.list" | "check" | "who" | "ping"), _):
            fields = {}
    reply = await talker.ask(row.what, **fields)
    talker.heard.clear()
    talker._kept.clear()
    return str(reply["code"] if reply["type"] == "error" else reply["type"])


def expected(row: Row, letter: str, public: bool) -> set[str]:
    if letter in "nWv" or (letter in "nv" and row.what != "hello"):
        return {"hello_required"}
    if letter in (row.public if public else row.closed):
        types = {"message.send": "ack", "seen": "ok", "typing": "ok", "check": "checked", "ping": "pong"}
        types |= {"thread.list": "threads", "run.start": "run", "run.cancel": "run"}
        return {types.get(row.what, "thread" if row.what.startswith("thread.") else row.what)}
    return {"unauthorized" if letter in "RW" else "not_found"}


@pytest.mark.parametrize("letter", CALLERS, ids=WHO.get)
@pytest.mark.parametrize("kind", TALKERS)
async def test_on_a_live_connection(cast: Cast, kind: str, letter: str) -> None:
    one = cast.callers[letter]
    wrong = []
    talker = await introduced(cast, kind, one)
    for row in VERBS:
        if row.what in ("hello", "bye", "register"):
            continue
        for public in (False, True):
            thread = await cast.thread(one, public=public)
            got = await asked(cast, talker, one, row, thread)
            cells[kind] += 1
            if got not in (right := expected(row, letter, public)):
                wrong.append((row.what, row.form, "public" if public else "closed", got, right))
    # Whose name is their own already has nothing to register. A bye is nobody's to refuse, and a hello is answered by
    # who one is.
    if letter != "g":
        reply = await talker.ask("register", password="12345678")
        refused = "hello_required" if letter in "nWv" else "unauthorized" if letter == "R" else "name_taken"
        assert reply["code"] == refused, reply
        cells[kind] += 1
    await talker.send("bye")
    with pytest.raises(Over):
        await talker.take("there is no such type")
    async with await cast.house.connect(kind) as again:
        who = {"token": one.token} if one.token else {"user": one.name} if letter != "n" else {}
        reply = await again.ask("hello", **who)
        let_in = letter in next(row.closed for row in VERBS if row.what == "hello")
        assert (reply["type"] == "welcome") is let_in, reply
    cells[kind] += 2
    talker.cut()
    assert not wrong, "\n".join(map(str, wrong))


# REST


class Asked:
    """One request, put together for its cell."""

    def __init__(self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> None:
        self.method, self.path, self.body, self.query = method, path, body, query or {}


async def put_together(cast: Cast, one: One, row: Row, thread: str) -> Asked:
    method, path = row.what.split(" ")
    hub = cast.house.app.hub
    body: Any = None
    query = {}
    somebody = one.name if row.form == "oneself" else cast.other
    if path.startswith("/api/threads/{id}/members/"):
        if method == "PUT" and not row.form:
            somebody = fresh("friend")
        body = {"role": "owner"} if method == "PATCH" else None
    elif path.startswith("/api/runs/"):
        path = path.replace("{id}", await cast.run(thread))
    elif path == "/api/tokens/{id}":
        token, _ = await hub.gate.make_token(cast.other, "", ["read"], by="the test")
        path = path.replace("{id}", token.id)
    elif path == "/api/assistants/{name}":
        maker = one.name if one.letter in "oRW" else cast.other
        path = path.replace("{name}", (await hub.assistants.create(Caller(maker), fresh("bot")))["name"])
    elif path == "/api/tokens":
        body = {"user": cast.other} if row.form else {}
        query = {"of": cast.other} if row.form else {}
        body, query = (body, {}) if method == "POST" else (None, query)
    elif path.startswith("/conversations/"):
        path = path.replace("{id}", await cast.conversation(one if row.form else One("o", cast.other)))
    elif path == "/generate" and method == "GET":
        query = {"context": "[[delay=0]] x"}
    elif path.startswith("/messages"):
        path = path.replace("{user}", one.name if row.form else cast.other)
        sender = cast.other if "somebody" in row.form else one.name
        body = {"sender": sender, "destination": cast.owner, "message": "hello"} if method == "POST" else None
    bodies = {
        "POST /chat": {"message": "count to 1"},
        "POST /generate": {"context": "[[delay=0]] x"},
        "POST /api/auth/password": {"old": "wrong wrong wrong", "new": "right right right"},
        "POST /api/accounts": {"user": fresh("account")},
        "PATCH /api/accounts/{name}": {"admin": False},
        "POST /api/assistants": {"name": fresh("bot")},
        "PATCH /api/assistants/{name}": {"instructions": "Be brief."},
        "POST /api/threads": {"title": "mine"},
        "PATCH /api/threads/{id}": {"title": "mine"},
        "POST /api/threads/{id}/messages": {"text": "hello"},
        "POST /api/messages": {"to": cast.other, "text": "hello"},
        "PUT /api/threads/{id}/seen": {"seq": 0},
        "POST /api/threads/{id}/runs": {"assistant": "openai"},
    }
    path = path.replace("{id}", thread).replace("{member}", somebody).replace("{name}", cast.other)
    return Asked(method, path, bodies.get(row.what, body), query)


async def status_of(cast: Cast, http: Any, one: One, ask: Asked) -> int:
    headers = {"authorization": f"Bearer {one.token}"} if one.token else {}
    query = ask.query | ({"user": one.name} if one.letter == "g" else {})
    if ask.path.endswith("/events"):
        path = ask.path + "".join(f"?{name}={value}" for name, value in query.items())
        try:
            (await SseReader.open(cast.house.port, path, headers=headers)).cut()
        except Refused as refused:
            return refused.status
        return 200
    http.cookies.clear()
    answer = await http.request(ask.method, ask.path, json=ask.body, params=query, headers=headers)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    return int(answer.status_code)


def statuses(row: Row, letter: str, public: bool) -> tuple[int, ...]:
    """What it may be answered with."""
    if letter == "v":
        return (401,)
    if letter in (row.public if public else row.closed):
        return 200, 201, 204
    if row.refused == (404,) and letter == ("R" if "/tokens/" in row.what else letter) and letter in "RW":
        return (401,)  # their token does not allow it; in the thread they might
    return row.refused


@pytest.mark.parametrize("letter", CALLERS, ids=WHO.get)
async def test_over_http(cast: Cast, letter: str) -> None:
    wrong = []
    async with cast.house.http() as http:
        for row in ROUTES:
            for public in (False, True) if "{id}" in row.what else (False,):
                one = cast.callers[letter]
                if row.what.endswith("/logout") and one.token and letter != "v":  # which ends what it shows
                    one = (await Cast.of(cast.house)).callers[letter]
                thread = await cast.thread(one, public=public)
                status = await status_of(cast, http, one, await put_together(cast, one, row, thread))
                cells["http"] += 1
                if status not in (right := statuses(row, letter, public)):
                    wrong.append((row.what, row.form, "public" if public else "closed", status, right))
    assert not wrong, "\n".join(map(str, wrong))


# The doors with a grammar of their own

LINES = {  # what is typed by a guest in a closed thread -> what a reader, a member and somebody outside are shown
    "#{title}: hello": {"r": "That takes a member or an owner", "m": None, "g": "There is no thread"},
    "!history #{title}": {"r": "the first word", "m": "the first word", "g": "There is no thread"},
    "!join #{title}": {"r": None, "m": None, "g": "There is no thread"},
    "!who": {"r": "Users online", "m": "Users online", "g": "Users online"},
    "!check": {"r": "No more messages.", "m": "No more messages.", "g": "No more messages."},
    "!threads": {"r": "{title}", "m": "{title}", "g": "#lobby"},
    "{friend}: hello": {"r": "offline", "m": "offline", "g": "offline"},
}


@pytest.mark.parametrize("letter", "rmg", ids=WHO.get)
async def test_in_line_mode(cast: Cast, letter: str) -> None:
    guest = One(letter, fresh("guest"))
    await cast.house.app.hub.arrive(guest.name)
    thread = await cast.thread(guest, public=False)
    room = await cast.house.app.hub.room(thread)
    await posting.send(cast.house.app.hub, Caller(cast.owner), frames.MessageSend(thread=thread, text="the first word"))
    async with await cast.house.nc(guest.name) as person:
        for line, shown in LINES.items():
            words = {"title": room.thread.title, "friend": fresh("friend")}
            head = room.known
            person.type(line.format(**words))
            person.type(f"{(marker := fresh('marker'))}: done?")  # answered after it
            said = await person.sees(f"User '{marker}' is offline. Message saved.")
            cells["line"] += 1
            if (right := shown[letter]) is not None:
                assert right.format(**words) in said, (line, said)
            if line.startswith("#"):
                assert (room.known > head) is (letter == "m"), line
            if letter == "g":
                assert "the first word" not in said


PLAIN = {"n": False, "g": True, "m": True, "R": True, "W": False, "v": False}
"""Who is let in at `/ws/{user}`; a path without a name is none."""


@pytest.mark.parametrize("letter", PLAIN, ids=WHO.get)
async def test_at_the_plain_chat(cast: Cast, letter: str) -> None:
    one = cast.callers[letter]
    headers = {"authorization": f"Bearer {one.token}"} if one.token else {}
    cells["/ws/{user}"] += 2
    if not PLAIN[letter]:
        async with await Wire.open(cast.house.port) as wire:
            name = "" if letter == "n" else one.name
            wire.send(request("GET", f"/ws/{name}", {**HANDSHAKE, **headers}))
            if (await wire.response()).status == 101:
                assert await wire.close_code() == 1008
        return
    listener = await Ear.open(cast.house, "lobby", user=fresh("listener"))
    said = fresh("word")
    ear = await Ear.open(cast.house, "lobby", user=one.name, token=one.token)
    assert isinstance(ear.connection, WsClient)
    await ear.connection.send_payload(said.encode())
    if letter == "R":
        await ear.hears("Server: ")
        assert said not in listener.said
    else:
        await listener.hears(f"{one.name}: {said}")
    ear.close()
    listener.close()


# What somebody outside can learn

OUTSIDE = "gax"


@pytest.mark.parametrize("letter", OUTSIDE, ids=WHO.get)
async def test_a_thread_one_is_not_in_looks_like_none(cast: Cast, letter: str) -> None:
    one = cast.callers[letter]

    def plain(text: str, *ids: str) -> str:
        for id in ids:
            text = text.replace(id, "ID")
        return re.sub(r'"id":\d+', '"id":0', text)

    async with await introduced(cast, "text", one) as talker, cast.house.http() as http:
        for row in VERBS:
            if letter in row.closed:
                continue
            there, nowhere = await cast.thread(one, public=False), new_id()
            answers = []
            for id in (there, nowhere):
                fields: dict[str, Any] = {"text": "t", "member": cast.other, "role": "owner", "seq": 0}
                fields["assistant"] = "openai"
                fields = {name: value for name, value in fields.items() if name in _fields(row.what)}
                if row.what == "run.cancel":
                    fields["run"] = await cast.run(there) if id is there else id
                else:
                    fields["thread"] = id
                reply = await talker.ask(row.what, **fields)
                answers.append(plain(json.dumps(reply | {"id": 0}), there, nowhere, fields.get("run", there)))
                cells["existence"] += 1
            assert answers[0] == answers[1], row
        for row in ROUTES:
            if letter in row.closed or "{id}" not in row.what or "tokens" in row.what or row.what.endswith("/events"):
                continue
            there, nowhere = await cast.thread(one, public=False), str(uuid4())
            ask = await put_together(cast, one, row, there)
            seen = []
            real = ask.path.split("/")[row.what.split("/").index("{id}")]
            for id in (real, nowhere):
                headers = {"authorization": f"Bearer {one.token}"} if one.token else {}
                query = {"user": one.name} if letter == "g" else {}
                path = ask.path.replace(real, id)
                answer = await http.request(ask.method, path, json=ask.body, params=query, headers=headers)
                kept = {name: value for name, value in answer.headers.items() if name != "date"}
                seen.append((answer.status_code, plain(answer.text, real, nowhere), kept))
                cells["existence"] += 1
            assert seen[0] == seen[1], row


def _fields(verb: str) -> tuple[str, ...]:
    return frames.REQUESTS[verb].__struct_fields__


async def test_nor_does_it_take_another_time(cast: Cast) -> None:
    one = cast.callers["g"]
    there = await cast.thread(one, public=False)
    took: dict[bool, list[float]] = {True: [], False: []}
    async with await introduced(cast, "framed", one) as talker:
        for turn in range(400):
            real = turn % 2 == 0
            began = perf_counter()
            await talker.ask("history", thread=there if real else new_id())
            took[real].append(perf_counter() - began)
            talker.heard.clear()

    fast, slow = sorted((median(took[True]), median(took[False])))

    assert slow < 2 * fast


async def test_the_lobby_is_the_one_thread_everybody_is_in(house: House, cast: Cast) -> None:
    async with house.http(user=fresh("new")) as http:
        assert (await http.get(f"/api/threads/{LOBBY}/messages")).status_code == 200
        assert (await http.delete(f"/api/threads/{LOBBY}")).status_code == 404
        assert (await http.patch(f"/api/threads/{LOBBY}", json={"title": "mine"})).status_code == 404
        assert (await http.delete(f"/api/threads/{LOBBY}/members/{cast.owner}")).status_code == 404
