"""Answers whose writer fell silent: another attempt each, three at most, and one message whatever happens."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from msgspec.structs import replace

from hubbub.buses.local import LocalBus
from hubbub.core.errors import Unavailable
from hubbub.core.frames import RunCompleted, RunFrame, RunQueued, RunReset
from hubbub.core.nouns import Run, RunState, Task
from hubbub.core.ports import Event, Lease, Resumed
from hubbub.hub.access import Caller
from hubbub.hub.following import follow
from hubbub.hub.hub import Hub
from hubbub.stores.memory import MemoryStore
from tests.hub.crowd import PausingStore, Pen, open_hub, quiet, say


class SilentBus(LocalBus):
    """Its workers fall silent when the test says so, and it may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.elsewhere: dict[str, int] = {}  # run -> attempt somebody else writes

    def lose(self, run: str, times: int = 1, *, forgotten: bool = False) -> None:
        self._answers[run].lost = True
        self._answers[run].forgotten = forgotten
        self._leased.pop(run, None)
        for _ in range(times):
            for ended in self._enders:
                ended(run)

    async def put(self, task: Task) -> int:
        if self.away:
            raise Unavailable("The queue is away.")
        return await super().put(task)

    async def place(self, run: str) -> int | None:
        if self.away:
            raise Unavailable("The queue is away.")
        return await super().place(run)

    async def resume(self, run: str, attempt: int) -> Resumed:
        if self.away:
            raise Unavailable("The queue is away.")
        return Resumed.GOES_ON if self.elsewhere.get(run) == attempt else await super().resume(run, attempt)


async def taken(bus: LocalBus) -> Lease:
    async with asyncio.timeout(5):
        [lease] = await bus.take("demo", 1, 0.0)
    return lease


async def asked(hub: Hub) -> None:
    """Somebody asks openai."""
    room = await hub.room("garden")
    message = await say(hub, "What is the weather like?", thread="garden")
    await hub.runs.begin(room, "openai", message.seq)


async def swept(hub: Hub, times: int = 2) -> None:
    """What a few seconds bring about."""
    for _ in range(times):
        hub.runs._compared_at = 0.0
        await hub.runs.sweep()
        await quiet()


async def test_what_a_silent_worker_wrote_is_written_again_from_the_beginning() -> None:
    bus, store = SilentBus(), MemoryStore()
    heard: list[Event] = []
    bus.listen(heard.append, lambda run: None)
    async with open_hub(store, bus) as hub:
        await asked(hub)
        first = await taken(bus)
        Pen(hub, first).write("It ra")
        bus.lose(first.task.run, times=3)
        second = await taken(bus)
        Pen(hub, second).write("It rained.")
        await bus.done(second, RunState.COMPLETED)
        await quiet()
        answers = [message.text for message in (await store.read_after("garden", 0, 100, 1 << 20)).messages]

    resets = [event.frame.attempt for event in heard if isinstance(event.frame, RunReset)]
    queued = [event.frame.attempt for event in heard if isinstance(event.frame, RunQueued)]
    assert (first.task.attempt, second.task.attempt) == (1, 2)
    assert first.task.prompt == second.task.prompt
    assert (resets, queued) == ([2], [1, 2])
    assert answers == ["What is the weather like?", "It rained."]


async def test_the_third_time_it_fails_with_what_was_shown_last() -> None:
    bus, store = SilentBus(), PausingStore(Random(1))
    async with open_hub(store, bus) as hub:
        await asked(hub)
        attempts = []
        for text in ("one", "two", "three"):
            lease = await taken(bus)
            attempts.append(lease.task.attempt)
            Pen(hub, lease).write(text)
            bus.lose(lease.task.run, times=2)
        await quiet()
        *_, last = (await store.read_after("garden", 0, 100, 1 << 20)).messages
        run = await store.run(lease.task.run)

    assert attempts == [1, 2, 3]
    assert (last.text, last.metadata["error"]) == ("three", "The answer was interrupted 3 times.")
    assert run is not None
    assert run.state is RunState.FAILED


async def test_what_the_queue_itself_forgets_is_begun_again_as_often_as_it_takes() -> None:
    bus, store = SilentBus(), MemoryStore()
    async with open_hub(store, bus) as hub:
        await asked(hub)
        attempts = []
        for forgotten in (True, True, False, True, True, False, True, False):
            lease = await taken(bus)
            attempts.append(lease.task.attempt)
            bus.lose(lease.task.run, times=2, forgotten=forgotten)
        await quiet()
        *_, last = (await store.read_after("garden", 0, 100, 1 << 20)).messages

    assert attempts == [1, 2, 3, 4, 5, 6, 7, 8]
    assert last.metadata["error"] == "The answer was interrupted 3 times."


