"""The Bus's contract, sentence by sentence (core/ports.py), on every bus."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from hubbub.core.errors import QueueFull
from hubbub.core.frames import Typing
from hubbub.core.nouns import RunState
from hubbub.core.ports import Bus, Event, Lease, Progress, Resumed
from tests.contracts.conftest import Later
from tests.contracts.words import begun, delta, task_of

SOON_S = 5.0
"""Longer than anything here takes, shorter than anybody waits for a broken test."""


class Ears:
    """Everything a bus called out."""

    def __init__(self, bus: Bus) -> None:
        self.events: list[Event] = []
        self.ended: list[str] = []
        bus.listen(self.events.append, self.ended.append)


async def taken(bus: Bus, limit: int = 1, wait_s: float = 0.0) -> list[Lease]:
    async with asyncio.timeout(SOON_S):
        return await bus.take("demo", limit, wait_s)


async def take_one(bus: Bus, run: str = "r", attempt: int = 1) -> Lease:
    await bus.put(task_of(run, attempt))
    [lease] = await taken(bus)
    return lease


async def written(bus: Bus, text: str, run: str = "r") -> None:
    """Until the bus has that much of an answer."""
    async with asyncio.timeout(SOON_S):
        while (progress := bus.so_far(run)) is None or progress.text != text:  # noqa: ASYNC110 - a process is waited for
            await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    """Let everything that can happen without time passing happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def typing(user: str) -> Event:
    return Event("garden", Typing(thread="garden", user=user))


# Events


async def test_an_event_is_heard_by_every_listener(bus: Bus) -> None:
    here, there = Ears(bus), Ears(bus)
    events = [typing("alice"), typing("bob"), typing("alice")]

    for event in events:
        bus.publish(event)
    await turns()

    assert here.events == there.events == events


async def test_an_event_without_listeners_is_lost(bus: Bus) -> None:
    bus.publish(typing("alice"))
    ears = Ears(bus)
    await turns()

    assert ears.events == []


# Answers so far


async def test_nobody_has_heard_of_an_answer_that_has_not_begun(bus: Bus) -> None:
    await bus.put(task_of("r"))

    assert bus.so_far("r") is None


async def test_an_answer_so_far_is_its_pieces_joined(bus: Bus) -> None:
    for offset, text in ((0, "Grü"), (3, "ße"), (5, " 👋")):
        bus.publish(delta("r", offset, text))

    assert bus.so_far("r") == Progress(1, "Grüße 👋")
    assert bus.so_far("r") == Progress(1, "Grüße 👋")


async def test_only_pieces_that_continue_the_answer_extend_it(bus: Bus) -> None:
    for offset, text in ((3, "lost"), (0, "Hel"), (0, "Hel"), (4, "o"), (2, "lo"), (3, "lo"), (9, "!")):
        bus.publish(delta("r", offset, text))

    assert bus.so_far("r") == Progress(1, "Hello")


async def test_a_higher_attempt_begins_the_answer_again_and_a_lower_one_is_over(bus: Bus) -> None:
    bus.publish(delta("r", 0, "first"))
    bus.publish(delta("r", 0, "sec", attempt=2))
    bus.publish(delta("r", 5, " try", attempt=1))
    bus.publish(delta("r", 3, "ond", attempt=2))

    assert bus.so_far("r") == Progress(2, "second")


async def test_answers_do_not_mix(bus: Bus) -> None:
    for event in (delta("a", 0, "x"), delta("b", 0, "y"), delta("a", 1, "x")):
        bus.publish(event)

    assert bus.so_far("a") == Progress(1, "xx")
    assert bus.so_far("b") == Progress(1, "y")


async def test_listeners_hear_a_piece_that_so_far_already_tells(bus: Bus) -> None:
    told: list[Progress | None] = []
    bus.listen(lambda event: told.append(bus.so_far("r")), lambda run: None)

    bus.publish(delta("r", 0, "Hi"))
    await turns()

    assert told == [Progress(1, "Hi")]


async def test_an_answer_exists_from_the_moment_it_is_taken(bus: Bus) -> None:
    await take_one(bus, "r", attempt=3)

    assert bus.so_far("r") == Progress(3, "")


# The queue


async def test_a_task_is_told_its_place_in_the_queue(bus: Bus) -> None:
    assert [await bus.put(task_of(f"r{i}")) for i in range(3)] == [1, 2, 3]

    await taken(bus, 2)

    assert await bus.put(task_of("r3")) == 2


