"""Counting without a server: what a worker process has, and how minutes and processes add up."""

from __future__ import annotations

import asyncio
import re
import time
from typing import ClassVar

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import hubbub.hub.meter
from hubbub.buses.local import LocalBus
from hubbub.core.nouns import Prompt, RunState, Task
from hubbub.core.ports import EngineFailure, Lease, Usage
from hubbub.core.sketch import Sketch
from hubbub.hub.families import COUNTS, families
from hubbub.hub.figures import brief, exposition, stats
from hubbub.hub.meter import MINUTES, SLOWEST, Counts, Gauge, Meter
from hubbub.hub.worker import Worker
from tests.hub.test_worker import Script

TIMES = (0.002, 0.005, 0.02, 0.3)


def lease(attempt: int = 1, waited_s: float = 0.5) -> Lease:
    prompt = Prompt(run="r", assistant="openai", turns=())
    return Lease(Task(run="r", thread="t", assistant="openai", attempt=attempt, prompt=prompt), 1, waited_s)


def busy() -> Meter:
    """A meter that has something in every field."""
    meter = Meter(version="1.2.3", logged={"error": 2})
    meter.expect(["demo"])
    counts = meter.counts
    for name in counts.__struct_fields__:
        if isinstance(getattr(counts, name), int):
            setattr(counts, name, 3)
    for route in ("/api/users", "/api/threads/{id}"):
        for seconds in TIMES:
            meter.answered("GET", route, 200, seconds)
    meter.answered("GET", "/api/users", 500, 1.0)
    meter.batch("demo", [lease(), lease()], 4)
    meter.used("demo", Usage(10, 20))
    meter.ended("demo", RunState.COMPLETED)
    meter.committed(7, 0.001)
    counts.sessions["tcp"] = counts.refused_early["408"] = 1
    for name in ("batch_s", "first_piece_s", "piece_gap_s"):
        getattr(counts, name)["demo"] = Sketch()
        getattr(counts, name)["demo"].note(0.25)
    counts.loop_lag_s.note(0.001)
    return meter


def value(text: str, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


# What adds up


def test_the_counts_of_two_processes_add_up_after_they_were_sent() -> None:
    one, other = busy().counts, busy().counts
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(other), type=Counts)

    both = one.plus(sent)

    assert both.messages == 6
    assert both.requests["GET /api/users 200"] == 8
    assert both.request_s["GET /api/users"].count == 10
    assert both.group_size.count == 2
    assert both.since(one) == one.since(Counts()), "what came after the first is the second"


def test_adding_up_changes_neither() -> None:
    one = busy().counts
    before = one.copy()

    one.plus(Counts()).request_s["GET /api/users"].note(1)
    one.copy().requests["GET /api/users 200"] += 1

    assert one == before


def test_a_minute_holds_what_came_in_it_and_nothing_else() -> None:
    meter = Meter()
    meter.counts.messages += 2
    meter.answered("GET", "/a", 200, 0.1)
    meter.turn()
    meter.counts.messages += 5
    meter.answered("GET", "/b", 200, 0.2)
    meter.turn()

    first, second = meter.minutes

    assert (first.counts.messages, second.counts.messages, meter.this_minute().counts.messages) == (2, 5, 0)
    assert [list(minute.counts.request_s) for minute in (first, second)] == [["GET /a"], ["GET /b"]]
    assert [slow.route for slow in first.slowest + second.slowest] == ["GET /a", "GET /b"]
    assert meter.counts.messages == 7


def test_minutes_and_slow_requests_are_bounded() -> None:
    meter = Meter()
    for _ in range(MINUTES + 10):
        for place in range(SLOWEST * 2):
            meter.answered("GET", "/a", 200, 0.001 * (place + 1))
        assert len(meter.this_minute().slowest) == SLOWEST
        meter.turn()

    told = stats(meter)

    assert len(told["series"]["at"]) == MINUTES + 1
    assert all(len(column) == MINUTES + 1 for column in told["series"].values())
    assert len(told["slowest"]) == SLOWEST
    assert {slow["ms"] for slow in told["slowest"]} == {40.0}


def test_a_slow_request_is_forgotten_after_an_hour_and_quantiles_after_their_window() -> None:
    meter = Meter()
    meter.answered("GET", "/slow", 200, 9.0)
    meter.turn()
    for _ in range(6):
        meter.turn()
    assert stats(meter)["requests"]["last_5_minutes"] == []
    assert [row["route"] for row in stats(meter)["requests"]["last_hour"]] == ["GET /slow"]
    assert [slow["route"] for slow in stats(meter)["slowest"]] == ["GET /slow"]
    for _ in range(60):
        meter.turn()

    told = stats(meter)

    assert told["slowest"] == told["requests"]["last_hour"] == []
    assert told["requests"]["since_start"][0]["max"] == pytest.approx(9.0, rel=0.05)


