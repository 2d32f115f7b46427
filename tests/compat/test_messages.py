"""`POST /messages/` and `GET /messages/{user}`: private messages in the words of the message API."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from support.server import House, fresh

PASSWORD = "correct horse battery"


async def send(http: httpx2.AsyncClient, sender: str, to: str, text: str, **more: Any) -> dict[str, Any]:
    answer = await http.post("/messages/", json={"sender": sender, "destination": to, "message": text, **more})
    assert answer.status_code == 200, answer.text
    message: dict[str, Any] = answer.json()
    return message


async def messages_of(http: httpx2.AsyncClient, user: str, path: str = "/messages/{}") -> list[dict[str, Any]]:
    answer = await http.get(path.format(user))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"messages"}
    return list(answer.json()["messages"])


async def test_a_message_is_kept_for_whoever_it_is_addressed_to(house: House) -> None:
    alice, bob = fresh("alice"), fresh("bob")
    async with house.http() as http:
        more = {"type": "command", "metadata": {"a": [1]}, "timestamp": "2001-01-01T00:00:00", "extra": 1}
        sent = await send(http, alice, bob, "hello!!", **more)
        slashed = await http.post("/messages", json={"sender": alice, "destination": bob, "message": "again"})
        found = await messages_of(http, bob)
        with_slash = await messages_of(http, bob, "/messages/{}/")
        own = await messages_of(http, alice)

    assert set(sent) == {"sender", "destination", "message", "timestamp", "type", "metadata"}
    assert (sent["sender"], sent["destination"], sent["message"]) == (alice, bob, "hello!!")
    assert (sent["type"], sent["metadata"]) == ("command", {"a": [1]})
    assert not sent["timestamp"].startswith("2001")
    assert slashed.status_code == 200
    assert found == with_slash == [sent, slashed.json()]
    assert own == []


async def test_reading_moves_no_cursor_and_who_connects_is_told(house: House) -> None:
    alice, bob = fresh("alice"), fresh("bob")
    async with house.http() as http:
        await send(http, alice, bob, "are you there?")
        first = await messages_of(http, bob)
        again = await messages_of(http, bob)
    async with await house.talk("text", bob) as robert:
        unheard = await robert.take("message", stored=True)

    assert first == again
    assert unheard["message"]["text"] == "are you there?"


async def test_only_private_messages_to_that_member_are_shown_ascending(house: House) -> None:
    alice, bob, carol = fresh("alice"), fresh("bob"), fresh("carol")
    async with house.http() as http, await house.talk("text", alice) as speaker:
        group = await speaker.group(bob)
        await speaker.post(group, "to the group")
        await speaker.post("lobby", "to all")
        token = speaker.welcome["token"]
        headers = {"authorization": f"Bearer {token}"}
        for number in range(4):
            await send(http, carol, bob, f"carol {number}")
            body = {"sender": alice, "destination": bob, "message": f"alice {number}"}
            assert (await http.post("/messages/", json=body, headers=headers)).status_code == 200
        await send(http, bob, carol, "an answer")
        found = await messages_of(http, bob)

    assert [message["message"] for message in found] == [
        text for number in range(4) for text in (f"carol {number}", f"alice {number}")
    ]


async def test_at_most_the_newest_two_hundred_are_shown(house: House) -> None:
    alice, bob, carol = fresh("alice"), fresh("bob"), fresh("carol")
    async with house.http() as http, await house.talk("text", alice) as one, await house.talk("text", carol) as other:
        for number in range(120):
            await one.write(bob, f"alice {number}")
        for number in range(120):
            await other.write(bob, f"carol {number}")
        found = await messages_of(http, bob)

    assert len(found) == 200
    assert found[0]["message"] == "alice 40"
    assert found[-1]["message"] == "carol 119"


async def test_long_messages_stop_it_earlier(house: House) -> None:
    alice, bob, carol = fresh("alice"), fresh("bob"), fresh("carol")
    async with house.http() as http, await house.talk("text", alice) as one, await house.talk("text", carol) as other:
        for number in range(6):
            await one.write(bob, f"alice {number} " + "x" * 60_000)
            await other.write(bob, f"carol {number} " + "x" * 60_000)
        found = await messages_of(http, bob)

    expected = [f"{name} {number}" for number in range(2, 6) for name in ("alice", "carol")]
    assert sorted(message["message"][:7] for message in found) == sorted(expected)


async def test_nobody_sends_or_reads_as_somebody_else(house: House) -> None:
    async with house.http() as http:
        names, headers = [], []
        for _ in range(2):
            names.append(fresh("member"))
            answer = await http.post("/api/auth/register", json={"user": names[-1], "password": PASSWORD})
            headers.append({"authorization": f"Bearer {answer.json()['access_token']}"})
            http.cookies.clear()
        mine, theirs = names
        body = {"sender": theirs, "destination": fresh("bob"), "message": "not mine"}
        refused = [
            await http.post("/messages/", json=body, headers=headers[0]),
            await http.get(f"/messages/{theirs}", headers=headers[0]),
            await http.post("/messages/", json=body),
            await http.get(f"/messages/{theirs}"),
        ]
        allowed = await http.get(f"/messages/{mine.upper()}", headers=headers[0])

    assert [answer.status_code for answer in refused] == [404, 404, 401, 401]
    assert allowed.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sender": "alice", "destination": "bob"},
        {"sender": "", "destination": "bob", "message": "x"},
        {"sender": "alice", "destination": "bob", "message": ""},
        {"sender": "alice", "destination": "alice", "message": "to oneself"},
        {"sender": "alice", "destination": "bob", "message": "x", "type": "shout"},
        {"sender": "alice", "destination": "bob", "message": "x", "metadata": []},
    ],
)
async def test_a_wrong_body_is_refused(house: House, body: dict[str, Any]) -> None:
    async with house.http() as http:
        answer = await http.post("/messages/", json=body)

    assert answer.status_code == 400
    assert answer.json()["detail"]
