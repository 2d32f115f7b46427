"""The file under the default store: who may open it, which schema it has, how fast its disk is.

The server has its directory to itself (`DirectoryLock`). A command may work *beside* it, as one more process that has
the file open: it neither migrates nor copies the log, and nobody does meanwhile what SQLite does not know of (`alone`,
`beside`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import cast

import apsw
import msgspec

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import new_id
from hubbub.stores.archive import Move

PATIENCE_S = 5.0
"""How long one waits for the other where a server and a command must not meet."""

TURN_S = 30.0
"""How long a command waits for its turn to write among a server's commits."""


class InUse(Unavailable):
    """Somebody has the directory."""


class DirectoryLock:
    """Keeps a second server out of a directory, however the first one ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None

    def take(self) -> None:
        """Raises InUse: somebody has it; Unavailable: the directory cannot be used."""
        try:
            lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise Unavailable(
                f"The directory {self._directory} cannot be used for the data ({failure.strerror}). "
                "Choose another with HUBBUB_HOME."
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise InUse(
                f"Another Hubbub is already running on the data in {self._directory}. Stop it, or choose another "
                "directory with HUBBUB_HOME."
            ) from None
        self._file = lock

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Nobody works beside meanwhile: for what SQLite does not know of, such as writing its log once more.

    Raises Unavailable: somebody does, for longer than `PATIENCE_S`.
    """
    with _held(directory, fcntl.LOCK_EX, "A command such as 'hubbub user' is still at work on the data in {}."):
        yield


@contextlib.contextmanager
def beside(directory: Path) -> Iterator[None]:
    """Work on data that a server may have. Raises Unavailable: it is only just starting, for longer than
    `PATIENCE_S`."""
    with _held(directory, fcntl.LOCK_SH, "A server is only just starting on the data in {}; try again in a moment."):
        yield


@contextlib.contextmanager
def _held(directory: Path, how: int, refusal: str) -> Iterator[None]:
    file = os.open(directory / "lock.log", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Unavailable(refusal.format(directory), retry_after=1) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(file)


def _take_turns(db: apsw.Connection) -> None:
    """Have this connection ask for its turn often. A busy server leaves the file unlocked for an instant only between
    two commits, which SQLite's own waits of up to 0.1 s miss nearly every time."""
    until = 0.0

    def again(tries: int) -> bool:
        nonlocal until
        now = time.monotonic()
        if tries == 0:
            until = now + TURN_S
        time.sleep(random.uniform(0.0002, 0.002))
        return now < until

    db.set_busy_handler(again)


def connect(path: Path, *, beside: bool = False) -> apsw.Connection:
    """A durable connection to the database, which is made when there is none, for its owner only. One that works
    `beside` makes none, waits its turn, and leaves the log to the server."""
    if not beside:
        with contextlib.suppress(FileExistsError):  # closing a file that SQLite has open would drop its locks
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(5000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY", "cache_size = -16000"):
            db.execute(f"PRAGMA {pragma}")
        if beside:
            keep_log(db)
            _take_turns(db)
    except BaseException:
        db.close()
        raise
    return db


def rewrite_log(path: Path) -> None:
    """Write the database's log once more, as it is, and sync it; to be done before SQLite believes what it reads there.

    After a sync has failed, Linux takes the pages for clean: they can be read, and no later sync writes them. A server
    that ends right then leaves a log whose last commits are not on disk, and its successor could not tell.
    """
    try:
        log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = 0
        while block := os.pread(log, 1 << 20, at):
            at += os.pwrite(log, block, at)
        if at:
            os.fdatasync(log)
    finally:
        os.close(log)


def keep_log(db: apsw.Connection) -> None:
    """Have SQLite neither copy the log nor remove it when this connection is the last to close."""
    with contextlib.suppress(apsw.ConnectionClosedError):
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def migrations() -> list[tuple[int, str]]:
    """Every step of the schema: its number and its statements, ascending."""
    return sorted(
        (int(file.name.partition("_")[0]), file.read_text(encoding="utf-8"))
        for file in resources.files("hubbub.stores").joinpath("migrations").iterdir()
        if file.name.endswith(".sql")
    )


def migrate(db: apsw.Connection, path: Path, steps: Sequence[tuple[int, str]]) -> None:
    """Bring the file up to date, each step in a transaction with its number, so that a kill leaves a whole one.

    Raises Unavailable: the file is of a newer version.
    """
    version = cast(int, db.pragma("user_version"))
    if version > steps[-1][0]:
        raise Unavailable(
            f"The data in {path.parent} was written by a newer Hubbub (schema {version}, this one knows "
            f"{steps[-1][0]}). Use that version, or restore a backup made by this one."
        )
    for number, sql in steps:
        if number > version:
            db.execute(f"BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {number}; COMMIT")


def require(db: apsw.Connection, path: Path, steps: Sequence[tuple[int, str]]) -> None:
    """Raises Unavailable: the file is not of the version these steps lead to, and not ours to change."""
    version, known = cast(int, db.pragma("user_version")), steps[-1][0]
    if version != known:
        raise Unavailable(
            f"The server that runs on the data in {path.parent} is of another version (schema {version}, this one "
            f"works with {known}). Use the command that came with it, or stop it first."
        )


def epoch(db: apsw.Connection) -> str:
    """The epoch kept in the file, made at the first call."""
    sql = "SELECT value FROM meta WHERE name = 'epoch'"
    if db.execute(sql).fetchone() is None:
        db.execute("INSERT INTO meta (name, value) VALUES ('epoch', ?)", (new_id()[:8],))
    return cast(str, db.execute(sql).get)


def move(db: apsw.Connection) -> Move | None:
    """The move into this file, if there was one."""
    row = db.execute("SELECT value FROM meta WHERE name = 'move'").fetchone()
    return msgspec.json.decode(cast(str, row[0]), type=Move) if row else None


def fsync_s(directory: Path) -> float:
    """How long one fdatasync takes here, in seconds: the median of five; 0 when the disk is too full to try."""
    probe = directory / ".fsync-probe"
    times = []
    try:
        file = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(5):
                os.write(file, b"\0" * 4096)
                began = time.perf_counter()
                os.fdatasync(file)
                times.append(time.perf_counter() - began)
        finally:
            os.close(file)
            probe.unlink(missing_ok=True)
    except OSError:
        return 0.0
    return statistics.median(times)
