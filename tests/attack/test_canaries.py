"""Secrets nobody else has, given to the server in every way there is, and then looked for wherever they must not be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.listeners import Refused
from support.process import SETTINGS, running
from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh
from support.talkers import TALKERS

KEY = "canary-signing-key-5f1d8e7c9b0a4432"
OLD_KEY = "canary-older-key-77aa66bb55cc44dd33ee"


class Canaries:
    """`new` makes a secret; what stands anywhere of one is found by its middle."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def new(self, what: str) -> str:
        secret = f"canary-{fresh(what.replace(' ', '-'))}-{os.urandom(9).hex()}"
        self.all[secret] = what
        return secret

    def keep(self, what: str, secret: str) -> str:
        self.all[secret] = what
        return secret

    def found_in(self, text: bytes, *, but: str = "") -> list[str]:
        return [what for secret, what in self.all.items() if what != but and _core(secret) in text]


def _core(secret: str) -> bytes:
    """Without what a quotation may change: of a JWT, its signature."""
    return secret.rpartition(".")[2].encode()


class Server:
    """What House needs of an App, for a process."""

    def __init__(self, http_port: int, tcp_port: int) -> None:
        self.http_port, self.tcp_port = http_port, tcp_port


async def live(house: House, canaries: Canaries) -> bytes:
    """Use every secret rightly and wrongly, on every way in. Everything the server answered where no secret belongs."""
    said: list[bytes] = []

    async def post(http: httpx2.AsyncClient, path: str, body: Any, token: str = "", **more: Any) -> Any:
        http.cookies.clear()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await http.post(path, json=body, headers=headers, **more)
        if answer.status_code >= 400:
            said.append(answer.content)
        return answer

    name, password = fresh("member"), canaries.new("password")
    async with house.http() as http:
        made = await post(http, "/api/auth/register", {"user": name, "password": password})
        token = canaries.keep("signed token", made.json()["access_token"])
        device = await post(http, "/api/tokens", {"label": "d"}, token)
        secret = canaries.keep("device token", device.json()["token"])
        for wrong in ({"user": name, "password": canaries.new("wrong password")}, {"user": name, "password": 5}):
            await post(http, "/api/auth/login", wrong)
        short = {"user": fresh("x"), "password": canaries.new("long password") * 20}
        await post(http, "/api/auth/register", short)
        await post(http, "/api/auth/register", {"user": name, "password": canaries.new("password of a taken name")})
        await post(http, "/api/auth/register", {"user": "a b", "password": canaries.new("password of a bad name")})
        await post(http, "/api/auth/register", {"user": name, "passwort": canaries.new("password in a wrong field")})
        http.cookies.clear()
        for body in (canaries.new("no JSON"), '{"user": "x", "password": "' + canaries.new("broken JSON")):
            for path in ("/api/auth/login", "/api/auth/register"):
                answer = await http.post(path, content=body, headers={"content-type": "application/json"})
                assert answer.status_code == 400
                said.append(answer.content)
        form = {"username": name, "password": canaries.new("password in a form")}
        said.append((await http.post("/api/auth/login", data=form)).content)
        said.append((await http.post("/api/auth/login", data={f"f{n}": form["password"] for n in range(30)})).content)
        new = canaries.new("new password")
        await post(http, "/api/auth/password", {"old": canaries.new("wrong old password"), "new": new}, token)
        await post(http, "/api/auth/password", {"old": password, "new": canaries.new("long new password") * 20}, token)
        changed = await post(http, "/api/auth/password", {"old": password, "new": new}, token)
        token = canaries.keep("second signed token", changed.json()["access_token"])
        await post(http, "/api/auth/refresh", None, canaries.new("forged token"))
        await post(http, "/api/threads", {}, "hbt_" + canaries.new("forged device token"))
        said.append((await http.get("/api/me", params={"token": canaries.new("token in an address")})).content)
        said.append(
            (
                await http.get("/api/me", headers={"cookie": f"hubbub_{http.base_url.port}={canaries.new('cookie')}"})
            ).content
        )
        said.append((await http.get(f"/{canaries.new('path')}", headers={"authorization": "Basic x"})).content[:0])
        text = canaries.new("text")
        assert (await post(http, "/api/threads/lobby/messages", {"text": text}, token)).status_code == 201
        await post(http, "/api/threads/lobby/messages", {"text": [canaries.new("text in a list")]}, token)
        await post(http, "/api/threads/nowhere/messages", {"text": canaries.new("text for nowhere")}, token)
        for path in ("/openapi.json", "/health", "/metrics", "/api/stats", "/api/tokens", "/api/me"):
            said.append((await http.get(path, headers={"authorization": f"Bearer {token}"})).content)
    for kind in TALKERS:
        async with await house.connect(kind) as talker:
            for hello in (
                {"user": name, "password": canaries.new(f"wrong password over {kind}")},
                {"user": name, "password": [canaries.new(f"password in a list over {kind}")]},
                {"user": name, "password": canaries.new(f"long password over {kind}") * 40},
                {"token": canaries.new(f"forged token over {kind}")},
                {"token": {"x": canaries.new(f"token in an object over {kind}")}},
                {"unknown": canaries.new(f"secret in a wrong field over {kind}"), "token": 1},
            ):
                said.append(json.dumps(await talker.ask("hello", **hello)).encode())
            await talker.send_payload(b'{"type":"hello","token":"' + canaries.new(f"broken over {kind}").encode())
            said.append(json.dumps(await talker.take("error", code="bad_frame")).encode())
            welcome = await talker.ask("hello", token=secret)
            canaries.keep(f"token of a welcome over {kind}", welcome["token"])
            await talker.post(
                "lobby", canaries.new(f"text over {kind}"), metadata={"m": canaries.new(f"metadata {kind}")}
            )
            bad = await talker.ask(
                "message.send", thread="lobby", text=canaries.new(f"bad text {kind}"), message_type="x"
            )
            said.append(json.dumps(bad).encode())
    for path in ("/ws/somebody", "/ws"):
        async with await Wire.open(house.port) as wire:
            headers = {"authorization": f"Bearer {canaries.new('token at a door ' + path)}"}
            wire.send(request("GET", path, {**HANDSHAKE, **headers}))
            await wire.response()
            if path != "/ws":
                said.append((await wire.frame())[1])
    with contextlib.suppress(Refused):
        await house.listen(token=canaries.new("token of a stream"))
    return b"\n".join(said)


