"""The same conversation is the same on every transport: fields, numbers, order."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from support.server import House, fresh
from support.talkers import TALKERS, Talker

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
THREAD_KEYS = {"id", "title", "members", "member_count", "head", "public"}
MESSAGE_KEYS = {
    "id",
    "thread",
    "seq",
    "sender",
    "destination",
    "type",
    "text",
    "timestamp",
    "metadata",
    "reply_to",
    "run",
}


def bare(frame: dict[str, Any]) -> dict[str, Any]:
    """A message event without what depends on when one heard it."""
    return {key: value for key, value in frame.items() if key != "stored"}


@pytest.mark.parametrize("kind", TALKERS)
async def test_hello_is_answered_with_everything_a_client_needs(house: House, kind: str) -> None:
    name = fresh("alice")

    async with await house.connect(kind) as alice:
        welcome = await alice.hello(name, client="tests/1")

    assert set(welcome) == {"type", "id", "user", "token", "session", "server", "threads", "limits"}
    assert welcome["user"] == name
    assert welcome["token"].count(".") == 2
    assert ID.fullmatch(welcome["session"])
    assert set(welcome["server"]) == {"name", "version", "time", "epoch"}
    assert welcome["server"]["name"] == "hubbub"
    assert TIME.fullmatch(welcome["server"]["time"])
    [lobby] = welcome["threads"]
    assert set(lobby) == THREAD_KEYS | {"seen"}
    assert lobby["id"] == "lobby"
    assert lobby["public"] is True
    assert name in lobby["members"] or lobby["member_count"] > 50
    assert welcome["limits"]["frame_bytes"] == 1 << 20
    assert welcome["limits"]["text_bytes"] == 64 << 10


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_message_is_acknowledged_and_heard_by_its_sender_and_the_other(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice, await house.talk(kind, bob) as robert:
        ack = await alice.ask("message.send", to=bob, text="hello ☃", metadata={"a": [1, None]}, key="k1")
        own = await alice.take("message")
        heard = await robert.take("message")

    assert set(ack) == {
        "type",
        "id",
        "thread",
        "seq",
        "message",
        "timestamp",
        "delivery",
        "offline",
        "offline_count",
    }
    assert (ack["type"], ack["seq"], ack["delivery"]) == ("ack", 1, "live")
    assert (ack["offline"], ack["offline_count"]) == ([], 0)
    assert ID.fullmatch(ack["thread"])
    assert own == heard
    assert set(heard) == {"type", "thread", "seq", "message"}
    message = heard["message"]
    assert set(message) == MESSAGE_KEYS
    assert TIME.fullmatch(message["timestamp"])
    assert message["timestamp"] == ack["timestamp"]
    assert {key: message[key] for key in MESSAGE_KEYS - {"timestamp"}} == {
        "id": ack["message"],
        "thread": ack["thread"],
        "seq": 1,
        "sender": ann,
        "destination": bob,
        "type": "chat",
        "text": "hello ☃",
        "metadata": {"a": [1, None]},
        "reply_to": None,
        "run": None,
    }


async def test_all_transports_hear_the_same_messages_with_the_same_numbers_in_the_same_order(house: House) -> None:
    names = [fresh("member") for _ in range(6)]
    talkers = [await house.talk(kind, name) for kind, name in zip(TALKERS, names, strict=False)]
    thread = await talkers[0].group(*names[1:], title="round table")
    person = await house.nc(names[3])
    stream = await house.listen(thread, user=names[4])
    everything = await house.listen(user=names[4])
    async with house.http(user=names[5]) as http:
        sent = []
        for turn in range(12):
            text = f"turn {turn}"
            if turn % 4 < 3:
                sent.append((await talkers[turn % 4].post(thread, text))["seq"])
            else:
                answer = await http.post(f"/api/threads/{thread}/messages", json={"text": text})
                assert answer.status_code == 201
                sent.append(answer.json()["seq"])
        history = (await http.get(f"/api/threads/{thread}/messages")).json()

    assert sent == list(range(1, 13))
    assert set(history) == {"thread", "messages", "more"}
    for listener in [*talkers, stream, everything]:
        heard = [await listener.take("message", thread=thread) for _ in range(12)]
        assert [frame["message"] for frame in heard] == history["messages"]
        assert [frame["seq"] for frame in heard] == sent
    for turn in range(12):
        assert f"[#round table][{names[5 if turn % 4 == 3 else turn % 4]}] turn {turn}" in await person.line()
    assert stream.ids[-1] == f"{talkers[0].welcome['server']['epoch']}.12"
    assert everything.ids[-1] == f"{talkers[0].welcome['server']['epoch']}.{thread}:12"
    for listener in [*talkers, stream, everything, person]:
        listener.cut()


async def test_a_person_in_line_mode_hears_others_but_not_themselves(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(ann) as person, await house.talk("text", bob) as robert:
        person.type(f"{bob}: one")
        thread = (await robert.message("one"))["thread"]
        await robert.post(thread, "two")
        assert re.fullmatch(rf"\[{TIME.pattern}\]\[{bob}\] two", await person.line())
        person.type("!who")
        assert bob in await person.line()


@pytest.mark.parametrize("kind", TALKERS)
async def test_two_hundred_mixed_requests_in_one_go_are_answered_in_their_order(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice:
        thread = (await alice.write(bob, "first"))["thread"]
        chance = random.Random(7)
        wanted = []
        for number in range(200):
            id: str | int = number if chance.random() < 0.5 else f"request-{number}"
            choice = chance.choice(["send", "send", "send", "to", "ping", "who", "history", "list", "wrong", "type"])
            wanted.append((id, choice))
            match choice:
                case "send":
                    await alice.send("message.send", id=id, thread=thread, text=f"{number}")
                case "to":
                    await alice.send("message.send", id=id, to=bob, text=f"{number}")
                case "ping":
                    await alice.send("ping", id=id)
                case "who":
                    await alice.send("who", id=id)
                case "history":
                    await alice.send("history", id=id, thread=thread, limit=1)
                case "list":
                    await alice.send("thread.list", id=id)
                case "wrong":
                    await alice.send("seen", id=id, thread=thread, seq="no")
                case "type":
                    await alice.send("never.heard", id=id)
        replies = [await alice.take(None, lambda frame: "id" in frame) for _ in wanted]

    assert [reply["id"] for reply in replies] == [id for id, _ in wanted]
    shape = {"send": "ack", "to": "ack", "ping": "pong", "list": "threads", "wrong": "error", "type": "error"}
    for reply, (_, choice) in zip(replies, wanted, strict=True):
        assert reply["type"] == shape.get(choice, choice)
    seqs = [reply["seq"] for reply in replies if reply["type"] == "ack"]
    assert seqs == list(range(2, len(seqs) + 2))


@pytest.mark.parametrize("kind", TALKERS)
@pytest.mark.parametrize("id", ["", "x" * 64, "schön", 0, 2**53, -(2**53), None], ids=repr)
async def test_the_id_of_a_request_is_echoed_as_it_was(house: House, kind: str, id: Any) -> None:
    async with await house.talk(kind, fresh("alice")) as alice:
        await alice.send("ping", id=id)
        pong = await alice.take("pong")

    assert pong == ({"type": "pong"} if id is None else {"type": "pong", "id": id})
    assert type(pong.get("id")) is type(id)


@pytest.mark.parametrize("kind", TALKERS)
@pytest.mark.parametrize("id", ["x" * 65, 2**53 + 1, -(2**53) - 1, 1.5, True, [1], {}], ids=repr)
async def test_an_id_of_another_shape_is_refused_and_not_echoed(house: House, kind: str, id: Any) -> None:
    async with await house.talk(kind, fresh("alice")) as alice:
        await alice.send("ping", id=id)
        error = await alice.take("error")
        assert error["code"] == "bad_frame"
        assert "id" not in error
        assert (await alice.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("kind", TALKERS)
async def test_bye_ends_the_connection(house: House, kind: str) -> None:
    async with await house.talk(kind, fresh("alice")) as alice:
        await alice.send("message.send", id=1, thread="lobby", text="going")
        await alice.send("bye", id=2)
        heard = await alice.drain()

    assert [frame["id"] for frame in heard if frame["type"] == "ack"] == [1]
    assert [frame for frame in heard if frame["type"] == "error"] == []


async def test_a_websocket_that_says_bye_is_closed_normally(house: House) -> None:
    talker = await house.talk("text", fresh("alice"))
    await talker.send("bye")

    code, _ = await talker.closing()

    assert code == 1000


@pytest.mark.parametrize(("first", "then"), [("text", "binary"), ("binary", "text")])
async def test_the_server_answers_in_the_kind_the_hello_came_in(house: House, first: str, then: str) -> None:
    async with await house.talk(first, fresh("alice")) as alice:
        payload = b'{"type":"ping","id":"other kind"}'
        framed = len(payload).to_bytes(4, "big") + payload if then == "binary" else payload
        await alice.send_message(framed, text=then == "text")
        assert (await alice.take("pong"))["id"] == "other kind"


async def test_a_binary_message_may_hold_several_frames(house: House) -> None:
    async with await house.talk("binary", fresh("alice")) as alice:
        payloads = [b'{"type":"ping","id":%d}' % number for number in range(20)]
        joined = b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
        await alice.send_message(joined)

        assert [(await alice.take("pong"))["id"] for _ in range(20)] == list(range(20))


async def test_frames_cut_anywhere_are_put_together(house: House) -> None:
    alice = await house.connect("framed")
    payloads = [b'{"type":"hello","user":"%s","id":0}' % fresh("slow").encode(), b'{"type":"ping","id":1}']
    for byte in b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads):
        alice.writer.write(bytes([byte]))
        await alice.writer.drain()

    assert (await alice.take("welcome"))["id"] == 0
    assert (await alice.take("pong"))["id"] == 1
    alice.cut()


async def several(house: House, thread: str, names: list[str]) -> list[Talker]:
    return [await house.talk(kind, name, threads=[thread]) for kind, name in zip(TALKERS, names, strict=True)]


async def test_many_at_once_on_all_transports_agree_on_one_order(house: House) -> None:
    names = [fresh("member") for _ in range(3)]
    async with await house.talk("text", fresh("maker")) as maker:
        thread = await maker.group(*names)
    talkers = await several(house, thread, names)
    for number in range(60):
        for talker, name in zip(talkers, names, strict=True):
            await talker.send("message.send", id=number, thread=thread, text=f"{name} {number}")

    heard = [await talker.messages(180, thread) for talker in talkers]

    assert heard[0] == heard[1] == heard[2]
    assert [message["seq"] for message in heard[0]] == list(range(1, 181))
    for name in names:
        assert [m["text"] for m in heard[0] if m["sender"] == name] == [f"{name} {number}" for number in range(60)]
    for talker in talkers:
        assert [frame["id"] for frame in talker.heard if frame["type"] == "ack"] == list(range(60))
        talker.cut()
