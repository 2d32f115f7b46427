"""`hubbub load` as somebody types it: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from hubbub.apps.load import Report
from support.chat_stage import ChatStage, Scene
from support.command import hubbub
from support.process import ROOT

LIMIT_S = 30


@pytest.fixture
async def stage() -> AsyncIterator[ChatStage]:
    async def play(scene: Scene) -> None:
        if scene.asked["message"] == "fail":
            scene.head(500, b"Content-Length: 0\r\n")
        elif scene.asked["message"] == "wait":
            scene.connected()
            scene.pieces("Hello, ")
            await asyncio.Event().wait()
        else:
            scene.well(total=4 if "conversation_id" in scene.asked else 2)

    async with ChatStage(play) as stage:
        yield stage


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}


async def test_all_well_is_exit_0_and_a_page_for_people(stage: ChatStage) -> None:
    code, out, err = await hubbub("load", "--url", stage.url, "--requests", 20, "--concurrency", 4)

    assert (code, err) == (0, "")
    assert f"POST /chat at {stage.url}\nclosed loop" in out
    assert "requests   20 in" in out
    assert "ok         20\nerrors     0\npieces     60," in out
    assert [line.split()[0] for line in out.splitlines() if " ms" in line][:3] == ["whole", "first", "between"]
    assert "The load tester itself took" in out


async def test_an_error_is_exit_1_and_named(stage: ChatStage) -> None:
    code, out, _ = await hubbub("load", "--url", stage.url, "--requests", 3, "--message", "fail")

    assert code == 1
    assert "errors     3\n           3 × http 500:" in out


async def test_the_report_is_written_where_it_was_asked_for(stage: ChatStage, tmp_path: Path) -> None:
    file = tmp_path / "report.json"

    code, _, _ = await hubbub(
        *("load", "--url", stage.url, "--rate", 100, "--duration", 0.3, "--turns", 2, "--output", file)
    )

    report = msgspec.json.decode(file.read_bytes(), type=Report)
    assert code == 0
    assert (report.mode, report.requests, report.ok, report.plan.turns) == ("open", 30, 30, 2)
    assert json.loads(file.read_bytes())["version"] == 1


async def test_a_report_that_cannot_be_written_is_said_before_anything_is_asked(
    stage: ChatStage, tmp_path: Path
) -> None:
    code, out, err = await hubbub("load", "--url", stage.url, "--output", tmp_path / "nowhere" / "report.json")

    assert (code, out) == (2, "")
    assert "cannot be written (No such file or directory)" in err
    assert not stage.scenes


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--requests 0", "--requests is to be from 1 to"),
        ("--requests many", "invalid int value"),
        ("--url nowhere", "'nowhere' is not the address"),
        ("--ramp-up 5", "--ramp-up needs --duration or --requests"),
        ("--start --url http://127.0.0.1:1", "--start starts a server"),
        ("--token-file /nonexistent", "cannot be read"),
        ("--strange", "unrecognized arguments"),
    ],
)
async def test_what_cannot_be_done_is_one_sentence_and_exit_2(flags: str, says: str) -> None:
    code, out, err = await hubbub("load", *flags.split())

    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


async def test_more_connections_than_the_machine_gives_is_said_before_anything_is_asked(stage: ChatStage) -> None:
    line = f"ulimit -n 200; exec {shlex.quote(sys.executable)} -m hubbub load --url {stage.url} --concurrency 500"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", line), env=environ(), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()

    assert process.returncode == 2
    assert b"needs 564 open files, and this machine gives a process 200" in err
    assert not stage.scenes


async def test_started_for_itself_a_server_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "report.json"

    code, _, err = await hubbub(
        *("load", "--start", "--requests", 4, "--concurrency", 4, "--output", file),
        environ={"TMPDIR": str(tmp_path), "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "HUBBUB_GUESTS": "off"},
    )

    report = msgspec.json.decode(file.read_bytes(), type=Report)
    assert (code, err, report.ok) == (0, "", 4)
    assert os.listdir(tmp_path) == [file.name]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(report.url.rpartition(":")[2]))


async def test_the_token_of_the_environment_is_shown(stage: ChatStage) -> None:
    await hubbub("load", "--url", stage.url, "--requests", 1, environ={"HUBBUB_TOKEN": "a.b.c"})

    assert stage.scenes[0].headers["authorization"] == "Bearer a.b.c"


async def test_ctrl_c_ends_it_early_and_it_still_reports(stage: ChatStage, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "load", "--url", stage.url, "--message", "wait", "--concurrency", "3"),
        *("--output", str(file)),
        env=environ(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        await stage.asked(3)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()

    assert process.returncode == 1  # nothing was well
    assert b"stopped    before the end; 3 were under way" in out
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    assert (report.interrupted, report.unfinished, report.failed) == (True, 3, 0)


async def test_on_a_terminal_one_line_tells_how_it_goes(stage: ChatStage) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "load", "--url", stage.url, "--message", "wait", "--timeout", "0.9"),
        *("--requests", "1"),
        env=environ(),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    async with asyncio.timeout(LIMIT_S):
        code = await process.wait()
    said = os.read(ours, 65536)
    os.close(ours)

    assert code == 1
    assert b"0 requests, 0 errors, 0.0/s, 1 under way" in said
    assert said.count(b"\n") == 0
    assert said.startswith(b"\r")
    assert said.endswith(b"\r")