def test_quantiles_come_from_what_was_measured() -> None:
    meter = Meter()
    for thousandth in range(1, 1001):
        meter.answered("GET", "/a", 200, thousandth / 1000)

    (row,) = stats(meter)["requests"]["last_5_minutes"]

    assert row["count"] == 1000
    for name, right in {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}.items():
        assert row[name] == pytest.approx(right, rel=0.05)


# What is told


def test_everything_that_is_counted_is_exported() -> None:
    assert set(COUNTS) == set(Counts.__struct_fields__)
    filled = busy().counts
    assert not [name for name in filled.__struct_fields__ if getattr(filled, name) in (0, {}, Sketch())]


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "*/*", "application/openmetrics-text;version=x"])
def test_the_text_is_what_scrapers_read(accept: str) -> None:
    text, media_type = exposition(busy(), accept)
    if "openmetrics" in accept:
        assert media_type.startswith("application/openmetrics-text; version=1.0.0")
        assert text.endswith(b"# EOF\n")
        found = {family.name for family in openmetrics(text.decode())}
    else:
        assert media_type.startswith("text/plain; version=0.0.4")
        found = {family.name for family in parse(text.decode())}
    assert found == {family.name for family in families(busy())}


def test_names_follow_the_conventions() -> None:
    for family in families(busy()):
        assert re.fullmatch(r"hubbub_[a-z]+(_[a-z]+)*", family.name)
        assert not family.name.endswith(("_total", "_ms", "_count", "_sum", "_bucket")) or family.name in (
            "hubbub_memory_total",
        ), family.name
        assert family.help
        assert not family.help.endswith(".")


def test_histograms_are_those_of_the_values() -> None:
    text = exposition(busy())[0].decode()

    def up_to(le: str) -> float | None:
        return value(text, "hubbub_http_request_duration_seconds_bucket", route="/api/threads/{id}", le=le)

    assert [up_to(le) for le in ("0.001", "0.00316", "0.01", "0.1", "1.0", "+Inf")] == [0, 1, 2, 3, 4, 4]
    assert value(text, "hubbub_http_request_duration_seconds_sum", route="/api/threads/{id}") == pytest.approx(0.327)
    assert value(text, "hubbub_batch_size_bucket", le="1.0") == 0
    assert value(text, "hubbub_batch_size_bucket", le="2.0") == 1


def test_what_an_engine_may_do_is_told_before_it_does_it() -> None:
    meter = Meter()
    meter.expect(["demo"])
    text = exposition(meter)[0].decode()

    for state in ("completed", "failed", "cancelled"):
        assert value(text, "hubbub_runs_ended_total", engine="demo", state=state) == 0
    assert value(text, "hubbub_runs_refused_total", engine="demo") == 0


def test_a_label_with_quotes_is_still_one_label() -> None:
    meter = Meter(version='1"2\\3\n4')

    assert value(exposition(meter)[0].decode(), "hubbub_info", version='1"2\\3\n4') == 1


def test_the_plain_fields_are_true() -> None:
    meter = busy()
    meter.gauges.append(lambda: [Gauge("rooms_open", "rooms", 4)])

    told = brief(meter)

    assert told["total_requests"] == 9
    assert told["active_conversations"] == 4
    assert told["average_response_time"] == pytest.approx((2 * sum(TIMES) + 1.0) / 9, rel=1e-4)
    assert told["error_rate"] == pytest.approx(1 / 9, rel=1e-4)
    assert told["metrics"]["hubbub_messages_total"] == [{"labels": {}, "value": 3}]


def test_of_a_process_that_has_done_nothing_everything_can_be_told() -> None:
    meter = Meter()

    told = brief(meter)
    assert (told["total_requests"], told["average_response_time"], told["error_rate"]) == (0, 0.0, 0.0)
    assert stats(meter)["series"]["request_s_p50"] == [None]
    assert stats(meter)["process"]["resident"] > 1 << 20
    msgspec.json.encode(stats(meter))
    exposition(meter)


def test_methods_nobody_has_heard_of_are_one() -> None:
    meter = Meter()
    for made_up in range(50):
        meter.answered(f"MADE{made_up}", "", 400, 0.1)

    assert meter.counts.requests == {"OTHER (none) 400": 50}


# A worker of its own


