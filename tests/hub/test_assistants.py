"""When assistants answer, and as whom: personalities, so many messages, so many seconds, together or in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubbub.buses.local import LocalBus
from hubbub.core import frames
from hubbub.core.errors import BadRequest, NameTaken, NotFound, RateLimited, Unavailable
from hubbub.core.nouns import Assistant, Draft, Kind, Member, Membership, Message, Role, RunState, Thread
from hubbub.core.ports import Lease, Store
from hubbub.hub import threads
from hubbub.hub.access import Caller
from hubbub.hub.auth import Auth
from hubbub.hub.hub import Hub
from hubbub.hub.limits import Limits
from hubbub.stores.memory import MemoryStore
from tests.hub.crowd import say

ANN = Caller("ann")
MOODY = Assistant(name="openai", instructions="Be kind.", personalities={"happy": "Smile.", "angry": "Shout."})
SOON_S = 5.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(*assistants: Assistant, store: Store | None = None, **more: Any) -> AsyncIterator[Hub]:
    """A hub with these assistants, all of them in the thread `garden` with ann and bob."""
    fresh = store is None
    hub = Hub(store or MemoryStore(), LocalBus(), Auth(bytes(range(32)), guests=True), assistants=assistants, **more)
    await hub.start()
    if fresh:
        for name in ("ann", "bob"):
            await hub.arrive(name)
        names = ["ann", "bob", *(assistant.name for assistant in assistants)]
        thread = Thread(id="garden", title="garden")
        await hub.store.create_thread(thread, [Membership(thread="garden", member=name) for name in names])
    await hub.room("garden")
    try:
        yield hub
    finally:
        await hub.stop()


async def settled(hub: Hub) -> None:
    """Everything that was begun is done."""
    async with asyncio.timeout(SOON_S):
        while brief := hub._tasks - hub._standing:
            await asyncio.wait(brief)


async def said(hub: Hub, text: str, sender: str = "ann", thread: str = "garden") -> Message:
    message = await say(hub, text, sender, thread)
    await settled(hub)
    return message


async def asked(hub: Hub) -> list[str]:
    """Whose answers are open, in the order they were asked for."""
    return [run.assistant for run in await hub.store.open_runs()]


async def answer(hub: Hub, text: str = "well", count: int = 1) -> list[Lease]:
    """Write the next answers that wait."""
    async with asyncio.timeout(SOON_S):
        leases = await hub.bus.take("demo", count, 0.0)
    for lease in leases:
        task = lease.task
        common = {"run": task.run, "thread": task.thread, "assistant": task.assistant, "attempt": task.attempt}
        hub.publish(task.thread, frames.RunDelta(**common, offset=0, text=text))  # type: ignore[arg-type]
        await hub.bus.done(lease, RunState.COMPLETED, model="m")
    await settled(hub)
    return leases


async def log(hub: Hub, thread: str = "garden") -> list[tuple[str, str]]:
    page = await hub.store.read_after(thread, 0, 200, 1 << 20)
    return [(message.sender, message.text) for message in page.messages]


async def shown(hub: Hub) -> list[tuple[str, str]]:
    """What the next answer's model is shown."""
    [lease] = await answer(hub)
    return [(turn.role, turn.text) for turn in lease.task.prompt.turns]


# Personalities


async def test_a_personality_is_chosen_at_once_and_shown_to_the_model_from_then_on() -> None:
    async with opened(MOODY) as hub:
        await said(hub, "@openai personality angry")
        assert (await log(hub))[-1] == ("openai", "I am angry now.")
        await said(hub, "@openai how are you?")

        assert await shown(hub) == [
            ("system", "Be kind."),
            ("system", "Shout."),
            ("user", "@openai how are you?"),
        ]


