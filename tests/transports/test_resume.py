"""A reader who was cut off comes back and hears exactly the rest."""

from __future__ import annotations

from typing import Any

import pytest

from support.inbox import Inbox
from support.server import House, fresh
from support.talkers import TALKERS


async def texts(reader: Inbox, count: int, thread: str) -> list[str]:
    return [message["text"] for message in await reader.messages(count, thread)]


@pytest.mark.parametrize("kind", TALKERS)
@pytest.mark.parametrize("heard", [0, 1, 7, 19])
async def test_exactly_the_rest_comes_after_a_cut(house: House, kind: str, heard: int) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice, await house.talk(kind, bob) as robert:
        thread = await alice.group(bob)
        for number in range(20):
            await alice.post(thread, f"{number}")
        before = await texts(robert, heard, thread)
        robert.cut()
        await alice.post(thread, "20")
        resume = {"epoch": robert.welcome["server"]["epoch"], "threads": {thread: heard}}
        async with await house.talk(kind, token=robert.welcome["token"], resume=resume) as back:
            await alice.post(thread, "21")
            after = [await back.take("message", thread=thread) for _ in range(22 - heard)]
            await back.ask("ping")

            assert before + [frame["message"]["text"] for frame in after] == [str(n) for n in range(22)]
            assert [frame["seq"] for frame in after] == list(range(heard + 1, 23))
            assert after[0]["stored"] is True
            assert "stored" not in after[-1]
            assert "reset" not in [frame["type"] for frame in back.heard]
            assert len([f for f in back.heard if f.get("thread") == thread and f["type"] == "message"]) == len(after)


@pytest.mark.parametrize("heard", [1, 7, 19])
async def test_an_event_stream_goes_on_after_its_last_event_id(house: House, heard: int) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk("text", bob) as robert:
        token = robert.welcome["token"]
        thread = await alice.group(bob)
        stream = await house.listen(thread, token=token)
        for number in range(20):
            await alice.post(thread, f"{number}")
        before = await texts(stream, heard, thread)
        last = stream.ids[len(stream.heard) - 1] or ""
        stream.cut()
        await alice.post(thread, "20")
        async with await house.listen(thread, token=token, last_id=last) as back:
            await alice.post(thread, "21")
            after = await texts(back, 22 - heard, thread)

    assert before + after == [str(number) for number in range(22)]
    assert len(back.heard) == 22 - heard


async def test_a_stream_of_everything_continues_the_thread_of_its_last_id_and_the_others_after_seen(
    house: House,
) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk("text", bob) as robert:
        token = robert.welcome["token"]
        one, two = await alice.group(bob), await alice.group(bob)
        stream = await house.listen(token=token)
        for number in range(6):
            await alice.post(two, f"two {number}")
        await robert.ask("seen", thread=two, seq=3)
        for number in range(6):
            await alice.post(one, f"one {number}")
        await texts(stream, 4, one)
        last = stream.ids[len(stream.heard) - 1] or ""
        stream.cut()
        async with await house.listen(token=token, last_id=last) as back:
            assert await texts(back, 2, one) == ["one 4", "one 5"]
            assert await texts(back, 3, two) == ["two 3", "two 4", "two 5"]
            await alice.post(one, "end")
            await back.message("end")
            assert len([frame for frame in back.heard if frame["type"] == "message"]) == 6


WRONG_CURSORS = [({"epoch": "another-epoch"}, 1), ({"epoch": "another-epoch"}, 0), ({}, 1000)]


@pytest.mark.parametrize("kind", TALKERS)
@pytest.mark.parametrize(("cursor", "seq"), WRONG_CURSORS)
async def test_a_cursor_of_another_log_is_reset(house: House, kind: str, cursor: dict[str, str], seq: int) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk(kind, bob) as robert:
        thread = await alice.group(bob)
        await alice.post(thread, "one")
        await alice.post(thread, "two")
        await robert.messages(2, thread)
        await robert.ask("seen", thread=thread, seq=1)
        resume = {"epoch": robert.welcome["server"]["epoch"], **cursor, "threads": {thread: seq}}
        async with await house.talk(kind, token=robert.welcome["token"], resume=resume) as back:
            reset = await back.take("reset")
            await alice.post(thread, "three")
            after = await texts(back, 2, thread)

    assert set(reset) == {"type", "thread", "reason"}
    assert reset["thread"] == thread
    assert after == ["two", "three"]
    kinds = [frame["type"] for frame in back.heard]
    assert kinds.index("reset") < kinds.index("message")


