"""How near batching comes to the best there is: traces replayed against the real bus and worker, the best computed.

The engine takes `S(b)` seconds for b answers (`replay.py`). A trace is replayed in real time, and the same trace is
given to `policies.py`, which finds the least sum of latencies that anybody could reach who knew every arrival before,
and what a worker would reach that never waits. Many traces are replayed at once: each has a bus, a worker and an
engine of its own, which sleep nearly all of the time.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import arrivals, machine
from bench.first_words import first_words
from bench.options import Options
from bench.policies import affine, best, in_time, percentile, simulated
from bench.replay import Played, Stage, TimedEngine, closed_loop, replay
from bench.result import Result, Void
from hubbub import process
from hubbub.engines.script import ScriptEngine

COST = affine(0.5, 0.025)
"""0.525 s for one answer, 0.6 s for four: a program for which batches are worth a lot."""

BUSY_COST = affine(0.05, 0.0025)
"""A tenth of it, to see many batches follow each other."""

LOADS = (0.1, 0.3, 0.5, 0.7, 0.9)
WINDOWS_MS = (0, 25, 250, 1000)
PEOPLE = 4
PATIENCE = 2.0
"""Times S(4): an answer that takes longer is not counted as good."""

SCRIPT = [sys.executable, "-m", "hubbub.engines.mock_script", "--seed", "7"]
SCRIPT_ASKED = "[[first=0.2 delay=0.1 words=4]] one two three four"
SCRIPT_ANSWER = "one two three four "


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done. `seconds` is the length of a trace, `traces` how many there are of each kind."""

    seconds: float
    rounds: int
    traces: int
    batches: int
    asked: int
    script_bursts: int
    calibrations: int


SHORT = Extent(seconds=2.5, rounds=1, traces=1, batches=20, asked=10, script_bursts=1, calibrations=1)
FULL = Extent(seconds=120.0, rounds=3, traces=8, batches=150, asked=75, script_bursts=20, calibrations=5)


def run(options: Options) -> Iterator[Result]:
    """The eight figures, other windows on the same traces, and a real program."""
    whole = SHORT if options.short else FULL
    extent = replace(whole, seconds=options.seconds or whole.seconds, rounds=options.rounds or whole.rounds)
    for part in (_saturated, _first_words, _replayed, _script):
        try:
            yield from part(extent)
        except* Void as voids:
            reason = str(voids.exceptions[0])
            yield Result("batching", part.__name__.strip("_").replace("_", " "), "s", void=reason)


def _saturated(extent: Extent) -> Iterator[Result]:
    """Everything is there from the beginning."""
    rate = Result("batching", "always four to do", "answers/s", goal=0.97)
    gap = Result("batching", "gap between two batches, p99", "ms", goal=5.0, less_is_better=True, goal_on="ours")
    rate.floor, rates, gaps = len(BUSY_COST) / BUSY_COST[-1], [], []
    for _ in range(extent.rounds):
        engine = TimedEngine(BUSY_COST)
        tasks = extent.batches * len(BUSY_COST)
        played = process.run(_within(tasks, replay([0.0] * tasks, Stage(engine, tasks=tasks))))
        rates.append(tasks / played.seconds)
        gaps += engine.gaps()
    rate.ours, rate.ratios = statistics.median(rates), [one / rate.floor for one in rates]
    rate.notes = {"floor is": "batches of four without a pause"}
    gap.ours = percentile(gaps, 0.99) * 1e3
    gap.notes = {"p50": f"{percentile(gaps, 0.5) * 1e3:.2f} ms", "gaps": len(gaps)}
    yield rate
    yield gap


def _first_words(extent: Extent) -> Iterator[Result]:
    delays: list[float] = []
    for _ in range(extent.rounds):
        with machine.directory() as home:
            found, wrong = process.run(first_words(home, BUSY_COST, PEOPLE, extent.asked))
        require_right(wrong)
        delays += found
    for share, goal in ((0.5, 5.0), (0.99, 25.0)):
        case = f"first word, engine → reader, p{share * 100:.0f}"
        result = Result("batching", case, "ms", goal=goal, less_is_better=True, goal_on="ours")
        result.ours = percentile(delays, share) * 1e3
        result.notes = {"answers": len(delays), "slowest": f"{max(delays) * 1e3:.1f} ms"}
        yield result


