"""The chat engine with a model server that we did not write: llama.cpp's own, and a tiny model made here."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest
from tests.support.llama import Llama

from hubbub.buses.local import LocalBus
from hubbub.core.nouns import Prompt, RunState, Task, Turn
from hubbub.core.ports import EngineFailure, Piece, Progress, Usage
from hubbub.engines.chat_completions import ChatEngine
from hubbub.hub.worker import Worker

LONG = 8_000
"""Tokens that take this model seconds."""


@pytest.fixture(scope="session")
async def llama(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Llama]:
    server = Llama(tmp_path_factory.mktemp("llama"))
    try:
        yield await server.start()
    finally:
        await server.kill()


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[Llama]:
    server = Llama(tmp_path, key="sk-right")
    try:
        yield await server.start()
    finally:
        await server.kill()


def asking(text: str = "what fell on the roofs?", *, run: str = "r1") -> Prompt:
    turns = (Turn(role="system", name="helper", text="Be kind."), Turn(role="user", name="alice", text=text))
    return Prompt(run=run, assistant="helper", turns=turns)


async def pieces(engine: ChatEngine, prompt: Prompt | None = None) -> list[Piece]:
    return [piece async for _, piece in engine.answer([prompt or asking()])]


async def test_an_answer_comes_word_by_word_with_what_it_cost_and_one_end(llama: Llama) -> None:
    *words, usage, end = await pieces(ChatEngine(llama.base_url, "tiny", max_tokens=40))

    assert all(isinstance(word, str) and word for word in words)
    assert len(words) > 5
    text = "".join(word for word in words if isinstance(word, str))
    assert len(text.split()) == 40
    assert "\ufffd" not in text
    assert isinstance(usage, Usage)
    assert (usage.completion, end) == (40, "")
    assert usage.prompt > 20


async def test_without_a_model_s_name_the_first_one_the_server_lists_is_asked(llama: Llama) -> None:
    engine = ChatEngine(llama.base_url, "", max_tokens=3)

    *_, end = await pieces(engine)

    assert (end, engine.name) == ("", "tiny")


async def test_eight_questions_are_answered_at_once_each_to_its_end(llama: Llama) -> None:
    engine = ChatEngine(llama.base_url, "tiny", max_tokens=200)

    found = await asyncio.gather(*(pieces(engine, asking(f"question {n}")) for n in range(engine.at_once)))

    assert [answer[-1] for answer in found] == [""] * 8
    assert [answer[-2].completion for answer in found if isinstance(answer[-2], Usage)] == [200] * 8


async def test_whoever_stops_listening_frees_the_slot(llama: Llama) -> None:
    engine = ChatEngine(llama.base_url, "tiny", max_tokens=LONG)
    answer = engine.answer([asking()])
    await anext(answer)
    assert await llama.busy() == 1

    await answer.aclose()  # type: ignore[attr-defined]
    began = time.perf_counter()
    await llama.until_busy(0)

    print(f"\nthe slot was free {1000 * (time.perf_counter() - began):.0f} ms after the answer was closed")


async def test_a_worker_that_is_stopped_frees_its_slots(llama: Llama) -> None:
    bus, engine = LocalBus(), ChatEngine(llama.base_url, "tiny", max_tokens=LONG)
    for n in range(2):
        prompt = asking(run=f"r{n}")
        await bus.put(Task(run=f"r{n}", thread="t", assistant="helper", attempt=1, prompt=prompt))
    working = asyncio.create_task(Worker(bus, engine).work())
    await llama.until_busy(2)

    working.cancel()
    await asyncio.wait([working])

    await llama.until_busy(0)


async def test_a_run_that_is_cancelled_frees_its_slot_and_the_other_goes_on(llama: Llama) -> None:
    bus, engine, over = LocalBus(), ChatEngine(llama.base_url, "tiny", max_tokens=2_000), asyncio.Event()
    bus.listen(lambda event: None, lambda run: over.set() if run == "r1" else None)
    for n in range(2):
        await bus.put(Task(run=f"r{n}", thread="t", assistant="helper", attempt=1, prompt=asking(run=f"r{n}")))
    working = asyncio.create_task(Worker(bus, engine).work())
    await llama.until_busy(2)

    bus.cancel("r0")
    async with asyncio.timeout(20):
        await over.wait()

    cancelled, completed = bus.so_far("r0"), bus.so_far("r1")
    assert isinstance(cancelled, Progress)
    assert isinstance(completed, Progress)
    assert cancelled.state is RunState.CANCELLED
    assert (completed.state, len(completed.text.split())) == (RunState.COMPLETED, 2_000)
    working.cancel()
    await asyncio.wait([working])


async def test_a_conversation_beyond_the_context_is_told_as_such(llama: Llama) -> None:
    found = await pieces(ChatEngine(llama.base_url, "tiny", max_tokens=5), asking("rain " * 8_000))

    assert [str(piece) for piece in found] == [
        'The conversation is too long for the model "tiny". Begin a new thread, or ask in fewer words.'
    ]


async def test_a_server_that_is_killed_in_the_middle_leaves_what_was_written_and_a_sentence(mortal: Llama) -> None:
    engine, found = ChatEngine(mortal.base_url, "tiny", "sk-right", max_tokens=LONG), list[Piece]()
    async with aclosing(engine.answer([asking()])) as answer:  # type: ignore[type-var]
        async for _, piece in answer:
            found.append(piece)
            if len(found) == 3:
                await mortal.kill()

    *words, failure = found
    assert len("".join(word for word in words if isinstance(word, str)).split()) >= 3
    assert isinstance(failure, EngineFailure)
    where = mortal.base_url.removeprefix("http://").removesuffix("/v1")
    assert str(failure) == f"The answer was cut off: the model server at {where} broke off. Ask again."


async def test_the_right_key_opens_and_another_is_refused(mortal: Llama) -> None:
    right = await pieces(ChatEngine(mortal.base_url, "tiny", "sk-right", max_tokens=2))
    wrong = await pieces(ChatEngine(mortal.base_url, "tiny", "sk-wrong", max_tokens=2))
    none = await pieces(ChatEngine(mortal.base_url, "tiny", max_tokens=2))

    assert right[-1] == ""
    assert "refuses the key it was given (HTTP 401)" in str(wrong[0])
    assert "asks for a key, and none is set (HTTP 401)" in str(none[0])


async def test_what_the_engine_adds_to_reading_the_server_directly(llama: Llama) -> None:
    """Prints it; the machine decides the figures."""
    tokens, times = 300, 7
    engine = ChatEngine(llama.base_url, "tiny", max_tokens=tokens)
    client = httpx2.AsyncClient(trust_env=False)

    async def through_engine() -> AsyncIterator[bool]:
        async for _, _piece in engine.answer([asking()]):
            yield True

    async def directly() -> AsyncIterator[bool]:
        body = {
            "model": "tiny",
            "stream": True,
            "max_tokens": tokens,
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "what fell?"}],
        }
        url = f"{llama.base_url}/chat/completions"
        async with client.stream("POST", url, content=json.dumps(body)) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    if delta.get("content"):
                        yield True

    for _ in range(2):  # the first time, much is imported
        [_ async for _ in through_engine()]
        [_ async for _ in directly()]
    took: dict[str, list[tuple[float, float, float]]] = {"engine": [], "httpx2": []}
    for _ in range(times):
        for name, read in (("engine", through_engine), ("httpx2", directly)):
            began, busy, first = time.perf_counter(), time.process_time(), 0.0
            async for _piece in read():
                first = first or time.perf_counter() - began
            whole, busy = time.perf_counter() - began, time.process_time() - busy
            took[name].append((1e3 * first, 1e6 * whole / tokens, 1e6 * busy / tokens))
    await client.aclose()
    print()
    for name, found in took.items():
        first, each, busy = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name}: first piece {first:.1f} ms, {each:.0f} µs a token, of which {busy:.0f} µs our processor time")
