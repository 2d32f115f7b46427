"""What is special to the SQLite store: one file, one owner, and nothing said before it is on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from hubbub.core.errors import Internal, NotFound, Problem, StorageFull, Unavailable
from hubbub.core.nouns import Member, Membership, Message, RunState, Thread
from hubbub.stores import group_commit, sqlite, sqlite_file
from hubbub.stores.sqlite import SqliteStore
from tests.contracts.words import begun, draft, log, open_thread, run_of, seen, texts


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    yield store
    await store.close()


def set_slow_from(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From how long a commit may take the disk is called slow: below 0 every disk is, above a minute none."""
    monkeypatch.setattr(sqlite, "SLOW_S", seconds)
    monkeypatch.setattr(group_commit, "SLOW_S", seconds)


@pytest.fixture
async def slow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """On a disk that is so slow that commits wait for it in a thread."""
    set_slow_from(monkeypatch, -1.0)
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["fast disk", "slow disk"])
async def either_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SqliteStore]:
    set_slow_from(monkeypatch, 60.0 if request.param == "fast disk" else -1.0)
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    yield store
    await store.close()


def on_disk(store: SqliteStore) -> list[str]:
    """The texts another process would read now."""
    other = apsw.Connection(str(store.path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [text for (text,) in other.execute("SELECT text FROM messages ORDER BY n")]
    finally:
        other.close()


class Faulty:
    """A connection whose next COMMIT fails, before or after the work is done."""

    def __init__(self, db: apsw.Connection, failure: Exception) -> None:
        self._db = db
        self._failure: Exception | None = failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *bindings: Any) -> apsw.Cursor:
        if sql == "COMMIT" and self._failure:
            failure, self._failure = self._failure, None
            raise failure
        return self._db.execute(sql, *bindings)


def break_next_commit(store: SqliteStore, failure: Exception) -> None:
    store._group._db = Faulty(store._group._db, failure)  # type: ignore[assignment]


async def outcomes(*futures: asyncio.Future[Any]) -> list[Any]:
    """What each was told: the seq, the result, or the kind of problem."""
    results = await asyncio.gather(*futures, return_exceptions=True)
    return [r.seq if isinstance(r, Message) else type(r) if isinstance(r, Exception) else r for r in results]


# The file


async def test_everything_survives_closing_and_opening(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    await store.add_member(Member(name="Alice", arrived=True))
    await open_thread(store, "Alice", "openai", title="Grüße", public=True)
    said = await store.append(draft("hello", "Alice", key="k", metadata={"a": [1]}))
    run = await store.begin_run(run_of())
    epoch = store.epoch
    await store.close()

    again = SqliteStore(tmp_path / "hubbub.db")
    await again.open()

    assert again.epoch == epoch
    assert await again.members() == [Member(name="Alice", arrived=True)]
    assert await again.thread("garden") == Thread(id="garden", title="Grüße", public=True, head=1, member_count=2)
    assert await log(again) == [said]
    assert await again.open_runs() == [run]
    assert (await seen(again, "Alice"), await seen(again, "openai")) == (1, 1)
    assert await again.append(draft("hello", "Alice", key="k", metadata={"a": [1]})) == said
    assert (await again.append(draft("more", "Alice"))).seq == 2
    await again.close()


async def test_a_second_server_on_the_same_data_is_refused_with_what_to_do(store: SqliteStore) -> None:
    second = SqliteStore(store.path)

    with pytest.raises(Unavailable, match=r"Another Hubbub is already running on the data in .*HUBBUB_HOME"):
        await second.open()
    await second.close()

    assert (await open_thread(store, "alice")).id == "garden"


async def test_the_data_may_be_opened_again_once_the_first_server_has_closed(store: SqliteStore) -> None:
    await store.close()
    second = SqliteStore(store.path)

    await second.open()

    await second.close()


async def test_two_homes_have_two_epochs(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = SqliteStore(tmp_path / "other" / "hubbub.db")
    await other.open()

    assert other.epoch != store.epoch

    await other.close()


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "hubbub.db")
        await store.open()
        await open_thread(store, "alice")
    finally:
        os.umask(old)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in map(tmp_path.joinpath, os.listdir(tmp_path))}

    assert modes == dict.fromkeys(["hubbub.db", "hubbub.db-wal", "hubbub.db-shm", "lock", "lock.log"], 0o600)
    await store.close()


async def test_a_file_that_was_readable_by_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.db"
    path.touch(mode=0o644)
    store = SqliteStore(path)

    await store.open()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


async def test_every_commit_is_synced(store: SqliteStore) -> None:
    assert store._writer.pragma("journal_mode") == "wal"
    assert store._writer.pragma("synchronous") == 2  # FULL


async def test_an_empty_file_gets_the_newest_schema(store: SqliteStore) -> None:
    migrations = list((Path(sqlite.__file__).parent / "migrations").glob("*.sql"))
    newest = max(int(file.name.partition("_")[0]) for file in migrations)

    assert store._writer.pragma("user_version") == newest


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.db"
    newer = apsw.Connection(str(path))
    newer.execute("CREATE TABLE future (x); PRAGMA user_version = 9999")
    newer.close()
    store = SqliteStore(path)

    for _ in range(2):  # the second time says the same, so nothing is still held
        with pytest.raises(Unavailable, match=r"newer Hubbub \(schema 9999, this one knows \d+\)"):
            await store.open()
        await store.close()

    left = apsw.Connection(str(path))
    assert list(left.execute("SELECT name FROM sqlite_master")) == [("future",)]
    left.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.db"
    path.write_text("Dear diary, " * 1000)
    store = SqliteStore(path)

    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be opened"):
            await store.open()

    assert path.read_text() == "Dear diary, " * 1000


async def test_a_directory_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nowhere" / "hubbub.db")

    with pytest.raises(Unavailable, match="HUBBUB_HOME"):
        await store.open()


async def test_a_disk_too_full_to_be_timed_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sqlite_file.os, "write", full)
    store = SqliteStore(tmp_path / "hubbub.db")

    await store.open()

    assert ".fsync-probe" not in os.listdir(tmp_path)
    await store.close()


