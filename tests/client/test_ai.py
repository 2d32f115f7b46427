"""The AI client: a model that opens topics by the clock, or answers after so many lines, and never loses count."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.llama import Llama

from hubbub.apps import ai
from hubbub.apps.mode import Mode
from hubbub.apps.report import Report
from hubbub.client import Client, Timing
from hubbub.core import frames
from hubbub.core.errors import NameTaken, NotFound, Problem, Unauthorized
from hubbub.core.nouns import LOBBY, Message
from hubbub.core.ports import Engine
from hubbub.engines.chat_completions import ChatEngine
from hubbub.engines.demo import DemoEngine
from support.command import hubbub
from support.model_script import DONE, Act, Script, end, piece, playing, says, streams
from support.process import running
from support.server import House, serving

FAST = Timing(base_s=0.02, cap_s=0.1, mark_every_s=0.0, goodbye_s=0.5)
LIMIT_S = 15
FOUR = (Mode.LINES, 4)


class Ai:
    """The AI client in this loop. `terminal` is what stands on its terminal."""

    def __init__(self, where: str, mode: Mode, n: int, engine: Engine | None, **more: Any) -> None:
        self._out = io.StringIO()
        engine = engine or DemoEngine(word_s=0)
        self.task = asyncio.create_task(
            ai.run(where, mode, n, engine, Report(self._out), **({"timing": FAST} | more)), name="the AI client"
        )

    @property
    def terminal(self) -> str:
        return self._out.getvalue()

    async def says(self, text: str, times: int = 1) -> None:
        await until(lambda: self.terminal.count(text) >= times or self.task.done())
        if self.task.done():
            self.task.result()
        assert self.terminal.count(text) >= times, self.terminal

    async def leaves(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@contextlib.asynccontextmanager
async def taking_part(where: str, mode: Mode, n: int, engine: Engine | None = None, **more: Any) -> AsyncIterator[Ai]:
    one = Ai(where, mode, n, engine, **more)
    try:
        await one.says("connected")
        yield one
    finally:
        await one.leaves()


@contextlib.asynccontextmanager
async def person(house: House, name: str = "alice") -> AsyncIterator[Client]:
    async with Client(f"tcp://127.0.0.1:{house.tcp_port}", user=name, threads=[], timing=FAST, in_flight=1) as client:
        yield client


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path / "home", store="memory") as house:
        yield house


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def becomes(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def ws(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws"


async def write(client: Client, *texts: str, thread: str = LOBBY) -> None:
    for text in texts:
        await client.send(text, thread=thread)


async def log(house: House, thread: str = LOBBY) -> list[Message]:
    return (await house.app.hub.store.read_after(thread, 0, 200, 1 << 20)).messages


async def said(house: House, name: str = "AI", thread: str = LOBBY) -> list[str]:
    return [message.text for message in await log(house, thread) if message.sender == name]


async def has_said(house: House, count: int, name: str = "AI") -> list[str]:
    """Wait until it has said so much."""

    async def enough() -> bool:
        return len(await said(house, name)) >= count

    await becomes(enough)
    return await said(house, name)


async def cursor(house: House, name: str = "AI") -> int:
    return {thread.id: seen for thread, seen in await house.app.hub.store.threads_of(name)}[LOBBY]


async def has_nothing_left(house: House, *names: str) -> None:
    """Wait until each of them counts nothing and writes nothing."""

    async def settled() -> bool:
        head = len(await log(house))
        return all([await cursor(house, name) == head for name in names])

    await becomes(settled)


# Lines


async def test_it_answers_after_exactly_n_lines_and_again_after_n_more(house: House) -> None:
    async with taking_part(ws(house.port), Mode.LINES, 3) as one, person(house) as alice:
        await write(alice, "one", "two")
        await one.says("2/3 alice: two")
        assert await said(house) == []

        await write(alice, "repeat: three it is")
        await has_said(house, 1)
        await write(alice, "four", "five")
        await one.says("2/3 alice: five")
        assert await said(house) == ["(demo model) three it is"]

        await write(alice, "repeat: and six")
        assert await has_said(house, 2) == ["(demo model) three it is", "(demo model) and six"]
        await one.says("said       (demo model) and six")

    assert [m.metadata for m in await log(house) if m.sender == "AI"] == [{"model": "demo"}] * 2


async def test_what_was_said_before_it_came_is_shown_but_not_counted(house: House) -> None:
    async with person(house) as alice, playing(streams(piece("aha"), end(), DONE)) as script:
        await write(alice, "the key is under the mat", "nobody else knows")
        async with taking_part(ws(house.port), Mode.LINES, 2, ChatEngine(script.base_url, "m")) as one:
            await write(alice, "where is it?")
            await one.says("1/2 alice: where is it?")
            assert await said(house) == []
            await write(alice, "well?")
            await has_said(house, 1)

    system, asked = script.asked[0].body["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("You are AI,")
    assert asked == {"role": "user", "content": "the key is under the mat\nnobody else knows\nwhere is it?\nwell?"}


async def test_only_the_newest_lines_are_shown_to_the_model(house: House) -> None:
    async with person(house) as alice, playing(streams(piece("aha"), end(), DONE)) as script:
        async with taking_part(ws(house.port), Mode.LINES, 50, ChatEngine(script.base_url, "m")):
            await write(alice, *(f"line {n}" for n in range(50)))
            await has_said(house, 1)
        await write(alice, *("x" * 20_000 for _ in range(3)))
        async with taking_part(ws(house.port), Mode.LINES, 1, ChatEngine(script.base_url, "m")):
            await has_said(house, 2)

    few, short = (asked.body["messages"][-1]["content"] for asked in script.asked)
    assert few.split("\n") == [f"line {n}" for n in range(30, 50)]
    assert short == "x" * 20_000


async def test_it_counts_what_people_say_and_nothing_else(house: House) -> None:
    async with taking_part(ws(house.port), *FOUR) as one, person(house) as alice, person(house, "bob") as bob:
        await write(alice, "one")
        await bob.request(frames.ThreadLeave(thread=LOBBY))
        await bob.request(frames.ThreadJoin(thread=LOBBY))
        await alice.send("27 °C", thread=LOBBY, message_type="subscription")
        await alice.send("range", thread=LOBBY, message_type="command")
        await write(alice, "@openai count to 2")
        await has_said(house, 1, "openai")
        await write(bob, "repeat: four")
        assert await has_said(house, 1) == ["(demo model) four"]

    counted = [line.split("heard      ")[1] for line in one.terminal.splitlines() if "heard" in line]
    assert counted == [
        "1/4 alice: one",
        "2/4 alice: @openai count to 2",
        "3/4 openai: (demo model) 1 2",
        "4/4 bob: repeat: four",
    ]


class Gate:
    """A model server that begins to answer when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    def __call__(self, text: str) -> Act:
        async def act(writer: asyncio.StreamWriter) -> None:
            await self.open.wait()
            await streams(piece(text), end(), DONE)(writer)

        return act


