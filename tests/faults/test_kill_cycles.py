"""`kill -9` under load, over three transports at once: nothing acknowledged is lost, nothing shown is not kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from support.checker import check
from support.process import running
from support.witness import LOBBY, StreamWitness, Witness, stored_log

KINDS = (["framed"], ["text"], ["binary"], ["framed", "text", "binary"])


@pytest.mark.parametrize("cycles", [10, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
async def test_kill_9_under_load_loses_nothing_doubles_nothing_and_shows_nothing_that_is_not_kept(
    tmp_path: Path, cycles: int
) -> None:
    chance = Random(cycles)
    async with running(tmp_path / "home") as server:
        people = [
            Witness(f"person{i}", server, kinds, window=1 if i % 2 else 8, seed=i) for i, kinds in enumerate(KINDS * 2)
        ]
        listener = StreamWitness("listener", server)
        listener.testimony.began[LOBBY] = 0
        tasks = [asyncio.create_task(one.live()) for one in [*people, listener]]
        for one in [*people, listener]:
            await asyncio.wait_for(one.ready.wait(), 10)
        for cycle in range(cycles):
            for n in range(40):
                for person in people:
                    person.say(f"{person.name} {cycle} {n}")
            some = people[cycle % len(people)]
            wanted = len(some.testimony.acked.get(LOBBY, ())) + chance.randrange(1, 60)
            await some.until(lambda some=some, wanted=wanted: acked(some) >= wanted or some.settled)  # type: ignore[misc]
            await server.kill()
            await server.start()
        for person in people:
            await person.until(lambda person=person: person.settled, 30)  # type: ignore[misc]
        head = max(max(person.testimony.acked[LOBBY].values()) for person in people)
        for one in people:
            await one.until(lambda one=one: one.cursor == head)  # type: ignore[misc]
        await listener.until(lambda: listener.cursor == head)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await server.kill()

    log = await stored_log(tmp_path / "home" / "hubbub.db")
    assert check([one.testimony for one in [*people, listener]], {LOBBY: log}) == []
    assert len(log) == cycles * 40 * len(people)
    assert sum(person.connections for person in people) > cycles * len(people) * 0.9
    for task in tasks:
        assert task.cancelled()


def acked(witness: Witness) -> int:
    return len(witness.testimony.acked.get(LOBBY, ()))