@dataclass(slots=True)
class Trace:
    """Arrivals, and what came of them with each window (None: the worker's own)."""

    name: str
    arrivals: list[float]
    played: dict[float | None, Played]

    @property
    def best(self) -> float:
        """The mean latency of who knows everything."""
        return best(self.arrivals, COST) / len(self.arrivals)

    def mean(self, window_s: float | None = None) -> float:
        return statistics.fmean(self.played[window_s].latencies)


def _replayed(extent: Extent) -> Iterator[Result]:
    traces = process.run(_play(extent))
    everything = [played for of_one in traces.values() for trace in of_one for played in trace.played.values()]
    for load in LOADS:
        same = traces[f"load {load}"]
        yield _compared(f"load {load}, mean / best", 1.2, same, Trace.mean, lambda trace: trace.best)
        yield _compared(f"load {load}, p95 / greedy's", 1.25, same, _p95, _greedy_p95)
    yield _compared("bursts of four, mean / best", 1.05, traces["bursts"], Trace.mean, lambda trace: trace.best)
    yield _closed(traces["closed loop"])
    yield _good({load: traces[f"load {load}"] for load in LOADS})
    for window_ms in WINDOWS_MS:
        yield _window(window_ms, [of_one[0] for of_one in traces.values() if window_ms / 1000 in of_one[0].played])
    late = [delay for played in everything for delay in played.late]
    result = Result("batching", "all of it, each character checked", "answers")
    result.ours = sum(len(played.latencies) for played in everything)
    result.notes = {"put late, p99": f"{percentile(late, 0.99) * 1e3:.2f} ms"}
    yield result


async def _play(extent: Extent) -> dict[str, list[Trace]]:
    """Replay every trace with every window it is to be replayed with, all at once."""
    names = [*(f"load {load}" for load in LOADS), "bursts", "closed loop"]
    compared = {"load 0.1", "load 0.5", "load 0.9", "bursts", "closed loop"}
    traces = {
        name: [Trace(name, _arrivals(name, extent.seconds, seed), {}) for seed in range(extent.traces)]
        for name in names
    }
    async with asyncio.TaskGroup() as playing:
        for name, of_one in traces.items():
            for seed, trace in enumerate(of_one):
                windows = [ms / 1000 for ms in WINDOWS_MS] if seed == 0 and name in compared else []
                for window_s in (None, *windows):
                    playing.create_task(_play_one(trace, window_s, extent.seconds))
    return traces


def _arrivals(name: str, seconds: float, seed: int) -> list[float]:
    """Empty for the closed loop, where they depend on the answers."""
    if name == "bursts":
        return arrivals.bursts(arrivals.rate(0.5, COST), seconds, seed)
    if name == "closed loop":
        return []
    return arrivals.poisson(arrivals.rate(float(name.removeprefix("load ")), COST), seconds, seed)


async def _play_one(trace: Trace, window_s: float | None, seconds: float) -> None:
    tasks = max(len(trace.arrivals), PEOPLE)
    stage = Stage(TimedEngine(COST), tasks=tasks, window_s=window_s)
    playing = replay(trace.arrivals, stage) if trace.arrivals else closed_loop(PEOPLE, seconds, stage)
    trace.played[window_s] = await _within(tasks, playing, seconds)


async def _within(tasks: int, playing: Coroutine[Any, Any, Played], seconds: float = 0.0) -> Played:
    """What came of it. Raises Void: an answer never ended, or was not what was written."""
    try:
        async with asyncio.timeout(seconds + 10 + tasks * COST[0]):
            played = await playing
    except TimeoutError:
        raise Void("an answer never ended") from None
    require_right(played.wrong)
    return played


def require_right(wrong: Sequence[str]) -> None:
    if wrong:
        raise Void(". ".join(wrong[:3]))


def _compared(
    case: str, goal: float, traces: list[Trace], ours: Callable[[Trace], float], floor: Callable[[Trace], float]
) -> Result:
    """One ratio for each trace."""
    result = Result("batching", case, "s", goal=goal, less_is_better=True)
    pairs = [(ours(trace), floor(trace)) for trace in traces]
    result.ours = statistics.median(pair[0] for pair in pairs)
    result.floor = statistics.median(pair[1] for pair in pairs)
    result.ratios = [pair[0] / pair[1] for pair in pairs]
    batches = [size for trace in traces for size in trace.played[None].batches]
    result.notes = {"answers": sum(len(trace.arrivals) for trace in traces), "in a batch": statistics.fmean(batches)}
    return result


