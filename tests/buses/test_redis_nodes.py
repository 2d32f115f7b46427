"""Nodes that share a Redis: what one says the others hear, and only who holds the lease can write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from msgspec.structs import replace

from hubbub.buses import redis_leases
from hubbub.buses.redis import RedisBus
from hubbub.buses.redis_pipe import Command
from hubbub.core.frames import RunDelta, RunStarted, Typing
from hubbub.core.nouns import Prompt, RunState, Task, new_id
from hubbub.core.ports import Event, Lease, Progress
from support.redis import RedisServer, redis_server

Node = Callable[..., RedisBus]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


class Nodes:
    """Buses on one queue, with what each has heard."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = new_id()
        self._open: list[RedisBus] = []
        self.heard: dict[RedisBus, list[Event]] = {}
        self.over: dict[RedisBus, list[str]] = {}

    async def node(self, **more: float | bool) -> RedisBus:
        bus = RedisBus(self._url, self._name, **more)  # type: ignore[arg-type]
        self.heard[bus], self.over[bus] = [], []
        bus.listen(self.heard[bus].append, self.over[bus].append)
        await bus.open()
        self._open.append(bus)
        return bus

    async def close(self) -> None:
        for bus in self._open:
            await bus.close()

    def key(self, rest: str) -> str:
        return f"{{{self._name}}}:{rest}"


@pytest.fixture
async def nodes(server: RedisServer) -> AsyncIterator[Nodes]:
    nodes = Nodes(server.url)
    yield nodes
    await nodes.close()


def task(run: str = "r", attempt: int = 1, **more: str) -> Task:
    prompt = Prompt(run=run, assistant="a", turns=())
    return Task(**{"run": run, "thread": "t", "assistant": "a", "attempt": attempt, "prompt": prompt} | more)  # type: ignore[arg-type]


def piece(lease: Lease, offset: int, text: str) -> Event:
    it = lease.task
    frame = RunDelta(run=it.run, thread=it.thread, assistant=it.assistant, attempt=it.attempt, offset=offset, text=text)
    return Event(it.thread, frame)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - another node is waited for
            await asyncio.sleep(0.002)


async def taken(bus: RedisBus) -> Lease:
    async with asyncio.timeout(5):
        [lease] = await bus.take("demo", 1, 0.0)
    return lease


async def went_silent(bus: RedisBus) -> None:
    """As if its process were frozen: it says nothing more by itself."""
    for standing in bus._tasks:
        standing.cancel()
    await asyncio.wait(bus._tasks)


async def test_what_one_node_says_every_other_hears_once_and_itself_at_once(nodes: Nodes) -> None:
    one, other = await nodes.node(), await nodes.node()
    events = [Event("t", Typing(thread="t", user=f"u{n}")) for n in range(500)]

    for event in events:
        one.publish(event)
    at_once = list(nodes.heard[one])
    other.publish(Event("t", Typing(thread="t", user="last")))
    await until(lambda: len(nodes.heard[one]) > 500 and len(nodes.heard[other]) > 500)

    assert at_once == events
    assert nodes.heard[one] == [*events, nodes.heard[one][-1]]
    assert [event for event in nodes.heard[other] if event.frame.user != "last"] == events  # type: ignore[union-attr]


async def test_an_answer_is_known_everywhere_as_it_grows_and_ends(nodes: Nodes) -> None:
    api, other, worker = await nodes.node(), await nodes.node(), await nodes.node(hears=False)
    await api.put(task())
    lease = await taken(worker)
    it = lease.task
    worker.publish(Event("t", RunStarted(run="r", thread="t", assistant="a", attempt=1)))
    await until(lambda: api.so_far("r"))
    begun = api.so_far("r")
    for offset, text in ((0, "Grü"), (3, "ße"), (5, " 👋")):
        worker.publish(piece(lease, offset, text))
        await until(lambda offset=offset, text=text: len(api.so_far("r").text) == offset + len(text))
    await worker.done(lease, RunState.COMPLETED, model="m")
    await until(lambda: nodes.over[api] and nodes.over[other])

    whole = Progress(1, "Grüße 👋", RunState.COMPLETED, model="m")
    assert begun == Progress(1, "")
    assert it == task()
    assert api.so_far("r") == other.so_far("r") == whole
    assert nodes.over == {api: ["r"], other: ["r"], worker: ["r"]}
    assert [event.frame.offset for event in nodes.heard[other][1:]] == [0, 3, 5]  # type: ignore[union-attr]


