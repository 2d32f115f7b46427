"""The same key is the same message, whichever way it comes."""

from __future__ import annotations

from typing import Any

import pytest

from support.server import House, fresh
from support.talkers import TALKERS


async def test_the_same_key_over_every_transport_is_one_message(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as text:
        token = text.welcome["token"]
        acks = [await text.write(bob, "once", key="k")]
        thread = acks[0]["thread"]
        for kind in ("binary", "framed"):
            async with await house.talk(kind, token=token) as talker:
                acks.append(await talker.post(thread, "once", key="k"))
        async with house.http(token) as http:
            for send in (
                http.post("/api/messages", json={"to": bob, "text": "once", "key": "k"}),
                http.post("/api/messages", json={"to": bob, "text": "once"}, headers={"idempotency-key": "k"}),
                http.post(f"/api/threads/{thread}/messages", json={"text": "once"}, headers={"Idempotency-Key": "k"}),
            ):
                answer = await send
                assert answer.status_code == 201
                acks.append(answer.json())
        page = await text.ask("history", thread=thread)

    assert [ack["seq"] for ack in acks] == [1] * 6
    assert len({(ack["message"], ack["timestamp"]) for ack in acks}) == 1
    assert len(page["messages"]) == 1


@pytest.mark.parametrize("kind", TALKERS)
async def test_the_same_key_in_flight_twice_is_one_message(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as one, await house.talk(kind, token=one.welcome["token"]) as other:
        thread = (await one.write(bob, "open"))["thread"]
        for number in range(20):
            for talker in (one, other):
                await talker.send("message.send", id=f"id{number}", thread=thread, text=f"{number}", key=f"k{number}")
        acks = [[(await talker.take("ack", id=f"id{n}"))["seq"] for n in range(20)] for talker in (one, other)]
        page = await one.ask("history", thread=thread)

    assert sorted(acks[0]) == list(range(2, 22))
    assert acks[0] == acks[1]
    assert sorted(message["text"] for message in page["messages"][1:]) == sorted(str(n) for n in range(20))


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"message_type": "command"},
        {"metadata": {"a": 2}},
        {"reply_to": "FIRST"},
        {"thread": "lobby"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_same_key_with_another_body_is_refused(house: House, change: dict[str, Any]) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, house.http(alice.welcome["token"]) as http:
        first = await alice.write(bob, "original")
        body = {"thread": first["thread"], "text": "x", "metadata": {"a": 1}, "key": "k"}
        await alice.ask("message.send", **body)
        if "reply_to" in change:
            change = {"reply_to": first["message"]}
        changed = {**body, **change}
        error = await alice.ask("message.send", **changed)
        answer = await http.post(
            f"/api/threads/{changed['thread']}/messages", json={k: v for k, v in changed.items() if k != "thread"}
        )

    assert (error["type"], error["code"]) == ("error", "key_conflict")
    assert (answer.status_code, answer.json()["code"]) == (409, "key_conflict")


async def test_the_order_of_metadata_does_not_make_another_body(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as alice:
        thread = await alice.group()
        one = await alice.post(thread, "x", key="k", metadata={"a": 1, "b": [1, {"c": None, "d": 2}]})
        two = await alice.post(thread, "x", key="k", metadata={"b": [1, {"d": 2, "c": None}], "a": 1})

    assert one["seq"] == two["seq"]


async def test_keys_belong_to_their_sender(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, await house.talk("framed", bob) as robert:
        thread = await alice.group(bob)
        assert (await alice.post(thread, "hers", key="k"))["seq"] == 1
        assert (await robert.post(thread, "his", key="k"))["seq"] == 2


async def test_a_key_is_kept_over_a_restart(own_house) -> None:
    async with own_house() as house, await house.talk("text", "alice") as alice:
        first = await alice.write("bob", "once", key="k")
        token = alice.welcome["token"]
    async with own_house() as house, await house.talk("framed", token=token) as alice:
        assert await alice.write("bob", "once", key="k") == {**first, "id": 2}
        assert (await alice.ask("message.send", to="bob", text="twice", key="k"))["code"] == "key_conflict"


@pytest.mark.parametrize("kind", TALKERS)
async def test_keys_have_1_to_128_characters(house: House, kind: str) -> None:
    async with await house.talk(kind, fresh("ann")) as alice:
        thread = await alice.group()
        await alice.post(thread, "x", key="k" * 128)
        await alice.post(thread, "y", key="ü")
        for key in ("k" * 129, "", 5):
            assert (await alice.ask("message.send", thread=thread, text="x", key=key))["code"] == "bad_request"


async def test_a_key_in_the_header_has_the_same_limits(house: House) -> None:
    async with house.http(user=fresh("ann")) as http:
        body = {"to": fresh("bob"), "text": "x"}
        assert (await http.post("/api/messages", json=body, headers={"idempotency-key": "k" * 128})).status_code == 201
        answer = await http.post("/api/messages", json=body, headers={"idempotency-key": "k" * 129})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
