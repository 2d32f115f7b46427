"""The terminal client: in a pipe, in a terminal, and over connections that go and come back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from small_server import SmallServer

from hubbub.apps.chat import PROMPT, chat
from hubbub.apps.keyboard import Keyboard
from hubbub.client import Timing
from hubbub.core import frames
from hubbub.core.nouns import LOBBY

FAST = Timing(base_s=0.01, mark_every_s=0.0, goodbye_s=0.5)
LIMIT_S = 10


@pytest.fixture
async def server() -> AsyncIterator[SmallServer]:
    async with SmallServer() as server:
        yield server


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Visit:
    """Somebody at the terminal client. `type` is what they type; `out` is what they see."""

    def __init__(self, server: SmallServer, terminal: bool, **more: Any) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        # Reading end, writing end.
        self._mine, self._fd = os.openpty()[::-1] if terminal else os.pipe()
        more = {"user": "alice", "timing": FAST, "patience_s": 1.0} | more
        self.task = asyncio.create_task(chat(server.address, stdin=self._mine, out=self.out, err=self.err, **more))

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> None:
        os.close(self._fd)
        self._fd = -1

    async def sees(self, text: str) -> None:
        await until(lambda: text in self.out.getvalue() or self.task.done())
        assert text in self.out.getvalue(), (self.out.getvalue(), self.err.getvalue())

    async def left(self) -> int:
        return await asyncio.wait_for(self.task, LIMIT_S)

    async def over(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        for fd in (self._mine, self._fd):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.asynccontextmanager
async def visit(server: SmallServer, terminal: bool = True, **more: Any) -> AsyncIterator[Visit]:
    someone = Visit(server, terminal, **more)
    try:
        yield someone
    finally:
        await someone.over()


# In a pipe


async def test_lines_of_a_pipe_are_sent_in_order_and_acknowledged_before_it_leaves(server: SmallServer) -> None:
    async with visit(server, terminal=False) as alice:
        alice.type("".join(f"bob: {n}\n" for n in range(100)) + "bob: no newline")
        alice.end()

        assert await alice.left() == 0

    assert server.texts("alice-bob") == [*map(str, range(100)), "no newline"]
    assert "User 'bob' is offline. Message saved." in alice.out.getvalue()
    assert alice.err.getvalue() == ""


async def test_a_file_is_as_good_as_a_pipe(server: SmallServer, tmp_path: Path) -> None:
    script = tmp_path / "lines"
    script.write_text("bob: one\nbob: two\nexit\nbob: three\n")
    fd = os.open(script, os.O_RDONLY)
    try:
        code = await chat(server.address, "alice", stdin=fd, out=io.StringIO(), err=io.StringIO(), timing=FAST)
    finally:
        os.close(fd)

    assert code == 0
    assert server.texts("alice-bob") == ["one", "two"]


async def test_a_line_that_is_refused_makes_the_pipe_fail_with_one_sentence(server: SmallServer) -> None:
    async with visit(server, terminal=False) as alice:
        alice.type("nonsense\nbob: hello\n")
        alice.end()

        assert await alice.left() == 64

    assert alice.err.getvalue() == "Invalid format. Use: NAME: MESSAGE\n"
    assert server.texts("alice-bob") == ["hello"]


async def test_no_server_is_one_sentence_and_a_code() -> None:
    async with SmallServer() as server:
        pass
    async with visit(server, terminal=False) as alice:
        assert await alice.left() == 69

    assert alice.err.getvalue().startswith("Cannot connect: nothing listens on tcp://")
    assert alice.err.getvalue().count("\n") == 1


async def test_a_server_that_goes_before_it_acknowledged_makes_the_pipe_fail(server: SmallServer) -> None:
    async with visit(server, terminal=False, patience_s=0.1) as alice:
        await alice.sees("Connected!")
        await server.stop()
        alice.type("bob: 1\nbob: 2\n")
        alice.end()

        assert await alice.left() == 69
        await server.start()

    assert "2 lines were not sent" in alice.err.getvalue()


async def test_the_name_may_be_the_first_line(server: SmallServer) -> None:
    async with visit(server, terminal=False, user=None) as someone:
        someone.type("carol\nbob: hello\n")
        someone.end()

        assert await someone.left() == 0

    assert someone.out.getvalue().startswith(PROMPT)
    assert server.logs["bob-carol"][0].sender == "carol"


async def test_a_taken_name_is_said_and_leaves(server: SmallServer) -> None:
    server.before = lambda session, request: session.refuse(request, "name_taken") or True
    async with visit(server, terminal=False) as alice:
        assert await alice.left() == 77

    assert alice.err.getvalue() == "Username already taken.\n"


# In a terminal


async def test_two_people_talk(server: SmallServer) -> None:
    async with visit(server) as alice, visit(server, user="bob") as bob:
        await alice.sees("Connected! Users online:")
        await bob.sees("Connected! Users online: alice")

        alice.type("bob: hello\n")
        await bob.sees("[alice] hello")
        bob.type("#lobby: hello all\n")
        await alice.sees("[#lobby][bob] hello all")

        for someone in (alice, bob):
            someone.type("exit\n")
            assert await someone.left() == 0


async def test_what_waited_is_printed_and_then_counts_as_seen(server: SmallServer) -> None:
    server.post("bob", "are you there?", to="alice")
    async with visit(server) as alice:
        await alice.sees("[Stored] [2026-11-20T20:37:00.123Z][bob] 'are you there?'")
        alice.type("exit\n")
        await alice.left()

    assert server.seen["alice-bob", "alice"] == 1


async def test_what_was_not_printed_does_not_count_as_seen(server: SmallServer) -> None:
    async with visit(server) as alice:
        await alice.sees("Connected!")
        server.shout(frames.RunDelta(run="r", thread=LOBBY, assistant="openai", attempt=1, offset=0, text="Once upon "))
        await alice.sees("Once upon ")
        server.members[LOBBY].append("bob")
        server.post("bob", "waits for the answer to end", thread=LOBBY)
        await asyncio.sleep(0.02)

        assert server.seen.get((LOBBY, "alice"), 0) == 0
        alice.type("exit\n")
        await alice.left()

    assert "waits for the answer to end" in alice.out.getvalue()  # leaving prints what still waited
    assert server.seen[LOBBY, "alice"] == 1


async def test_what_waits_for_an_answer_is_printed_when_its_time_has_come(
    server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.core.screen.HOLD_S", 0.05)
    async with visit(server) as alice:
        await alice.sees("Connected!")
        server.shout(frames.RunDelta(run="r", thread=LOBBY, assistant="openai", attempt=1, offset=0, text="Once upon "))
        await alice.sees("Once upon ")

        server.post("bob", "hello", to="alice")

        await alice.sees("[bob] hello")
        alice.type("exit\n")
        assert await alice.left() == 0


async def test_every_command_is_answered(server: SmallServer) -> None:
    server.post("bob", "old news", to="alice")
    server.post("alice", "indeed", to="bob")
    async with visit(server) as alice:
        await alice.sees("old news")
        for line, answer in {
            "!who": "Users online: nobody else",
            "!check": "No more messages.",
            "!history bob": "[alice] indeed",
            "!history #lobby": "",
            "!threads": "Threads: #lobby, bob",
            "!join lobby": "",
            "!help": "!join THREAD",
            "!history dave": "You and dave have not written to each other yet.",
            "#nowhere: hi": "There is no thread #nowhere here.",
            "nonsense": "Invalid format. Use: NAME: MESSAGE",
        }.items():
            alice.type(f"{line}\n")
            await alice.sees(answer)
        alice.type("EXIT\n")
        assert await alice.left() == 0


async def test_control_d_leaves(server: SmallServer) -> None:
    async with visit(server) as alice:
        await alice.sees("Connected!")
        alice.type("\x04")

        assert await alice.left() == 0


async def test_control_c_leaves(server: SmallServer) -> None:
    async with visit(server) as alice:
        await alice.sees("Connected!")
        os.kill(os.getpid(), signal.SIGINT)

        assert await alice.left() == 0
    await until(lambda: not server.sessions)


async def test_a_lost_connection_is_said_once_and_what_was_typed_meanwhile_is_sent(server: SmallServer) -> None:
    async with visit(server, colour=True) as alice:
        await alice.sees("Connected!")
        await server.stop()
        await alice.sees("connection lost, trying again in 1 s…")
        alice.type("bob: 1\nbob: 2\n")
        await asyncio.sleep(0.1)  # several attempts fail, silently
        await server.start()
        await alice.sees("connected again")
        await until(lambda: server.logs.get("alice-bob", [])[1:] != [])
        alice.type("exit\n")
        assert await alice.left() == 0

    said = alice.out.getvalue()
    assert said.count("connection lost") == said.count("connected again") == 1
    assert "\x1b[90mconnection lost, trying again in 1 s…\x1b[0m\n" in said
    assert server.texts("alice-bob") == ["1", "2"]


async def test_without_colour_no_escape_is_written(server: SmallServer) -> None:
    server.post("bob", "\x1b[31mred", to="alice")
    async with visit(server) as alice:
        await alice.sees("Connected!")
        server.cut()
        await alice.sees("connected again")
        alice.type("exit\n")
        await alice.left()

    assert "\x1b" not in alice.out.getvalue()


async def test_leaving_while_the_server_is_away_says_what_was_not_sent(server: SmallServer) -> None:
    async with visit(server, patience_s=0.05) as alice:
        await alice.sees("Connected!")
        await server.stop()
        alice.type("bob: 1\nexit\n")

        assert await alice.left() == 69
        await server.start()

    assert alice.err.getvalue() == "1 line was not sent: the server did not acknowledge it in time.\n"


async def test_a_taken_name_is_asked_for_again(server: SmallServer) -> None:
    def taken(session: Any, request: frames.Request) -> bool:
        if isinstance(request, frames.Hello) and request.user == "alice":
            session.refuse(request, "name_taken")
            return True
        return False

    server.before = taken
    async with visit(server, user=None) as someone:
        someone.type("alice\n")
        await until(lambda: "Username already taken." in someone.err.getvalue())
        someone.type("not a name\n")
        await until(lambda: "A name has 1 to 64" in someone.err.getvalue())
        someone.type("alicia\n")
        await someone.sees("Connected!")
        someone.type("exit\n")
        assert await someone.left() == 0


async def test_a_program_that_reads_a_pipe_ends_by_itself(server: SmallServer) -> None:
    """The whole program: nothing, no thread above all, may hold up its exit."""
    program = (
        "import asyncio, sys; from hubbub.apps.chat import chat;"
        f"sys.exit(asyncio.run(chat({server.address!r}, 'alice')))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    out, _ = await asyncio.wait_for(process.communicate(b"bob: hi\n"), LIMIT_S)

    assert process.returncode == 0
    assert b"Message saved." in out
    assert server.texts("alice-bob") == ["hi"]


# The keyboard


async def test_lines_come_whole_however_they_are_cut() -> None:
    mine, theirs = os.pipe()
    keyboard = Keyboard(mine)
    for piece in (b"on", "e añ".encode()[:-1], "ñ".encode()[1:], b"\r\ntwo\n\nlast"):
        os.write(theirs, piece)
    os.close(theirs)

    assert [await keyboard.line() for _ in range(5)] == ["one añ", "two", "", "last", None]
    os.close(mine)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_reading_leaves_the_terminal_in_blocking_mode(loop: str) -> None:
    new = pytest.importorskip(loop).new_event_loop

    async def read() -> None:
        theirs, mine = os.openpty()
        reading = asyncio.create_task(Keyboard(mine).line())
        await asyncio.sleep(0)
        assert os.get_blocking(mine)
        os.write(theirs, b"x\n")
        assert await reading == "x"
        assert os.get_blocking(mine)
        os.close(mine)
        os.close(theirs)

    with asyncio.Runner(loop_factory=new) as runner:
        runner.run(read())


async def test_dev_null_has_no_lines() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    assert await Keyboard(fd).line() is None
    os.close(fd)