def _p95(trace: Trace) -> float:
    return percentile(trace.played[None].latencies, 0.95)


def _greedy_p95(trace: Trace) -> float:
    return percentile(simulated(trace.arrivals, COST), 0.95)


def _per_s(played: Played) -> float:
    return len(played.latencies) / played.seconds


def _closed(traces: list[Trace]) -> Result:
    result = Result("batching", f"{PEOPLE} who ask again at once", "answers/s", goal=0.97)
    result.floor = PEOPLE / COST[PEOPLE - 1]
    rates = [_per_s(trace.played[None]) for trace in traces]
    result.ours, result.ratios = statistics.median(rates), [rate / result.floor for rate in rates]
    result.notes = {"floor is": "all of them in every batch"}
    return result


def _good(loads: Mapping[float, list[Trace]]) -> Result:
    """The share of answers within twice S(4), beside what the greedy rule would reach; at the worst of all loads. Near
    full load it depends on chance where a long queue begins: a single trace would say nothing."""
    limit_s = PATIENCE * COST[-1]
    result = Result("batching", f"within {limit_s:g} s / greedy's, worst", "of all", goal=0.98)
    pairs = {}
    for load, traces in loads.items():
        ours = [latency for trace in traces for latency in trace.played[None].latencies]
        theirs = [latency for trace in traces for latency in simulated(trace.arrivals, COST)]
        pairs[load] = in_time(ours, limit_s), in_time(theirs, limit_s)
    result.ours, result.floor = min(pairs.values(), key=lambda pair: pair[0] / (pair[1] or 1))
    result.ratios = [result.ours / (result.floor or 1)]
    result.notes = {f"load {load}": f"{ours / (floor or 1):.3f}" for load, (ours, floor) in pairs.items()}
    return result


def _window(window_ms: int, traces: list[Trace]) -> Result:
    """The same traces with a worker whose window is fixed; each note is its mean latency / best, or its rate / most."""
    window_s = window_ms / 1000
    open_loop = [trace for trace in traces if trace.arrivals]
    result = Result("batching", f"with a window of {window_ms} ms", "s")
    result.ours = statistics.fmean(latency for one in open_loop for latency in one.played[window_s].latencies)
    result.floor = sum(one.best * len(one.arrivals) for one in open_loop) / sum(len(one.arrivals) for one in open_loop)
    result.ratios = [result.ours / result.floor]
    for trace in traces:
        ratio = trace.mean(window_s) / trace.best if trace.arrivals else _per_s(trace.played[window_s])
        result.notes[trace.name] = f"{ratio:.2f}" if trace.arrivals else f"{ratio * COST[-1] / PEOPLE:.2f}"
    return result


def _script(extent: Extent) -> Iterator[Result]:
    """Bursts for the mock program, run as any program is. What a batch of it takes is measured first."""
    with machine.directory() as directory:
        yield process.run(_play_script(extent, directory))


async def _play_script(extent: Extent, directory: Path) -> Result:
    engine = ScriptEngine(SCRIPT, directory=directory)

    def stage() -> Stage:
        return Stage(engine, expected=lambda run: SCRIPT_ANSWER, asked=SCRIPT_ASKED)

    cost: list[float] = []
    for size in range(1, engine.batch + 1):
        took = []
        for _ in range(extent.calibrations):
            played = await _within(size, replay([0.0] * size, stage()))
            took += [max(played.latencies)]
        cost.append(statistics.median(took))
    seconds = extent.script_bursts * arrivals.BURST / arrivals.rate(0.5, cost)
    trace = arrivals.bursts(arrivals.rate(0.5, cost), seconds, 1)
    played = await _within(len(trace), replay(trace, stage()), seconds)
    result = Result("batching", "bursts, the mock program", "s", goal=1.05, less_is_better=True)
    result.ours, result.floor = statistics.fmean(played.latencies), best(trace, cost) / len(trace)
    result.ratios = [result.ours / result.floor]
    result.notes = {
        "answers": len(trace),
        "in a batch": statistics.fmean(played.batches),
        "a batch takes": " ".join(f"{took:.3f}" for took in cost) + " s",
    }
    return result
