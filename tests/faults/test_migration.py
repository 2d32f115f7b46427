"""The schema changes step by step, each wholly or not at all, whatever happens in the middle of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import apsw
import pytest

from hubbub.stores import sqlite_file
from hubbub.stores.sqlite import SqliteStore
from support.power import Disk, compiled, damage
from support.process import ROOT

MESSAGES = 20_000
EVERY = 10_000
"""Instructions of SQLite's machine between two that are counted."""

OLD = sqlite_file.migrations()[:1]
STEP = len(sqlite_file.migrations()) + 1
SLOW = """
ALTER TABLE messages ADD COLUMN loud TEXT;
UPDATE messages SET loud = upper(text);
CREATE INDEX messages_loud ON messages (loud);
CREATE TABLE letters (letter TEXT, n INTEGER);
INSERT INTO letters SELECT substr(text, 1, 1), count(*) FROM messages GROUP BY 1;
DROP TABLE letters;
"""
LATE = "CREATE TABLE late (x)"

MIGRATE = f"""
import os, signal, sys
from pathlib import Path
from hubbub.stores import sqlite_file

path, step, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
db = sqlite_file.connect(path)
instructions = 0

def count():
    global instructions
    instructions += 1
    if instructions == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

db.set_progress_handler(count, {EVERY})
print("begins", flush=True)
sqlite_file.migrate(db, path, steps=[*sqlite_file.migrations(), ({STEP}, step)])
print("ended", instructions, flush=True)
"""


def old_file(path: Path, steps: Sequence[tuple[int, str]] = OLD) -> None:
    """A database as the first version left it, or a later one, with something in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite_file.connect(path)
    sqlite_file.migrate(db, path, steps=steps)
    sqlite_file.epoch(db)
    with db:
        db.execute("INSERT INTO threads (id, title, public) VALUES ('lobby', 'lobby', 1)")
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO messages (thread, seq, id, sender, type, text, timestamp)"
            " SELECT 'lobby', i, i || '-x', 'alice', 'chat', 'message ' || i, '2026-01-01T00:00:00.000Z' FROM n",
            (MESSAGES,),
        )
    db.close()


def texts(path: Path) -> list[str]:
    db = apsw.Connection(str(path))
    try:
        return [text for (text,) in db.execute("SELECT text FROM messages ORDER BY seq")]
    finally:
        db.close()


def shape(path: Path) -> tuple[int, list[tuple[str, str]], list[str]]:
    """The number of its schema, and all that makes it up."""
    db = apsw.Connection(str(path))
    try:
        parts = list(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
        filled = (
            [loud for (loud,) in db.execute("SELECT loud FROM messages ORDER BY seq")] if "loud" in str(parts) else []
        )
        return db.pragma("user_version"), parts, filled
    finally:
        db.close()


def migrating(
    path: Path, step: str = SLOW, last: int = 0, environ: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Another process at the point where it begins to migrate. It kills itself at the `last` of the instructions that
    are counted, if that comes."""
    command = [sys.executable, "-c", MIGRATE, str(path), step, str(last)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def finished(process: subprocess.Popen[str]) -> int | None:
    """After how many counted instructions it came to its end; None if it was killed before."""
    assert process.stdout is not None
    said = process.stdout.readline()
    process.stdout.close()
    process.wait()
    return int(said.split()[1]) if said.endswith("\n") else None


async def everything_in(path: Path) -> list[str]:
    """As a server of this version reads it."""
    store = SqliteStore(path)
    await store.open()
    try:
        return [m.text for m in (await store.read_after("lobby", 0, MESSAGES + 1, 1 << 30)).messages]
    finally:
        await store.close()


async def test_a_file_of_an_older_version_opens_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.db"
    old_file(path)
    before = texts(path)
    assert len(before) == MESSAGES

    assert await everything_in(path) == before
    assert finished(migrating(path)) is not None

    number, parts, filled = shape(path)
    assert number == STEP
    assert "messages_loud" in dict(parts)
    assert filled == [text.upper() for text in before]
    assert texts(path) == before


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_kill_9_inside_a_migration_leaves_the_old_or_the_new_version_whole(tmp_path: Path, kills: int) -> None:
    chance = Random(kills)
    path = tmp_path / "old" / "hubbub.db"
    old_file(path, sqlite_file.migrations())
    before, old = texts(path), shape(path)
    process, began = migrating(copied(path, tmp_path / "new")), time.monotonic()
    instructions, took = finished(process), time.monotonic() - began
    assert instructions is not None
    assert instructions > 50
    new = shape(tmp_path / "new" / "hubbub.db")
    inside = 0
    for n in range(kills):
        one = copied(path, tmp_path / str(n))
        if n % 2:
            process = migrating(one, last=chance.randint(1, instructions))
        else:  # at any time, while it is being committed as well
            process = migrating(one)
            await asyncio.sleep(chance.uniform(0, took))
            process.send_signal(signal.SIGKILL)
        inside += finished(process) is None

        found = shape(one)
        assert found in (old, new), f"after kill {n} of seed {kills}: {found[0]}"
        assert damage(one.parent) == []
        assert texts(one) == before
        assert finished(migrating(one)) is not None, "what was interrupted is done the next time"
        assert shape(one) == new
        assert texts(one) == before
    assert inside >= kills / 2, f"{inside} of {kills} came before the end"


def copied(path: Path, into: Path) -> Path:
    into.mkdir()
    for part in path.parent.iterdir():
        (into / part.name).write_bytes(part.read_bytes())
    return into / path.name


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("cuts", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_a_power_cut_inside_the_first_migration_leaves_a_file_that_opens(
    tmp_path: Path, shim: Path, cuts: int
) -> None:
    """A file that is being made: nothing in it yet, or the whole schema."""
    chance = Random(cuts)
    for n in range(cuts):
        disk = Disk(tmp_path / str(n), shim)
        disk.home.mkdir()
        process = migrating(disk.home / "hubbub.db", LATE, environ={**os.environ, **disk.environ})
        await asyncio.sleep(chance.uniform(0, 0.02))
        process.kill()
        finished(process)
        for kind, survives in (("kind", None), ("harsh", chance)):
            image = tmp_path / str(n) / kind
            disk.develop(image, survives)
            assert number_in(image / "hubbub.db") in {0, *(number for number, _ in sqlite_file.migrations()), STEP}
            assert finished(migrating(image / "hubbub.db", LATE)) is not None
            assert number_in(image / "hubbub.db") == STEP
            assert damage(image) == []


def number_in(path: Path) -> int:
    db = apsw.Connection(str(path))
    try:
        return int(db.pragma("user_version"))
    finally:
        db.close()


@pytest.mark.parametrize("steps", [[(1, "CREATE TABLE one (x)"), (2, "CREATE TABLE two (x); CREATE TABLE one (x)")]])
async def test_a_step_that_fails_leaves_the_one_before_it_and_its_number(
    tmp_path: Path, steps: Sequence[tuple[int, str]]
) -> None:
    path = tmp_path / "hubbub.db"
    db = sqlite_file.connect(path)
    with pytest.raises(apsw.SQLError, match="one already exists"):
        sqlite_file.migrate(db, path, steps=steps)
    db.close()
    assert number_in(path) == 1
    assert [name for name, _ in shape(path)[1]] == ["one"]