async def asked_for(script: Script, count: int) -> None:
    await until(lambda: len(script.asked) >= count)


async def test_lines_that_come_while_it_writes_count_for_one_next_answer(house: House) -> None:
    gate = Gate()
    async with (
        playing(gate("first"), gate("second")) as script,
        taking_part(ws(house.port), Mode.LINES, 2, ChatEngine(script.base_url, "m")) as one,
        person(house) as alice,
    ):
        await write(alice, "1", "2")
        await asked_for(script, 1)
        await write(alice, "3", "4", "5", "6", "7")
        await one.says("1/2 alice: 7")
        assert len(script.asked) == 1  # never two at once
        gate.open.set()
        await has_said(house, 2)
        await write(alice, "8")
        assert await has_said(house, 3) == ["first", "second", "second"]
        await has_nothing_left(house, "AI")

    assert len(script.asked) == 3
    shown = [(m["role"], m["content"]) for m in script.asked[1].body["messages"][1:]]
    # What it had not seen when it wrote stands after what it wrote, or a model would take it for answered.
    assert shown == [("user", "1\n2"), ("assistant", "first"), ("user", "3\n4\n5\n6\n7")]


async def test_two_that_hear_each_other_fall_silent_when_nobody_else_speaks(house: House) -> None:
    async with (
        taking_part(ws(house.port), Mode.LINES, 1, user="Ada"),
        taking_part(ws(house.port), Mode.LINES, 1, user="Bea"),
        person(house) as alice,
    ):
        for round in (1, 2):
            await write(alice, "hello, you two")
            await has_said(house, round, "Ada")
            await has_said(house, round, "Bea")
            await has_nothing_left(house, "Ada", "Bea")

    answers = len(await said(house, "Ada")) + len(await said(house, "Bea"))
    assert 4 <= answers <= 8  # to alice, and at most once more each to what the other said to her


async def test_an_assistant_that_goes_on_alone_is_not_answered(house: House) -> None:
    async with taking_part(ws(house.port), Mode.LINES, 1) as one, person(house) as alice:
        await write(alice, "repeat: hello")
        await has_said(house, 1)
        await alice.request(frames.RunStart(thread=LOBBY, assistant="openai"))
        await has_said(house, 1, "openai")
        await write(alice, "repeat: still there?")
        await has_said(house, 2)
        await has_nothing_left(house, "AI")

    assert await said(house) == ["(demo model) hello", "(demo model) still there?"]
    assert "openai:" not in one.terminal


