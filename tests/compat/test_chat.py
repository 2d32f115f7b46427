"""`POST /chat` and `GET /conversations/{id}/history`, for clients that know nothing else of this server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import requests

from hubbub.core.nouns import Prompt
from hubbub.hub.access import Caller
from hubbub.hub.conversing import visitor_of
from hubbub.hub.following import follow
from support.inbox import WAIT_S
from support.server import House, fresh
from tests.compat.streams import Stream, streaming, told

Own = Callable[..., AbstractAsyncContextManager[House]]
PASSWORD = "correct horse battery"


async def say(http: httpx2.AsyncClient, message: str, conversation: str = "", **how: Any) -> Stream:
    return await told(http, "POST", "/chat", data={"message": message, "conversation_id": conversation}, **how)


def conversation_of(stream: Stream) -> str:
    return str(stream.heard[0][1]["conversation_id"])


async def history_of(http: httpx2.AsyncClient, conversation: str, **params: Any) -> dict[str, Any]:
    answer = await http.get(f"/conversations/{conversation}/history", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def registered(http: httpx2.AsyncClient) -> tuple[str, dict[str, str]]:
    """A new name with a password: itself, and the headers to show."""
    name = fresh("carol")
    token = (await http.post("/api/auth/register", json={"user": name, "password": PASSWORD})).json()["access_token"]
    http.cookies.clear()
    return name, {"authorization": f"Bearer {token}"}


async def test_an_answer_comes_in_pieces_then_whole_then_it_is_completed(house: House) -> None:
    async with house.http() as http:
        stream = await say(http, "count to 20")

    answer = "(demo model) " + " ".join(str(number) for number in range(1, 21))
    kinds = [kind for kind, _ in stream.heard]
    (_, connected), *_, (_, complete), (_, completed) = stream.heard
    assert kinds == ["connected", *["message"] * (len(kinds) - 2), "completed"]
    assert connected["status"] == "connected"
    assert str(UUID(connected["conversation_id"])) == connected["conversation_id"]
    assert connected["message_id"]
    assert stream.text() == answer
    assert kinds.count("message") > 5
    assert all(data["conversation_history_length"] == 1 for _, data in stream.heard[1:-2])
    assert (complete["type"], complete["content"]) == ("complete", answer)
    assert completed["conversation_id"] == connected["conversation_id"]
    assert (completed["message_content"], completed["total_messages"]) == (answer, 2)
    assert all("type" in data for _, data in stream.heard)


def example(url: str) -> tuple[list[str], str]:
    """What a program with `requests` does that reads lines and knows `type` and `content`."""
    response = requests.post(url, data={"message": "Hello, how are you?"}, timeout=WAIT_S)
    kinds, content = [], []
    for line in response.iter_lines():
        if line.startswith(b"data: "):
            data = json.loads(line[6:])
            kinds.append(data.get("type"))
            content.append(data.get("content", ""))
    return kinds, content[-2] if content else ""


async def test_the_requests_package_reads_it_line_by_line(house: House) -> None:
    kinds, content = await asyncio.to_thread(example, f"http://localhost:{house.port}/chat")

    assert kinds[0] == "connected"
    assert set(kinds[1:-2]) == {"partial_response"}
    assert kinds[-2:] == ["complete", "completed"]
    assert content.startswith("(demo model) ")


@pytest.mark.parametrize("form", ["urlencoded", "multipart", "json"])
async def test_the_message_may_come_in_every_usual_form(house: House, form: str) -> None:
    fields = {"message": "repeat: žluťoučký & kůň 🐎", "conversation_id": ""}
    async with house.http() as http:
        how: dict[str, Any] = {
            "urlencoded": {"data": fields},
            "multipart": {"files": {name: (None, value) for name, value in fields.items()}},
            "json": {"json": {"message": fields["message"], "conversation_id": None}},
        }[form]
        stream = await told(http, "POST", "/chat", **how)

    assert stream.heard[-1][1]["message_content"] == "(demo model) žluťoučký & kůň 🐎"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"data": {}}, 400, "message"),
        ({"data": {"message": ""}}, 400, "message"),
        ({"data": {"message": "x" * 1001}}, 400, "1000"),
        ({"data": {"message": "x", "conversation_id": "lobby"}}, 400, "conversation_id"),
        ({"json": {"message": ["x"]}}, 400, "message"),
        ({"json": []}, 400, "object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, ""),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, ""),
        ({"files": {"message": ("name.txt", b"a file")}}, 400, ""),
        ({"data": {f"field{number}": "x" for number in range(30)}}, 400, ""),
        ({"data": {"message": "x" * (1 << 20)}}, 413, "body"),
    ],
)
async def test_a_wrong_body_is_refused_in_a_sentence(
    house: House, body: dict[str, Any], status: int, says: str
) -> None:
    async with house.http() as http:
        answer = await http.post("/chat", **body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


async def test_a_message_of_a_thousand_characters_is_taken(house: House) -> None:
    async with house.http() as http:
        stream = await say(http, "repeat: " + "🐎" * 992)

    assert stream.heard[-1][0] == "completed"


async def test_a_conversation_nobody_knows_is_an_error_event(house: House) -> None:
    async with house.http() as http:
        stream = await say(http, "hello", str(uuid4()))

    [(kind, data)] = stream.heard
    assert kind == data["type"] == "error"
    assert data["code"] == "not_found"
    assert "no conversation" in data["error"]


async def test_the_model_is_shown_the_turns_before(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Prompt] = []
    put = house.app.hub.bus.put

    async def remember(task: Any) -> int:
        shown.append(task.prompt)
        return await put(task)

    monkeypatch.setattr(house.app.hub.bus, "put", remember)
    async with house.http() as http:
        first = await say(http, "count to 3")
        second = await say(http, "count to 4", conversation_of(first))

    said = [(turn.role, turn.text) for turn in shown[-1].turns if turn.role != "system"]
    assert said == [("user", "count to 3"), ("assistant", "(demo model) 1 2 3"), ("user", "count to 4")]
    assert second.heard[-1][1]["total_messages"] == 4


async def test_a_restart_forgets_nothing_and_another_process_goes_on(own_house: Own) -> None:
    async with own_house() as house, house.http() as http:
        id = conversation_of(await say(http, "count to 3"))
    async with own_house() as house, house.http() as http:
        again = await say(http, "count to 4", id)
        page = await history_of(http, id)

    assert conversation_of(again) == id
    assert again.heard[-1][1]["total_messages"] == 4
    assert [(message["role"], message["content"]) for message in page["messages"]] == [
        ("user", "count to 3"),
        ("assistant", "(demo model) 1 2 3"),
        ("user", "count to 4"),
        ("assistant", "(demo model) 1 2 3 4"),
    ]


async def test_leaving_the_stream_does_not_stop_the_answer(own_house: Own) -> None:
    async with own_house(demo_word_s=0.01) as house, house.http() as http:
        async with streaming(http, "POST", "/chat", data={"message": "count to 30"}) as stream:
            connected = await stream.take("connected")
            await stream.take("message")
        id = connected["conversation_id"]
        async for _ in follow(house.app.hub, Caller(visitor_of(id)), connected["run"]):
            pass
        page = await history_of(http, id)

    assert page["messages"][1]["content"].endswith(" 29 30")
    assert page["messages"][1]["metadata"]["state"] == "completed"


async def test_an_answer_that_a_restart_interrupts_is_written_again_and_can_be_followed(own_house: Own) -> None:
    async with own_house(demo_word_s=0.02) as house, house.http() as http:
        _, headers = await registered(http)
        async with streaming(http, "POST", "/chat", data={"message": "count to 50"}, headers=headers) as stream:
            connected = await stream.take("connected")
            await stream.take("message")
            house.app.hub.dismiss()
            last = (await stream.all())[-1]
    async with own_house(demo_word_s=0.001) as house, house.http() as http:
        async with streaming(http, "GET", f"/api/runs/{connected['run']}/events", headers=headers) as followed:
            end = await followed.take("run.completed")
        page = (await http.get(f"/conversations/{connected['conversation_id']}/history", headers=headers)).json()

    assert (last[0], last[1]["code"]) == ("error", "shutdown")
    assert end["attempt"] == 2
    assert page["messages"][-1]["content"].endswith(" 49 50")


async def test_a_message_that_mentions_the_assistant_is_answered_once(house: House) -> None:
    async with house.http() as http:
        stream = await say(http, "@openai count to 3")
        page = await history_of(http, conversation_of(stream))

    assert stream.heard[-1][1]["message_content"] == "(demo model) 1 2 3"
    assert page["total_messages"] == 2


# Whose it is


async def test_a_visitor_s_conversation_is_in_nobody_s_list_and_its_id_is_its_key(house: House) -> None:
    async with house.http() as http:
        id = conversation_of(await say(http, "count to 3"))
        another = conversation_of(await say(http, "count to 4"))
        lists = [
            (await http.get("/api/threads", params={"public": True})).text,
            (await http.get("/api/threads", params={"user": "visitor", "public": True})).text,
            (await http.get("/api/users")).text,
        ]
        threads = [await http.get(f"/api/threads/{id}{what}") for what in ("", "/messages", "/members")]
        page = await history_of(http, id)
    async with await house.talk("text", fresh("alice")) as alice:
        online = (await alice.ask("who"))["online"]

    assert id != another
    for listed in [*lists, "".join(online)]:
        assert id not in listed
        assert visitor_of(id) not in listed
    assert [answer.status_code for answer in threads] == [404, 404, 404]
    assert page["total_messages"] == 2
    assert id.replace("-", "")[:8] not in visitor_of(id)


async def test_with_a_token_only_the_member_goes_on(house: House) -> None:
    async with house.http() as http:
        name, headers = await registered(http)
        _, other = await registered(http)
        mine = conversation_of(await say(http, "count to 3", headers=headers))
        visitors = conversation_of(await say(http, "count to 3"))
        tries = [
            await say(http, "hello", mine),
            await say(http, "hello", mine, headers=other),
            await say(http, "hello", visitors, headers=headers),
        ]
        refused = [
            await http.get(f"/conversations/{mine}/history"),
            await http.get(f"/conversations/{mine}/history", headers=other),
        ]
        threads = (await http.get("/api/threads", headers=headers)).json()["threads"]
        again = await say(http, "count to 4", mine, headers=headers)

    assert [stream.heard[0][1]["code"] for stream in tries] == ["not_found"] * 3
    assert [answer.status_code for answer in refused] == [404, 404]
    assert mine in [thread["id"] for thread in threads]
    assert next(thread for thread in threads if thread["id"] == mine)["members"] == [name, "openai"]
    assert again.heard[-1][1]["total_messages"] == 4


async def test_without_guests_it_takes_a_token(own_house: Own) -> None:
    async with own_house(guests="off", registration="on") as house, house.http() as http:
        _, headers = await registered(http)
        refused = [await http.post("/chat", data={"message": "hello"})]
        refused += [await http.get(f"/conversations/{uuid4()}/history")]
        stream = await say(http, "count to 3", headers=headers)

    assert [answer.status_code for answer in refused] == [401, 401]
    assert stream.heard[-1][0] == "completed"


async def test_only_conversations_are_read_and_continued_here(house: House) -> None:
    """A thread of somebody's own that is no conversation with the assistant, though its id were a UUID."""
    async with house.http() as http:
        name, headers = await registered(http)
        stream = await told(http, "GET", "/generate", params={"context": "[[delay=0]] x"}, headers=headers)
        task = stream.heard[0][1]["id"]
        chatted = await say(http, "hello", task, headers=headers)
        read = await http.get(f"/conversations/{task}/history", headers=headers)

    assert name
    assert chatted.heard[0][1]["code"] == "not_found"
    assert read.status_code == 404


