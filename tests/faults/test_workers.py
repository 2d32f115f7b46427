"""Workers that are killed, frozen and stopped while they write: nothing that was shown is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from hubbub.core.nouns import new_id
from support.process import running
from support.readers import Audience, ask
from support.redis import RedisServer, redis_server
from support.server import House, fresh, serving
from support.talkers import FramedClient
from support.workers import WorkerProcess, working

WORDS = 60
SAID = "word " * WORDS


@dataclass
class Works:
    """A server without workers of its own, a Redis, and two worker processes."""

    house: House
    redis: RedisServer
    workers: list[WorkerProcess]

    async def whole(self) -> None:
        """Start again what a test has ended."""
        for worker in self.workers:
            if not worker.runs:
                await worker.start()

    async def writer(self) -> WorkerProcess:
        """Whoever writes now."""
        async with asyncio.timeout(5):
            while True:
                for worker in self.workers:
                    if worker.runs and await worker.writes():
                        return worker
                await asyncio.sleep(0.005)

    async def ask(self, text: str, chance: Random | None = None) -> Audience:
        return await ask(self.house, fresh("alice"), text, chance)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    home = tmp_path_factory.mktemp("works")
    name = new_id()
    environ = {"HUBBUB_ENGINE": "script"}
    async with redis_server() as redis:
        workers = [WorkerProcess(redis.url, name, home / f"worker{n}.log", environ) for n in range(2)]
        flags = {"redis_url": redis.url, "redis_tasks_queue_name": name, "worker": False, "lease_s": 1.0}
        try:
            async with serving(home / "home", engine="script", **flags) as house:
                yield Works(house, redis, workers)
        finally:
            for worker in workers:
                if worker.runs:
                    worker.signal(signal.SIGCONT)
                    await worker.kill()


@pytest.fixture
async def works(made: Works) -> Works:
    await made.whole()
    return made


def told(words: int = WORDS, delay: float = 0.005, first: float = 0.2) -> str:
    return f"[[delay={delay} first={first} words={words}]] word"


async def test_a_worker_elsewhere_answers_and_four_readers_who_come_and_go_have_every_character(works: Works) -> None:
    audience = await works.ask(told(), Random(1))
    reader = await audience.whole()

    assert reader.text == SAID
    assert reader.attempts == [1]
    assert reader.final["metadata"]["state"] == "completed"
    assert sum(one.connections for one in audience.readers) > 8


@pytest.mark.parametrize("percent", [0, 10, 50, 99])
async def test_a_killed_worker_loses_nothing_that_was_shown(works: Works, percent: int) -> None:
    audience = await works.ask(told(), Random(percent))
    writer = await works.writer()
    await audience.first.until(len(SAID) * percent // 100)
    await writer.kill()

    reader = await audience.whole()

    assert reader.text == SAID
    assert reader.attempts[-1] == 2 or percent == 99
    assert reader.end["type"] == "run.completed"


@pytest.mark.parametrize("percent", [0, 10, 50, 99])
async def test_a_worker_that_was_frozen_comes_back_and_can_change_nothing(works: Works, percent: int) -> None:
    audience = await works.ask(told(), Random(percent))
    writer = await works.writer()
    await audience.first.until(len(SAID) * percent // 100)
    with writer.frozen():
        if percent < 99:
            await audience.first.until(1, attempt=2)
    reader = await audience.whole()

    assert reader.text == SAID
    assert reader.attempts[-1] == 2 or percent == 99


async def test_a_worker_that_is_told_to_stop_finishes_what_it_writes_and_takes_no_more(works: Works) -> None:
    audience = await works.ask(told())
    writer = await works.writer()
    await audience.first.until(5)
    code = await writer.stop()
    reader = await audience.whole()

    assert code == 0
    assert reader.attempts == [1]
    assert reader.text == SAID


async def test_four_questions_at_once_survive_the_end_of_their_worker(works: Works) -> None:
    audiences = [await works.ask(told(first=0.5)) for _ in range(4)]
    writer = await works.writer()
    await audiences[3].first.until(20)
    await writer.kill()
    readers = [await audience.whole() for audience in audiences]

    assert [reader.text for reader in readers] == [SAID] * 4
    assert all(reader.attempts[-1] <= 2 for reader in readers)


async def test_the_server_may_be_killed_while_somebody_else_writes(tmp_path: Path) -> None:
    name = new_id()
    environ = {"HUBBUB_ENGINE": "script", "HUBBUB_WORKER": "0", "HUBBUB_LEASE_S": "5"}
    async with (
        redis_server() as redis,
        working(redis.url, name, tmp_path / "worker.log", environ),
        running(tmp_path / "home", environ | {"REDIS_URL": redis.url, "REDIS_TASKS_QUEUE_NAME": name}) as server,
    ):
        alice = await FramedClient.open(server.tcp_port)
        await alice.hello("alice")
        await alice.write("openai", told(words=250, delay=0.02, first=0.0))
        await alice.take("run.delta")
        await server.kill()
        await server.start()
        async with await FramedClient.open(server.tcp_port) as alice:
            await alice.hello("alice")
            first = await alice.take("run.delta")
            end = await alice.take("run.completed")
            answers = [frame["message"] for frame in alice.heard if frame["type"] == "message"]

    assert (first["offset"], first["attempt"]) == (0, 1)
    assert (end["attempt"], [answer["text"] for answer in answers if answer["run"]]) == (1, ["word " * 250])


POISON = """
import base64, json, os, sys
texts = [json.loads(base64.b64decode(open(name, "rb").read()))["text"] for name in sys.argv[1:]]
if any("poison" in text for text in texts):
    os.kill(os.getppid(), 9)
