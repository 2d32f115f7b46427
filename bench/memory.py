"""Memory: what one idle connection costs that has said who it is and hears the lobby.

The server's unshared memory before and after N of them, divided by N. The floor is a connection nobody has to
remember anything about: nothing. So there is a goal in KB instead of a ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import machine
from bench.compiler import NoCompiler, program
from bench.house import house
from bench.options import Options
from bench.result import Result, Void
from bench.talker import talker

CONNECTIONS = 10_000
WARM = 50
"""Connections made and kept before the first look, so that what is loaded once is not counted."""

GOAL_KB = 10.0


def run(options: Options) -> Iterator[Result]:
    """Over WebSocket and over framed TCP."""
    for wire in ("ws", "tcp"):
        for count in options.readers or ((500,) if options.short else (CONNECTIONS,)):
            try:
                yield _connections(wire, count)
            except NoCompiler as missing:
                yield Result("memory", wire, "KB", skipped=str(missing))
                return


def _connections(wire: str, count: int) -> Result:
    result = Result(
        "memory",
        f"{wire}, {count:,} idle connections",
        "KB a connection",
        goal=None if count < CONNECTIONS else GOAL_KB,
        less_is_better=True,
        goal_on="ours",
    )
    readers = program("readers")
    with house() as server:
        port = server.tcp if wire == "tcp" else server.http
        options = [10, "--wire", wire, "--idle"]
        try:
            with talker([readers, port, WARM, *options, "--names", "warm"], machine.LOAD_CORE) as warm:
                warm.hear()
                before = own_kb(server.pid)
                with talker([readers, port, count, *options], machine.LOAD_CORE) as crowd:
                    told = crowd.hear()
                    after = own_kb(server.pid)
        except Void as void:
            result.void = str(void)
            return result
    result.ours = (after - before) / count
    result.notes = {
        "all connected after": f"{told['seconds']:.1f} s",
        "server": f"{before / 1024:.0f} → {after / 1024:.0f} MB",
    }
    return result


def own_kb(pid: int) -> float:
    """Memory that would be free if the process were gone, in KB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(float(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
