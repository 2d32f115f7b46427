"""`python -m bench [names…] [--short] [--json FILE]`: run the benches and print a line for each case."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import machine
from bench.options import Options
from bench.result import Result

BENCHES = ("fanout", "durable", "mongo", "memory", "storm", "startup", "batching", "stream", "scale", "workers")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Hubbub against plain programs.")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHES))
    parser.add_argument("--short", action="store_true", help="a few seconds each: see that they work, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same there, with the ratio of every round")
    tuning = parser.add_argument_group("to look at one thing")
    tuning.add_argument("--seconds", type=float, default=0.0, help="length of a round")
    tuning.add_argument("--rounds", type=int, default=0, help="rounds of each side")
    tuning.add_argument("--readers", type=numbers, default=(), help="fan-out, memory, storm: how many, as in 100,1000")
    tuning.add_argument("--windows", type=numbers, default=(), help="fan-out: frames in flight, as in 1,16")
    tuning.add_argument("--kinds", type=words, default=(), help="fan-out: live, durable or live,durable")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no bench {min(unknown)!r}; there are {', '.join(BENCHES)}")
    return arguments


def results(names: list[str], options: Options) -> Iterator[Result]:
    for name in names:
        for result in importlib.import_module(f"bench.{name}").run(options):
            yield replace(result, goal=None) if options.short else result


def main() -> int:
    arguments = parse()
    options = Options(
        short=arguments.short,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        readers=arguments.readers,
        windows=arguments.windows,
        kinds=arguments.kinds,
    )
    if machine.SERVER_CORE == machine.LOAD_CORE:
        print("There is only one core: server and generator share it, and no ratio means anything.")
    done: list[Result] = []
    for result in results(arguments.names or list(BENCHES), options):
        print(result.line(), flush=True)
        done.append(result)
    if arguments.json:
        record = {"python": platform.python_version(), "results": [result.record() for result in done]}
        arguments.json.write_text(json.dumps(record, indent=1))
    return 1 if any(result.void for result in done) else 0


if __name__ == "__main__":
    sys.exit(main())
