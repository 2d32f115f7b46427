"""The project's own client on a bad network: all it says is acknowledged once, all it hears comes once and in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from hubbub.client import Client, State, Status, Timing
from hubbub.core import frames
from support import checker
from support.faulty import CLEAN, End, Faults, FaultyProxy, behind
from support.process import Server, running
from support.witness import LOBBY, Remembering, told_log

HURRIED = Timing(base_s=0.02, cap_s=0.2, connect_s=1.0, ping_every_s=0.15, pong_within_s=0.25, mark_every_s=0.02)


def anything(chance: Random) -> Faults:
    """Slow, narrow, sliced or said twice; and sooner or later at its end."""
    slow = chance.choice(
        [
            {},
            {"latency_s": 0.01, "jitter_s": 0.02},
            {"bytes_per_s": 200_000},
            {"slice_bytes": chance.randint(1, 7)},
            {"replay_s": 0.03},
        ]
    )
    end = chance.choices(list(End), [4 if end in (End.CUT, End.RST) else 1 for end in End])[0]
    up = chance.randrange(1, 3000) if chance.random() < 0.2 else None
    return Faults(up=up, down=chance.randrange(1, 20_000), end=end, **slow)


class Person(Remembering):
    """Somebody who uses the client as the documentation says, and does nothing about the network."""

    def __init__(self, name: str, client: Client) -> None:
        super().__init__()
        self.client = client
        self.testimony = checker.Testimony(name, sent={LOBBY: []}, acked={LOBBY: {}}, shown={LOBBY: []})
        self.runs: dict[str, str] = {}
        self.finals: list[str] = []
        self.ended: list[str] = []

    def has_heard(self, head: int, answers: int) -> bool:
        """All of it, and how the answers ended that it was hearing."""
        return self.head == head and len(self.finals) == answers and len(self.ended) == len(self.runs)

    @property
    def head(self) -> int:
        shown = self.testimony.shown[LOBBY]
        return shown[-1][0] if shown else self.testimony.began[LOBBY]

    async def say(self, text: str) -> None:
        self.testimony.sent[LOBBY].append(text)
        ack = await self.client.send(text, thread=LOBBY)
        assert text not in self.testimony.acked[LOBBY]
        self.testimony.acked[LOBBY][text] = ack.seq

    async def hear(self) -> None:
        async for frame in self.client:
            match frame:
                case frames.MessageFrame():
                    self.testimony.shown[LOBBY].append((frame.seq, frame.message.text))
                    if frame.message.run is not None:
                        assert self.runs.get(frame.message.run, "") in ("", frame.message.text)
                        self.finals.append(frame.message.text)
                case frames.RunQueued() | frames.RunStarted():
                    self.runs.setdefault(frame.run, "")
                case frames.RunDelta():
                    heard = self.runs.setdefault(frame.run, "")
                    assert frame.offset == len(heard), f"a piece at {frame.offset}, not at {len(heard)}"
                    self.runs[frame.run] += frame.text
                case frames.RunCompleted():
                    self.runs.setdefault(frame.run, "")
                    self.ended.append(frame.run)
                case frames.Error(code="bad_frame"):
                    pass  # a request was cut in two, and the other direction still open
                case frames.RunReset() | frames.Reset() | frames.Error():
                    raise AssertionError(f"not to be heard: {frame}")
            self._news.set()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "home") as server:
        yield server
        assert "Traceback" not in server.said, server.said[-4000:]


def address(proxy: FaultyProxy, scheme: str) -> str:
    return f"tcp://127.0.0.1:{proxy.tcp_port}" if scheme == "tcp" else f"ws://127.0.0.1:{proxy.port}/ws"


@pytest.mark.parametrize(
    ("sends", "seed"), [(40, 1), pytest.param(2000, 2, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_the_client_says_and_hears_everything_once_whatever_the_network_does(
    server: Server, scheme: str, sends: int, seed: int
) -> None:
    questions = max(1, sends // 100)
    async with (
        behind(server, CLEAN, f"{scheme}/{seed}") as proxy,
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        people, hearing = [], []
        for number in range(4):
            name = f"{scheme}{seed}-{number}"
            client = Client(
                address(proxy, scheme), user=name, timing=HURRIED, rand=Random(number), in_flight=1 + number * 10
            )
            await stack.enter_async_context(client)
            people.append(one := Person(name, client))
            one.testimony.began[LOBBY] = client.threads[LOBBY].head
            hearing.append(group.create_task(one.hear()))
        before = proxy.connections
        proxy.faults = anything
        proxy.end_all(End.RST)

        async def talk(one: Person) -> None:
            for batch in range(0, sends, 20):
                texts = [f"{one.testimony.name} {at} ünïcödé 🙂" for at in range(batch, batch + 20)]
                async with asyncio.TaskGroup() as said:
                    for text in texts:
                        said.create_task(one.say(text))

        async def ask(one: Person) -> None:
            for number in range(questions):
                await one.say(f"@openai count to {400 - number}")
                await one.until(lambda number=number: len(one.finals) > number, 30)  # type: ignore[misc]

        async with asyncio.TaskGroup() as talking:
            talking.create_task(ask(people[0]))
            for one in people:
                talking.create_task(talk(one))
        log = await told_log(server)
        for one in people:
            await one.until(lambda one=one: one.has_heard(len(log), questions), 30)  # type: ignore[misc]
        lives = proxy.connections - before
        for task in hearing:
            task.cancel()

    assert checker.check([one.testimony for one in people], {LOBBY: log}) == []
    assert sum(len(one.testimony.acked[LOBBY]) for one in people) == sends * len(people) + questions
    answers = ["(demo model) " + " ".join(map(str, range(1, 401 - number))) for number in range(questions)]
    assert all(one.finals == answers for one in people)
    assert all(len(set(one.ended)) == len(one.ended) for one in people)
    assert lives > 4 * len(people), "the network was kind"


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_the_client_notices_a_black_hole_by_its_ping_and_comes_back(server: Server, scheme: str) -> None:
    states: list[Status] = []
    async with behind(server, CLEAN, 0) as proxy:
        user = f"lost-{scheme}"
        async with Client(address(proxy, scheme), user=user, timing=HURRIED, on_state=states.append) as client:
            proxy.end_all(End.HOLE)
            began = time.monotonic()
            async with Client(f"tcp://127.0.0.1:{server.tcp_port}", user=f"clean-{scheme}", threads=[]) as clean:
                missed = await clean.send("said into the hole", thread=LOBBY)
            said = await client.send("is anybody there?", thread=LOBBY, timeout_s=10)
            assert time.monotonic() - began < HURRIED.ping_every_s + 2 * HURRIED.pong_within_s + 1.0
            heard = []
            while not heard or heard[-1] != said.seq:
                frame = await asyncio.wait_for(client.next(), 5)
                if isinstance(frame, frames.MessageFrame):
                    heard.append(frame.seq)
        assert heard == [missed.seq, said.seq]
        assert [status.state for status in states] == [
            State.CONNECTED,
            State.RECONNECTING,
            State.CONNECTED,
            State.CLOSED,
        ]
        assert "has not answered" in states[1].reason
        assert proxy.connections == 2
