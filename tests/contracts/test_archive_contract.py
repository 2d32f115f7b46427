"""The contract of `stores.archive.Archive`, sentence by sentence, on every store that can be read out and filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hubbub.core.errors import BadRequest, KeyConflict, Unavailable
from hubbub.core.nouns import Member, Role
from hubbub.stores.archive import KINDS, About, Archive, Kind, Move, Row

from .conftest import Place

WORDS = ("b", "a", "é", "B", "a\0", "", "😀", "\uffff", "aa", " ")
"""UTF-16, the rules of a language and a name's case would each order them in another way than their bytes do."""

ONE_OF = {"role": Role.READER.value, "state": "running", "kind": "device", "scopes": "read write"}
"""Fields in which not every word may stand."""


def rows_of(kind: Kind) -> list[Row]:
    """As many different rows as there are words, in the order an archive gives them."""
    made = []
    for n, word in enumerate(WORDS):
        row: dict[str, Any] = {}
        for field, type in kind.fields.items():
            some = {str: f"{field} {word}", int: n + 1, float: n + 0.125, bool: n % 2 == 0}
            row[field] = ONE_OF.get(field, some[type])
        row |= {field: word for field in kind.key if kind.fields[field] is str}
        if kind.name == "memberships":
            row["role"] = Role.OWNER.value
        if kind.name == "threads":
            row["head"] = 0
        made.append(tuple(row.values()))
    if kind.in_order:
        return made
    return sorted(made, key=lambda row: [v.encode() if isinstance(v, str) else v for v in kind.identity(row)])


async def all_of(archive: Archive, kind: Kind, after: Row | None = None) -> list[Row]:
    return [row async for row in archive.rows(kind, after)]


each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


@each_kind
async def test_rows_come_back_as_they_were_written_and_in_their_order(archive: Archive, kind: Kind) -> None:
    rows = rows_of(kind)

    await archive.write(kind, rows[:4])
    await archive.write(kind, rows[4:])

    assert await all_of(archive, kind) == rows
    assert [[type(value) for value in row] for row in await all_of(archive, kind)] == [
        [type(value) for value in row] for row in rows
    ]
    assert await archive.count(kind) == len(rows)


@each_kind
async def test_rows_are_read_on_behind_any_of_them(archive: Archive, kind: Kind) -> None:
    rows = rows_of(kind)
    await archive.write(kind, rows)

    for at, row in enumerate(rows):
        only_key = tuple(value if field in kind.key else None for field, value in zip(kind.fields, row, strict=True))
        assert await all_of(archive, kind, only_key) == rows[at + 1 :]


@each_kind
async def test_the_last_row_is_the_last_of_that_order(archive: Archive, kind: Kind) -> None:
    rows = rows_of(kind)
    assert await archive.last(kind) is None

    for row in rows:
        await archive.write(kind, [row])
        assert await archive.last(kind) == row


@each_kind
async def test_a_batch_is_written_as_a_whole_or_not_at_all(archive: Archive, kind: Kind) -> None:
    rows = rows_of(kind)
    await archive.write(kind, rows[:2])

    with pytest.raises(KeyConflict):
        await archive.write(kind, [*rows[2:6], rows[1]])
    assert await all_of(archive, kind) == rows[:2]

    await archive.write(kind, rows[2:])
    assert await all_of(archive, kind) == rows


def nothing_where_it_may_be(kind: Kind) -> Sequence[str]:
    missing = {
        "messages": ("destination", "metadata", "reply_to", "run", "key"),
        "threads": ("pair",),
        "runs": ("error", "message", "seq"),
        "tokens": ("expires",),
    }
    return missing.get(kind.name, ())


@each_kind
async def test_what_is_missing_stays_missing(archive: Archive, kind: Kind) -> None:
    names = nothing_where_it_may_be(kind)
    rows = [
        tuple(None if field in names else value for field, value in zip(kind.fields, row, strict=True))
        for row in rows_of(kind)
    ]

    await archive.write(kind, rows)

    assert await all_of(archive, kind) == rows


async def test_a_new_place_takes_the_epoch_and_the_rights_of_a_move(archive: Archive) -> None:
    move = Move(epoch="epoch", left="left")

    assert await archive.about() == About(epoch="epoch", rights=7, move=move)


async def test_no_server_starts_until_the_move_is_done(archive: Archive, place: Place) -> None:
    move = (await archive.about()).move
    assert move is not None
    await archive.close()

    with pytest.raises(Unavailable, match=r"Not everything has been moved into .*; then start this again"):
        await place.store().open()


async def test_a_server_starts_once_it_is(archive: Archive, place: Place) -> None:
    move = (await archive.about()).move
    assert move is not None
    await archive.finish(move)
    await archive.close()

    store = place.store()
    await store.open()
    assert store.epoch == "epoch"
    assert (await store.accounts.changes_after(0)).version == 7
    await store.close()


async def test_what_is_left_has_another_epoch(archive: Archive) -> None:
    move = Move(epoch="epoch", left="another")

    for _ in range(2):  # killed right after, it is left once more
        await archive.leave(move)
        assert (await archive.about()).epoch == "another"


async def test_what_was_moved_to_another_place_meanwhile_is_not_left_again(archive: Archive) -> None:
    await archive.leave(Move(epoch="epoch", left="there"))

    with pytest.raises(Unavailable, match=r"What is in .* was moved to another place meanwhile"):
        await archive.leave(Move(epoch="epoch", left="here"))

    assert (await archive.about()).epoch == "there"


async def test_what_a_server_adds_comes_after_what_was_moved(archive: Archive, place: Place) -> None:
    members = next(kind for kind in KINDS if kind.name == "members")
    await archive.write(members, [("zoe", "Zoe", "person", True)])
    await archive.finish(Move(epoch="epoch", left="left"))
    await archive.close()

    store = place.store()
    await store.open()
    await store.add_member(Member(name="Adam"))
    assert [member.name for member in await store.members()] == ["Zoe", "Adam"]
    await store.close()


async def test_a_place_where_there_is_nothing_cannot_be_read_out_and_stays_empty(place: Place) -> None:
    place.clear()
    for _ in range(2):
        archive = place.archive()
        with pytest.raises(BadRequest, match="There are no data in"):
            await archive.open(fill=False)
        await archive.close()


async def test_half_a_place_cannot_be_read_out(archive: Archive, place: Place) -> None:
    await archive.close()

    again = place.archive()
    with pytest.raises(Unavailable, match="Not everything has been moved"):
        await again.open(fill=False)
    await again.close()


@pytest.mark.parametrize("fill", [False, True])
async def test_a_place_that_a_server_uses_is_refused(place: Place, fill: bool) -> None:
    archive = place.archive()
    store = place.store()
    await store.open()

    with pytest.raises(Unavailable, match="running on"):
        await archive.open(fill=fill)

    await archive.close()
    await store.close()


async def test_closing_twice_is_safe(archive: Archive) -> None:
    await archive.close()
    await archive.close()