async def test_what_an_assistant_says_about_itself_takes_no_model_and_is_a_command() -> None:
    async with opened(MOODY) as hub:
        question = await said(hub, "@openai help")
        reply = await hub.store.message("garden", question.seq + 1)

        assert reply is not None
        assert reply.type == "command"
        assert reply.metadata == {"state": "completed"}
        assert reply.run is not None
        assert (await hub.store.run(reply.run)).state is RunState.COMPLETED  # type: ignore[union-attr]
        assert await asked(hub) == []


async def test_a_personality_holds_for_its_thread_alone_and_over_a_restart() -> None:
    async with opened(MOODY) as hub:
        other = await hub.open_thread(Thread(id="yard"), ["ann", "openai"])
        await said(hub, "@openai rotate")
        await said(hub, "@openai hello", thread=other.id)
        assert (await shown(hub))[1] == ("system", "Smile.")
        store = hub.store
    async with opened(MOODY, store=store) as hub:
        await said(hub, "@openai hello")
        assert (await shown(hub))[1] == ("system", "Shout.")


class FailingStore(MemoryStore):
    """Does not end runs while `away`."""

    away = True

    async def end_run(self, *what: Any) -> Message | None:
        if self.away:
            raise Unavailable("The disk is away.")
        return await super().end_run(*what)


async def garden() -> FailingStore:
    """What `opened` would have made."""
    store = FailingStore()
    for name in ("ann", "openai"):
        await store.add_member(Member(name=name))
    await store.create_thread(Thread(id="garden"), [Membership(thread="garden", member=n) for n in ("ann", "openai")])
    return store


async def test_a_crash_while_it_changes_its_manner_changes_it_once() -> None:
    store = await garden()
    async with opened(MOODY, store=store) as hub:
        await said(hub, "@openai rotate")
        assert len(await log(hub)) == 1
    store.away = False
    async with opened(MOODY, store=store) as hub:
        await settled(hub)

        assert (await log(hub))[1:] == [("openai", "I am angry now.")]
        assert await store.assistants.personality("garden", "openai") == "angry"


async def test_what_it_says_about_itself_is_a_command_also_when_it_is_stored_later() -> None:
    store = await garden()
    async with opened(MOODY, store=store) as hub:
        await said(hub, "@openai rotate")
        store.away = False
        hub.runs._compared_at = 0.0
        await hub.runs.sweep()
        await settled(hub)
        reply = await store.message("garden", 2)

        assert reply is not None
        assert (reply.text, reply.type) == ("I am angry now.", "command")
        assert await store.assistants.personality("garden", "openai") == "angry"


async def test_the_first_personality_is_in_force_from_the_beginning() -> None:
    async with opened(MOODY) as hub:
        await said(hub, "@openai hello")
        assert (await shown(hub))[1] == ("system", "Smile.")


# What a model is shown


async def test_a_model_is_shown_the_newest_turns_that_fit() -> None:
    limits = Limits(history_turns=5, history_tokens=10)
    async with opened(MOODY, limits=limits) as hub:
        for text in ("a" * 30, "b" * 20, "c" * 12):
            await said(hub, text)
        await said(hub, "@openai 1234567")

        turns = [text for role, text in await shown(hub) if role == "user"]

    assert turns == ["c" * 12, "@openai 1234567"]


async def test_a_question_that_is_longer_than_all_that_fits_is_shown_whole() -> None:
    async with opened(MOODY, limits=Limits(history_tokens=10)) as hub:
        await said(hub, "@openai " + "x" * 500)
        assert [text for role, text in await shown(hub) if role == "user"] == ["@openai " + "x" * 500]


async def test_an_assistant_of_another_model_and_engine_has_its_task_there() -> None:
    poet = Assistant(name="poet", engine="script", model="rhyme-1")
    async with opened(MOODY, poet, engines=frozenset({"demo", "script"})) as hub:
        await said(hub, "@poet hello", sender="bob")
        async with asyncio.timeout(SOON_S):
            [lease] = await hub.bus.take("script", 4, 0.0)

    assert (lease.task.prompt.model, lease.task.member) == ("rhyme-1", "bob")


