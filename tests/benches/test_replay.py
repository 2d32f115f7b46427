"""The batching bench has no score when anything was lost, doubled or reordered: each is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from bench.batching import require_right
from bench.replay import Stage, TimedEngine, closed_loop, replay
from bench.result import Void

from hubbub.buses.local import LocalBus
from hubbub.core.frames import RunDelta
from hubbub.core.nouns import Prompt
from hubbub.core.ports import Event, Piece

COST = [0.01, 0.011, 0.012, 0.013]


class Wrong(TimedEngine):
    """Hands on what it writes in another way."""

    def __init__(self, pieces: str) -> None:
        super().__init__(COST)
        self._pieces = pieces

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        kept: list[tuple[int, Piece]] = [piece async for piece in super().answer(prompts)]
        words = [piece for piece in kept if piece[1]]
        if self._pieces == "lost":
            words.pop()
        elif self._pieces == "doubled":
            words.append(words[-1])
        else:
            words.reverse()
        for piece in [*words, *(piece for piece in kept if not piece[1])]:
            yield piece


async def test_a_replay_tells_the_latency_of_each_task_from_its_planned_moment() -> None:
    played = await replay([0.0, 0.002, 0.1], Stage(TimedEngine(COST), window_s=0.005))

    assert not played.wrong
    assert played.batches == [2, 1]
    assert 0.016 <= played.latencies[0] < 0.1
    assert played.latencies[0] - played.latencies[1] == pytest.approx(0.002, abs=0.002)
    assert 0.015 <= played.latencies[2] < 0.1


async def test_a_closed_loop_asks_again_as_soon_as_it_was_answered() -> None:
    played = await closed_loop(4, 0.1, Stage(TimedEngine(COST)))

    assert not played.wrong
    assert len(played.latencies) >= 8
    assert len(played.latencies) == sum(played.batches)


@pytest.mark.parametrize("pieces", ["lost", "doubled", "reordered"])
async def test_what_an_engine_hands_on_wrongly_has_no_score(pieces: str) -> None:
    played = await replay([0.0] * 4, Stage(Wrong(pieces)))

    assert played.wrong
    with pytest.raises(Void):
        require_right(played.wrong)


@pytest.mark.parametrize("times", [0, 2])
async def test_a_bus_that_loses_or_doubles_a_piece_has_no_score(times: int) -> None:
    stage = Stage(TimedEngine(COST))
    publish = LocalBus.publish

    def bad(event: Event) -> None:
        often = times if isinstance(event.frame, RunDelta) and event.frame.offset else 1
        for _ in range(often):
            publish(stage.bus, event)

    stage.bus.publish = bad  # type: ignore[method-assign]

    assert (await replay([0.0] * 4, stage)).wrong
