"""A burst at once, then a steady rate, and the wait that is told is the wait that is needed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubbub.core.pace import Pace


def test_a_burst_is_allowed_at_once_and_not_one_more() -> None:
    pace = Pace(rate=20, burst=40, now=100)

    assert [pace.take(100) for _ in range(40)] == [0.0] * 40
    assert pace.take(100) > 0


def test_after_the_burst_it_goes_on_at_the_rate() -> None:
    pace = Pace(rate=2, burst=3, now=0)
    for _ in range(3):
        pace.take(0)

    allowed = [now for now in (0.25 * quarter for quarter in range(1, 17)) if pace.take(now) == 0.0]

    assert allowed == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_whoever_waits_as_long_as_they_were_told_is_allowed() -> None:
    pace = Pace(rate=4, burst=1, now=0)
    pace.take(0)

    wait_s = pace.take(0.1)

    assert wait_s == 0.15
    assert pace.take(0.1 + wait_s) == 0.0


def test_a_refusal_costs_nothing() -> None:
    pace = Pace(rate=1, burst=1, now=0)
    pace.take(0)

    for _ in range(100):
        pace.take(0.5)

    assert pace.take(1.0) == 0.0


def test_rest_earns_a_burst_and_never_more() -> None:
    pace = Pace(rate=10, burst=5, now=0)

    assert [pace.take(3600) for _ in range(6)][:5] == [0.0] * 5
    assert pace.take(3600) > 0


@given(
    steps=st.lists(st.integers(0, 2000), max_size=200),
    rate=st.integers(1, 50),
    burst=st.integers(1, 50),
)
def test_in_any_stretch_of_time_no_more_than_burst_and_rate_are_allowed(
    steps: list[int], rate: int, burst: int
) -> None:
    pace, now, times = Pace(rate, burst, 0), 0.0, []
    for step in steps:
        now += step / 1000
        if pace.take(now) == 0.0:
            times.append(now)

    for i, start in enumerate(times):
        for count, end in enumerate(times[i:], 1):
            assert count <= burst + rate * (end - start) + 1e-6