async def test_tasks_are_taken_oldest_first_and_whole(bus: Bus) -> None:
    tasks = [task_of(f"r{i}") for i in range(5)]
    for task in tasks:
        await bus.put(task)

    leases = [*await taken(bus, 2), *await taken(bus, 9)]

    assert [lease.task for lease in leases] == tasks


async def test_no_more_than_the_limit_is_taken(bus: Bus) -> None:
    for i in range(5):
        await bus.put(task_of(f"r{i}"))

    assert [len(await taken(bus, limit, 60)) for limit in (1, 4)] == [1, 4]


async def test_a_full_queue_refuses_and_says_when_to_come_back(bus: Bus) -> None:
    for i in range(8):
        await bus.put(task_of(f"r{i}"))

    with pytest.raises(QueueFull) as refused:
        await bus.put(task_of("r8"))

    assert refused.value.retry_after
    assert len(await taken(bus, 9)) == 8
    assert await bus.put(task_of("r8")) == 1


async def test_whoever_takes_from_an_empty_queue_waits_for_the_first_task(bus: Bus) -> None:
    taking = begun(bus.take("demo", 4, 0.0))
    await turns()
    waited = not taking.done()

    await bus.put(task_of("r"))
    async with asyncio.timeout(SOON_S):
        [lease] = await taking

    assert waited
    assert lease.task.run == "r"


async def test_a_full_batch_does_not_wait_for_its_window(bus: Bus) -> None:
    taking = begun(bus.take("demo", 2, 60))
    await bus.put(task_of("a"))
    await turns()
    waited = not taking.done()

    await bus.put(task_of("b"))
    async with asyncio.timeout(SOON_S):
        leases = await taking

    assert waited
    assert [lease.task.run for lease in leases] == ["a", "b"]


async def test_the_window_is_counted_from_when_the_oldest_was_put(bus: Bus, later: Later) -> None:
    await bus.put(task_of("a"))
    await later(59.95)
    await bus.put(task_of("b"))

    async with asyncio.timeout(SOON_S):
        leases = await bus.take("demo", 9, 60)

    assert [lease.task.run for lease in leases] == ["a", "b"]


async def test_a_window_that_has_passed_is_not_waited_for(bus: Bus, later: Later) -> None:
    await bus.put(task_of("a"))
    await later(61)

    assert [lease.task.run for lease in await taken(bus, 9, 60)] == ["a"]


async def test_who_comes_within_the_window_comes_along(bus: Bus) -> None:
    taking = begun(bus.take("demo", 9, 0.05))

    for name in "abc":
        await bus.put(task_of(name))
        await turns()
    async with asyncio.timeout(SOON_S):
        leases = await taking

    assert [lease.task.run for lease in leases] == ["a", "b", "c"]


async def test_two_who_take_never_take_the_same(bus: Bus) -> None:
    one, other = begun(bus.take("demo", 1, 0.0)), begun(bus.take("demo", 1, 0.0))
    await turns()

    await bus.put(task_of("a"))
    await bus.put(task_of("b"))
    async with asyncio.timeout(SOON_S):
        leases = [*await one, *await other]

    assert sorted(lease.task.run for lease in leases) == ["a", "b"]


async def test_whoever_stops_taking_takes_nothing_along(bus: Bus) -> None:
    taking = begun(bus.take("demo", 4, 60))
    await bus.put(task_of("a"))
    await turns()

    taking.cancel()
    await asyncio.wait([taking])

    assert [lease.task.run for lease in await taken(bus)] == ["a"]


async def test_every_taking_has_a_higher_fence(bus: Bus) -> None:
    fences = [(await take_one(bus, run, attempt)).fence for run, attempt in (("a", 1), ("b", 1), ("a", 2), ("a", 3))]

    assert fences == sorted(set(fences))


# Leases and ends


async def test_a_worker_goes_on_while_its_lease_is_wanted(bus: Bus) -> None:
    lease = await take_one(bus)

    assert bus.wanted(lease)


async def test_a_lease_that_was_taken_over_is_not_wanted_and_changes_nothing(bus: Bus) -> None:
    ears = Ears(bus)
    old = await take_one(bus, "r", attempt=1)
    new = await take_one(bus, "r", attempt=2)

    await bus.done(old, RunState.FAILED, "late")
    await turns()

    assert not bus.wanted(old)
    assert bus.wanted(new)
    assert ears.ended == []
    assert bus.so_far("r") == Progress(2, "")


