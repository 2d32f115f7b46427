"""Strings that mean something to somebody: kept as they are or refused, never done, and never on a line of a log."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from hubbub import process
from hubbub.asgi import build
from hubbub.core import frames
from support.raw import Wire, request
from support.server import House, fresh, settings
from support.talkers import TALKERS
from tests.attack.people import PASSWORD, attacked, member

EVIL = {
    "SQL": "'; DROP TABLE messages; --",
    "SQL union": "x' UNION SELECT password FROM accounts WHERE '1'='1",
    "SQL wildcard": "%_\\",
    "NoSQL": '{"$gt": ""}',
    "a path": "../../../../etc/passwd",
    "a path, encoded": "..%2f..%2fsecret.key",
    "a file address": "file:///etc/passwd",
    "new lines": "a\r\nSet-Cookie: hubbub=stolen\r\n\r\n<html>",
    "a log line": "x\n2026-01-01T00:00:00Z level=error event=forged",
    "escapes": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a link": "[x](javascript:alert(1))",
    "format": "%s%n%x {0.__class__} ${jndi:ldap://x} {{7*7}} #{7*7}",
    "separators": "a\u2028b\u2029c\x85d\x0be",
    "right to left": "\u202eabc\u2066",
    "a NUL": "a\0b",
    "a shell": "$(touch /tmp/owned) `id` ; rm -rf / | cat",
    "telnet": "\xff\xf4\xff\xfd\x06",
    "an event stream": "x\nevent: bye\ndata: {}\n\n",
    "JSON": '","sender":"root","x":"',
    "long": "A" * 3000,
    "odd letters": "\U0001f469\u200d\U0001f4bb e\u0301 \ufdfa \U0010ffff",
    "a field of ours": "__proto__",
}


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """On SQLite, to whom SQL means something."""
    async with attacked(tmp_path_factory.mktemp("home"), log_level="debug") as house:
        yield house


@pytest.mark.parametrize("kind", TALKERS)
async def test_what_is_said_is_kept_to_the_letter(house: House, kind: str) -> None:
    _, token = await member(house)
    async with await house.connect(kind) as talker, house.http(token) as http:
        await talker.hello(token=token)
        thread = await talker.group()
        for text in EVIL.values():
            metadata = {"$gt": text, "__proto__": {"a": text}, text[:200]: [text]}
            await talker.post(thread, text, metadata=metadata, key=text[:128])
            message = (await talker.take("message", thread=thread))["message"]
            assert message["text"] == text
            assert message["metadata"] == metadata
        log = (await http.get(f"/api/threads/{thread}/messages?limit=200")).json()["messages"]
        assert [message["text"] for message in log] == list(EVIL.values())
        again = await talker.ask("message.send", thread=thread, text="other", key=EVIL["SQL"])
        assert again["code"] == "key_conflict"
        async with await house.listen(thread, token=token, last_id=f"{house.app.hub.store.epoch}.0") as stream:
            heard = [(await stream.take("message"))["message"]["text"] for _ in EVIL]
        assert heard == list(EVIL.values())


@pytest.mark.parametrize("kind", TALKERS)
async def test_in_every_field_of_every_verb(house: House, kind: str) -> None:
    for what, text in EVIL.items():
        async with await house.connect(kind) as talker:
            for field in ("user", "token", "password", "client"):
                said = await talker.ask("hello", **({"user": "x"} if field == "password" else {}), **{field: text})
                if said["type"] == "welcome":
                    break
                assert said["code"] in ("bad_request", "unauthorized", "name_taken", "rate_limited"), (what, said)
        async with await house.connect(kind) as talker:
            await talker.hello(fresh("guest"))
            for verb, frame in frames.REQUESTS.items():
                if verb in ("hello", "bye"):
                    continue
                for field in (name for name in frame.__struct_fields__ if name != "id"):
                    for value in (text, [text], {"$gt": text}) if what == "NoSQL" else (text,):
                        good = {"thread": "lobby", "text": "t", "member": "openai", "role": "member", "seq": 0}
                        good |= {"assistant": "openai", "run": "r", "to": None}
                        given = {name: good[name] for name in frame.__struct_fields__ if good.get(name) is not None}
                        reply = await talker.ask(verb, **{**given, field: value})
                        assert reply.get("code") != "internal", (what, verb, field)
            talker.heard.clear()
            await talker.send_payload(json.dumps({"type": text, "id": "unknown"}).encode())
            assert (await talker.take("error", id="unknown"))["code"] == "unknown_type"


async def test_in_every_part_of_every_route(house: House) -> None:
    """Paths, queries, headers and bodies."""
    _, token = await member(house, admin=True)
    document = build(house.app.settings).openapi()
    async with house.http(token) as http:
        for what, text in EVIL.items():
            there = quote(text, safe="")
            for path, item in document["paths"].items():
                for method in item:
                    if path.endswith(("/events", "/logout")):
                        continue
                    places = path.replace("{", "\0").replace("}", "\0").split("\0")
                    filled = "".join(there if at % 2 else part for at, part in enumerate(places))
                    query = f"?after={there}&limit={there}&of={there}&public={there}" if "get" in method else ""
                    body = None if method == "get" else dict.fromkeys(("user", "password", "text", "to"), text)
                    answer = await http.request(method, filled + query, json=body)
                    assert answer.status_code < 500, (what, method, path, answer.text)
                    assert "stolen" not in answer.headers.get("set-cookie", "")
                    assert "root:" not in answer.text
            assert (await http.get(f"/api/me?user={there}", headers={"authorization": ""})).status_code < 500
            for path in (f"/{there}", f"/assets/{there}", f"/api/{there}", f"/api/threads/{there}/events"):
                answer = await http.get(path)
                assert answer.status_code in (400, 404, 405), (what, path)
                assert answer.headers["content-type"].startswith("application/problem+json")


async def test_in_every_field_of_every_body(house: House) -> None:
    _, token = await member(house, admin=True)
    document = build(house.app.settings).openapi()
    schemas = document["components"]["schemas"]
    async with house.http(token) as http:
        thread = (await http.post("/api/threads", json={})).json()["id"]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                content = operation.get("requestBody", {}).get("content", {}).get("application/json")
                if content is None or "auth/logout" in path:
                    continue
                schema = content["schema"]
                schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
                filled = path.replace("{id}", thread).replace("{member}", "openai").replace("{name}", "nobody")
                for what, text in EVIL.items():
                    for field in schema["properties"]:
                        for value in (text, {"$gt": text}, [text]) if what == "NoSQL" else (text,):
                            answer = await http.request(method, filled, json={"text": "t", field: value})
                            http.cookies.clear()
                            assert answer.status_code < 500, (what, method, path, field, answer.text)
        assert (await http.get("/api/me")).status_code == 200


async def test_a_form_that_is_none_is_refused(house: House) -> None:
    async with house.http() as http:
        for form in (
            b"&".join(b"f%d=x" % number for number in range(50)),
            b"username=x&username=y&password=z&password=" + b"A" * 5000,
            b"%00=%00&username=%ff%fe&password=%",
            b"username[$gt]=&password[$gt]=",
            b"=" * 3000,
            b"",
        ):
            kind = {"content-type": "application/x-www-form-urlencoded"}
            answer = await http.post("/api/auth/login", content=form, headers=kind)
            assert 400 <= answer.status_code < 500, (form[:40], answer.text)


async def test_a_title_is_one_line_on_every_screen(house: House) -> None:
    _, token = await member(house)
    async with house.http(token) as http:
        for what, text in EVIL.items():
            answer = await http.post("/api/threads", json={"title": text[:200]})
            if answer.status_code == 201:
                assert answer.json()["title"] == text[:200].strip(), what
                assert not set("\r\n\x1b\0\x07\x9b\u2028\u202e") & set(answer.json()["title"]), what
            else:
                assert answer.status_code == 400


async def test_nothing_of_it_moves_a_screen(house: House) -> None:
    reader = fresh("reader")
    async with await house.nc(reader) as person, house.http(user=fresh("writer")) as http:
        for text in EVIL.values():
            assert (await http.post("/api/messages", json={"to": reader, "text": text})).status_code == 201
        await http.post("/api/messages", json={"to": reader, "text": "the last one"})
        await person.sees("the last one")

    assert not set("\x1b\x07\x9b\0\r\u202e\u2066") & set(person.shown)
    for line in person.shown.splitlines()[1:]:
        assert not line.startswith(("2026-01-01T00:00:00Z level", "Set-Cookie", "event:", "data:")), line


async def test_headers_are_not_split_by_what_is_in_them(house: House) -> None:
    for field in ("idempotency-key", "last-event-id", "authorization", "cookie", "x-request-id", "user-agent"):
        for what, text in EVIL.items():
            value = text.replace("\r", "").replace("\n", "").replace("\0", "").encode("utf-8").decode("latin-1")
            async with await Wire.open(house.port) as wire:
                head = f"{field}: {value}".encode("latin-1")
                body = b'{"text":"t"}'
                wire.send(
                    b"POST /api/threads/lobby/messages HTTP/1.1\r\nhost: localhost\r\n"
                    + head
                    + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
                )
                answer = await wire.response()
            assert answer.status < 500, (field, what)
            assert "stolen" not in json.dumps(answer.headers)


@contextlib.contextmanager
def logged(home: Path) -> Any:
    """What `set_up_logging` writes to standard error."""
    before, said = sys.stderr, io.StringIO()
    configured, root = structlog.get_config(), logging.getLogger()
    handlers, root.handlers, level = root.handlers, [], root.level
    sys.stderr = said
    try:
        process.set_up_logging(settings(home, log_level="debug"))
        yield said
    finally:
        sys.stderr = before
        root.handlers = handlers
        root.setLevel(level)
        structlog.configure(**configured)


def test_a_log_line_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    with logged(tmp_path) as said:
        log = structlog.get_logger("test")
        for number, text in enumerate(EVIL.values()):
            log.error("request_failed", path=text, number=number)
        try:
            raise ValueError(EVIL["new lines"] + EVIL["escapes"])
        except ValueError:
            log.exception("request_failed", path=EVIL["escapes"])
            logging.getLogger("somebody.else").exception("%s", EVIL["new lines"])

    lines = said.getvalue().split("\n")
    assert len(lines) == len(EVIL) + 3  # and what follows the last one's end
    assert not set("\r\x1b\x07\x9b\0\x0b\x85\u2028\u2029\u202e") & set(said.getvalue())


def test_whoever_reads_the_log_does_not_learn_the_id_that_lets_into_a_conversation(tmp_path: Path) -> None:
    id = "9e85343d-9639-42f7-adce-2be5ec14ac1f"
    with logged(tmp_path) as said:
        structlog.get_logger("test").info("run_queued", thread=id, run=id, position=1)
        structlog.get_logger("test").warning("request_failed", path=f"/conversations/{id}/history")
        logging.getLogger("somebody.else").warning("GET /conversations/%s/history", id)

    assert id not in said.getvalue()
    assert "run=9e85343d thread=9e85343d" in " ".join(sorted(said.getvalue().splitlines()[0].split()))
    assert said.getvalue().count("/conversations/9e85343d/history") == 2


async def test_the_record_of_who_came_in_is_one_object_a_line(house: House) -> None:
    async with house.http() as http:
        for text in EVIL.values():
            await http.post("/api/auth/login", json={"user": text[:256], "password": PASSWORD})
            await http.post("/api/auth/register", json={"user": text[:256], "password": PASSWORD})
    record = (house.app.settings.logs / "audit.log").read_bytes()

    assert len(record.splitlines()) > len(EVIL)
    for line in record.decode("ascii").split("\n")[:-1]:
        assert {"time", "event"} <= json.loads(line).keys()
    assert not set(b"\r\x1b\x07\0") & set(record)


async def test_the_page_of_an_address_gives_no_other_file(house: House) -> None:
    async with await Wire.open(house.port):
        pass
    for target in (
        "/../pyproject.toml",
        "/..%2fapp.py",
        "/%2e%2e/%2e%2e/app.py",
        "/assets/../../app.py",
        "/assets/..%2f..%2fapp.py",
        "/assets/%2e%2e%2findex.html%00.js",
        "/..\\app.py",
        "//etc/passwd",
        "/assets//etc/passwd",
        "/%c0%ae%c0%ae/app.py",
        "/.env",
        "/hubbub.db",
    ):
        async with await Wire.open(house.port) as wire:
            wire.send(request("GET", target))
            answer = await wire.response()
        assert answer.status in (400, 404), target
        assert b"import" not in answer.body