@pytest.mark.parametrize("last", ["another-epoch.1", "EPOCH.1000", "EPOCH.1000.run.1.5", "nonsense", "EPOCH", ".", "1"])
async def test_a_last_event_id_nobody_gave_out_is_reset(house: House, last: str) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk("text", bob) as robert:
        thread = await alice.group(bob)
        await alice.post(thread, "one")
        last = last.replace("EPOCH", robert.welcome["server"]["epoch"])
        async with await house.listen(thread, token=robert.welcome["token"], last_id=last) as stream:
            assert (await stream.take("reset"))["thread"] == thread
            assert await stream.message("one")


@pytest.mark.parametrize("last", ["another-epoch.THREAD:1", "EPOCH.THREAD:1000"])
async def test_a_stream_of_everything_is_reset_in_the_thread_of_its_id(house: House, last: str) -> None:
    bob = fresh("bob")
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk("text", bob) as robert:
        thread = await alice.group(bob)
        await alice.post(thread, "one")
        last = last.replace("EPOCH", robert.welcome["server"]["epoch"]).replace("THREAD", thread)
        async with await house.listen(token=robert.welcome["token"], last_id=last) as stream:
            assert (await stream.take("reset"))["thread"] == thread
            assert await stream.message("one")


@pytest.mark.parametrize(
    "resume",
    [
        {"threads": {"lobby": -1}},
        {"threads": {"lobby": "1"}},
        {"threads": ["lobby"]},
        {"runs": {"r": [1]}},
        {"runs": {"r": [1, -1]}},
        {"runs": {"r": 5}},
        {"epoch": 5},
        [],
        "x",
    ],
    ids=repr,
)
async def test_a_resume_of_another_shape_is_a_bad_request(house: House, resume: Any) -> None:
    async with await house.connect("text") as alice:
        name = fresh("alice")
        assert (await alice.ask("hello", user=name, resume=resume))["code"] == "bad_request"
        await alice.hello(name)


async def test_threads_and_runs_one_does_not_have_are_ignored_in_a_resume(house: House) -> None:
    resume = {"threads": {"nowhere": 5}, "runs": {"nothing": [1, 5]}}
    async with await house.talk("text", fresh("alice"), resume=resume) as alice:
        await alice.ask("ping")
        assert {frame["type"] for frame in alice.heard} <= {"welcome", "pong", "presence", "reset"}


async def test_a_resume_over_a_restart_goes_on_without_a_hole(own_house) -> None:
    async with own_house() as house, await house.talk("text", "bob") as bob, await house.talk("text", "ann") as ann:
        thread = (await ann.write("bob", "one"))["thread"]
        await ann.write("bob", "two")
        await bob.message("one")
        tokens = bob.welcome["token"], ann.welcome["token"]
        epoch = bob.welcome["server"]["epoch"]
    resume = {"epoch": epoch, "threads": {thread: 1}}
    async with own_house() as house, await house.talk("framed", token=tokens[0], resume=resume) as bob:
        ann = await house.talk("binary", token=tokens[1])
        await ann.write("bob", "three")
        assert await texts(bob, 2, thread) == ["two", "three"]
        assert bob.welcome["server"]["epoch"] == epoch
        await ann.close()


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_server_that_stops_says_so_and_asks_to_resume(own_house, kind: str) -> None:
    async with own_house() as house:
        talker = await house.talk(kind, "alice")
        stream = await house.listen(user="bob")
        person = await house.nc("carl")
    bye = await talker.take("bye")
    said = await stream.take("bye")

    assert bye == said == {"type": "bye", "code": "shutdown", "reason": bye["reason"], "resume": True, "retry_after": 1}
    if kind != "framed":
        assert (await talker.closing())[0] == 1012
    assert bye["reason"] in await person.rest()
    stream.cut()
