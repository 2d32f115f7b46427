"""Growth: more nodes on one MongoDB and one Redis, and more members, threads and history.

With more nodes: one thread whose readers are spread over one, two and three of them, beside one node on SQLite. All
nodes share one core here, so what counts is how much a core delivers; MongoDB, Redis and the readers have the other.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench import beside, growth, machine
from bench.compiler import NoCompiler, program
from bench.house import House, house
from bench.options import Options
from bench.result import Result, Void, compare
from bench.server import TEXT_BYTES
from bench.talker import Talker, talker

sys.path.append(str(machine.HERE.parent / "tests"))

NODES = (1, 2, 3)
READERS = 900
WINDOW = 16
ARRIVALS = 200
"""Readers who come at the same moment."""

KEY = "0123456789abcdef0123456789abcdef"


def run(options: Options) -> Iterator[Result]:
    """With more nodes, then with more of everything else."""
    for nodes in NODES[-1:] if options.short else NODES:
        for readers in options.readers or ((60,) if options.short else (READERS,)):
            case = f"{nodes} node{'s' if nodes > 1 else ''}, {readers:,} readers"
            if why := beside.missing():
                yield Result("scale", case, "deliveries/core s", skipped=why)
                continue
            try:
                yield _spread(case, nodes, readers, options)
            except NoCompiler as missing:
                yield Result("scale", case, "deliveries/core s", skipped=str(missing))
            except Void as void:
                yield Result("scale", case, "deliveries/core s", void=str(void))
    yield from growth.run(options)


@dataclass(slots=True)
class Spread:
    """Nodes, and readers of the lobby on them. `told` has of every round the deliveries in a second, and the seconds a
    core worked for one of them: of the nodes, of MongoDB and of Redis."""

    nodes: list[House]
    beside: list[int]
    crowd: Talker
    rates: list[float]
    costs: list[list[float]]

    def round(self, line: str) -> float:
        """Deliveries in a second of a core the nodes had."""
        before = self._worked()
        self.crowd.ask(line)
        told = self.crowd.told[-1]
        costs = [(after - began) / told["deliveries"] for began, after in zip(before, self._worked(), strict=True)]
        self.rates.append(told["rate"])
        self.costs.append(costs)
        return 1 / costs[0]

    def _worked(self) -> list[float]:
        nodes = sum(machine.core_time(node.pid)[0] for node in self.nodes)
        return [nodes, *(machine.core_time(pid)[0] for pid in self.beside)]


def _spread(case: str, nodes: int, readers: int, options: Options) -> Result:
    seconds = options.seconds or (0.2 if options.short else 2.0)
    line = f"round {seconds} {10**9} {(options.windows or (WINDOW,))[0]}"
    result = Result("scale", case, "deliveries/core s")
    with contextlib.ExitStack() as stack:
        alone = _read(stack, [stack.enter_context(house())], [], readers)
        uri, redis, pids = beside.both(stack, {machine.LOAD_CORE})
        shared = {"HUBBUB_DATABASE_URI": uri, "HUBBUB_REDIS_URL": redis, "HUBBUB_JWT_SECRET_KEY": KEY}
        several = [stack.enter_context(house(settings=shared)) for _ in range(nodes)]
        ours = _read(stack, several, pids, readers)
        for side in (ours, alone):
            side.round(f"round {min(seconds, 0.3)} {10**9} 1")
            side.rates.clear()
            side.costs.clear()
        rounds = options.rounds or (1 if options.short else 5)
        compare(result, rounds, lambda: ours.round(line), lambda: alone.round(line))
    mine, mongo, redis_ = (statistics.median(cost) * 1e6 for cost in zip(*ours.costs, strict=True))
    result.notes = {
        "deliveries/s": f"{statistics.median(ours.rates):,.0f}, alone on SQLite {statistics.median(alone.rates):,.0f}",
        "µs a delivery": f"{mine:.2f}, MongoDB {mongo:.2f}, Redis {redis_:.2f}",
    }
    return result


def _read(stack: contextlib.ExitStack, nodes: list[House], beside: list[int], readers: int) -> Spread:
    first, *others = nodes
    also = [word for node in others for word in ("--also", node.http)]
    command = [program("readers"), first.http, readers, TEXT_BYTES, "--together", ARRIVALS, *also]
    crowd = stack.enter_context(talker(command, machine.LOAD_CORE))
    crowd.hear()
    crowd.told.clear()
    return Spread(nodes, beside, crowd, [], [])
