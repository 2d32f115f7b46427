"""Copies of the data, taken while they are being written, and putting such a copy in their place.

A copy is one SQLite file, as of one moment: reading it out holds a snapshot and stops no writer. To restore, the copy
is laid beside the database, complete and on disk; whoever has the directory to itself then swaps the two (`take_in`). A
kill at any moment leaves either the old data, or the copy waiting to be taken in at the next start.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import cast

import apsw

from hubbub.core.errors import BadRequest, Unavailable
from hubbub.core.nouns import new_generation, new_id
from hubbub.stores import sqlite_file


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy holds."""

    threads: int
    messages: int
    newest: str | None  # timestamp of the message written last
    bytes: int

    def __str__(self) -> str:
        newest = f", the newest of {self.newest}" if self.newest else ""
        return f"{self.messages:,} messages in {self.threads:,} threads{newest} ({self.bytes / (1 << 20):,.1f} MB)"


def incoming(path: Path) -> Path:
    """Where a copy waits to take the place of the database at `path`."""
    return path.with_name(path.name + ".incoming")


def back_up(path: Path, to: Path, *, overwrite: bool = False) -> Contents:
    """Copy the database at `path` into the file `to`. A server may be writing meanwhile.

    Raises BadRequest: there are no data, or the file exists; Unavailable: it could not be written.
    """
    if not path.exists():
        raise BadRequest(f"There are no data in {path.parent}.")
    if to.is_dir():
        raise BadRequest(f"{to} is a directory; give the name of a file.")
    if to.exists() and not overwrite:
        raise BadRequest(f"{to} exists already; choose another name, or say --overwrite.")
    _copy(path, to)
    return look_into(to)


def look_into(file: Path) -> Contents:
    """What is in a copy. Raises BadRequest when it is none, is damaged, or was made by a newer version."""
    if not file.is_file():
        raise BadRequest(f"There is no file {file}.")
    wrong = f"{file} is not a backup of Hubbub"
    try:
        db = apsw.Connection(f"{file.resolve().as_uri()}?immutable=1", flags=_READ | apsw.SQLITE_OPEN_URI)
    except apsw.Error as failure:
        raise BadRequest(f"{wrong}: {failure}.") from None
    try:
        version = cast(int, db.pragma("user_version"))
        if db.pragma("quick_check") != "ok":
            raise BadRequest(f"{file} is damaged; use another backup.")
        [(threads, messages, newest)] = cast(
            "list[tuple[int, int, str | None]]",
            db.execute("SELECT (SELECT count(*) FROM threads), count(*), max(timestamp) FROM messages").fetchall(),
        )
        db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchall()
    except apsw.Error as failure:
        raise BadRequest(f"{wrong}: {failure}.") from None
    finally:
        db.close()
    if version > (known := sqlite_file.migrations()[-1][0]):
        raise BadRequest(f"{file} was written by a newer Hubbub (schema {version}, this one knows {known}).")
    return Contents(threads, messages, newest, file.stat().st_size)


def lay_in(file: Path, path: Path) -> Contents:
    """Lay a copy beside the database, to be taken in. It gets a new epoch, so that every reader's old cursor is
    noticed. Raises what `look_into` and `_copy` raise."""
    contents = look_into(file)
    _copy(file, incoming(path), epoch=new_id()[:8])
    return contents


def take_in(path: Path) -> Path | None:
    """Put a waiting copy in the place of the database, whose directory the caller has locked. Where the data that were
    there are kept; None when no copy waits."""
    copy = incoming(path)
    if not copy.exists():
        return None
    at = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    names = (path.with_name(f"{path.name}.before-{at}{more}Z") for more in chain([""], (f".{n}" for n in count(2))))
    kept = next(name for name in names if not name.exists())
    if path.exists():
        with contextlib.suppress(apsw.Error, OSError):  # what is being replaced may be damaged: that is why
            sqlite_file.rewrite_log(path)
            sqlite_file.connect(path).close()  # the last to close takes the log in
        path.replace(kept)
    for rest in ("-wal", "-shm"):  # SQLite would take a log that lies here for the copy's own
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + rest).replace(kept.with_name(kept.name + rest))
    copy.replace(path)
    _sync(path.parent)
    return kept


_READ = apsw.SQLITE_OPEN_READONLY


def kept_aside(path: Path) -> set[Path]:
    """The data that copies have replaced."""
    return set(path.parent.glob(f"{path.name}.before-*Z"))


def _sign_out(db: apsw.Connection) -> None:
    """What was revoked after the copy was made would be good again: so nobody is signed in any more, and no token is
    worth anything."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'accounts'").fetchone():
        return  # it is from before there were accounts
    for (key,) in db.execute("SELECT key FROM accounts").fetchall():
        db.execute("UPDATE accounts SET generation = ? WHERE key = ?", (new_generation(), key))
    db.execute("UPDATE tokens SET revoked = 1")


def _copy(source: Path, to: Path, *, epoch: str | None = None) -> None:
    """A snapshot of `source`, for its owner only, on disk under its name or not there at all."""
    part = to.with_name(f".{to.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        old = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)  # it may have to recover a log
        try:
            old.set_busy_timeout(5000)
            new = apsw.Connection(str(part))
            try:
                with new.backup("main", old, "main") as copying:
                    copying.step(-1)
                new.pragma("journal_mode", "DELETE")  # one file, whole in itself
                if epoch is not None:
                    new.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('epoch', ?)", (epoch,))
                    _sign_out(new)
            finally:
                new.close()
        finally:
            old.close()
        _sync(part)
        part.replace(to)
        _sync(to.parent)
    except (OSError, apsw.Error) as failure:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        why = failure.strerror if isinstance(failure, OSError) else str(failure)
        raise Unavailable(f"{to} could not be written: {why}.") from None


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