async def test_many_pieces_go_out_together(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    api, worker = await nodes.node(), await nodes.node(hears=False)
    sent: list[str] = []
    push = worker._pipe.push
    monkeypatch.setattr(worker._pipe, "push", lambda command: (sent.append(command.script), push(command)))
    await api.put(task())
    lease = await taken(worker)
    for offset in range(5000):
        worker.publish(piece(lease, offset, "x"))
        if offset % 100 == 0:
            await asyncio.sleep(0)
    await worker.done(lease, RunState.COMPLETED)
    await until(lambda: nodes.over[api])

    assert api.so_far("r").text == "x" * 5000
    assert sent.count("EMIT") < 60


async def test_pieces_that_come_one_by_one_go_out_a_hundred_times_a_second_at_most(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, worker = await nodes.node(), await nodes.node(hears=False)
    sent: list[str] = []
    push = worker._pipe.push
    monkeypatch.setattr(worker._pipe, "push", lambda command: (sent.append(command.script), push(command)))
    await api.put(task())
    lease = await taken(worker)
    now = asyncio.get_running_loop().time
    began = now()
    for offset in range(300):
        worker.publish(piece(lease, offset, "x"))
        await asyncio.sleep(0.001)
    took_s = now() - began

    assert sent.count("EMIT") <= took_s / 0.01 + 2


async def test_a_long_answer_arrives_in_pieces_a_frame_can_hold(nodes: Nodes) -> None:
    api, worker = await nodes.node(), await nodes.node(hears=False)
    await api.put(task())
    lease = await taken(worker)
    text = "ü" * 100_000
    worker.publish(piece(lease, 0, text))
    await worker.done(lease, RunState.COMPLETED)
    await until(lambda: nodes.over[api])

    lengths = [len(event.frame.text) for event in nodes.heard[api] if isinstance(event.frame, RunDelta)]
    assert api.so_far("r").text == text
    assert sum(lengths) == len(text)
    assert max(lengths) <= redis_leases.PIECE_TEXT


async def test_who_comes_late_is_told_what_was_written_before(nodes: Nodes) -> None:
    worker = await nodes.node(hears=False)
    api = await nodes.node()
    await api.put(task())
    lease = await taken(worker)
    worker.publish(piece(lease, 0, "It ra"))
    await until(lambda: api.so_far("r"))
    late = await nodes.node(compare_s=60.0)
    worker.publish(piece(lease, 5, "ined"))
    await until(lambda: late.so_far("r") and late.so_far("r").text == "It rained")

    assert [(e.frame.offset, e.frame.text) for e in nodes.heard[late]] in (  # type: ignore[union-attr]
        [(0, "It rained")],
        [(0, "It ra"), (5, "ined")],
    )


async def test_a_worker_is_told_when_its_answer_is_cancelled_or_forgotten_elsewhere(nodes: Nodes) -> None:
    api, other, worker = await nodes.node(), await nodes.node(), await nodes.node(hears=False)
    for run in ("a", "b"):
        await api.put(task(run))
    a, b = await taken(worker), await taken(worker)
    worker.publish(piece(a, 0, "so far"))
    await until(lambda: other.so_far("a"))
    api.cancel("a")
    api.forget("b")
    await until(lambda: not worker.wanted(a) and not worker.wanted(b))
    await worker.done(a, RunState.COMPLETED)
    await until(lambda: other.so_far("a").state.ended)

    assert other.so_far("a") == Progress(1, "so far", RunState.CANCELLED)
    assert worker.so_far("b") is None
    assert nodes.over[api] == []


async def test_whoever_fell_silent_has_lost_its_answer_and_can_change_nothing(nodes: Nodes) -> None:
    api = await nodes.node(compare_s=0.02)
    silent, other = await nodes.node(lease_s=0.5, hears=False), await nodes.node(hears=False)
    await api.put(task())
    old = await taken(silent)
    silent.publish(piece(old, 0, "It ra"))
    await until(lambda: api.so_far("r") and api.so_far("r").text)
    await went_silent(silent)
    await until(lambda: nodes.over[api])
    lost = api.so_far("r")
    await api.put(task(attempt=2))
    new = await taken(other)
    await silent.open()  # it comes back
    silent.publish(piece(old, 5, "ined cats"))
    await silent.done(old, RunState.COMPLETED)
    other.publish(piece(new, 0, "It snowed"))
    await other.done(new, RunState.COMPLETED)
    await until(lambda: len(nodes.over[api]) == 2)

    assert lost == Progress(1, "It ra", lost=True)
    assert new.fence > old.fence
    assert not silent.wanted(old)
    assert api.so_far("r") == Progress(2, "It snowed", RunState.COMPLETED)


async def test_a_lost_answer_is_noticed_by_whoever_takes_next(nodes: Nodes) -> None:
    api = await nodes.node(compare_s=60.0)
    silent, other = await nodes.node(lease_s=0.5, hears=False), await nodes.node(hears=False)
    await api.put(task())
    await taken(silent)
    await went_silent(silent)
    taking = asyncio.create_task(taken(other))
    await until(lambda: nodes.over[api])
    await api.put(task(attempt=2))
    lease = await taking

    assert lease.task.attempt == 2


async def test_nobody_loses_what_is_renewed_though_nothing_is_written(nodes: Nodes) -> None:
    api, worker = await nodes.node(compare_s=0.02), await nodes.node(lease_s=0.6, hears=False)
    for run in "abcd":
        await api.put(task(run))
    async with asyncio.timeout(5):
        leases = await worker.take("demo", 4, 0.0)
    await asyncio.sleep(0.9)

    assert len(leases) == 4
    assert all(worker.wanted(lease) for lease in leases)
    assert nodes.over[api] == []


async def test_the_fence_grows_even_when_redis_forgot_everything(nodes: Nodes, server: RedisServer) -> None:
    bus = await nodes.node()
    await bus.put(task("a"))
    before = await taken(bus)
    async with server.client() as client:
        await client.flushall()
    await bus.put(task("b"))
    after = await taken(bus)

    assert after.fence > before.fence


async def test_a_worker_that_stops_hands_back_what_it_took(nodes: Nodes) -> None:
    api, stops, other = await nodes.node(), await nodes.node(hears=False), await nodes.node(hears=False)
    for run in ("shown", "empty"):
        await api.put(task(run))
    shown, _ = await taken(stops), await taken(stops)
    stops.publish(piece(shown, 0, "It"))
    await until(lambda: api.so_far("shown") and api.so_far("shown").text)
    await stops.close()
    again = await taken(other)
    await until(lambda: nodes.over[api])

    assert (again.task.run, again.task.attempt) == ("empty", 1)
    assert api.so_far("shown") == Progress(1, "It", lost=True)


async def test_whoever_gives_up_taking_at_any_moment_takes_nothing_along(nodes: Nodes) -> None:
    api, hasty, patient = await nodes.node(), await nodes.node(hears=False), await nodes.node(hears=False)
    chance, runs = Random(1), {f"r{n}" for n in range(40)}
    for run in sorted(runs):
        await api.put(task(run))
        taking = asyncio.create_task(hasty.take("demo", 4, 0.0))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        if taking.done():
            for lease in taking.result():
                await hasty.done(lease, RunState.COMPLETED)
                runs.remove(lease.task.run)
        taking.cancel()
        await asyncio.wait([taking])
    found: set[str] = set()
    async with asyncio.timeout(5):
        while len(found) < len(runs):
            found |= {lease.task.run for lease in await patient.take("demo", 4, 0.0)}

    assert found == runs
    assert all(api.so_far(run) is None or not api.so_far(run).lost for run in runs)


async def test_the_same_taking_sent_twice_takes_once(nodes: Nodes) -> None:
    """Its answer may be lost, and nobody knows whether it was done."""
    bus = await nodes.node()
    for run in "abc":
        await bus.put(task(run))
    args = ("token", "demo", 2, 0, 10_000, "node", 60_000)
    first = await bus._pipe.call("TAKE", *args)
    second = await bus._pipe.call("TAKE", *args)
    rest = await taken(bus)

    assert [run for run, *_ in first[1]] == [run for run, *_ in second[1]] == [b"a", b"b"]
    assert [fence for _, _, fence, _ in first[1]] == [fence for _, _, fence, _ in second[1]]
    assert rest.task.run == "c"


async def test_the_same_piece_and_the_same_end_sent_twice_count_once(nodes: Nodes) -> None:
    api, worker = await nodes.node(), await nodes.node(hears=False)
    await api.put(task())
    lease = await taken(worker)
    emit = ("r", worker._node, str(lease.fence), 0, "word", b"", 60_000)
    done = ("r", worker._node, str(lease.fence), 4, "", b"", "completed", b"{}", 60_000)
    said = [await worker._pipe.call("EMIT", *emit) for _ in range(2)]
    ends = [await worker._pipe.call("DONE", *done) for _ in range(2)]

    assert said == [[b"ok", 4], [b"at", 4]]
    assert ends == [[b"ok", 1], [b"ok", 0]]


async def test_many_nodes_and_many_questions_each_written_once(nodes: Nodes) -> None:
    apis = [await nodes.node() for _ in range(2)]
    workers = [await nodes.node(hears=False) for _ in range(3)]
    written: list[str] = []

    async def work(bus: RedisBus) -> None:
        while True:
            for lease in await bus.take("demo", 4, 0.005):
                written.append(lease.task.run)
                for n in range(5):
                    bus.publish(piece(lease, n, str(n)))
                    await asyncio.sleep(0)
                await bus.done(lease, RunState.COMPLETED)

    working = [asyncio.create_task(work(bus)) for bus in workers]
    runs = [f"r{n}" for n in range(120)]
    for n, run in enumerate(runs):
        await apis[n % 2].put(replace(task(run), member=f"m{n % 7}"))
    await until(lambda: all(set(nodes.over[api]) == set(runs) for api in apis))
    for one in working:
        one.cancel()
    await asyncio.wait(working)

    assert sorted(written) == sorted(runs)
    assert {api.so_far(run).text for api in apis for run in runs} == {"01234"}


async def test_a_node_can_be_closed_at_any_moment(nodes: Nodes) -> None:
    for moment in range(80):
        bus = await nodes.node()
        for _ in range(moment):
            bus.publish(Event("t", Typing(thread="t", user="u")))
            await asyncio.sleep(0)
        bus._pipe.push(Command("READ", lambda: ("r",)))
        async with asyncio.timeout(5):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bus._pipe, "said", nothing)
                await bus.close()


async def nothing(_: float) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
