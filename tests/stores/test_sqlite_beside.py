"""A command works on the file of a server that has it open: its writes count, and it keeps its hands off the rest."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import Account
from hubbub.stores import group_commit, sqlite_file
from hubbub.stores.sqlite import SqliteStore
from tests.contracts.words import draft, open_thread, texts

BUSY_S = 0.3
"""How long the busy writer keeps the file locked, for an instant between two times."""

BUSY = f"""
import sys, time, apsw
db = apsw.Connection(sys.argv[1])
while True:
    db.execute("BEGIN IMMEDIATE")
    print("here", flush=True)
    time.sleep({BUSY_S})
    db.execute("COMMIT")
    time.sleep(0.003)
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    await open_thread(store, "alice")
    yield store
    await store.close()


@pytest.fixture
async def command(server: SqliteStore) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(server.path, beside=True)
    await store.open()
    yield store
    await store.close()


def log_of(store: SqliteStore) -> Path:
    return store.path.with_name("hubbub.db-wal")


async def test_each_reads_what_the_other_has_written(server: SqliteStore, command: SqliteStore) -> None:
    await server.append(draft("before"))
    await command.accounts.add(Account(name="alice"))
    await server.append(draft("after"))

    assert [account.name for account in (await server.accounts.changes_after(0)).accounts] == ["alice"]
    assert await texts(command) == ["before", "after"]
    assert command.epoch == server.epoch


async def test_the_log_is_copied_by_the_server_alone(
    server: SqliteStore, command: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "CHECKPOINT_PAGES", 4)
    size = server.path.stat().st_size
    for n in range(50):
        await command.accounts.add(Account(name=f"a{n}", password="x" * 4000))

    await command.close()

    assert server.path.stat().st_size == size
    assert log_of(server).stat().st_size > 50 * 4096


async def test_whoever_works_beside_leaves_the_log_also_when_the_server_has_gone(tmp_path: Path) -> None:
    server, command = SqliteStore(tmp_path / "hubbub.db"), SqliteStore(tmp_path / "hubbub.db", beside=True)
    await server.open()
    await command.open()
    await command.accounts.add(Account(name="alice"))
    await server.close()

    await command.close()

    assert log_of(server).stat().st_size > 0
    await server.open()
    assert [account.name for account in (await server.accounts.changes_after(0)).accounts] == ["alice"]
    await server.close()


async def test_a_server_starts_only_when_nobody_works_beside(
    server: SqliteStore, command: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE_S", 0.05)
    await server.close()
    next_one = SqliteStore(server.path)

    with pytest.raises(Unavailable, match="'hubbub user' is still at work on the data"):
        await next_one.open()
    await command.close()

    await next_one.open()
    await next_one.close()


async def test_nobody_works_beside_a_server_that_is_only_just_starting(
    server: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE_S", 0.05)
    command = SqliteStore(server.path, beside=True)

    with (
        sqlite_file.alone(server.path.parent),
        pytest.raises(Unavailable, match="A server is only just starting"),
    ):
        await command.open()

    await command.open()
    await command.close()


async def test_one_waits_for_the_other_and_then_goes_on(server: SqliteStore) -> None:
    command = SqliteStore(server.path, beside=True)
    with sqlite_file.alone(server.path.parent):
        waiting = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(opened_and_closed(command))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.shield(waiting)

    async with asyncio.timeout(5):
        await waiting


async def opened_and_closed(store: SqliteStore) -> None:
    await store.open()
    await store.close()


async def test_a_command_gets_its_turn_in_the_instant_between_two_long_commits(server: SqliteStore, busy: None) -> None:
    command = SqliteStore(server.path, beside=True)
    await command.open()

    began = time.monotonic()
    for n in range(3):
        await command.accounts.add(Account(name=f"a{n}"))

    assert time.monotonic() - began < 10 * BUSY_S
    await command.close()


@pytest.fixture
def busy(server: SqliteStore) -> Iterator[None]:
    """Somebody who keeps the file locked nearly all the time."""
    with subprocess.Popen([sys.executable, "-c", BUSY, str(server.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


async def test_a_command_neither_makes_nor_changes_a_file(tmp_path: Path) -> None:
    command = SqliteStore(tmp_path / "hubbub.db", beside=True)
    with pytest.raises(Unavailable, match="cannot be opened"):
        await command.open()
    assert not command.path.exists()

    with contextlib.closing(apsw.Connection(str(command.path))) as db:
        db.execute("CREATE TABLE t (x); PRAGMA user_version = 1")
    with pytest.raises(Unavailable, match=r"is of another version \(schema 1, this one works with \d+\)"):
        await command.open()
    with contextlib.closing(apsw.Connection(str(command.path))) as db:
        assert db.pragma("user_version") == 1
