"""Who is here, who comes and goes, who is writing."""

from __future__ import annotations

import pytest

from support.server import House, fresh
from support.talkers import TALKERS


@pytest.mark.parametrize("kind", TALKERS)
async def test_who_lists_everyone_connected_and_the_assistant(house: House, kind: str) -> None:
    ann, bob, joe = fresh("ann"), fresh("bob"), fresh("joe")
    async with await house.talk(kind, ann) as alice, await house.talk("text", bob), await house.nc(joe):
        reply = await alice.ask("who")

    assert set(reply) == {"type", "id", "online"}
    assert {ann, bob, joe, "openai"} <= set(reply["online"])
    assert len(reply["online"]) == len(set(reply["online"]))


@pytest.mark.parametrize("kind", TALKERS)
async def test_coming_and_going_is_told_once_however_many_connections_one_has(own_house, kind: str) -> None:
    async with own_house() as house, await house.talk(kind, "alice") as alice:
        first = await house.talk(kind, "bob")
        assert await alice.take("presence") == {"type": "presence", "user": "bob", "online": True}
        second = await house.talk("framed", token=first.welcome["token"])
        await first.close()
        await second.close()
        assert await alice.take("presence", user="bob") == {"type": "presence", "user": "bob", "online": False}
        await alice.ask("ping")

        about_bob = [frame["online"] for frame in alice.heard if frame["type"] == "presence"]
        assert about_bob == [True, False]
        assert "bob" not in (await alice.ask("who"))["online"]


async def test_presence_is_not_told_to_those_who_share_no_thread(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        await alice.ask("thread.leave", thread="lobby")
        async with await house.talk("framed", bob) as robert:
            await robert.ask("ping")
        await alice.ask("ping")
        assert bob not in str([frame for frame in alice.heard if frame["type"] == "presence"])


async def test_typing_is_told_to_the_others_in_the_thread_on_every_transport(house: House) -> None:
    ann, bob, eve = fresh("ann"), fresh("bob"), fresh("eve")
    async with (
        await house.talk("framed", ann) as alice,
        await house.talk("binary", bob) as robert,
        await house.talk("text", eve) as evelyn,
    ):
        thread = await alice.group(bob)
        stream = await house.listen(thread, token=robert.welcome["token"])
        assert (await alice.ask("typing", thread=thread))["type"] == "ok"
        wanted = {"type": "typing", "thread": thread, "user": ann}
        assert await robert.take("typing") == wanted
        assert await stream.take("typing") == wanted
        await evelyn.ask("ping")
        assert "typing" not in [frame["type"] for frame in evelyn.heard]
        stream.cut()


async def test_a_reader_of_events_is_online_and_does_not_hold_the_name(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("text", fresh("ann")) as alice:
        stream = await house.listen(user=bob)
        await alice.take("presence", user=bob, online=True)
        assert (await alice.write(bob, "hi"))["delivery"] == "live"
        assert (await stream.message("hi"))["destination"] == bob
        async with await house.talk("framed", bob) as robert:
            await robert.ask("ping")
        stream.cut()
        await alice.take("presence", user=bob, online=False)
