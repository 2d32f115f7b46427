"""The clock of the server jumps, by a day back or ten years on: nobody is cut off, nothing is lost or out of order.

Only the wall clock jumps, as it does on a real machine when somebody sets it; the monotonic one goes on.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.load import Crowd
from support.power import altered
from support.process import missing, running
from support.talkers import FramedClient
from support.witness import LOBBY

DAY = timedelta(days=1)
LOOKS_EVERY_S = 0.05
"""So often the server looks whose time is over."""

JUMPS = [-DAY, timedelta(hours=1), -timedelta(hours=1), 3652 * DAY]


def faketime() -> Path:
    """The library to preload."""
    if shutil.which("faketime") is None:
        missing("There is no faketime")
    env = subprocess.run(["faketime", "now", "env"], capture_output=True, text=True, check=True).stdout
    [preload] = [line for line in env.splitlines() if line.startswith("LD_PRELOAD=")]
    return Path(preload.partition("=")[2].split(":")[0])


class Clock:
    """The wall clock of one server."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(timedelta(0))
        self.environ = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, by: timedelta) -> None:
        """Be so far from the real time from now on."""
        made = self._file.with_name(self._file.name + ".new")
        made.write_text(f"{by.total_seconds():+.0f}")
        made.rename(self._file)


@pytest.mark.parametrize("rounds", [1, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_when_the_clock_jumps_nothing_is_lost_reordered_or_refused_and_nobody_is_cut_off(
    tmp_path: Path, rounds: int
) -> None:
    clock = Clock(tmp_path / "clock")
    often = altered(f"from hubbub.hub import sweep; sweep.EVERY_S = {LOOKS_EVERY_S}")
    async with running(tmp_path / "home", clock.environ, program=often) as server:
        crowd = Crowd(server)
        async with crowd.there():
            crowd.say("before", 10)
            await crowd.settled()
            for n in range(rounds):
                silent = await FramedClient.open(server.tcp_port)
                await silent.send_payload(b"{}")  # the time to say hello runs from the first byte
                assert (await silent.take("error"))["code"]
                for jump in JUMPS:
                    crowd.say(f"round {n}, {jump}", 30)
                    some = crowd.writers[0]
                    wanted = len(some.testimony.acked[LOBBY]) + 10
                    await some.until(lambda some=some, wanted=wanted: len(some.testimony.acked[LOBBY]) >= wanted)  # type: ignore[misc]
                    clock.jump(jump)
                    await crowd.settled()
                    await asyncio.sleep(4 * LOOKS_EVERY_S)
                    welcome = await newcomer(server.tcp_port, f"guest-{n}-{JUMPS.index(jump)}")
                    there = datetime.fromisoformat(welcome["server"]["time"]) - datetime.now().astimezone()
                    assert abs(there - jump) < timedelta(minutes=1), "else nothing was proved"
                await silent.hello(f"silent-{n}")  # ten years later, which were no ten seconds
                silent.cut()
            await crowd.all_heard()
        assert await server.stop() == 0
    assert crowd.codes() == set()
    assert [one.connections for one in crowd.everybody] == [1] * 5
    await crowd.judged(tmp_path / "home")


async def newcomer(port: int, name: str) -> dict[str, dict[str, str]]:
    async with await FramedClient.open(port) as talker:
        return await talker.hello(name)


async def test_a_token_that_ran_out_ends_no_connection_and_the_name_is_free_for_its_guest_again(
    tmp_path: Path,
) -> None:
    """Ten years are more than a token lives. Connections stay; who comes back signs in again."""
    clock = Clock(tmp_path / "clock")
    async with running(tmp_path / "home", clock.environ) as server:
        async with await FramedClient.open(server.tcp_port) as alice:
            token = (await alice.hello("alice"))["token"]
            clock.jump(JUMPS[-1])
            assert (await alice.post(LOBBY, "still here"))["seq"] == 1
        async with await FramedClient.open(server.tcp_port) as again:
            refused = await again.ask("hello", token=token)
            assert refused["code"] == "unauthorized"
            assert (await again.hello("alice"))["user"] == "alice"