# What can go wrong


async def test_history_is_the_newest_and_its_limit_is_held(house: House) -> None:
    async with house.http() as http:
        id = conversation_of(await say(http, "count to 1"))
        for number in (2, 3):
            await say(http, f"count to {number}", id)
        page = await history_of(http, id, limit=3)
        wrong = [(await http.get(f"/conversations/{id}/history", params={"limit": n})).status_code for n in (0, 101)]
        unknown = await http.get(f"/conversations/{uuid4()}/history")

    assert [message["content"] for message in page["messages"]] == [
        "(demo model) 1 2",
        "count to 3",
        "(demo model) 1 2 3",
    ]
    assert (page["conversation_id"], page["total_messages"]) == (id, 6)
    assert wrong == [400, 400]
    assert unknown.status_code == 404


async def test_without_the_assistant_it_says_so(own_house: Own) -> None:
    async with own_house(openai=False) as house, house.http() as http:
        answer = await http.post("/chat", data={"message": "hello"})

    assert answer.status_code == 404
    assert "'openai' does not answer" in answer.json()["detail"]


async def test_nobody_answers_in_place_of_the_assistant_that_is_turned_off(own_house: Own) -> None:
    async with own_house(openai=False) as house, house.http() as http:
        response = await http.post("/api/assistants?user=mallory", json={"name": "OpenAI"})
        assert (response.status_code, response.json()["detail"]) == (409, "Username already taken.")
        assert (await http.get("/api/assistants")).json() == {"assistants": []}
        assert (await http.post("/chat", json={"message": "hello"})).status_code == 404


