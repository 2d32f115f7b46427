"""`/generate`: tasks for the model script, their words as it prints them, and what leaving does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import pytest

from hubbub.core import frames
from hubbub.core.nouns import Prompt
from hubbub.core.ports import Piece
from hubbub.engines.script import ScriptEngine
from hubbub.hub.access import Caller
from hubbub.hub.conversing import visitor_of
from hubbub.hub.following import follow
from support.inbox import WAIT_S
from support.server import House, fresh
from tests.compat.streams import streaming, told

Own = Callable[..., AbstractAsyncContextManager[House]]
QUICK = {"response_delay": 0.0}


async def ended(house: House, id: str) -> str:
    """How a task ended, once it has."""
    async with asyncio.timeout(WAIT_S):
        async for frame in follow(house.app.hub, Caller(visitor_of(id)), id):
            if isinstance(frame, frames.RunCompleted | frames.RunFailed | frames.RunCancelled):
                return str(frame.__struct_config__.tag)
    raise AssertionError("it did not end")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_words_come_in_order_as_they_are_printed_and_no_space_is_lost(house: House, method: str) -> None:
    context = "  one  two\tthree\n\nfour / five 6/7 žluťoučký 🐎 \\n \"quoted\" 'and' $HOME `x` "
    async with house.http() as http:
        how: dict[str, Any] = {"params" if method == "GET" else "data": {"context": f"[[delay=0.02]] {context}"}}
        stream = await told(http, method, "/generate", **how)

    kinds = [kind for kind, _ in stream.heard]
    task = stream.heard[0][1]
    assert kinds == ["task", *["token"] * (len(kinds) - 2), "done"]
    assert kinds.count("token") > 5
    assert str(UUID(task["id"])) == task["id"]
    assert task["position"] == 1
    assert stream.heard[-1][1]["id"] == task["id"]
    assert stream.text() == context
    assert all(data["type"] == kind for kind, data in stream.heard)


async def test_a_long_context_comes_back_whole(own_house: Own) -> None:
    chance = random.Random(1)
    context = " ".join("".join(chance.choices("abcdefgh", k=7)) for _ in range(7500))
    async with own_house(**QUICK) as house, house.http() as http:
        stream = await told(http, "POST", "/generate", json={"context": context})
        too_long = await http.post("/generate", json={"context": "x" * 65537})
        in_an_address = await http.get("/generate", params={"context": context})

    assert stream.text() == context
    assert too_long.status_code == 400
    assert in_an_address.status_code == 431


async def test_task_run_and_thread_have_one_id_and_the_task_is_followed_elsewhere(house: House) -> None:
    name = fresh("carol")
    async with house.http(user=name) as http:
        stream = await told(http, "GET", "/generate", params={"context": "[[delay=0]] one two"})
        id = stream.heard[0][1]["id"]
        run = (await http.get(f"/api/runs/{id}")).json()
        log = (await http.get(f"/api/threads/{id}/messages")).json()

    assert (run["id"], run["thread"], run["assistant"], run["state"]) == (id, id, "generate", "completed")
    assert [message["text"] for message in log["messages"]] == ["[[delay=0]] one two", "one two"]


async def test_a_visitor_s_task_is_in_nobody_s_list(house: House) -> None:
    async with house.http() as http:
        stream = await told(http, "GET", "/generate", params={"context": "[[delay=0]] secret"})
        id = stream.heard[0][1]["id"]
        lists = [
            (await http.get("/api/threads", params={"public": True})).text,
            (await http.get("/api/threads", params={"user": "generator", "public": True})).text,
            (await http.get("/api/users")).text,
        ]
        run = await http.get(f"/api/runs/{id}")

    assert not any(word in listed for word in (id, visitor_of(id)) for listed in lists)
    assert run.status_code == 404


async def test_who_writes_the_tasks_is_no_assistant_to_talk_to_and_nobody_s_name(house: House) -> None:
    async with house.http() as http, await house.talk("text", fresh("alice")) as alice:
        listed = (await http.get("/api/assistants")).json()["assistants"]
        users = (await http.get("/api/users")).json()["users"]
        taken = [
            await http.get("/api/threads", params={"user": "generate"}),
            await http.get("/api/threads", params={"user": "GENERATE"}),
            await http.post("/api/auth/register", json={"user": "generate", "password": "correct horse"}),
        ]
        await alice.post("lobby", "@generate count to 3")
        await alice.ask("ping")
        refused = await alice.ask("run.start", thread="lobby", assistant="generate")
        online = (await alice.ask("who"))["online"]

    assert [assistant["name"] for assistant in listed] == ["openai"]
    assert "generate" not in [user["name"] for user in users]
    assert "generate" not in online
    assert [answer.status_code for answer in taken] == [409, 409, 409]
    assert refused["code"] == "not_found"
    assert not [frame for frame in alice.heard if frame["type"].startswith("run.")]


async def test_whom_a_context_mentions_is_not_asked(house: House) -> None:
    async with house.http() as http:
        stream = await told(http, "POST", "/generate", json={"context": "[[delay=0.001]] hello @openai", "user": "ann"})
        thread = await house.app.hub.room(stream.heard[0][1]["id"])
        added = await http.put(f"/api/threads/lobby/members/generate?user={fresh('ann')}")

    brief = house.app.hub._tasks - house.app.hub._standing
    if brief:
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait(brief)
    assert stream.text() == "hello @openai"
    assert "openai" not in thread.members
    assert added.status_code == 404  # where it is, nobody else answers


async def test_leaving_a_task_that_is_written_stops_it_and_frees_the_script(house: House) -> None:
    async with house.http() as http:
        async with streaming(
            http, "GET", "/generate", params={"context": "[[delay=0.02 words=100000]] on and on"}
        ) as one:
            id = (await one.take("task"))["id"]
            await one.take("token")
        state = await ended(house, id)
        next_one = await told(http, "GET", "/generate", params={"context": "[[delay=0]] my turn"})

    assert state == "run.cancelled"
    assert next_one.text() == "my turn"


async def test_leaving_a_task_that_waits_gives_up_its_place(own_house: Own) -> None:
    async with (
        own_house(worker=False) as house,
        house.http() as http,
        streaming(http, "GET", "/generate", params={"context": "first"}) as first,
    ):
        id = (await first.take("task"))["id"]
        async with streaming(http, "GET", "/generate", params={"context": "second"}) as second:
            await second.take("task")
            await first.response.aclose()
            moved = await second.take("task")
        state = await ended(house, id)

    assert second.heard[0][1]["position"] == 2
    assert moved["position"] == 1
    assert state == "run.cancelled"


async def test_four_at_once_are_written_by_one_run_of_the_script(
    own_house: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    answer = ScriptEngine.answer

    def counted(self: ScriptEngine, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        batches.append(len(prompts))
        return answer(self, prompts)

    monkeypatch.setattr(ScriptEngine, "answer", counted)
    async with own_house(wait_batch_ms=1000.0) as house, house.http() as http:
        contexts = [f"[[delay=0.01]] one two three {place}" for place in range(4)]
        streams = await asyncio.gather(
            *(told(http, "GET", "/generate", params={"context": context}) for context in contexts)
        )

    assert [stream.text() for stream in streams] == [f"one two three {place}" for place in range(4)]
    assert batches == [4]


async def test_a_full_queue_says_when_to_try_again_and_keeps_nothing(own_house: Own) -> None:
    async with own_house(worker=False) as house, house.http() as http:
        house.app.hub.bus._max_queue = 1
        async with streaming(http, "GET", "/generate", params={"context": "first"}) as first:
            await first.take("task")
            rooms = set(house.app.hub.rooms)
            answer = await http.get("/generate", params={"context": "second"})
            left = set(house.app.hub.rooms) - rooms

    assert answer.status_code == 429
    assert answer.json()["code"] == "queue_full"
    assert int(answer.headers["retry-after"]) >= 1
    assert not left


async def test_a_script_that_fails_is_an_error_with_its_sentence(house: House) -> None:
    async with house.http() as http:
        stream = await told(http, "GET", "/generate", params={"context": "[[delay=0 exit=3]] one two"})

    kind, data = stream.heard[-1]
    assert kind == "error"
    assert "exit code 3" in data["error"]
    assert stream.text() == "one two"
    assert "done" not in [kind for kind, _ in stream.heard]


async def test_a_token_that_only_reads_queues_nothing_and_no_guests_means_a_token(own_house: Own) -> None:
    async with own_house(guests="off", registration="on") as house, house.http() as http:
        refused = await http.get("/generate", params={"context": "x"})
        body = {"user": fresh("carol"), "password": "correct horse"}
        token = (await http.post("/api/auth/register", json=body)).json()["access_token"]
        http.cookies.clear()
        headers = {"authorization": f"Bearer {token}"}
        made = await http.post("/api/tokens", json={"scopes": ["read"]}, headers=headers)
        reading = {"authorization": f"Bearer {made.json()['token']}"}
        only_reads = await http.get("/generate", params={"context": "x"}, headers=reading)
        stream = await told(http, "GET", "/generate", params={"context": "[[delay=0]] x"}, headers=headers)

    assert refused.status_code == 401
    assert only_reads.status_code == 401
    assert stream.heard[-1][0] == "done"


@pytest.mark.parametrize("params", [{}, {"context": ""}])
async def test_without_a_context_there_is_nothing_to_do(house: House, params: dict[str, str]) -> None:
    async with house.http() as http:
        answers = [await http.get("/generate", params=params), await http.post("/generate", data=params)]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert all("context" in answer.json()["detail"] for answer in answers)


async def test_a_delay_slows_the_mock(own_house: Own) -> None:
    async def seconds(house: House) -> float:
        async with house.http() as http:
            began = asyncio.get_running_loop().time()
            await told(http, "GET", "/generate", params={"context": "a b c d e f g h i j k l m n o p"})
            return asyncio.get_running_loop().time() - began

    async with own_house(response_delay=0.0) as house:
        quick = await seconds(house)
    async with own_house(response_delay=0.3) as house:
        slow = await seconds(house)

    assert slow > quick + 0.5


async def test_a_task_counts_as_one_of_the_script_s(own_house: Own) -> None:
    async with own_house(**QUICK) as house, house.http() as http:
        task = (await told(http, "GET", "/generate", params={"context": "one"})).heard[0][1]
        assert await ended(house, task["id"]) == "run.completed"

        assert house.app.hub.counts.runs["script completed"] == 1
        assert house.app.hub.counts.runs["demo completed"] == 0
