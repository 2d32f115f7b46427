"""A server whose assistant is written by a real model server: llama.cpp's own, with a tiny model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from tests.support.llama import Llama

from support.server import House, fresh

Own = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
async def llama(tmp_path: Path) -> AsyncIterator[Llama]:
    server = Llama(tmp_path, key="sk-right")
    try:
        yield await server.start()
    finally:
        await server.kill()


async def test_an_address_and_a_key_are_enough_for_real_answers(llama: Llama, own_house: Own) -> None:
    async with (
        own_house(openai_base_url=llama.base_url, openai_api_key="sk-right") as house,
        await house.talk("framed", fresh("ann")) as alice,
        await house.nc(fresh("bob")) as robert,
    ):
        await alice.send("message.send", thread="lobby", text="@openai what fell on the roofs?")
        delta = await alice.take("run.delta")
        await alice.ask("run.cancel", run=delta["run"])  # it would write until its context is full
        answer = (await alice.take("message", lambda frame: frame["message"]["run"] == delta["run"]))["message"]
        await robert.sees("[openai] ")

    assert delta["offset"] == 0
    assert delta["text"]
    assert answer["text"].startswith(delta["text"])
    assert answer["metadata"]["state"] == "cancelled"


async def test_what_an_answer_has_cost_and_who_wrote_it_is_kept_with_it(llama: Llama, own_house: Own) -> None:
    more = {"openai_base_url": llama.base_url, "openai_api_key": "sk-right", "openai_max_tokens": 12}
    async with own_house(**more) as house, await house.talk("text", fresh("ann")) as alice:
        await alice.write("openai", "what fell on the roofs?")
        end = await alice.take("run.completed")
        answer = (await alice.ask("history", thread=end["thread"]))["messages"][-1]

    assert answer["metadata"]["model"] == "tiny"
    assert answer["metadata"]["usage"]["completion"] == 12
    assert answer["metadata"]["usage"]["prompt"] > 20


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"openai_api_key": "sk-wrong"}, "refuses the key it was given"),
        ({"openai_base_url": "http://127.0.0.1:9/v1"}, "cannot be reached: nothing accepts connections there"),
    ],
    ids=["key", "address"],
)
async def test_what_is_wrong_with_the_model_server_is_said_in_the_thread(
    llama: Llama, own_house: Own, wrong: dict[str, str], sentence: str
) -> None:
    flags = {"openai_base_url": llama.base_url, "openai_api_key": "sk-right"} | wrong
    async with own_house(**flags) as house, await house.talk("text", fresh("ann")) as alice:
        await alice.write("openai", "hello")
        failed = await alice.take("run.failed")

    assert sentence in failed["error"]