# So many messages


async def test_one_that_may_only_read_in_a_thread_does_not_write_there() -> None:
    clock = Clock()
    async with opened(Assistant(name="poet", every=1, every_s=10), clock=clock) as hub:
        room = await hub.room("garden")
        await hub.store.set_role("garden", "ann", Role.OWNER, None)
        await hub.recheck(room)
        await threads.set_role(hub, ANN, frames.ThreadRole(thread="garden", member="poet", role=Role.READER))
        room.behind.add(Listener())  # type: ignore[arg-type]
        await hub.asking.sweep()
        clock.now += 10
        await said(hub, "@poet hello", sender="bob")
        await hub.asking.sweep()
        with pytest.raises(NotFound, match="That takes a member"):
            await hub.runs.start_by(ANN, frames.RunStart(thread="garden", assistant="poet"))
        room.behind.clear()

        assert await asked(hub) == []
        await threads.set_role(hub, ANN, frames.ThreadRole(thread="garden", member="poet", role=Role.MEMBER))
        await said(hub, "@poet hello", sender="bob")
        assert await asked(hub) == ["poet"]


async def test_it_answers_after_so_many_messages_of_others() -> None:
    async with opened(Assistant(name="poet", every=3)) as hub:
        for n in range(1, 3):
            await said(hub, f"line {n}", sender="ann" if n % 2 else "bob")
        assert await asked(hub) == []
        await said(hub, "line 3")
        assert await asked(hub) == ["poet"]
        await answer(hub)
        for n in range(4, 6):
            await said(hub, f"line {n}")
        assert await asked(hub) == []
        await said(hub, "line 6")
        assert await asked(hub) == ["poet"]


async def test_being_addressed_begins_the_count_anew() -> None:
    async with opened(Assistant(name="poet", every=2)) as hub:
        await said(hub, "line 1")
        await said(hub, "@poet hello")
        await answer(hub)
        await said(hub, "line 1 again")
        assert await asked(hub) == []
        await said(hub, "line 2")
        assert await asked(hub) == ["poet"]


async def test_what_was_counted_is_known_after_a_crash() -> None:
    poet = Assistant(name="poet", every=3)
    async with opened(poet) as hub:
        for text in ("one", "two", "three", "four"):  # the third is answered
            await said(hub, text)
        await answer(hub)
        store = hub.store
        hub.asking._considered.clear()  # it had no time to remember what was considered
    async with opened(poet, store=store) as hub:
        await settled(hub)
        assert await asked(hub) == []
        await said(hub, "five")
        assert await asked(hub) == []
        await said(hub, "six")
        assert await asked(hub) == ["poet"]


class TogetherStore(MemoryStore):
    """Moves marks when so many are to be moved at once."""

    barrier: asyncio.Barrier | None = None

    async def see(self, thread: str, member: str, seq: int) -> int:
        if self.barrier is not None:
            await self.barrier.wait()
        return await super().see(thread, member, seq)


async def test_how_far_many_assistants_have_read_is_kept_in_one_commit() -> None:
    store = TogetherStore()
    await store.create_thread(Thread(id="garden"), [])
    async with opened(*[Assistant(name=f"a{n}") for n in range(150)], store=store) as hub:
        await hub.arrive("ann")
        await hub.room("lobby")
        message = await said(hub, "hello", thread="lobby")
        store.barrier = asyncio.Barrier(150)
        async with asyncio.timeout(SOON_S):
            await hub.asking._move_marks()
        store.barrier = None
        marks = [one.seen for one in await store.memberships("lobby") if one.member != "ann"]

    assert marks == [message.seq] * 150


class SilentStore(MemoryStore):
    """Counts who would move a mark, and moves none while it is away."""

    away = False
    asked = 0

    async def see(self, thread: str, member: str, seq: int) -> int:
        self.asked += 1
        if self.away:
            raise Unavailable("The database does not answer.")
        return await super().see(thread, member, seq)