@pytest.mark.parametrize("step", ["1", "2"])
async def test_a_migration_that_fails_leaves_the_step_before_it(tmp_path: Path, step: str) -> None:
    path = tmp_path / "hubbub.db"
    blocked = apsw.Connection(str(path))
    blocked.execute("CREATE TABLE runs (x)" if step == "1" else "CREATE TABLE meta (x)")
    blocked.close()

    with pytest.raises(Unavailable, match="cannot be opened"):
        await SqliteStore(path).open()

    left = apsw.Connection(str(path))
    assert left.pragma("user_version") == 0
    assert left.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").get == 1
    left.close()


# An acknowledgement means the message is on disk


async def test_nobody_is_told_before_the_message_is_on_disk(either_store: SqliteStore) -> None:
    store = either_store
    await open_thread(store, "alice")
    there: list[bool] = []

    for i in range(5):
        posted = store.append(draft(str(i)))
        posted.add_done_callback(lambda done: there.append(done.result().text in on_disk(store)))
        before = posted.done()
        await posted
        await asyncio.sleep(0)
        assert not before

    assert there == [True] * 5


async def test_while_the_disk_works_nothing_is_told_and_the_loop_goes_on(
    slow_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_thread(slow_store, "alice")
    disk = Gate(slow_store)
    posted = [slow_store.append(draft(str(i))) for i in range(3)]

    await disk.reached()
    later = [slow_store.append(draft(str(i))) for i in range(3, 6)]
    for _ in range(5):
        await asyncio.sleep(0)
    told_early = [one.done() for one in (*posted, *later)]
    read_early = await texts(slow_store)
    disk.open()

    assert await outcomes(*posted, *later) == [1, 2, 3, 4, 5, 6]
    assert told_early == [False] * 6
    assert read_early == []


class Gate:
    """Holds the next COMMIT, in its thread, until it is opened."""

    def __init__(self, store: SqliteStore) -> None:
        self._loop = asyncio.get_running_loop()
        self._reached = asyncio.Event()
        self._opened = threading.Event()
        gate = self

        class Held(Faulty):
            def execute(self, sql: str, *bindings: Any) -> apsw.Cursor:
                if sql == "COMMIT":
                    gate._loop.call_soon_threadsafe(gate._reached.set)
                    assert gate._opened.wait(20)
                return super().execute(sql, *bindings)

        held = Held(store._group._db, RuntimeError())
        held._failure = None
        store._group._db = held  # type: ignore[assignment]

    async def reached(self) -> None:
        async with asyncio.timeout(20):
            await self._reached.wait()

    def open(self) -> None:
        self._opened.set()


@pytest.mark.parametrize("slow_from", [60.0, -1.0], ids=["fast disk", "slow disk"])
async def test_whoever_counts_hears_of_each_commit_how_many_shared_it_and_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_from: float
) -> None:
    set_slow_from(monkeypatch, slow_from)
    heard: list[tuple[int, float | None]] = []
    store = SqliteStore(tmp_path / "hubbub.db", committed=lambda writes, seconds: heard.append((writes, seconds)))
    await store.open()
    await open_thread(store, "alice")
    heard.clear()
    await asyncio.gather(*(store.append(draft(f"{n}")) for n in range(5)))
    assert [writes for writes, _ in heard] == [5]
    assert all(seconds is not None and 0 < seconds < 5 for _, seconds in heard)

    break_next_commit(store, OSError(5, "Input/output error"))
    await outcomes(store.append(draft("lost")), store.append(draft("lost as well")))
    await store.close()

    assert heard[1:] == [(2, None)]


