"""`kill -9` under load, over three transports at once: nothing acknowledged is lost, nothing shown is not kept."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from support.load import WANDERING, Crowd
from support.process import running
from support.witness import LOBBY, Witness


@pytest.mark.parametrize("cycles", [10, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
async def test_kill_9_under_load_loses_nothing_doubles_nothing_and_shows_nothing_that_is_not_kept(
    tmp_path: Path, cycles: int
) -> None:
    chance = Random(cycles)
    async with running(tmp_path / "home") as server:
        crowd = Crowd(server, WANDERING * 2, windows=(8, 1))
        async with crowd.there():
            for cycle in range(cycles):
                crowd.say(f"{cycle}", 40)
                some = crowd.writers[cycle % len(crowd.writers)]
                wanted = acked(some) + chance.randrange(1, 60)
                await some.until(lambda some=some, wanted=wanted: acked(some) >= wanted or some.settled)  # type: ignore[misc]
                await server.kill()
                await server.start()
            await crowd.settled()
            await crowd.all_heard()
        await server.kill()

    await crowd.judged(tmp_path / "home")
    assert sum(writer.connections for writer in crowd.writers) > cycles * len(crowd.writers) * 0.9


def acked(witness: Witness) -> int:
    return len(witness.testimony.acked.get(LOBBY, ()))
