"""Groups: who is in, who is told, and that a thread one is not in looks as if it were not there."""

from __future__ import annotations

from typing import Any

import pytest

from support.server import House, fresh
from support.talkers import TALKERS

THREAD_KEYS = {"id", "title", "members", "member_count", "head", "public"}


def notices(frames: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = [frame["message"] for frame in frames if frame["type"] == "message"]
    return [(m["metadata"]["event"], m["metadata"]["member"]) for m in found if m["type"] == "notification"]


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_new_group_is_told_to_its_members(house: House, kind: str) -> None:
    ann, bob, joe = fresh("ann"), fresh("bob"), fresh("joe")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, bob) as robert:
        reply = await alice.ask("thread.create", title="garden", members=[bob, joe, bob.upper()])
        event = await robert.take("thread")

    assert set(reply) == {"type", "id", "thread"}
    assert set(reply["thread"]) == THREAD_KEYS | {"seen"}
    assert reply["thread"]["seen"] == 0
    assert event == {"type": "thread", "thread": {k: v for k, v in reply["thread"].items() if k != "seen"}}
    assert event["thread"]["title"] == "garden"
    assert sorted(event["thread"]["members"]) == sorted([ann, bob, joe])
    assert (event["thread"]["member_count"], event["thread"]["head"], event["thread"]["public"]) == (3, 0, False)


@pytest.mark.parametrize("kind", TALKERS)
async def test_somebody_added_hears_from_their_addition_on(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, bob) as robert:
        thread = await alice.group()
        await alice.post(thread, "before")
        reply = await alice.ask("thread.add", thread=thread, member=bob)
        await alice.post(thread, "after")
        event = await robert.take("thread")
        heard = await robert.messages(2, thread)

    assert sorted(reply["thread"]["members"]) == sorted(event["thread"]["members"]) == sorted([ann, bob])
    assert (heard[0]["type"], heard[0]["sender"]) == ("notification", ann)
    assert heard[0]["metadata"] == {"event": "added", "member": bob}
    assert (heard[1]["seq"], heard[1]["text"]) == (3, "after")


@pytest.mark.parametrize("kind", TALKERS)
async def test_somebody_removed_hears_nothing_newer(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, bob) as robert:
        thread = await alice.group(bob)
        await alice.post(thread, "one")
        await robert.message("one")
        stream = await house.listen(thread, token=robert.welcome["token"])
        reply = await alice.ask("thread.remove", thread=thread, member=bob)
        await alice.post(thread, "secret")
        await alice.write(bob, "done")
        await robert.message("done")
        await robert.ask("ping")
        refused = await robert.ask("history", thread=thread)

        assert reply["thread"]["members"] == [ann]
        assert "secret" not in str(robert.heard)
        assert "secret" not in str(stream.heard)
        assert refused["code"] == "not_found"
        stream.cut()
    async with await house.talk(kind, bob) as robert:
        assert thread not in str(robert.welcome)
        await robert.ask("check")
        assert "secret" not in str(robert.heard)


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_public_thread_is_listed_joined_and_left(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, bob) as robert:
        thread = await alice.group(title="open door", public=True)
        await alice.post(thread, "before")
        mine = await robert.ask("thread.list")
        public = await robert.ask("thread.list", public=True)
        joined = await robert.ask("thread.join", thread=thread)
        again = await robert.ask("thread.join", thread=thread)
        await robert.post(thread, "hello")
        left = await robert.ask("thread.leave", thread=thread)
        await alice.message("hello")
        last = await alice.take("message", thread=thread, seq=4)

        assert thread not in [view["id"] for view in mine["threads"]]
        assert thread in [view["id"] for view in public["threads"]]
        assert joined["thread"]["member_count"] == again["thread"]["member_count"] == 2
        assert joined["thread"]["head"] >= 1
        assert left["thread"]["members"] == [ann]
        assert last["message"]["metadata"] == {"event": "left", "member": bob}
        assert notices(alice.heard) == [("joined", bob), ("left", bob)]


@pytest.mark.parametrize("kind", TALKERS)
async def test_nobody_can_be_added_to_a_private_thread_or_leave_it(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice:
        thread = (await alice.write(bob, "us two"))["thread"]
        added = await alice.ask("thread.add", thread=thread, member=fresh("eve"))
        left = await alice.ask("thread.leave", thread=thread)

    assert (added["type"], added["code"]) == ("error", "bad_request")
    assert (left["type"], left["code"]) == ("error", "bad_request")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("message.send", {"text": "let me in"}),
        ("thread.join", {}),
        ("thread.leave", {}),
        ("thread.add", {"member": "eve"}),
        ("thread.remove", {"member": "eve"}),
        ("history", {}),
        ("seen", {"seq": 1}),
        ("typing", {}),
        ("run.start", {"assistant": "openai"}),
    ],
)
async def test_a_thread_one_is_not_in_is_answered_like_one_that_does_not_exist(
    house: House, kind: str, fields: dict[str, Any]
) -> None:
    async with await house.talk("text", fresh("ann")) as alice, await house.talk("framed", fresh("eve")) as eve:
        thread = await alice.group()
        await alice.post(thread, "secret")
        real = await eve.ask(kind, thread=thread, **fields)
        unreal = await eve.ask(kind, thread="nowhere", **fields)

    assert real["type"] == "error"
    assert real["code"] == "not_found"
    assert {**real, "id": 0} == {**unreal, "id": 0}


