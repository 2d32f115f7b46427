"""A model's answer through Hubbub, beside the same answer asked for directly: what is added, and what it costs.

A real llama.cpp server writes with the tiny model of the tests. Between it and whoever asks stands `relay.py`, which
stamps each piece as it leaves, so that a piece's way is measured from there to the reader (`asker.py`) within one run.
Hubbub has a core; model, relay and readers share the other, on which the model is done before its pieces are due.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine, proxy
from bench.house import house
from bench.lags import Lags
from bench.options import Options
from bench.policies import percentile
from bench.result import Result, Void
from bench.talker import Talker, talker

WIRES = ("ws", "tcp", "sse")
AT_ONCE = (1, 8)
PER_S = 100.0
"""Tokens a second of each answer: a fast reader's model."""

FIRST_MS = 2.0
EACH_MS = 0.3
OTHER = "LiteLLM"
PER_CORE = 10.0
"""How many times as many tokens Hubbub is to pass on in a second of its core."""


@dataclass(frozen=True, slots=True)
class Extent:
    """`asks`: questions of each asker in a round."""

    tokens: int
    asks: int
    rounds: int


SHORT = Extent(tokens=10, asks=2, rounds=1)
FULL = Extent(tokens=50, asks=8, rounds=6)


NOISE = 0.15
"""When others had the server's core for a greater share of the time it wanted to run, nothing is said of goals."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an answer. `pid`: of the server on the way, whose time on its core counts; None: the asker's own."""

    name: str
    kind: str
    http: int
    tcp: int
    pid: int | None
    key: str = ""


@dataclass(slots=True)
class Side:
    """A way, those who ask on it, and what came of it."""

    way: Way
    talker: Talker
    lags: Lags = field(default_factory=Lags)
    rounds: list[dict[str, float]] = field(default_factory=list)

    def play(self, asks: int, relay: Talker) -> None:
        """A round. Raises Void."""
        lags, self.talker.told = Lags(), []
        had, waited = machine.core_time(self.way.pid) if self.way.pid else (0.0, 0.0)
        for _ in range(asks):
            self.talker.ask("all")
        if self.way.pid:
            now = machine.core_time(self.way.pid)
            had, waited = now[0] - had, now[1] - waited
        else:
            had = sum(told["cpu_s"] for told in self.talker.told)
        relay.ask("record")
        record = relay.told.pop()["record"]
        for told in self.talker.told:
            lags.add(record, told["answers"])
        self.lags.first += lags.first
        self.lags.each += lags.each
        self.rounds.append(
            {
                "first": statistics.median(lags.first),
                "each": statistics.median(lags.each),
                "cpu": had / lags.tokens,
                "waited": waited / (had + waited),
            }
        )


def run(options: Options) -> Iterator[Result]:
    """Each wire, one answer at a time and several."""
    for module in ("xllamacpp", "gguf"):
        if importlib.util.find_spec(module) is None:
            yield Result("stream", "a real model", "ms", skipped=f"there is no {module} here")
            return
    whole = SHORT if options.short else FULL
    extent = Extent(whole.tokens, whole.asks, options.rounds or whole.rounds)
    several = options.readers or AT_ONCE
    with contextlib.ExitStack() as open_:
        home = open_.enter_context(machine.directory())
        model_port = open_.enter_context(model(home))
        between, port = open_.enter_context(relay(model_port, extent.tokens))
        server = open_.enter_context(house(settings=_settings(port, max(several))))
        ways = [Way("direct", "chat", port, 0, None)]
        ways += [Way(wire, wire, server.http, server.tcp, server.pid) for wire in WIRES]
        if not options.short:
            try:
                proxy_port, pid, key = open_.enter_context(proxy.litellm(port, home))
                ways.append(Way(OTHER, "chat", proxy_port, 0, pid, key))
            except proxy.Missing as missing:
                yield Result("stream", OTHER, "ms", skipped=str(missing))
        for at_once in several:
            try:
                yield from _measured(ways, at_once, extent, between)
            except Void as void:
                yield Result("stream", f"{at_once} at once", "ms", void=str(void))


def _settings(port: int, at_once: int) -> dict[str, str]:
    return {
        "HUBBUB_ENGINE": "openai",
        "HUBBUB_OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "HUBBUB_OPENAI_MODEL": "tiny",
        "HUBBUB_OPENAI_AT_ONCE": str(at_once),
        "HUBBUB_MAX_HISTORY_LENGTH": "1",
    }


