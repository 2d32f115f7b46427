"""hubbub migrate: move everything from SQLite to MongoDB or back; goes on where it was when it is interrupted."""

from __future__ import annotations

import argparse
import sys
import time

from hubbub.cli import options as common

NAME = "migrate"
PLACES = ("sqlite", "mongodb")
TELL_EVERY_S = 0.2


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", choices=PLACES, required=True, help="where the data are")
    parser.add_argument("--to", dest="target", choices=PLACES, required=True, help="where they go, an empty place")
    common.home(parser)
    parser.add_argument(
        "--database-name", metavar="NAME", help="database in MongoDB, which is at DATABASE_URI [DATABASE_NAME, hubbub]"
    )


def run(asked: argparse.Namespace) -> None:
    from hubbub import config, process, upkeep

    settings = config.load({"home": asked.home, "database_name": asked.database_name})
    progress = Progress()
    try:
        source, target, moved = process.run(upkeep.migrate(settings, asked.source, asked.target, progress.told))
    finally:
        progress.end()
    start = "with DATABASE_URI and DATABASE_NAME" if asked.target == "mongodb" else "without DATABASE_URI"
    if not moved:
        print(f"Everything was moved from {source} to {target} before; nothing was done. Start the server {start}.")
        return
    counts = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in moved.items() if count)
    print(f"Moved {counts or 'nothing, as there was nothing'}.")
    print(f"Both sides were read again and are the same. Start the server {start}: the data are in {target}.")
    print(f"Start none on {source} any more: what is there has become a copy that grows old.")


class Progress:
    """One line on a terminal, written again and again; elsewhere a line for each thing that is done."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._at = 0.0
        self._width = 0

    def told(self, about: str, done: int, of: int) -> None:
        line = f"{about}: {done:,} of {max(done, of):,}"
        if not self._terminal:
            if done >= of > 0:
                print(line, file=sys.stderr, flush=True)
        elif time.monotonic() >= self._at:
            self._at = time.monotonic() + TELL_EVERY_S
            print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(line)

    def end(self) -> None:
        """Leave the terminal's line as it was."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