async def test_a_store_that_is_away_is_not_asked_for_every_mark_and_none_is_forgotten() -> None:
    store = SilentStore()
    await store.create_thread(Thread(id="garden"), [])
    async with opened(*[Assistant(name=f"a{n}") for n in range(150)], store=store) as hub:
        await hub.arrive("ann")
        await hub.room("lobby")
        for id in ("yard", "shed", "pond"):
            await hub.open_thread(Thread(id=id), ["ann", *(f"a{n}" for n in range(150))])
            await said(hub, "hello", thread=id)
        store.away, store.asked = True, 0
        await hub.asking._move_marks()
        assert store.asked <= 200
        store.away = False
        await hub.asking._move_marks()
        marks = [one.seen for id in ("yard", "shed", "pond") for one in await store.memberships(id)]

    assert marks == [1] * 453


async def test_it_is_not_asked_again_while_it_is_writing() -> None:
    async with opened(Assistant(name="poet", every=1)) as hub:
        for n in range(5):
            await said(hub, f"line {n}")
        assert await asked(hub) == ["poet"]
        await answer(hub)
        await said(hub, "one more")
        assert await asked(hub) == ["poet"]


async def test_what_it_says_by_itself_takes_the_turn_of_its_owner_and_what_it_is_asked_that_of_who_began() -> None:
    async with opened(Assistant(name="ada"), Assistant(name="poet")) as hub:
        room = await hub.room("garden")
        await hub.assistants.create(ANN, "sage", every=1)
        await hub.runs.let_in(room, "ann", "sage")
        await said(hub, "hello", sender="bob")
        [by_itself] = await answer(hub, "And I say hello.")
        await hub.assistants.delete(ANN, "sage")
        await said(hub, "@ada hello", sender="bob")
        [asked] = await answer(hub, "@poet says so, too.")
        [asked_on] = await answer(hub, "Yes.")

    members = [(lease.task.assistant, lease.task.member) for lease in (by_itself, asked, asked_on)]
    assert members == [("sage", "ann"), ("ada", "bob"), ("poet", "bob")]


async def test_two_that_answer_every_message_stop_at_a_depth_of_three() -> None:
    async with opened(Assistant(name="ada", every=1), Assistant(name="poet", every=1)) as hub:
        await said(hub, "begin")
        answers = 0
        while await asked(hub):
            await answer(hub)
            answers += 1
            assert answers < 20

    assert answers == 4  # each to ann, and then one to the other, twice


@pytest.mark.parametrize("type", ["notification", "subscription", "command"])
async def test_readings_notices_and_commands_are_not_counted(type: str) -> None:
    async with opened(Assistant(name="poet", every=1)) as hub:
        reading = Draft(thread="garden", sender="bob", text="23 °C", timestamp="", destination="garden", type=type)
        hub.posted(await hub.store.append(reading))
        await settled(hub)
        assert await asked(hub) == []


# So many seconds


class Listener:
    """Somebody who hears a room."""


async def test_it_speaks_up_every_so_many_seconds_while_somebody_listens() -> None:
    clock = Clock()
    async with opened(Assistant(name="poet", every_s=10), clock=clock) as hub:
        room = await hub.room("garden")

        async def later(seconds: float) -> list[str]:
            clock.now += seconds
            await hub.asking.sweep()
            await settled(hub)
            return await asked(hub)

        assert await later(0) == await later(10) == []  # nobody listens
        room.behind.add(Listener())  # type: ignore[arg-type]
        assert await later(0) == []
        assert await later(10) == ["poet"]
        assert await later(10) == ["poet"]  # it is still writing
        await answer(hub)
        assert await later(10) == ["poet"]
        await answer(hub)
        assert await later(10) == ["poet"]
        await answer(hub)
        assert await later(100) == []  # three times in a row, and nobody said anything
        await said(hub, "still there?")
        assert await later(10) == ["poet"]
        room.behind.clear()


