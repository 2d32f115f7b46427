"""What the batching bench compares with: small cases by hand, others with every possibility tried."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from bench import arrivals
from bench.policies import affine, best, in_time, percentile, simulated

COST = affine(2.0, 0.1)  # 2.1, 2.2, 2.3, 2.4


def tried(trace: Sequence[float], cost: Sequence[float]) -> float:
    """The least sum of latencies, found by trying every way to cut the trace into batches."""
    return min(sum(latencies(trace, cost, sizes)) for sizes in cuts(len(trace), len(cost)))


def cuts(tasks: int, most: int) -> Iterator[list[int]]:
    if tasks == 0:
        yield []
    for size in range(1, min(tasks, most) + 1):
        for rest in cuts(tasks - size, most):
            yield [size, *rest]


def latencies(trace: Sequence[float], cost: Sequence[float], sizes: list[int]) -> Iterator[float]:
    at, free = 0, 0.0
    for size in sizes:
        batch = trace[at : at + size]
        free = max(free, batch[-1]) + cost[size - 1]
        yield from (free - arrival for arrival in batch)
        at += size


def test_a_task_alone_takes_what_a_batch_of_one_takes() -> None:
    assert best([5.0], COST) == pytest.approx(2.1)
    assert simulated([5.0], COST) == pytest.approx([2.1])
    assert simulated([5.0], COST, window_s=0.5) == pytest.approx([2.6])


def test_who_knows_that_another_comes_soon_waits_for_it() -> None:
    trace = [0.0, 0.1]

    assert best(trace, COST) == pytest.approx(2.3 + 2.2)  # together at 0.1, there at 2.3
    assert simulated(trace, COST) == pytest.approx([2.1, 4.1])  # the second one begins at 2.1
    assert simulated(trace, COST, window_s=0.1) == pytest.approx([2.3, 2.2])


def test_who_knows_that_another_comes_late_does_not() -> None:
    trace = [0.0, 2.0]

    assert best(trace, COST) == pytest.approx(2.1 + 2.2)
    assert simulated(trace, COST) == pytest.approx([2.1, 2.2])
    assert simulated(trace, COST, window_s=1.0) == pytest.approx([3.1, 3.2])  # 1.0 to 3.1; the other then at once


def test_a_full_batch_begins_without_waiting_and_a_fifth_task_waits_for_its_end() -> None:
    trace = [0.0, 0.1, 0.2, 0.3, 0.4]

    assert simulated(trace, COST, window_s=1.0) == pytest.approx([2.7, 2.6, 2.5, 2.4, 4.4])
    assert best(trace, COST) == pytest.approx(2.7 + 2.6 + 2.5 + 2.4 + 4.4)


def test_where_a_batch_saves_nothing_nobody_waits() -> None:
    cost = affine(0.0, 1.0)
    trace = [0.0, 0.5, 0.6]

    assert best(trace, cost) == pytest.approx(1.0 + 1.5 + 2.4)
    assert best(trace, cost) <= sum(simulated(trace, cost))


@pytest.mark.parametrize("seed", range(150))
def test_the_best_is_what_trying_everything_finds(seed: int) -> None:
    chance = random.Random(seed)
    cost = list(itertools.accumulate(chance.uniform(0, 1) for _ in range(chance.randint(1, 4))))
    trace = sorted(chance.uniform(0, chance.choice((0.5, 3, 8))) for _ in range(chance.randint(1, 9)))

    assert best(trace, cost) == pytest.approx(tried(trace, cost))


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9, 1.2])
def test_no_rule_is_better_than_the_best(rho: float) -> None:
    for seed in range(5):
        for make in (arrivals.poisson, arrivals.bursts):
            trace = make(arrivals.rate(rho, COST), 200.0, seed)
            least = best(trace, COST)
            for window_s in (0.0, 0.025, 0.25, 1.0):
                assert sum(simulated(trace, COST, window_s)) >= least - 1e-6


def test_a_worker_that_always_has_four_to_do_writes_four_at_a_time() -> None:
    assert simulated([0.0] * 8, COST) == pytest.approx([2.4] * 4 + [4.8] * 4)
    assert best([0.0] * 8, COST) == pytest.approx(4 * 2.4 + 4 * 4.8)


def test_a_trace_is_the_same_for_the_same_seed_and_as_dense_as_asked() -> None:
    trace = arrivals.poisson(10.0, 1000.0, 3)

    assert trace == arrivals.poisson(10.0, 1000.0, 3) != arrivals.poisson(10.0, 1000.0, 4)
    assert trace == sorted(trace)
    assert len(trace) == pytest.approx(10_000, rel=0.05)
    assert arrivals.rate(0.5, COST) == pytest.approx(0.5 * 4 / 2.4)


def test_a_burst_is_four_tasks_in_twenty_milliseconds() -> None:
    trace = arrivals.bursts(1.0, 4000.0, 3)

    assert len(trace) % 4 == 0
    assert len(trace) == pytest.approx(4000, rel=0.1)
    alone = [trace[at : at + 4] for at in range(0, len(trace), 4)]
    assert sum(burst[-1] - burst[0] <= 0.02 for burst in alone) > 0.98 * len(alone)  # few bursts fall into each other
    assert sum(after[0] - burst[-1] for burst, after in itertools.pairwise(alone)) > 3000


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert in_time(values, 25.0) == 0.25
