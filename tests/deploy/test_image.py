"""The image: its Dockerfile's own steps, run from a clean directory, make a server that does what the page says.

No container engine is needed, and none is tried: see support/image.py for what that leaves out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from hubbub import config
from support.gunicorn import free_ports
from support.image import Stage, StepFailed, build, ignored, instructions
from support.process import READY_S, ROOT, missing

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tmp = tmp_path_factory.mktemp("image")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        try:
            yield build(tmp)
        except StepFailed as failed:
            if "offline" in str(failed).lower() or "ENOTCACHED" in str(failed):
                missing(f"what the image is made of was never downloaded on this machine: {failed}")
            raise
    shutil.rmtree(tmp, ignore_errors=True)


@contextlib.asynccontextmanager
async def run(image: Stage, *command: str, **environ: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """`docker run -p PORT:8000 -e … IMAGE COMMAND`, and the port."""
    port, tcp_port = free_ports(2)
    given = {**image.environ(), "HUBBUB_PORT": str(port), "HUBBUB_TCP_PORT": str(tcp_port), **environ}
    words = [*image.entrypoint, *(command or image.command)]
    process = await asyncio.create_subprocess_exec(
        *(str(image.at(f"/app/bin/{words[0]}")), *words[1:]), env=given, cwd=image.at("."), start_new_session=True
    )
    try:
        async with asyncio.timeout(READY_S):
            while (await healthy(image, given)) != 0:
                assert process.returncode is None
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def healthy(image: Stage, environ: dict[str, str]) -> int:
    program, *arguments = image.healthcheck
    asked = await asyncio.create_subprocess_exec(
        *(str(image.at(f"/app/bin/{program}")), *arguments), env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    return await asked.wait()


async def test_docker_run_with_guests_answers_the_chat_example(image: Stage) -> None:
    async with run(image, HUBBUB_GUESTS="on") as (process, port):
        said = await asyncio.to_thread(chat, port)
        assert said[0] == "connected"
        assert said[-1] == "completed"
        page = await asyncio.to_thread(requests.get, f"http://localhost:{port}/")
        assert '<div id="app">' in page.text
        other = await asyncio.to_thread(requests.get, f"http://127.0.0.2:{port}/health")  # at all addresses
        assert other.json()["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert (image.at("/data") / "secret.key").exists()


def chat(port: int) -> list[str]:
    response = requests.post(f"http://localhost:{port}/chat", data={"message": "Hello, how are you?"}, timeout=30)
    lines = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith(b"data: ")]
    return [data["type"] for data in lines]


async def test_nobody_is_a_guest_unless_that_is_switched_on(image: Stage) -> None:
    async with run(image) as (_, port):
        refused = await asyncio.to_thread(requests.post, f"http://localhost:{port}/chat", data={"message": "hello"})
        assert refused.status_code == 401


def test_it_has_the_server_and_nothing_else(image: Stage) -> None:
    installed = {
        path.name.partition("-")[0].lower() for path in image.at("/app").glob("lib/*/site-packages/*.dist-info")
    }

    assert {"hubbub", "uvicorn", "gunicorn", "redis"} <= installed
    assert not installed & {"pytest", "mypy", "ruff", "playwright", "hatchling"}
    assert sorted(path.name for path in image.root.iterdir()) == ["app", "data"]
    assert [path.name for path in image.at("/app").glob("lib/*/site-packages/hubbub/__main__.py")]  # not editable


def test_it_runs_as_nobody_in_particular_and_says_how_it_is(image: Stage) -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.user)
    assert image.ports == ["8000", "5000"]
    assert "/healthz" in " ".join(image.healthcheck)
    config.load(environ={name: value for name, value in image.env.items() if name.startswith("HUBBUB_")}).require_safe()


def test_a_linter_of_dockerfiles_finds_nothing() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), "--no-color", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_its_uv_is_the_one_a_checkout_gets() -> None:
    (pinned,) = re.findall(r"^pinned=(\S+)$", (ROOT / "tools/uv").read_text(), re.MULTILINE)

    assert f"--from=ghcr.io/astral-sh/uv:{pinned} " in DOCKERFILE


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        (".env", True),
        (".git/config", True),
        ("web/.env", True),
        ("docs/page.png", True),
        ("tests/support/image.py", True),
        ("src/hubbub/web/index.html", True),
        ("src/hubbub/hub/__pycache__/hub.cpython-311.pyc", True),
        ("web/node_modules/vite/package.json", True),
        ("src/hubbub/app.py", False),
        ("web/src/main.tsx", False),
        ("uv.lock", False),
    ],
)
def test_secrets_and_what_is_built_elsewhere_are_not_sent_to_the_builder(path: str, left_out: bool) -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert ignored(path, patterns) is left_out


# compose.yaml


def test_compose_takes_the_file() -> None:
    """By the schema of the Compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def services(kind: str) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in COMPOSE["services"].items() if name.startswith(kind)}


def test_two_nodes_and_two_workers_share_redis_and_the_nodes_mongodb() -> None:
    nodes, (worker,) = services("node"), services("worker").values()

    assert len(nodes) == 2
    assert worker["deploy"]["replicas"] == 2
    for one in (*nodes.values(), worker):
        assert one["environment"]["REDIS_URL"] == "redis://redis:6379/0"
        assert "redis" in one["depends_on"]
    for node in nodes.values():
        assert "replicaSet=hubbub" in node["environment"]["DATABASE_URI"]
        assert node["volumes"] == ["hubbub:/data"]
    assert "hubbub" in COMPOSE["services"]["mongo"]["command"]
    assert all(name in (ROOT / "deploy/compose.Caddyfile").read_text() for name in nodes)


def test_the_settings_of_every_service_are_ones_there_are_and_hold_no_secret() -> None:
    for name, one in {**services("node"), **services("worker")}.items():
        given = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in one["environment"].items()}
        settings = config.load(environ=given, dotenv=ROOT / "nowhere")
        settings.require_safe()
        assert not settings.guests_allowed, name
        assert not settings.jwt_secret_key, name  # made once, by the first node, in the volume that both have
    assert "node1" in COMPOSE["services"]["node2"]["depends_on"]


def test_only_the_proxy_is_reached_from_outside_and_only_from_this_machine() -> None:
    published = {name: one["ports"] for name, one in COMPOSE["services"].items() if "ports" in one}

    assert published == {"proxy": ["${PUBLISH:-127.0.0.1:8000:80}"]}
    for name in ("redis", "mongo"):
        assert COMPOSE["services"][name]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_everything_it_mounts_or_names_is_there() -> None:
    volumes = set(COMPOSE["volumes"])
    for one in COMPOSE["services"].values():
        for volume in one.get("volumes", []):
            origin = volume.split(":")[0]
            assert origin in volumes or (ROOT / origin).exists(), volume
        for other in one.get("depends_on", {}):
            other_service = COMPOSE["services"][other]
            assert "healthcheck" in other_service or other_service.get("image") == "hubbub"


def test_the_stages_are_used() -> None:
    names = [rest.partition(" AS ")[2] for word, rest in instructions(DOCKERFILE) if word == "FROM"]

    for name in names[:-1]:
        assert f"--from={name} " in DOCKERFILE
