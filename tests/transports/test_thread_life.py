"""A thread is renamed and deleted, and things happen to it at the same time."""

from __future__ import annotations

import asyncio

import pytest

from support.server import House, fresh
from support.talkers import TALKERS


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_new_title_and_the_end_of_a_thread_are_told_to_who_is_in_it(house: House, kind: str) -> None:
    async with await house.talk(kind, fresh("ann")) as alice, house.http(alice.welcome["token"]) as http:
        thread = await alice.group(title="old")
        await http.patch(f"/api/threads/{thread}", json={"title": "new"})
        await alice.take("thread", lambda frame: "id" not in frame and frame["thread"]["title"] == "new")
        assert (await http.delete(f"/api/threads/{thread}")).status_code == 204
        assert set(await alice.take("reset", thread=thread)) == {"type", "thread", "reason"}
        assert (await alice.ask("message.send", thread=thread, text="x"))["code"] == "not_found"
        assert (await alice.ask("history", thread=thread))["code"] == "not_found"


async def test_a_thread_deleted_while_an_assistant_answers_there_takes_the_answer_along(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as alice, house.http(alice.welcome["token"]) as http:
        thread = await alice.group("openai")
        await alice.post(thread, "@openai count to 500")
        run = (await alice.take("run.delta"))["run"]
        assert (await http.delete(f"/api/threads/{thread}")).status_code == 204
        await alice.take("reset", thread=thread)
        assert (await alice.ask("run.cancel", run=run))["code"] == "not_found"
        await alice.write("openai", "count to 5")
        await alice.take("run.completed")
        assert [
            f for f in alice.heard if f["type"] == "message" and f["thread"] == thread and f["message"]["run"]
        ] == []


async def test_a_private_thread_that_was_deleted_is_begun_anew(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, house.http(alice.welcome["token"]) as http:
        old = (await alice.write(bob, "one", key="k"))["thread"]
        assert (await http.delete(f"/api/threads/{old}")).status_code == 204
        ack = await alice.write(bob, "two")
        assert ack["thread"] != old
        assert ack["seq"] == 1
        async with await house.talk("framed", bob) as robert:
            assert (await robert.message())["text"] == "two"


async def test_two_people_who_write_to_each_other_first_at_once_share_one_thread(house: House) -> None:
    for _ in range(10):
        ann, bob = fresh("ann"), fresh("bob")
        async with await house.talk("text", ann) as alice, await house.talk("framed", bob) as robert:
            acks = await asyncio.gather(alice.write(bob, "hi"), robert.write(ann, "hello"))
            assert acks[0]["thread"] == acks[1]["thread"]
            assert sorted(ack["seq"] for ack in acks) == [1, 2]
            assert await alice.messages(2, acks[0]["thread"]) == await robert.messages(2, acks[0]["thread"])


async def test_first_messages_sent_in_one_go_keep_their_order(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice:
        for number in range(30):
            await alice.send("message.send", id=number, to=bob, text=f"{number}")
        acks = [await alice.take("ack", id=number) for number in range(30)]

    assert [ack["seq"] for ack in acks] == list(range(1, 31))
    assert len({ack["thread"] for ack in acks}) == 1


async def test_of_many_who_want_the_same_new_name_at_once_one_gets_it(house: House) -> None:
    name = fresh("wanted")
    spellings = [name, name.upper(), name.title(), name] * 3
    talkers = [await house.connect(TALKERS[at % 3]) for at in range(12)]
    replies = await asyncio.gather(
        *(talker.ask("hello", user=spelling) for talker, spelling in zip(talkers, spellings, strict=True))
    )

    assert [reply["type"] for reply in replies].count("welcome") == 1
    assert {reply["code"] for reply in replies if reply["type"] == "error"} == {"name_taken"}
    online = next(r for r in replies if r["type"] == "welcome")["user"]
    async with house.http() as http:
        users = [user["name"] for user in (await http.get("/api/users")).json()["users"]]
    assert [user for user in users if user.lower() == name.lower()] == [online]
    for talker in talkers:
        talker.cut()


async def test_requests_of_a_new_guest_at_once_make_one_member(house: House) -> None:
    name = fresh("newcomer")
    async with house.http(user=name) as http:
        answers = await asyncio.gather(*(http.get("/api/threads") for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        users = [user["name"] for user in (await http.get("/api/users")).json()["users"]]

    assert users.count(name) == 1


async def test_who_is_added_and_removed_again_and_again_hears_only_what_was_said_while_in(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice, await house.talk("text", bob) as robert:
        thread = await alice.group()
        for number in range(15):
            await alice.send("thread.add", thread=thread, member=bob)
            await alice.send("message.send", thread=thread, text=f"in {number}")
            await alice.send("thread.remove", thread=thread, member=bob)
            await alice.send("message.send", thread=thread, text=f"out {number}")
        await alice.ask("ping")
        await alice.write(bob, "done")
        await robert.message("done")
        said = [f["message"]["text"] for f in robert.heard if f["type"] == "message" and f["thread"] == thread]

    assert [text for text in said if text.startswith("out")] == []
    seqs = [f["seq"] for f in robert.heard if f["type"] == "message" and f["thread"] == thread]
    assert seqs == sorted(set(seqs))


async def test_nobody_is_put_out_of_the_lobby(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, await house.talk("framed", bob) as robert:
        refused = await alice.ask("thread.remove", thread="lobby", member=bob)
        assert (refused["type"], refused["code"]) == ("error", "not_found")
        assert (await robert.post("lobby", "still here"))["type"] == "ack"