# Coming back


async def test_lines_written_while_it_was_away_are_counted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with serving(home) as house, person(house) as alice:
        port = house.port
        one = Ai(ws(port), *FOUR, None)
        await one.says("connected")
        await write(alice, "one")
        await one.says("1/4 alice: one")
    try:
        await one.says("lost")
        async with serving(home) as house, person(house) as alice:  # on other ports, where it does not come
            await write(alice, "two", "three")
        assert "2/4" not in one.terminal
        async with serving(home, port=port) as house, person(house) as alice:
            await one.says("connected  again")
            await one.says("3/4 alice: three")
            assert await said(house) == []
            await write(alice, "repeat: four")
            assert await has_said(house, 1) == ["(demo model) four"]
            await write(alice, "five", "six", "seven", "repeat: eight")
            assert await has_said(house, 2) == ["(demo model) four", "(demo model) eight"]
    finally:
        await one.leaves()

    assert one.terminal.count("connected") == 2
    assert one.terminal.count("heard") == 8


async def test_the_count_goes_on_when_it_is_started_again(house: House) -> None:
    async with person(house) as alice:
        async with taking_part(ws(house.port), *FOUR) as one:
            await write(alice, "one")
            await one.says("1/4 alice: one")
        await write(alice, "two", "three")
        async with taking_part(ws(house.port), *FOUR) as one:
            await one.says("3/4 alice: three")
            assert await said(house) == []
            await write(alice, "repeat: four")
            assert await has_said(house, 1) == ["(demo model) four"]
            await has_nothing_left(house, "AI")
        async with taking_part(ws(house.port), *FOUR) as one:
            await write(alice, "one more")
            await one.says("1/4 alice: one more")


async def test_a_line_that_was_answered_before_a_crash_is_not_answered_again(house: House) -> None:
    async with person(house) as alice:
        async with taking_part(ws(house.port), Mode.LINES, 2):
            pass
        await write(alice, "one", "two")
        second = (await log(house))[-1]
        async with Client(ws(house.port), user="AI", threads=[], timing=FAST) as before:
            await before.send("what it said", thread=LOBBY, key=f"ai-{second.id}")
        async with taking_part(ws(house.port), Mode.LINES, 2):
            await has_nothing_left(house, "AI")
            assert await said(house) == ["what it said"]
            await write(alice, "three", "repeat: four")
            assert await has_said(house, 2) == ["what it said", "(demo model) four"]


async def test_what_was_answered_is_not_counted_again_with_what_came_meanwhile(house: House) -> None:
    gate = Gate()
    async with person(house) as alice, playing(gate("aha")) as script:
        async with taking_part(ws(house.port), Mode.LINES, 2, ChatEngine(script.base_url, "m")) as one:
            await write(alice, "one", "two")
            await asked_for(script, 1)
            await write(alice, "three")
            await one.says("1/2 alice: three")
            gate.open.set()
            await one.says("said       aha")
        async with taking_part(ws(house.port), Mode.LINES, 2) as one:
            await one.says("1/2 alice: three")

    assert one.terminal.count("heard") == 1


async def test_an_answer_that_was_being_written_is_written_when_it_is_started_again(house: House) -> None:
    async with person(house) as alice:
        async with (
            playing(Gate()("never said")) as script,
            taking_part(ws(house.port), Mode.LINES, 2, ChatEngine(script.base_url, "m")) as one,
        ):
            await write(alice, "one", "two")
            await asked_for(script, 1)
            # Not counted, and yet the cursor must not move past it.
            await alice.send("range", thread=LOBBY, message_type="command")
            await write(alice, "repeat: as before")
            await one.says("1/2 alice: repeat: as before")
        async with taking_part(ws(house.port), Mode.LINES, 2):
            assert await has_said(house, 1) == ["(demo model) as before"]


async def test_an_assistant_alone_is_not_answered_after_a_restart_either(house: House) -> None:
    async with person(house) as alice:
        async with taking_part(ws(house.port), Mode.LINES, 1):
            await write(alice, "repeat: hello")
            await has_said(house, 1)
            await has_nothing_left(house, "AI")
        await alice.request(frames.RunStart(thread=LOBBY, assistant="openai"))
        await has_said(house, 1, "openai")
        async with taking_part(ws(house.port), Mode.LINES, 1) as one:
            await has_nothing_left(house, "AI")

    assert await said(house) == ["(demo model) hello"]
    assert "heard" not in one.terminal


