"""Everything moves from one store into another and back, whenever it is stopped, and life goes on there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from hubbub.core.errors import BadRequest, NotFound, Unavailable
from hubbub.core.nouns import Membership, Role, RunState, Thread
from hubbub.core.ports import Store
from hubbub.stores import archive, backup, mongo_archive
from hubbub.stores.archive import KINDS, Archive, Kind, Move, Row, move
from hubbub.stores.mongo import MongoStore
from hubbub.stores.mongo_archive import MongoArchive
from hubbub.stores.sqlite import SqliteStore
from hubbub.stores.sqlite_archive import SqliteArchive
from support import mongod
from support.everything import GARDEN, draft, furnish, seen_of

NAME = "moving"
MESSAGES = next(kind for kind in KINDS if kind.name == "messages")


class Places:
    """A directory for each name, and a MongoDB database."""

    def __init__(self, tmp: Path, server: mongod.Mongod) -> None:
        self._tmp = tmp
        self.server = server
        self._uri = mongod.uri([server])

    def file(self, name: str) -> Path:
        (self._tmp / name).mkdir(exist_ok=True)
        return self._tmp / name / "hubbub.db"

    def store(self, name: str) -> Store:
        return MongoStore(self._uri, NAME) if name == "mongodb" else SqliteStore(self.file(name))

    def archive(self, name: str) -> Archive:
        return MongoArchive(self._uri, NAME) if name == "mongodb" else SqliteArchive(self.file(name))

    @asynccontextmanager
    async def opened(self, name: str) -> AsyncIterator[Store]:
        store = self.store(name)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def move(self, source: str, target: str, wrapped: Callable[[Any], Any] | None = None) -> int:
        """How many kinds were moved."""
        old, new = self.archive(source), self.archive(target)
        try:
            await old.open(fill=False)
            await new.open(fill=True)
            return len(await move(old, wrapped(new) if wrapped else new, lambda about, done, of: None))
        finally:
            await new.close()
            await old.close()

    async def under_way(self, name: str) -> bool:
        """Has a move there begun that is not done?"""
        opened = self.archive(name)
        try:
            await opened.open(fill=True)
            found = (await opened.about()).move
            return found is not None and not found.done
        finally:
            await opened.close()

    async def rows(self, name: str) -> dict[str, Any]:
        """Every row of every kind, and what else is moved."""
        opened = self.archive(name)
        try:
            await opened.open(fill=False)
            about = await opened.about()
            kinds: dict[str, Any] = {kind.name: [row async for row in opened.rows(kind)] for kind in KINDS}
            return {**kinds, "epoch": about.epoch, "rights": about.rights}
        finally:
            await opened.close()


@pytest.fixture
def places(tmp_path: Path, mongo: mongod.Mongod) -> Places:
    mongod.wipe(mongo, NAME)
    return Places(tmp_path, mongo)


@pytest.fixture
async def house(places: Places) -> Places:
    async with places.opened("first") as store:
        await furnish(store)
    return places


async def test_a_house_with_everything_is_the_same_in_every_row_after_moving_there_and_back(house: Places) -> None:
    before = await house.rows("first")
    assert all(before[kind.name] for kind in KINDS), "there is something of everything"

    assert await house.move("first", "mongodb") == len(KINDS)
    assert await house.rows("mongodb") == before
    assert await house.move("mongodb", "second") == len(KINDS)

    assert await house.rows("second") == before


async def test_the_house_looks_the_same_through_the_store(house: Places) -> None:
    async with house.opened("first") as store:
        before = await seen_of(store)

    await house.move("first", "mongodb")
    async with house.opened("mongodb") as store:
        assert await seen_of(store) == before
    await house.move("mongodb", "second")
    async with house.opened("second") as store:
        assert await seen_of(store) == before


@pytest.mark.parametrize("way", [("first", "mongodb"), ("first", "mongodb", "second")], ids=["there", "and back"])
async def test_life_goes_on_where_it_was(house: Places, way: Sequence[str]) -> None:
    for source, target in pairwise(way):
        await house.move(source, target)

    async with house.opened(way[-1]) as store:
        head = (await store.heads([GARDEN]))[GARDEN]
        assert (await store.append(draft("next"))).seq == head + 1
        assert (await store.append(draft("hello", key="k1"))).seq == 1
        marks = {one.member: one.seen for one in await store.memberships("lobby")}
        assert marks["Bob"] == 7
        with pytest.raises(NotFound):
            await store.append(draft("may I?", "Bob"), roles=frozenset({Role.OWNER, Role.MEMBER}))
        await store.join(Membership(thread=GARDEN, member="Çelik"), None)
        assert await store.role(GARDEN, "Çelik") is Role.READER

        await store.create_thread(Thread(id="new", public=True), [])
        assert [thread.id for thread in await store.public_threads()] == ["lobby", "empty", "new"]
        assert (await store.memberships(GARDEN))[-1].member == "Çelik"
        again = await store.create_thread(
            Thread(id="other", private=True), [Membership(thread="other", member=name) for name in ("STRASSE", "ann")]
        )
        assert again.id == "two"

        assert [run.id for run in await store.open_runs()] == ["r-queued", "r-running", "r-asked"]
        ended = await store.end_run("r-running", 2, RunState.COMPLETED, None, draft("Another.", "poet"))
        assert ended is not None
        assert ended.seq == head + 2

        version = (await store.accounts.changes_after(0)).version
        await store.accounts.revoke_token("t2")
        changed = await store.accounts.changes_after(version)
        assert changed.version == version + 1
        assert [token.id for token in changed.tokens] == ["t2"]
        assert not changed.accounts


async def test_a_batch_has_so_many_rows_and_so_much_text_at_most(
    house: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH_ROWS", 5)
    monkeypatch.setattr(archive, "BATCH_CHARACTERS", 100)
    sizes: list[list[int]] = []

    class Weighed(Breaking):
        async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
            sizes.append([sum(len(value) for value in row if isinstance(value, str)) for row in rows])
            await self._inner.write(kind, rows)

    await house.move("first", "mongodb", lambda new: Weighed(new, 0, after=True))

    assert max(map(len, sizes)) == 5
    assert max(sum(batch[:-1]) for batch in sizes) < 100
    assert any(sum(batch) >= 100 and len(batch) < 5 for batch in sizes)


async def test_the_epoch_goes_with_the_log_and_what_is_left_behind_has_another(house: Places) -> None:
    async with house.opened("first") as store:
        epoch = store.epoch

    await house.move("first", "mongodb")

    async with house.opened("mongodb") as there, house.opened("first") as here:
        assert there.epoch == epoch != here.epoch


# Stopped on the way


class Stopped(Exception):
    pass


class Breaking:
    """An archive that stops before or after its n-th change."""

    def __init__(self, inner: Archive, n: int, *, after: bool) -> None:
        self._inner = inner
        self._left = n
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _change(self, name: str, *given: Any) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Stopped
        await getattr(self._inner, name)(*given)
        if self._left == 0:
            raise Stopped

    async def begin(self, *given: Any) -> None:
        await self._change("begin", *given)

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        await self._change("write", kind, rows)

    async def finish(self, *given: Any) -> None:
        await self._change("finish", *given)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", [("first", "mongodb"), ("mongodb", "second")], ids="-".join)
async def test_stopped_at_any_change_it_goes_on_and_ends_right(
    house: Places, way: tuple[str, str], after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await house.rows("first")
    if way[0] == "mongodb":
        await house.move("first", "mongodb")
    monkeypatch.setattr(archive, "BATCH_ROWS", 4)
    monkeypatch.setattr(mongo_archive, "STRETCH", 6)

    stops, n, moved = 0, 1, None
    while moved is None:
        try:
            moved = await house.move(*way, lambda new: Breaking(new, n, after=after))  # noqa: B023
        except Stopped:
            stops += 1
            n = stops % 3 + 2  # each time it gets some way, not always as far
            assert stops < 100
            if await house.under_way(way[1]):
                with pytest.raises(Unavailable, match=r"Not everything has been moved .* the same 'hubbub migrate'"):
                    await house.store(way[1]).open()
            else:
                assert after != (stops == 1), "either it had not begun, or it was done"

    assert stops > 5
    assert await house.rows(way[1]) == before


async def test_what_was_moved_before_is_not_moved_again_over_what_has_come_since(house: Places) -> None:
    await house.move("first", "mongodb")
    async with house.opened("mongodb") as store:
        await store.append(draft("later"))
    now = await house.rows("mongodb")

    assert await house.move("first", "mongodb") == 0

    assert await house.rows("mongodb") == now


async def test_whoever_began_earlier_writes_no_more(places: Places) -> None:
    """As of two who were told to move into the same database from different machines."""
    earlier, later = places.archive("mongodb"), places.archive("mongodb")
    found = Move(epoch="epoch", left="left")
    try:
        for one in (earlier, later):
            await one.open(fill=True)
            await one.begin(found, 0)
        await later.write(KINDS[0], [("ann", "Ann", "person", True)])

        with pytest.raises(Unavailable, match="Another 'hubbub migrate' has begun"):
            await earlier.write(KINDS[0], [("bob", "Bob", "person", True)])
        with pytest.raises(Unavailable, match="Another 'hubbub migrate' has begun"):
            await earlier.finish(found)

        assert [row async for row in later.rows(KINDS[0])] == [("ann", "Ann", "person", True)]
    finally:
        await later.close()
        await earlier.close()


async def test_a_batch_that_a_killed_one_left_under_way_keeps_nobody_out_for_long(house: Places) -> None:
    """MongoDB would wait a minute for it."""
    with contextlib.suppress(Stopped):
        await house.move("first", "mongodb", lambda new: Breaking(new, 3, after=True))
    before = await house.rows("first")
    killed: AsyncMongoClient[Any] = AsyncMongoClient(mongod.uri([house.server]), appname=f"hubbub migrate {NAME}")
    session = killed.start_session()
    await session.start_transaction()
    await killed[NAME]["meta"].update_one({"_id": "move"}, {"$inc": {"writes": 1}}, session=session)

    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(Unavailable):
                await house.move("first", "mongodb")
                break

    assert await house.rows("mongodb") == before
    await killed.close()


async def test_what_was_half_deleted_is_not_moved(house: Places) -> None:
    await house.move("first", "mongodb")
    with house.server.client() as client:
        db = client[NAME]
        db["threads"].update_one({"_id": "two"}, {"$set": {"deleting": True}, "$unset": {"pair": ""}})
        db["memberships"].delete_many({"thread": "two"})

    await house.move("mongodb", "second")

    rows = await house.rows("second")
    assert "two" not in [row[0] for row in (*rows["threads"], *rows["messages"])]
    async with house.opened("second") as store:
        assert await store.private_thread("ann", "STRASSE") is None


async def stopped_in_the_messages(house: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything before the messages is in MongoDB, and those of the first threads."""
    monkeypatch.setattr(archive, "BATCH_ROWS", 4)
    rows = await house.rows("first")
    before = sum(-(-len(rows[kind.name]) // 4) for kind in KINDS[: KINDS.index(MESSAGES)])
    with contextlib.suppress(Stopped):
        await house.move("first", "mongodb", lambda new: Breaking(new, before + 5, after=True))


async def test_a_house_that_was_used_meanwhile_is_noticed(house: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    await stopped_in_the_messages(house, monkeypatch)
    async with house.opened("first") as store:
        await store.update_thread("lobby", title="Another")
        later = await store.append(draft("later"))

    where = r"The threads in .* are not the same, first at id 'lobby'; .* Empty the second and begin again"
    with pytest.raises(Unavailable, match=where):
        await house.move("first", "mongodb")

    with house.server.client() as client:
        client.drop_database(NAME)
    await house.move("first", "mongodb")
    async with house.opened("mongodb") as store:
        assert await store.message(GARDEN, later.seq) == later


async def test_a_key_that_was_used_again_meanwhile_is_told_as_what_it_is(
    house: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stopped_in_the_messages(house, monkeypatch)
    async with house.opened("first") as store:
        await store.delete_thread(GARDEN)
        await store.append(draft("again", thread="lobby", key="k1"))

    with pytest.raises(Unavailable, match=r"The messages in .* are not the same, at or behind thread 'lobby', seq"):
        await house.move("first", "mongodb")


# Refused


async def test_a_place_where_there_is_something_is_refused_and_left_alone(house: Places) -> None:
    async with house.opened("mongodb") as store:
        await store.create_thread(Thread(id="mine"), [])
    now = await house.rows("mongodb")

    with pytest.raises(BadRequest, match="There are data in the MongoDB database 'moving' already"):
        await house.move("first", "mongodb")

    assert await house.rows("mongodb") == now


async def test_a_place_where_a_backup_waits_is_refused(house: Places) -> None:
    await house.move("first", "mongodb")
    backup.incoming(house.file("second")).touch()

    with pytest.raises(BadRequest, match=r"A backup waits in .*second to take the place"):
        await house.move("mongodb", "second")


async def test_two_houses_are_not_moved_into_one(house: Places) -> None:
    async with house.opened("other") as store:
        await furnish(store)
    with contextlib.suppress(Stopped):
        await house.move("first", "mongodb", lambda new: Breaking(new, 3, after=True))

    with pytest.raises(BadRequest, match=r"Something else than the file .* is being moved into the MongoDB"):
        await house.move("other", "mongodb")
    await house.move("first", "mongodb")
    with pytest.raises(BadRequest, match="There are data in the MongoDB database 'moving' already"):
        await house.move("other", "mongodb")

    assert (await house.rows("mongodb"))["threads"] == (await house.rows("first"))["threads"]


async def test_one_house_is_not_moved_to_two_places(house: Places) -> None:
    """Both would go on with the same epoch, each with other messages under the same numbers."""
    await house.move("first", "mongodb")
    first_there = asyncio.Event()

    class Slower(Breaking):
        async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
            await self._inner.write(kind, rows)
            if not first_there.is_set():
                first_there.set()
                await house.move("mongodb", "second")

    with pytest.raises(Unavailable, match=r"What is in .* was moved to another place meanwhile"):
        await house.move("mongodb", "third", lambda new: Slower(new, 0, after=True))

    async with house.opened("second"):
        pass
    with pytest.raises(Unavailable, match="Not everything has been moved"):
        await house.store("third").open()


async def test_a_server_that_starts_on_the_new_place_at_the_last_moment_is_noticed(house: Places) -> None:
    server = house.store("mongodb")

    class Late(Breaking):
        async def begin(self, *given: Any) -> None:
            await server.open()
            await self._inner.begin(*given)

    with pytest.raises(Unavailable, match="A Hubbub is running on the MongoDB database 'moving'"):
        await house.move("first", "mongodb", lambda new: Late(new, 0, after=True))

    await server.close()
    assert await house.move("first", "mongodb") == len(KINDS)


async def test_a_server_that_starts_on_the_old_place_meanwhile_is_noticed(house: Places) -> None:
    await house.move("first", "mongodb")
    server = house.store("mongodb")

    class Late(Breaking):
        async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
            await self._inner.write(kind, rows)
            if kind is KINDS[-1]:
                await server.open()

    with pytest.raises(Unavailable, match="A Hubbub is running on the MongoDB database 'moving'"):
        await house.move("mongodb", "second", lambda new: Late(new, 0, after=True))

    await server.close()
    assert await house.move("mongodb", "second") == len(KINDS)


async def test_nothing_is_moved_from_where_not_everything_has_come_to_yet(house: Places) -> None:
    with contextlib.suppress(Stopped):
        await house.move("first", "mongodb", lambda new: Breaking(new, 3, after=True))

    with pytest.raises(Unavailable, match="Not everything has been moved"):
        await house.move("mongodb", "second")


@pytest.mark.parametrize("place", ["first", "mongodb"])
async def test_a_running_server_is_refused_on_either_side(house: Places, place: str) -> None:
    async with house.opened(place):
        with pytest.raises(Unavailable, match="running on"):
            await house.move("first", "mongodb")

    await house.move("first", "mongodb")
    async with house.opened("mongodb"):
        with pytest.raises(Unavailable, match="A Hubbub is running on the MongoDB database 'moving'"):
            await house.move("mongodb", "second")


async def test_a_server_on_another_database_of_the_same_mongodb_is_in_nobodys_way(house: Places) -> None:
    other = MongoStore(mongod.uri([house.server]), "elsewhere")
    await other.open()
    try:
        assert await house.move("first", "mongodb") == len(KINDS)
    finally:
        await other.close()


class Changing(Breaking):
    """An archive to which something happens once it was filled, which no rule of ours allows."""

    def __init__(self, inner: Archive, change: Callable[[], None]) -> None:
        super().__init__(inner, 0, after=True)
        self._happens = change

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        await self._inner.write(kind, rows)
        if kind is KINDS[-1]:
            self._happens()


@pytest.mark.parametrize(
    ("collection", "which", "change", "where"),
    [
        ("messages", {"key": "k1", "sender": "Bob"}, {"$set": {"text": "altered"}}, "thread 'garden', seq 2"),
        ("messages", {"key": "k1", "sender": "Bob"}, {"$unset": {"key": ""}}, "thread 'garden', seq 2"),
        ("memberships", {"thread": "lobby", "member": "Bob"}, {"$inc": {"seen": -1}}, "thread 'lobby', member 'Bob'"),
        ("threads", {"_id": "lobby"}, {"$inc": {"head": 1}}, "id 'lobby'"),
        ("threads", {"_id": "lobby"}, {"$currentDate": {"n": {"$type": "timestamp"}}}, "id 'lobby'"),
        ("accounts", {"_id": "ann"}, {"$set": {"password": "another"}}, "key 'ann'"),
        ("tokens", {"_id": "t1"}, {"$set": {"revoked": False}}, "id 't1'"),
        ("runs", {"_id": "r-queued"}, {"$set": {"attempt": 9}}, "id 'r-queued'"),
    ],
    ids=["text", "key", "mark", "head", "order", "password", "token", "run"],
)
async def test_what_is_not_the_same_afterwards_is_noticed_and_no_server_starts_on_it(
    house: Places, collection: str, which: dict[str, Any], change: dict[str, Any], where: str
) -> None:
    def alter() -> None:
        with house.server.client() as client:
            assert client[NAME][collection].update_one(which, change).modified_count == 1

    with pytest.raises(Unavailable, match=f"The {collection} in .* are not the same, first at {where}; so the move is"):
        await house.move("first", "mongodb", lambda new: Changing(new, alter))

    with pytest.raises(Unavailable, match="Not everything has been moved"):
        async with house.opened("mongodb"):
            pass


@pytest.mark.parametrize("change", ["one too many", "one too few"])
async def test_a_last_row_that_only_one_of_them_has_is_noticed(house: Places, change: str) -> None:
    def alter() -> None:
        with house.server.client() as client:
            signed_out = client[NAME]["signed_out"]
            if change == "one too many":
                signed_out.insert_one({"_id": "zzz", "expires": 4e9, "version": 1})
            else:
                assert signed_out.delete_one({"_id": "signed"}).deleted_count == 1

    which = "zzz" if change == "one too many" else "signed"
    with pytest.raises(Unavailable, match=f"The signed_out in .* are not the same, first at id '{which}'; so"):
        await house.move("first", "mongodb", lambda new: Changing(new, alter))
