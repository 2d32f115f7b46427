"""docs/coming-from.md, tried: every row that is said to work now is done, and what comes later is not there yet."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
import requests
import trustme
import websockets

from hubbub import config, models
from hubbub.app import App
from hubbub.apps import thermometer
from hubbub.client import Client
from hubbub.core import frames

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import mongod
from support.redis import redis_server
from support.workers import working

from .pages import ROOT, plain, read, spans, tables
from .test_settings_page import commands

PATIENCE_S = 15
NOWHERE = Path("/nonexistent")
STATUSES = ("works now", "comes later")
KEY = "0123456789abcdef0123456789abcdef"

PAGE = read("docs/coming-from.md")
ROWS = [row for found in tables(PAGE) for row in found.rows]
THERE = [plain(there) for there, _, _ in ROWS]
WORKING = [plain(there) for there, _, status in ROWS if status == "works now"]


@dataclass
class House:
    """A running server with a thermometer in it, and ways to reach it."""

    app: App
    http: httpx2.AsyncClient
    tmp: Path
    started: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def name(self) -> str:
        """Somebody who was never here."""
        return f"guest{next(self.numbers)}"

    async def once(self, what: str, start: Callable[[], Awaitable[Any]]) -> Any:
        """The result of something slow that several rows need."""
        if what not in self.started:
            self.started[what] = asyncio.ensure_future(start())
        return await self.started[what]

    async def get(self, path: str, **asked: Any) -> httpx2.Response:
        return await self.http.get(path, params=asked)

    async def post(self, path: str, body: Any, **asked: Any) -> httpx2.Response:
        return await self.http.post(path, json=body, params=asked)


Check = Callable[[House], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def tries(*there: str) -> Callable[[Check], Check]:
    """Registers what does the rows that begin with these cells; for several of them it is done once."""

    def register(check: Check) -> Check:
        async def checked(house: House) -> None:
            await house.once(repr(check), lambda: check(house))

        for cell in there:
            assert cell not in CHECKS, cell
            CHECKS[cell] = checked if len(there) > 1 else check
        return check

    return register


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    tmp = tmp_path_factory.mktemp("coming")
    flags = {"home": tmp / "home", "port": 0, "tcp_port": 0, "send_rate": 0.0, "demo_word_s": 0.001}
    async with App(config.load(flags, {}, NOWHERE)) as app:
        base = f"http://127.0.0.1:{app.http_port}"
        async with (
            httpx2.AsyncClient(base_url=base, timeout=PATIENCE_S) as http,
            Client(f"tcp://127.0.0.1:{app.tcp_port}", user="thermometer1", in_flight=1) as client,
        ):
            house = House(app, http, tmp)
            device = asyncio.create_task(thermometer.run(client, reboot_s=0.01))
            yield house
            device.cancel()
            await asyncio.gather(device, *house.started.values(), return_exceptions=True)


# The page -------------------------------------------------------------------------------------------------------


def test_the_page_has_a_table_for_each_of_the_five_projects() -> None:
    found = tables(PAGE)

    assert [table.head for table in found] == [["there", "here", "status"]] * 5
    assert {row[2] for row in ROWS} == set(STATUSES)
    assert len(set(THERE)) == len(THERE)


def test_every_row_that_works_is_tried_and_nothing_else_is() -> None:
    untried = [cell for cell in WORKING if cell not in CHECKS]
    strange = [cell for cell in CHECKS if cell not in WORKING]

    assert not untried, f"These rows say that they work now, and no check here does them: {untried}"
    assert not strange, f"These checks belong to no row that works now: {strange}"


@pytest.mark.parametrize("there", WORKING)
async def test_what_is_said_to_work_now_works(house: House, there: str) -> None:
    if there in CHECKS:
        async with asyncio.timeout(2 * PATIENCE_S):
            await CHECKS[there](house)


async def test_what_comes_later_is_not_there_yet(house: House) -> None:
    described = (await house.get("/openapi.json")).json()["paths"]
    later = " ".join(f"{there} {here.partition('today')[0]}" for there, here, status in ROWS if status == "comes later")

    for method, path in re.findall(r"`(GET|POST) (/[^`]*)`", later):
        assert method.lower() not in described.get(path, {}), f"{method} {path} is there: say that it works now"
    for command in re.findall(r"`hubbub (\w+)", later):
        assert command not in commands(), f"hubbub {command} is there: say that it works now"
    for there, _, status in ROWS:
        for variable in re.findall(r"`([A-Z][A-Z_]+)`", there) if status == "comes later" else ():
            assert not config.load(environ={variable: "x"}, dotenv=NOWHERE).origin.get(variable)
            known = any(variable in setting.aliases for setting in config.SETTINGS)
            assert not known, f"{variable} is read: say that it works now"


def test_names_said_to_be_told_at_start_are_told() -> None:
    for there, here, _ in ROWS:
        if "named at start as having no effect" in here:
            for variable in re.findall(r"`([A-Z][A-Z_]+)`", there):
                notes = config.load(environ={variable: "x"}, dotenv=NOWHERE).notes
                assert any(variable in note for note in notes), variable


def test_the_page_names_no_route_command_or_target_of_ours_that_does_not_exist() -> None:
    known = commands()

    for _, here, status in ROWS:
        if status == "works now":
            for command in re.findall(r"`hubbub (\w+)", here):
                assert command in known
    assert "HUBBUB_LOG_DIR" in spans(PAGE)


# Commands and targets -------------------------------------------------------------------------------------------


async def run(*command: str, cwd: Path = ROOT) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def target(*names: str, arguments: str = "", runs: str = "") -> Check:
    async def check(house: House) -> None:
        if shutil.which("make") is None:
            pytest.skip("make is not installed")
        for name in names:
            code, said = await run("make", "--dry-run", name, f"ARGS={arguments}")
            assert code == 0, said
            assert arguments in said
            assert runs in said

    return check


def command(name: str, *flags: str) -> Check:
    """The command exists and takes these flags."""

    async def check(house: House) -> None:
        commands()[name].parse_args(flags)

    return check


def files(*paths: str) -> Check:
    async def check(house: House) -> None:
        for path in paths:
            assert (ROOT / path).exists(), path

    return check


CHECKS |= {
    "pip install fastapi uvicorn httpx": target("install"),
    "make install": target("install"),
    "make dev-install": target("dev-install"),
    "make setup-dev": target("setup-dev"),
    "make run-dev": target("run-dev", runs="uvicorn hubbub.asgi:app --reload"),
    "make demo": target("demo", runs="hubbub up"),
    "make test": target("test", runs="pytest"),
    "make test-coverage": target("test-coverage", runs="--cov"),
    "make check-all": target("check-all", runs="mypy"),
    "make type-check, mypy --strict src/app/": target("type-check", runs="mypy --strict"),
    "make lint: ruff": target("lint", runs="ruff check"),
    "make format: Black and isort": target("format", runs="ruff format"),
    "tests.py, python -m unittest tests.py": target("test"),
    "pytest test_chat_app.py -v": target("test"),
    "idea: pytest for each service": target("test"),
    "python -m pytest src/tests/test_models.py -v": target("test", arguments="tests/core/test_lines.py -v"),
    "python -m pytest src/tests/test_models.py::TestMessage::test_message_creation -v": target(
        "test", arguments="-k word_of_its_name"
    ),
    "python -m pytest src/tests/ --cov=src/app --cov-report=html": target("test-coverage", runs="--cov-report html"),
    "python client/chat_client.py": command("chat", "--user", "ann"),
    "python async_client.py": command("chat"),
    "python thermometer.py": command("thermometer", "--name", "thermometer2"),
    "make load-test, make load-test-full, make load-test-ramp": target(
        "load-test", "load-test-full", "load-test-ramp", runs="hubbub load"
    ),
    "make run-gunicorn, gunicorn.conf.py: worker class, connections, timeout, keepalive": target(
        "run-gunicorn", arguments="--workers 2", runs="gunicorn -c gunicorn.conf.py"
    ),
    # What these do is tried in tests/deploy.
    "docker build -t chatbot-sse-server ., docker run -p 8000:8000 chatbot-sse-server": files("Dockerfile"),
    "the systemd unit": files("deploy/hubbub.service"),
    "start.sh": files("start.sh"),
    "src/load_test/client.py, src/load_test/simple_client.py": files("src/hubbub/apps/load/post_chat.py"),
    "src/app/main.py": files("src/hubbub/asgi.py"),
    "src/app/models.py": files("src/hubbub/core/nouns.py"),
    "src/app/chatbot.py": files("src/hubbub/engines/demo.py"),
    "src/app/conversation_manager.py": files("src/hubbub/hub"),
    "src/app/config.py": files("src/hubbub/config.py"),
    "src/app/logger.py": files("src/hubbub/process.py"),
    "src/tests/": files("tests/core/test_lines.py"),
    "pyproject.toml, requirements.txt, Makefile, README.md, LICENSE": files(
        "pyproject.toml", "requirements.txt", "Makefile", "README.md", "LICENSE"
    ),
}


@tries("pip install -r requirements.txt", "pip install -r requirements.txt, in the project")
async def names_the_project_itself(house: House) -> None:
    wanted = [line for line in read("requirements.txt").splitlines() if line and not line.startswith("#")]
    assert wanted == ["."]


@tries("python -m venv venv, pip install -r requirements.txt")
async def makes_an_environment(house: House) -> None:
    await target("install", runs="sync")(house)


@tries("Python 3.12.4")
async def needs_python_3_11(house: House) -> None:
    assert 'requires-python = ">=3.11"' in read("pyproject.toml")
    assert sys.version_info >= (3, 11)


@tries("fork, branch, make setup-dev, make check-all, make test, commit, pull request")
async def says_how_to_contribute(house: House) -> None:
    text = read("CONTRIBUTING.md")
    assert all(step in text for step in ("Fork", "`make setup-dev`", "`make check-all`", "pull request"))
    await target("setup-dev", "check-all", "test")(house)


# Models ---------------------------------------------------------------------------------------------------------


@tries("OPENAI_API_KEY, real models", "OPENAI_API_KEY, for the bot")
async def a_key_alone_means_a_real_model(house: House) -> None:
    for environ, wanted in (
        ({}, "demo"),
        ({"OPENAI_API_KEY": "sk-1"}, "openai"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "openai"),
    ):
        settings = config.load({}, environ, NOWHERE)
        assert models.default_engine(settings) == wanted
        assert wanted in models.engines(settings)


@tries("the LLM mock script")
async def a_program_answers(house: House) -> None:
    home = house.tmp / house.name()
    flags = {"home": home, "port": 0, "tcp_port": 0, "engine": "script", "response_delay": 0.0}
    async with App(config.load(flags, {}, NOWHERE)) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.tcp_port)
        person = Terminal(reader, writer)
        await person.types(house.name(), "Connected!.*\n")
        await person.types("openai: four words of mine", r"\[openai\] four words of mine\n")
        writer.close()


async def takes_part(house: House, *flags: str, said: str, write: tuple[str, ...] = ()) -> list[str]:
    """What `hubbub ai` has said in the lobby once its terminal says so."""
    environ = surroundings(house.tmp, HUBBUB_DEMO_WORD_S="0")
    user = house.name()
    address = f"ws://localhost:{house.app.http_port}/ws/{user}"
    async with (
        Client(f"tcp://127.0.0.1:{house.app.tcp_port}", user=house.name(), threads=[], in_flight=1) as person,
        started(f"as {user}", "hubbub", "ai", "--uri", address, *flags, cwd=house.tmp, environ=environ) as (_, process),
    ):
        for text in write:
            await person.send(text, thread="lobby")
        assert process.stdout is not None
        while said not in (await process.stdout.readline()).decode():
            assert not process.stdout.at_eof()
        page = await person.request(frames.HistoryGet(thread="lobby"))
    return [message.text for message in page.messages if message.sender == user]


@tries("mode 1, seconds: it speaks every n seconds")
async def it_speaks_by_the_clock(house: House) -> None:
    (text,) = await takes_part(house, "--mode", "seconds", "--n", "60", said="  said  ")
    assert text.startswith("(demo model) ")
    await command("ai", "--mode", "1", "--n", "3")(house)


@tries(
    "python client/ai.py, its --uri, --mode, --n and its retry",
    "ws://localhost:8000/ws/AI, where it connects",
    "mode 2, lines: it answers after every n lines",
)
async def it_answers_after_so_many_lines(house: House) -> None:
    lines = ("one", "two", "repeat: three")
    assert await takes_part(house, "--mode", "2", "--n", "3", said="  said  ", write=lines) == ["(demo model) three"]


# Starting -------------------------------------------------------------------------------------------------------


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """An environment without settings of whoever runs the tests."""
    names = {name for s in config.SETTINGS for name in (s.variable, *s.aliases)} | set(config.NOT_YET)
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"HUBBUB_HOME": str(home), "PYTHONUNBUFFERED": "1"} | more


@contextlib.asynccontextmanager
async def started(
    ready: str, *command: str, cwd: Path, environ: dict[str, str]
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A program of ours and what it said until it was ready; stopped with Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *command),
        cwd=cwd,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    try:
        while ready not in said:
            line = await process.stdout.readline()
            assert line, f"it ended: {said}"
            said += line.decode()
        yield said, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


async def launch(house: House, *flags: str) -> dict[str, Any]:
    """What `hubbub up` says and does."""
    home = house.tmp / "-".join(["up", *flags])
    home.mkdir()
    ports = ("--port", "0", "--tcp-port", "0")
    async with started("Ctrl-C", "hubbub", "up", *ports, *flags, cwd=home, environ=surroundings(home)) as (
        said,
        process,
    ):
        found = re.search(r"ws://127\.0\.0\.1:(\d+)/ws", said)
        assert found
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{found[1]}", timeout=PATIENCE_S) as http:
            page = await http.get("/")
            assistants = (await http.get("/api/assistants")).json()["assistants"]
    return {
        "said": said,
        "page": page.status_code,
        "assistants": [assistant["name"] for assistant in assistants],
        "logs": {path.name for path in (home / "logs").iterdir()},
        "exit": process.returncode,
    }


@tries("run_load_test.py with --requests, --concurrency, --multi-turn, --ramp-up, --duration")
async def load_is_tested_with_the_same_flags(house: House) -> None:
    for flags in ("--requests 10 --concurrency 5 --multi-turn", "--ramp-up 0.5 --duration 1 --concurrency 4"):
        code, said = await run(
            *(sys.executable, "-m", "hubbub", "load", "--url", str(house.http.base_url), *flags.split())
        )
        assert code == 0, said
        assert "errors     0" in said


@tries("python launcher.py", "docker-compose up --build")
async def everything_starts_with_one_command(house: House) -> None:
    up = await house.once("up", lambda: launch(house))
    assert (up["page"], up["assistants"], up["exit"]) == (200, ["openai"], 0)
    assert up["logs"] == {"server.log", "thermometer.log"}
    await target("demo", runs="hubbub up")(house)
    await files("compose.yaml")(house)


async def less(house: House) -> dict[str, Any]:
    result: dict[str, Any] = await house.once(
        "less", lambda: launch(house, "--no-web", "--no-thermometer", "--no-openai")
    )
    return result


@tries("python launcher.py --no-web")
async def starts_without_the_web_page(house: House) -> None:
    await command("up", "--no-web")(house)
    up = await less(house)
    assert up["page"] == 404
    assert "web page" not in up["said"]


@tries("python launcher.py --no-thermometer")
async def starts_without_the_thermometer(house: House) -> None:
    await command("up", "--no-thermometer")(house)
    assert (await less(house))["logs"] == {"server.log"}


@tries("python launcher.py --no-openai")
async def starts_without_the_assistant(house: House) -> None:
    await command("up", "--no-openai")(house)
    assert (await less(house))["assistants"] == []


@tries("log files in logs")
async def logs_lie_in_the_home(house: House) -> None:
    assert "server.log" in (await house.once("up", lambda: launch(house)))["logs"]
    assert config.load({"home": Path("/h")}, {}, NOWHERE).logs == Path("/h/logs")
    assert config.load({}, {"HUBBUB_LOG_DIR": "/l"}, NOWHERE).logs == Path("/l")


@tries("python async_server.py, on 127.0.0.1:5000")
async def the_server_alone_starts(house: House) -> None:
    await command("serve")(house)
    settings = config.load({}, {}, NOWHERE)
    assert (settings.host, settings.tcp_port) == ("127.0.0.1", 5000)


async def serve_by_uvicorn(house: House) -> list[str]:
    """Greeted by the page, and by the plain chat, of `uvicorn hubbub.asgi:app --reload`."""
    home = house.tmp / "uvicorn"
    home.mkdir()
    environ = surroundings(home, HUBBUB_TCP_PORT="0")
    arguments = ("uvicorn", "hubbub.asgi:app", "--reload", "--port", "0")
    async with started("Application startup complete", *arguments, cwd=home, environ=environ) as (said, _):
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{found[1]}", timeout=PATIENCE_S) as http:
            health = (await http.get("/health")).json()["status"]
        async with websockets.connect(f"ws://127.0.0.1:{found[1]}/ws") as socket:
            await socket.send('{"type":"hello","user":"ann"}')
            welcome = json.loads(await socket.recv())["type"]
    return [health, welcome]


@tries(
    "uvicorn server.main:app --reload",
    "uvicorn app.main:app --reload",
    "the script uvicorn/__main__.py with the parameters server.main:app --reload, in an IDE",
)
async def uvicorn_serves_the_app(house: House) -> None:
    assert await house.once("uvicorn", lambda: serve_by_uvicorn(house)) == ["ok", "welcome"]
    await target("run-dev", runs="uvicorn hubbub.asgi:app --reload")(house)


@tries("docker --version, docker-compose --version", "no database, no service needed")
async def runs_by_itself(house: House) -> None:
    assert (await house.get("/health")).json()["status"] == "ok"
    assert house.app.settings.store == "sqlite"


# Variables ------------------------------------------------------------------------------------------------------


def variable(name: str, text: str, value: Any) -> Check:
    """The setting of that alias takes the value."""

    async def check(house: House) -> None:
        setting = next(setting for setting in config.SETTINGS if name in setting.aliases)
        loaded = config.load(environ={name: text}, dotenv=NOWHERE)
        assert loaded.values[setting.name] == value
        assert not loaded.notes

    return check


CHECKS |= {
    "WORKERS": variable("WORKERS", "3", 3),
    "HOST, 0.0.0.0 by default": variable("HOST", "0.0.0.0", "0.0.0.0"),
    "PORT": variable("PORT", "8001", 8001),
    "DEBUG": variable("DEBUG", "True", True),
    "LOG_LEVEL": variable("LOG_LEVEL", "INFO", "info"),
    "MAX_HISTORY_LENGTH": variable("MAX_HISTORY_LENGTH", "3", 3),
    "RESPONSE_DELAY, 0.5 by default": variable("RESPONSE_DELAY", "0.5", 0.5),
    "four tasks are run together": variable("MAX_TASKS_BATCH_SIZE", "2", 2),
    "a time window for the others": variable("WAIT_BATCH_MS", "250", 250),
}


@tries("its random sleeps")
async def the_demo_model_has_a_pace(house: House) -> None:
    loaded = config.load(environ={"HUBBUB_DEMO_WORD_S": "0.5", "RESPONSE_DELAY": "2"}, dotenv=NOWHERE)
    assert (loaded.demo_word_s, loaded.response_delay) == (0.5, 2)


@tries("port 8000")
async def the_port_is_8000(house: House) -> None:
    assert config.load({}, {}, NOWHERE).port == 8000
    assert config.load({}, {"HUBBUB_PORT": "8001"}, NOWHERE).port == 8001
    await command("serve", "--port", "8001")(house)


@tries(".env in the root of the project")
async def dotenv_is_read(house: House) -> None:
    dotenv = house.tmp / ".env"
    dotenv.write_text("PORT=8001\n")
    assert config.load({}, {}, dotenv).port == 8001
    await files(".env.example")(house)


@contextlib.asynccontextmanager
async def another(house: House, **environ: str) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    """A second server, with these variables."""
    flags = {"home": house.tmp / house.name(), "port": 0, "tcp_port": 0, "store": "memory"}
    async with (
        App(config.load(flags, environ, NOWHERE)) as app,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}", timeout=PATIENCE_S) as http,
    ):
        yield app, http


@tries("DATABASE_URI, DATABASE_NAME: MongoDB", "MongoDB, MONGO_URL")
async def everything_is_kept_in_mongodb(house: House) -> None:
    with mongod.replica_set() as servers:
        uri = mongod.uri(servers)
        for variable, name in (("DATABASE_URI", "theirs"), ("MONGO_URL", "hubbub")):
            environ = {variable: uri} | ({"DATABASE_NAME": name} if name != "hubbub" else {})
            async with another(house, **environ) as (_, http):
                said = await http.post("/api/threads/lobby/messages", params={"user": "ann"}, json={"text": "hi"})
                assert said.status_code == 201, said.text
            with servers[0].client() as client:
                assert client[name]["messages"].count_documents({"sender": "ann", "text": "hi"}) == 1


PASSWORD = "correct horse battery"


@tries("JWT_SECRET_KEY", "JWT_ALGORITHM", "JWT_EXPIRES_IN_HOURS")
async def tokens_are_made_as_the_variables_say(house: House) -> None:
    environ = {"JWT_SECRET_KEY": KEY * 2, "JWT_ALGORITHM": "HS512", "JWT_EXPIRES_IN_HOURS": "1"}
    async with another(house, **environ) as (_, http):
        signed = (await http.post("/api/auth/guest", json={"user": "ann"})).json()

    claims = jwt.decode(signed["access_token"], KEY * 2, algorithms=["HS512"], audience="hubbub")
    assert claims["exp"] - claims["iat"] == signed["expires_in"] == 3600


@tries("register and log in for a JWT", "limitation: no passwords")
async def a_name_is_registered_and_needs_its_password(house: House) -> None:
    name = house.name()
    account = {"user": name, "password": PASSWORD}
    signed = await house.post("/api/auth/register", account)
    again = await house.post("/api/auth/login", account)
    wrong = await house.post("/api/auth/login", account | {"password": "something else"})

    assert [signed.status_code, again.status_code, wrong.status_code] == [201, 200, 401]
    assert again.json()["user"] == name
    house.http.cookies.clear()
    assert (await house.get("/api/me", user=name)).status_code == 401


@tries("limitation: no encryption")
async def both_ports_are_encrypted(house: House) -> None:
    authority = trustme.CA()
    issued, trusted = authority.issue_cert("127.0.0.1"), ssl.create_default_context()
    authority.configure_trust(trusted)
    cert, key = house.tmp / "cert.pem", house.tmp / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(cert, append=True)
    async with another(house, HUBBUB_TLS_CERT=str(cert), HUBBUB_TLS_KEY=str(key)) as (app, _):
        async with httpx2.AsyncClient(base_url=f"https://127.0.0.1:{app.http_port}", verify=trusted) as http:
            assert (await http.get("/healthz")).text == "ok"
        reader, writer = await asyncio.open_connection("127.0.0.1", app.tcp_port, ssl=trusted)
        writer.write(b"\n")
        assert (await reader.readuntil(b": ")).decode().endswith("Enter your username: ")
        writer.close()


@tries("CORS_ORIGINS")
async def pages_of_other_origins_may_act_when_they_are_named(house: House) -> None:
    async with another(house, CORS_ORIGINS="https://chat.example.com") as (_, http):
        for origin, status in (("https://chat.example.com", 201), ("https://other.example.com", 403)):
            answer = await http.post("/api/threads", json={}, headers={"origin": origin})
            assert answer.status_code == status


@tries("Authorization: Bearer … on every endpoint")
async def without_guests_a_token_is_needed_everywhere(house: House) -> None:
    async with another(house, HUBBUB_GUESTS="off") as (_, http):
        signed = await http.post("/api/auth/register", json={"user": "ann", "password": PASSWORD})
        token = signed.json()["access_token"]
        http.cookies.clear()
        routes = (await http.get("/openapi.json")).json()["paths"]
        for path in (
            path
            for path, methods in routes.items()
            if path.startswith("/api/") and "get" in methods and path != "/api/auth"
        ):
            assert (await http.get(path.format(id="lobby", name="ann", member="ann"))).status_code == 401, path
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await http.get("/api/me", headers=bearer)).json()["user"] == "ann"


# HTTP -----------------------------------------------------------------------------------------------------------


@tries("a JWT for somebody without an account")
async def a_guest_gets_a_token(house: House) -> None:
    name = house.name()
    signed = (await house.post("/api/auth/guest", {"user": name})).json()
    bearer = {"Authorization": f"Bearer {signed['access_token']}"}
    assert (await house.http.get("/api/me", headers=bearer)).json()["user"] == name


@tries(
    "http://localhost:8000/, the HTML client",
    "a user ID, entered in the HTML client",
    "python websocket_adapter.py, static/index.html",
    "http://localhost:8080",
    "GET /",
    "history, users online, command buttons and private messages in the web client",
)
async def the_web_page_is_there(house: House) -> None:
    page = await house.get("/")
    assert page.status_code == 200
    if "text/html" not in page.headers["content-type"]:
        pytest.skip("the web page is not built here; make web builds it")
    for script in re.findall(r'src="\./(assets/[^"]+)"', page.text):
        assert (await house.get(f"/{script}")).status_code == 200


@tries("load an existing assistant", "python openai.py")
async def openai_is_there(house: House) -> None:
    assert (await house.get("/api/assistants")).json()["assistants"][0]["name"] == "openai"


@tries("create a thread: start a conversation", "limitation: no group chats")
async def a_thread_is_made(house: House) -> None:
    made = await house.post("/api/threads", {"title": "Training"}, user=house.name())
    assert made.status_code == 201
    assert made.json()["title"] == "Training"


@tries("add a message to a thread", "retrieve the response", "run the assistant on a thread")
async def an_assistant_answers_in_a_thread(house: House) -> None:
    ann = house.name()
    id = (await house.post("/api/threads", {}, user=ann)).json()["id"]

    posted = await house.post(f"/api/threads/{id}/messages", {"text": "repeat: one two"}, user=ann)
    run = await house.post(f"/api/threads/{id}/runs", {"assistant": "openai"}, user=ann)
    mentioned = await house.post(f"/api/threads/{id}/messages", {"text": "@openai repeat: three"}, user=ann)

    assert (posted.status_code, run.status_code, mentioned.status_code) == (201, 201, 201)
    async with house.http.stream("GET", f"/api/threads/{id}/events?user={ann}") as stream:
        answers: list[str] = []
        async for line in stream.aiter_lines():
            if line.startswith("data: ") and (frame := json.loads(line[6:]))["type"] == "message":
                answers += [frame["message"]["text"]] if frame["message"]["run"] else []
            if len(answers) == 2:
                break
    assert set(answers) == {"(demo model) one two", "(demo model) three"}
    log = (await house.get(f"/api/threads/{id}/messages", user=ann)).json()["messages"]
    assert [message["text"] for message in log if message["run"]] == answers


@tries("stream the response", "waiting for the worker's events until the result is there")
async def an_answer_is_streamed(house: House) -> None:
    ann = house.name()
    id = (await house.post("/api/threads", {}, user=ann)).json()["id"]
    written, kinds = "", []
    async with house.http.stream("GET", f"/api/threads/{id}/events?user={ann}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("retry:"):
                await house.post(f"/api/threads/{id}/messages", {"text": "@openai repeat: a b c"}, user=ann)
            elif line.startswith("data: "):
                frame = json.loads(line[6:])
                kinds.append(frame["type"])
                written += frame["text"] if frame["type"] == "run.delta" else ""
                if frame["type"] == "run.completed":
                    break
    assert written == "(demo model) a b c"
    assert kinds[-2:] == ["message", "run.completed"]


@tries("POST /messages/", "GET /messages/{username}")
async def the_message_api_keeps_and_tells(house: House) -> None:
    ann, ben = house.name(), house.name()
    sent = await house.post("/messages/", {"sender": ann, "destination": ben, "message": "hello"})
    assert sent.status_code == 200
    assert (await house.get(f"/messages/{ben}")).json() == {"messages": [sent.json()]}
    assert (await house.get("/api/unseen", user=ben)).json()["messages"][0]["text"] == "hello"


async def events_of(house: House, method: str, path: str, **how: Any) -> list[tuple[str, dict[str, Any]]]:
    """Everything an event stream tells."""
    answer = await house.http.request(method, path, **how)
    found = re.findall(r"^event: (.*)\ndata: (.*)$", answer.text, re.MULTILINE)
    return [(kind, json.loads(data)) for kind, data in found]


@tries(
    "POST /chat with message, conversation_id, and its events connected, message, completed, error",
    "GET /conversations/{conversation_id}/history",
)
async def chat_answers_in_events_and_keeps_the_conversation(house: House) -> None:
    events = await events_of(house, "POST", "/chat", data={"message": "count to 3"})
    assert [kind for kind, _ in events if kind != "message"] == ["connected", "completed"]
    id = events[0][1]["conversation_id"]
    again = await events_of(house, "POST", "/chat", data={"message": "count to 4", "conversation_id": id})
    assert again[-1][1]["total_messages"] == 4
    page = (await house.get(f"/conversations/{id}/history", limit=100)).json()
    assert [message["role"] for message in page["messages"]] == ["user", "assistant"] * 2
    unknown = {"message": "hello", "conversation_id": "00000000-0000-4000-8000-000000000000"}
    assert [kind for kind, _ in await events_of(house, "POST", "/chat", data=unknown)] == ["error"]


@tries("the example with requests")
async def lines_of_data_have_type_and_content(house: House) -> None:
    def read() -> list[dict[str, Any]]:
        asked = {"message": "Hello, how are you?"}
        answer = requests.post(f"{house.http.base_url}/chat", data=asked, timeout=PATIENCE_S)
        lines = answer.iter_lines()
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    data = await asyncio.to_thread(read)
    assert all("type" in one for one in data)
    said = "".join(one.get("content", "") for one in data if one["type"] == "partial_response")
    assert said == data[-1]["message_content"]


@tries("GET /generate with context, as SSE")
async def a_context_is_printed_word_by_word(house: House) -> None:
    context = {"context": "[[delay=0]] one two three"}
    for how in ({"params": context}, {"data": context}):
        events = await events_of(house, "GET" if "params" in how else "POST", "/generate", **how)
        assert [events[0][0], events[-1][0]] == ["task", "done"]
        assert "".join(data["text"] for kind, data in events if kind == "token") == "one two three"


@tries("the test page")
async def the_test_page_is_there(house: House) -> None:
    page = await house.get("/test")
    assert page.status_code == 200
    for part in re.findall(r'(?:href|src)="(/test/[^"]+)"', page.text):
        assert (await house.get(part)).status_code == 200


@tries("a task and its ID")
async def a_run_has_an_id(house: House) -> None:
    ann = house.name()
    run = (await house.post("/api/threads/lobby/runs", {"assistant": "openai"}, user=ann)).json()
    assert (await house.get(f"/api/runs/{run['id']}", user=ann)).json()["id"] == run["id"]


@tries("tasks in Redis", "the worker script")
async def tasks_are_queued_in_redis_and_written_elsewhere(house: House) -> None:
    async with redis_server() as redis:
        environ = {"REDIS_URL": redis.url, "REDIS_TASKS_QUEUE_NAME": "tasks"}
        async with working(redis.url, "tasks", house.tmp / "worker.log"):
            given = {"home": house.tmp / "queued", "port": 0, "tcp_port": 0, "worker": False, "demo_word_s": 0.002}
            async with App(config.load(given, environ, NOWHERE)) as app:
                where = f"http://127.0.0.1:{app.http_port}/api"
                run = (
                    await house.http.post(f"{where}/threads/lobby/runs?user=ann", json={"assistant": "openai"})
                ).json()
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        now = (await house.http.get(f"{where}/runs/{run['id']}?user=ann")).json()
                        if now["state"] == "completed":
                            break
                        await asyncio.sleep(0.01)
        async with redis.client() as client:
            assert all([key.startswith(b"{tasks}:") async for key in client.scan_iter()])


@tries("leaving a task alone")
async def a_run_is_cancelled(house: House) -> None:
    ann = house.name()
    id = (await house.post("/api/threads", {}, user=ann)).json()["id"]
    await house.post(f"/api/threads/{id}/messages", {"text": "count to 2000"}, user=ann)
    run = (await house.post(f"/api/threads/{id}/runs", {"assistant": "openai"}, user=ann)).json()
    cancelled = await house.post(f"/api/runs/{run['id']}/cancel", {}, user=ann)
    assert cancelled.json()["state"] == "cancelled"


@tries("create an assistant", "several assistants on one thread")
async def several_assistants_answer_in_one_thread(house: House) -> None:
    ann, second = house.name(), house.name()
    made = await house.post("/api/assistants", {"name": second, "instructions": "Be brief."}, user=ann)
    assert made.status_code == 201
    async with talking(house, ann) as ask:
        thread = (await ask({"type": "thread.create", "members": ["openai", second]}, "thread"))["thread"]["id"]
        await ask({"type": "message.send", "thread": thread, "text": f"@openai @{second} hello"}, "ack")
        over = [await ask(None, "run.completed") for _ in range(2)]
    assert {end["assistant"] for end in over} == {"openai", second}


@tries("the endpoints in Postman")
async def the_routes_are_described(house: House) -> None:
    described = (await house.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.")
    assert "/api/threads/{id}/messages" in described["paths"]


@tries("GET /health", "idea: a health endpoint of the server")
async def health_is_told(house: House) -> None:
    health = (await house.get("/health")).json()
    assert {"status", "version", "uptime", "timestamp", "active_connections"} <= set(health)
    assert (await house.get("/healthz")).text == (await house.get("/readyz")).text == "ok"


@tries("GET /metrics")
async def metrics_are_told(house: House) -> None:
    await house.get("/health")
    answer = await house.http.get("/metrics", headers={"accept": "application/json"})
    found = answer.json()
    assert found["total_requests"] > 0
    assert 0 < found["average_response_time"] < PATIENCE_S
    assert found["error_rate"] < 1
    assert isinstance(found["active_conversations"], int)
    assert found["timestamp"]
    assert "# TYPE hubbub_http_requests_total counter" in (await house.get("/metrics")).text


@tries("idea: handlers with stats, quantiles, the slowest requests, alerts")
async def stats_are_told(house: House) -> None:
    await house.get("/health")
    found = (await house.get("/api/stats")).json()
    assert all(row["p50"] <= row["p99"] <= row["max"] for row in found["requests"]["since_start"])
    assert found["slowest"]
    assert "/api/stats" in (await house.get("/stats")).text
    assert "- alert: " in read("docs/alerts.yml")


@tries("python message_api.py")
async def messages_are_kept_by_the_server(house: House) -> None:
    ann, ben = house.name(), house.name()
    sent = await house.post("/api/messages", {"to": ben, "text": "hello"}, user=ann)
    assert sent.status_code == 201
    unseen = (await house.get("/api/unseen", user=ben)).json()["messages"]
    assert [message["text"] for message in unseen] == ["hello"]


@tries("limitation: messages are lost at restart", "no data on the client's side")
async def a_restart_loses_nothing(house: House) -> None:
    home = house.tmp / house.name()
    settings = config.load({"home": home, "port": 0, "tcp_port": 0}, {}, NOWHERE)
    for send in (True, False):
        async with App(settings) as app, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}") as http:
            if send:
                body = {"to": "ben", "text": "still here?"}
                assert (await http.post("/api/messages?user=ann", json=body)).status_code == 201
            else:
                unseen = (await http.get("/api/unseen?user=ben")).json()["messages"]
                assert [message["text"] for message in unseen] == ["still here?"]


@tries("a conversation of several turns")
async def a_conversation_goes_on(house: House) -> None:
    ann = house.name()
    async with talking(house, ann) as ask:
        first = await ask({"type": "message.send", "to": "openai", "text": "repeat: one"}, "run.completed")
        second = await ask({"type": "message.send", "to": "openai", "text": "repeat: two"}, "run.completed")
    assert first["thread"] == second["thread"]
    log = (await house.get(f"/api/threads/{first['thread']}/messages", user=ann)).json()["messages"]
    assert [message["sender"] for message in log] == [ann, "openai", ann, "openai"]


# WebSockets -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def talking(house: House, name: str, **hello: Any) -> AsyncIterator[Callable[..., Awaitable[dict[str, Any]]]]:
    """Send a frame, or none, and get the first one of a type. Without a type: whatever comes next."""
    async with websockets.connect(f"ws://127.0.0.1:{house.app.http_port}/ws") as socket:

        async def ask(frame: dict[str, Any] | None, kind: str = "") -> dict[str, Any]:
            if frame is not None:
                await socket.send(json.dumps(frame))
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    heard: dict[str, Any] = json.loads(await socket.recv())
                    if heard["type"] == kind or not kind:
                        return heard

        if hello or name:
            said = {"type": "hello"} | ({"user": name} if name else {}) | hello
            ask.welcome = await ask(said)  # type: ignore[attr-defined]
        yield ask


@tries("the WebSocket endpoint")
async def the_websocket_welcomes(house: House) -> None:
    async with talking(house, house.name()) as ask:
        assert (await ask({"type": "ping"}, "pong"))["type"] == "pong"


@tries("authentication of the WebSocket")
async def a_token_opens_the_websocket(house: House) -> None:
    name = house.name()
    token = (await house.post("/api/auth/guest", {"user": name})).json()["access_token"]
    async with talking(house, "", token=token) as ask:
        assert ask.welcome["user"] == name  # type: ignore[attr-defined]
    async with talking(house, "", token="nonsense") as ask:
        assert ask.welcome["code"] == "unauthorized"  # type: ignore[attr-defined]


@tries("a WebSocket for one thread")
async def a_websocket_hears_one_thread(house: House) -> None:
    ann = house.name()
    id = (await house.post("/api/threads", {}, user=ann)).json()["id"]
    async with talking(house, ann, threads=[id]) as ask:
        assert [thread["id"] for thread in ask.welcome["threads"]] == [id]  # type: ignore[attr-defined]


@tries("several clients on one thread, each of which gets the streamed response")
async def everyone_hears_an_answer(house: House) -> None:
    ann, ben = house.name(), house.name()
    id = (await house.post("/api/threads", {"members": [ben]}, user=ann)).json()["id"]
    async with talking(house, ann, threads=[id]) as one, talking(house, ben, threads=[id]) as other:
        await one({"type": "message.send", "thread": id, "text": "@openai repeat: hello"})
        assert (await one(None, "run.delta")) == (await other(None, "run.delta"))


@tries(
    "messages with their timestamps",
    "a message: sender, destination, message, timestamp, type, metadata",
    "the types chat, command, notification, subscription",
)
async def a_message_has_these_fields(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with talking(house, ann) as ask:
        for kind in ("chat", "command", "notification", "subscription"):
            send = {"type": "message.send", "to": ben, "text": "x", "message_type": kind, "metadata": {"n": 1}}
            message = (await ask(send, "message"))["message"]
            assert message["type"] == kind
    fields = ("sender", "destination", "text", "timestamp", "metadata")
    assert [message[name] for name in fields if name != "timestamp"] == [ann, ben, "x", {"n": 1}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["timestamp"])


@tries("the retry in the HTML client")
async def who_reconnects_goes_on(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with talking(house, ann) as ask:
        epoch = ask.welcome["server"]["epoch"]  # type: ignore[attr-defined]
        first = await ask({"type": "message.send", "to": ben, "text": "one"}, "ack")
    await house.post(f"/api/threads/{first['thread']}/messages", {"text": "two"}, user=ben)
    resume = {"epoch": epoch, "threads": {first["thread"]: 1}}
    async with talking(house, ann, resume=resume) as ask:
        heard = await ask(None, "message")
    assert (heard["seq"], heard["message"]["text"], heard["stored"]) == (2, "two", True)


def lobby_bytes(text: str, order: Any) -> bytes:
    return len(text.encode()).to_bytes(4, order) + text.encode()


@contextlib.asynccontextmanager
async def plain_chat(house: House, name: str) -> AsyncIterator[Any]:
    async with websockets.connect(f"ws://127.0.0.1:{house.app.http_port}/ws/{name}") as socket:
        yield socket


async def hear(socket: Any, *parts: str) -> bytes:
    """The first message with all of these in it; others also talk in the lobby."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message: bytes = await socket.recv()
            if all(part in message.decode("utf-8", "replace") for part in parts):
                return message


