"""The Store's contract, sentence by sentence (core/ports.py), on every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.core.errors import KeyConflict, NotFound
from hubbub.core.nouns import Draft, Kind, Member, Membership, Message, RunState, Thread, seq_of
from hubbub.core.ports import Store
from tests.contracts.words import BIG, begun, draft, log, open_thread, run_of, seen, texts


async def post(store: Store, text: str = "hello", sender: str = "alice", **more: Any) -> Message:
    return await store.append(draft(text, sender, **more))


async def told(*futures: asyncio.Future[Message]) -> list[int | type[BaseException]]:
    """The seq of each message, or how it was refused."""
    results = await asyncio.gather(*futures, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else result.seq for result in results]


# append


async def test_messages_of_a_thread_are_numbered_from_1(store: Store) -> None:
    await open_thread(store, "alice")

    assert [(await post(store)).seq for _ in range(3)] == [1, 2, 3]


async def test_a_message_comes_back_as_it_was_said(store: Store) -> None:
    await open_thread(store, "alice", "bob")
    said = Draft(
        thread="garden",
        sender="alice",
        text="Grüße\n\t👋🏽 \0 'x'; DROP TABLE messages --",
        timestamp="2026-11-20T20:37:00.123Z",
        destination="bob",
        type="command",
        metadata={"a": [1, 1.5, None, True, {"ü": "é"}], "big": 2**70},
        reply_to="1-abc",
        run="r1",
        key="k",
    )

    told_to_alice = await store.append(said)
    [read] = await log(store)

    assert read == told_to_alice == await store.message("garden", 1)
    for field in ("thread", "sender", "text", "timestamp", "destination", "type", "metadata", "reply_to", "run"):
        assert getattr(read, field) == getattr(said, field)
    assert seq_of(read.id) == read.seq == 1


async def test_drafts_are_numbered_in_the_order_of_the_calls(store: Store) -> None:
    await open_thread(store, "alice")

    posted = [store.append(draft(str(i))) for i in range(300)]

    assert await told(*posted) == list(range(1, 301))
    assert await texts(store) == [str(i) for i in range(300)]


async def test_many_writers_at_once_leave_no_hole_in_any_thread(store: Store) -> None:
    places = [f"t{i}" for i in range(5)]
    for place in places:
        await open_thread(store, id=place)

    async def write(name: str) -> None:
        for i in range(12):
            await post(store, f"{name} {i}", name, thread=places[i % 5])
            if i % 4 == 0:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as writers:
        for i in range(16):
            writers.create_task(write(f"w{i}"))

    logs = [await log(store, place) for place in places]
    assert [m.seq for one in logs for m in one] == [n for one in logs for n in range(1, len(one) + 1)]
    assert sum(map(len, logs)) == 16 * 12
    for one in logs:
        for i in range(16):  # each writer's messages in the order they were written
            mine = [int(m.text.split()[1]) for m in one if m.sender == f"w{i}"]
            assert mine == sorted(mine)


async def test_threads_are_numbered_apart_also_within_one_turn(store: Store) -> None:
    await open_thread(store, id="a")
    await open_thread(store, id="b")

    posted = [store.append(draft(thread=thread)) for thread in "aababb"]

    assert await told(*posted) == [1, 2, 1, 3, 2, 3]


async def test_the_same_key_again_is_the_same_message(store: Store) -> None:
    await open_thread(store, "alice")
    first = await post(store, "once", key="k")
    await post(store, "meanwhile")

    again = await post(store, "once", key="k", timestamp="later")

    assert again == first
    assert await texts(store) == ["once", "meanwhile"]


async def test_the_same_key_twice_in_one_turn_is_the_same_message(store: Store) -> None:
    await open_thread(store, "alice")

    posted = [store.append(draft("once", key="k")) for _ in range(5)] + [store.append(draft("after"))]

    assert await told(*posted) == [1, 1, 1, 1, 1, 2]
    assert len({(await one).id for one in posted[:5]}) == 1


async def test_the_key_of_another_sender_is_another_key(store: Store) -> None:
    await open_thread(store, "alice", "bob")

    posted = [store.append(draft("hi", sender, key="k")) for sender in ("alice", "bob")]

    assert await told(*posted) == [1, 2]


async def test_messages_without_a_key_are_never_the_same(store: Store) -> None:
    await open_thread(store, "alice")

    assert await told(store.append(draft("x")), store.append(draft("x"))) == [1, 2]


@pytest.mark.parametrize(
    "other",
    [
        {"text": "other"},
        {"thread": "elsewhere"},
        {"type": "command"},
        {"metadata": {"a": 2}},
        {"metadata": {"a": True}},
        {"metadata": {}},
        {"reply_to": "1-y"},
    ],
)
async def test_the_same_key_with_another_body_is_refused(store: Store, other: dict[str, Any]) -> None:
    await open_thread(store, "alice")
    await open_thread(store, "alice", id="elsewhere")
    body = {"text": "once", "key": "k", "metadata": {"a": 1}}
    await post(store, **body)

    with pytest.raises(KeyConflict):
        await post(store, **{**body, **other})

    assert await texts(store) == ["once"]
    assert await texts(store, "elsewhere") == []


async def test_a_refusal_leaves_the_others_of_its_turn_alone(store: Store) -> None:
    await open_thread(store, "alice")

    posted = [
        store.append(draft("one", key="k")),
        store.append(draft("nowhere", thread="nowhere")),
        store.append(draft("two", key="k")),
        store.append(draft("three")),
        store.append(draft("one", key="k")),
        store.append(draft("nowhere", thread="nowhere", key="n")),
        store.append(draft("four", key="n")),
    ]

    assert await told(*posted) == [1, NotFound, KeyConflict, 2, 1, NotFound, 3]
    assert await texts(store) == ["one", "three", "four"]


async def test_a_caller_who_gives_up_disturbs_nobody(store: Store) -> None:
    await open_thread(store, "alice")
    posted = [store.append(draft(str(i))) for i in range(4)]

    posted[1].cancel()
    rest = await told(posted[0], posted[2], posted[3])

    assert rest == [1, 3, 4]
    assert await texts(store) == ["0", "1", "2", "3"]


async def test_what_was_acknowledged_can_be_read_at_once(store: Store) -> None:
    await open_thread(store, "alice")
    stored: list[bool] = []

    for i in range(20):
        message = await post(store, str(i))
        stored.append(await store.message("garden", message.seq) == message)

    assert all(stored)


# The sender's own mark


async def test_who_has_seen_everything_has_seen_their_own_message_too(store: Store) -> None:
    await open_thread(store, "alice", "bob")

    await post(store, sender="alice")

    assert await seen(store, "alice") == 1
    assert await seen(store, "bob") == 0


async def test_who_is_behind_stays_behind_when_writing(store: Store) -> None:
    await open_thread(store, "alice", "bob")
    await post(store, sender="alice")

    await post(store, sender="bob")

    assert await seen(store, "bob") == 0


async def test_marks_are_right_when_several_write_in_one_turn(store: Store) -> None:
    await open_thread(store, "alice", "bob", "carol")

    await told(*[store.append(draft(sender=sender)) for sender in ("alice", "alice", "bob", "alice", "carol", "alice")])

    assert {m.member: m.seen for m in await store.memberships("garden")} == {"alice": 2, "bob": 0, "carol": 0}


async def test_repeating_an_old_message_moves_no_mark(store: Store) -> None:
    await open_thread(store, "alice", "bob")
    await post(store, "once", key="k")
    await post(store, sender="bob")

    await post(store, "once", key="k")

    assert await seen(store, "alice") == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(
        st.lists(
            st.one_of(
                st.tuples(st.just("post"), st.sampled_from("ab")),
                st.tuples(st.just("see"), st.sampled_from("ab"), st.integers(0, 12)),
                st.tuples(st.just("leave"), st.sampled_from("ab")),
                st.tuples(st.just("join"), st.sampled_from("ab")),
                st.tuples(st.just("arrive"), st.sampled_from("ab")),
            ),
            max_size=6,
        ),
        max_size=5,
    ),
)
async def test_marks_are_the_same_however_the_calls_are_grouped(
    store: Store, turns: list[list[tuple[Any, ...]]]
) -> None:
    id = (await open_thread(store, id=f"t{len(await store.public_threads())}", public=True)).id
    marks: dict[str, int] = {}
    arrived: set[str] = set()
    head = 0

    for turn in turns:
        waiting: list[Any] = []
        for what, member, *more in turn:
            if what == "post":
                waiting.append(store.append(draft(sender=member, thread=id)))
                if marks.get(member) == head:
                    marks[member] = head + 1
                head += 1
            elif what == "see" and member in marks:
                waiting.append(begun(store.see(id, member, more[0])))
                marks[member] = max(marks[member], min(more[0], head))
            elif what == "leave" and member in marks:
                waiting.append(begun(store.leave(id, member, None)))
                del marks[member]
            elif what == "join" and member not in marks:
                waiting.append(begun(store.join(Membership(thread=id, member=member, seen=-1), None)))
                marks[member] = head
            elif what == "arrive" and member not in arrived:
                name = f"{id}{member}"
                arrived.add(member)
                waiting.append(begun(store.add_member(Member(name=name, arrived=True), [(id, None)])))
                marks[name] = head
        await asyncio.gather(*waiting)

    assert {m.member: m.seen for m in await store.memberships(id)} == marks
    assert (await store.thread(id)) == Thread(id=id, public=True, head=head, member_count=len(marks))


# Reading


async def five(store: Store) -> None:
    await open_thread(store, "alice")
    await told(*[store.append(draft("x" * 10 + str(i))) for i in range(1, 6)])


def numbers(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


@pytest.mark.parametrize(
    ("after", "limit", "read", "more"),
    [
        (0, 5, [1, 2, 3, 4, 5], False),
        (0, 4, [1, 2, 3, 4], True),
        (0, 9, [1, 2, 3, 4, 5], False),
        (2, 2, [3, 4], True),
        (2, 3, [3, 4, 5], False),
        (4, 1, [5], False),
        (5, 9, [], False),
        (6, 9, [], False),
        (2**53, 9, [], False),
    ],
)
async def test_reading_after_a_cursor(store: Store, after: int, limit: int, read: list[int], more: bool) -> None:
    await five(store)

    page = await store.read_after("garden", after, limit, BIG)

    assert (numbers(page.messages), page.more) == (read, more)


@pytest.mark.parametrize(
    ("before", "limit", "read", "more"),
    [
        (None, 5, [1, 2, 3, 4, 5], False),
        (None, 2, [4, 5], True),
        (2**53, 2, [4, 5], True),
        (6, 9, [1, 2, 3, 4, 5], False),
        (4, 2, [2, 3], True),
        (4, 3, [1, 2, 3], False),
        (2, 1, [1], False),
        (1, 9, [], False),
        (0, 9, [], False),
    ],
)
async def test_reading_before_a_seq(store: Store, before: int | None, limit: int, read: list[int], more: bool) -> None:
    await five(store)

    page = await store.read_before("garden", before, limit, BIG)

    assert (numbers(page.messages), page.more) == (read, more)


@pytest.mark.parametrize(
    ("max_bytes", "count"), [(0, 1), (1, 1), (10, 1), (11, 1), (21, 1), (22, 2), (32, 2), (33, 3), (54, 4), (55, 5)]
)
async def test_a_page_stops_at_its_bytes_but_never_before_the_first_message(
    store: Store, max_bytes: int, count: int
) -> None:
    await five(store)

    after = await store.read_after("garden", 0, 9, max_bytes)
    before = await store.read_before("garden", None, 9, max_bytes)

    assert (numbers(after.messages), after.more) == ([1, 2, 3, 4, 5][:count], count < 5)
    assert (numbers(before.messages), before.more) == ([1, 2, 3, 4, 5][-count:], count < 5)


async def test_bytes_are_counted_in_utf_8(store: Store) -> None:
    await open_thread(store, "alice")
    await told(*[store.append(draft("é" * 5)) for _ in range(3)])

    assert numbers((await store.read_after("garden", 0, 9, 19)).messages) == [1]
    assert numbers((await store.read_after("garden", 0, 9, 20)).messages) == [1, 2]


async def test_page_by_page_the_whole_log_is_read_in_both_directions(store: Store) -> None:
    await open_thread(store, "alice")
    await told(*[store.append(draft("x" * (i % 7))) for i in range(50)])
    up: list[int] = []
    down: list[int] = []

    more = True
    while more:
        page = await store.read_after("garden", up[-1] if up else 0, 4, 12)
        up += numbers(page.messages)
        more = page.more
    more = True
    while more:
        page = await store.read_before("garden", down[0] if down else None, 4, 12)
        down = numbers(page.messages) + down
        more = page.more

    assert up == down == list(range(1, 51))


async def test_an_empty_thread_is_read_as_empty_and_an_unknown_one_is_not_found(store: Store) -> None:
    await open_thread(store, "alice")

    assert await log(store) == []
    assert (await store.read_before("garden", None, 5, BIG)).messages == []
    with pytest.raises(NotFound):
        await store.read_after("nowhere", 0, 5, BIG)
    with pytest.raises(NotFound):
        await store.read_before("nowhere", None, 5, BIG)


async def test_a_number_nobody_has_is_no_message(store: Store) -> None:
    await open_thread(store, "alice")
    message = await post(store)

    assert await store.message("garden", 1) == message
    assert await store.message("garden", 0) is None
    assert await store.message("garden", 2) is None
    assert await store.message("nowhere", 1) is None


# Members


async def test_members_are_listed_oldest_first(store: Store) -> None:
    for name in ("carol", "alice", "bob"):
        await store.add_member(Member(name=name))

    assert [member.name for member in await store.members()] == ["carol", "alice", "bob"]


async def test_the_first_spelling_of_a_name_is_kept(store: Store) -> None:
    first = await store.add_member(Member(name="Joe", kind=Kind.DEVICE))

    again = await store.add_member(Member(name="JOE", kind=Kind.PERSON))

    assert again == first == Member(name="Joe", kind=Kind.DEVICE)
    assert await store.members() == [first]


async def test_spelling_differently_when_arriving_changes_nothing_else(store: Store) -> None:
    await open_thread(store, id="lobby")
    await store.add_member(Member(name="Joe", kind=Kind.DEVICE))

    arrived = await store.add_member(Member(name="joe", arrived=True), [("lobby", None)])

    assert arrived == Member(name="Joe", kind=Kind.DEVICE, arrived=True)
    assert await store.members() == [arrived]
    assert [m.member for m in await store.memberships("lobby")] == ["Joe"]


async def test_a_newcomer_joins_once_with_what_they_have_seen(store: Store) -> None:
    await open_thread(store, id="lobby")
    await open_thread(store, id="news")
    await told(*[store.append(draft(thread=thread)) for thread in ("lobby", "lobby", "news")])
    joins = [("lobby", None), ("news", 0)]

    await store.add_member(Member(name="joe"))
    before = await store.threads_of("joe")
    await store.add_member(Member(name="joe", arrived=True), joins)
    after = [(thread.id, seen) for thread, seen in await store.threads_of("joe")]

    assert before == []
    assert after == [("lobby", 2), ("news", 0)]
    assert (await store.thread("lobby")).member_count == 1  # type: ignore[union-attr]


async def test_whoever_left_is_not_brought_back_by_arriving_again(store: Store) -> None:
    await open_thread(store, id="lobby")
    await store.add_member(Member(name="joe", arrived=True), [("lobby", None)])
    await store.leave("lobby", "joe", None)

    await store.add_member(Member(name="joe", arrived=True), [("lobby", None)])

    assert await store.threads_of("joe") == []


async def test_a_newcomer_keeps_the_place_they_had_been_given(store: Store) -> None:
    await open_thread(store, "joe", id="lobby")
    await post(store, thread="lobby")

    await store.add_member(Member(name="joe", arrived=True), [("lobby", None)])

    assert await seen(store, "joe", "lobby") == 0
    assert (await store.thread("lobby")).member_count == 1  # type: ignore[union-attr]


async def test_arriving_where_there_is_no_thread_changes_nothing(store: Store) -> None:
    await open_thread(store, id="lobby")

    with pytest.raises(NotFound):
        await store.add_member(Member(name="joe", arrived=True), [("lobby", None), ("nowhere", None)])

    assert await store.members() == []
    assert await store.memberships("lobby") == []


async def test_many_who_arrive_under_one_name_are_one(store: Store) -> None:
    await open_thread(store, id="lobby")
    spellings = ["Joe", "joe", "JOE", "jOe"]

    made = await asyncio.gather(
        *(store.add_member(Member(name=name, arrived=True), [("lobby", None)]) for name in spellings)
    )

    assert {member.name for member in made} == {"Joe"}
    assert [m.member for m in await store.memberships("lobby")] == ["Joe"]


async def test_a_newcomer_who_writes_in_the_turn_they_arrive_has_seen_it(store: Store) -> None:
    await open_thread(store, id="lobby")
    early = store.append(draft(sender="joe", thread="lobby"))  # not a member yet

    arriving = begun(store.add_member(Member(name="joe", arrived=True), [("lobby", None)]))
    await told(early, store.append(draft(sender="joe", thread="lobby")))
    await arriving

    assert await seen(store, "joe", "lobby") == 2


# Threads


async def test_a_thread_is_kept_as_it_was_made(store: Store) -> None:
    made = await open_thread(store, "alice", "bob", title="Grüße", public=True)

    assert made == await store.thread("garden")
    assert made == Thread(id="garden", title="Grüße", public=True, head=0, member_count=2)
    assert await store.memberships("garden") == [
        Membership(thread="garden", member="alice"),
        Membership(thread="garden", member="bob"),
    ]


async def test_a_thread_tells_its_present_head_and_member_count(store: Store) -> None:
    await open_thread(store, "alice")
    await told(*[store.append(draft()) for _ in range(3)])
    await store.join(Membership(thread="garden", member="bob"), None)

    assert await store.thread("garden") == Thread(id="garden", head=3, member_count=2)
    assert await store.thread("nowhere") is None


async def test_an_id_in_use_is_refused(store: Store) -> None:
    await open_thread(store, "alice", title="first")

    with pytest.raises(KeyConflict):
        await open_thread(store, "bob", title="second")

    assert (await store.thread("garden")).title == "first"  # type: ignore[union-attr]
    assert [m.member for m in await store.memberships("garden")] == ["alice"]


async def test_a_private_thread_is_found_in_either_order_and_any_spelling(store: Store) -> None:
    made = await open_thread(store, "Joe", "alice", id="p", private=True)

    assert made.private
    assert await store.private_thread("Joe", "alice") == made
    assert await store.private_thread("alice", "Joe") == made
    assert await store.private_thread("ALICE", "joe") == made
    assert await store.private_thread("alice", "bob") is None


async def test_a_group_of_two_is_not_their_private_thread(store: Store) -> None:
    await open_thread(store, "joe", "alice", id="group")

    assert await store.private_thread("joe", "alice") is None


async def test_two_have_one_private_thread_however_often_it_is_made(store: Store) -> None:
    pairs = [("joe", "alice"), ("alice", "joe"), ("Joe", "Alice"), ("joe", "alice")]

    made = await asyncio.gather(*(open_thread(store, *pair, id=f"p{i}", private=True) for i, pair in enumerate(pairs)))
    again = await open_thread(store, "joe", "alice", id="p9", private=True)

    assert {thread.id for thread in (*made, again)} == {"p0"}
    assert await store.thread("p1") is None
    assert len(await store.memberships("p0")) == 2


async def test_a_thread_is_changed_only_in_what_is_given(store: Store) -> None:
    await open_thread(store, "alice", title="old")
    await post(store)

    renamed = await store.update_thread("garden", title="new")
    opened = await store.update_thread("garden", public=True)
    emptied = await store.update_thread("garden", title="", public=False)

    assert (renamed.title, renamed.public) == ("new", False)
    assert (opened.title, opened.public) == ("new", True)
    assert (emptied.title, emptied.public) == ("", False)
    assert emptied == await store.thread("garden")
    with pytest.raises(NotFound):
        await store.update_thread("nowhere", title="x")


async def test_a_members_threads_come_in_the_order_of_joining(store: Store) -> None:
    for id in "abc":
        await open_thread(store, id=id)
    for id in "bca":
        await store.join(Membership(thread=id, member="joe"), None)
    await post(store, thread="c")
    await store.see("c", "joe", 1)

    assert [(thread.id, seen) for thread, seen in await store.threads_of("joe")] == [("b", 0), ("c", 1), ("a", 0)]
    assert await store.threads_of("nobody") == []


async def test_who_leaves_and_comes_back_stands_last(store: Store) -> None:
    for id in "ab":
        await open_thread(store, "joe", "alice", id=id)
    await store.leave("a", "joe", None)
    await store.join(Membership(thread="a", member="joe"), None)

    assert [thread.id for thread, _ in await store.threads_of("joe")] == ["b", "a"]
    assert [m.member for m in await store.memberships("a")] == ["alice", "joe"]


async def test_public_threads_are_listed_oldest_first(store: Store) -> None:
    for id, public in (("c", True), ("a", True), ("p", False), ("b", False)):
        await open_thread(store, id=id, public=public)
    await store.update_thread("b", public=True)
    await store.update_thread("a", public=False)

    assert [thread.id for thread in await store.public_threads()] == ["c", "b"]


async def test_heads_are_those_of_the_threads_that_exist(store: Store) -> None:
    for id in ("garden", "empty", "deleted"):
        await open_thread(store, "alice", id=id)
    await post(store)
    await post(store)
    await post(store, thread="deleted")
    await store.delete_thread("deleted")

    assert await store.heads(["garden", "deleted", "nowhere", "empty"]) == {"garden": 2, "empty": 0}
    assert await store.heads([]) == {}


async def test_a_deleted_thread_is_gone_with_everything_in_it(store: Store) -> None:
    await open_thread(store, "alice", "openai", public=True)
    await open_thread(store, "alice", id="other")
    await post(store, key="k")
    run = await store.begin_run(run_of())
    assert run is not None

    await store.delete_thread("garden")
    await store.delete_thread("garden")

    assert await store.thread("garden") is None
    assert await store.public_threads() == []
    assert [thread.id for thread, _ in await store.threads_of("alice")] == ["other"]
    assert await store.message("garden", 1) is None
    assert await store.run(run.id) is None
    assert await store.open_runs() == []
    assert await store.end_run(run.id, 1, RunState.COMPLETED, None, draft("late", "openai")) is None
    with pytest.raises(NotFound):
        await post(store)
    with pytest.raises(NotFound):
        await log(store)


async def test_a_deleted_private_thread_can_be_made_again(store: Store) -> None:
    await open_thread(store, "joe", "alice", id="p1", private=True)
    await store.delete_thread("p1")

    again = await open_thread(store, "alice", "joe", id="p2", private=True)

    assert again.id == "p2"
    assert await store.private_thread("joe", "alice") == again


async def test_an_id_used_again_after_deleting_begins_anew(store: Store) -> None:
    await open_thread(store, "alice", "openai")
    await post(store, key="k")
    await store.begin_run(run_of(trigger=1))
    await store.delete_thread("garden")

    await open_thread(store, "alice", "openai")
    again = await post(store, "other", key="k")

    assert again.seq == 1
    assert await store.begin_run(run_of(trigger=1)) is not None


async def test_deleting_and_writing_in_one_turn_happen_in_that_order(store: Store) -> None:
    await open_thread(store, "alice")

    before = store.append(draft("before"))
    deleting = begun(store.delete_thread("garden"))
    after = store.append(draft("after"))
    await deleting

    assert await told(before, after) == [1, NotFound]
    assert await store.thread("garden") is None


# Joining and leaving


async def test_joining_posts_its_notice_in_the_same_step(store: Store) -> None:
    await open_thread(store, "alice")
    await post(store)

    notice = await store.join(Membership(thread="garden", member="bob", seen=-1), draft("bob joined.", "bob"))

    assert notice is not None
    assert (notice.seq, notice.text) == (2, "bob joined.")
    assert await texts(store) == ["hello", "bob joined."]
    assert [m.member for m in await store.memberships("garden")] == ["alice", "bob"]


async def test_who_joins_by_themselves_has_seen_their_own_notice(store: Store) -> None:
    await open_thread(store, "alice")
    await post(store)

    await store.join(Membership(thread="garden", member="bob", seen=-1), draft("bob joined.", "bob"))

    assert await seen(store, "bob") == 2


async def test_who_is_added_by_another_has_still_to_hear_of_it(store: Store) -> None:
    await open_thread(store, "alice")
    await post(store)

    await store.join(Membership(thread="garden", member="bob", seen=-1), draft("alice added bob."))

    assert await seen(store, "bob") == 1
    assert await seen(store, "alice") == 2


async def test_who_joins_from_a_seq_has_the_rest_still_to_hear(store: Store) -> None:
    await open_thread(store, "alice")
    await told(*[store.append(draft()) for _ in range(3)])

    await store.join(Membership(thread="garden", member="bob", seen=0), None)
    await store.join(Membership(thread="garden", member="carol", seen=2), None)

    assert (await seen(store, "bob"), await seen(store, "carol")) == (0, 2)


async def test_joining_twice_is_joining_once(store: Store) -> None:
    await open_thread(store, "alice")
    both = Membership(thread="garden", member="bob", seen=-1)

    told_twice = await asyncio.gather(store.join(both, draft("in", "bob")), store.join(both, draft("in", "bob")))

    assert [message is None for message in told_twice] == [False, True]
    assert await texts(store) == ["in"]
    assert await store.thread("garden") == Thread(id="garden", head=1, member_count=2)


async def test_leaving_posts_its_notice_and_only_once(store: Store) -> None:
    await open_thread(store, "alice", "bob")

    notices = await asyncio.gather(
        store.leave("garden", "bob", draft("bob left.", "bob")), store.leave("garden", "bob", draft("bob left.", "bob"))
    )

    assert [message and message.seq for message in notices] == [1, None]
    assert await store.thread("garden") == Thread(id="garden", head=1, member_count=1)
    assert await store.threads_of("bob") == []


async def test_nobody_joins_or_leaves_a_thread_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.join(Membership(thread="nowhere", member="bob"), draft(thread="nowhere"))
    with pytest.raises(NotFound):
        await store.leave("nowhere", "bob", None)


# Seeing


@pytest.mark.parametrize(("seq", "mark"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5), (6, 5), (2**53, 5)])
async def test_a_mark_moves_forward_only_and_at_most_to_the_head(store: Store, seq: int, mark: int) -> None:
    await five(store)
    await store.join(Membership(thread="garden", member="bob", seen=2), None)

    assert await store.see("garden", "bob", seq) == mark
    assert await seen(store, "bob") == mark


async def test_only_members_have_a_mark(store: Store) -> None:
    await five(store)

    with pytest.raises(NotFound):
        await store.see("garden", "bob", 1)
    with pytest.raises(NotFound):
        await store.see("nowhere", "alice", 1)


# Runs


async def garden_with_a_question(store: Store) -> None:
    await open_thread(store, "alice", "openai", "claude")
    await post(store, "@openai?")


async def test_a_run_begins_queued_and_moves_its_assistants_mark_to_the_question(store: Store) -> None:
    await garden_with_a_question(store)
    run = run_of(depth=2)

    begun = await store.begin_run(run)

    assert begun == run == await store.run(run.id)
    assert run.state is RunState.QUEUED
    assert await seen(store, "openai") == 1
    assert await seen(store, "claude") == 0


async def test_beginning_a_run_never_moves_a_mark_back(store: Store) -> None:
    await garden_with_a_question(store)
    await told(*[store.append(draft()) for _ in range(3)])
    await store.see("garden", "openai", 3)

    await store.begin_run(run_of(trigger=1))
    await store.begin_run(run_of(trigger=0))

    assert await seen(store, "openai") == 3


async def test_one_message_asks_an_assistant_once(store: Store) -> None:
    await garden_with_a_question(store)
    await open_thread(store, "openai", id="other")

    begun = await asyncio.gather(
        store.begin_run(run_of("openai", 1)),
        store.begin_run(run_of("openai", 1)),
        store.begin_run(run_of("claude", 1)),
        store.begin_run(run_of("openai", 2)),
        store.begin_run(run_of("openai", 1, "other")),
    )

    assert [run is not None for run in begun] == [True, False, True, True, True]


async def test_an_ended_run_is_not_asked_for_again_by_the_same_message(store: Store) -> None:
    await garden_with_a_question(store)
    run = await store.begin_run(run_of())
    assert run is not None
    await store.end_run(run.id, 1, RunState.COMPLETED, None, draft("because", "openai"))

    assert await store.begin_run(run_of()) is None


async def test_whoever_asks_without_a_message_may_ask_as_often_as_they_like(store: Store) -> None:
    await garden_with_a_question(store)

    begun = [await store.begin_run(run_of(trigger=0)) for _ in range(3)]

    assert None not in begun
    assert await store.open_runs() == begun


async def test_no_run_begins_in_a_thread_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.begin_run(run_of(thread="nowhere"))

    assert await store.open_runs() == []


async def test_a_run_moves_on_and_its_attempts_never_go_back(store: Store) -> None:
    await garden_with_a_question(store)
    run = await store.begin_run(run_of())
    assert run is not None

    running = await store.set_run(run.id, RunState.RUNNING, 1)
    again = await store.set_run(run.id, RunState.QUEUED, 2)
    late = await store.set_run(run.id, RunState.RUNNING, 1)

    assert running is not None
    assert (running.state, running.attempt) == (RunState.RUNNING, 1)
    assert again is not None
    assert (again.state, again.attempt) == (RunState.QUEUED, 2)
    assert late is None
    assert await store.run(run.id) == again


async def test_a_run_nobody_began_is_nothing(store: Store) -> None:
    await garden_with_a_question(store)

    assert await store.run("nothing") is None
    assert await store.set_run("nothing", RunState.RUNNING, 1) is None
    assert await store.end_run("nothing", 1, RunState.FAILED, "x", draft("x", "openai")) is None
    assert await texts(store) == ["@openai?"]


async def test_a_run_ends_in_one_message(store: Store) -> None:
    await garden_with_a_question(store)
    run = await store.begin_run(run_of())
    assert run is not None
    answer = draft("because", "openai", run=run.id, key=run.id)

    ends = await asyncio.gather(
        *(store.end_run(run.id, 1, state, None, answer) for state in (RunState.COMPLETED, RunState.CANCELLED))
    )
    late = await store.end_run(run.id, 1, RunState.FAILED, "late", answer)

    assert ends[0] is not None
    assert (ends[1], late) == (None, None)
    assert await texts(store) == ["@openai?", "because"]
    ended = await store.run(run.id)
    assert ended is not None
    assert (ended.state, ended.error, ended.message, ended.seq) == (RunState.COMPLETED, None, ends[0].id, 2)
    assert await store.set_run(run.id, RunState.RUNNING, 9) is None


async def test_a_failed_run_keeps_its_error(store: Store) -> None:
    await garden_with_a_question(store)
    run = await store.begin_run(run_of())
    assert run is not None

    await store.end_run(run.id, 1, RunState.FAILED, "It rained.", draft("be", "openai"))

    ended = await store.run(run.id)
    assert ended is not None
    assert (ended.state, ended.error, ended.seq) == (RunState.FAILED, "It rained.", 2)


@pytest.mark.parametrize("attempt", [1, 3])
async def test_another_attempt_cannot_end_a_run(store: Store, attempt: int) -> None:
    await garden_with_a_question(store)
    run = await store.begin_run(run_of())
    assert run is not None
    await store.set_run(run.id, RunState.QUEUED, 2)

    refused = await store.end_run(run.id, attempt, RunState.COMPLETED, None, draft("late", "openai"))
    ended = await store.end_run(run.id, 2, RunState.COMPLETED, None, draft("in time", "openai"))

    assert refused is None
    assert ended is not None
    assert await texts(store) == ["@openai?", "in time"]


async def test_open_runs_are_those_that_have_not_ended_oldest_first(store: Store) -> None:
    await garden_with_a_question(store)
    runs = [await store.begin_run(run_of(trigger=trigger)) for trigger in (3, 1, 2, 4)]
    ids = [run.id for run in runs if run]
    await store.set_run(ids[1], RunState.RUNNING, 2)
    await store.end_run(ids[0], 1, RunState.CANCELLED, None, draft("", "openai"))

    assert [(run.id, run.state, run.attempt) for run in await store.open_runs()] == [
        (ids[1], RunState.RUNNING, 2),
        (ids[2], RunState.QUEUED, 1),
        (ids[3], RunState.QUEUED, 1),
    ]


# Life


async def test_a_store_can_be_closed_twice_and_takes_nothing_afterwards(store: Store) -> None:
    await open_thread(store, "alice")
    accepted = [store.append(draft()) for _ in range(3)]

    await store.close()
    await store.close()

    assert await told(*accepted) == [1, 2, 3]


async def test_a_store_has_an_epoch(store: Store) -> None:
    assert store.epoch
    assert "." not in store.epoch  # it stands before the first dot of an SSE id
    assert ":" not in store.epoch
