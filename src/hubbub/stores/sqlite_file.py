"""The file under the default store: who may open it, which schema it has, how fast its disk is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import statistics
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import cast

import apsw

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import new_id


class DirectoryLock:
    """Keeps a second server out of a directory, however the first one ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None

    def take(self) -> None:
        """Raises Unavailable: somebody has it, or the directory cannot be used."""
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
            raise Unavailable(
                f"Another Hubbub is already running on the data in {self._directory}. Stop it, or choose another "
                "directory with HUBBUB_HOME."
            ) from None
        self._file = lock

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def connect(path: Path) -> apsw.Connection:
    """A durable connection to the database, which is made when there is none, for its owner only."""
    with contextlib.suppress(FileExistsError):  # closing a file that SQLite has open would drop its locks
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(5000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY", "cache_size = -16000"):
            db.execute(f"PRAGMA {pragma}")
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


def epoch(db: apsw.Connection) -> str:
    """The epoch kept in the file, made at the first call."""
    db.execute("INSERT INTO meta (name, value) VALUES ('epoch', ?) ON CONFLICT DO NOTHING", (new_id()[:8],))
    return cast(str, db.execute("SELECT value FROM meta WHERE name = 'epoch'").get)


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