async def test_a_worker_without_a_hub_is_counted() -> None:
    bus, meter = LocalBus(), Meter()
    over = asyncio.Event()
    ended: list[str] = []

    def hear(run: str) -> None:
        ended.append(run)
        if len(ended) == 6:
            over.set()

    bus.listen(lambda event: None, hear)
    for n in range(5):
        prompt = Prompt(run=f"r{n}", assistant="openai", turns=())
        await bus.put(Task(run=f"r{n}", thread="t", assistant="openai", attempt=1, prompt=prompt, engine="script"))
    prompt = Prompt(run="r9", assistant="openai", turns=())
    await bus.put(Task(run="r9", thread="t", assistant="openai", attempt=2, prompt=prompt, engine="script"))
    engine = Script((0, "one "), (0, "two"), (0, Usage(5, 2)), ends=True)
    working = asyncio.create_task(Worker(bus, engine, name="script", window_s=0, meter=meter).work())
    async with asyncio.timeout(5):
        await over.wait()
    working.cancel()
    await asyncio.wait([working])

    counts = meter.counts
    assert counts.batches == {"script full": 1, "script window": 1, "script alone": 1}
    assert counts.batch_size["script"].up_to([1, 4]) == [2, 3]
    assert counts.waited_s["script"].count == 6
    assert counts.first_piece_s["script"].count == 3
    assert counts.piece_gap_s["script"].count == 3
    assert counts.batch_s["script"].count == 3
    assert counts.tokens == {"script prompt": 15, "script completion": 6}
    text = exposition(meter)[0].decode()
    assert value(text, "hubbub_batches_total", engine="script", reason="alone") == 1
    assert stats(meter)["runs"]["last_5_minutes"]["batch_size"]["script"]["max"] == pytest.approx(4, rel=0.05)


async def test_a_gap_between_pieces_begins_at_the_piece_before() -> None:
    bus, meter, over = LocalBus(), Meter(), asyncio.Event()
    bus.listen(lambda event: None, lambda run: over.set())
    prompt = Prompt(run="r", assistant="openai", turns=())
    await bus.put(Task(run="r", thread="t", assistant="openai", attempt=1, prompt=prompt))
    engine = Script(*[(0, "word ")] * 50, (0, ""))
    working = asyncio.create_task(Worker(bus, engine, meter=meter).work())
    async with asyncio.timeout(5):
        await over.wait()
    working.cancel()
    await asyncio.wait([working])

    counts = meter.counts
    assert counts.piece_gap_s["demo"].count == 49
    assert counts.first_piece_s["demo"].total + counts.piece_gap_s["demo"].total <= counts.batch_s["demo"].total


async def test_a_failed_answer_has_its_tokens_counted_too() -> None:
    bus, meter, over = LocalBus(), Meter(), asyncio.Event()
    bus.listen(lambda event: None, lambda run: over.set())
    prompt = Prompt(run="r", assistant="openai", turns=())
    await bus.put(Task(run="r", thread="t", assistant="openai", attempt=1, prompt=prompt))
    engine = Script((0, Usage(5, 0)), (0, EngineFailure("It rained.")))
    working = asyncio.create_task(Worker(bus, engine, meter=meter).work())
    async with asyncio.timeout(5):
        await over.wait()
    working.cancel()
    await asyncio.wait([working])

    assert meter.counts.tokens == {"demo prompt": 5, "demo completion": 0}
    assert meter.counts.first_piece_s == {}


class Heard(Sketch):
    """Says when something was noted."""

    heard: ClassVar[asyncio.Event]

    def note(self, value: float) -> None:
        super().note(value)
        self.heard.set()


async def test_how_late_the_loop_comes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubbub.hub.meter, "LOOK_EVERY_S", 0.01)
    meter, Heard.heard = Meter(), asyncio.Event()
    meter.counts.loop_lag_s = Heard()
    watching = asyncio.create_task(meter.watch())
    async with asyncio.timeout(5):
        await Heard.heard.wait()
        Heard.heard.clear()
        time.sleep(0.2)  # noqa: ASYNC251 -- the loop stands still
        await Heard.heard.wait()
    watching.cancel()
    await asyncio.wait([watching])

    worst = meter.counts.loop_lag_s.quantile(1.0)
    assert worst is not None
    assert worst > 0.15


async def test_a_minute_turns_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubbub.hub.meter, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(hubbub.hub.meter, "MINUTE_S", 0.005)
    meter, turned = Meter(), asyncio.Event()
    monkeypatch.setattr(meter, "turn", lambda: (Meter.turn(meter), turned.set()))
    watching = asyncio.create_task(meter.watch())
    meter.counts.messages = 4
    async with asyncio.timeout(5):
        await turned.wait()
    watching.cancel()
    await asyncio.wait([watching])

    assert meter.minutes[0].counts.messages == 4
    assert meter.minutes[0].seconds >= 0.005
