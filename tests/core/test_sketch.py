"""Sketches: any quantile within 5 %, counts that add up, and what has come since an earlier copy."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hubbub.core.sketch import Sketch

values = some.lists(some.floats(2e-6, 9e5), min_size=1, max_size=200)
SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)


def of(*them: float) -> Sketch:
    sketch = Sketch()
    for one in them:
        sketch.note(one)
    return sketch


@given(values)
def test_any_quantile_is_within_five_percent_of_a_value_that_was_there(them: list[float]) -> None:
    sketch = of(*them)

    for share in SHARES:
        right = sorted(them)[max(1, ceil(share * len(them))) - 1]
        assert sketch.quantile(share) == pytest.approx(right, rel=0.05)
    assert sketch.count == len(them)
    assert sketch.mean == pytest.approx(sum(them) / len(them))


@given(values, values)
def test_two_add_up_and_the_later_part_comes_out_again(before: list[float], later: list[float]) -> None:
    whole = of(*before, *later)

    assert of(*before).plus(of(*later)).counts == whole.counts
    since = whole.since(of(*before))
    assert since.counts == of(*later).counts
    assert since.total == pytest.approx(sum(later), rel=1e-6, abs=1e-6 * sum(before))


def test_what_was_added_up_is_left_as_it_was() -> None:
    one, other = of(1), of(1, 2)

    one.plus(other).note(1)

    assert (one, other) == (of(1), of(1, 2))


def test_how_many_do_not_exceed_a_bound_is_exact_at_decades_and_small_whole_numbers() -> None:
    assert of(*range(1, 11)).up_to([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == list(range(1, 11))
    assert of(0.0009, 0.001, 0.0011, 0.1, 0.11, 1000).up_to([0.001, 0.1, 1, 1000]) == [2, 4, 5, 6]


def test_nothing_has_no_quantile_and_no_mean() -> None:
    assert Sketch().quantile(0.5) is None
    assert Sketch().mean is None


def test_what_is_out_of_range_counts_as_its_end() -> None:
    sketch = of(0, -1, 1e-9, 1e12)

    assert sketch.count == 4
    assert len(sketch.counts) == 2
    assert sketch.quantile(0.5) == pytest.approx(1e-6, rel=0.1)