@tries("ws://localhost:8000/ws/{client_id}, four length bytes and a text")
async def the_plain_chat_understands_both_orders(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with plain_chat(house, ann) as one, plain_chat(house, ben) as other:
        await hear(one, ben, "joined")
        await other.send(lobby_bytes("from ben", "little"))
        assert await hear(one, "from ben") == lobby_bytes(f"{ben}: from ben", "big")
        await one.send(lobby_bytes("from ann", "big"))
        assert await hear(other, "from ann") == lobby_bytes(f"{ann}: from ann", "little")


@tries("a second connection with the same ID is closed")
async def a_name_is_one_connection(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with plain_chat(house, ben) as watcher, plain_chat(house, ann):
        await hear(watcher, ann, "joined")
        async with plain_chat(house, ann) as second:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await second.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "Client ID already in use."


@tries("Server: Client X joined the chat, … left the chat")
async def coming_and_going_is_told(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with plain_chat(house, ann) as one:
        async with plain_chat(house, ben):
            assert await hear(one, ben) == lobby_bytes(f"Server: Client {ben} joined the chat", "big")
        assert await hear(one, ben) == lobby_bytes(f"Server: Client {ben} left the chat", "big")


# Line mode ------------------------------------------------------------------------------------------------------


class Terminal:
    """A person with nc."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = ""

    async def types(self, line: str, until: str) -> str:
        """Type a line; the text that is shown, up to and with what the pattern matches."""
        self._writer.write(f"{line}\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            while not (found := re.search(until, self._heard)):
                piece = await self._reader.read(4096)
                assert piece, f"the connection ended after {self._heard!r}; {until!r} was expected"
                self._heard += piece.decode()
        shown, self._heard = self._heard[: found.end()], self._heard[found.end() :]
        return shown

    async def ends(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            while await self._reader.read(4096):
                pass
        return True


@contextlib.asynccontextmanager
async def terminal(house: House, name: str) -> AsyncIterator[Terminal]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.app.tcp_port)
    person = Terminal(reader, writer)
    assert (await person.types(name, "Connected!.*\n")).startswith("Enter your username: ")
    yield person
    writer.close()


def typed(line: str, shown: str) -> Check:
    """A new person types this and sees that."""

    async def check(house: House) -> None:
        async with terminal(house, house.name()) as person:
            await person.types(line, shown)

    return check


CHECKS |= {
    "Enter your username:": typed("!who", r"Users online: .*\n"),
    "Joe: hello!! → User 'Joe' is offline. Message saved.": typed(
        "Joe: hello!!", r"^User 'Joe' is offline\. Message saved\.\n"
    ),
    "!check": typed("!check", r"^No more messages\.\n"),
    "thermomter1: subscribe": typed("thermomter1: subscribe", r"Did you mean 'thermometer1'\?"),
    "thermometer1: subscribe": typed(
        "thermometer1: subscribe", r"Subscription confirmed\.\n.*\[thermometer1\] Temperature update: \d\d\.\d °C"
    ),
    "thermometer1: reboot": typed("thermometer1: reboot", r"Rebooting…\n(.|\n)*Reboot complete\."),
    "thermometer1: range": typed("thermometer1: range", r"Temperature range: (\d\d\.\d(, )?){5} °C"),
    "thermometer1: unsubscribe": typed("thermometer1: unsubscribe", r"You were not subscribed\.|Unsubscribed\."),
    "openai: Hello, how are you?": typed("openai: Hello, how are you?", r"\[openai\] \(demo model\) \w+"),
}


@tries(
    "openai: help, openai: personality happy, openai: personality angry, openai: personality spanish, openai: rotate"
)
async def the_assistant_has_personalities(house: House) -> None:
    async with terminal(house, house.name()) as person:
        await person.types("openai: help", r"personality NAME: happy \(now\), angry, spanish")
        await person.types("openai: personality angry", r"I am angry now\.")
        await person.types("openai: rotate", r"I am spanish now\.")
        await person.types("openai: personality happy", r"I am happy now\.")


@tries("alice: Hello Alice, how are you?")
async def a_private_line_arrives(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with terminal(house, ann) as one, terminal(house, ben) as other:
        await one.types(f"{ben}: Hello Ben, how are you?\n!check", "No more messages")
        await other.types("", rf"\[[^]]+Z\]\[{ann}\] Hello Ben, how are you\?\n")


@tries("[Stored] [timestamp][sender] 'hello!', when Joe connects")
async def what_waited_is_shown(house: House) -> None:
    ann, ben = house.name(), house.name()
    async with terminal(house, ann) as one:
        await one.types(f"{ben}: hello!", "Message saved")
    reader, writer = await asyncio.open_connection("127.0.0.1", house.app.tcp_port)
    await Terminal(reader, writer).types(ben, rf"\[Stored\] \[[^]]+Z\]\[{ann}\] 'hello!'\n")
    writer.close()


@tries("exit")
async def exit_leaves(house: House) -> None:
    async with terminal(house, house.name()) as person:
        await person.types("exit", "")
        assert await person.ends()


@tries("the list of users online")
async def who_is_online_is_told(house: House) -> None:
    name = house.name()
    async with terminal(house, name):
        async with terminal(house, house.name()) as other:
            assert name in await other.types("!who", r"Users online: .*\n")
        users = (await house.get("/api/users")).json()["users"]
    assert {"name": name, "kind": "person", "online": True} in users


@tries("a temperature every 100 seconds or so")
async def readings_come_at_a_pace(house: House) -> None:
    assert config.load({}, {}, NOWHERE).thermometer_interval_s == 100
    assert config.load({}, {"HUBBUB_THERMOMETER_INTERVAL_S": "5"}, NOWHERE).thermometer_interval_s == 5
    address, name = f"tcp://127.0.0.1:{house.app.tcp_port}", house.name()
    device = asyncio.create_task(thermometer.run(address, name, 0.05))
    try:
        async with terminal(house, house.name()) as person:
            await person.types(f"{name}: subscribe", r"(Temperature update(.|\n)*){3}")
    finally:
        device.cancel()
        await asyncio.gather(device, return_exceptions=True)


@tries("idea: instructions at the start of the text")
async def the_demo_model_takes_instructions(house: House) -> None:
    async with terminal(house, house.name()) as person:
        await person.types("openai: count to 5", r"\(demo model\) 1 2 3 4 5\n")
        await person.types("openai: repeat: these words", r"\(demo model\) these words\n")


@tries('get_logger(__name__), logger.info("event_occurred", key="value")')
async def logs_are_structured(house: House) -> None:
    program = (
        "import structlog; from pathlib import Path; from hubbub import config, process; "
        "process.set_up_logging(config.load(environ={}, dotenv=Path('/nonexistent'))); "
        "structlog.get_logger('hubbub.part').info('event_occurred', key='value')"
    )
    code, said = await run(sys.executable, "-c", program)
    assert code == 0
    assert "event=event_occurred" in said
    assert "key=value" in said