async def test_a_failed_answer_is_an_error_event_with_its_sentence(own_house: Own) -> None:
    async with own_house(engine="script", response_delay=0.0) as house, house.http() as http:
        stream = await say(http, "[[fail=2 delay=0]] one two three four")
        page = await history_of(http, conversation_of(stream))

    assert stream.heard[-1] == ("error", {"type": "error", "error": "It was told to fail.", "code": "failed"})
    assert stream.text() == page["messages"][-1]["content"] == "one two "


async def test_who_sends_too_fast_is_told_when_to_try_again(own_house: Own) -> None:
    async with own_house(send_rate=1.0, send_burst=2.0) as house, house.http() as http:
        id = conversation_of(await say(http, "count to 1"))
        await say(http, "count to 1", id)
        answer = await http.post("/chat", data={"message": "hello", "conversation_id": id})

    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


async def test_strangers_are_counted_by_their_address(own_house: Own) -> None:
    async with own_house(strangers_per_minute=3, limit_loopback=True) as house, house.http() as http:
        statuses = [(await http.post("/chat", data={"message": "count to 1"})).status_code for _ in range(5)]

    assert statuses == [200, 200, 200, 429, 429]


async def test_pages_of_other_sites_may_not_ask(house: House) -> None:
    async with house.http() as http:
        elsewhere = {"origin": "https://elsewhere.example"}
        refused = [
            await http.post("/chat", data={"message": "hello"}, headers=elsewhere),
            await http.get(f"/conversations/{uuid4()}/history", headers=elsewhere),
            await http.get("/generate", params={"context": "x"}, headers=elsewhere),
            await http.get("/generate", params={"context": "x"}, headers={"sec-fetch-site": "cross-site"}),
            await http.get("/messages/alice", headers=elsewhere),
        ]

    assert [answer.status_code for answer in refused] == [403] * 5


async def test_a_waiting_stream_is_kept_alive_by_comments(own_house: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubbub.transports.streams.HEARTBEAT_S", 0.05)
    asked = {"message": "count to 1"}
    async with (
        own_house(response_delay=0.5) as house,
        house.http() as http,
        http.stream("POST", "/chat", data=asked) as response,
    ):
        lines = [line async for line in response.aiter_lines()]

    assert lines.count(":") + lines.count(": ") >= 3


async def test_a_delay_slows_the_demo_model(own_house: Own) -> None:
    async with own_house(response_delay=0.4) as house, house.http() as http:
        began = asyncio.get_running_loop().time()
        await say(http, "count to 1")
        took_s = asyncio.get_running_loop().time() - began

    assert 0.4 <= took_s < 3
