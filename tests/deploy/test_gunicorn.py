"""Under gunicorn: what `hubbub serve` serves, by as many processes as the data allow, replaced without anybody noticing
more than a goodbye."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.certificates import certificates
from support.gunicorn import Gunicorn, free_ports, gunicorn, start
from support.process import ROOT
from support.raw import Wire, request
from support.server import fresh

TAKES = "SQLite and the queue in memory belong to one process; several take DATABASE_URI (MongoDB) and REDIS_URL."


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async with gunicorn(tmp_path_factory.mktemp("gunicorn") / "home") as server:
        yield server


async def test_everybody_comes_in_as_they_do_elsewhere(server: Gunicorn) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with (
        await server.talk("text", ann) as alice,
        await server.talk("framed", bob) as robert,
        await server.listen("lobby", user=fresh("cem")) as stream,
    ):
        await alice.write(bob, "hello")
        assert await robert.message("hello")
        await robert.post("lobby", "hello everybody")
        assert await stream.message("hello everybody")
        assert "transfer-encoding" not in stream.headers  # it has left ASGI
    async with server.http(user=ann) as http:
        said = (await http.post("/chat", data={"message": "count to 3"})).text
        assert "event: completed" in said


async def test_with_a_certificate_both_ports_are_encrypted(tmp_path: Path) -> None:
    made = certificates(tmp_path / "certificates")
    given = {"HUBBUB_TLS_CERT": str(made.cert), "HUBBUB_TLS_KEY": str(made.key)}
    async with (
        gunicorn(tmp_path / "home", tls=made.trusting, **given) as server,
        await server.talk("text", "ann") as ann,
        await server.talk("framed", "bob") as bob,
    ):
        await ann.write("bob", "hello")
        assert await bob.message("hello")


async def test_without_mongodb_and_redis_there_is_one_worker_and_it_is_said_why(server: Gunicorn) -> None:
    assert len(server.workers) == 1
    assert f"One worker: {TAKES}" in server.said


async def test_two_workers_on_data_of_one_process_are_refused(tmp_path: Path) -> None:
    server = await start(tmp_path / "home", "--workers", "2")

    assert await server.ended() == 2
    assert f"Reason: 2 processes cannot be one server here: {TAKES}" in server.said
    assert "Traceback" not in server.said
    assert not (tmp_path / "home").exists()


async def test_two_workers_of_uvicorn_are_refused_too(tmp_path: Path) -> None:
    port, tcp_port = free_ports(2)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "hubbub.asgi:app", "--workers", "2", "--port", str(port)),
        env={**os.environ, "HUBBUB_HOME": str(tmp_path / "home"), "HUBBUB_TCP_PORT": str(tcp_port)},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(40):
        said = (await process.communicate())[0].decode()

    assert f"Was uvicorn to start several workers? {TAKES}" in said
    assert "stopping the parent process" in said


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        (["--bind", "0.0.0.0:0"], {}, "would send passwords and messages over the network in the clear"),
        (["--bind", "127.0.0.1:0", "--bind", "127.0.0.2:0"], {}, "give gunicorn one bind"),
        (["--certfile", "gunicorn.conf.py", "--keyfile", "gunicorn.conf.py"], {}, "HUBBUB_TLS_CERT and HUBBUB_TLS_KEY"),
    ],
    ids=["in-the-clear", "two-addresses", "gunicorns-own-tls"],
)
async def test_what_would_not_be_safe_is_refused_in_one_sentence(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], sentence: str
) -> None:
    server = await start(tmp_path / "home", *arguments, **environ)

    assert await server.ended() == 2
    assert sentence in server.said
    assert "Traceback" not in server.said


async def test_a_tcp_port_in_use_is_said_before_any_worker_starts(tmp_path: Path, server: Gunicorn) -> None:
    second = await start(tmp_path / "home", HUBBUB_TCP_PORT=str(server.tcp_port))

    assert await second.ended() == 2
    assert f"Port {server.tcp_port} on 127.0.0.1 is in use by another program." in second.said
    assert "Booting worker" not in second.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_told_to_stop_it_answers_what_was_asked_and_says_goodbye(tmp_path: Path, number: int) -> None:
    async with (
        gunicorn(tmp_path / "home") as server,
        await server.talk("text", "ann") as ann,
        await server.talk("framed", "bob") as bob,
        await server.listen("lobby", user="cem") as cem,
    ):
        for count in range(50):
            await ann.send("message.send", thread="lobby", text=f"{count}", key=f"k{count}")
        await ann.ask("ping")
        assert await server.stop(number) == 0
        for one in (ann, bob, cem):
            bye = await one.take("bye")
            assert (bye["code"], bye["resume"]) == ("shutdown", True)
        acked = [frame for frame in ann.heard if frame["type"] == "ack"]
        assert len(acked) == 50
    async with gunicorn(tmp_path / "home") as again, again.http(user="ann") as http:
        kept = (await http.get("/api/threads/lobby/messages", params={"limit": 100})).json()["messages"]
        assert [message["text"] for message in kept][-50:] == [f"{count}" for count in range(50)]


async def test_while_the_worker_is_replaced_nobody_is_refused(tmp_path: Path) -> None:
    async with gunicorn(tmp_path / "home") as server:
        (before,) = server.workers
        async with await server.talk("text", "ann") as ann, server.http(user="bob") as http:
            await ann.post("lobby", "before")
            server.process.send_signal(signal.SIGHUP)
            assert (await ann.take("bye"))["code"] == "shutdown"
            for kind in ("text", "framed"):  # whoever comes now comes to the next worker, and waits for it
                async with await server.talk(kind, fresh("dan")) as dan:
                    assert (await dan.ask("ping"))["type"] == "pong"
            async with asyncio.timeout(30):
                while psutil.pid_exists(before):
                    http.headers["connection"] = "close"
                    assert (await http.get("/healthz")).status_code == 200
            kept = (await http.get("/api/threads/lobby/messages")).json()["messages"]
        (after,) = server.workers
        assert (after != before, kept[-1]["text"]) == (True, "before")
        assert "worker_not_started" not in server.said, server.said
        assert "Traceback" not in server.said, server.said


async def test_who_stands_still_is_replaced_and_long_streams_are_no_standstill(tmp_path: Path) -> None:
    async with gunicorn(tmp_path / "home", "--timeout", "3") as server:
        (first,) = server.workers
        async with await server.listen("lobby", user="ann") as stream:
            await asyncio.sleep(3.5)  # time is what this is about: longer than the timeout
            async with server.http(user="bob") as http:
                await http.post("/api/threads/lobby/messages", json={"text": "still there?"})
            assert await stream.message("still there?")
        assert server.workers == [first]

        os.kill(first, signal.SIGSTOP)
        async with asyncio.timeout(30):
            while first in server.workers:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await server.until_ready()
        assert "Traceback" not in server.said, server.said


async def test_workers_do_not_outlive_gunicorn(tmp_path: Path) -> None:
    async with gunicorn(tmp_path / "home") as server:
        (worker,) = server.workers
        async with await server.talk("text", "ann") as ann:
            server.process.kill()
            await server.ended()
            assert (await ann.take("bye"))["code"] == "shutdown"
        async with asyncio.timeout(20):
            while psutil.pid_exists(worker):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_an_idle_connection_is_kept_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    async with gunicorn(tmp_path / "home", "--keep-alive", "1") as server:
        wire = await Wire.open(server.port)
        wire.send(request("GET", "/healthz", {"host": "localhost"}))
        assert (await wire.response()).status == 200
        assert await wire.rest(within_s=4) == b""


async def test_a_worker_has_as_many_http_connections_as_it_may_have(tmp_path: Path) -> None:
    async with (
        gunicorn(tmp_path / "home", "--worker-connections", "3") as server,
        await server.talk("text", "ann"),
        await server.talk("text", "bob"),
    ):
        async with await server.listen("lobby", user="cem"):
            wire = await Wire.open(server.port)
            answer = await wire.response()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        async with server.http() as http:
            assert (await http.get("/healthz")).status_code == 200


def configured(**environ: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HUBBUB_") or name in ("HOST", "PORT", "WORKERS")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def test_the_configuration_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    plain = configured()
    assert (plain["bind"], plain["workers"], plain["worker_connections"]) == ("127.0.0.1:8000", 1, 1000)
    assert (plain["timeout"], plain["keepalive"]) == (30, 2)
    assert configured(HUBBUB_HOST="::1", PORT="9000")["bind"] == "[::1]:9000"
    assert configured(WORKERS="3")["workers"] == 3
    assert configured(HUBBUB_BEHIND_PROXY="1")["keepalive"] > 60  # longer than nginx keeps its own
    assert configured(HUBBUB_HTTP_CONNECTIONS="5000")["worker_connections"] == 5000