for i, text in enumerate(texts):
    print(json.dumps({"i": i, "d": "fine"}))
    print(json.dumps({"i": i, "end": True}))
"""


async def test_a_question_that_kills_its_worker_fails_alone_in_the_end(tmp_path: Path) -> None:
    script = tmp_path / "poison.py"
    script.write_text(POISON)
    name = new_id()
    environ = {
        "HUBBUB_ENGINE": "script",
        "HUBBUB_SCRIPT": f"{sys.executable} {script}",
        "HUBBUB_WAIT_BATCH_MS": "500",
    }
    flags = {"redis_tasks_queue_name": name, "worker": False, "lease_s": 1.0, "engine": "script"}
    async with redis_server() as redis, serving(tmp_path / "home", redis_url=redis.url, **flags) as house:
        audiences = [await ask(house, fresh("alice"), text) for text in ("one", "two", "poison", "three")]
        async with working(redis.url, name, tmp_path / "worker.log", environ) as worker:

            async def again() -> None:
                deaths = 0
                while True:
                    await worker._process.wait()
                    deaths += 1
                    assert deaths <= 3
                    await worker.start()

            keeping = asyncio.create_task(again())
            readers = [await audience.whole(40) for audience in audiences]
            keeping.cancel()
            await asyncio.wait([keeping])

    assert [reader.text for reader in readers] == ["fine", "fine", "", "fine"]
    assert [reader.end["type"] for reader in readers] == [
        "run.completed",
        "run.completed",
        "run.failed",
        "run.completed",
    ]
    assert readers[2].end["error"] == "The answer was interrupted 3 times."
    assert readers[2].attempts == [1, 2, 3]


@pytest.fixture(scope="module", params=["local", "redis"])
async def scripted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A server whose answers a program writes, in the same process or elsewhere."""
    home = tmp_path_factory.mktemp("scripted")
    if request.param == "local":
        async with serving(home / "home", engine="script") as house:
            yield house
        return
    name = new_id()
    async with redis_server() as redis, working(redis.url, name, home / "log", {"HUBBUB_ENGINE": "script"}):
        flags = {"redis_url": redis.url, "redis_tasks_queue_name": name, "worker": False, "lease_s": 1.0}
        async with serving(home / "home", engine="script", **flags) as house:
            yield house


@pytest.mark.parametrize(
    ("how", "said", "end"),
    [
        ("exit=1 delay=0 first=0", "one two", "failed"),
        ("exit=0 delay=0 first=0", "one two", "completed"),
        ("nothing", "", "failed"),
        ("long-line delay=0 first=0", "", "failed"),
        ("bad-utf8 delay=0 first=0", "caf", ""),
        ("slow-bytes delay=0.002 first=0", "one two", "completed"),
        ("hang-grandchild delay=0 first=0", "one two", "completed"),
        ("fail=1 delay=0 first=0", "one ", "failed"),
    ],
)
async def test_whatever_a_program_does_each_question_gets_one_message(
    scripted: House, how: str, said: str, end: str
) -> None:
    audience = await ask(scripted, fresh("alice"), f"[[{how}]] one two", Random(how))
    reader = await audience.whole()

    assert reader.text.startswith(said)
    assert reader.end["type"].startswith(f"run.{end}")
    assert reader.attempts == [1]


async def test_an_answer_without_end_is_cancelled_where_it_is(scripted: House) -> None:
    audience = await ask(scripted, fresh("alice"), "[[stall delay=0 first=0]] one two", Random(7))
    await audience.first.until(7)
    async with await scripted.talk("text", token=audience.first.token) as alice:
        reply = await alice.ask("run.cancel", run=audience.first.run)
    reader = await audience.whole()

    assert reply["run"]["state"] == "cancelled"
    assert reader.text == "one two"
    assert reader.end["type"] == "run.cancelled"
