"""The file of the default store as an archive. See `stores.archive.Archive` for what each method promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec

from hubbub.core.errors import BadRequest, KeyConflict, Unavailable
from hubbub.stores import backup, sqlite_file
from hubbub.stores.archive import About, Kind, Move, Row, require_done
from hubbub.stores.group_commit import outside

COLUMN = {"trigger": "trigger_"}
DERIVED = {"head": "(SELECT coalesce(max(seq), 0) FROM messages WHERE thread = threads.id)"}
"""What is not kept in a column of its own."""


class SqliteArchive:
    """Nobody else can open the directory meanwhile, neither a server nor a command.

    Args:
        path: the database file; its directory must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"the file {path}"
        self._open = ExitStack()

    async def open(self, *, fill: bool) -> None:
        waits = backup.incoming(self.path).exists()
        if fill and waits:
            raise BadRequest(
                f"A backup waits in {self.path.parent} to take the place of what is there; start a server."
            )
        if not (fill or waits or self.path.exists()):
            raise BadRequest(f"There are no data in {self.path.parent}.")
        with ExitStack() as undo:
            lock = sqlite_file.DirectoryLock(self.path.parent)
            undo.callback(lock.close)
            lock.take()
            undo.enter_context(sqlite_file.alone(self.path.parent))
            try:
                backup.take_in(self.path)
                sqlite_file.rewrite_log(self.path)
                self._db = sqlite_file.connect(self.path)
                undo.callback(self._db.close)
                sqlite_file.migrate(self._db, self.path, sqlite_file.migrations())
                sqlite_file.epoch(self._db)
                if not fill:
                    require_done(sqlite_file.move(self._db), self.name)
            except (apsw.Error, OSError) as failure:
                raise Unavailable(f"The database {self.path} cannot be opened: {failure}") from failure
            self._open = undo.pop_all()

    async def close(self) -> None:
        self._open.close()

    async def require_alone(self) -> None:
        """The lock sees to that."""

    async def about(self) -> About:
        [(rights,)] = self._read("SELECT value FROM meta WHERE name = 'rights'")
        with _outcomes():
            move = sqlite_file.move(self._db)
            return About(epoch=sqlite_file.epoch(self._db), rights=int(rights), move=move)

    async def count(self, kind: Kind) -> int:
        return cast(int, self._read(f"SELECT count(*) FROM {kind.name}")[0][0])

    async def rows(self, kind: Kind, after: Row | None = None) -> AsyncGenerator[Row, None]:
        order = "n" if kind.in_order else ", ".join(kind.key)
        key, marks = f"({', '.join(kind.key)})", f"({', '.join('?' * len(kind.key))})"
        behind = f"n > (SELECT n FROM {kind.name} WHERE {key} = {marks})" if kind.in_order else f"{key} > {marks}"
        where, values = ("", ()) if after is None else (f"WHERE {behind}", kind.identity(after))
        with _outcomes():  # one row after the other: a message may have a megabyte
            for found in self._db.execute(
                f"SELECT {_columns(kind)} FROM {kind.name} {where} ORDER BY {order}",
                cast(Any, values),
            ):
                yield _row(kind, found)

    async def last(self, kind: Kind) -> Row | None:
        order = "n DESC" if kind.in_order else ", ".join(f"{field} DESC" for field in kind.key)
        found = self._read(f"SELECT {_columns(kind)} FROM {kind.name} ORDER BY {order} LIMIT 1")
        return _row(kind, found[0]) if found else None

    async def begin(self, move: Move, rights: int) -> None:
        with _outcomes(), self._db:
            self._keep("move", msgspec.json.encode(move).decode())
            self._keep("epoch", move.epoch)
            self._keep("rights", str(rights))

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        kept = [(at, COLUMN.get(field, field)) for at, field in enumerate(kind.fields) if field not in DERIVED]
        columns, marks = ", ".join(column for _, column in kept), ", ".join("?" * len(kept))
        with _outcomes(), self._db:
            self._db.executemany(
                f"INSERT INTO {kind.name} ({columns}) VALUES ({marks})",
                (tuple(row[at] for at, _ in kept) for row in rows),
            )

    async def finish(self, move: Move) -> None:
        with _outcomes(), self._db:
            self._keep("move", msgspec.json.encode(msgspec.structs.replace(move, done=True)).decode())

    async def leave(self, move: Move) -> None:
        if (await self.about()).epoch not in (move.epoch, move.left):
            raise Unavailable(f"What is in {self.name} was moved to another place meanwhile.")
        with _outcomes(), self._db:
            self._keep("epoch", move.left)

    def _keep(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?,?)", (name, value))

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _outcomes():
            return self._db.execute(sql, tuple(values)).fetchall()


def _columns(kind: Kind) -> str:
    return ", ".join(DERIVED.get(field) or COLUMN.get(field, field) for field in kind.fields)


def _row(kind: Kind, values: Sequence[Any]) -> Row:
    return tuple(
        None if value is None else type(value) for type, value in zip(kind.fields.values(), values, strict=True)
    )


@contextmanager
def _outcomes() -> Iterator[None]:
    try:
        yield
    except apsw.ConstraintError as failure:
        raise KeyConflict("Two rows have what one of them alone may have.") from failure
    except apsw.Error as failure:
        raise outside(failure) from failure