async def test_a_lost_answer_nobody_was_told_of_is_found_by_the_sweep() -> None:
    bus = SilentBus()
    async with open_hub(MemoryStore(), bus) as hub:
        await asked(hub)
        first = await taken(bus)
        bus.lose(first.task.run, times=0)
        await swept(hub, 1)
        second = await taken(bus)

    assert second.task.attempt == 2


async def test_while_the_queue_is_away_no_attempt_is_used_up() -> None:
    bus = SilentBus()
    async with open_hub(MemoryStore(), bus) as hub:
        bus.away = True
        with pytest.raises(Unavailable):
            await asked(hub)
        await swept(hub, 8)
        bus.away = False
        await swept(hub)
        lease = await taken(bus)

    assert lease.task.attempt <= 2


async def test_after_a_restart_what_somebody_else_still_writes_goes_on() -> None:
    store = MemoryStore()
    async with open_hub(store, SilentBus()) as hub:
        await asked(hub)
        await quiet()
        [run] = await store.open_runs()
    bus = SilentBus()
    bus.elsewhere[run.id] = 1
    hub = Hub(store, bus, hub.gate.auth, assistants=list(hub.assistants.by_name.values()))
    await hub.start()
    try:
        attempt = (await store.run(run.id)).attempt
        task = Task(run=run.id, thread="garden", assistant="openai", attempt=1, prompt=None)
        Pen(hub, Lease(task, 1)).write("It rained.")
        bus._answers[run.id].end(RunState.COMPLETED, None)
        await swept(hub, 1)
        *_, last = (await store.read_after("garden", 0, 100, 1 << 20)).messages
    finally:
        await hub.stop()

    assert attempt == 1
    assert (last.text, last.run) == ("It rained.", run.id)


async def test_those_who_wait_for_their_turn_go_on_when_the_one_before_was_lost() -> None:
    bus, store = SilentBus(), MemoryStore()
    async with open_hub(store, bus) as hub:
        hub.assistants.by_name["openai"] = replace(hub.assistants.by_name["openai"], in_turn=True)
        for _ in range(2):
            await asked(hub)
        first = await taken(bus)
        bus.lose(first.task.run)
        again = await taken(bus)
        await bus.done(again, RunState.COMPLETED)
        following = await taken(bus)

    assert (again.task.run, again.task.attempt) == (first.task.run, 2)
    assert following.task.run != first.task.run


async def test_whoever_waits_for_an_answer_goes_on_waiting_while_the_queue_is_away() -> None:
    bus = SilentBus()
    async with open_hub(MemoryStore(), bus) as hub:
        room = await hub.room("garden")
        run, _ = await hub.runs.begin(room, "openai", "alice") or (None, 0)
        assert run is not None
        bus.away = True
        told: list[RunFrame] = []

        async def follower() -> None:
            async for frame in follow(hub, Caller("openai"), run.id):
                told.append(frame)

        following = asyncio.create_task(follower())
        await quiet()
        bus.away = False
        lease = await taken(bus)
        Pen(hub, lease).write("It rained.")
        await bus.done(lease, RunState.COMPLETED)
        async with asyncio.timeout(5):
            await following

    assert isinstance(told[-1], RunCompleted)


class SlowStore(MemoryStore):
    """Says late that a run has moved."""

    def __init__(self) -> None:
        super().__init__()
        self.moved, self.told = asyncio.Event(), asyncio.Event()

    async def set_run(self, id: str, state: RunState, attempt: int) -> Run | None:
        run = await super().set_run(id, state, attempt)
        self.moved.set()
        await self.told.wait()
        return run


async def test_an_answer_that_is_stopped_while_it_begins_its_next_attempt_is_stopped() -> None:
    bus, store = SilentBus(), SlowStore()
    async with open_hub(store, bus) as hub:
        await asked(hub)
        first = await taken(bus)
        bus.lose(first.task.run)
        async with asyncio.timeout(5):
            await store.moved.wait()
        await hub.runs.stop_all("openai")
        store.told.set()
        await quiet()
        run = await store.run(first.task.run)

        assert run is not None
        assert run.state is RunState.CANCELLED