async def test_two_that_speak_up_do_not_keep_each_other_talking() -> None:
    clock = Clock()
    async with opened(Assistant(name="ada", every_s=10), Assistant(name="poet", every_s=10), clock=clock) as hub:
        room = await hub.room("garden")
        room.behind.add(Listener())  # type: ignore[arg-type]

        async def later() -> int:
            clock.now += 10
            await hub.asking.sweep()
            await settled(hub)
            spoken = len(await asked(hub))
            for _ in range(spoken):
                await answer(hub)
            return spoken

        await hub.asking.sweep()
        assert [await later() for _ in range(5)] == [2, 2, 2, 0, 0]
        await said(hub, "go on")
        assert await later() == 2
        room.behind.clear()


async def test_a_full_queue_keeps_nobody_from_what_else_is_done_now_and_then() -> None:
    clock, bus = Clock(), LocalBus(max_queue=0)
    async with opened(Assistant(name="poet", every_s=10), clock=clock) as hub:
        hub.bus = bus
        (await hub.room("garden")).behind.add(Listener())  # type: ignore[arg-type]
        await hub.asking.sweep()
        clock.now += 10
        await hub.asking.sweep()
        await settled(hub)

        assert (await log(hub))[-1][0] == "poet"  # says that it could not
        (await hub.room("garden")).behind.clear()


async def test_two_nodes_begin_one_answer_in_the_same_stretch_of_time() -> None:
    clock, poet = Clock(), Assistant(name="poet", every_s=10)
    async with opened(poet, clock=clock) as one, opened(poet, store=one.store, clock=clock) as other:
        for hub in (one, other):
            (await hub.room("garden")).behind.add(Listener())  # type: ignore[arg-type]
            await hub.asking.sweep()
        clock.now += 10
        for hub in (one, other):
            await hub.asking.sweep()
            await settled(hub)

        assert await asked(one) == ["poet"]
        for hub in (one, other):
            (await hub.room("garden")).behind.clear()


# Together, or in turn


async def test_several_that_are_asked_at_once_answer_together() -> None:
    async with opened(Assistant(name="ada"), Assistant(name="poet")) as hub:
        await said(hub, "@ada @poet hello")
        leases = await hub.bus.take("demo", 4, 0.0)

    assert {lease.task.assistant for lease in leases} == {"ada", "poet"}


async def test_one_message_asks_no_more_than_twenty() -> None:
    many = [Assistant(name=f"a{n}") for n in range(30)]
    async with opened(*many) as hub:
        await said(hub, " ".join(f"@{assistant.name}" for assistant in many))

        assert await asked(hub) == [f"a{n}" for n in range(20)]
        assert len(await log(hub)) == 1


async def test_whom_a_message_mentions_comes_before_those_that_answer_every_message() -> None:
    many = [Assistant(name=f"a{n}", every=1) for n in range(20)]
    async with opened(*many, Assistant(name="poet")) as hub:
        await said(hub, "@poet hello")

        assert (await asked(hub))[0] == "poet"


async def test_in_turn_each_is_shown_what_the_one_before_said() -> None:
    turns = [Assistant(name=name, in_turn=True) for name in ("ada", "poet", "sage")]
    async with opened(*turns) as hub:
        await said(hub, "@ada @poet @sage hello")
        assert await hub.bus.place((await hub.store.open_runs())[1].id) is None
        [first] = await answer(hub, "I am Ada.", 4)
        [second] = await answer(hub, "I am a poet.", 4)
        [third] = await answer(hub, "I am wise.", 4)

    assert [lease.task.assistant for lease in (first, second, third)] == ["ada", "poet", "sage"]
    assert [turn.text for turn in third.task.prompt.turns] == ["@ada @poet @sage hello", "I am Ada.", "I am a poet."]


