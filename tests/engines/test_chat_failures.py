"""Whatever a model server does wrong ends in a sentence, and what was written before it stays."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import socket
import ssl
import traceback
from typing import Any

import pytest
import structlog
import trustme
from tests.support.chat import KEY, RIGHT, SERVER, answer, asking, heard
from tests.support.model_script import (
    DONE,
    Act,
    end,
    event,
    piece,
    playing,
    says,
    sends,
    silent,
    streams,
)

from hubbub.core.ports import EngineFailure
from hubbub.engines.chat_completions import ChatEngine


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
    (says("429 No", Retry_After="-5"), f"{SERVER} has too much to do for us (HTTP 429). Ask again later."),
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
    (says("200 OK", '{"a": ' + "[" * 100_000), f"{SERVER} answered with something that is no chat completion."),
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
