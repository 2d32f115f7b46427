"""What is special to the MongoDB store: several nodes write to one database at once."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from hubbub.core.errors import BadRequest, KeyConflict, NameTaken, NotFound, Problem, StorageFull, Unavailable
from hubbub.core.nouns import Account, Assistant, Member, Membership, Message, Role, Run, RunState, Thread, Token
from hubbub.core.ports import Asker
from hubbub.stores import mongo_appends, mongo_lanes, mongo_schema, mongo_server, mongo_threads
from hubbub.stores.mongo import MongoStore
from hubbub.stores.mongo_server import outside
from support import mongod
from tests.contracts.words import BIG, draft, log, open_thread, run_of, seen, texts

from .conftest import Nodes

WRITE = frozenset({Role.OWNER, Role.MEMBER})


async def dense(store: MongoStore, thread: str = "garden") -> list[Message]:
    messages = await log(store, thread)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    return messages


# Numbering


async def test_32_writers_on_two_nodes_leave_no_hole_and_are_stored_once(nodes: Nodes) -> None:
    places = [f"t{n}" for n in range(3)]
    for place in places:
        await open_thread(nodes[0], id=place)
    writing = True

    async def write(writer: int) -> None:
        node = nodes[writer % 2]
        for n in range(12):
            said = draft(f"{writer} {n}", f"w{writer}", thread=places[n % 3], key=f"k{n}")
            await node.append(said)

    async def read(node: MongoStore, place: str) -> int:
        """Nobody is ever shown a number before those below it, nor another message under one."""
        known: list[Message] = []
        while writing:
            page = await node.read_after(place, max(0, len(known) - 5), 1000, BIG)
            assert page.messages[: len(known[-5:])] == known[-5:]
            known = known[: max(0, len(known) - 5)] + page.messages
            assert [message.seq for message in known] == list(range(1, len(known) + 1))
        return len(known)

    readers = [asyncio.ensure_future(read(node, place)) for node, place in itertools.product(nodes, places)]
    async with asyncio.TaskGroup() as writers:
        for writer in range(32):
            writers.create_task(write(writer))
    writing = False
    await asyncio.gather(*readers)

    logs = [await dense(nodes[0], place) for place in places]
    stored = [message.text for one in logs for message in one]
    assert sorted(stored) == sorted(f"{writer} {n}" for writer in range(32) for n in range(12))
    for one in logs:  # each writer's in the order they were written
        for writer in range(32):
            mine = [int(message.text.split()[1]) for message in one if message.sender == f"w{writer}"]
            assert mine == sorted(mine)
    assert await nodes[1].heads(places) == {place: len(one) for place, one in zip(places, logs, strict=True)}


async def test_the_same_key_on_two_nodes_at_once_is_one_message(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice")

    for n in range(10):
        both = await asyncio.gather(*(node.append(draft(f"once {n}", key=f"k{n}")) for node in nodes))
        assert both[0] == both[1]
    clash = await asyncio.gather(
        nodes[0].append(draft("this", key="clash")), nodes[1].append(draft("that", key="clash")), return_exceptions=True
    )

    assert [type(outcome) for outcome in clash].count(KeyConflict) == 1
    assert len(await dense(nodes[0])) == 11


async def test_a_repeat_is_told_its_first_message_also_by_another_node_and_after_a_removal(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    first = await nodes[0].append(draft("once", "bob", key="k"), WRITE)
    await nodes[0].leave("garden", "bob", None)

    assert await nodes[1].append(draft("once", "bob", key="k"), WRITE) == first
    with pytest.raises(NotFound):
        await nodes[1].append(draft("new", "bob", key="k2"), WRITE)


async def test_a_mark_follows_its_senders_messages_through_both_nodes(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    for n in range(3):
        await nodes[n % 2].append(draft())
    await nodes[1].append(draft(sender="bob"))
    await nodes[0].append(draft())

    assert (await seen(nodes[0], "alice"), await seen(nodes[0], "bob")) == (3, 0)
    assert await nodes[1].see("garden", "alice", 99) == 5


async def test_a_caller_who_gives_up_while_waiting_for_their_turn_holds_nobody_up(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice")
    posted = nodes[0].append(draft("before"))
    leaving = asyncio.ensure_future(nodes[0].leave("garden", "alice", None))
    seeing = asyncio.ensure_future(nodes[0].see("garden", "alice", 1))
    await asyncio.sleep(0)
    after = nodes[0].append(draft("after"))

    seeing.cancel()

    assert [message.seq for message in await asyncio.gather(posted, after)] == [1, 2]
    await leaving
    await nodes[0].close()  # nothing is thought to be under way


async def test_more_than_a_flight_carries_arrives_in_order(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_lanes, "MAX_GROUP", 7)
    monkeypatch.setattr(mongo_lanes, "MAX_GROUP_BYTES", 20)
    await open_thread(nodes[0])
    await open_thread(nodes[0], id="yard")

    posted = [nodes[0].append(draft(f"{n:03}", thread=("garden", "yard")[n % 2])) for n in range(100)]
    await asyncio.gather(*posted)

    assert await texts(nodes[0]) == [f"{n:03}" for n in range(0, 100, 2)]
    assert await texts(nodes[0], "yard") == [f"{n:03}" for n in range(1, 100, 2)]


async def test_a_node_that_knows_too_many_threads_forgets_none_that_is_being_written_to(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_appends, "MAX_KNOWN", 2)
    places = [f"t{n}" for n in range(6)]
    for place in places:
        await open_thread(nodes[0], "alice", id=place)
    posted = []

    for n in range(60):
        posted.append(nodes[0].append(draft(thread=places[n % 6]), WRITE))
        await asyncio.sleep(0.001)  # so that they fly apart

    await asyncio.gather(*posted)
    assert await nodes[1].heads(places) == dict.fromkeys(places, 10)


async def test_more_than_may_wait_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_lanes, "MAX_WAITING", 5)
    await open_thread(nodes[0], "alice")

    posted = [nodes[0].append(draft(str(n))) for n in range(7)]
    with pytest.raises(Unavailable, match="cannot keep up"):
        await nodes[0].see("garden", "alice", 1)
    outcomes = await asyncio.gather(*posted, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Message] * 5 + [Unavailable] * 2
    assert (await nodes[0].append(draft())).seq == 6


# Who may


@pytest.mark.parametrize("said", [True, False])
async def test_a_removal_that_was_told_beats_every_later_message_on_any_node(nodes: Nodes, said: bool) -> None:
    await open_thread(nodes[0], "alice", "bob")
    for round in range(8):
        removed = asyncio.Event()

        async def write(round: int = round, removed: asyncio.Event = removed) -> None:
            for n in itertools.count():
                late = removed.is_set()  # known before it was sent
                try:
                    await nodes[1].append(draft(f"{round} {n}", "bob"), WRITE)
                except NotFound:
                    return
                assert not late

        writers = [asyncio.ensure_future(write()) for _ in range(3)]
        await asyncio.sleep(0.01)
        notice = await nodes[0].leave("garden", "bob", draft("bob left") if said else None)
        removed.set()
        await asyncio.gather(*writers)
        if notice is not None:
            assert not [m for m in await log(nodes[0]) if m.seq > notice.seq and m.sender == "bob"]
        await nodes[0].join(Membership(thread="garden", member="bob"), None)
    await dense(nodes[0])


async def test_whoever_was_made_a_reader_by_another_node_writes_no_more(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    await nodes[1].append(draft(sender="bob"), WRITE)

    await nodes[0].set_role("garden", "bob", Role.READER, None)

    with pytest.raises(NotFound):
        await nodes[1].append(draft(sender="bob"), WRITE)
    with pytest.raises(NotFound):
        await nodes[1].join(Membership(thread="garden", member="eve"), None, Asker("bob", WRITE))


async def test_whoever_was_refused_and_comes_back_through_another_node_writes_again(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    await nodes[1].leave("garden", "bob", None)
    with pytest.raises(NotFound):
        await nodes[0].append(draft(sender="bob"), WRITE)

    await nodes[1].join(Membership(thread="garden", member="bob"), None)

    assert (await nodes[0].append(draft(sender="bob"), WRITE)).seq == 1


async def test_two_owners_who_leave_through_two_nodes_leave_an_owner_behind(nodes: Nodes) -> None:
    for n in range(5):
        thread = f"t{n}"
        await open_thread(nodes[0], "alice", "bob", "carol", id=thread)
        for owner in ("alice", "bob"):
            await nodes[0].set_role(thread, owner, Role.OWNER, None)

        await asyncio.gather(nodes[0].leave(thread, "alice", None), nodes[1].leave(thread, "bob", None))

        assert [(one.member, one.role) for one in await nodes[0].memberships(thread)] == [("carol", Role.OWNER)]
        assert await nodes[1].thread(thread) == Thread(id=thread, member_count=1)


async def test_the_last_owner_stays_one_though_two_nodes_are_asked(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    for owner in ("alice", "bob"):
        await nodes[0].set_role("garden", owner, Role.OWNER, None)

    outcomes = await asyncio.gather(
        nodes[0].set_role("garden", "alice", Role.MEMBER, None),
        nodes[1].set_role("garden", "bob", Role.MEMBER, None),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes].count(BadRequest) == 1


# Threads


async def test_a_deleted_thread_takes_nothing_through_any_node(nodes: Nodes) -> None:
    for n in range(5):
        await open_thread(nodes[0], "alice", id="t")
        posted = [nodes[1].append(draft(f"{n} {i}", thread="t", key=f"{n} {i}")) for i in range(20)]
        await posted[0]
        await nodes[0].delete_thread("t")
        outcomes = await asyncio.gather(*posted, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {Message, NotFound}
        assert await nodes[1].thread("t") is None
        assert await nodes[1].message("t", 1) is None
    await open_thread(nodes[0], "alice", id="t")
    assert (await nodes[1].append(draft("0 0", thread="t", key="0 0"))).seq == 1


async def test_whoever_was_in_a_thread_that_is_gone_is_not_in_a_new_one_of_the_same_id(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice", "bob")
    await nodes[1].append(draft(sender="bob"), WRITE)
    await nodes[0].delete_thread("garden")
    await open_thread(nodes[0], "alice")
    await nodes[0].append(draft())  # as many as the other node knows of

    with pytest.raises(NotFound):
        await nodes[1].append(draft(sender="bob"), WRITE)


async def test_a_deletion_that_was_cut_short_is_finished_by_whoever_needs_it(
    nodes: Nodes, mongo: mongod.Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_threads, "BROOM", 10)

    async def cut_short(self: Any, id: str) -> None:
        raise Unavailable("The node was killed here.")

    for id in ("a", "b"):
        await open_thread(nodes[0], "alice", "bob", id=id, private=id == "a")
        await asyncio.gather(*(nodes[1].append(draft(str(n), thread=id, key=f"{id}{n}")) for n in range(25)))
        with monkeypatch.context() as killed:
            killed.setattr(mongo_threads.MongoThreads, "sweep", cut_short)
            with pytest.raises(Unavailable):
                await nodes[0].delete_thread(id)
        assert await nodes[1].thread(id) is None
        with pytest.raises(NotFound):
            await nodes[1].append(draft(thread=id))

    await open_thread(nodes[1], "alice", "bob", id="a", private=True)
    assert (await nodes[1].append(draft("0", thread="a", key="a0"))).seq == 1
    third = MongoStore(mongod.uri([mongo]), "nodes")
    await third.open()
    await third.close()
    with mongo.client() as client:
        assert client["nodes"]["messages"].count_documents({}) == 1
        assert [doc["_id"] for doc in client["nodes"]["threads"].find()] == ["a"]


@pytest.mark.parametrize("gone", [[4], [1, 2, 3]])
async def test_what_is_left_of_a_thread_that_is_being_swept_is_not_shown(
    nodes: Nodes, mongo: mongod.Mongod, gone: list[int]
) -> None:
    await open_thread(nodes[0])
    await asyncio.gather(*(nodes[0].append(draft(str(n))) for n in range(9)))
    with mongo.client() as client:
        client["nodes"]["messages"].delete_many({"thread": "garden", "seq": {"$in": gone}})

    with pytest.raises(NotFound):
        await nodes[0].read_after("garden", 0, 9, BIG)
    with pytest.raises(NotFound):
        await nodes[0].read_before("garden", None, 9, BIG)


async def test_two_have_one_private_thread_through_two_nodes(nodes: Nodes) -> None:
    for n in range(5):
        pair = f"a{n}", f"b{n}"
        made = await asyncio.gather(
            *(open_thread(node, *pair, id=f"{n}-{i}", private=True) for i, node in enumerate(nodes))
        )
        assert made[0].id == made[1].id
        assert [thread.id for thread, _ in await nodes[0].threads_of(f"a{n}")] == [made[0].id]


async def test_many_who_arrive_under_one_name_on_two_nodes_are_one(nodes: Nodes) -> None:
    await open_thread(nodes[0], id="lobby")

    for n in range(5):
        arriving = (node.add_member(Member(name=name, arrived=True), [("lobby", None)]) for node, name in
                    zip(nodes, (f"Joe{n}", f"joe{n}"), strict=True))  # fmt: skip
        made = await asyncio.gather(*arriving)
        assert made[0] == made[1]

    assert (await nodes[0].thread("lobby")).member_count == 5  # type: ignore[union-attr]
    assert len(await nodes[1].memberships("lobby")) == 5


async def test_nodes_that_write_to_the_same_threads_still_write_many_drafts_at_once(mongo: mongod.Mongod) -> None:
    flights: list[int] = []
    mongod.wipe(mongo, "nodes")
    pair = [MongoStore(mongod.uri([mongo]), "nodes", committed=lambda drafts, _: flights.append(drafts)) for _ in "ab"]
    for node in pair:
        await node.open()
    for n in range(20):
        await open_thread(pair[0], "joe", id=f"t{n}")

    async def write(node: MongoStore, thread: str) -> None:
        for _ in range(10):
            await node.append(draft("hello", "joe", thread=thread))

    await asyncio.gather(*(write(node, f"t{n}") for n in range(20) for node in pair))

    assert set((await pair[0].heads([f"t{n}" for n in range(20)])).values()) == {20}
    assert sum(flights) / len(flights) > 12
    for node in pair:
        await node.close()


async def test_a_crowd_that_arrives_at_two_nodes_at_once_is_let_in(nodes: Nodes) -> None:
    await open_thread(nodes[0], id="lobby")
    crowd = [f"m{n}" for n in range(600)]

    await asyncio.gather(
        *(nodes[n % 2].add_member(Member(name=name, arrived=True), [("lobby", None)]) for n, name in enumerate(crowd))
    )

    assert {member.name for member in await nodes[0].members()} == set(crowd)
    assert {one.member for one in await nodes[1].memberships("lobby")} == set(crowd)
    assert (await nodes[0].thread("lobby")).member_count == len(crowd)  # type: ignore[union-attr]


async def test_who_gives_up_in_a_crowd_keeps_nobody_else_waiting(nodes: Nodes) -> None:
    await open_thread(nodes[0], id="lobby")
    coming = (nodes[0].add_member(Member(name=f"m{n}", arrived=True), [("lobby", 0)]) for n in range(60))
    crowd = [asyncio.create_task(one) for one in coming]

    for impatient in crowd[::2]:  # the first of those that are left does the work for all
        await asyncio.wait(crowd, timeout=0.001)
        impatient.cancel()
    arrived = await asyncio.gather(*crowd[1::2])

    there = {one.member for one in await nodes[1].memberships("lobby")}
    assert {member.name for member in arrived} <= there
    assert there == {member.name for member in await nodes[1].members()}


async def test_a_crowd_of_readers_is_served_through_few_connections(mongo: mongod.Mongod, nodes: Nodes) -> None:
    await open_thread(nodes[0], "joe")
    with mongo.client() as client:
        before = client.admin.command("serverStatus")["connections"]["totalCreated"]

        found = await asyncio.gather(*(nodes[0].threads_of("joe") for _ in range(500)))

        made = client.admin.command("serverStatus")["connections"]["totalCreated"] - before
    assert all([thread.id for thread, _ in threads] == ["garden"] for threads in found)
    assert made <= mongo_server.AT_ONCE


async def test_whoever_writes_and_whose_rights_changed_does_not_wait_behind_a_crowd_of_readers(nodes: Nodes) -> None:
    await open_thread(nodes[0], "alice")
    crowd = [asyncio.ensure_future(nodes[0].threads_of("alice")) for _ in range(1500)]
    await asyncio.sleep(0)

    await asyncio.gather(
        nodes[0].accounts.changes_after(0),
        nodes[0].see("garden", "alice", 0),
        nodes[0].append(draft()),
        nodes[0].update_thread("garden", title="roses"),
    )

    assert sum(not one.done() for one in crowd) > 500
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_order_is_that_of_arrival_whichever_node_it_was(nodes: Nodes) -> None:
    names = [f"m{n:02}" for n in range(20)]
    await open_thread(nodes[0])
    for n, name in enumerate(names):
        await nodes[n % 2].add_member(Member(name=name))
        await nodes[n % 2].join(Membership(thread="garden", member=name), None)

    assert [member.name for member in await nodes[0].members()] == names
    assert [one.member for one in await nodes[0].memberships("garden")] == names


# Runs


async def test_one_message_asks_an_assistant_once_on_two_nodes(nodes: Nodes) -> None:
    await open_thread(nodes[0], "openai")

    for trigger in range(1, 9):
        runs = await asyncio.gather(*(node.begin_run(run_of(trigger=trigger)) for node in nodes))
        assert [run is None for run in runs].count(True) == 1


async def test_no_run_is_left_of_a_thread_that_another_node_deletes_meanwhile(nodes: Nodes) -> None:
    for n in range(10):
        await open_thread(nodes[0], "openai", id=f"t{n}")
        asking = [nodes[1].begin_run(run_of(trigger=0, thread=f"t{n}")) for _ in range(3)]

        await asyncio.gather(nodes[0].delete_thread(f"t{n}"), *asking, return_exceptions=True)

        assert await nodes[0].open_runs() == []


async def test_a_run_that_is_ended_on_two_nodes_has_one_message(nodes: Nodes) -> None:
    await open_thread(nodes[0], "openai")
    for n in range(8):
        run: Run | None = await nodes[0].begin_run(run_of(trigger=0))
        assert run is not None
        answer = draft(f"answer {n}", "openai", run=run.id, key=run.id)
        ends = await asyncio.gather(*(node.end_run(run.id, 1, RunState.COMPLETED, None, answer) for node in nodes))
        assert [end is None for end in ends].count(True) == 1
    assert len(await dense(nodes[0])) == 8
    assert await nodes[1].open_runs() == []


# Accounts


async def test_whoever_reads_what_changed_misses_nothing_of_two_nodes(nodes: Nodes) -> None:
    known: set[str] = set()
    version, done = 0, False

    async def follow() -> None:
        nonlocal version
        while True:
            last = done
            rights = await nodes[0].accounts.changes_after(version)
            assert rights.version >= version
            version = rights.version
            known.update(account.name for account in rights.accounts)
            known.update(token.id for token in rights.tokens)
            if last:
                return

    following = asyncio.ensure_future(follow())
    for n in range(10):
        await asyncio.gather(
            nodes[0].accounts.add(Account(name=f"a{n}")),
            nodes[1].accounts.add(Account(name=f"b{n}")),
            nodes[1].accounts.add_token(Token(id=f"t{n}", member="x", label="", digest=f"d{n}", scopes=(), created=0)),
        )
    done = True
    await following

    assert known == {f"{kind}{n}" for kind in "abt" for n in range(10)}
    assert version == 30


async def test_a_name_has_one_account_and_one_assistant_on_two_nodes(nodes: Nodes) -> None:
    accounts = await asyncio.gather(*(node.accounts.add(Account(name="Ann")) for node in nodes), return_exceptions=True)
    assistants = await asyncio.gather(
        *(node.assistants.add(Assistant(name="Ann")) for node in nodes), return_exceptions=True
    )

    for outcomes in (accounts, assistants):
        assert sorted(map(str, map(type, outcomes))) == sorted(map(str, (type(None), NameTaken)))


# What users write


async def test_names_that_mean_something_to_the_database_mean_nothing(nodes: Nodes) -> None:
    metadata = {"$set": {"a.b": 1}, "": {"$where": "x"}, "_id": None, "a\0b": [{"$ne": 1}]}
    name = "$where"
    await open_thread(nodes[0], name, id="$gt.x")
    said = await nodes[0].append(draft('{"$gt": ""}', name, thread="$gt.x", metadata=metadata, key="$key"), WRITE)
    await nodes[0].assistants.add(Assistant(name="a", personalities={"$inc.": "x", "a.b": "y"}))

    assert (await log(nodes[1], "$gt.x")) == [said]
    assert said.metadata == metadata
    assert await nodes[1].append(draft('{"$gt": ""}', name, thread="$gt.x", metadata=metadata, key="$key")) == said
    assert (await nodes[1].assistants.all())[0].personalities == {"$inc.": "x", "a.b": "y"}
    assert await nodes[1].role("$gt.x", name) is Role.MEMBER


async def test_the_database_itself_refuses_what_is_no_document_of_ours(nodes: Nodes, mongo: mongod.Mongod) -> None:
    await open_thread(nodes[0])
    await nodes[0].append(draft())
    with mongo.client() as client:
        good = client["nodes"]["messages"].find_one() or {}
        for bad in ({"seq": 0}, {"seq": "2"}, {"text": None}, {"more": 1}, {"metadata": {"a": 1}}):
            with pytest.raises(Exception, match="failed validation"):
                client["nodes"]["messages"].insert_one({**good, "_id": "x", "seq": 2, **bad})


# Opening


async def test_two_nodes_that_start_at_once_on_nothing_make_it_once(mongo: mongod.Mongod) -> None:
    with mongo.client() as client:
        client.drop_database("fresh")
    stores = [MongoStore(mongod.uri([mongo]), "fresh") for _ in range(3)]

    await asyncio.gather(*(store.open() for store in stores))

    assert len({store.epoch for store in stores}) == 1
    await open_thread(stores[0], "alice")
    assert [(await store.append(draft())).seq for store in stores] == [1, 2, 3]
    with mongo.client() as client:
        for name, indexes in mongo_schema.INDEXES.items():
            assert len(client["fresh"][name].index_information()) == len(indexes) + 1
        for one in client["fresh"].list_collections():
            assert one["options"]["validator"] == mongo_schema.COLLECTIONS[one["name"]]
    for store in stores:
        await store.close()


async def test_a_database_of_a_newer_version_is_left_alone(mongo: mongod.Mongod, nodes: Nodes) -> None:
    with mongo.client() as client:
        client["newer"]["meta"].replace_one({"_id": "hubbub"}, {"schema": 99, "epoch": "e"}, upsert=True)

        with pytest.raises(Unavailable, match=r"newer Hubbub \(schema 99, this one knows 1\).*HUBBUB_DATABASE_NAME"):
            await MongoStore(mongod.uri([mongo]), "newer").open()

        assert client["newer"].list_collection_names() == ["meta"]


async def test_the_epoch_stays_through_starts(mongo: mongod.Mongod, nodes: Nodes) -> None:
    again = MongoStore(mongod.uri([mongo]), "nodes")
    await again.open()
    await again.close()

    assert again.epoch == nodes[0].epoch == nodes[1].epoch


@pytest.mark.parametrize("replica_set", [None, "rs0"])
async def test_a_server_that_is_no_replica_set_yet_is_refused_with_what_to_do(
    tmp_path: Path, replica_set: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_server, "PATIENCE_S", 2.0)
    server = mongod.Mongod(tmp_path / "data", replica_set=replica_set)
    try:
        server.start()
        with pytest.raises(Unavailable, match=r"is not a replica set.*--replSet rs0.*rs\.initiate"):
            await MongoStore(f"mongodb://{server.address}/", "hubbub").open()
    finally:
        server.kill()


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://ann:canary@127.0.0.1:1/",
        "mongodb://ann:canary@127.0.0.1:1/?replicaSet=rs0",
        "mongodb://ann:can@ary@127.0.0.1:1/",
        "mongodb://ann:canary@127.0.0.1:99999/",
        "mongodb://ann:canary@/",
        "canary",
    ],
)
async def test_an_address_that_leads_nowhere_is_told_soon_and_without_its_password(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_server, "PATIENCE_S", 0.5)
    began = time.monotonic()

    with pytest.raises(Unavailable) as refused:
        await MongoStore(uri, "hubbub").open()

    assert time.monotonic() - began < 4
    assert "HUBBUB_DATABASE_URI" in refused.value.detail
    shown: BaseException | None = refused.value
    while shown is not None:
        assert "canary" not in str(shown)
        shown = shown.__cause__


# What stands in the way


async def test_what_a_killed_node_had_begun_keeps_nobody_out_for_long(nodes: Nodes, mongo: mongod.Mongod) -> None:
    """MongoDB would wait a minute for it."""
    await open_thread(nodes[0], "alice")
    await nodes[0].append(draft("before"))
    killed: AsyncMongoClient[Any] = AsyncMongoClient(mongod.uri([mongo]), appname="hubbub nodes")
    session = killed.start_session()
    await session.start_transaction()
    await killed["nodes"]["threads"].update_one({"_id": "garden"}, {"$inc": {"head": 5}}, session=session)

    async with asyncio.timeout(15):
        while True:
            try:
                message = await nodes[1].append(draft("after"))
                break
            except Unavailable:
                continue

    assert message.seq == 2
    assert await texts(nodes[0]) == ["before", "after"]
    await killed.close()


async def test_whatever_other_programs_do_on_the_server_is_left_alone(nodes: Nodes, mongo: mongod.Mongod) -> None:
    await open_thread(nodes[0], "alice")
    other: AsyncMongoClient[Any] = AsyncMongoClient(mongod.uri([mongo]), appname="another")
    async with other.start_session() as session:
        await session.start_transaction()
        await other["nodes"]["threads"].update_one({"_id": "garden"}, {"$inc": {"head": 5}}, session=session)
        began = time.monotonic()

        with pytest.raises(Unavailable):
            await nodes[1].append(draft("after"))

        assert time.monotonic() - began < 8
        await session.abort_transaction()
    await other.close()
    assert (await nodes[1].append(draft("after"))).seq == 1


async def test_a_thread_that_somebody_keeps_keeps_no_other(nodes: Nodes, mongo: mongod.Mongod) -> None:
    places = [f"t{n}" for n in range(8)]
    for place in places:
        await open_thread(nodes[0], "alice", id=place)
    async with AsyncMongoClient[Any](mongod.uri([mongo]), appname="another") as other, other.start_session() as session:
        await session.start_transaction()
        await other["nodes"]["threads"].update_one({"_id": "t0"}, {"$inc": {"head": 5}}, session=session)
        kept, *_ = [nodes[0].append(draft(thread=place)) for place in places]
        for _ in range(2):
            await asyncio.gather(*(nodes[0].append(draft(thread=place)) for place in places[1:]))

        assert not kept.done()
        with pytest.raises(Unavailable):
            await kept
        await session.abort_transaction()


async def test_threads_that_somebody_keeps_take_no_place_of_others(nodes: Nodes, mongo: mongod.Mongod) -> None:
    kept = [f"t{n}" for n in range(mongo_lanes.MAX_FLIGHTS + 1)]
    for place in (*kept, "garden"):
        await open_thread(nodes[0], "alice", id=place)
    async with AsyncMongoClient[Any](mongod.uri([mongo]), appname="another") as other, other.start_session() as session:
        await session.start_transaction()
        await other["nodes"]["threads"].update_many({"_id": {"$in": kept}}, {"$inc": {"head": 5}}, session=session)
        waiting = []
        for place in kept:
            waiting.append(nodes[0].append(draft(thread=place)))
            await asyncio.sleep(0.01)  # so that they fly apart

        await nodes[0].append(draft())

        assert not any(one.done() for one in waiting)
        await session.abort_transaction()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_server_that_does_not_answer_is_told_within_seconds_and_nothing_is_lost(tmp_path: Path) -> None:
    with mongod.replica_set() as (server,):
        store = MongoStore(mongod.uri([server]), "hubbub")
        await store.open()
        await open_thread(store, "alice")
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        work = [
            store.append(draft("a", key="a")),
            store.see("garden", "alice", 1),
            store.leave("garden", "alice", None),
            store.read_after("garden", 0, 1, BIG),
            store.accounts.changes_after(0),
            store.assistants.all(),
            store.thread("garden"),
        ]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        took = time.monotonic() - began
        server.signal(signal.SIGCONT)

        assert [type(outcome) for outcome in outcomes] == [Unavailable] * len(work)
        assert took < 10
        async with asyncio.timeout(20):
            while True:
                try:
                    message = await store.append(draft("a", key="a"))
                    break
                except Unavailable:
                    continue
        assert [(one.seq, one.text) for one in await log(store)] == [(1, "a")]
        assert message.seq == 1
        await store.close()


async def test_a_store_is_closed_soon_though_nobody_answers() -> None:
    with mongod.replica_set() as (server,):
        store = MongoStore(mongod.uri([server]), "hubbub")
        await store.open()
        server.signal(signal.SIGSTOP)

        async with asyncio.timeout(mongo_server.FAREWELL_S + 2):
            await store.close()


@pytest.mark.parametrize(
    ("code", "said", "problem"),
    [
        (14031, "OutOfDiskSpace", StorageFull),
        (8000, "you are over your space quota, using 513 MB of 512 MB", StorageFull),
        (8, "ftruncate: No space left on device", StorageFull),
        (11600, "interrupted at shutdown", Unavailable),
        (10107, "not primary", Unavailable),
    ],
)
def test_a_full_disk_is_told_apart_from_a_server_that_is_away(code: int, said: str, problem: type[Problem]) -> None:
    assert type(outside(OperationFailure(said, code))) is problem