async def test_it_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as house:
        port = house.port
    one = Ai(ws(port), Mode.LINES, 1, None)
    try:
        await one.says(f"lost       Cannot connect: nothing listens on ws://127.0.0.1:{port}/ws.")
        async with serving(tmp_path / "home", port=port) as house, person(house) as alice:
            await one.says("connected  as AI in #lobby")
            await write(alice, "repeat: at last")
            assert await has_said(house, 1) == ["(demo model) at last"]
    finally:
        await one.leaves()

    assert one.terminal.count("lost       Cannot connect") == 1


async def test_what_keeps_it_away_is_said_once() -> None:
    tries = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as nobody:
        one = Ai(ws(nobody.sockets[0].getsockname()[1]), Mode.LINES, 1, None)
        try:
            await until(lambda: tries >= 4)
        finally:
            await one.leaves()

    assert one.terminal.count("lost") == 1
    assert "does not speak WebSocket" in one.terminal


# Seconds


async def test_it_opens_a_topic_every_second(house: House) -> None:
    begun = asyncio.get_running_loop().time()
    async with taking_part(ws(house.port), Mode.SECONDS, 1, rand=random.Random(1)) as one, person(house) as alice:
        await write(alice, "nobody answers me")
        topics = await has_said(house, 3)
        await one.says("said", 3)
        await has_nothing_left(house, "AI")
    took = asyncio.get_running_loop().time() - begun

    assert 2 <= took < 6
    assert all(topic.startswith("(demo model) ") for topic in topics)
    assert len(set(topics)) == 3


async def test_topics_do_not_pile_up_behind_a_slow_model(house: House) -> None:
    gate, now = Gate(), asyncio.get_running_loop().time
    async with (
        playing(gate("at last")) as script,
        taking_part(ws(house.port), Mode.SECONDS, 1, ChatEngine(script.base_url, "m")),
    ):
        await asked_for(script, 1)
        await asyncio.sleep(1.2)  # the clock is what this is about
        gate.open.set()
        opened = now()
        await asked_for(script, 2)

    assert 0.4 < now() - opened < 3


async def test_a_topic_is_asked_for_with_what_was_said_lately(house: House) -> None:
    async with person(house) as alice, playing(streams(piece("Do you like bread?"), end(), DONE)) as script:
        await write(alice, "nobody says anything")
        async with taking_part(ws(house.port), Mode.SECONDS, 60, ChatEngine(script.base_url, "m")):
            assert await has_said(house, 1) == ["Do you like bread?"]

    lines, wish = script.asked[0].body["messages"][-1]["content"].rsplit("\n", 1)
    assert lines == "alice: nobody says anything"
    assert wish.startswith("(host): Put this aside and introduce another subject, briefly: ")


# What goes wrong


async def test_a_model_that_fails_is_said_on_the_terminal_alone_and_it_goes_on(house: House) -> None:
    good = streams(piece("better now"), end(), DONE)
    async with (
        playing(says("500 Internal Server Error", {"error": {"message": "out of memory"}}), good) as script,
        taking_part(ws(house.port), Mode.LINES, 1, ChatEngine(script.base_url, "m")) as one,
        person(house) as alice,
    ):
        await write(alice, "hello?")
        await one.says("failed     The model server at 127.0.0.1")
        await write(alice, "hello??")
        assert await has_said(house, 1) == ["better now"]
        await has_nothing_left(house, "AI")

    assert [m.sender for m in await log(house)] == ["alice", "alice", "AI"]


async def test_an_answer_longer_than_a_message_is_cut(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "home", store="memory", text_bytes=100) as house,
        playing(streams(*[piece("ü" * 15)] * 50, then="wait")) as script,
        taking_part(ws(house.port), Mode.LINES, 1, ChatEngine(script.base_url, "m")),
        person(house) as alice,
    ):
        await write(alice, "go on")
        assert await has_said(house, 1) == ["ü" * 50]


async def test_a_name_that_is_taken_ends_it_with_a_sentence(house: House) -> None:
    async with person(house, "Ada"):
        one = Ai(ws(house.port), Mode.LINES, 1, None, user="Ada")
        with pytest.raises(NameTaken, match="Somebody here is called Ada"):
            await asyncio.wait_for(one.task, LIMIT_S)

    assert one.terminal == ""


