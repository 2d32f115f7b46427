"""Three nodes on one MongoDB and one Redis, all real: whatever is killed, frozen or cut off, every promise is kept.

32 people write and read, spread over the nodes and over every transport; each connection is made to the next node.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest

from hubbub.client import Client, State, Status
from hubbub.core import frames
from hubbub.core.nouns import new_id
from support.checker import check
from support.cluster import Cluster, cluster, cut_off, frozen, until
from support.faulty import FaultyProxy
from support.mongod import primary
from support.people import SETTLED_S, People
from support.talkers import FramedClient, WsClient
from support.witness import LOBBY, Witness, told_log

CAUGHT_UP_S = 2.0
"""After Redis is back, until everybody has heard everything."""

AWAY_S = 2.0
"""Behind a load balancer that asks `/readyz`."""

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


Fault = Callable[[Cluster, Random], Awaitable[None]]


async def each_is_killed(cluster: Cluster, chance: Random) -> None:
    for node in cluster.nodes:
        await asyncio.sleep(chance.uniform(0, 0.2))
        await node.kill()
        await node.start()


async def each_is_stopped(cluster: Cluster, chance: Random) -> None:
    for node in cluster.nodes:
        assert await node.stop() == 0
        await node.start()


async def one_is_frozen(cluster: Cluster, chance: Random) -> None:
    with frozen(chance.choice(cluster.nodes)):
        await asyncio.sleep(3)


async def redis_is_killed(cluster: Cluster, chance: Random) -> None:
    await cluster.redis.kill()
    await asyncio.sleep(chance.uniform(0, 1.5))
    await cluster.redis.start()


async def redis_is_frozen(cluster: Cluster, chance: Random) -> None:
    with frozen(cluster.redis):
        await asyncio.sleep(3)


async def redis_is_emptied(cluster: Cluster, chance: Random) -> None:
    for _ in range(3):
        async with cluster.redis.client() as client:
            await client.flushall()
        await asyncio.sleep(chance.uniform(0, 0.3))


async def redis_talks_nonsense(cluster: Cluster, chance: Random) -> None:
    async with cluster.nonsense_for_redis():
        await asyncio.sleep(1)


async def one_is_cut_off_from_redis(cluster: Cluster, chance: Random) -> None:
    with cut_off(chance.choice(cluster.to_redis)):
        await asyncio.sleep(4)


async def one_is_cut_off_from_mongodb(cluster: Cluster, chance: Random) -> None:
    with cut_off(chance.choice(cluster.to_mongo)):
        await asyncio.sleep(4)


async def the_primary_is_killed(cluster: Cluster, chance: Random) -> None:
    first = await asyncio.to_thread(primary, cluster.members)
    await asyncio.to_thread(first.kill)
    await asyncio.to_thread(primary, cluster.members, but=first)
    await asyncio.to_thread(first.start)


async def the_primary_is_frozen(cluster: Cluster, chance: Random) -> None:
    first = await asyncio.to_thread(primary, cluster.members)
    with frozen(first):
        await asyncio.to_thread(primary, cluster.members, but=first)
        await asyncio.sleep(0.5)


ON_ONE = [
    each_is_killed,
    each_is_stopped,
    one_is_frozen,
    redis_is_killed,
    redis_is_frozen,
    redis_is_emptied,
    redis_talks_nonsense,
    one_is_cut_off_from_redis,
    one_is_cut_off_from_mongodb,
]
OF_REDIS = [redis_is_killed, redis_is_frozen, redis_is_emptied, redis_talks_nonsense]
ON_THREE = [the_primary_is_killed, the_primary_is_frozen]
ROUNDS = [1, pytest.param(20, marks=LONG)]


@pytest.fixture(scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """MongoDB is a replica set of one server."""
    async with cluster(tmp_path_factory.mktemp("one")) as made:
        yield made
        assert "Traceback" not in made.said, made.said[-4000:]


@pytest.fixture(scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """MongoDB is a replica set of three servers."""
    async with cluster(tmp_path_factory.mktemp("three"), members=3) as made:
        yield made
        assert "Traceback" not in made.said, made.said[-4000:]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("fault", ON_ONE, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_doubled_or_reordered_while(one: Cluster, fault: Fault, rounds: int) -> None:
    await goes_on(one, fault, rounds)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("fault", ON_THREE, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_doubled_or_reordered_with_three_databases_while(
    three: Cluster, fault: Fault, rounds: int
) -> None:
    await goes_on(three, fault, rounds)


async def goes_on(cluster: Cluster, fault: Fault, rounds: int) -> None:
    chance = Random(fault.__name__)
    people = People(cluster)
    async with people.there():
        for _ in range(rounds):
            people.all_say(2)
            people.ask(chance)
            chatter = asyncio.create_task(people.chatter(chance))
            try:
                await fault(cluster, chance)
            finally:
                chatter.cancel()
            began = time.monotonic()
            await people.level()
            took_s = time.monotonic() - began
            print(f"{fault.__name__}: level after {took_s:.2f} s")
            if fault in OF_REDIS:
                assert took_s < CAUGHT_UP_S
        people.all_say(1)
        await people.level()
        await people.judged()


@pytest.mark.parametrize("each", [160, pytest.param(3200, marks=LONG)])
async def test_32_writers_on_three_nodes_number_one_thread_without_a_hole_or_a_double(one: Cluster, each: int) -> None:
    mark = new_id()[:6].lower().replace("_", "x").replace("-", "x")
    before = len(await one.log())
    reader = Witness(f"{mark}-reader", one.doors(1), ["text"])
    reading = asyncio.create_task(reader.live())
    await asyncio.wait_for(reader.ready.wait(), 10)

    async def write(number: int) -> dict[int, str]:
        node = one.nodes[number % 3]
        at = node.port if number % 2 else node.tcp_port
        name = f"{mark}-{number}"
        acked: dict[int, str] = {}
        async with await (WsClient if number % 2 else FramedClient).open(at) as writer:
            await writer.hello(name, threads=[])
            for first in range(0, each, 16):
                texts = [f"{name} {at}" for at in range(first, min(each, first + 16))]
                for text in texts:
                    await writer.send("message.send", id=text, key=text, thread=LOBBY, text=text)
                acked |= {(await writer.take("ack", id=text))["seq"]: text for text in texts}
        return acked

    began = time.monotonic()
    acked: dict[int, str] = {}
    for some in await asyncio.gather(*(write(number) for number in range(32))):
        assert not acked.keys() & some.keys()
        acked |= some
    print(f"{len(acked) / (time.monotonic() - began):.0f} messages a second into one thread from three nodes")
    log = await one.log()
    await reader.until(lambda: reader.cursor == len(log), SETTLED_S)
    reading.cancel()

    assert sorted(acked) == list(range(before + 1, before + 32 * each + 1))
    assert {message.seq: message.text for message in log[before:]} == acked
    plain = [(message.seq, message.sender, message.text) for message in log]
    assert check([reader.testimony], {LOBBY: plain}) == []
    for place, node in enumerate(one.nodes):
        assert await told_log(node, name=f"{mark}-h{place}") == plain


class Visitor:
    """Somebody who uses the client library through a load balancer and does nothing about restarts."""

    def __init__(self, name: str, front: FaultyProxy, number: int) -> None:
        self.shown: list[int] = []
        self.acked: list[int] = []
        self.away: list[float] = []
        self._lost_at = 0.0
        address = f"tcp://127.0.0.1:{front.tcp_port}" if number % 2 else f"ws://127.0.0.1:{front.port}/ws"
        self.client = Client(address, user=name, rand=Random(number), on_state=self._state)

    def _state(self, status: Status) -> None:
        if status.state is State.RECONNECTING and not self._lost_at:
            self._lost_at = time.monotonic()
        elif status.state is State.CONNECTED and self._lost_at:
            self.away.append(time.monotonic() - self._lost_at)
            self._lost_at = 0.0

    async def hear(self) -> None:
        async for frame in self.client:
            if isinstance(frame, frames.MessageFrame):
                self.shown.append(frame.seq)

    async def talk(self) -> None:
        while True:
            self.acked.append((await self.client.send(f"hello {len(self.acked)}", thread=LOBBY)).seq)
            await asyncio.sleep(1)


@pytest.mark.parametrize(("visitors", "rounds"), [(30, 1), pytest.param(200, 10, marks=LONG)])
async def test_whoever_uses_the_client_library_is_away_for_seconds_in_a_rolling_restart_and_loses_nothing(
    one: Cluster, visitors: int, rounds: int
) -> None:
    mark = new_id()[:6].lower().replace("_", "x").replace("-", "x")
    async with FaultyProxy(one.open_doors()) as front, contextlib.AsyncExitStack() as stack:
        people = [Visitor(f"{mark}-{number}", front, number) for number in range(visitors)]
        for visitor in people:
            await stack.enter_async_context(visitor.client)
        tasks = [asyncio.create_task(work) for visitor in people for work in (visitor.hear(), visitor.talk())]
        for _ in range(rounds):
            for node in one.nodes:
                assert await node.stop() == 0
                await node.start()
                await asyncio.sleep(0.5)
        for talking in tasks[1::2]:
            talking.cancel()
        await asyncio.wait(tasks[1::2])
        log = await one.log()
        await until(lambda: all(visitor.shown and visitor.shown[-1] >= len(log) for visitor in people), SETTLED_S)
        for task in tasks:
            task.cancel()

    away = sorted(seconds for visitor in people for seconds in visitor.away)
    half, p99 = away[len(away) // 2], away[int(len(away) * 0.99)]
    print(f"away {len(away)} times: p50 {half:.2f} s, p99 {p99:.2f} s, at most {away[-1]:.2f} s")
    assert len(away) >= visitors * rounds
    assert p99 < AWAY_S
    texts = [(message.sender, message.text) for message in log]
    assert len(set(texts)) == len(texts)
    for visitor in people:
        assert visitor.shown == list(range(visitor.shown[0], visitor.shown[-1] + 1))
        assert all(log[seq - 1].sender == visitor.client.user for seq in visitor.acked)