def files(home: Path) -> Iterator[Path]:
    return (path for path in home.rglob("*") if path.is_file())


async def test_no_secret_is_found_where_it_does_not_belong(tmp_path: Path) -> None:
    canaries = Canaries()
    home = tmp_path / "home"
    environ = {"HUBBUB_LOG_LEVEL": "debug", "HUBBUB_JWT_SECRET_KEY": canaries.keep("signing key", KEY)}
    async with running(home, environ) as server:
        answers = await live(House(Server(server.port, server.tcp_port)), canaries)  # type: ignore[arg-type]
        await server.stop()

        assert len(canaries.all) > 40
        assert not canaries.found_in(answers)
        assert not canaries.found_in(server.said.encode()), "in standard error"
        assert not canaries.found_in((home / "logs" / "audit.log").read_bytes()), "in the record of who came in"
        for path in files(home):
            texts = {secret: what for secret, what in canaries.all.items() if not what.startswith(("text", "metadata"))}
            kept = Canaries()
            kept.all = texts if path.name.startswith("hubbub.db") else canaries.all
            assert not kept.found_in(path.read_bytes()), path.name


async def test_a_password_typed_in_line_mode_is_kept_nowhere(tmp_path: Path) -> None:
    canaries, home, name = Canaries(), tmp_path / "home", fresh("member")
    async with running(home, {"HUBBUB_LOG_LEVEL": "debug"}) as server:
        house = House(Server(server.port, server.tcp_port))  # type: ignore[arg-type]
        async with house.http() as http:
            body = {"user": name, "password": (right := canaries.new("password"))}
            assert (await http.post("/api/auth/register", json=body)).status_code == 201
        for password in (canaries.new("wrong password"), right):
            async with await house.nc() as person:
                person.type(name)
                await person.sees("assword")
                person.type(password)
                person.type("exit")
                person.end()
                assert not canaries.found_in((await person.rest()).encode())
        await server.stop()
        assert not canaries.found_in(server.said.encode())
        for path in files(home):
            assert not canaries.found_in(path.read_bytes()), path.name


async def test_no_other_process_can_read_them(tmp_path: Path) -> None:
    """`hubbub up` starts processes: what they were started with can be read by whoever may look at them."""
    home = tmp_path / "home"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}
    environ = {"JWT_SECRET_KEY": KEY, "HUBBUB_JWT_PREVIOUS_SECRET_KEY": OLD_KEY, "HUBBUB_LOG_LEVEL": "debug"}
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "up", "--port", "0", "--tcp-port", "0", "--home", str(home)),
        env={**inherited, **SETTINGS, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    said = b""
    try:
        async with asyncio.timeout(30):
            assert up.stdout is not None
            while b"Ctrl-C stops" not in said:
                piece = await up.stdout.read(4096)
                assert piece, said
                said += piece
        async with asyncio.timeout(10):
            while not all(b"hubbub" in _of(pid, "cmdline") for pid in _children(up.pid)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        children = {pid: _of(pid, "cmdline").decode().split("\0") for pid in _children(up.pid)}
        assert len(children) == 2, children
        for pid, command in children.items():
            for key in (KEY, OLD_KEY):
                assert key not in "\0".join(command)
                if "serve" not in command:  # which signs with it
                    assert key.encode() not in _of(pid, "environ"), command
    finally:
        up.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            said += await up.stdout.read()  # type: ignore[union-attr]
            await up.wait()
    assert KEY.encode() not in said
    for path in files(home):
        assert KEY.encode() not in path.read_bytes(), path.name
        assert OLD_KEY.encode() not in path.read_bytes(), path.name


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _of(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


if sys.platform != "linux":
    test_no_other_process_can_read_them = pytest.mark.skip("there is no /proc")(test_no_other_process_can_read_them)
