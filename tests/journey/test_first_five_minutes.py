"""What the README's first page promises, done as a newcomer would do it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from .conftest import Running, start, stop
from .people import Framed, Person, Stream, WebSocket

COUNT = 150
ANSWER = "(demo model) " + " ".join(str(number) for number in range(1, COUNT + 1))


def first_piece(frame: dict[str, Any]) -> bool:
    return frame["type"] == "run.delta"


def end(frame: dict[str, Any]) -> bool:
    return frame["type"] == "run.completed"


async def enter(browser: Any, web: str, name: str) -> Any:
    page = await browser.new_page()
    await page.goto(web)
    await page.get_by_test_id("name").fill(name)
    await page.get_by_test_id("enter").click()
    await page.locator('[data-testid="status"][data-state="connected"]').wait_for()
    return page


async def test_five_transports_see_one_answer_and_nothing_is_lost_in_a_crash(up: Running, browser: Any) -> None:
    page = await enter(browser, up.web, "carol")
    web = await WebSocket().connect(up.http, user="dave")
    nc = await Person().connect(up.tcp, "erin")
    stream = await Stream().connect(up.http, "/api/threads/lobby/events?user=frank")
    framed = await Framed().connect(up.tcp, user="grace")
    absent = await Framed().connect(up.tcp, user="heidi")
    absent_token = absent.welcome["token"]
    heard_by_absent = absent.welcome["threads"][0]["head"]
    absent.cut()

    # Somebody asks; everybody sees the same characters in the same order.
    framed.send(type="message.send", id="ask", thread="lobby", text=f"@openai count to {COUNT}", key="ask-1")
    ack = await framed.until(lambda frame: frame["type"] == "ack")
    run = (await framed.until(first_piece))["run"]

    # One is cut in mid-answer and goes on over another transport from the exact character.
    await framed.until(lambda frame: first_piece(frame) and frame["offset"] > 60)
    token = framed.welcome["token"]
    have = framed.answer(run)
    last = max(frame["seq"] for frame in framed.frames if frame["type"] == "message")
    framed.cut()
    resumed = await WebSocket().connect(
        up.http,
        token=token,
        resume={
            "epoch": framed.welcome["server"]["epoch"],
            "threads": {"lobby": last},
            "runs": {run: [1, len(have)]},
        },
    )
    # Meanwhile people go on writing.
    await web.send(type="message.send", id=1, thread="lobby", text="still here")

    ended = await resumed.until(end)
    pieces = [frame for frame in resumed.frames if first_piece(frame)]
    assert pieces[0]["offset"] == len(have)
    assert have + "".join(piece["text"] for piece in pieces) == ANSWER
    for reader in (web, stream):
        await reader.until(end)
        assert reader.answer(run) == ANSWER
    await nc.sees(str(COUNT))
    await nc.sees("still here")
    assert "".join(nc.seen.split("[openai] ")[1].split("\n")[0].split("… ")).startswith("(demo model) 1 2 3")
    await page.locator(f'[data-run="{run}"][data-state="completed"]').wait_for()
    body = page.locator(f'[data-run="{run}"] [data-testid="body"]')
    assert " ".join((await body.inner_text()).split()) == ANSWER
    assert [text for seq, text in web.texts("lobby") if seq == ended["seq"]] == [ANSWER]

    # Another answer is being written when the server is killed.
    await resumed.send(type="message.send", id="again", thread="lobby", text=f"@openai count to {COUNT}", key="ask-2")
    second = (await web.until(lambda frame: first_piece(frame) and frame["run"] != run))["run"]
    os.kill(await up.server_pid(), signal.SIGKILL)

    # It is started again by itself; who was away gets exactly what was missed, the answer included.
    back = await again(up, token=absent_token)
    await back.until(lambda frame: frame["type"] == "message" and frame["message"]["run"] == second)
    log = back.texts("lobby")
    assert [seq for seq, _ in log] == list(range(heard_by_absent + 1, log[-1][0] + 1))
    assert [text for _, text in log].count(ANSWER) == 2
    assert (ack["seq"], f"@openai count to {COUNT}") in log
    # The page came back by itself and shows both answers once.
    await page.locator(f'[data-run="{second}"][data-state="completed"]').wait_for()
    assert await page.locator("[data-run]").count() == 2
    # The same key again is the same message.
    back.send(type="message.send", id="twice", thread="lobby", text="x")
    await back.until(lambda frame: frame["type"] == "ack")


async def again(up: Running, **hello: Any) -> Framed:
    """Connect as soon as the server is back."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await Framed().connect(up.tcp, **hello)
            except OSError:
                await asyncio.sleep(0.05)


async def test_ctrl_c_stops_everything_and_a_restart_remembers_it(tmp_path: Path) -> None:
    first = await start(tmp_path / "home")
    nc = await Person().connect(first.tcp, "alice")
    nc.types("Joe: hello!!")
    await nc.sees("User 'Joe' is offline. Message saved.")
    nc.types("thermometer1: subscribe")
    await nc.sees("Subscription confirmed.")
    server = await first.server_pid()

    said = await stop(first)

    assert first.process.returncode == 0
    assert "stopped" in said
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert set(os.listdir(first.home / "logs")) >= {"server.log", "thermometer.log"}

    second = await start(tmp_path / "home", HUBBUB_THERMOMETER_INTERVAL_S="1")
    joe = await Person().connect(second.tcp, "Joe")
    await joe.sees("[alice] 'hello!!'")
    assert joe.seen.index("Connected!") < joe.seen.index("[Stored] [")
    back = await Person().connect(second.tcp, "alice")
    await back.sees("[thermometer1] Temperature update:")
    await stop(second)


async def test_what_keeps_it_from_starting_is_one_sentence(tmp_path: Path) -> None:
    running = await start(tmp_path / "home", "--no-thermometer")
    locked = tmp_path / "file"
    locked.write_text("not a directory")

    for arguments, expected in (
        (["serve", "--port", str(running.http), "--home", str(tmp_path / "b")], f"Port {running.http}"),
        (["up", "--port", str(running.http), "--home", str(tmp_path / "c")], f"Port {running.http}"),
        (["serve", "--port", "0", "--tcp-port", "0", "--home", str(running.home)], "already running"),
        (["up", "--port", "0", "--tcp-port", "0", "--home", str(locked / "x")], "cannot be used"),
        (["serve", "--prot", "1"], "unrecognized arguments"),
    ):
        code, out = await run_hubbub(tmp_path, *arguments)

        assert code not in (0, 1), out
        assert expected in out
        assert "Traceback" not in out
        assert len(out.strip().splitlines()) <= 4
    await stop(running)


async def test_an_unknown_setting_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    code, out = await run_hubbub(tmp_path, "config", HUBBUB_TCP_PROT="1")

    assert code == 2
    assert "Did you mean HUBBUB_TCP_PORT?" in out


async def run_hubbub(cwd: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    import sys

    from .conftest import clean_environment

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={**clean_environment(), **environ},
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()
