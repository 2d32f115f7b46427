"""Answers whose assistant or engine is not there any more, and those that are stopped on their way into the queue."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from hubbub.buses.local import LocalBus
from hubbub.core import frames
from hubbub.core.nouns import Assistant, RunState, Task, Thread
from hubbub.hub import threads
from hubbub.stores.memory import MemoryStore
from tests.hub.crowd import open_hub, quiet
from tests.hub.test_assistants import ANN, SOON_S, answer, asked, opened, said, settled
from tests.hub.test_lost_runs import swept

ADA = Assistant(name="ada")
POET = Assistant(name="poet", in_turn=True)


async def test_an_answer_of_an_assistant_that_is_gone_fails_and_holds_nobody_up() -> None:
    async with opened(ADA, POET) as hub:
        await said(hub, "@ada hello")
        [left] = await hub.store.open_runs()
        store = hub.store
    async with opened(POET, store=store) as hub:
        await said(hub, "@poet hello")
        await swept(hub, 3)
        await settled(hub)

        assert (await answer(hub))[0].task.assistant == "poet"
        ended = await store.run(left.id)
    assert ended is not None
    assert (ended.state, ended.error) == (RunState.FAILED, "ada does not answer any more.")


async def test_one_made_on_another_node_is_got_to_know_before_its_answer_counts_as_left_over() -> None:
    async with opened(ADA) as here, opened(ADA, store=here.store) as other:
        await here.assistants.create(ANN, "sage", in_turn=True)
        await said(here, "@ada @sage hello")
        await swept(other, 1)

        assert "sage" in other.assistants.by_name
        assert await asked(here) == ["ada", "sage"]


async def test_one_that_is_deleted_elsewhere_while_its_answer_waits_for_its_turn_lets_the_next_go_on() -> None:
    async with opened(ADA, POET) as hub:
        await hub.assistants.create(ANN, "sage", in_turn=True)
        await said(hub, "@ada @sage @poet hello")
        await hub.store.assistants.delete("sage")
        await hub.assistants.learn()
        names = [(await answer(hub))[0].task.assistant for _ in range(2)]

        assert names == ["ada", "poet"]
        assert await asked(hub) == []


async def test_an_answer_whose_engine_is_not_set_up_fails_at_once_and_says_so() -> None:
    async with opened(replace(ADA, engine="script")) as hub:
        await said(hub, "@ada hello")
        [*_, last] = (await hub.store.read_after("garden", 0, 100, 1 << 20)).messages

        assert await asked(hub) == []
    assert (last.sender, last.metadata["state"]) == ("ada", "failed")
    assert last.metadata["error"] == "The engine 'script' is not set up here."


class GatedBus(LocalBus):
    """Takes its time to queue a task."""

    def __init__(self) -> None:
        super().__init__()
        self.putting = asyncio.Event()
        self.gate = asyncio.Event()

    async def put(self, task: Task) -> int:
        self.putting.set()
        await self.gate.wait()
        return await super().put(task)


async def test_an_answer_that_is_stopped_while_it_is_being_queued_is_not_written() -> None:
    bus, store = GatedBus(), MemoryStore()
    heard: list[frames.Frame] = []
    bus.listen(lambda event: heard.append(event.frame), lambda run: None)
    async with open_hub(store, bus) as hub:
        room = await hub.room("garden")
        beginning = asyncio.create_task(hub.runs.begin(room, "openai", "ann"))
        async with asyncio.timeout(SOON_S):
            await bus.putting.wait()
        [run] = await store.open_runs()
        await hub.runs.stop_all("openai")
        bus.gate.set()
        async with asyncio.timeout(SOON_S):
            await beginning
        await quiet()

        assert await bus.place(run.id) is None
        assert not [frame for frame in heard if isinstance(frame, frames.RunQueued)]
        assert not hub.runs._begun


async def test_of_a_thread_that_was_deleted_nothing_is_written_on() -> None:
    async with opened(ADA, POET) as hub:
        room = await hub.open_thread(Thread(id="yard"), ["ann", "ada", "poet"])
        for text in ("@ada one", "@ada two", "@poet three"):
            await said(hub, text, thread=room.id)
        async with asyncio.timeout(SOON_S):
            [lease] = await hub.bus.take("demo", 1, 0.0)
        waiting = [run.id for run in await hub.store.open_runs()][1:]
        await threads.delete(hub, ANN, room.id)
        await settled(hub)

        assert not hub.bus.wanted(lease)
        assert [await hub.bus.place(run) for run in waiting] == [None, None]
        assert sum(hub.runs.standing().values()) == 0