async def test_a_run_in_a_thread_one_is_not_in_is_not_found(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as alice, await house.talk("framed", fresh("eve")) as eve:
        await alice.write("openai", "count to 3")
        run = (await alice.take("run.queued"))["run"]

        assert (await eve.ask("run.cancel", run=run))["code"] == "not_found"
        assert (await eve.ask("run.cancel", run="nothing"))["code"] == "not_found"


async def test_removing_somebody_who_is_not_there_is_not_found(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as alice:
        thread = await alice.group()
        assert (await alice.ask("thread.remove", thread=thread, member=fresh("bob")))["code"] == "not_found"


async def test_the_lobby_stays_when_somebody_leaves_it(house: House) -> None:
    name = fresh("ann")
    async with await house.talk("text", name) as alice, await house.talk("framed", fresh("bob")) as bob:
        await alice.ask("thread.leave", thread="lobby")
        await bob.post("lobby", "without her")
        await alice.ask("ping")
        assert "without her" not in str(alice.heard)
    async with await house.talk("text", name) as alice:
        assert [view["id"] for view in alice.welcome["threads"]] == []
        await alice.ask("thread.join", thread="lobby")
        await alice.post("lobby", "back")
        assert await alice.message("back")


async def test_joining_and_leaving_over_rest_is_heard_by_connections(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with (
        await house.talk("text", ann) as alice,
        await house.talk("framed", bob) as robert,
        house.http(robert.welcome["token"]) as http,
    ):
        thread = await alice.group(title="door", public=True)
        assert (await http.put(f"/api/threads/{thread}/members/{bob}")).status_code == 200
        assert (await robert.take("thread"))["thread"]["id"] == thread
        await alice.post(thread, "welcome")
        await robert.message("welcome")
        assert (await http.delete(f"/api/threads/{thread}/members/{bob}")).status_code == 204
        await alice.post(thread, "who is left?")
        await robert.ask("ping")
        assert "who is left?" not in str(robert.heard)


async def test_history_is_read_both_ways_by_cursor(house: House) -> None:
    async with await house.talk("framed", fresh("ann")) as alice:
        thread = await alice.group()
        for number in range(1, 121):
            await alice.send("message.send", thread=thread, text=str(number))
        await alice.ask("ping")

        async def seqs(**fields: Any) -> tuple[list[int], bool]:
            page = await alice.ask("history", thread=thread, **fields)
            assert set(page) == {"type", "id", "thread", "messages", "more"}
            return [message["seq"] for message in page["messages"]], page["more"]

        assert await seqs() == (list(range(71, 121)), True)
        assert await seqs(limit=200) == (list(range(1, 121)), False)
        assert await seqs(after=0, limit=3) == ([1, 2, 3], True)
        assert await seqs(after=118, limit=2) == ([119, 120], False)
        assert await seqs(after=500) == ([], False)
        assert await seqs(before=4, limit=2) == ([2, 3], True)
        assert await seqs(before=1) == ([], False)
        assert await seqs(before=0) == ([], False)
        for wrong in ({"limit": 0}, {"limit": 201}, {"after": -1}, {"after": 1, "before": 2}, {"limit": "5"}):
            assert (await alice.ask("history", thread=thread, **wrong))["code"] == "bad_request"


async def test_a_page_of_history_stops_before_it_is_too_long_for_a_frame(house: House) -> None:
    async with await house.talk("framed", fresh("ann")) as alice:
        thread = await alice.group()
        for _ in range(12):
            await alice.post(thread, "\x01" * 65536)  # six bytes each in JSON
        seqs, after, more = [], 0, True
        while more:
            await alice.send("history", id=f"after {after}", thread=thread, after=after, limit=200)
            page = await alice.take("history", id=f"after {after}")
            seqs += [message["seq"] for message in page["messages"]]
            after, more = seqs[-1], page["more"]

    assert seqs == list(range(1, 13))


async def test_no_frame_of_the_server_is_longer_than_a_mebibyte(house: House) -> None:
    async with await house.talk("framed", fresh("ann")) as alice:
        others = [f"{fresh('a-rather-long-name-')}{'x' * 30}{number}" for number in range(49)]
        for number in range(330):
            await alice.send("thread.create", members=others, title=f"{number} " + "t" * 190)
            if number % 30 == 29:
                await alice.ask("ping")
        token = alice.welcome["token"]
    async with await house.connect("framed") as again:
        await again.send("hello", token=token)
        length = int.from_bytes(await again.reader.readexactly(4), "big")

    assert length <= 1 << 20, f"the welcome of somebody in 330 threads has {length} bytes"
