"""The chat engine with a model server that does what it is told, however wrong: every case ends in a sentence."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import traceback

import pytest
from msgspec.structs import replace
from tests.support.chat import KEY, answer, asking, heard
from tests.support.model_script import (
    DONE,
    bytewise,
    cost,
    end,
    event,
    piece,
    playing,
    says,
    silent,
    streams,
)

from hubbub.core.ports import Engine, EngineFailure, Usage
from hubbub.engines.chat_completions import ChatEngine

# What is asked


async def test_the_question_is_posted_as_the_dialect_wants_it() -> None:
    async with playing(streams(piece("hello"), end(), DONE)) as script:
        await heard(script, [asking("Grüße \ud800")], max_tokens=7)

    asked = script.asked[0]
    assert asked.line == "POST /v1/chat/completions HTTP/1.1"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["host"] == f"127.0.0.1:{script.port}"
    assert asked.body == {
        "model": "gpt-9",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "messages": [{"role": "user", "content": "Grüße ?"}],
    }


async def test_without_a_key_and_a_limit_neither_is_sent() -> None:
    async with playing(streams(piece("hello"), end(), DONE)) as script:
        engine: Engine = ChatEngine(script.base_url + "/", "gpt-9")
        _ = [piece async for piece in engine.answer([asking()])]

    assert "authorization" not in script.asked[0].headers
    assert "max_tokens" not in script.asked[0].body
    assert (engine.name, engine.batch, engine.at_once) == ("gpt-9", 1, 8)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://h/v1", "http://", "http://u:sk-x@h/v1", "http://h/?key=sk-x", "http://h:sk-x/"]
)
def test_an_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be like http://127\.0\.0\.1:11434/v1") as refused:
        ChatEngine(url, "gpt-9")

    assert "sk-x" not in "".join(traceback.format_exception(refused.value))


def test_a_key_with_a_line_break_in_it_is_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match="characters in it that no key has") as refused:
        ChatEngine("http://h/v1", "gpt-9", f"{KEY}\nX: y")

    assert KEY not in str(refused.value)


def test_importing_the_engine_imports_no_http_client() -> None:
    code = "import sys, hubbub.engines.chat_completions; print('httpx2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing(says("500 Proxy")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)

        assert await answer(streams(piece("hello"), end(), DONE)) == ("hello", [""])

    assert proxy.asked == []


# How an answer may look

WORDS = [": begin\n\n", 'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n', "data:\n\n"]
WORDS += [f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{word}"}}}}]}}\n\n: ping\n\n' for word in "aü🙂"]
WORDS += ["data: ping\n\n", 'event: ping\ndata: {"type": "ping"}\n\n', "id: 3\n\n"]
STREAM = "".join(WORDS).encode() + end() + cost(5, 3) + DONE


async def test_pieces_come_as_they_are_written_then_the_cost_then_one_empty_piece() -> None:
    async with playing(streams(STREAM)) as script:
        assert await heard(script) == [(0, "aü🙂"), (0, Usage(5, 3)), (0, "")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
async def test_an_answer_that_comes_byte_by_byte_is_the_same(ending: bytes) -> None:
    assert await answer(bytewise(STREAM.replace(b"\n", ending))) == ("aü🙂", [Usage(5, 3), ""])


async def test_a_piece_is_told_while_the_next_is_not_yet_written() -> None:
    async with playing(streams(piece("hello"), then="wait")) as script:
        answer = ChatEngine(script.base_url, "gpt-9").answer([asking()])
        async with asyncio.timeout(5):
            assert await anext(answer) == (0, "hello")
        await answer.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "tail",
    [
        [end()],
        [DONE],
        [end(), b"data: [DONE]"],
        [end(), cost(5, 3)],
        [piece(" you", finish_reason="stop")],
        [end("length"), DONE],
        [end("tool_calls"), DONE],
    ],
)
async def test_an_answer_is_whole_when_its_model_or_its_server_says_so(tail: list[bytes]) -> None:
    text, others = await answer(streams(piece("hello"), *tail))

    assert text.startswith("hello")
    assert others[-1] == ""


async def test_after_the_end_was_told_nothing_can_spoil_the_answer() -> None:
    assert await answer(streams(piece("hello"), end(), then="cut")) == ("hello", [""])
    assert await answer(streams(piece("hello"), end(), then="wait"), total_s=0.2) == ("hello", [""])


async def test_what_a_model_thinks_is_not_what_it_says() -> None:
    thoughts = [
        {"role": "assistant", "reasoning_content": "hm"},
        {"reasoning": "so"},
        {"content": [{"type": "thinking", "text": "oh"}, {"type": "text", "text": "yes"}]},
        {"refusal": ", but no"},
    ]

    text, _ = await answer(streams(*(event({"choices": [{"delta": delta}]}) for delta in thoughts), end(), DONE))

    assert text == "yes, but no"


async def test_halves_of_an_emoji_that_come_in_two_pieces_become_one() -> None:
    halves = [b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude42b")]

    assert (await answer(streams(*halves, end())))[0] == "a🙂b"
    assert (await answer(streams(halves[1], end())))[0] == "\ufffdb"


async def test_a_plain_answer_is_one_too_although_a_stream_was_asked_for() -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
    whole["usage"] = {"prompt_tokens": 5, "completion_tokens": 1}  # type: ignore[assignment]

    found = await answer(says("200 OK", whole, Content_Type="application/json"))
    in_pieces = await answer(bytewise(b"\r\n " + json.dumps(whole).encode()))

    assert found == in_pieces == ("hello", [Usage(5, 1), ""])


@pytest.mark.parametrize("count", [10**400, -1, True, 1.5, "5", None], ids=lambda count: str(count)[:5])
async def test_a_count_of_tokens_that_cannot_be_is_not_believed(count: object) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": count}}

    assert await answer(streams(piece("hello"), end(), event(usage), DONE)) == ("hello", [""])


async def test_several_questions_in_one_call_are_answered_each_by_itself() -> None:
    async with playing(says("500 Oh"), streams(piece("hello"), end(), DONE)) as script:
        found = await heard(script, [asking(run="r1"), asking(run="r2")])

    assert [index for index, _ in found] == [0, 1, 1]
    assert isinstance(found[0][1], EngineFailure)
    assert [piece for _, piece in found[1:]] == ["hello", ""]


async def test_a_prompt_may_name_another_model_than_the_engine_s() -> None:
    async with playing(streams(piece("hi"), end(), DONE)) as script:
        await heard(script, [asking(), replace(asking(), model="other-1")])

    assert [asked.body["model"] for asked in script.asked] == ["gpt-9", "other-1"]


async def test_the_model_is_looked_for_once_when_nobody_names_one() -> None:
    listed = says("200 OK", {"data": [{"id": "first"}, {"id": "second"}]})
    async with playing(listed, streams(piece("hi"), end(), DONE)) as script:
        engine = ChatEngine(script.base_url, "")
        for _ in range(2):
            assert [piece async for piece in engine.answer([asking()])] == [(0, "hi"), (0, "")]

    assert [asked.line for asked in script.asked] == [
        "GET /v1/models HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1",
    ]
    assert [asked.body.get("model") for asked in script.asked] == [None, "first", "first"]


@pytest.mark.parametrize(
    "listed", [{"data": []}, {}, [], {"data": [{"id": 3}]}, "no JSON", {"data": [{"id": "a\nb"}]}], ids=str
)
async def test_a_server_that_lists_no_model_is_said_to(listed: object) -> None:
    async with playing(says("200 OK", listed)) as script:
        [(index, failure)] = [piece async for piece in ChatEngine(script.base_url, "").answer([asking()])]

    assert index == 0
    assert isinstance(failure, EngineFailure)
    assert "lists no model; say which one with HUBBUB_OPENAI_MODEL" in str(failure)


async def test_a_list_that_is_refused_or_does_not_come_is_said_to() -> None:
    for act, sentence in ((says("401 No"), "asks for a key"), (silent, "did not begin to answer")):
        async with playing(act) as script:
            engine = ChatEngine(script.base_url, "", first_s=0.05)
            [(_, failure)] = [piece async for piece in engine.answer([asking()])]
        assert sentence in str(failure)
