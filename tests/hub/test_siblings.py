"""Several processes are shown as one: nothing that was counted is counted twice, taken back, or forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbub import siblings
from hubbub.hub.figures import brief, exposition, stats
from hubbub.hub.meter import Gauge, Meter
from hubbub.siblings import Siblings

ANOTHER = """
import asyncio, sys
from pathlib import Path
from hubbub.hub.meter import Gauge, Meter
from hubbub.siblings import Siblings

async def live():
    mine = Siblings(Path(sys.argv[1]))
    meter = Meter(others=mine, logged={"error": 2})
    now = [Gauge("connections", "", 3, {"door": "websocket"}), Gauge("members", "", 8, {}, False)]
    meter.gauges.append(lambda: now)
    telling = asyncio.create_task(mine.keep_telling(meter))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while asked := await reader.readline():
        meter.counts.messages += int(asked)
        meter.answered("GET", "/there", 500, float(asked))
        meter.hear()
        print(meter.total().messages, flush=True)
    mine.leave(meter)

asyncio.run(live())
"""


class Another:
    """A second process of the same server."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ANOTHER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def counts(self, messages: int) -> int:
        """Let it count so many more; what it thinks all have together."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{messages}\n")
        self.process.stdin.flush()
        return int(await asyncio.to_thread(self.process.stdout.readline))

    async def leaves(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await asyncio.to_thread(self.process.wait) == 0

    def killed(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def another(directory: Path) -> Iterator[Another]:
    one = Another(directory)
    try:
        yield one
    finally:
        one.killed()


def laid_by(one: Another, directory: Path) -> list[Path]:
    return list(directory.glob(f"{one.process.pid}-*"))


@pytest.fixture
def mine(tmp_path: Path) -> Meter:
    meter = Meter(others=Siblings(tmp_path))
    meter.gauges.append(
        lambda: [Gauge("connections", "", 4, {"door": "websocket"}), Gauge("members", "", 9, {}, False)]
    )
    return meter


async def test_both_tell_of_both(mine: Meter, tmp_path: Path) -> None:
    with another(tmp_path) as other:
        mine.counts.messages += 5
        mine.hear()
        assert await other.counts(7) == 12
        mine.hear()

        assert mine.total().messages == 12
        assert mine.log_entries() == {"error": 2}
        text = exposition(mine)[0].decode()
        assert "hubbub_messages_total 12.0" in text
        assert 'hubbub_connections{door="websocket"} 7.0' in text  # each has its own
        assert "hubbub_members 9.0" in text  # both know the same ones
        assert brief(mine)["total_requests"] == 1
        assert stats(mine)["slowest"][0]["route"] == "GET /there"
        assert stats(mine)["counts"]["messages"] == 12


async def test_memory_and_files_are_those_of_all(mine: Meter, tmp_path: Path) -> None:
    alone = mine.vitals()
    with another(tmp_path) as other:
        await other.counts(1)
        mine.hear()
        both = mine.vitals()

    assert both.resident > alone.resident + (10 << 20)  # an interpreter alone is more
    assert both.files is not None
    assert alone.files is not None
    assert both.files > alone.files
    assert both.cpu_s > alone.cpu_s


@pytest.mark.parametrize("how", ["leaves", "is killed"])
async def test_what_was_shown_once_is_not_taken_back_when_a_process_ends(
    mine: Meter, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(tmp_path) as other:
        await other.counts(7)  # whoever is asked lays down what it shows before it shows it
        if how == "leaves":
            await other.leaves()
        else:
            other.killed()
            monkeypatch.setattr(siblings, "SILENT_S", 0.0)
        mine.hear()

        assert mine.total().messages == 7
        assert [gauge.value for gauge in mine.now() if gauge.name == "connections"] == [4]
        Siblings(tmp_path)  # the next process starts, and puts together what is left of the ended ones
        mine.hear()
        assert mine.total().messages == 7
        assert not laid_by(other, tmp_path)


async def test_a_process_that_says_nothing_is_not_as_it_said_but_comes_back(
    mine: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(tmp_path) as other:
        await other.counts(7)
        other.process.send_signal(signal.SIGSTOP)
        (laid,) = laid_by(other, tmp_path)
        before = laid.stat().st_mtime - siblings.SILENT_S - 1
        os.utime(laid, (before, before))
        mine.hear()
        assert [gauge.value for gauge in mine.now() if gauge.name == "connections"] == [4]
        assert mine.total().messages == 7

        other.process.send_signal(signal.SIGCONT)
        await other.counts(1)
        mine.hear()
        assert [gauge.value for gauge in mine.now() if gauge.name == "connections"] == [7]
        assert mine.total().messages == 8


async def test_many_generations_leave_two_files(mine: Meter, tmp_path: Path) -> None:
    for generation in range(1, 4):
        with another(tmp_path) as other:
            await other.counts(1)
            other.killed()
        mine.hear()
        assert mine.total().messages == generation
    Siblings(tmp_path)

    assert {name.partition("-")[0] for name in os.listdir(tmp_path)} == {"lock", "ended", str(os.getpid())}


async def test_who_is_killed_while_it_adds_up_has_nothing_counted_twice(mine: Meter, tmp_path: Path) -> None:
    with another(tmp_path) as other:
        await other.counts(7)
        other.killed()
    (laid,) = laid_by(other, tmp_path)
    kept = laid.read_bytes()
    Siblings(tmp_path)
    laid.write_bytes(kept)  # as if it had not come to remove it
    mine.hear()
    assert mine.total().messages == 7
    Siblings(tmp_path)
    mine.hear()
    assert mine.total().messages == 7
    assert not laid.exists()


async def test_nobody_waits_for_one_that_stands_still_while_it_adds_up(mine: Meter, tmp_path: Path) -> None:
    with another(tmp_path) as other:
        await other.counts(7)
        with (tmp_path / "lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            mine.hear()
            assert mine.total().messages == 7
            Siblings(tmp_path)


async def test_minutes_are_of_the_whole(mine: Meter, tmp_path: Path) -> None:
    with another(tmp_path) as other:
        await other.counts(3)
        mine.hear()
        mine.turn()
        await other.counts(4)
        mine.counts.messages += 1
        mine.turn()

    assert [minute.counts.messages for minute in mine.minutes] == [3, 5]


def test_a_directory_that_is_gone_leaves_this_process_alone(mine: Meter, tmp_path: Path) -> None:
    mine.counts.messages += 5
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    mine.hear()

    assert mine.total().messages == 5
    tmp_path.mkdir()