def _measured(ways: list[Way], at_once: int, extent: Extent, between: Talker) -> Iterator[Result]:
    """All ways by turns."""
    with contextlib.ExitStack() as open_:
        sides = [Side(way, open_.enter_context(asker(way, at_once))) for way in ways]
        for side in sides:  # once for nothing: connections, caches, threads that are made when they are first needed
            side.play(1, between)
            side.lags, side.rounds = Lags(), []
        for number in range(extent.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                side.play(extent.asks, between)
    direct, *others = sides
    for side in others:
        yield from _lines(side, direct, at_once)
    for side in others:
        if side.way.name == OTHER:
            yield _per_core(others[0], side, at_once)


def _lines(side: Side, direct: Side, at_once: int) -> Iterator[Result]:
    head = f"{side.way.name}, {at_once} at once"
    waited = statistics.median(one["waited"] for one in side.rounds)
    judged = side.way.name != OTHER and waited <= NOISE
    for what, about, goal in (("first", "first piece", FIRST_MS), ("each", "a piece's way", EACH_MS)):
        ours, floor = getattr(side.lags, what), getattr(direct.lags, what)
        result = Result("stream", f"{head}, {about}", "ms", goal=goal if judged else None)
        result.less_is_better, result.goal_on = True, "added"
        result.ours, result.floor = statistics.median(ours) * 1e3, statistics.median(floor) * 1e3
        result.ratios = _ratios(side, direct, what)
        result.notes = {
            **{f"p{share}": f"{_ms(ours, share)}/{_ms(floor, share)} ms" for share in (10, 99)},
            "pieces": len(ours),
            "kept from its core": f"{waited:.0%}" + (", so no verdict" if waited > NOISE else ""),
        }
        yield result
    result = Result("stream", f"{head}, time on the core", "µs a token", less_is_better=True)
    result.ours = statistics.median(one["cpu"] for one in side.rounds) * 1e6
    result.floor = statistics.median(one["cpu"] for one in direct.rounds) * 1e6
    result.ratios = _ratios(side, direct, "cpu")
    yield result


def _ms(seconds: list[float], share: int) -> str:
    return f"{percentile(seconds, share / 100) * 1e3:.2f}"


def _ratios(side: Side, direct: Side, what: str) -> list[float]:
    return [ours[what] / floor[what] for ours, floor in zip(side.rounds, direct.rounds, strict=True)]


def _per_core(ours: Side, other: Side, at_once: int) -> Result:
    """The same work by both, so by time on the core."""
    result = Result("stream", f"{at_once} at once, a core, {ours.way.name} / {OTHER}", "tokens/s", goal=PER_CORE)
    result.ours = 1 / statistics.median(one["cpu"] for one in ours.rounds)
    result.floor = 1 / statistics.median(one["cpu"] for one in other.rounds)
    result.ratios = _ratios(other, ours, "cpu")
    return result


@contextlib.contextmanager
def model(home: Path) -> Iterator[int]:
    """llama.cpp's own server with the tiny model: its port."""
    from tests.support import tiny_model
    from tests.support.llama import PROGRAM

    path = tiny_model.write(home / "tiny.gguf")
    with _running([sys.executable, "-c", PROGRAM, path]) as process:
        yield int(machine.line_from(process.stdout).rstrip("/\n").rpartition(":")[2])


@contextlib.contextmanager
def relay(model_port: int, tokens: int) -> Iterator[tuple[Talker, int]]:
    with _running([sys.executable, "-m", "bench.relay", model_port, tokens, PER_S]) as process:
        yield Talker(process), int(machine.line_from(process.stdout))


@contextlib.contextmanager
def _running(command: list[object]) -> Iterator[subprocess.Popen[str]]:
    process = machine.start(
        [str(part) for part in command],
        machine.LOAD_CORE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        machine.stop(process)


@contextlib.contextmanager
def asker(way: Way, at_once: int) -> Iterator[Talker]:
    """So many who are welcome already."""
    command = [sys.executable, "-m", "bench.asker", way.kind, way.http, way.tcp, at_once, way.key]
    with talker(command, machine.LOAD_CORE) as made:
        made.hear()
        made.told.clear()
        yield made
