"""A Redis that is killed, frozen, emptied, cut off or talks nonsense while answers are written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import structlog

from hubbub.buses.redis import RedisBus
from hubbub.core.errors import BadRequest, Unavailable
from hubbub.core.nouns import Prompt, Task, new_id
from hubbub.core.ports import Piece
from hubbub.workers import Workers
from support.readers import Audience, ask
from support.redis import RedisServer, free_port, redis_server
from support.server import House, fresh, serving, settings

WORDS = 100
SAID = "word " * WORDS
LEASE_S = 1.0


class Writer:
    """Writes so many words, five milliseconds each."""

    name = "writer"
    batch = 4
    at_once = 4

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        for _ in range(WORDS):
            await asyncio.sleep(0.005)
            for index in range(len(prompts)):
                yield index, "word "


@dataclass
class Works:
    house: House
    redis: RedisServer
    workers: Workers
    name: str

    async def ask(self, seed: int) -> Audience:
        return await ask(self.house, fresh("alice"), "hello", Random(seed))

    async def health(self) -> str:
        async with self.house.http() as http:
            found = (await http.get("/health")).json()
        assert found["status"] == ("ok" if found["checks"]["redis"] == "ok" else "degraded")
        return str(found["checks"]["redis"])

    async def healthy(self, well: bool = True) -> str:
        async with asyncio.timeout(10):
            while ((said := await self.health()) == "ok") is not well:  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.02)
        return said


@contextlib.asynccontextmanager
async def at_work(home: Path, redis: RedisServer) -> AsyncIterator[Works]:
    name = new_id()
    flags = {"redis_url": redis.url, "redis_tasks_queue_name": name, "lease_s": LEASE_S, "worker": False}
    async with serving(home / "home", **flags) as house:
        worker = settings(home / "none", worker_port=0, **flags)
        async with Workers(worker, engine=Writer()) as workers:
            yield Works(house, redis, workers, name)


@pytest.fixture
async def works(tmp_path: Path) -> AsyncIterator[Works]:
    async with redis_server() as redis, at_work(tmp_path, redis) as works:
        yield works


async def test_a_redis_that_is_killed_and_started_again_costs_an_attempt_and_nothing_else(works: Works) -> None:
    audience = await works.ask(1)
    await audience.first.until(100)
    await works.redis.kill()
    trouble = await works.healthy(False)
    async with await works.house.talk("text", fresh("bob")) as bob:  # people go on
        thread = await bob.group()
        await bob.post(thread, "anybody?")
    await works.redis.start()
    reader = await audience.whole()

    assert trouble.endswith("it cannot be reached.")
    assert reader.text == SAID
    assert reader.attempts == [1, 2]
    assert await works.healthy() == "ok"


async def test_a_redis_that_forgets_everything_again_and_again_fails_no_answer(works: Works) -> None:
    audience, waiting = await works.ask(3), [await works.ask(4 + n) for n in range(8)]
    for attempt in range(1, 6):
        await audience.first.until(20, attempt)
        async with works.redis.client() as client:
            await client.flushall()
    for one in (audience, *waiting):
        assert (await one.whole()).text == SAID
    assert audience.first.attempts[-1] > 3


async def test_a_redis_that_stood_still_longer_than_a_lease_loses_nothing(works: Works) -> None:
    audience = await works.ask(2)
    await audience.first.until(100)
    with works.redis.frozen():
        await asyncio.sleep(LEASE_S * 1.5)
    reader = await audience.whole()

    assert reader.text == SAID
    assert reader.attempts in ([1], [1, 2])


async def test_a_redis_that_does_not_answer_is_waited_for_two_seconds_at_most(works: Works) -> None:
    loop = asyncio.get_running_loop()
    async with await works.house.talk("text", fresh("bob")) as bob:
        thread = await bob.group("openai")
        with works.redis.frozen():
            began = loop.time()
            reply = await bob.ask("run.start", thread=thread, assistant="openai")
            took_s = loop.time() - began
        answer = await bob.message(SAID)

    assert (reply["type"], reply["code"]) == ("error", "unavailable")
    assert "does not answer in time" in reply["detail"]
    assert took_s < 3
    assert answer["run"]


async def test_a_redis_that_is_away_refuses_at_once(works: Works) -> None:
    loop = asyncio.get_running_loop()
    async with await works.house.talk("text", fresh("bob")) as bob:
        thread = await bob.group("openai")
        await works.redis.kill()
        await works.healthy(False)
        began = loop.time()
        reply = await bob.ask("run.start", thread=thread, assistant="openai")
        took_s = loop.time() - began
        await works.redis.start()
        await works.healthy()

    assert (reply["type"], reply["code"]) == ("error", "unavailable")
    assert took_s < 1


async def test_a_redis_that_forgot_everything_is_told_again(works: Works) -> None:
    audiences = [await works.ask(seed) for seed in range(6)]
    await audiences[0].first.until(50)
    async with works.redis.client() as client:
        await client.flushall()
    readers = [await audience.whole() for audience in audiences]

    assert [reader.text for reader in readers] == [SAID] * 6
    assert all(reader.attempts[-1] <= 2 for reader in readers)


async def test_scripts_that_redis_forgot_are_given_again(works: Works) -> None:
    audience = await works.ask(3)
    for length in (50, 150, 250):
        await audience.first.until(length)
        async with works.redis.client() as client:
            await client.script_flush()
    reader = await audience.whole()

    assert (reader.text, reader.attempts) == (SAID, [1])


async def test_words_that_were_lost_are_read_from_where_they_are_kept(works: Works) -> None:
    audience = await works.ask(4)
    async with works.redis.client() as client:
        for length in range(25, 425, 50):
            await audience.first.until(length)
            await client.client_kill_filter(_type="pubsub")
        reader = await audience.whole()

    assert (reader.text, reader.attempts) == (SAID, [1])


async def test_an_end_nobody_heard_of_is_found(works: Works) -> None:
    audience = await works.ask(5)
    await audience.first.until(400)
    bus = works.house.app.hub.bus
    assert isinstance(bus, RedisBus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus._ear, "_hear", lambda word: None)
        reader = await audience.whole()

    assert (reader.text, reader.attempts) == (SAID, [1])


GARBAGE = (
    b"",
    b"\xff\xfe",
    b"null",
    b"[1, 2]",
    b'{"word":"event"}',
    b'{"word":"event","thread":"x","frame":{"type":"nothing"}}',
    b'{"word":"ended","run":5}',
    b'{"word":"lost","run":"RUN","attempt":"one"}',
    b'{"word":"event","thread":"x","frame":{"type":"run.delta","run":"RUN","thread":"x","assistant":"a","attempt":1,'
    b'"offset":99999999,"text":"nonsense"}}',
    b'{"word":"bell","engine":"demo","more":[' + b"1," * 1000 + b"1]}",
    b"[" * 100_000,
)


async def test_nonsense_from_redis_is_dropped(works: Works) -> None:
    with structlog.testing.capture_logs() as logs:
        audience = await works.ask(6)
        await audience.first.until(50)
        async with works.redis.client() as client:
            for channel in ("events", "work"):
                for word in GARBAGE:
                    await client.publish(
                        f"{{{works.name}}}:{channel}", word.replace(b"RUN", audience.first.run.encode())
                    )
            for place in ("nothing", "0000000000000000nobody", "9999999999999999" + audience.first.run):
                await client.zadd(f"{{{works.name}}}:wait:demo", {place: -1})
            await client.hset(f"{{{works.name}}}:run:nobody", mapping={"task": "{", "place": "0000000000000000nobody"})
            await client.set(f"{{{works.name}}}:run:other", "not a hash")
        reader = await audience.whole()
        again = await (await works.ask(7)).whole()

    assert (reader.text, reader.attempts) == (SAID, [1])
    assert again.text == SAID
    assert not [entry for entry in logs if entry["log_level"] in ("error", "critical")]
    assert [entry for entry in logs if entry["event"] == "word_not_understood"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n" * 50, b"\x00\xff" * 100, b"-ERR no\r\n"]
)
async def test_whatever_else_listens_there_is_no_redis_and_no_harm(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                writer.write(answer)
                await writer.drain()
        writer.close()

    port = free_port()
    task = Task(run="r", thread="t", assistant="a", attempt=1, prompt=Prompt(run="r", assistant="a", turns=()))
    bus = RedisBus(f"redis://127.0.0.1:{port}", new_id())
    async with await asyncio.start_server(talk, "127.0.0.1", port):
        await bus.open()
        try:
            async with asyncio.timeout(3):
                with pytest.raises(Unavailable):
                    await bus.put(task)
        finally:
            await bus.close()

    assert bus.checks()["redis"] != "ok"


async def test_no_password_is_shown_whatever_goes_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    task = Task(run="r", thread="t", assistant="a", attempt=1, prompt=Prompt(run="r", assistant="a", turns=()))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A server that repeats what it was told, as some do with a command they do not know."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                writer.write(b"-ERR unknown command " + data.replace(b"\r\n", b" ") + b"\r\n")
                await writer.drain()
        writer.close()

    port = free_port()
    with structlog.testing.capture_logs() as logs:
        async with redis_server(password="right") as redis, await asyncio.start_server(echo, "127.0.0.1", port):
            for url in (
                f"redis://:s3cret-pw@127.0.0.1:{redis.port}",
                f"redis://:s3cret-pw@127.0.0.1:{port}",
                f"redis://somebody:s3cret-pw@127.0.0.1:{free_port()}",
            ):
                bus = RedisBus(url, new_id())
                await bus.open()
                with pytest.raises(Unavailable) as refused:
                    await bus.put(task)
                said += [refused.value.detail, *bus.checks().values(), repr(bus), str(bus.address)]
                await bus.close()
            bus = RedisBus(redis.url, new_id())
            await bus.open()
            place = await bus.put(task)
            await bus.close()
    for url in ("http://:s3cret-pw@there", "redis://:s3cret-pw@there:port/0", "s3cret-pw"):
        with pytest.raises(BadRequest) as wrong:
            RedisBus(url)
        said.append(wrong.value.detail)
    out, err = capfd.readouterr()

    assert place == 1
    assert "refuses the password" in said[0]
    assert "s3cret-pw" not in json.dumps([said, logs], default=str) + out + err


async def test_nothing_is_left_in_redis_after_the_answers(works: Works) -> None:
    for audience in [await works.ask(seed) for seed in range(8)]:
        await audience.whole()
    async with works.redis.client() as client:
        async with asyncio.timeout(5):
            while [key async for key in client.scan_iter("*:run:*")]:  # noqa: ASYNC110 - Redis is asked
                await asyncio.sleep(0.01)
        keys = {key.decode().partition("}:")[2]: await client.ttl(key) async for key in client.scan_iter("*")}

    assert all(ttl != -1 and ttl <= 86_400 for ttl in keys.values()), keys  # -1: for ever
    assert {key.partition(":")[0] for key in keys} <= {"last", "turn", "n", "fence", "took"}
