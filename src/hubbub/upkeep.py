"""Looking after an installation from outside the server: backup, restore, and moving the data elsewhere."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from hubbub.config import Settings
from hubbub.core.errors import BadRequest, Unavailable
from hubbub.process import prepare_home
from hubbub.stores import backup
from hubbub.stores.archive import Archive, Told, move
from hubbub.stores.backup import Contents, incoming
from hubbub.stores.sqlite import DATABASE
from hubbub.stores.sqlite_file import DirectoryLock

TAKEN_IN_S = 20.0
"""How long a running server may take to let everybody go and begin anew."""

LOOK_EVERY_S = 0.5


def database(settings: Settings) -> Path:
    """The file of the default store. Raises BadRequest: the data are elsewhere, or nowhere."""
    if settings.database_uri:
        raise BadRequest(
            'The data are in MongoDB, which copies them itself: mongodump --uri="$DATABASE_URI" --db='
            f"{settings.database_name} --archive=FILE, and mongorestore --drop with the same puts them back."
        )
    if settings.store != "sqlite":
        raise BadRequest(f"HUBBUB_STORE is '{settings.store}': there is no file to copy.")
    home: Path = settings.home
    return home / DATABASE


def back_up(settings: Settings, file: Path, *, overwrite: bool) -> Contents:
    """Copy the data into a file. Raises BadRequest and Unavailable with what to do."""
    return backup.back_up(database(settings), file, overwrite=overwrite)


def restore(settings: Settings, file: Path) -> tuple[Contents, Path | None]:
    """Put a backup in the place of the data: what it holds, and where the data from before are kept. A server that runs
    on them lets everybody go and begins anew with the backup.

    Raises BadRequest: the file is no good; Unavailable: the server that runs did not take it in.
    """
    path = database(settings)
    prepare_home(settings.home)
    before = backup.kept_aside(path)
    contents = backup.lay_in(file, path)
    lock = DirectoryLock(settings.home)
    deadline = time.monotonic() + TAKEN_IN_S
    while incoming(path).exists():
        try:
            lock.take()
        except Unavailable:  # a server is running
            if time.monotonic() > deadline:
                raise Unavailable(
                    "The server that runs on these data has not taken the backup in; it will at its next start."
                ) from None
            time.sleep(0.1)
        else:
            backup.take_in(path)
        finally:
            lock.close()
    return contents, next(iter(backup.kept_aside(path) - before), None)


async def migrate(settings: Settings, source: str, target: str, told: Told) -> tuple[str, str, dict[str, int]]:
    """Move everything from `sqlite` to `mongodb` or back, or go on with that: where it was, where it is, and how many
    rows were moved, by kind; none when that had been done already. Raises BadRequest and Unavailable with what to do.
    """
    if source == target:
        raise BadRequest(f"The data are in {source} already: --from and --to name two different places.")
    if not settings.database_uri:
        raise BadRequest("Where MongoDB is, DATABASE_URI says, such as mongodb://127.0.0.1:27017/?replicaSet=rs0.")
    old, new = _archive(settings, source), _archive(settings, target)
    if target == "sqlite":
        prepare_home(settings.home)
    try:
        await old.open(fill=False)
        await new.open(fill=True)
        return old.name, new.name, await move(old, new, told)
    finally:
        await new.close()
        await old.close()


def _archive(settings: Settings, place: str) -> Archive:
    if place == "mongodb":
        from hubbub.stores.mongo_archive import MongoArchive

        return MongoArchive(settings.database_uri, settings.database_name)
    from hubbub.stores.sqlite_archive import SqliteArchive

    return SqliteArchive(settings.home / DATABASE)


async def replaced(settings: Settings) -> None:
    """Wait until a backup is to take the place of the data this server runs on."""
    if settings.store != "sqlite" or settings.database_uri:
        await asyncio.Event().wait()
    while not incoming(database(settings)).exists():  # noqa: ASYNC110 -- another process lays it there
        await asyncio.sleep(LOOK_EVERY_S)
