"""The chat engine with a model server that does what it is told, however wrong: every case ends in a sentence."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import socket
import ssl
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
import trustme
from tests.support.model_script import (
    DONE,
    Act,
    Script,
    bytewise,
    cost,
    end,
    event,
    heartbeats,
    piece,
    playing,
    says,
    sends,
    silent,
    streams,
)

from hubbub.core.nouns import Prompt, Turn
from hubbub.core.ports import Engine, EngineFailure, Piece, Usage
from hubbub.engines.chat_completions import ChatEngine

KEY = "sk-canary-4711"
SERVER = "The model server at HERE"
RIGHT = "Is its address right, to the /v1 at its end?"


def asking(text: str = "hi", *, run: str = "r1") -> Prompt:
    return Prompt(run=run, assistant="helper", turns=(Turn(role="user", name="alice", text=text),))


async def heard(script: Script, prompts: Sequence[Prompt] = (), **options: Any) -> list[tuple[int, Piece]]:
    engine = ChatEngine(script.base_url, "gpt-9", KEY, **options)
    return [piece async for piece in engine.answer(prompts or [asking()])]


async def answer(*acts: Act, **options: Any) -> tuple[str, list[Piece]]:
    """The text of the answer to one question, and what else there was, in the order it came."""
    async with playing(*acts) as script:
        pieces = [piece for _, piece in await heard(script, **options)]
        where = f"127.0.0.1:{script.port}"
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    others = [piece for piece in pieces if not (isinstance(piece, str) and piece)]
    return text, [str(other).replace(where, "HERE") if isinstance(other, EngineFailure) else other for other in others]


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
    "url", ["", "127.0.0.1:8080", "ftp://h/v1", "http://", "http://u:sk-x@h/v1", "http://h/?key=sk-x", "http://h:x/"]
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


async def test_several_questions_in_one_call_are_answered_each_by_itself() -> None:
    async with playing(says("500 Oh"), streams(piece("hello"), end(), DONE)) as script:
        found = await heard(script, [asking(run="r1"), asking(run="r2")])

    assert [index for index, _ in found] == [0, 1, 1]
    assert isinstance(found[0][1], EngineFailure)
    assert [piece for _, piece in found[1:]] == ["hello", ""]


# What can go wrong


def error(**said: object) -> dict[str, object]:
    return {"error": said}


REFUSALS = [
    (
        says("401 No", error(message=f"Incorrect key {KEY}")),
        f"{SERVER} refuses the key it was given (HTTP 401). Whoever",
    ),
    (says("403 No"), f"{SERVER} refuses the key it was given (HTTP 403). Whoever runs Hubbub can correct it."),
    (says("402 Pay"), "The account at HERE has no credit left (HTTP 402). Whoever pays for it can add some."),
    (
        says("429 No", error(message="You exceeded your quota", code="insufficient_quota")),
        "The account at HERE has no credit left (HTTP 429). Whoever pays for it can add some.",
    ),
    (
        says("404 No", error(message="The model `gpt-9` does not exist", type="NotFoundError", code=404)),
        f'{SERVER} knows nothing of the model "gpt-9" (HTTP 404). Whoever runs Hubbub can correct its name.',
    ),
    (
        says("404 No", error(message='model "gpt-9" not found, try pulling it first')),
        f'{SERVER} knows nothing of the model "gpt-9" (HTTP 404).',
    ),
    (says("400 No", error(message="Invalid model name passed in model=gpt-9")), f"{SERVER} knows nothing of the model"),
    (
        says("404 Not Found", {"detail": "Not Found"}),
        f'{SERVER} has no chat completions for the model "gpt-9" at this path (HTTP 404). {RIGHT}',
    ),
    (says("429 No"), f"{SERVER} has too much to do for us (HTTP 429). Ask again later."),
    (says("429 No", Retry_After="20"), f"{SERVER} has too much to do for us (HTTP 429). Ask again in 20 seconds."),
    (
        says("429 No", Retry_After="Sat, 21 Nov 2026 10:05:00 GMT", Date="Sat, 21 Nov 2026 10:00:00 GMT"),
        f"{SERVER} has too much to do for us (HTTP 429). Ask again in 5 minutes.",
    ),
    (says("429 No", Retry_After="1e300"), f"{SERVER} has too much to do for us (HTTP 429). Ask again later."),
    (says("429 No", Retry_After="nan"), f"{SERVER} has too much to do for us (HTTP 429). Ask again later."),
    (
        says("400 No", error(message="This model's maximum context length is 8192 tokens.")),
        'The conversation is too long for the model "gpt-9". Begin a new thread, or ask in fewer words.',
    ),
    (says("400 No", error(message="No.", code="context_length_exceeded")), "The conversation is too long for"),
    (says("413 Too Large"), "The conversation is too long for"),
    (
        says("400 No", error(message=f"stream_options\x1b[1m is\nunknown to {KEY}")),
        f"{SERVER} did not accept the question (HTTP 400): stream_options[1m is unknown to …",
    ),
    (says("422 No", "x" * 70_000), f"{SERVER} did not accept the question (HTTP 422)."),
    (says("500 Oh", error(message="at postgres://u:secret@db")), f"{SERVER} failed (HTTP 500). Ask again later."),
    (says("503 Oh", error(message="Loading model"), Retry_After="90"), f"{SERVER} failed (HTTP 503). Ask again in 90"),
    (says("502 Bad Gateway", "<html>"), f"{SERVER} failed (HTTP 502). Ask again later."),
    (
        says("200 OK", "<!doctype html><p>Open WebUI"),
        f"{SERVER} answered with something that is no chat completion. {RIGHT}",
    ),
    (says("200 OK", "{}"), f"{SERVER} answered with something that is no chat completion."),
    (says("200 OK", "{" + "[" * 100_000), f"{SERVER} answered with something that is no chat completion."),
    (says("200 OK", ""), f"{SERVER} answered with something that is no chat completion."),
    (says("200 OK", error(message="No.", code="model_not_found")), f"{SERVER} knows nothing of the model"),
    (sends(b""), f"{SERVER} closed the connection without an answer. Ask again."),
    (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), f"{SERVER} closed the connection without an answer. Ask again."),
    (streams(then="cut"), f"{SERVER} closed the connection without an answer. Ask again."),
    (streams(b"data: " + b"x" * (1 << 20)), f"{SERVER} answered with something that is no chat completion."),
    (streams(b"{" + b" " * (1 << 20), then="wait"), f"{SERVER} answered with something that is no chat completion."),
    (streams(end(), DONE), 'The model "gpt-9" ended its answer without a word. Ask again, or in other words.'),
    (streams(end("length")), 'The model "gpt-9" had used up the tokens it may write before it said a word.'),
]


@pytest.mark.parametrize(("act", "sentence"), REFUSALS, ids=[sentence[:60] for _, sentence in REFUSALS])
async def test_a_question_that_gets_no_answer_gets_a_sentence(act: Act, sentence: str) -> None:
    text, others = await answer(act)

    assert text == ""
    assert len(others) == 1
    assert str(others[0]).startswith(sentence)
    assert KEY not in str(others[0])


CUTS = [
    (streams(piece("hel"), then="cut"), "The answer was cut off: the model server at HERE broke off. Ask again."),
    (streams(piece("hel")), "The answer was cut off: the model server at HERE broke off. Ask again."),
    (streams(piece("hel"), event(error(message="No."))), f"{SERVER} failed (HTTP 500). Ask again later."),
    (streams(piece("hel"), b"event: error\ndata: No.\n\n"), f"{SERVER} failed (HTTP 500). Ask again later."),
    (streams(piece("hel"), b'error: {"code": 503, "message": "No."}\n\n'), f"{SERVER} failed (HTTP 503)."),
    (streams(piece("hel"), event({"object": "error", "message": "No.", "code": 400})), f"{SERVER} did not accept the"),
    (streams(piece("hel", error={"code": 429})), f"{SERVER} has too much to do for us (HTTP 429)."),
    (streams(piece("hel", finish_reason="error")), f"{SERVER} failed (HTTP 500)."),
    (streams(piece("hel"), event(error(type="rate_limit_error"))), f"{SERVER} has too much to do for us (HTTP 429)."),
    (streams(piece("hel"), b'data: {"choices": [\n\n', piece("lo")), f"{SERVER} answered with something that is no"),
    (
        streams(piece("hel"), end("content_filter"), DONE),
        'The content filter of the model "gpt-9" stopped this answer.',
    ),
]


@pytest.mark.parametrize(("act", "sentence"), CUTS, ids=[sentence[:60] for _, sentence in CUTS])
async def test_what_was_written_before_an_answer_broke_off_stays(act: Act, sentence: str) -> None:
    text, others = await answer(act)

    assert text == "hel"
    assert len(others) == 1
    assert str(others[0]).startswith(sentence)


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        found = [piece async for piece in ChatEngine(f"http://127.0.0.1:{port}/v1", "gpt-9").answer([asking()])]

    assert [str(piece) for _, piece in found] == [
        f"The model server at 127.0.0.1:{port} cannot be reached: nothing accepts connections there; is it running?"
    ]


async def test_a_host_that_nobody_knows_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)  # no network is asked in a test

    found = [piece async for piece in ChatEngine("http://models.invalid/v1", "gpt-9").answer([asking()])]

    assert [str(piece) for _, piece in found] == [
        "The model server at models.invalid:80 cannot be reached: no such host is known; is its address right?"
    ]


async def test_a_certificate_nobody_vouches_for_gets_neither_the_question_nor_the_key() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async with playing(streams(piece("hello"), end()), tls=context) as script:
        [(_, failure)] = await heard(script)

    assert "cannot be reached: its certificate is not trusted (" in str(failure)
    assert script.asked == []


async def test_https_where_plain_http_is_spoken_is_told_as_such() -> None:
    async with playing(silent) as script:
        script.scheme = "https"
        [(_, failure)] = await heard(script, connect_s=0.2)

    assert str(failure).partition("cannot be reached: ")[2] == "it did not answer within 0.2 seconds."


async def test_no_redirect_is_followed() -> None:
    async with playing(streams(piece("hello"), end())) as other:
        text, others = await answer(says("307 Moved", Location=f"{other.base_url}/chat/completions"))

    expected = f"{SERVER} sends elsewhere (HTTP 307), where Hubbub does not follow. Its address has to be corrected."
    assert (text, others) == ("", [expected])
    assert other.asked == []


async def test_nothing_is_asked_twice() -> None:
    async with playing(says("503 Oh", Retry_After="0"), streams(piece("hello"), end())) as script:
        await heard(script)

    assert len(script.asked) == 1


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


async def test_the_key_is_in_no_error_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = io.StringIO()
    with structlog.testing.capture_logs() as events:
        for act, _ in REFUSALS + CUTS:
            async with playing(act) as script:
                engine = ChatEngine(script.base_url, "gpt-9", KEY)
                for _, one in [piece async for piece in engine.answer([asking()])]:
                    print(repr(one), file=told)
                    if isinstance(one, EngineFailure):
                        traceback.TracebackException.from_exception(one, capture_locals=True).print(file=told)
                parts = [engine, *vars(engine).values()]
                parts += [value for part in parts for value in getattr(part, "__dict__", {}).values()]
                print(*map(repr, parts), file=told)

    assert KEY not in told.getvalue()
    assert KEY not in caplog.text
    assert KEY not in str(events)


async def test_nothing_is_left_over_that_python_complains_of() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        for act, _ in CUTS:
            await answer(act)
        await answer(silent, first_s=0.01)
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)

    assert complaints == []
