"""Fan-out: one frame to N readers of one thread, through the whole server, beside one `send()` a reader in C.

Two kinds: `live` (pieces of an answer, nothing stored) and `durable` (messages: stored with an fsync, acked, heard),
each with one frame in flight and with a window of 16: the next frame goes once every reader has the one before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench import machine
from bench.compiler import NoCompiler, program
from bench.house import house
from bench.options import Options
from bench.result import BUSY, Result, Void, compare
from bench.server import TEXT_BYTES

READERS = (10, 100, 1000, 5000)
WINDOWS = (1, 16)
TYPES = {"live": "run.delta", "durable": "message"}
FRAMES = 1200
"""Frames of a round at most: an answer is cut at 128 KiB, and its one message goes to every reader too."""

GOALS = {
    ("live", 1000, 1): 0.70,
    ("live", 1000, 16): 5.0,
    ("durable", 1000, 1): 0.50,
    ("durable", 1000, 16): 5.0,
    ("durable", 100, 1): 0.33,
    ("durable", 100, 16): 3.0,
}


@dataclass
class Crowd:
    """N readers and a sender on one server: the generator `readers`."""

    process: subprocess.Popen[str]
    rounds: list[dict[str, float]] = field(default_factory=list)
    frame_bytes: int = 0

    def median(self, what: str) -> float:
        return median(round[what] for round in self.rounds)

    def per_cpu_s(self) -> float:
        """Deliveries in a second of the server's time: steadier than the rate while others use the machine."""
        return median(round["rate"] / max(round["server_cpu"], 0.001) for round in self.rounds)

    def limited_by_itself(self) -> bool:
        """Was it the generator that was measured? Only if its core was full and the server's was not."""
        return self.median("generator_cpu") > BUSY > self.median("server_cpu")

    def play(self, seconds: float, frames: int, window: int) -> float:
        """One round; deliveries a second. Raises Void."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"round {seconds} {frames} {window}\n")
        self.process.stdin.flush()
        told = answer_of(self.process)
        self.rounds.append(told)
        self.frame_bytes = told["frame_bytes"]
        return float(told["rate"])


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of a generator. Raises Void when it saw something wrong."""
    told: dict[str, Any] = json.loads(machine.line_from(process.stdout))
    if told["void"]:
        raise Void(told["void"])
    return told


@contextlib.contextmanager
def crowd(port: int, readers: int, *options: str) -> Iterator[Crowd]:
    """Everybody connected and welcome."""
    process = machine.start(
        [program("readers"), str(port), str(readers), str(TEXT_BYTES), *options],
        machine.LOAD_CORE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        answer_of(process)
        yield Crowd(process)
    finally:
        machine.stop(process)


@contextlib.contextmanager
def our_crowd(kind: str, readers: int) -> Iterator[Crowd]:
    with house(engine=kind == "live") as server:
        options = ["--pid", str(server.pid)]
        if server.control:
            options += ["--control", str(server.control)]
        with crowd(server.http, readers, *options) as made:
            yield made


@contextlib.contextmanager
def floor_crowd(kind: str, readers: int, frame_bytes: int) -> Iterator[Crowd]:
    """On the C loop, whose frames are as long as ours."""
    process = machine.start(
        [program("fanout"), str(frame_bytes), "message", str(TEXT_BYTES)],
        machine.SERVER_CORE,
        stdout=subprocess.PIPE,
    )
    try:
        port = int(machine.line_from(process.stdout))
        with crowd(port, readers, "--pid", str(process.pid)) as made:
            yield made
    finally:
        machine.stop(process)


def run(options: Options) -> Iterator[Result]:
    """Every kind, size and window."""
    for kind in options.kinds or tuple(TYPES):
        for readers in options.readers or ((50,) if options.short else READERS):
            try:
                yield from _room(kind, readers, options)
            except NoCompiler as missing:
                yield Result("fanout", kind, "deliveries/s", skipped=str(missing))
                return
            except Void as void:
                yield Result("fanout", f"{kind}, {readers:,} readers", "deliveries/s", void=str(void))


def _room(kind: str, readers: int, options: Options) -> Iterator[Result]:
    seconds = options.seconds or (0.05 if options.short else 1.0)
    rounds = options.rounds or (1 if options.short else 5)
    frames = FRAMES if kind == "live" else 10**9
    with our_crowd(kind, readers) as ours:
        ours.play(min(seconds, 0.3), frames, 1)  # warms up, and says how long our frames are
        with floor_crowd(kind, readers, ours.frame_bytes) as floor:
            floor.play(min(seconds, 0.3), frames, 1)
            for window in options.windows or WINDOWS:
                ours.rounds.clear()
                floor.rounds.clear()
                result = Result(
                    "fanout",
                    f"{kind}, {readers:,} readers, {window} in flight",
                    "deliveries/s",
                    goal=GOALS.get((kind, readers, window)),
                )

                def play(side: Crowd, window: int = window) -> float:
                    return side.play(seconds, frames, window)

                compare(result, rounds, lambda: play(ours), lambda: play(floor))  # noqa: B023
                result.notes = {
                    "ratio per CPU second": f"{ours.per_cpu_s() / floor.per_cpu_s():.2f}",
                    "server": f"{ours.median('server_cpu'):.0%}/{floor.median('server_cpu'):.0%}",
                    "generator": f"{ours.median('generator_cpu'):.0%}/{floor.median('generator_cpu'):.0%}",
                    "frame": f"{ours.frame_bytes} B",
                }
                if not options.short and (ours.limited_by_itself() or floor.limited_by_itself()):
                    result.void = "the generator's core was full and the server's was not: it measured itself"
                yield result
