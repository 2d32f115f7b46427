"""Is the database whole, does this version understand it, and can anybody sign in?"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import apsw

from hubbub.config import Settings
from hubbub.core.errors import Unavailable
from hubbub.doctor.findings import Finding, fine, note, wrong
from hubbub.stores import backup, sqlite_file
from hubbub.stores.sqlite import DATABASE


def served(home: Path) -> bool:
    """Does a server have the data?"""
    try:
        lock = os.open(home / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for no longer than this takes
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def database(settings: Settings) -> Iterator[Finding]:
    """Is it whole?"""
    path: Path = settings.home / DATABASE
    if settings.database_uri:
        yield from _mongodb(settings)
        return
    if settings.store != "sqlite":
        yield note("database", f"HUBBUB_STORE is '{settings.store}': everything is forgotten when the server stops.")
        return
    if backup.incoming(path).exists() and not served(settings.home):
        yield note(
            "backup", "A restored copy of the data waits; the next start puts it in the place of the present ones."
        )
    if not path.is_file():
        return
    known = sqlite_file.migrations()[-1][0]
    try:
        with closing(_read_only(path)) as db:
            version = cast(int, db.pragma("user_version"))
            if version > known:
                yield wrong(
                    "database",
                    f"The data were written by a newer Hubbub (schema {version}, this one knows {known}); use that "
                    "version, or restore a backup made by this one.",
                )
                return
            said = [str(row[0]) for row in db.execute("PRAGMA quick_check(1)")]
    except apsw.Error as failure:
        said = [str(failure)]
    if said == ["ok"]:
        older = "" if version == known else f"; the next start brings it from schema {version} to {known}"
        yield fine("database", f"The database {path} is whole{older}.")
    else:
        yield wrong(
            "database",
            f"The database {path} is damaged ({said[0].splitlines()[-1]}): stop the server, keep a copy of the "
            "directory, and put a backup in place with `hubbub restore FILE`.",
        )


def _mongodb(settings: Settings) -> Iterator[Finding]:
    """Does it answer, can it do what is needed, and does this version understand it?"""
    from hubbub.stores.mongo_look import look

    try:
        seen = look(settings.database_uri, settings.database_name)
    except Unavailable as refused:
        yield wrong("database", refused.detail)
        return
    if seen.schema > seen.known:
        yield wrong(
            "database",
            f"The database '{settings.database_name}' was written by a newer Hubbub (schema {seen.schema}, this one "
            f"knows {seen.known}); use that version.",
        )
    elif not seen.schema:
        yield note("database", f"The database '{settings.database_name}' is empty; the first start makes it.")
    else:
        yield fine("database", f"MongoDB answers and has the database '{settings.database_name}'.")


def accounts(settings: Settings) -> Iterator[Finding]:
    """With guests off, somebody must be able to sign in, and somebody to let others in."""
    try:
        everybody, admins = _count(settings)
    except Unavailable:  # which `database` says
        return
    if settings.guests_allowed:
        yield fine("accounts", f"Guests may come in; accounts: {everybody}, of admins: {admins}.")
    elif not everybody and not settings.registration_allowed:
        yield wrong(
            "accounts", "Guests are off and nobody has an account: `hubbub user add NAME --admin` makes the first."
        )
    elif not admins:
        how = "`hubbub user admin NAME` makes somebody one" if everybody else "`hubbub user add NAME --admin` adds one"
        yield wrong("accounts", f"Guests are off and nobody is an admin, who could let others in: {how}.")
    else:
        yield fine("accounts", f"Guests are off; accounts: {everybody}, of admins: {admins}.")


def _count(settings: Settings) -> tuple[int, int]:
    """Accounts that are not disabled, and admins among them; none where that cannot be read, which `database` says."""
    if settings.database_uri:
        from hubbub.stores.mongo_look import look

        seen = look(settings.database_uri, settings.database_name)
        return seen.accounts, seen.admins
    try:
        with closing(_read_only(settings.home / DATABASE)) as db:
            row = db.execute("SELECT count(*), coalesce(sum(admin), 0) FROM accounts WHERE NOT disabled").fetchone()
    except apsw.Error:
        return 0, 0
    return cast("tuple[int, int]", row)


def _read_only(path: Path) -> apsw.Connection:
    """Where there is no log there is no server either, and SQLite would make a log to read the file."""
    how = "" if path.with_name(path.name + "-wal").exists() else "?immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    db = apsw.Connection(path.absolute().as_uri() + how, flags=flags)
    db.set_busy_timeout(5000)
    return db