@pytest.mark.parametrize(
    ("state", "error", "truncated"),
    [(RunState.COMPLETED, None, False), (RunState.COMPLETED, None, True), (RunState.FAILED, "It rained.", False)],
)
async def test_the_end_of_an_answer_is_called_out_once_and_told_from_then_on(
    bus: Bus, state: RunState, error: str | None, truncated: bool
) -> None:
    ears = Ears(bus)
    lease = await take_one(bus)
    bus.publish(delta("r", 0, "because"))

    await bus.done(lease, state, error, truncated=truncated)
    await bus.done(lease, RunState.CANCELLED, "again")
    await turns()

    assert ears.ended == ["r"]
    assert bus.so_far("r") == Progress(1, "because", state, error, truncated)
    assert not bus.wanted(lease)


async def test_whoever_hears_of_an_end_is_told_the_whole_answer(bus: Bus) -> None:
    told: list[Progress | None] = []
    bus.listen(lambda event: None, lambda run: told.append(bus.so_far(run)))
    lease = await take_one(bus)
    bus.publish(delta("r", 0, "because"))

    await bus.done(lease, RunState.COMPLETED)
    await turns()

    assert told == [Progress(1, "because", RunState.COMPLETED)]


async def test_an_answer_that_was_never_begun_can_end_too(bus: Bus) -> None:
    lease = await take_one(bus, attempt=2)

    await bus.done(lease, RunState.FAILED, "no model")

    assert bus.so_far("r") == Progress(2, "", RunState.FAILED, "no model")


async def test_a_cancelled_answer_stops_where_it_is_and_its_worker_too(bus: Bus) -> None:
    ears = Ears(bus)
    lease = await take_one(bus)
    bus.publish(delta("r", 0, "bec"))

    await written(bus, "bec")
    bus.cancel("r")
    bus.publish(delta("r", 3, "ause"))
    await bus.done(lease, RunState.COMPLETED)
    await turns()

    assert bus.so_far("r") == Progress(1, "bec", RunState.CANCELLED)
    assert not bus.wanted(lease)
    assert ears.ended == []


async def test_an_answer_that_ended_before_it_was_cancelled_stays_as_it_ended(bus: Bus) -> None:
    lease = await take_one(bus)
    bus.publish(delta("r", 0, "because"))
    await bus.done(lease, RunState.COMPLETED)

    bus.cancel("r")
    bus.cancel("unknown")

    assert bus.so_far("r") == Progress(1, "because", RunState.COMPLETED)


async def test_a_cancelled_task_is_not_taken(bus: Bus) -> None:
    for run in "abc":
        await bus.put(task_of(run))

    bus.cancel("b")

    assert [lease.task.run for lease in await taken(bus, 9)] == ["a", "c"]
    assert bus.so_far("b") is None


async def test_a_forgotten_run_is_unknown_and_its_worker_stops(bus: Bus) -> None:
    ears = Ears(bus)
    lease = await take_one(bus)
    bus.publish(delta("r", 0, "bec"))

    bus.forget("r")
    await bus.done(lease, RunState.COMPLETED)
    await turns()

    assert bus.so_far("r") is None
    assert not bus.wanted(lease)
    assert ears.ended == []


async def test_forgetting_twice_or_the_unknown_does_nothing(bus: Bus) -> None:
    await bus.put(task_of("a"))

    bus.forget("b")
    bus.forget("b")

    assert [lease.task.run for lease in await taken(bus)] == ["a"]


async def test_a_forgotten_task_is_not_taken(bus: Bus) -> None:
    for run in "abc":
        await bus.put(task_of(run))

    bus.forget("b")

    assert [lease.task.run for lease in await taken(bus, 9)] == ["a", "c"]


async def test_forgetting_makes_room_in_the_queue(bus: Bus) -> None:
    for i in range(8):
        await bus.put(task_of(f"r{i}"))

    bus.forget("r3")

    assert await bus.put(task_of("r8")) == 8