async def test_one_that_is_stopped_while_it_waits_for_its_turn_lets_the_next_go_on() -> None:
    turns = [Assistant(name=name, in_turn=True) for name in ("ada", "poet", "sage")]
    async with opened(*turns) as hub:
        await said(hub, "@ada @poet @sage hello")
        waiting = (await hub.store.open_runs())[1]
        await hub.runs.cancel_by(ANN, frames.RunCancel(run=waiting.id))
        [first] = await answer(hub, "I am Ada.", 4)
        [then] = await answer(hub, "I am wise.", 4)

    assert (first.task.assistant, then.task.assistant) == ("ada", "sage")


async def test_what_waited_for_its_turn_is_answered_after_a_crash() -> None:
    turns = [Assistant(name=name, in_turn=True) for name in ("ada", "poet")]
    async with opened(*turns) as hub:
        await said(hub, "@ada @poet hello")
        store = hub.store
    async with opened(*turns, store=store) as hub:
        names = [(await answer(hub, count=4))[0].task.assistant for _ in turns]

    assert names == ["ada", "poet"]


# Making them


async def test_whoever_makes_an_assistant_can_ask_it_change_it_and_delete_it() -> None:
    async with opened(MOODY) as hub:
        made = await hub.assistants.create(ANN, "Poet", instructions="Rhyme.")
        assert (made["name"], made["owner"], made["engine"], made["instructions"]) == ("Poet", "ann", "demo", "Rhyme.")
        await said(hub, "@poet hello")
        assert await shown(hub) == [("system", "Rhyme."), ("user", "@poet hello")]
        await hub.assistants.change(ANN, "poet", {"instructions": "Prose."})
        await said(hub, "@poet again")
        assert ("system", "Prose.") in await shown(hub)
        await hub.assistants.delete(ANN, "POET")
        await said(hub, "@poet are you there?")
        assert await asked(hub) == []
        with pytest.raises(NotFound):
            hub.assistants.get(ANN, "poet")


async def test_deleting_one_stops_what_it_is_writing_and_its_name_is_free_for_another() -> None:
    async with opened(MOODY) as hub:
        await hub.assistants.create(ANN, "poet")
        await said(hub, "@poet hello")
        [run] = await hub.store.open_runs()
        await hub.assistants.delete(ANN, "poet")
        await settled(hub)
        assert (await hub.store.run(run.id)).state is RunState.CANCELLED  # type: ignore[union-attr]
        await hub.assistants.create(ANN, "Poet", instructions="Second life.")
        await said(hub, "@poet hello")
        assert await asked(hub) == ["poet"]


async def test_what_was_made_and_changed_is_there_after_a_restart() -> None:
    async with opened(MOODY) as hub:
        await hub.assistants.create(ANN, "poet", every=5)
        await hub.assistants.change(Caller("root", admin=True), "openai", {"instructions": "Be brief."})
        store = hub.store
    async with opened(MOODY, store=store) as hub:
        assert hub.assistants.by_name["poet"].every == 5
        assert hub.assistants.by_name["openai"].instructions == "Be brief."
    async with opened(store=store) as hub:
        assert set(hub.assistants.by_name) == {"poet"}  # what comes no more with the server does not answer


async def test_one_that_was_made_while_its_name_was_free_does_not_stand_in_for_one_that_comes_with_the_server() -> None:
    async with opened() as hub:
        await hub.store.assistants.add(Assistant(name="openai", instructions="Be evil.", owner="ann"))
        store = hub.store
    async with opened(MOODY, store=store) as hub:
        assert hub.assistants.by_name == {"openai": MOODY}
        with pytest.raises(NotFound):
            await hub.assistants.change(ANN, "openai", {"instructions": "Be evil."})
        await hub.assistants.change(Caller("root", admin=True), "openai", {"instructions": "Be brief."})
    async with opened(MOODY, store=store) as hub:
        assert hub.assistants.by_name["openai"].instructions == "Be brief."


