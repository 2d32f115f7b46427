"""The floor of durable sends: rows appended to the same schema in groups, each group one durable commit.

`python -m bench.rows DATABASE TEXT`, then `round SECONDS GROUP` on standard input; started by `durable.py`. Statements
and settings are those of the store, without anything that decides, checks or answers.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import resources

import apsw

INSERT = (
    "INSERT INTO messages (id, thread, seq, sender, destination, type, text, timestamp, metadata, reply_to, run, key)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)
CHECKPOINT_PAGES = 2000


def opened(path: str) -> apsw.Connection:
    db = apsw.Connection(path)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY", "cache_size = -16000"):
        db.execute(f"PRAGMA {pragma}")
    db.wal_autocheckpoint(CHECKPOINT_PAGES)
    migrations = resources.files("hubbub.stores").joinpath("migrations")
    for file in sorted(migrations.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            db.execute(file.read_text(encoding="utf-8"))
    return db


def play(db: apsw.Connection, seq: int, text: str, seconds: float, group: int) -> tuple[int, float]:
    """Append for that long; the last seq and how long it took."""
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(group):
            seq += 1
            row = (f"m{seq:012}", "lobby", seq, "sender", None, "chat", text, "2026-01-01T00:00:00.000Z")
            db.execute(INSERT, (*row, None, None, None, None))
        db.execute("COMMIT")
    return seq, took


def main() -> None:
    db, text = opened(sys.argv[1]), "x" * int(sys.argv[2])
    seq = 0
    for line in sys.stdin:
        _, seconds, group = line.split()
        first = seq
        seq, took = play(db, seq, text, float(seconds), int(group))
        print(json.dumps({"rows": seq - first, "rate": (seq - first) / took, "void": ""}), flush=True)
    db.close()


if __name__ == "__main__":
    main()
