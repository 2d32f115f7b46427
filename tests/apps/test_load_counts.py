"""`hubbub load` measures what it says: when turns begin, from when they count, and whether it kept up itself."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hubbub.apps.load import Load, Plan, Report
from hubbub.apps.load.plan import Stair
from hubbub.apps.load.post_chat import PostChat, find_door
from hubbub.apps.load.quantiles import Times
from hubbub.apps.load.turn import Turn
from hubbub.core.errors import BadRequest
from support.chat_stage import ChatStage, Scene

LIMIT_S = 20


class Speaks:
    """A talker of the test's own: what it does to a turn, and who did it."""

    def __init__(self, does: Callable[[Turn], Any]) -> None:
        self._does = does
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    async def have(self, turn: Turn, text: str) -> None:
        await self._does(turn)
        if turn.failure is None:
            turn.whole = time.perf_counter()

    def hang_up(self) -> None:
        pass


async def carried_out(plan: Plan, does: Callable[[Turn], Any]) -> Report:
    load = Load(plan, lambda: Speaks(does), url="test:", talker="test")
    async with asyncio.timeout(LIMIT_S):
        await load.run()
    return load.report()


async def at_once(turn: Turn) -> None:
    await asyncio.sleep(0)


# Quantiles --------------------------------------------------------------------------------------------------------


def test_quantiles_are_right_to_half_a_hundredth() -> None:
    rand = random.Random(7)
    values = sorted(math.exp(rand.uniform(math.log(2e-6), math.log(3000))) for _ in range(5000))
    times = Times()
    for value in values:
        times.add(value)

    for share in (0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999):
        assert times.at(share) == pytest.approx(values[math.ceil(share * 5000) - 1], rel=0.0051)
    found = times.summary()
    assert found is not None
    assert (found.count, found.min, found.max) == (5000, values[0], values[-1])
    assert found.mean == pytest.approx(sum(values) / 5000)


def test_times_of_nothing_are_counted_and_none_are_none() -> None:
    times = Times()
    assert times.summary() is None

    for value in (0.0, 0.0, 0.0, 1.0):
        times.add(value)

    found = times.summary()
    assert found is not None
    assert (found.p50, found.max) == (0.0, 1.0)


def test_many_times_take_little_memory() -> None:
    times = Times()

    for number in range(200_000):
        times.add(number * 1e-4)

    assert len(times._buckets) < 1500


# Plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": 0},
        {"requests": 10**8},
        {"concurrency": 0},
        {"concurrency": 10**6},
        {"turns": 0},
        {"duration_s": 0.0},
        {"duration_s": 1e9},
        {"duration_s": math.nan},
        {"rate": 0.0},
        {"rate": 1e9},
        {"ramp_up_s": -1.0},
        {"ramp_up_s": 5.0},
        {"ramp_up_s": 5.0, "duration_s": 5.0},
        {"ramp_up_s": 5.0, "duration_s": 9.0, "rate": 3.0},
        {"steps": 1},
        {"timeout_s": 0.0},
        {"timeout_s": math.inf},
        {"message": ""},
        {"message": "  "},
        {"message": "x" * 1001},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="--"):
        Plan(**wrong)


def test_a_ramp_begins_with_one_and_reaches_its_height_in_time() -> None:
    def stairs(concurrency: int, steps: int) -> list[Stair]:
        return Plan(duration_s=100, concurrency=concurrency, ramp_up_s=60, steps=steps).stairs()

    assert stairs(21, 5) == [(1, 0), (6, 15), (11, 30), (16, 45), (21, 60)]
    assert stairs(3, 10) == [(1, 0), (2, 30), (3, 60)]
    assert stairs(1, 10) == [(1, 0)]
    assert Plan(concurrency=7).stairs() == [(7, 0)]


# Pacing -----------------------------------------------------------------------------------------------------------


async def test_as_many_are_had_as_were_asked_for_and_never_more_at_once() -> None:
    now = most = 0

    async def does(turn: Turn) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    report = await carried_out(Plan(requests=100, concurrency=7), does)

    assert (report.requests, report.ok, report.unfinished) == (100, 100, 0)
    assert most == 7
    assert report.mode == "closed"


async def test_without_a_number_it_is_ten() -> None:
    assert (await carried_out(Plan(), at_once)).requests == 10


async def test_a_duration_ends_the_beginning_of_turns_and_lets_them_finish() -> None:
    async def does(turn: Turn) -> None:
        await asyncio.sleep(0.15)

    report = await carried_out(Plan(duration_s=0.25, concurrency=2), does)

    assert (report.requests, report.ok, report.unfinished) == (4, 4, 0)
    assert 0.3 <= report.elapsed_s < LIMIT_S


async def test_open_arrivals_keep_their_rate() -> None:
    report = await carried_out(Plan(rate=100, duration_s=0.5, concurrency=5), at_once)

    assert (report.requests, report.ok, report.mode) == (50, 50, "open")
    assert report.elapsed_s >= 0.48
    assert report.generator.late_s is not None


async def test_open_arrivals_make_no_more_connections_than_they_need() -> None:
    async def play(scene: Scene) -> None:
        scene.well()

    async with ChatStage(play) as stage:
        door = await find_door(stage.url, None, None)
        plan = Plan(rate=100, duration_s=0.5, concurrency=50)
        load = Load(plan, lambda: PostChat(door), url=door.url, talker="POST /chat")
        await load.run()

        assert load.report().ok == 50
        assert stage.connections < 10


