"""Bad networks, one kind after the other: everybody behind one hears everything once, nobody beside them notices."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random

import pytest

from support.checker import check
from support.faulty import CLEAN, End, Faults, behind
from support.process import Server, running
from support.talkers import FramedClient
from support.witness import LOBBY, StreamWitness, Witness, told_log

KINDS = (["framed"], ["text"], ["binary"], ["text", "framed", "binary"])
PATIENCE_S = 0.2
CLEAN_ROUND_TRIP_S = 1.0

Plan = Callable[[Random], Faults]


def cut(end: End, *, down: int = 8000, **also: float) -> Plan:
    """Ends after some bytes of either direction; often enough within the first frames."""

    def plan(chance: Random) -> Faults:
        up = chance.randrange(1, 1500) if chance.random() < 0.3 else None
        return Faults(up=up, down=chance.randrange(1, down), end=end, **also)  # type: ignore[arg-type]

    return plan


def constant(faults: Faults) -> Plan:
    return lambda _: faults


def any_of_them(chance: Random) -> Faults:
    return chance.choice(list(NETWORKS.values()))(chance)


NETWORKS: dict[str, Plan] = {
    "latency": constant(Faults(latency_s=0.02, jitter_s=0.03)),
    "slices of one byte": constant(Faults(slice_bytes=1)),
    "a narrow line": constant(Faults(bytes_per_s=60_000)),
    "cuts": cut(End.CUT),
    "resets": cut(End.RST),
    "half-closed connections": cut(End.HALF),
    "one direction gone deaf": cut(End.DEAF, down=24_000),
    "black holes": cut(End.HOLE, down=24_000),
    "duplicated connections": cut(End.CUT, replay_s=0.03),
}
LASTING = {"latency", "slices of one byte", "a narrow line"}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(tmp_path_factory.mktemp("network") / "home") as server:
        yield server
        assert "Traceback" not in server.said, server.said[-4000:]


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [(1, 1), pytest.param(20, 2, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
    ids=["short", "long"],
)
@pytest.mark.parametrize("network", [*NETWORKS, "any of them"])
async def test_on_a_bad_network_everything_comes_once_and_in_order_and_people_beside_it_do_not_notice(
    server: Server, network: str, rounds: int, seed: int
) -> None:
    plan = NETWORKS.get(network, any_of_them)
    async with behind(server, CLEAN, seed) as proxy:
        mark = f"{seed}-{'-'.join(network.split())}"
        troubled = [
            Witness(f"far{i}-{mark}", proxy, kinds, window=1 if i % 2 else 8, seed=i, patience_s=PATIENCE_S)
            for i, kinds in enumerate(KINDS)
        ]
        listener = StreamWitness(f"radio-{mark}", proxy, patience_s=PATIENCE_S)
        clean = [Witness(f"near{i}-{mark}", server, [kind]) for i, kind in enumerate(("framed", "text"))]
        listener.testimony.began[LOBBY] = len(await told_log(server))  # a newcomer hears from here on
        people = [*troubled, *clean]
        async with living([*people, listener]), round_trips(server) as trips:
            before = proxy.connections
            proxy.faults = plan
            proxy.end_all(End.RST)
            for number in range(rounds):
                await conversation(people, 15, number)
            head = max(max(one.testimony.acked[LOBBY].values()) for one in people)
            for one in [*people, listener]:
                await one.until(lambda one=one: one.cursor == head, 30)  # type: ignore[misc]
        log = await told_log(server)
    assert check([one.testimony for one in [*people, listener]], {LOBBY: log}) == []
    assert sum(len(one.testimony.acked[LOBBY]) for one in people) == rounds * 15 * len(people)
    assert len(trips) > 10
    assert max(trips) < CLEAN_ROUND_TRIP_S
    assert proxy.connections >= before + len(troubled)
    if network in LASTING:
        assert sum(link.down for link in proxy.links[before:]) > 10_000
    else:
        assert proxy.met >= len(troubled)


async def conversation(people: list[Witness], count: int, number: int) -> None:
    """Everybody says so many things, until all were acknowledged."""
    for at in range(count):
        for one in people:
            one.say(f"{one.name} {number} {at} – ünïcödé 🙂")
    for one in people:
        await one.until(lambda one=one: one.settled, 30)  # type: ignore[misc]


@contextlib.asynccontextmanager
async def living(people: Sequence[Witness | StreamWitness]) -> AsyncIterator[None]:
    """They live while this lasts; whoever fails, fails the test."""
    tasks = [asyncio.create_task(one.live()) for one in people]
    try:
        for one in people:
            await asyncio.wait_for(one.ready.wait(), 10)
        yield
    finally:
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(end, asyncio.CancelledError):
                raise end if isinstance(end, BaseException) else AssertionError("somebody stopped living")


@contextlib.asynccontextmanager
async def round_trips(server: Server) -> AsyncIterator[list[float]]:
    """How long a ping takes on a clean line, again and again."""
    trips: list[float] = []

    async def ping(talker: FramedClient) -> None:
        while True:
            began = time.monotonic()
            await talker.ask("ping")
            trips.append(time.monotonic() - began)
            await asyncio.sleep(0.01)

    async with await FramedClient.open(server.tcp_port) as talker:
        await talker.hello("clock", threads=[])
        pinging = asyncio.create_task(ping(talker))
        try:
            yield trips
        finally:
            pinging.cancel()
            await asyncio.wait([pinging])