async def test_closing_waits_for_what_was_accepted(slow_store: SqliteStore) -> None:
    await open_thread(slow_store, "alice")
    disk = Gate(slow_store)
    first = slow_store.append(draft("first"))
    await disk.reached()
    second = slow_store.append(draft("second"))

    closing = asyncio.ensure_future(slow_store.close())
    await asyncio.sleep(0)
    disk.open()
    await closing

    assert await outcomes(first, second) == [1, 2]
    assert on_disk(slow_store) == ["first", "second"]


async def test_after_closing_nothing_is_written_and_everybody_is_told(store: SqliteStore) -> None:
    await open_thread(store, "alice")
    await store.close()

    late = [await outcomes(store.append(draft("late"))) for _ in range(3)]

    assert late == [[Unavailable]] * 3
    assert on_disk(store) == []


async def test_a_caller_who_gives_up_while_the_disk_works_disturbs_nobody(slow_store: SqliteStore) -> None:
    await open_thread(slow_store, "alice")
    disk = Gate(slow_store)
    posted = [slow_store.append(draft(str(i))) for i in range(3)]
    joining = begun(slow_store.join(Membership(thread="garden", member="bob"), None))
    await disk.reached()

    posted[1].cancel()
    joining.cancel()
    disk.open()

    assert await outcomes(posted[0], posted[2]) == [1, 3]
    assert await texts(slow_store) == ["0", "1", "2"]
    assert [m.member for m in await slow_store.memberships("garden")] == ["alice", "bob"]


# A write that fails


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        (apsw.FullError("disk is full"), StorageFull),
        (apsw.IOError("fsync"), Unavailable),
        (MemoryError(), Internal),
    ],
)
async def test_when_a_commit_fails_its_whole_group_is_refused_and_the_next_one_works(
    either_store: SqliteStore, failure: Exception, problem: type[Problem]
) -> None:
    store = either_store
    await open_thread(store, "alice", "openai")
    await store.append(draft("before"))
    break_next_commit(store, failure)

    lost = await outcomes(
        store.append(draft("lost", key="k")),
        store.append(draft("nowhere", thread="nowhere")),
        begun(store.join(Membership(thread="garden", member="bob", seen=-1), draft("bob joined.", "bob"))),
        begun(open_thread(store, "alice", id="lost")),
        begun(store.begin_run(run_of())),
        begun(store.see("garden", "openai", 1)),
    )
    read = await texts(store)
    after = await outcomes(store.append(draft("lost", key="k")), store.append(draft("after")))

    assert set(lost) == {problem}
    assert read == ["before"]
    assert after == [2, 3]
    assert await texts(store) == on_disk(store) == ["before", "lost", "after"]
    assert [m.member for m in await store.memberships("garden")] == ["alice", "openai"]
    assert await seen(store, "openai") == 0
    assert await store.thread("lost") is None
    assert await store.open_runs() == []


@pytest.mark.parametrize("at", ["commit", "statement"])
async def test_a_lost_message_moves_nobodys_mark(either_store: SqliteStore, at: str) -> None:
    store = either_store
    await open_thread(store, "alice", "bob")
    await store.append(draft("before"))
    if at == "commit":
        break_next_commit(store, apsw.IOError("fsync"))
        await outcomes(store.append(draft("lost")))
    else:
        await outcomes(store.append(draft("lost")), store.append(draft("\ud800")))

    await store.append(draft("instead", "bob"))
    after_bob = await seen(store, "alice")
    await store.see("garden", "alice", 2)
    break_next_commit(store, apsw.IOError("fsync"))
    await outcomes(store.append(draft("lost")))
    await store.append(draft("again"))

    assert after_bob == 1, "what bob wrote has still to be heard"
    assert await seen(store, "alice") == 3, "her own message has not"


