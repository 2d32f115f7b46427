"""docs/protocol.md against the code: its tables are the declarations, and its examples happen."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import reduce
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import websockets

from hubbub import config
from hubbub.app import App
from hubbub.buses import local
from hubbub.core import errors, frames, framing, names, nouns, triggers, wire
from hubbub.core.lines import HELP
from hubbub.hub import assistants, gate, limits, passwords, requests, runs, session
from hubbub.transports import lines, sse, tcp

from .pages import fences, plain, read, render, table, tables
from .shapes import OBJECTS, fields, frame_rows, object_rows, request_rows

PATIENCE_S = 10
PAGE = read("docs/protocol.md")
SERVER = {str(cls.__struct_config__.tag): cls for cls in frames.SERVER_FRAMES}
SERVER_FRAME = reduce(lambda one, other: one | other, frames.SERVER_FRAMES)  # type: ignore[return-value,arg-type]


def under(heading: str, first: str) -> list[list[str]]:
    """The rows of the table below a heading whose first column is called so."""
    return next(found.rows for found in tables(PAGE) if found.under == heading and found.head[0] == first)


def column(rows: list[list[str]], index: int = 0) -> list[str]:
    return [plain(row[index]) for row in rows]


# The tables -----------------------------------------------------------------------------------------------------


def test_every_request_is_listed_with_what_it_does_and_its_reply() -> None:
    rows = next(found.rows for found in tables(PAGE) if found.head == ["request", "what it does", "reply"])

    assert column(rows) == list(frames.REQUESTS)
    replies = {name for row in rows for name in re.findall(r"`([\w.]+)`", row[2])}
    assert replies <= set(SERVER)


def test_every_field_of_every_request_is_listed_with_its_type_limits_and_default() -> None:
    rows = next(found.rows for found in tables(PAGE) if found.head[:2] == ["request", "field"])

    assert [row[:4] for row in rows] == request_rows()
    assert all(row[4] for row in rows)


def test_every_frame_of_the_server_is_listed_and_whether_it_answers() -> None:
    rows = under("Replies and events", "frame")

    assert column(rows) == list(SERVER)
    answers = [cls.__struct_config__.tag for cls in frames.SERVER_FRAMES if issubclass(cls, frames.Reply)]
    assert [plain(row[0]) for row in rows if row[1] == "yes"] == answers
    assert all(row[2] for row in rows)


def test_every_field_of_every_frame_is_listed_with_its_type() -> None:
    rows = next(found.rows for found in tables(PAGE) if found.head[:2] == ["frame", "field"])

    assert [row[:3] for row in rows] == frame_rows()
    assert all(row[3] for row in rows)


def test_every_field_of_the_objects_inside_frames_is_listed_with_its_type() -> None:
    rows = next(found.rows for found in tables(PAGE) if found.head[:2] == ["object", "field"])

    assert [row[:3] for row in rows] == object_rows()
    assert all(row[3] for row in rows)


def test_every_error_code_has_its_numbers() -> None:
    rows = [
        [f"`{code}`", o.title, str(o.http), str(o.close), str(o.exit), "yes" if o.retry else "no"]
        for code, o in errors.OUTSIDE.items()
    ]

    found = table(PAGE, "Errors")

    assert found.rows == rows, f"The right table is:\n\n{render(found.head, rows)}\n"


LIMITS: dict[str, tuple[Any, ...]] = {
    "a frame, in either direction, or a request body": (framing.MAX_FRAME_BYTES,),
    "nesting of a frame": (wire.MAX_DEPTH,),
    "keys of one object": (wire.MAX_KEYS,),
    "an id of a request": (wire.MAX_ID,),
    "a text": (frames.MAX_TEXT_BYTES, config.BY_NAME["text_bytes"].default, limits.Limits().text_bytes),
    "metadata, as JSON": (frames.MAX_METADATA_BYTES,),
    "a key": (frames.MAX_KEY,),
    "a title": (frames.MAX_TITLE,),
    "a name": (names.MAX_NAME,),
    "messages in a page of history": (frames.MAX_HISTORY,),
    "texts in a page of history": (frames.MAX_HISTORY_BYTES,),
    "names listed in a thread or an ack": (nouns.SHOWN_MEMBERS,),
    "members of a thread where presence is told": (nouns.SHOWN_MEMBERS,),
    "an answer, which is cut there": (frames.MAX_ANSWER_BYTES,),
    "answers waiting to be written": (local.MAX_QUEUE,),
    "attempts of a run": (runs.MAX_ATTEMPTS,),
    "assistants answering each other": (triggers.MAX_DEPTH,),
    "assistants": (assistants.MAX_ASSISTANTS,),
    "instructions of an assistant": (assistants.MAX_INSTRUCTIONS,),
    "personalities of an assistant": (assistants.MAX_PERSONALITIES,),
    "messages of one member, on average": (config.BY_NAME["send_rate"].default, limits.Limits().send_rate),
    "messages of one member, at once": (config.BY_NAME["send_burst"].default, limits.Limits().send_burst),
    "sends of one connection waiting for the disk": (session.MAX_IN_FLIGHT,),
    "time to say hello": (config.BY_NAME["hello_s"].default, limits.Limits().hello_s),
    "time for a slow reader to make progress": (config.BY_NAME["slow_s"].default, limits.Limits().slow_s),
    "time for a frame to arrive whole": (config.BY_NAME["frame_s"].default, limits.Limits().frame_s),
    "connections of one member": (config.BY_NAME["member_connections"].default, limits.Limits().member_connections),
    "connections of one address": (config.BY_NAME["address_connections"].default, limits.Limits().address_connections),
    "requests of one address without a token, and tries to sign in": (
        config.BY_NAME["strangers_per_minute"].default,
        limits.Limits().strangers_per_minute,
    ),
    "wrong passwords for one name from one address": (config.BY_NAME["wrong_passwords"].default, passwords.FAILURES),
    "a password": (passwords.MAX_PASSWORD,),
    "tokens of one account": (gate.MAX_TOKENS,),
    "time to give a name in line mode": (config.BY_NAME["name_s"].default, limits.Limits().name_s),
    "a line in line mode": (lines.MAX_LINE_BYTES,),
    "the head of an HTTP request": (config.BY_NAME["head_bytes"].default, limits.Limits().head_bytes),
    "time for the head of an HTTP request": (config.BY_NAME["head_s"].default, limits.Limits().head_s),
    "time for the body of an HTTP request": (config.BY_NAME["frame_s"].default, limits.Limits().frame_s),
    "retry: of an event stream": (sse.RETRY_MS,),
    "silence on an event stream": (sse.HEARTBEAT_S,),
}
"""What the page calls a limit, and the constants that make it."""


def test_every_limit_is_what_the_code_enforces() -> None:
    documented = {plain(row[0]): int(row[1].split()[0]) for row in table(PAGE, "Limits").rows}

    assert all(len(set(values)) == 1 for values in LIMITS.values())
    assert documented == {limit: int(values[0]) for limit, values in LIMITS.items()}


def test_numbers_in_sentences_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())

    assert f"1 to {names.MAX_NAME} letters" in words
    assert f"at most {nouns.SHOWN_MEMBERS} names" in words
    assert f"waits for more than {'a' if tcp.GREET_AFTER_S == 1 else tcp.GREET_AFTER_S} second" in words


async def test_the_limits_told_at_welcome_are_those_the_page_names(app: App) -> None:
    told = requests.limits(app.hub)

    rows = table(PAGE, "Limits").rows

    assert {plain(row[2]): int(row[1].split()[0]) for row in rows if row[2]} == told


async def test_every_route_is_listed_and_there_is_no_other(app: App) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}") as client:
        described = (await client.get("/openapi.json")).json()["paths"]
        routes = {(method.upper(), path) for path, methods in described.items() for method in methods}

        rows = table(PAGE, "HTTP").rows

        assert {(row[0], plain(row[1])) for row in rows} == routes
        for row in rows:
            assert re.match(r"2\d\d\b", row[3]), row
        assert (await client.get("/")).status_code == 200


async def test_what_a_route_takes_and_answers_is_what_it_is_said_to(app: App) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}") as client:
        described = (await client.get("/openapi.json")).json()
    for method, path, takes, answers in table(PAGE, "HTTP").rows:
        route = described["paths"][plain(path)][method.lower()]
        asked = set(re.findall(r"`\?(\w+)=`", takes))
        assert {p["name"] for p in route.get("parameters", ()) if p["in"] == "query"} - {"user"} == asked, path
        assert answers.startswith(next(iter(route["responses"]))), path
        body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if body and not takes.startswith("as "):
            schema = described["components"]["schemas"][body["$ref"].rpartition("/")[2]] if "$ref" in body else body
            takes = takes.partition(", or ")[0]
            assert set(schema["properties"]) == set(re.findall(r"`(\w+)`", takes)), path


# The examples are well formed -----------------------------------------------------------------------------------


def check_request(text: str) -> None:
    request = wire.decode(text.encode())
    known = {name for name, _, _ in fields(type(request), ())} | {"type"}
    said = json.loads(text)
    assert set(said) <= known, text
    assert set(said.get("resume", ())) <= {name for name, _, _ in fields(frames.Resume)}, text


def check_frame(text: str) -> None:
    frame = msgspec.json.decode(text, type=SERVER_FRAME, strict=True)
    said = json.loads(text)
    assert json.loads(wire.encode(frame)) == said | {"type": said["type"]}, text


def test_every_json_example_is_a_valid_frame() -> None:
    examples = [line for block in fences(PAGE, "json") for line in block.splitlines() if line]

    assert examples
    for example in examples:
        kind = json.loads(example)["type"]
        assert kind in frames.REQUESTS or kind in SERVER
        check_request(example) if kind in frames.REQUESTS else check_frame(example)


def test_every_line_of_the_conversations_is_a_valid_frame() -> None:
    for block in fences(PAGE, "websocket", "tcp"):
        for line in block.splitlines():
            check_request(line[2:]) if line.startswith("→ ") else check_frame(line.removeprefix("← "))
    for data in re.findall(r"^data: (.*)$", PAGE, re.MULTILINE):
        check_frame(data)


# The examples happen --------------------------------------------------------------------------------------------


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    flags = {"home": tmp_path, "port": 0, "tcp_port": 0}
    async with App(config.load(flags, {}, Path("/nonexistent"))) as app:
        yield app


class Story:
    """Remembers what the page calls the ids that come out differently each time."""

    CHANGING = frozenset({"thread", "message", "run", "session", "time", "epoch", "version", "timestamp"})

    def __init__(self) -> None:
        self._called: dict[str, str] = {}  # the page's word → the real one

    def real(self, text: str) -> str:
        for word, real in self._called.items():
            text = text.replace(word, real)
        return text

    def same(self, page: Any, real: Any, key: str = "", inside: bool = False) -> bool:
        """Is `real` what the page shows, but for what changes each time?"""
        if isinstance(page, dict):
            if not isinstance(real, dict) or list(page) != list(real):
                return False
            return all(self.same(value, real[name], name, bool(key)) for name, value in page.items())
        if isinstance(page, list):
            pairs = zip(page, real, strict=False)
            return len(page) == len(real) and all(self.same(one, other, key, inside) for one, other in pairs)
        if isinstance(page, str) and isinstance(real, str) and page != nouns.LOBBY:
            if "…" in page:
                return real.startswith(page.partition("…")[0])
            if key in self.CHANGING or (key == "id" and inside):
                return self._called.setdefault(page, real) == real
        return bool(page == real)


async def replay(story: Story, block: str, send: Callable[[str], Awaitable[Any]], hear: Callable[[], Any]) -> None:
    """Send every `→`; of what is heard, each `←` that follows comes before the next is sent, in any order."""
    heard: list[Any] = []
    for line in block.splitlines():
        if line.startswith("→ "):
            assert not heard, f"the page does not mention {heard}"
            await send(story.real(line[2:]))
            continue
        wanted = json.loads(line.removeprefix("← "))
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [frame for frame in heard if story.same(wanted, frame)]):
                assert len(heard) < 20, f"{wanted} did not come; {heard} did"
                heard.append(json.loads(await hear()))
        heard.remove(found[0])


async def test_the_examples_of_the_page_happen_as_they_are_shown(app: App) -> None:
    story = Story()
    for found in re.finditer(r"^```(websocket|tcp|console|nc)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        await {"websocket": by_websocket, "tcp": by_tcp, "console": by_curl, "nc": by_nc}[found[1]](
            app, story, found[2]
        )


async def by_websocket(app: App, story: Story, block: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{app.http_port}/ws") as socket:
        await replay(story, block, socket.send, socket.recv)
        assert '"type":"bye"' in block
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        assert socket.close_code == 1000


async def by_tcp(app: App, story: Story, block: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.tcp_port)

    async def send(text: str) -> None:
        writer.write(len(text.encode()).to_bytes(4, "big") + text.encode())

    async def hear() -> bytes:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))

    await replay(story, block, send, hear)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()


async def by_curl(app: App, story: Story, block: str) -> None:
    """Commands that end in `&` stay and are read once the others have had their answer."""
    base = f"http://127.0.0.1:{app.http_port}"
    async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
        shown = block.splitlines()
        streams: list[Any] = []
        events: list[str] = []
        while shown:
            command = shown.pop(0).removeprefix("$ ")
            arguments = shlex.split(command)
            assert arguments[0] == "curl"
            url = next(word for word in arguments if word.startswith("http")).replace("http://127.0.0.1:8000", base)
            if arguments[-1] == "&":
                stream = await client.send(client.build_request("GET", url), stream=True)
                streams.append(stream.aiter_lines())
                assert await anext(streams[-1]) == "retry: 1000"
                continue
            answer = await client.post(
                url,
                content=arguments[arguments.index("--json") + 1],
                headers={"content-type": "application/json"},
            )
            assert story.same(json.loads(shown.pop(0)), answer.json())
            while shown and not shown[0].startswith("$ "):
                events.append(shown.pop(0))
        assert events[:2] == ["retry: 1000", ""]
        async with asyncio.timeout(PATIENCE_S):
            await compare_events(story, "\n".join(events[2:]).strip().split("\n\n"), streams[0])


async def compare_events(story: Story, events: list[str], stream: AsyncIterator[str]) -> None:
    assert await anext(stream) == ""
    for event in events:
        real: list[str] = []
        while line := await anext(stream):
            real.append(line)
        page = event.splitlines()
        assert story.same(json.loads(page[-1].removeprefix("data: ")), json.loads(real[-1].removeprefix("data: "))), (
            f"The page shows {page[-1]}, the server says {real[-1]}"
        )
        assert story.real("\n".join(page[:-1])) == "\n".join(real[:-1])


def timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)


async def by_nc(app: App, story: Story, block: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.tcp_port)
    first, *lines_after = block.splitlines(keepends=True)
    prompt, _, name = first.partition(": ")
    steps = [(name, f"{prompt}: ")]
    for line in lines_after:
        if line.startswith("> "):
            steps.append((line[2:], ""))
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line)
    for typed, shown in steps:
        writer.write(typed.encode())
        heard = ""
        async with asyncio.timeout(PATIENCE_S):
            while len(timeless(heard)) < len(timeless(shown)):
                piece = await reader.read(4096)
                assert piece, f"the connection ended; the page goes on with {shown!r}"
                heard += piece.decode()
        assert timeless(heard) == timeless(shown)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()


# What the page says in sentences ------------------------------------------------------------------------------


def test_objects_named_on_the_page_exist() -> None:
    assert set(OBJECTS) == {"Thread", "Message", "Run", "Resume"}
    for called in OBJECTS:
        assert f"`{called}`" in PAGE


def test_the_lines_of_line_mode_are_those_help_lists() -> None:
    listed = {re.split(r"\s{2,}", line)[0].casefold().split()[0] for line in HELP.splitlines()}

    documented = {plain(row[0]).casefold().split()[0] for row in table(PAGE, "Line mode").rows}

    assert {word.replace("message", "text") for word in listed} == documented
