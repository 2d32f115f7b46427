"""Durable sends: from a message leaving its sender to the ack that says it is on disk.

Beside it, the same rows appended without a server around them: by SQLite in groups of as many as there are senders,
and by a C loop that writes and calls fdatasync.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import machine
from bench.compiler import NoCompiler, program
from bench.house import house
from bench.options import Options
from bench.result import Result, Void, compare

SENDERS = (1, 100)
TEXT_BYTES = 72
ROW_BYTES = 250
"""What such a row takes in the database and its indexes, about."""

GOAL = 0.5


class Asked:
    """A program that answers a line with a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.told: list[dict[str, Any]] = []

    def hear(self) -> dict[str, Any]:
        """Its next line. Raises Void when it saw something wrong."""
        told: dict[str, Any] = json.loads(machine.line_from(self._process.stdout))
        if told["void"]:
            raise Void(told["void"])
        self.told.append(told)
        return told

    def ask(self, line: str) -> float:
        """Its rate in a round."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self.hear()["rate"])

    def median(self, what: str) -> float:
        values = sorted(told[what] for told in self.told if what in told)
        return float(values[len(values) // 2])


@contextlib.contextmanager
def asked(command: list[Any], core: int) -> Iterator[Asked]:
    process = machine.start(command, core, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Asked(process)
    finally:
        machine.stop(process)


def run(options: Options) -> Iterator[Result]:
    """One sender and a hundred, over framed TCP and over WebSocket, and what the disk allows."""
    wires = ("tcp",) if options.short else ("tcp", "ws")
    try:
        for wire in wires:
            for senders in SENDERS:
                yield _sends(wire, senders, options)
        yield _disk(options)
    except NoCompiler as missing:
        yield Result("durable", "send → ack", "acks/s", skipped=str(missing))


def _sends(wire: str, senders: int, options: Options) -> Result:
    seconds = options.seconds or (0.1 if options.short else 2.0)
    rounds = options.rounds or (1 if options.short else 5)
    result = Result(
        "durable", f"{wire}, {senders} sender{'s' if senders > 1 else ''}", "acks/s", goal=GOAL if senders > 1 else None
    )
    generator = [program("acks")]
    with house() as server, machine.directory() as elsewhere:
        port = server.tcp if wire == "tcp" else server.http
        command = [*generator, port, senders, TEXT_BYTES, "--wire", wire, "--pid", server.pid]
        rows = [sys.executable, "-m", "bench.rows", elsewhere / "rows.db", TEXT_BYTES]
        with (
            asked([str(part) for part in command], machine.LOAD_CORE) as ours,
            asked([str(part) for part in rows], machine.SERVER_CORE) as floor,
        ):
            try:
                ours.hear()
                ours.ask(f"round {min(seconds, 0.3)}")
                floor.ask(f"round {min(seconds, 0.3)} {senders}")
                ours.told.clear()
                compare(
                    result,
                    rounds,
                    lambda: ours.ask(f"round {seconds}"),
                    lambda: floor.ask(f"round {seconds} {senders}"),
                )
            except Void as void:
                result.void = str(void)
                return result
            result.notes = {
                "p50": f"{ours.median('p50_ms'):.2f} ms",
                "p99": f"{ours.median('p99_ms'):.2f} ms",
                "server": f"{ours.median('server_cpu'):.0%}",
                "generator": f"{ours.median('generator_cpu'):.0%}",
            }
    return result


def _disk(options: Options) -> Result:
    """SQLite's grouped rows beside the C loop: how far the disk would go."""
    seconds = options.seconds or (0.1 if options.short else 1.0)
    rounds = options.rounds or (1 if options.short else 3)
    group = SENDERS[-1]
    result = Result("durable", f"the floors, groups of {group}", "rows/s")
    disk = program("appends")
    with machine.directory() as elsewhere:
        rows = [sys.executable, "-m", "bench.rows", str(elsewhere / "rows.db"), str(TEXT_BYTES)]
        with asked(rows, machine.SERVER_CORE) as sqlite:

            def raw() -> float:
                return _once([disk, elsewhere / "raw", ROW_BYTES, group, seconds])

            compare(result, rounds, lambda: sqlite.ask(f"round {seconds} {group}"), raw)
            single = _once([disk, Path(elsewhere) / "raw", ROW_BYTES, 1, min(seconds, 0.5)])
    result.notes = {"one write and fdatasync": f"{1e3 / single:.2f} ms"}
    return result


def _once(command: list[Any]) -> float:
    with asked([str(part) for part in command], machine.SERVER_CORE) as process:
        return float(process.hear()["rate"])
