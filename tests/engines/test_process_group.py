"""Whatever a slow program does, nothing hangs, nothing grows, nothing can be seen, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from hubbub.core.ports import EngineFailure
from hubbub.engines import process_group
from hubbub.engines.process_group import ProcessGroup
from support.programs import (
    LONG,
    MOCK,
    Scripts,
    answer,
    asking,
    pids,
    proc,
    shell,
    state,
    until,
)


async def test_nothing_of_a_prompt_can_be_seen_from_outside(scripts: Scripts) -> None:
    text, inherited = "[[stall]] secret", os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    terminal, (keyboard, typed) = os.dup(0), os.pipe()
    os.dup2(keyboard, 0)
    pieces = scripts().answer([asking(text, run="secret-run")])
    await anext(pieces)

    (pid,) = scripts.processes()
    directory, file = scripts.files()
    assert proc(pid, "cmdline").split(b"\0") == [*(part.encode() for part in MOCK), str(file).encode(), b""]
    assert proc(pid, "environ") == b"PATH=/usr/local/bin:/usr/bin:/bin\0LANG=C.UTF-8\0"
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert (os.getpgid(pid), os.getsid(pid)) == (pid, pid)
    assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert b"secret" not in file.read_bytes()
    os.dup2(terminal, 0)
    for fd in (inherited, terminal, keyboard, typed):
        os.close(fd)
    await pieces.aclose()


async def test_a_program_that_is_killed_fails_what_has_not_ended(scripts: Scripts) -> None:
    pieces = scripts().answer([asking(LONG), asking("[[first=0.05]] two")])
    found = [await anext(pieces) for _ in range(3)]

    os.kill(scripts.processes()[0], signal.SIGKILL)

    assert found[-1] == (1, "")
    ((slot, piece),) = [one async for one in pieces]
    assert (slot, str(piece)[:34]) == (0, "The script was killed by SIGKILL; ")


async def test_a_program_that_is_stopped_is_ended_when_its_time_is_over(scripts: Scripts) -> None:
    pieces = scripts(idle_s=0.2).answer([asking("[[delay=0.01 first=0 words=100000]]")])
    await anext(pieces)

    os.kill(scripts.processes()[0], signal.SIGSTOP)

    async with asyncio.timeout(process_group.KILL_S):  # it had only to be woken to hear SIGTERM
        *_, (_, last) = [one async for one in pieces]
    assert "fell silent for 0.2 seconds" in str(last)


async def test_a_grandchild_that_holds_stdout_does_not_keep_an_answer_from_ending(scripts: Scripts) -> None:
    async with asyncio.timeout(5):
        found = await answer(scripts(shell("sleep 60 & echo 0/$!")))

    assert found[1] == ""
    await until(lambda: state(int(found[0])) == "gone")


async def test_a_grandchild_that_keeps_printing_is_not_listened_to(scripts: Scripts) -> None:
    async with asyncio.timeout(5):
        found = await answer(scripts(shell("(while :; do echo noise; sleep 0.01; done) & echo 0/$!")))

    assert found[1] == ""
    await until(lambda: state(int(found[0])) == "gone")


async def test_a_program_that_closes_stdout_is_waited_for(scripts: Scripts) -> None:
    assert await answer(scripts(shell("echo 0/one; exec >&-; sleep 0.1; exit 3"))) == (
        "one",
        "<The script ended with exit code 3 and did not say why; whoever runs this server should look at it.>",
    )


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
async def test_leaving_ends_the_whole_group(loop: Callable[[], asyncio.AbstractEventLoop], scripts: Scripts) -> None:
    async def leave() -> list[int]:
        pieces = scripts(shell("sleep 60 & sleep 60 >/dev/null & echo 0/$$-$!; wait")).answer([asking("hi")])
        _, said = await anext(pieces)
        group = [int(pid) for pid in str(said).split("-")]
        assert "gone" not in [state(pid) for pid in group]
        await pieces.aclose()
        return group

    def run() -> list[int]:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(leave())

    group = await asyncio.to_thread(run)

    await until(lambda: [state(pid) for pid in group] == ["gone", "gone"])


async def test_a_program_that_does_not_listen_is_killed(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "KILL_S", 0.2)
    pieces = scripts().answer([asking("[[deaf stall]] one")])
    await anext(pieces)

    async with asyncio.timeout(2):
        await pieces.aclose()

    assert scripts.processes() == []


async def test_who_is_in_a_hurry_leaves_nothing_behind_either(scripts: Scripts) -> None:
    """Cancelled while it waits for a piece, and again while it waits for the program to listen to SIGTERM."""
    began = asyncio.Event()

    async def listen() -> None:
        async for _ in scripts().answer([asking("[[deaf stall]] one")]):
            began.set()

    listening = asyncio.create_task(listen())
    await began.wait()
    (pid,) = scripts.processes()
    listening.cancel()
    await asyncio.wait([listening], timeout=0.05)
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])

    assert scripts.files() == []
    await until(lambda: state(pid) == "gone")


async def test_a_program_whose_answers_have_ended_may_tidy_up(scripts: Scripts, tmp_path: Path) -> None:
    done = tmp_path / "done"

    found = await answer(scripts(shell(f"echo 0/one; echo; sleep 0.1; echo tidied > {done}")))

    assert (found, done.read_text()) == (("one", ""), "tidied\n")


async def test_a_program_that_floods_waits_until_somebody_asks(scripts: Scripts) -> None:
    line = f"0/{os.getpid()}-{'x' * 100}"
    pieces = scripts(shell(f"exec yes {line}")).answer([asking("hi")])
    await anext(pieces)

    pid = next(pid for pid in pids() if proc(pid, "cmdline") == f"yes\0{line}\0".encode())
    await until(lambda: state(pid) == "S")  # in its write

    written = dict(line.split(b": ") for line in proc(pid, "io").splitlines())[b"wchar"]
    assert int(written) <= (64 << 10) + 4 * process_group.CHUNK
    await pieces.aclose()
    assert state(pid) == "gone"


async def test_a_flood_costs_little_memory_and_lets_others_live(scripts: Scripts) -> None:
    turns = 0

    async def live() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    living = asyncio.create_task(live())
    engine, count, size = scripts(shell(f"exec yes 0/{'x' * 1000}"), max_bytes=8 << 20), 0, 0
    tracemalloc.start()
    async for _, piece in engine.answer([asking("hi")]):
        count, size = count + 1, size + len(str(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    living.cancel()

    assert size > 7 << 20
    assert count < 4000  # what came together is one piece
    assert turns >= (8 << 20) // process_group.CHUNK
    assert peak < 1 << 20


async def test_where_an_exit_cannot_be_seen_without_burying_it_works_too(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "waitid")

    assert await answer(scripts(), "hi there") == ("hi there", "")
    assert "exit code 4" in (await answer(scripts(), "[[exit=4]] hi"))[1]


async def test_the_number_of_a_program_stays_its_own_until_it_is_let_go() -> None:
    group = ProcessGroup(["true"])
    await group.read(5)

    assert (group.code, proc(group.pid, "stat").split()[2]) == (0, b"Z")
    group.let_go()
    assert proc(group.pid, "stat") == b""
    group.let_go()


async def test_a_program_leaves_no_open_file_and_no_thread_of_ours(scripts: Scripts) -> None:
    await answer(scripts())
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    for text in ("hi", "[[exit=1]]", "[[stall]]"):
        await answer(scripts(idle_s=0.2, first_s=0.2), text)
    with pytest.raises(EngineFailure):
        await answer(scripts(("/no/such/program",)))

    await until(lambda: (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))) == before)


async def test_others_have_their_turn_before_each_read() -> None:
    turns: list[int] = []
    group = ProcessGroup(["yes", "x" * 1000])
    await until(lambda: state(group.pid) == "S" and b"yes" in proc(group.pid, "cmdline"))  # there is a lot to read

    for count in range(1, 4):
        asyncio.get_running_loop().call_soon(turns.append, count)
        await group.read(5)
        assert len(turns) == count

    group.let_go()


async def test_only_the_end_of_a_long_complaint_is_kept() -> None:
    group = ProcessGroup(shell("head -c 1000000 /dev/zero | tr '\\0' x >&2; printf end >&2"))
    await group.read(5)

    assert group.complaint == "x" * (process_group.TAIL_BYTES - 3) + "end"
    await group.stop()
    group.let_go()
