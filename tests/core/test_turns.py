"""Members take turns in the queue, and what was interrupted goes first and alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubbub.core.nouns import Prompt, Task
from hubbub.core.turns import Turns


def asked(member: str, n: int, attempt: int = 1) -> Task:
    run = f"{member}{n}"
    prompt = Prompt(run=run, assistant="openai", turns=())
    return Task(run=run, thread="t", assistant="openai", attempt=attempt, prompt=prompt, member=member)


def taken(turns: Turns, limit: int = 1) -> list[list[str]]:
    """Everything that waits, batch by batch."""
    batches = []
    while batch := turns.pop(limit):
        batches.append([waiting.task.run for waiting in batch])
    return batches


def test_one_members_tasks_come_in_the_order_they_were_put() -> None:
    turns = Turns()

    places = [turns.put(asked("ann", n), 0) for n in range(3)]

    assert places == [1, 2, 3]
    assert taken(turns) == [["ann0"], ["ann1"], ["ann2"]]


def test_whoever_asks_for_many_lets_the_next_one_wait_for_one() -> None:
    turns = Turns()
    for n in range(100):
        turns.put(asked("ann", n), 0)

    assert turns.put(asked("bob", 0), 0) == 2
    assert turns.place("bob0") == 2
    assert taken(turns)[:3] == [["ann0"], ["bob0"], ["ann1"]]


def test_a_newcomer_begins_in_the_round_that_is_served_and_not_in_those_that_passed() -> None:
    turns = Turns()
    for n in range(5):
        turns.put(asked("ann", n), 0)
    turns.pop(3)
    for n in range(3):
        turns.put(asked("bob", n), 0)

    assert taken(turns) == [["bob0"], ["ann3"], ["bob1"], ["ann4"], ["bob2"]]


def test_a_later_attempt_goes_first_and_alone() -> None:
    turns = Turns()
    turns.put(asked("ann", 0), 0)
    turns.put(asked("ann", 1), 0)
    assert turns.put(asked("bob", 0, attempt=2), 0) == 1
    turns.put(asked("bob", 1, attempt=3), 0)

    assert turns.whole(4)
    assert taken(turns, 4) == [["bob0"], ["bob1"], ["ann0", "ann1"]]


def test_a_batch_is_whole_when_it_is_full() -> None:
    turns = Turns()
    assert not turns.whole(2)
    turns.put(asked("ann", 0), 0)
    assert not turns.whole(2)
    turns.put(asked("bob", 0), 0)
    assert turns.whole(2)


def test_what_is_removed_waits_no_more() -> None:
    turns = Turns()
    for n in range(3):
        turns.put(asked("ann", n), n)
    turns.remove("ann0")

    assert turns.place("ann0") is None
    assert (turns.place("ann2"), turns.oldest(), len(turns)) == (2, 1, 2)
    assert taken(turns, 4) == [["ann1", "ann2"]]


@given(st.lists(st.sampled_from("abc")), st.integers(1, 4))
def test_what_is_put_before_anything_is_taken_comes_round_by_round(members: list[str], limit: int) -> None:
    turns, rounds, put = Turns(), [], dict.fromkeys("abc", 0)
    for n, member in enumerate(members):
        turns.put(asked(member, n), 0)
        rounds.append((put[member], n, f"{member}{n}"))
        put[member] += 1

    assert [run for batch in taken(turns, limit) for run in batch] == [run for *_, run in sorted(rounds)]
