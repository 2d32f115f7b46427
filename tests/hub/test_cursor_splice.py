"""Reading the log and hearing live are spliced by seq: nobody misses anything, hears it twice, or out of order."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from hubbub.buses.local import LocalBus
from hubbub.core import frames
from hubbub.core.nouns import Draft, RunState, Thread, stamp
from hubbub.hub import catch_up, posting, room, threads
from hubbub.hub.access import Caller
from hubbub.hub.hub import Hub
from hubbub.hub.sweep import compare_heads
from hubbub.stores.memory import MemoryStore
from tests.hub.crowd import LINES, BadBus, Client, PausingStore, Pen, open_hub, quiet, say

PEOPLE = ("alice", "bob", "carol", "dave")
PLACES = ("lobby", "garden")


async def begin_answer(hub: Hub, thread: str = "lobby") -> Pen:
    """openai was asked and begins to write."""
    place = await hub.room(thread)
    await hub.runs.begin(place, "openai", 0)
    [lease] = await hub.bus.take("demo", 1, 0.0)
    return Pen(hub, lease)


async def finish(pen: Pen, state: RunState = RunState.COMPLETED) -> None:
    await pen.hub.bus.done(pen.lease, state, "It rained." if state is RunState.FAILED else None)
    await quiet()


def heard(client: Client, thread: str = "lobby") -> list[str]:
    assert client.wrong == []
    return [message["text"] for message in client.messages[thread]]


async def test_alice_hears_what_she_missed_while_she_was_away() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await say(hub, "one", "bob")
        await quiet()
        alice.disconnect()
        await say(hub, "two", "bob")
        await say(hub, "three", "bob")

        await alice.connect(hub)
        await say(hub, "four", "bob")
        await quiet()

    assert heard(alice) == ["one", "two", "three", "four"]


async def test_the_last_message_is_heard_even_when_the_bus_lost_it() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        await hub.store.append(Draft(thread="lobby", sender="bob", text="hi", timestamp=stamp(0), destination="lobby"))
        before = heard(alice) if "lobby" in alice.messages else []

        await compare_heads(hub)
        await quiet()

    assert before == []
    assert heard(alice) == ["hi"]


async def test_a_listener_who_does_not_read_is_written_nothing_and_goes_on_where_they_stopped() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice, bob = Client("alice"), Client("bob")
        await alice.connect(hub)
        await bob.connect(hub)
        alice.door.room = 1
        for i in range(5):
            await say(hub, str(i), "carol")
            await quiet()
        while_full = heard(alice)

        alice.door.drain()
        await quiet()

    assert while_full == ["0"]
    assert heard(alice) == heard(bob) == ["0", "1", "2", "3", "4"]


async def test_what_is_said_in_one_turn_is_written_at_once() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        writes = alice.door.writes

        for i in range(10):
            await say(hub, str(i), "bob")
        await quiet()

        assert alice.door.writes == writes + 1
        assert heard(alice) == [str(i) for i in range(10)]


async def test_who_comes_in_the_middle_of_an_answer_is_told_its_beginning() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        await say(hub, "@", "bob")
        pen = await begin_answer(hub)
        pen.write("Grü")
        alice = Client("alice")

        await alice.connect(hub)
        pen.write("ße 👋")
        await quiet()
        so_far = alice.answers[pen.task.run]
        await finish(pen)

    assert so_far == (1, "Grüße 👋")
    assert heard(alice)[-1] == "Grüße 👋"
    assert alice.ended == {pen.task.run: 1}


async def test_an_answer_that_ended_while_its_reader_was_stalled_is_told_to_its_end() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        pen = await begin_answer(hub)
        pen.write("To be")
        alice.door.room = 1
        await quiet()
        pen.write(" or not")
        await finish(pen, RunState.FAILED)
        await say(hub, "and then?", "bob")

        alice.door.drain()
        await quiet()

    assert alice.answers[pen.task.run] == (1, "To be or not")
    assert heard(alice) == ["To be or not", "and then?"]
    assert alice.ended == {pen.task.run: 1}


async def test_a_new_attempt_begins_the_answer_again_for_those_who_stalled() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        pen = await begin_answer(hub)
        pen.write("To be")
        alice.door.room = 1
        await quiet()
        pen.write(" or")
        [run] = await hub.store.open_runs()
        await hub.runs._retry(run)
        [lease] = await hub.bus.take("demo", 1, 0.0)
        again = Pen(hub, lease)
        again.write("Not to be")
        await quiet()

        alice.door.drain()
        await quiet()
        await finish(again)

    assert alice.answers[run.id] == (2, "Not to be")
    assert heard(alice) == ["Not to be"]


async def test_a_long_answer_is_caught_up_with_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "PIECE_TEXT", 7)
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        pen = await begin_answer(hub)
        pen.write("ä👋" * 50)
        alice = Client("alice")
        await alice.connect(hub)
        for _ in range(30):
            await quiet(3)
            alice.door.drain(room=1)
        alice.door.drain()
        await quiet()
        pen.write("!")
        await finish(pen)

    assert alice.answers[pen.task.run] == (1, pen.text)
    assert alice.ended == {pen.task.run: 1}


async def test_whoever_stalls_between_an_answers_message_and_its_end_hears_the_end_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "MAX_TURN_BYTES", 1)
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        pen = await begin_answer(hub)
        pen.write("because")
        await quiet()
        alice.door.room = 1
        await finish(pen)

        alice.door.drain()
        await quiet()

    assert heard(alice) == ["because"]
    assert alice.ended == {pen.task.run: 1}


@pytest.mark.parametrize("seed", range(5))
async def test_a_thread_joined_while_catching_up_is_heard_too(seed: int) -> None:
    async with open_hub(PausingStore(Random(seed)), LocalBus()) as hub:
        for i in range(5):
            await say(hub, str(i), "bob")
            await say(hub, str(i), "bob", "garden")
        for turns in range(12):
            alice = Client(f"alice{turns}")
            await alice.connect(hub)
            await quiet(turns)
            await threads.join(hub, Caller(alice.name), frames.ThreadJoin(thread="garden"))
            await quiet()
            await say(hub, "now", "bob", "garden")
            await quiet()

            assert heard(alice, "garden")[-1] == "now"


async def test_whoever_stalls_while_the_log_is_read_is_written_nothing_more() -> None:
    async with open_hub(PausingStore(Random(1)), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        for turns in range(12):
            pen = await begin_answer(hub)
            pen.write("be")
            await quiet()
            alice.door.room = 1
            await say(hub, "full", "bob")
            await quiet()
            await finish(pen)
            alice.door.drain()
            await quiet(turns)
            alice.door.full = True  # the door asserts that nothing is written from here on
            assert alice.session is not None
            alice.session.stop()
            await quiet()
            alice.door.drain()
            await quiet()

            assert heard(alice)[-1] == "be"


async def test_an_answer_whose_end_is_brought_before_its_message_is_told_in_order() -> None:
    chance = Random(0)
    bus = BadBus(chance)
    bus.bad = False
    async with open_hub(MemoryStore(), bus) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        pen = await begin_answer(hub)
        pen.write("because")
        await quiet()
        bus.bad = True
        await finish(pen)
        message, end = bus._on_the_way

        for event in (end, message):
            for hear in bus._hearers:
                hear(event)
        await quiet()

    assert heard(alice) == ["because"]
    assert alice.ended == {pen.task.run: 1}


async def test_a_piece_that_comes_after_the_end_leaves_no_ghost() -> None:
    bus = BadBus(Random(0))
    bus.bad = False
    async with open_hub(MemoryStore(), bus) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        pen = await begin_answer(hub)
        bus.bad = True
        pen.write("because")
        [late] = bus._on_the_way
        bus.bad = False
        await finish(pen)

        for hear in bus._hearers:
            hear(late)
        await quiet()
        lobby = await hub.room("lobby")

    assert heard(alice) == ["because"]
    assert lobby.runs == {}


async def crowd_of(seed: int, *, pausing: bool, bad_bus: bool, steps: int = 150) -> None:
    """Some two hours of a busy evening, with everything that happens in them."""
    chance = Random(seed)
    bus = BadBus(chance) if bad_bus else LocalBus()
    store = PausingStore(chance) if pausing else MemoryStore()
    async with open_hub(store, bus) as hub:
        people = [Client(name, strict=not bad_bus) for name in PEOPLE]
        pens: list[Pen] = []
        for person in people:
            await person.connect(hub)
        for step in range(steps):
            person = chance.choice(people)
            await one_step(hub, chance, person, pens, step)
            if isinstance(bus, BadBus):
                for _ in range(chance.randrange(3)):
                    bus.bring()
            await quiet(chance.choice((0, 0, 1, 2, 5)))

        if isinstance(bus, BadBus):
            bus.bad = False
        for pen in pens:
            await finish(pen)
        for person in people:
            if person.session is None:
                await person.connect(hub)
            person.door.drain()
        for place in PLACES:
            await say(hub, "good night", "openai", place)
        await quiet()

        for place in PLACES:
            stored = [message.text for message in (await store.read_after(place, 0, 10**6, 1 << 40)).messages]
            members = (await hub.room(place)).members
            for person in people:
                if person.name in members:
                    assert heard(person, place) == stored[person.first[place] :]
        for person in people:
            ended = {run for run, count in person.ended.items() if count}
            assert bad_bus or ended >= set(person.answers) - person.loose, "an answer that never ended"


async def one_step(hub: Hub, chance: Random, person: Client, pens: list[Pen], step: int) -> None:
    what = chance.random()
    place = chance.choice(PLACES)
    if what < 0.35:
        await say(hub, f"{person.name} {step}" + "x" * chance.choice((0, 0, 200)), person.name, place)
    elif what < 0.43:
        pens.append(await begin_answer(hub, place))
    elif what < 0.6:
        if pens:
            chance.choice(pens).write(f"w{step} " * chance.randrange(1, 20))
    elif what < 0.66:
        if pens:
            pen = pens.pop(chance.randrange(len(pens)))
            state = chance.choice((RunState.COMPLETED, RunState.FAILED))
            await hub.bus.done(pen.lease, state, "It rained." if state is RunState.FAILED else None)
    elif what < 0.76:
        person.door.room = chance.choice((1, 1, 300, 2000))
    elif what < 0.86:
        person.door.drain(room=chance.choice((1, 300, 1 << 40)))
    elif what < 0.94:
        if person.session is None:
            await person.connect(hub)
        else:
            person.disconnect()
    elif person.name in (await hub.room("garden")).members:
        await threads.leave(hub, Caller(person.name), frames.ThreadLeave(thread="garden"))
        person.leave("garden")
    else:
        person.left.discard("garden")
        await threads.join(hub, Caller(person.name), frames.ThreadJoin(thread="garden"))


@pytest.mark.parametrize("seed", range(40))
async def test_everybody_hears_everything_once_and_in_order(seed: int) -> None:
    await crowd_of(seed, pausing=False, bad_bus=False)


async def test_everybody_does_so_too_when_the_store_is_far_away() -> None:
    for seed in range(40):
        await crowd_of(seed, pausing=True, bad_bus=False)


@pytest.mark.parametrize("seed", range(40))
async def test_everybody_does_so_too_when_the_bus_loses_doubles_and_reorders(seed: int) -> None:
    await crowd_of(seed, pausing=bool(seed % 2), bad_bus=True)


async def test_a_cursor_above_the_head_is_reset() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        alice.disconnect()
        alice.feed.threads["lobby"] = 99
        await alice.connect(hub)
        await quiet()

        assert (await hub.store.thread("lobby")) == Thread(id="lobby", title="lobby", public=True, member_count=2)
        assert alice.session is not None
        assert alice.session.feed is None


async def test_what_nobody_could_be_told_of_a_check_is_not_seen() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        bob = Client("bob")
        await bob.connect(hub)
        await quiet()
        for i in range(250):
            await say(hub, str(i), "alice")
        await quiet()
        assert bob.session is not None

        bob.session.stop()
        bob.session.handle(frames.Check())
        bob.session.go_on()
        bob.door.room = 1
        await quiet()
        bob.session.lost()
        await quiet()

    [(_, seen)] = [found for found in await hub.store.threads_of("bob") if found[0].id == "lobby"]
    assert seen < 250


async def test_whoever_is_written_to_while_they_come_in_hears_it() -> None:
    store = PausingStore(Random(3))
    async with open_hub(store, LocalBus()) as hub:
        await say(hub, "early", "alice")
        for turns in range(12):
            hub.close_room(await hub.room("lobby"))
            bob = Client(f"bob{turns}")
            coming = asyncio.ensure_future(bob.connect(hub))
            await quiet(turns)
            await posting.send(hub, Caller("alice"), frames.MessageSend(to=bob.name, text="while you came"))
            await coming
            await quiet()

            private = [thread.id for thread, _ in await store.threads_of(bob.name) if thread.private]
            assert heard(bob, private[0]) == ["while you came"]


@pytest.mark.parametrize("where", ["shouting", "writing"])
async def test_a_bug_in_fan_out_leaves_nobody_in_step_who_was_not_told(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> bytes:
        raise RuntimeError("a bug")

    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        with monkeypatch.context() as broken:
            if where == "shouting":
                broken.setattr(room, "Shout", bug)
            else:
                broken.setattr(LINES, "encode", bug)
            await say(hub, "one", "bob")
            await quiet()
        ended = alice.door.ended
        alice.disconnect()
        await alice.connect(hub)
        await say(hub, "two", "bob")
        await quiet()

    assert ended == "internal"
    assert heard(alice) == ["one", "two"]