async def test_without_guests_it_shows_a_token(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", store="memory", guests="off") as house:
        one = Ai(ws(house.port), Mode.LINES, 1, None)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(one.task, LIMIT_S)

        registered = await house.app.hub.gate.register("Ada", "correct horse battery")
        token = house.app.hub.gate.issue(registered)
        async with taking_part(ws(house.port), Mode.SECONDS, 60, token=token) as one:
            await one.says("connected  as Ada in #lobby")
            await has_said(house, 1, "Ada")


async def test_it_joins_a_public_thread_and_is_told_when_it_is_removed(house: House) -> None:
    async with person(house) as alice:
        garden = (await alice.request(frames.ThreadCreate(title="garden", public=True))).thread.id
        async with taking_part(ws(house.port), Mode.LINES, 1, thread=garden) as one:
            await one.says("connected  as AI in #garden")
            await write(alice, "not here")
            await write(alice, "repeat: but here", thread=garden)
            await one.says("said")
            assert await said(house, thread=garden) == ["AI joined.", "(demo model) but here"]
            assert await said(house) == []

            await alice.request(frames.ThreadRemove(thread=garden, member="AI"))
            with pytest.raises(NotFound):
                await asyncio.wait_for(one.task, LIMIT_S)


async def test_a_thread_it_may_not_join_is_one_sentence(house: House) -> None:
    async with person(house) as alice:
        secret = (await alice.request(frames.ThreadCreate(title="secret"))).thread.id
        one = Ai(ws(house.port), Mode.LINES, 1, None, thread=secret)
        with pytest.raises(NotFound, match="somebody in it can add AI"):
            await asyncio.wait_for(one.task, LIMIT_S)


async def test_an_address_that_is_none_is_refused_at_once() -> None:
    one = Ai("http://127.0.0.1:8000", Mode.LINES, 1, None)
    with pytest.raises(Problem, match="expected tcp, tls, ws or wss"):
        await asyncio.wait_for(one.task, LIMIT_S)


# On the wire


async def test_everything_it_sends_is_a_binary_message_of_length_prefixed_frames(house: House) -> None:
    sent: list[str | bytes] = []

    async def between(near: websockets.ServerConnection) -> None:
        async with websockets.connect(ws(house.port), compression=None) as far:

            async def down() -> None:
                with contextlib.suppress(websockets.ConnectionClosed):
                    async for message in far:
                        await near.send(message)

            back = asyncio.create_task(down())
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in near:
                    sent.append(message)
                    await far.send(message)
            back.cancel()
            await asyncio.wait([back])

    async with websockets.serve(between, "127.0.0.1", 0, compression=None) as proxy, person(house) as alice:
        port = next(iter(proxy.sockets)).getsockname()[1]
        async with taking_part(ws(port), Mode.LINES, 1):
            await write(alice, "repeat: hello")
            await has_said(house, 1)

    types = []
    for message in sent:
        assert isinstance(message, bytes)
        while message:
            (length,) = struct.unpack(">I", message[:4])
            payload, message = message[4 : 4 + length], message[4 + length :]
            assert len(payload) == length
            types.append(frames.REQUESTS[json.loads(payload)["type"]])
    assert types[0] is frames.Hello
    assert frames.MessageSend in types
    assert types[-1] is frames.ByeSend


# A real model


async def test_a_real_model_answers_in_context(house: House, tmp_path: Path) -> None:
    llama = Llama(tmp_path)
    try:
        await llama.start()
        engine = ChatEngine(llama.base_url, "", max_tokens=12)
        async with taking_part(ws(house.port), Mode.LINES, 2, engine) as one, person(house) as alice:
            await write(alice, "what fell on the roofs?", "tell me")
            await one.says("said")
    finally:
        await llama.kill()

    question, again, answer = await log(house)
    assert (question.sender, again.sender, answer.sender) == ("alice", "alice", "AI")
    assert answer.metadata == {"model": "tiny"}
    assert 1 <= len(answer.text.split()) <= 12
    assert "(demo" not in answer.text


# The log is another one


async def test_a_restored_server_is_counted_on_from_its_own_log(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "home") as server,
        Client(f"tcp://127.0.0.1:{server.tcp_port}", user="alice", threads=[], timing=FAST) as alice,
        taking_part(ws(server.port), *FOUR) as one,
    ):
        await write(alice, "one", "two")
        await one.says("2/4 alice: two")
        await back_up_and_restore(tmp_path / "home", tmp_path / "copy")
        await one.says("It counts from the beginning.")
        await one.says("2/4 alice: two", 2)  # the cursor that was kept stands before them
        await write(alice, "three", "repeat: four")
        await one.says("said       (demo model) four")


async def back_up_and_restore(home: Path, copy: Path) -> None:
    for command in (("backup", copy), ("restore", copy)):
        code, out, err = await hubbub(*command, "--home", home)
        assert code == 0, out + err