async def test_a_lost_group_is_not_tried_again(store: SqliteStore) -> None:
    await open_thread(store, "alice")
    old = store._writer
    break_next_commit(store, apsw.IOError("fsync"))

    await outcomes(store.append(draft("lost")))
    await store.append(draft("after"))

    assert store._writer is not old, "After a failed sync the file is opened anew and believed."
    assert await texts(store) == ["after"]


async def test_on_a_full_disk_messages_are_refused_reading_goes_on_and_it_heals_by_itself(store: SqliteStore) -> None:
    await open_thread(store, "alice", "bob")
    await store.append(draft("small", "bob"))
    pages = store._writer.pragma("page_count")
    store._writer.pragma("max_page_count", pages + 2)

    refused = await outcomes(*[store.append(draft("x" * 60_000, key=f"k{i}")) for i in range(3)])
    read = await texts(store)
    healed = await outcomes(*[store.append(draft("x" * 60_000, key=f"k{i}")) for i in range(3)])

    assert refused == [StorageFull] * 3
    assert read == ["small"]
    assert healed == [2, 3, 4]  # the file was opened anew, without the limit


async def test_a_full_disk_says_when_to_come_back(store: SqliteStore) -> None:
    await open_thread(store, "alice")
    break_next_commit(store, apsw.FullError("disk is full"))

    with pytest.raises(StorageFull) as refused:
        await store.append(draft())

    assert refused.value.retry_after


async def test_a_file_that_cannot_be_opened_anew_is_tried_at_every_group(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_thread(store, "alice")
    real = sqlite_file.connect

    def cannot(path: Path, *, beside: bool = False) -> apsw.Connection:
        raise apsw.CantOpenError("too many open files")

    break_next_commit(store, apsw.IOError("fsync"))
    first = await outcomes(store.append(draft("0")))
    monkeypatch.setattr(sqlite_file, "connect", cannot)
    meanwhile = [await outcomes(store.append(draft(str(i)))) for i in (1, 2)]
    monkeypatch.setattr(sqlite_file, "connect", real)
    healed = await outcomes(store.append(draft("3")))

    assert (first, meanwhile, healed) == ([Unavailable], [[Unavailable], [Unavailable]], [1])
    assert await texts(store) == ["3"]


async def test_more_than_the_disk_can_take_is_refused_at_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 10)
    await open_thread(store, "alice")

    posted = [store.append(draft(str(i))) for i in range(12)]
    refused_at_once = [one.done() for one in posted]

    assert refused_at_once == [False] * 10 + [True] * 2
    assert await outcomes(*posted) == [*range(1, 11), Unavailable, Unavailable]


