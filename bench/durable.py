"""Durable sends: from a message leaving its sender to the ack that says it is on disk.

Beside it, the same rows appended without a server around them: by SQLite in groups of as many as there are senders,
and by a C loop that writes and calls fdatasync.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import machine
from bench.compiler import NoCompiler, program
from bench.house import House, house
from bench.options import Options
from bench.result import Result, Void, compare
from bench.talker import talker

SENDERS = (1, 100)
TEXT_BYTES = 72
ROW_BYTES = 250
"""What such a row takes in the database and its indexes, about."""

GOAL = 0.5


def run(options: Options) -> Iterator[Result]:
    """One sender and a hundred, over framed TCP and over WebSocket, and what the disk allows."""
    try:
        program("acks")
        for wire in ("tcp",) if options.short else ("tcp", "ws"):
            with house() as server, machine.directory() as elsewhere:
                for senders in SENDERS:
                    yield _sends(server, elsewhere / f"{senders}.db", wire, senders, options)
        yield _disk(options)
    except NoCompiler as missing:
        yield Result("durable", "send → ack", "acks/s", skipped=str(missing))


def _sends(server: House, database: Path, wire: str, senders: int, options: Options) -> Result:
    seconds = options.seconds or (0.1 if options.short else 2.0)
    rounds = options.rounds or (1 if options.short else 5)
    result = Result("durable", f"{wire}, {senders} sender{'s' if senders > 1 else ''}", "acks/s")
    if senders > 1 and not options.short:
        result.goal = GOAL
    port = server.tcp if wire == "tcp" else server.http
    generator = [program("acks"), port, senders, TEXT_BYTES, "--wire", wire, "--pid", server.pid]
    rows = [sys.executable, "-m", "bench.rows", database, TEXT_BYTES]
    with talker(generator, machine.LOAD_CORE) as ours, talker(rows, machine.SERVER_CORE) as floor:
        try:
            ours.hear()
            ours.ask(f"round {min(seconds, 0.3)}")
            floor.ask(f"round {min(seconds, 0.3)} {senders}")
            ours.told.clear()
            compare(
                result, rounds, lambda: ours.ask(f"round {seconds}"), lambda: floor.ask(f"round {seconds} {senders}")
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
        rows = [sys.executable, "-m", "bench.rows", elsewhere / "rows.db", TEXT_BYTES]
        with talker(rows, machine.SERVER_CORE) as sqlite:

            def raw() -> float:
                return _once([disk, elsewhere / "raw", ROW_BYTES, group, seconds])

            compare(result, rounds, lambda: sqlite.ask(f"round {seconds} {group}"), raw)
            single = _once([disk, elsewhere / "raw", ROW_BYTES, 1, min(seconds, 0.5)])
    result.notes = {"one write and fdatasync": f"{1e3 / single:.2f} ms"}
    return result


def _once(command: Sequence[object]) -> float:
    with talker(command, machine.SERVER_CORE) as process:
        return float(process.hear()["rate"])
