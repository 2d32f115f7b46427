"""How long a model server may take, and that nothing is left behind of an answer."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.chat import SERVER, answer, asking, heard
from tests.support.model_script import (
    DONE,
    Act,
    end,
    event,
    heartbeats,
    piece,
    playing,
    silent,
    streams,
)

from hubbub.engines.chat_completions import ChatEngine

# How long it may take


async def test_a_server_that_never_answers_is_given_up() -> None:
    silence = f"{SERVER} did not begin to answer within 0.1 seconds. It may be busy; ask again later."

    assert await answer(silent, first_s=0.1) == ("", [silence])


@pytest.mark.parametrize("role", [b"", event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})])
async def test_heartbeats_are_not_the_models_beginning(role: bytes) -> None:
    silence = f"{SERVER} did not begin to answer within 0.1 seconds. It may be busy; ask again later."

    assert await answer(heartbeats(role), first_s=0.1, idle_s=0.01) == ("", [silence])


async def test_heartbeats_are_not_the_models_going_on() -> None:
    silence = f"{SERVER} stopped in the middle: nothing came for 0.1 seconds. Ask again."

    assert await answer(heartbeats(piece("hel")), idle_s=0.1) == ("hel", [silence])


async def test_a_model_that_thinks_is_not_silent() -> None:
    async def thinks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10):
            writer.write(event({"choices": [{"delta": {"reasoning": "hm"}}]}))
            await asyncio.sleep(0.05)
        writer.write(piece("yes") + end() + DONE)

    assert await answer(thinks, first_s=0.2, idle_s=0.2) == ("yes", [""])


async def test_an_answer_without_end_is_ended() -> None:
    async def talks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(piece("and "))
            await writer.drain()
            await asyncio.sleep(0.01)

    text, others = await answer(talks, total_s=0.2)

    assert set(text.split()) == {"and"}
    expected = "The answer was stopped because it took longer than 0.2 seconds. Ask for something shorter."
    assert others == [expected]


async def test_time_others_take_with_a_piece_is_not_the_models() -> None:
    async with playing(streams(piece("one"), piece("two"), end(), DONE)) as script:
        found = []
        async for _, one in ChatEngine(script.base_url, "gpt-9", idle_s=0.1).answer([asking()]):
            found.append(one)
            await asyncio.sleep(0.15)

    assert "".join(str(one) for one in found) == "onetwo"


async def test_a_refusal_whose_words_do_not_come_is_one_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubbub.engines.chat_server.REFUSAL_S", 0.1)

    async def hangs(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 100\r\n\r\n{")
        await asyncio.Event().wait()

    assert await answer(hangs) == ("", [f"{SERVER} did not accept the question (HTTP 400)."])


# What is left behind


@pytest.mark.parametrize("act", [silent, streams(piece("hello"), then="wait"), streams(piece("hello"), end(), DONE)])
async def test_the_socket_is_closed_however_an_answer_ends(act: Act) -> None:
    async with playing(act) as script:
        answering = asyncio.create_task(heard(script))
        async with asyncio.timeout(5):
            await script.reached.wait()
            answering.cancel()
            await asyncio.wait([answering])
            await script.left.wait()


async def test_an_answer_nobody_reads_on_closes_its_socket_at_once() -> None:
    async with playing(streams(piece("hello"), then="wait")) as script:
        answer = ChatEngine(script.base_url, "gpt-9").answer([asking()])
        await anext(answer)

        await answer.aclose()  # type: ignore[attr-defined]

        async with asyncio.timeout(1):
            await script.left.wait()