async def test_a_server_that_stands_still_is_charged_with_everybody_it_kept_waiting() -> None:
    """Two meet the pause, one of each loop; yet in the open one about 30 were due in it."""

    def stands_still_once() -> Callable[[Turn], Any]:
        first = time.perf_counter()
        stood = asyncio.Event()

        async def does(turn: Turn) -> None:
            await asyncio.sleep(0.005)
            if not stood.is_set() and time.perf_counter() - first > 0.3:
                stood.set()
                await asyncio.sleep(0.3)

        return does

    opened = await carried_out(Plan(rate=100, duration_s=1), stands_still_once())
    closed = await carried_out(Plan(duration_s=1), stands_still_once())

    assert opened.whole_s is not None
    assert closed.whole_s is not None
    assert opened.requests == 100
    assert min(opened.whole_s.max, closed.whole_s.max) >= 0.3
    assert opened.whole_s.p90 > 0.1 > closed.whole_s.p90


async def test_arrivals_that_nobody_was_free_to_make_in_time_are_timed_out() -> None:
    async def does(turn: Turn) -> None:
        await asyncio.sleep(0.4)

    report = await carried_out(Plan(rate=100, duration_s=0.3, concurrency=2, timeout_s=0.45), does)

    assert report.requests == 30
    assert report.errors == {"timed out": 30 - report.ok}
    assert report.ok <= 4
    assert report.elapsed_s < 1.5
    assert not report.all_well


async def test_a_refused_connection_is_not_tried_again_at_once() -> None:
    async def does(turn: Turn) -> None:
        turn.fail("refused", "nobody there")

    report = await carried_out(Plan(duration_s=0.25), does)

    assert 1 <= report.requests <= 3


async def test_a_ramp_is_counted_by_its_steps() -> None:
    async def does(turn: Turn) -> None:
        await asyncio.sleep(0.02)

    report = await carried_out(Plan(ramp_up_s=0.4, duration_s=0.8, concurrency=9, steps=3), does)

    assert [step.concurrency for step in report.steps] == [1, 5, 9]
    assert [step.from_s for step in report.steps] == [0, 0.2, 0.4]
    assert sum(step.began for step in report.steps) == report.requests
    rates = [step.requests_per_s for step in report.steps]
    assert rates == sorted(rates)
    assert all(step.whole_s is not None and step.whole_s.min >= 0.018 for step in report.steps)


async def test_a_ramp_whose_requests_are_through_does_not_wait_for_its_height() -> None:
    report = await carried_out(Plan(ramp_up_s=600, requests=5, concurrency=9), at_once)

    assert report.ok == 5
    assert [step.concurrency for step in report.steps] == [1]


async def test_stopped_in_the_middle_it_reports_what_came_until_then() -> None:
    some = asyncio.Event()

    async def does(turn: Turn) -> None:
        if turn.began and load._tally.began > 3:
            some.set()
            await asyncio.Event().wait()

    load = Load(Plan(requests=100), lambda: Speaks(does), url="test:", talker="test")
    running = asyncio.create_task(load.run())
    async with asyncio.timeout(LIMIT_S):
        await some.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    report = load.report()
    assert (report.ok, report.unfinished, report.interrupted) == (3, 1, True)


# The generator ----------------------------------------------------------------------------------------------------


async def test_a_load_tester_that_was_late_itself_says_so() -> None:
    async def does(turn: Turn) -> None:
        time.sleep(0.02)  # noqa: ASYNC251 -- what an overloaded generator does
        await asyncio.sleep(0)

    report = await carried_out(Plan(requests=20, concurrency=4), does)

    assert report.generator.overloaded
    assert any("timers were late" in reason for reason in report.generator.reasons)
    assert report.all_well


async def test_a_load_tester_that_used_up_its_core_says_so() -> None:
    async def does(turn: Turn) -> None:
        until = time.process_time() + 0.002
        while time.process_time() < until:
            pass
        await asyncio.sleep(0)

    report = await carried_out(Plan(requests=100), does)

    assert report.generator.cpu_us_per_request >= 2000
    if report.generator.cpu_share > 0.8:  # others may have had the core
        assert any("of the one core" in reason for reason in report.generator.reasons)


async def test_pieces_are_timed_as_they_come() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        await asyncio.sleep(0.05)
        scene.pieces("Hello, ")
        await asyncio.sleep(0.1)
        scene.pieces("how ", "are you?")
        await asyncio.sleep(0.15)
        scene.complete()
        scene.completed()
        scene.end()

    async with ChatStage(play) as stage:
        door = await find_door(stage.url, None, None)
        load = Load(Plan(requests=1), lambda: PostChat(door), url=door.url, talker="POST /chat")
        await load.run()
        report = load.report()

    assert report.whole_s is not None
    assert report.first_piece_s is not None
    assert report.gap_s is not None
    assert report.first_piece_s.max >= 0.045
    assert report.gap_s.max >= 0.095
    assert report.gap_s.min < 0.05
    assert report.whole_s.max >= report.first_piece_s.max + report.gap_s.max + 0.145
    assert report.bytes_received > 300
    assert report.bytes_sent > 100
    assert sum(second.pieces for second in report.seconds) == 3


async def test_the_report_is_json_that_can_be_read_back() -> None:
    report = await carried_out(Plan(requests=3, message="hi"), at_once)

    data = msgspec.json.encode(report)

    assert msgspec.json.decode(data, type=Report) == report
    assert json.loads(data)["plan"]["message"] == "hi"
    assert (json.loads(data)["format"], json.loads(data)["version"]) == ("hubbub load", 1)