async def test_when_the_only_task_is_forgotten_within_its_window_the_next_one_is_waited_for(bus: Bus) -> None:
    taking = begun(bus.take("demo", 4, 0.01))
    await bus.put(task_of("a"))
    await turns()
    bus.forget("a")

    done, _ = await asyncio.wait([taking], timeout=0.05)
    await bus.put(task_of("b"))
    async with asyncio.timeout(SOON_S):
        leases = await taking

    assert not done
    assert [lease.task.run for lease in leases] == ["b"]


async def test_opening_and_closing_are_quiet(bus: Bus) -> None:
    await bus.close()
    await bus.close()


async def test_what_waits_or_is_written_can_be_taken_up_and_nothing_else(bus: Bus) -> None:
    await take_one(bus, "a")
    await bus.put(task_of("b", 2))

    assert await bus.resume("a", 1) is Resumed.GOES_ON
    assert await bus.resume("b", 2) is Resumed.GOES_ON
    assert await bus.resume("a", 2) is not Resumed.GOES_ON
    assert await bus.resume("unknown", 1) is not Resumed.GOES_ON


async def test_the_same_attempt_counts_once_while_it_waits_and_while_it_is_written(bus: Bus) -> None:
    await bus.put(task_of("a"))
    await bus.put(task_of("b"))

    waiting = await bus.put(task_of("a"))
    leases = await taken(bus, 9)
    written = await bus.put(task_of("a"))
    await bus.put(task_of("c"))

    assert (waiting, written) == (1, 0)
    assert [lease.task.run for lease in leases] == ["a", "b"]
    assert [lease.task.run for lease in await taken(bus, 9)] == ["c"]


async def test_what_it_stands_on_is_well(bus: Bus) -> None:
    await bus.put(task_of("a"))

    assert set(bus.checks().values()) <= {"ok"}


async def test_members_take_turns(bus: Bus) -> None:
    for run, member in (("a1", "ann"), ("a2", "ann"), ("a3", "ann"), ("b1", "bob"), ("c1", "cat"), ("b2", "bob")):
        await bus.put(replace(task_of(run), member=member))
    places = [await bus.place(run) for run in ("a1", "b1", "c1", "a2", "b2", "a3")]

    runs = [(await taken(bus))[0].task.run for _ in range(3)]
    await bus.put(replace(task_of("d1"), member="dan"))
    runs += [lease.task.run for lease in await taken(bus, 9)]

    assert places == [1, 2, 3, 4, 5, 6]
    assert runs == ["a1", "b1", "c1", "d1", "a2", "b2", "a3"]


async def test_a_later_attempt_goes_before_all_and_alone(bus: Bus) -> None:
    for run, attempt in (("a", 1), ("b", 1), ("c", 2), ("d", 3)):
        await bus.put(task_of(run, attempt))

    batches = [[lease.task.run for lease in await taken(bus, 4, 60)] for _ in range(2)]

    assert batches == [["c"], ["d"]]
    assert [lease.task.run for lease in await taken(bus, 4)] == ["a", "b"]


# Turns


async def test_members_take_turns_whoever_asked_first_for_how_much(bus: Bus) -> None:
    for n in range(3):
        await bus.put(replace(task_of(f"ann{n}"), member="ann"))

    assert await bus.put(replace(task_of("bob0"), member="bob")) == 2
    assert [await bus.place(run) for run in ("ann0", "bob0", "ann1", "ann2")] == [1, 2, 3, 4]
    assert [lease.task.run for lease in await taken(bus, 4)] == ["ann0", "bob0", "ann1", "ann2"]


async def test_a_newcomer_does_not_wait_for_rounds_that_passed_before(bus: Bus) -> None:
    for n in range(4):
        await bus.put(replace(task_of(f"ann{n}"), member="ann"))
    await taken(bus, 3)

    await bus.put(replace(task_of("bob0"), member="bob"))
    await bus.put(replace(task_of("bob1"), member="bob"))

    assert [lease.task.run for lease in await taken(bus, 4)] == ["bob0", "ann3", "bob1"]


async def test_a_cancelled_answer_is_settled_with_all_that_was_written_of_it(bus: Bus) -> None:
    lease = await take_one(bus)
    for offset, text in ((0, "one "), (4, "two")):
        bus.publish(delta("r", offset, text))
    await written(bus, "one two")
    bus.cancel(lease.task.run)

    assert await bus.settled("r") == Progress(1, "one two", RunState.CANCELLED)
    assert await bus.settled("never heard of") is None
