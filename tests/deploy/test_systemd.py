"""Under systemd: it is told when the server can be reached and when it goes, and the units are what systemd takes."""

from __future__ import annotations

import asyncio
import configparser
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hubbub import process, workers
from hubbub.app import DRAIN_S
from hubbub.hub import hub
from support.process import ROOT, missing, running
from support.redis import redis_server
from support.workers import WorkerProcess

UNITS = ("hubbub.service", "hubbub-worker.service")


@contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    """Where systemd would listen; a name that begins with @ is in no directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.setblocking(False)
        yield sock


async def hears(sock: socket.socket) -> str:
    async with asyncio.timeout(20):
        return (await asyncio.get_running_loop().sock_recv(sock, 1000)).decode()


async def test_systemd_hears_when_the_server_can_be_reached_and_when_it_goes(tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as sock:
        async with running(tmp_path / "home", {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
            assert "READY=1" in (await hears(sock)).split("\n")
            await asyncio.open_connection("127.0.0.1", server.port)
            await server.stop()
            assert await hears(sock) == "STOPPING=1"


async def test_systemd_hears_of_a_worker(tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as sock:
        async with redis_server() as redis:
            one = WorkerProcess(redis.url, "hubbub", tmp_path / "log", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
            try:
                await one.start()
                assert await hears(sock) == "READY=1"
            finally:
                await one.stop()
            assert await hears(sock) == "STOPPING=1"


@pytest.mark.parametrize("address", ["", "nowhere", "/nonexistent/socket", "@nobody-listens"])
def test_without_systemd_nothing_depends_on_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    process.notify("READY=1")


async def test_a_socket_without_a_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"@hubbub-{tmp_path.name}-{id(tmp_path)}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with listening(name) as sock:
        process.notify("READY=1")
        assert await hears(sock) == "READY=1"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((ROOT / "deploy" / name).read_text())
    return parser


@pytest.mark.parametrize("name", UNITS)
async def test_systemd_takes_the_unit_and_finds_it_well_protected(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd-analyze is needed")
        return
    here = tmp_path / name
    text = (ROOT / "deploy" / name).read_text()
    program = str(Path(sys.executable).with_name("hubbub"))  # it has to be there
    assert "/opt/hubbub/.venv/bin/hubbub" in text
    here.write_text(text.replace("/opt/hubbub/.venv/bin/hubbub", program))

    for command in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=20"]):
        asked = await asyncio.create_subprocess_exec(
            *(analyze, *command, str(here)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await asked.communicate())[0].decode()
        assert asked.returncode == 0, said
        assert command[0] != "verify" or name not in said, said


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_leaves_time_to_let_everybody_go(name: str) -> None:
    service = unit(name)["Service"]

    assert int(service["TimeoutStopSec"]) >= max(DRAIN_S + hub.DRAIN_S + hub.FINISH_S, workers.FINISH_S)
    assert (service["Type"], service["KillMode"], service["Restart"]) == ("notify", "mixed", "always")
