"""`uvicorn hubbub.asgi:app`: the same doors under a server that is not ours, on its stock protocols."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect

from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh

STOCK = [("httptools", "auto"), ("h11", "websockets-sansio")]


@contextlib.asynccontextmanager
async def stock(app: Any, http: Any, ws: Any) -> AsyncIterator[House]:
    config = uvicorn.Config(app, port=0, http=http, ws=ws, lifespan="on", log_config=None, timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            assert not serving.done(), serving.result()
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield House(SimpleNamespace(http_port=port, tcp_port=0))
    finally:
        server.should_exit = True
        async with asyncio.timeout(10):
            await serving


@pytest.fixture(scope="module", params=STOCK, ids="-".join)
async def house(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, home)
        from hubbub.asgi import build

        async with stock(build(None), *request.param) as house:
            yield house


def environment(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.chdir(home)
    for name, value in {"HOME": str(home), "TCP_PORT": "0", "SEND_RATE": "0", "DEMO_WORD_S": "0.005"}.items():
        patch.setenv(f"HUBBUB_{name}", value)


@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_a_conversation_over_stock_websockets(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice:
        for number in range(150):
            await alice.send("message.send", to=bob, text=f"{number}")
        await alice.ask("ping")
        async with await house.talk(kind, bob) as robert:
            ack = await alice.write(bob, "live")
            heard = await robert.messages(151, ack["thread"])
            own = await alice.messages(151, ack["thread"])

        assert heard == own
        assert [message["text"] for message in heard] == [*(str(number) for number in range(150)), "live"]
        assert (await alice.ask("nonsense"))["code"] == "unknown_type"
        await alice.send_payload(b"garbage")
        assert (await alice.take("error"))["code"] == "bad_frame"
        assert (await alice.ask("ping"))["type"] == "pong"


async def test_an_answer_followed_over_stock_streams_and_sockets_is_the_same(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        token = alice.welcome["token"]
        thread = (await alice.write("openai", "count to 60"))["thread"]
        stream = await house.listen(thread, token=token)
        read = ""
        while len(read) < 60:
            frame = await stream.take("run.delta")
            assert frame["offset"] == len(read)
            read += frame["text"]
        last = stream.ids[len(stream.heard) - 1] or ""
        stream.cut()
        async with await house.listen(thread, token=token, last_id=last) as back:
            while (frame := await back.next())["type"] != "message":
                assert frame["type"] == "run.delta"
                assert frame["offset"] == len(read)
                read += frame["text"]
            assert (await back.next())["type"] == "run.completed"
        answer = (await alice.take("message", lambda f: f["message"]["run"]))["message"]

    assert read == frame["message"]["text"] == answer["text"]
    assert answer == frame["message"]


async def test_a_reader_who_leaves_is_gone(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("binary", fresh("alice")) as alice:
        await alice.write(bob, "so that we share a small thread")
        stream = await house.listen(user=bob)
        await alice.take("presence", user=bob, online=True)
        stream.cut()
        await alice.take("presence", user=bob, online=False)
        robert = await house.talk("text", bob)
        await alice.take("presence", user=bob, online=True)
        robert.cut()
        await alice.take("presence", user=bob, online=False)


async def test_bye_closes_normally_and_an_oversized_frame_with_1009(house: House) -> None:
    talker = await house.talk("text", fresh("alice"))
    await talker.send("bye")
    assert (await talker.closing())[0] == 1000
    talker = await house.talk("binary", fresh("alice"))
    await talker.send_message(b"\xff\xff\xff\xff")
    assert (await talker.closing())[0] == 1009
    assert [frame["code"] for frame in talker.heard if frame["type"] == "error"] == ["too_large"]


@pytest.mark.parametrize("path", ["/api/threads/nowhere/events", "/api/threads/bad.id/events", "/api/events?token=x"])
async def test_a_stream_that_cannot_be_is_refused(house: House, path: str) -> None:
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", path))
        said = await wire.response()

    assert said.status in (400, 404)
    assert said.json["code"] in ("bad_request", "not_found")


async def test_a_page_of_another_site_is_refused(house: House) -> None:
    for path in ("/ws", f"/ws/{fresh('ann')}"):
        async with await Wire.open(house.port) as wire:
            wire.send(request("GET", path, {**HANDSHAKE, "origin": "https://evil.example"}))
            assert (await wire.response()).status == 403


async def test_the_plain_chat_is_there_too(house: House) -> None:
    ann = fresh("ann")
    async with connect(f"ws://127.0.0.1:{house.port}/ws/{ann}", proxy=None) as alice:
        async with await house.talk("text", fresh("bob")) as bob:
            name = bob.welcome["user"]
            await alice.send(b"\x05\x00\x00\x00hello")
            assert (await bob.message("hello"))["sender"] == ann
            await bob.post("lobby", "hi")
            wanted = f"{name}: hi".encode()
            async with asyncio.timeout(5):
                while (await alice.recv())[4:] != wanted:
                    pass
        second = await connect(f"ws://127.0.0.1:{house.port}/ws/{ann}", proxy=None)
        await second.wait_closed()
        assert second.close_reason == "Client ID already in use."


async def test_rest_and_health_are_there_too(house: House) -> None:
    async with house.http(user=fresh("ann")) as http:
        assert (await http.get("/health")).json()["status"] == "ok"
        sent = await http.post("/api/messages", json={"to": fresh("bob"), "text": "hi"})
        assert (sent.status_code, sent.json()["seq"]) == (201, 1)
        assert (await http.get("/api/nothing")).json()["code"] == "not_found"


async def test_ctrl_c_ends_streams_and_sockets_and_the_server_within_seconds(tmp_path: Path) -> None:
    names = {"HOME": str(tmp_path), "TCP_PORT": "0"}
    environ = {**os.environ, **{f"HUBBUB_{name}": value for name, value in names.items()}}
    command = [sys.executable, "-m", "uvicorn", "hubbub.asgi:app", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while not (found := re.search(rb"http://127.0.0.1:(\d+)", await process.stderr.readline())):
                assert process.returncode is None
        house = House(SimpleNamespace(http_port=int(found[1]), tcp_port=0))
        talker, stream = await house.talk("text", "alice"), await house.listen(user="bob")

        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            logged = await process.stderr.read()
            await process.wait()

        assert b"Traceback" not in logged, logged.decode()
        assert (await stream.take("bye"))["code"] == "shutdown"
        assert (await talker.closing())[0] == 1012
        stream.cut()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_streams_of_one_request_are_the_same_there(house: House) -> None:
    async with house.http() as http:
        chatted = (await http.post("/chat", data={"message": "count to 3"})).text
        printed = (await http.get("/generate", params={"context": "[[delay=0]] one two"})).text
        async with http.stream("GET", "/generate", params={"context": "[[delay=0.05 words=100000]] on"}) as left:
            lines = left.aiter_lines()
            while "token" not in await anext(lines):
                pass
        # The script takes one batch at a time: this waits until it is free.
        after = (await http.get("/generate", params={"context": "[[delay=0]] after it"})).text

    assert re.findall("^event: (.*)$", chatted, re.MULTILINE)[-2:] == ["message", "completed"]
    assert printed.count("event: token") >= 1
    assert "event: done" in printed
    assert "event: done" in after
