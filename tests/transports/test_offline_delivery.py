"""Whoever was away finds what was written to them, once."""

from __future__ import annotations

import pytest

from support.server import House, fresh
from support.talkers import TALKERS


@pytest.mark.parametrize("kind", TALKERS)
async def test_joe_who_was_never_here_finds_what_was_written_to_him(house: House, kind: str) -> None:
    ann, joe = fresh("ann"), fresh("joe")
    async with await house.talk(kind, ann) as alice:
        first = await alice.write(joe, "one")
        second = await alice.write(joe, "two")

        assert (first["delivery"], first["offline"], first["offline_count"]) == ("stored", [joe], 1)
        async with await house.talk(kind, joe) as him:
            heard = [await him.take("message") for _ in range(2)]

    assert [frame["stored"] for frame in heard] == [True, True]
    assert [frame["message"]["text"] for frame in heard] == ["one", "two"]
    assert [frame["seq"] for frame in heard] == [first["seq"], second["seq"]] == [1, 2]
    view = next(view for view in him.welcome["threads"] if view["id"] == first["thread"])
    assert (view["head"], view["seen"]) == (2, 0)


@pytest.mark.parametrize("kind", TALKERS)
async def test_bob_who_left_is_away_and_hears_it_when_he_returns(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice:
        async with await house.talk(kind, bob) as robert:
            assert (await alice.write(bob, "here?"))["delivery"] == "live"
            thread = (await robert.message("here?"))["thread"]
            assert (await robert.ask("seen", thread=thread, seq=1))["type"] == "ok"
        await alice.take("presence", user=bob, online=False)
        assert (await alice.write(bob, "gone?"))["delivery"] == "stored"
        async with await house.talk(kind, bob) as robert:
            back = await robert.take("message", thread=thread)

    assert (back["seq"], back["stored"], back["message"]["text"]) == (2, True, "gone?")


@pytest.mark.parametrize("kind", TALKERS)
async def test_what_was_not_seen_comes_again_and_what_was_seen_does_not(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice:
        acks = [await alice.write(bob, text) for text in ("one", "two", "three")]
    thread = acks[0]["thread"]

    for _ in range(2):
        async with await house.talk(kind, bob) as robert:
            assert [m["text"] for m in await robert.messages(3, thread)] == ["one", "two", "three"]
    async with await house.talk(kind, bob) as robert:
        await robert.messages(3, thread)
        assert await robert.ask("seen", thread=thread, seq=2) == {"type": "ok", "id": 2}
        assert (await robert.ask("seen", thread=thread, seq=1))["type"] == "ok"  # forward only
    async with await house.talk(kind, bob) as robert:
        assert [m["text"] for m in await robert.messages(1, thread)] == ["three"]
        view = next(view for view in robert.welcome["threads"] if view["id"] == thread)
        assert view["seen"] == 2


@pytest.mark.parametrize("kind", TALKERS)
async def test_check_tells_what_is_new_without_ones_own_and_moves_the_cursors(house: House, kind: str) -> None:
    ann, bob, eve = fresh("ann"), fresh("bob"), fresh("eve")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, eve) as evelyn:
        async with await house.talk(kind, bob) as robert:
            await robert.write(ann, "mine")
        await alice.take("presence", user=bob, online=False)
        await alice.write(bob, "yours")
        await evelyn.write(bob, "from eve")
        async with await house.talk(kind, bob, threads=[]) as robert:
            await robert.send("check", id="c")
            told = [await robert.take(None, lambda frame: frame.get("id") == "c") for _ in range(3)]
            again = await robert.ask("check")
    async with await house.talk(kind, bob) as robert:
        await robert.ask("ping")
        repeated = [frame for frame in robert.heard if frame["type"] == "message"]

    assert [frame["type"] for frame in told] == ["message", "message", "checked"]
    assert sorted(frame["message"]["text"] for frame in told[:2]) == ["from eve", "yours"]
    assert [frame["stored"] for frame in told[:2]] == [True, True]
    assert told[2] == {"type": "checked", "count": 2, "id": "c"}
    assert again["count"] == 0
    assert repeated == []


async def test_a_second_session_hears_live_what_the_first_hears(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", bob) as first, await house.talk("framed", ann) as alice:
        second = await house.talk("framed", token=first.welcome["token"])
        ack = await alice.write(bob, "both?")
        assert await first.take("message") == await second.take("message")
        second.cut()
        assert ack["delivery"] == "live"
        assert (await alice.write(bob, "still?"))["delivery"] == "live"


async def test_a_hundred_and_fifty_waiting_messages_come_before_anything_live(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice:
        thread = (await alice.write(bob, "0"))["thread"]
        for number in range(1, 150):
            await alice.send("message.send", thread=thread, text=str(number))
        await alice.ask("ping")
        robert = await house.connect("framed")
        await robert.send("hello", user=bob, id=0)
        for number in range(150, 180):
            await alice.send("message.send", thread=thread, text=str(number))
        heard = await robert.messages(180, thread)
        frames = [frame for frame in robert.heard if frame["type"] == "message"]

    assert robert.heard[0]["type"] == "welcome"
    assert [message["text"] for message in heard] == [str(number) for number in range(180)]
    stored = [frame.get("stored", False) for frame in frames]
    assert stored == sorted(stored, reverse=True), "a stored message came after a live one"
    robert.cut()


async def test_sending_moves_ones_own_cursor_when_it_stood_right_before(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        thread = (await alice.write(bob, "one"))["thread"]
        await alice.write(bob, "two")
    async with await house.talk("text", ann) as alice:
        await alice.ask("ping")

        assert [frame for frame in alice.heard if frame["type"] == "message"] == []
        view = next(view for view in alice.welcome["threads"] if view["id"] == thread)
        assert view["seen"] == 2


async def test_seen_above_the_head_does_not_hide_what_comes_later(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        thread = (await alice.write(bob, "one"))["thread"]
        async with await house.talk("text", bob) as robert:
            await robert.message("one")
            await robert.ask("seen", thread=thread, seq=1000)  # refused or held to the head
        await alice.take("presence", user=bob, online=False)
        await alice.write(bob, "two")
        async with await house.talk("text", bob) as robert:
            assert await robert.message("two")


async def test_a_reader_of_one_thread_hears_only_that_one(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        thread = await alice.group(bob)
        await alice.write(bob, "private")
        await alice.post(thread, "in the group")
        async with await house.talk("framed", bob, threads=[thread]) as robert:
            assert [view["id"] for view in robert.welcome["threads"]] == [thread]
            await alice.write(bob, "private again")
            await alice.post(thread, "again")
            assert [m["text"] for m in await robert.messages(2, thread)] == ["in the group", "again"]
            await robert.ask("ping")
            assert {frame["thread"] for frame in robert.heard if frame["type"] == "message"} == {thread}


async def test_hello_for_a_thread_one_is_not_in_is_not_found(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as alice, await house.connect("text") as other:
        thread = await alice.group()
        error = await other.ask("hello", user=fresh("eve"), threads=[thread])

        assert error["code"] == "not_found"
        await other.hello(fresh("eve"))


async def test_a_name_is_found_in_any_spelling_and_keeps_the_first(house: House) -> None:
    name = fresh("Thermo")
    async with await house.talk("text", name) as thermometer, await house.talk("text", fresh("alice")) as alice:
        assert (await alice.write(name.upper(), "any spelling"))["delivery"] == "live"
        assert (await thermometer.message("any spelling"))["destination"] == name