async def test_others_see_who_it_is_but_neither_change_it_nor_read_its_instructions() -> None:
    async with opened(MOODY) as hub:
        await hub.assistants.create(ANN, "poet", instructions="A secret.", personalities={"sad": "Weep."})
        bob, admin = Caller("bob"), Caller("root", admin=True)

        assert "A secret." not in str(hub.assistants.listing(bob))
        assert "Weep." not in str(hub.assistants.listing(bob))
        assert hub.assistants.get(bob, "poet")["personalities"] == ["sad"]
        with pytest.raises(NotFound):
            await hub.assistants.change(bob, "poet", {"every": 1})
        with pytest.raises(NotFound):
            await hub.assistants.delete(bob, "poet")
        with pytest.raises(NotFound):
            await hub.assistants.change(ANN, "openai", {"every": 1})
        assert hub.assistants.get(admin, "poet")["instructions"] == "A secret."
        await hub.assistants.change(admin, "poet", {"every": 2})
        with pytest.raises(BadRequest):
            await hub.assistants.delete(admin, "openai")


@pytest.mark.parametrize("name", ["openai", "OpenAI", "ann", "visitor", "exit", "", "two words"])
async def test_a_name_that_is_somebodys_or_no_name_makes_no_assistant(name: str) -> None:
    async with opened(MOODY) as hub:
        with pytest.raises((NameTaken, BadRequest)):
            await hub.assistants.create(ANN, name)
        assert set(hub.assistants.by_name) == {"openai"}
        assert hub.people.known("ann") == Member(name="ann", arrived=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "nobody"},
        {"instructions": "x" * (32 * 1024 + 1)},
        {"personalities": {f"p{n}": "" for n in range(17)}},
        {"personalities": {"two words": ""}},
        {"personalities": {"": ""}},
        {"personalities": {"sad": "x" * 4097}},
        {"model": "a\nb"},
        {"model": "x" * 201},
        {"every": -1},
        {"every": 1001},
        {"every_s": 1.0},
        {"every_s": 1e9},
    ],
    ids=lambda wrong: f"{next(iter(wrong))} {str(next(iter(wrong.values())))[:12]!r}",
)
async def test_what_cannot_be_is_refused_and_nothing_is_made(wrong: dict[str, Any]) -> None:
    async with opened(MOODY) as hub:
        with pytest.raises(BadRequest):
            await hub.assistants.create(ANN, "poet", **wrong)
        with pytest.raises(BadRequest):
            await hub.assistants.change(Caller("root", admin=True), "openai", wrong)
        assert await hub.store.assistants.all() == []
        assert hub.people.known("poet") is None


async def test_making_changing_and_deleting_count_as_messages_do() -> None:
    async with opened(MOODY, limits=Limits(send_rate=1e-3, send_burst=2)) as hub:
        await hub.assistants.create(ANN, "poet")
        await hub.assistants.change(ANN, "poet", {"instructions": "Rhyme."})
        with pytest.raises(RateLimited):
            await hub.assistants.change(ANN, "poet", {"instructions": "Prose."})
        with pytest.raises(RateLimited):
            await hub.assistants.delete(ANN, "poet")
        assert hub.assistants.by_name["poet"].instructions == "Rhyme."


async def test_an_assistant_is_a_member_of_the_lobby_and_told_apart_from_people() -> None:
    async with opened(MOODY) as hub:
        await hub.assistants.create(ANN, "poet")
        assert "poet" in (await hub.room("lobby")).members
        assert hub.people.known("poet") == Member(name="poet", kind=Kind.ASSISTANT, arrived=True)


# Stopping and waiting


async def test_an_answer_that_waits_says_which_place_it_has() -> None:
    async with opened(MOODY) as hub:
        runs = []
        for n in range(3):
            await said(hub, f"@openai {n}", sender="ann")
        await said(hub, "@openai bob asks", sender="bob")
        runs = await hub.store.open_runs()

        places = [(await hub.runs.how(ANN, run.id)).position for run in runs]

    assert places == [1, 3, 4, 2]  # bob waits for one of ann's
