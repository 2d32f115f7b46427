"""Fan-out: one frame to N readers of one thread, through the whole server, beside one `send()` a reader in C.

Two kinds: `live` (pieces of an answer, nothing stored) and `durable` (messages: stored with an fsync, acked, heard),
each with one frame in flight and with a window of 16: the next frame goes once every reader has the one before.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from collections.abc import Iterator

from bench import machine
from bench.compiler import NoCompiler, program
from bench.house import house
from bench.options import Options
from bench.result import BUSY, Result, Void, compare
from bench.server import TEXT_BYTES
from bench.talker import Talker, talker

KINDS = ("live", "durable")
READERS = (10, 100, 1000, 5000)
WINDOWS = (1, 16)
FRAMES = {"live": 1200, "durable": 10**9}
"""Frames of a round at most: an answer is cut at 128 KiB, and its one message goes to every reader too."""

GOALS = {
    ("live", 1000, 1): 0.70,
    ("live", 1000, 16): 5.0,
    ("durable", 1000, 1): 0.50,
    ("durable", 1000, 16): 5.0,
    ("durable", 100, 1): 0.33,
    ("durable", 100, 16): 3.0,
}


def run(options: Options) -> Iterator[Result]:
    """Every kind, size and window."""
    for kind in options.kinds or KINDS:
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
    warm_up = f"round {min(seconds, 0.3)} {FRAMES[kind]} 1"
    with our_crowd(kind, readers) as ours:
        ours.ask(warm_up)
        with floor_crowd(readers, frame_bytes=ours.told[-1]["frame_bytes"]) as floor:
            floor.ask(warm_up)
            for window in options.windows or WINDOWS:
                ours.told.clear()
                floor.told.clear()
                yield _measure(ours, floor, kind, readers, window, f"round {seconds} {FRAMES[kind]} {window}", options)


def _measure(ours: Talker, floor: Talker, kind: str, readers: int, window: int, round: str, options: Options) -> Result:
    result = Result("fanout", f"{kind}, {readers:,} readers, {window} in flight", "deliveries/s")
    compare(result, options.rounds or (1 if options.short else 5), lambda: ours.ask(round), lambda: floor.ask(round))
    result.notes = {
        "ratio per CPU second": f"{per_cpu_s(ours) / per_cpu_s(floor):.2f}",
        "server": f"{ours.median('server_cpu'):.0%}/{floor.median('server_cpu'):.0%}",
        "generator": f"{ours.median('generator_cpu'):.0%}/{floor.median('generator_cpu'):.0%}",
        "frame": f"{ours.median('frame_bytes'):.0f} B",
    }
    if not options.short:
        result.goal = GOALS.get((kind, readers, window))
        if limited_by_itself(ours) or limited_by_itself(floor):
            result.void = "the generator's core was full and the server's was not: it measured itself"
    return result


def per_cpu_s(side: Talker) -> float:
    """Deliveries in a second of the server's time: steadier than the rate while others use the machine."""
    return statistics.median(float(told["rate"]) / max(float(told["server_cpu"]), 0.001) for told in side.told)


def limited_by_itself(side: Talker) -> bool:
    """Was it the generator that was measured? Only if its core was full and the server's was not."""
    return side.median("generator_cpu") > BUSY > side.median("server_cpu")


@contextlib.contextmanager
def crowd(port: int, readers: int, *options: object) -> Iterator[Talker]:
    """N readers and a sender, connected and welcome."""
    with talker([program("readers"), port, readers, TEXT_BYTES, *options], machine.LOAD_CORE) as made:
        made.hear()
        made.told.clear()
        yield made


@contextlib.contextmanager
def our_crowd(kind: str, readers: int) -> Iterator[Talker]:
    program("readers")
    with house(engine=kind == "live") as server:
        control = ["--control", server.control] if server.control else []
        with crowd(server.http, readers, "--pid", server.pid, *control) as made:
            yield made


@contextlib.contextmanager
def floor_crowd(readers: int, frame_bytes: int) -> Iterator[Talker]:
    """On the C loop, whose frames are as long as ours."""
    command = [str(program("fanout")), str(frame_bytes), str(TEXT_BYTES)]
    process = machine.start(command, machine.SERVER_CORE, stdout=subprocess.PIPE)
    try:
        with crowd(int(machine.line_from(process.stdout)), readers, "--pid", process.pid) as made:
            yield made
    finally:
        machine.stop(process)