async def test_more_than_one_group_is_written_in_order(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP", 7)
    await open_thread(store, "alice")

    posted = [store.append(draft(str(i), sender="alice" if i % 3 else "bob")) for i in range(50)]

    assert await outcomes(*posted) == list(range(1, 51))
    assert await texts(store) == [str(i) for i in range(50)]


async def test_a_disk_that_becomes_slow_is_waited_for_in_a_thread_until_it_is_fast_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_thread(store, "alice")
    threads: list[bool] = []

    def noticed() -> bool:
        threads.append(threading.current_thread() is threading.main_thread())
        return False

    store._group._db.set_commit_hook(noticed)

    for seconds in (60.0, -1.0, 60.0):
        set_slow_from(monkeypatch, seconds)
        for _ in range(2 * group_commit.SAMPLE):
            await store.append(draft())

    last_of_each = [threads[2 * group_commit.SAMPLE * n - 1] for n in (1, 2, 3)]
    assert last_of_each == [True, False, True]
    assert [m.seq for m in await log(store)] == list(range(1, 6 * group_commit.SAMPLE + 1))


# The log is copied into the database and stays small


def wal_pages(store: SqliteStore) -> int:
    return store.path.with_name("hubbub.db-wal").stat().st_size // 4096


async def test_the_write_ahead_log_stays_bounded_under_a_load_that_never_rests(
    either_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = either_store
    monkeypatch.setattr(group_commit, "CHECKPOINT_PAGES", 20)
    await open_thread(store, "alice")

    async def write() -> None:
        for _ in range(60):
            await store.append(draft("x" * 8000))

    async with asyncio.TaskGroup() as writers:
        for _ in range(4):
            writers.create_task(write())

    written = 4 * 60 * 2  # pages, at the least
    assert wal_pages(store) < written / 2
    assert store.path.stat().st_size > written * 4096 / 2, "copied into the database"


async def test_a_commit_does_not_wait_for_a_checkpoint(
    slow_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def checkpoint(filename: str) -> None:
        began.set()
        assert go_on.wait(20)

    monkeypatch.setattr(group_commit, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(group_commit.GroupCommit, "_checkpoint", staticmethod(checkpoint))
    await open_thread(slow_store, "alice")
    await asyncio.to_thread(began.wait, 20)

    async with asyncio.timeout(10):
        message = await slow_store.append(draft())
    go_on.set()

    assert message.seq == 1


async def test_a_checkpoint_that_fails_stops_nobody(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def checkpoint(filename: str) -> None:
        raise apsw.IOError("read error")

    monkeypatch.setattr(group_commit, "CHECKPOINT_PAGES", 0)
    monkeypatch.setattr(group_commit.GroupCommit, "_checkpoint", staticmethod(checkpoint))
    await open_thread(store, "alice")

    assert [(await store.append(draft())).seq for _ in range(3)] == [1, 2, 3]


# kill -9

CHILD = """
import asyncio, sys
from pathlib import Path
from hubbub.stores import group_commit, sqlite
from hubbub.stores.sqlite import SqliteStore
from tests.contracts.words import draft, open_thread

async def main():
    if sys.argv[2] == "slow":
        sqlite.SLOW_S = group_commit.SLOW_S = -1.0
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    if await store.thread("garden") is None:
        await open_thread(store, "w0", "w1", "w2", "w3")
    async def write(name):
        n = 0
        while True:
            n += 1
            message = await store.append(draft(f"{name} {n} {sys.argv[3]}", name, key=f"{sys.argv[3]} {n}"))
            sys.stdout.write(f"{message.seq} {message.text}\\n")
            sys.stdout.flush()
    async with asyncio.TaskGroup() as writers:
        for i in range(4):
            writers.create_task(write(f"w{i}"))

asyncio.run(main())
"""


@pytest.mark.parametrize("disk", ["fast", "slow"])
async def test_kill_9_loses_no_acknowledged_message_and_doubles_none(tmp_path: Path, disk: str) -> None:
    path = tmp_path / "hubbub.db"
    acknowledged: dict[int, str] = {}
    for cycle in range(3):
        acknowledged |= await asyncio.to_thread(write_until_killed, path, disk, cycle)

    store = SqliteStore(path)
    await store.open()
    stored = await log(store)
    again = await outcomes(*[store.append(draft(f"w0 {n} 2", "w0", key=f"2 {n}")) for n in (1, 2, 3)])
    await store.close()

    assert len(acknowledged) > 3 * 40
    assert acknowledged.items() <= {m.seq: m.text for m in stored}.items()
    assert [m.seq for m in stored] == list(range(1, len(stored) + 1))
    assert len({m.text for m in stored}) == len(stored)
    assert again == [m.seq for m in stored if m.text in ("w0 1 2", "w0 2 2", "w0 3 2")]


def write_until_killed(path: Path, disk: str, cycle: int) -> dict[int, str]:
    """Acks of a server that is killed in the middle of its work."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), disk, str(cycle)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    whole = (line.rstrip("\n").split(" ", 1) for line in lines if line.endswith("\n"))
    return {int(seq): text for seq, text in whole}


async def test_a_run_that_was_under_way_is_found_open_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hubbub.db")
    await store.open()
    await open_thread(store, "openai")
    run = run_of(trigger=0)
    await store.begin_run(run)
    await store.set_run(run.id, RunState.RUNNING, 2)
    await store.close()
    await store.open()

    [found] = await store.open_runs()

    assert (found.id, found.state, found.attempt) == (run.id, RunState.RUNNING, 2)
    with pytest.raises(NotFound):
        await store.begin_run(run_of(thread="nowhere"))
    await store.close()
