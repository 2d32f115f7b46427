"""`hubbub ai` as somebody starts it: what it asks, what it says, how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from hubbub.apps.mode import LONGEST, Mode, frequency, mode
from hubbub.apps.report import Report
from hubbub.client import Client, Timing
from hubbub.core import frames
from hubbub.core.errors import BadRequest
from hubbub.core.nouns import LOBBY
from support.command import hubbub
from support.process import ROOT, Server, running

LIMIT_S = 20
MODE = "Choose mode (1 for seconds, 2 for lines): "
FAST = Timing(base_s=0.02, cap_s=0.1)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "home") as server:
        yield server


class Terminal:
    """`hubbub ai` in a terminal of its own. `screen` is what stands there, with what the terminal echoes."""

    def __init__(self) -> None:
        self._fd, self._theirs = os.openpty()
        os.set_blocking(self._fd, False)
        self.screen = ""
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process

    async def start(self, arguments: Sequence[str]) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hubbub", "ai", *arguments),
            preexec_fn=lambda: os.login_tty(self._theirs),  # so that Ctrl-C is a signal
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}
            | {"NO_COLOR": "1", "HUBBUB_DEMO_WORD_S": "0"},
        )
        os.close(self._theirs)
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it has left its terminal
            if data := os.read(self._fd, 1 << 16):
                self.screen += data.decode(errors="replace").replace("\r\n", "\n")
                self._news.set()
                return
        asyncio.get_running_loop().remove_reader(self._fd)
        self._news.set()

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    async def shows(self, text: str, times: int = 1) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while self.screen.count(text) < times:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} on the screen:\n{self.screen}") from None

    def tell(self, number: int) -> None:
        self._process.send_signal(number)

    async def left(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            return await self._process.wait()

    async def over(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


@contextlib.asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    one = await Terminal().start(arguments)
    try:
        yield one
    finally:
        await one.over()


@contextlib.asynccontextmanager
async def listener(server: Server, user: str = "alice") -> AsyncIterator[Client]:
    async with Client(f"tcp://127.0.0.1:{server.tcp_port}", user=user, threads=[LOBBY], timing=FAST) as client:
        yield client


async def hears(client: Client, count: int, sender: str = "AI") -> list[str]:
    heard: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        while len(heard) < count:
            frame = await client.next()
            if isinstance(frame, frames.MessageFrame) and frame.message.sender == sender:
                heard.append(frame.message.text)
    return heard


def uri(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/ws"


async def test_it_asks_for_both_and_for_what_was_typed_wrong_again(server: Server) -> None:
    async with terminal("--uri", uri(server)) as ai, listener(server) as alice:
        await ai.shows(MODE)
        ai.type("3\n")
        await ai.shows("'3' is no mode: 1 is seconds, 2 is lines.")
        await ai.shows(MODE, 2)
        ai.type("2\n")
        await ai.shows("Enter N (frequency of responses in lines): ")
        ai.type("none\n")
        await ai.shows("'none' cannot be N: it is a whole number from 1 to 86400.")
        await ai.shows("Enter N (frequency of responses in lines): ", 2)
        ai.type("2\n")
        await ai.shows(f"connected  as AI in #lobby at {uri(server)}: demo writes an answer after every 2 lines")
        for text in ("hello", "repeat: hello yourself"):
            await alice.send(text, thread=LOBBY)
        assert await hears(alice, 1) == ["(demo model) hello yourself"]
        await ai.shows("said       (demo model) hello yourself")

        ai.type("\x03")
        await ai.shows("left\n")
        assert await ai.left() == 0


async def test_what_was_given_is_not_asked_for(server: Server) -> None:
    async with terminal("--uri", uri(server), "--mode", "seconds") as ai:
        await ai.shows("Enter N (frequency of responses in seconds): ")
        assert MODE not in ai.screen
        ai.type("60\n")
        await ai.shows("demo writes a new topic every 60 seconds")


async def test_every_second_means_more_than_two_messages_in_a_few_seconds(server: Server) -> None:
    async with listener(server) as alice, terminal("--uri", uri(server), "--mode", "seconds", "--n", "1") as ai:
        assert all(text.startswith("(demo model) ") for text in await hears(alice, 3))

        ai.tell(signal.SIGTERM)
        await ai.shows("left\n")
        assert await ai.left() == 0
        async with asyncio.timeout(LIMIT_S):  # at once, not when the server notices
            while not isinstance(frame := await alice.next(), frames.Presence) or frame.online:
                pass
    assert frame.user == "AI"


async def test_the_older_address_names_the_user_and_is_understood(server: Server) -> None:
    older = f"ws://localhost:{server.port}/ws/Marvin"
    async with terminal("--uri", older, "--mode", "1", "--n", "60") as ai, listener(server) as alice:
        await ai.shows(f"connected  as Marvin in #lobby at ws://localhost:{server.port}/ws: demo writes a new topic")
        assert len(await hears(alice, 1, "Marvin")) == 1


async def test_a_server_that_is_killed_and_comes_back_finds_the_count_where_it_was(server: Server) -> None:
    async with terminal("--uri", uri(server), "--mode", "lines", "--n", "2") as ai, listener(server) as alice:
        await ai.shows("connected")
        await alice.send("one", thread=LOBBY)
        await ai.shows("1/2 alice: one")
        await server.kill()
        await ai.shows("lost ")
        await server.start()
        await ai.shows("connected  again")
        await alice.send("repeat: two", thread=LOBBY)
        assert await hears(alice, 1) == ["(demo model) two"]
        assert ai.screen.count("heard") == 2


async def test_answers_may_come_through_a_pipe(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hubbub", "ai", "--uri", uri(server)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"1\n60\n")
            async with asyncio.timeout(LIMIT_S):
                said = await process.stdout.readuntil(b"every 60 seconds\n")
        finally:
            process.terminate()
            rest, _ = await process.communicate()

    assert said.decode().splitlines()[:2] == [MODE, "Enter N (frequency of responses in seconds): "]
    assert re.search(rb"left\n$", rest)
    assert process.returncode == 0


@pytest.mark.parametrize("typed", ["", "1\n", "what?\n"])
async def test_without_anybody_to_ask_it_says_what_to_give(typed: str) -> None:
    code, _, err = await hubbub("ai", typed=typed)

    assert (code, err) == (2, "hubbub: When does it speak? Say it with --mode seconds or --mode lines, and --n N.\n")


async def test_a_name_that_is_taken_and_an_engine_without_a_key_are_one_sentence_each(server: Server) -> None:
    given = ("ai", "--uri", uri(server), "--mode", "lines", "--n", "1")
    async with listener(server, "Ada"):
        taken = await hubbub(*given, "--user", "Ada")
    keyless = await hubbub(*given, "--engine", "openai", environ={"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""})

    assert taken == (77, "", "hubbub: Somebody here is called Ada; give it another name with --user.\n")
    assert keyless[0] == 2
    assert "OPENAI_API_KEY" in keyless[2]
    assert keyless[2].count("\n") == 1


async def test_a_wrong_flag_is_refused_before_anything_is_done() -> None:
    for wrong, why in ((("--mode", "3"), "'3' is no mode"), (("--n", "0"), "'0' cannot be N")):
        code, _, err = await hubbub("ai", *wrong)
        assert code == 2
        assert why in err


@pytest.mark.parametrize(
    ("text", "meant"),
    [("1", Mode.SECONDS), (" 2 ", Mode.LINES), ("Seconds", Mode.SECONDS), ("LINES", Mode.LINES)],
)
def test_a_mode_goes_by_its_name_or_number(text: str, meant: Mode) -> None:
    assert mode(text) is meant


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "²", "٣", "1e3", str(LONGEST + 1), "9" * 5000])
def test_what_is_no_whole_number_within_a_day_is_no_n(text: str) -> None:
    with pytest.raises(BadRequest, match="it is a whole number from 1 to 86400"):
        frequency(text)


def test_n_may_be_anything_from_one_to_a_day() -> None:
    assert (frequency("1"), frequency(f" {LONGEST} ")) == (1, LONGEST)


def test_nothing_that_somebody_writes_moves_the_terminal_or_begins_a_line() -> None:
    out = io.StringIO()
    report = Report(out, now=lambda: 0.0)
    report("heard", "bob: \x1b[2Jone\ntwo\r\u202ethree")
    report("said", "x" * 5000)

    first, second = out.getvalue().splitlines()
    assert first.endswith("heard      bob: [2Jone twothree")
    assert len(second) < 1100
    assert second.endswith("…")
