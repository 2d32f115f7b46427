"""A store opened from outside, to be read out or filled row by row, and moving everything from one into another.

`KINDS` says what there is to move; what a store makes of it by itself, such as indexes, is not in there. Both sides
give the rows of a kind in the same order, so what is there already says how far a move has come, and reading both
again says whether they hold the same. Until that is known no server starts on the target.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from hubbub.core.errors import BadRequest, KeyConflict, Unavailable
from hubbub.core.nouns import new_id

Value = str | int | float | bool | None
Row = tuple[Value, ...]

BATCH_ROWS = 1000
BATCH_CHARACTERS = 1 << 20
"""A batch is closed by the row that reaches one of these; a message has 1 MiB at most."""


class Kind(msgspec.Struct, frozen=True):
    """The rows of one kind. A field that may be missing is None there.

    Args:
        fields: their types, in the order of a row.
        key: what no two rows share. They are ordered by it, text by its bytes in UTF-8, when they have no order of
            their own.
        in_order: they have: which was first is to be known for good.
    """

    name: str
    fields: Mapping[str, type]
    key: tuple[str, ...]
    in_order: bool = False

    def identity(self, row: Row) -> Row:
        """The values of its key."""
        names = tuple(self.fields)
        return tuple(row[names.index(field)] for field in self.key)


KINDS = (
    Kind("members", {"key": str, "name": str, "kind": str, "arrived": bool}, key=("key",), in_order=True),
    Kind(
        "threads",
        {"id": str, "title": str, "public": bool, "pair": str, "head": int, "member_count": int},
        key=("id",),
        in_order=True,
    ),
    Kind(
        "memberships",
        {"thread": str, "member": str, "seen": int, "role": str, "personality": str},
        key=("thread", "member"),
        in_order=True,
    ),
    Kind("readers", {"thread": str, "member": str}, key=("thread", "member")),
    Kind(
        "messages",
        {
            "thread": str,
            "seq": int,
            "id": str,
            "sender": str,
            "destination": str,
            "type": str,
            "text": str,
            "timestamp": str,
            "metadata": str,
            "reply_to": str,
            "run": str,
            "key": str,
        },
        key=("thread", "seq"),
    ),
    Kind(
        "runs",
        {
            "id": str,
            "thread": str,
            "assistant": str,
            "trigger": int,
            "depth": int,
            "state": str,
            "attempt": int,
            "error": str,
            "message": str,
            "seq": int,
            "asked_by": str,
        },
        key=("id",),
        in_order=True,
    ),
    Kind("assistants", {"key": str, "body": str}, key=("key",), in_order=True),
    Kind(
        "accounts",
        {
            "key": str,
            "name": str,
            "password": str,
            "admin": bool,
            "disabled": bool,
            "generation": int,
            "version": int,
        },
        key=("key",),
    ),
    Kind(
        "tokens",
        {
            "id": str,
            "member": str,
            "label": str,
            "digest": str,
            "scopes": str,  # separated by spaces
            "created": float,
            "expires": float,
            "revoked": bool,
            "version": int,
        },
        key=("id",),
    ),
    Kind("signed_out", {"id": str, "expires": float, "version": int}, key=("id",)),
)


class Move(msgspec.Struct, frozen=True):
    """What a target remembers of a move into it. The epoch goes along, since the log does and every cursor stays good;
    what is left behind is from then on another log, and gets the epoch `left`."""

    epoch: str
    left: str
    done: bool = False


def require_done(move: Move | None, name: str) -> None:
    """Raises Unavailable: not everything is in the store called `name` yet."""
    if move is not None and not move.done:
        raise Unavailable(
            f"Not everything has been moved into {name} yet: finish that with the same 'hubbub migrate' as before, "
            "which goes on where it was; then start this again."
        )


class About(msgspec.Struct, frozen=True):
    """What an archive says of itself. `rights` is the version of `Accounts.changes_after`; `move`: the one into it."""

    epoch: str
    rights: int
    move: Move | None


class Archive(Protocol):
    """A store's data, ours alone as far as can be told. Every method may raise Unavailable and StorageFull."""

    name: str
    """Where it is, for a person: `the file /srv/hubbub/hubbub.db`. Without a secret."""

    async def open(self, *, fill: bool) -> None:
        """Bring the schema up to date, as a server would. To `fill` it, it is made when there is none.

        Raises BadRequest: there is nothing to read out; Unavailable with the sentence to show: a server is using it, a
        newer version has written it, a move into it was not finished (unless it is to be filled).
        """

    async def close(self) -> None:
        """Let go of everything. Safe to call twice."""

    async def require_alone(self) -> None:
        """Raises Unavailable: a server is using it."""

    async def about(self) -> About: ...

    async def count(self, kind: Kind) -> int:
        """About how many rows there are."""

    def rows(self, kind: Kind, after: Row | None = None) -> AsyncGenerator[Row, None]:
        """The rows in their order, those behind `after`, of which only the key counts."""

    async def last(self, kind: Kind) -> Row | None:
        """The last one of them."""

    async def begin(self, move: Move, rights: int) -> None:
        """Keep that this move is under way, and take the epoch and the version of the rights. From then on nobody who
        began earlier can write."""

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Add rows behind the last one: all of them or, whatever happens, none. Raises KeyConflict: one has what
        another has to itself."""

    async def finish(self, move: Move) -> None:
        """The move is done; servers may start."""

    async def leave(self, move: Move) -> None:
        """Take the epoch `left`: the log goes on elsewhere. Raises Unavailable: it went to another place meanwhile."""


Told = Callable[[str, int, int], None]
"""What is being done (`moving messages`), how many rows of it are done, and of how many."""


async def move(source: Archive, target: Archive, told: Told) -> dict[str, int]:
    """Copy everything, or go on with that, and make sure of it; how many rows were moved, by kind. Both are open.

    Killed at any moment, it can be called again. Once it was done there is nothing more to do, and it says so again.

    Raises BadRequest: the target holds something else; Unavailable: the two do not hold the same afterwards.
    """
    origin, found = await source.about(), (await target.about()).move
    if found is None:
        for kind in KINDS:
            if await target.last(kind) is not None:
                raise BadRequest(_full(target))
        found = Move(epoch=origin.epoch, left=new_id()[:8])
    elif found.done and origin.epoch != found.left:
        raise BadRequest(_full(target))
    elif origin.epoch not in (found.epoch, found.left):
        raise BadRequest(
            f"Something else than {source.name} is being moved into {target.name}: finish that first, or choose "
            "another place with --home or --database-name."
        )
    if found.done:
        return {}
    await target.begin(found, origin.rights)
    await target.require_alone()  # whoever comes from now on reads that it has begun
    for kind in KINDS:
        await _copy(kind, source, target, told)
    moved = {kind.name: await _compare(kind, source, target, told) for kind in KINDS}
    await source.require_alone()
    await source.leave(found)
    await target.finish(found)
    return moved


def _full(target: Archive) -> str:
    return (
        f"There are data in {target.name} already, and everything is moved into an empty place only: choose another "
        "with --home or --database-name."
    )


async def _copy(kind: Kind, source: Archive, target: Archive, told: Told) -> None:
    done, of = await target.count(kind), await source.count(kind)
    async with aclosing(source.rows(kind, await target.last(kind))) as rows:
        async for batch in _batches(rows):
            told(f"moving {kind.name}", done, of)
            try:
                await target.write(kind, batch)
            except KeyConflict:
                raise _different(kind, source, target, batch[0], "at or behind") from None
            done += len(batch)
    told(f"moving {kind.name}", done, of)


async def _batches(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    async for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _compare(kind: Kind, source: Archive, target: Archive, told: Told) -> int:
    """How many rows both have. Raises Unavailable: they are not the same, or not in the same order."""
    done, of = 0, await source.count(kind)
    async with aclosing(source.rows(kind)) as ours, aclosing(target.rows(kind)) as theirs:
        async for row in ours:
            if row != await anext(theirs, None):
                raise _different(kind, source, target, row)
            done += 1
            if done % BATCH_ROWS == 0:
                told(f"comparing {kind.name}", done, of)
        async for more in theirs:
            raise _different(kind, source, target, more)
    told(f"comparing {kind.name}", done, of)
    return done


def _different(kind: Kind, source: Archive, target: Archive, row: Row, where: str = "first at") -> Unavailable:
    key = ", ".join(f"{field} {value!r}" for field, value in zip(kind.key, kind.identity(row), strict=True))
    return Unavailable(
        f"The {kind.name} in {source.name} and in {target.name} are not the same, {where} {key}; so the move is "
        "not done: was one of them used since it began? Empty the second and begin again."
    )
