"""The part of the Store's contract about assistants, sentence by sentence (core/ports.py), on every store."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Assistant, RunState
from hubbub.core.ports import Store
from tests.contracts.words import draft, open_thread, run_of

POET = Assistant(
    name="Poet",
    instructions="Rhyme – immer.",
    engine="demo",
    model="m",
    personalities={"sad": "Weep.", "glad": "Laugh."},
    every=3,
    every_s=7.5,
    in_turn=True,
    owner="ann",
)


async def test_an_assistant_is_kept_as_it_was_made(store: Store) -> None:
    await store.assistants.add(POET)
    await store.assistants.add(Assistant(name="other"))

    assert await store.assistants.all() == [POET, Assistant(name="other")]
    assert list((await store.assistants.all())[0].personalities) == ["sad", "glad"]


@pytest.mark.parametrize("name", ["Poet", "POET", "Ｐoet"])
async def test_a_name_has_one_assistant_in_any_spelling(store: Store, name: str) -> None:
    await store.assistants.add(POET)

    with pytest.raises(NameTaken):
        await store.assistants.add(Assistant(name=name))

    assert await store.assistants.all() == [POET]


async def test_of_many_who_make_it_at_once_one_does(store: Store) -> None:
    made = [store.assistants.add(replace(POET, owner=str(n))) for n in range(5)]

    outcomes = await asyncio.gather(*made, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(NameTaken) == 4
    assert len(await store.assistants.all()) == 1


async def test_a_changed_assistant_keeps_its_place(store: Store) -> None:
    await store.assistants.add(POET)
    await store.assistants.add(Assistant(name="other"))
    await store.assistants.change(replace(POET, instructions="Prose."))

    assert [one.instructions for one in await store.assistants.all()] == ["Prose.", ""]
    with pytest.raises(NotFound):
        await store.assistants.change(Assistant(name="nobody"))


async def test_a_deleted_assistant_is_gone_and_its_name_free(store: Store) -> None:
    await store.assistants.add(POET)
    await store.assistants.delete("poet")
    await store.assistants.delete("poet")

    assert await store.assistants.all() == []
    await store.assistants.add(POET)


async def choose(store: Store, thread: str, personality: str | None, again: bool = False) -> None:
    """openai answers there, and has that personality from then on."""
    run = await store.begin_run(run_of("openai", trigger=0, thread=thread))
    assert run is not None
    answer = draft("I am.", "openai", thread)
    assert await store.end_run(run.id, 1, RunState.COMPLETED, None, answer, personality) is not None
    if again:
        assert await store.end_run(run.id, 1, RunState.COMPLETED, None, answer, "late") is None


async def test_a_personality_is_chosen_for_one_member_in_one_thread(store: Store) -> None:
    await open_thread(store, "openai", "poet")
    await open_thread(store, "openai", id="yard")
    await choose(store, "garden", "happy")
    await choose(store, "garden", "angry", again=True)
    await choose(store, "garden", None)

    assert await store.assistants.personality("garden", "openai") == "angry"
    assert await store.assistants.personality("garden", "poet") == ""
    assert await store.assistants.personality("garden", "stranger") == ""
    assert await store.assistants.personality("yard", "openai") == ""
    assert await store.assistants.personality("nowhere", "openai") == ""


async def test_who_leaves_has_no_personality_there_when_they_come_back(store: Store) -> None:
    await open_thread(store, "alice", "openai")
    await choose(store, "garden", "angry")
    await store.leave("garden", "openai", draft("left", sender="openai"))

    assert await store.assistants.personality("garden", "openai") == ""
    await choose(store, "garden", "angry")  # an answer that comes late
    assert await store.assistants.personality("garden", "openai") == ""


async def test_the_newest_question_of_an_assistant_is_known(store: Store) -> None:
    await open_thread(store, "openai", "poet")
    assert await store.last_asked("garden", "openai") == 0

    for trigger in (2, 5, 3, 0):
        await store.begin_run(run_of("openai", trigger, asked_by="ann"))
    await store.begin_run(run_of("poet", 9))

    assert await store.last_asked("garden", "openai") == 5
    assert await store.last_asked("yard", "openai") == 0


async def test_a_run_of_the_same_id_is_begun_once(store: Store) -> None:
    await open_thread(store, "openai")

    begun = [await store.begin_run(run_of(trigger=0, id="r", asked_by="ann")) for _ in range(2)]

    assert [run.asked_by if run else None for run in begun] == ["ann", None]
    assert [run.asked_by for run in await store.open_runs()] == ["ann"]
