"""`hubbub load` tells apart what can go wrong with an answer: every kind is seen here, from a server that does it."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
import time

import pytest
import trustme

from hubbub.apps.load import Load, Plan, Report
from hubbub.apps.load.post_chat import PostChat, find_door
from hubbub.apps.load.turn import Kind, Turn
from hubbub.core.errors import BadRequest
from support.chat_stage import PIECES, ChatStage, Play, Scene

LIMIT_S = 10
WHOLE = "".join(PIECES)


async def report_of(url: str, plan: Plan | None = None, token: str | None = None) -> Report:
    door = await find_door(url, token, None)
    load = Load(plan or Plan(requests=1), lambda: PostChat(door), url=door.url, talker="POST /chat")
    async with asyncio.timeout(LIMIT_S):
        await load.run()
    return load.report()


async def played(play: Play, plan: Plan | None = None) -> Report:
    async with ChatStage(play) as stage:
        return await report_of(stage.url, plan)


async def the_failure(play: Play, plan: Plan | None = None) -> tuple[str, str]:
    """The only kind of failure, and what is said about it."""
    report = await played(play, plan)
    assert report.failed == 1
    assert not report.all_well
    (kind,) = report.errors
    return kind, report.examples[kind]


async def well(scene: Scene) -> None:
    scene.well()


async def test_an_answer_that_is_as_it_should_be_is_well() -> None:
    report = await played(well)

    assert (report.requests, report.ok, report.failed, report.pieces, report.errors) == (1, 1, 0, 3, {})
    assert report.all_well
    assert report.whole_s is not None
    assert report.first_piece_s is not None
    assert report.gap_s is not None
    assert report.gap_s.count == 2


async def test_nobody_listening_is_refused() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))

        report = await report_of(f"http://127.0.0.1:{nobody.getsockname()[1]}")

    assert report.errors == {"refused": 1}
    assert report.examples["refused"] == os.strerror(errno.ECONNREFUSED)
    assert report.connections == 0


async def test_a_server_that_says_nothing_is_timed_out() -> None:
    async def play(scene: Scene) -> None:
        await asyncio.Event().wait()

    kind, said = await the_failure(play, Plan(requests=1, timeout_s=0.1))

    assert kind == "timed out"
    assert "0.1 s" in said


async def test_a_stream_that_stands_still_is_timed_out() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces("Hel")
        await asyncio.Event().wait()

    report = await played(play, Plan(requests=1, timeout_s=0.1))

    assert report.errors == {"timed out": 1}
    assert "1 pieces had come" in report.examples["timed out"]
    assert report.pieces == 1
    assert report.whole_s is None


async def test_an_answer_that_is_never_closed_is_timed_out() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces()
        scene.complete()
        scene.completed()

    assert (await the_failure(play, Plan(requests=1, timeout_s=0.1)))[0] == "timed out"


async def test_a_connection_that_ends_before_the_answer_is_lost() -> None:
    async def play(scene: Scene) -> None:
        scene.cut()

    assert (await the_failure(play))[0] == "lost"


async def test_a_connection_that_ends_in_the_middle_is_cut() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces("Hel")
        scene.cut()

    assert (await the_failure(play))[0] == "cut"


async def test_a_body_that_is_said_to_go_on_and_does_not_is_cut() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces()
        scene.complete()
        scene.completed()
        scene.cut()

    assert (await the_failure(play))[0] == "cut"


async def test_a_stream_that_ends_in_good_order_but_early_is_cut() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces()
        scene.end()

    kind, said = await the_failure(play)

    assert kind == "cut"
    assert "'partial'" in said


async def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    async def play(scene: Scene) -> None:
        scene.head(more=b"Content-Type: text/event-stream\r\n")
        scene.chunk = scene.raw  # type: ignore[method-assign]
        scene.event("connected", conversation_id="c1")
        scene.pieces()
        scene.complete()
        scene.completed()
        scene.cut()

    assert (await played(play)).errors == {}


async def test_an_error_event_is_told_with_its_words() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.event("error", "engine_failed", error="The model is gone.")
        scene.end()

    assert await the_failure(play) == ("error event", "The model is gone.")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "Something went wrong on our side."}', "Something went wrong on our side."),
        (b"<html>\r\nno\r\n</html>", "<html> no </html>"),
        (b"", ""),
    ],
)
async def test_a_status_is_a_kind_of_its_own_with_the_words_of_the_refusal(body: bytes, words: str) -> None:
    async def play(scene: Scene) -> None:
        scene.head(500, b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(body))
        scene.raw(body)

    assert await the_failure(play) == ("http 500", words)


async def test_an_answer_that_is_no_event_stream_is_a_bad_stream() -> None:
    async def play(scene: Scene) -> None:
        scene.head(more=b"Content-Type: text/html\r\nContent-Length: 2\r\n")
        scene.raw(b"hi")

    kind, said = await the_failure(play)

    assert kind == "bad stream"
    assert "'text/html'" in said


async def test_bytes_that_are_not_http_are_a_bad_stream() -> None:
    async def play(scene: Scene) -> None:
        scene.raw(b"hello yourself\r\n\r\n")

    kind, said = await the_failure(play)

    assert kind == "bad stream"
    assert "not HTTP" in said


async def test_an_endless_head_is_a_bad_stream() -> None:
    async def play(scene: Scene) -> None:
        scene.raw(b"HTTP/1.1 200 OK\r\n")
        while True:
            scene.raw(b"X-More: " + b"x" * 8000 + b"\r\n")
            await asyncio.sleep(0)

    assert (await the_failure(play, Plan(requests=1, timeout_s=LIMIT_S)))[0] == "bad stream"


async def test_an_endless_answer_is_a_bad_stream() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        while True:
            scene.chunk(b": x".ljust(65535, b"x") + b"\n")
            await scene._writer.drain()

    kind, said = await the_failure(play, Plan(requests=1, timeout_s=LIMIT_S))

    assert kind == "bad stream"
    assert "16 MiB" in said


async def test_an_endless_event_is_a_bad_stream() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.chunk(b"data: ".ljust(1100 << 10, b"x"))
        await asyncio.Event().wait()

    assert await the_failure(play) == ("bad stream", "An event is too long.")


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff", b'{"content": "no type"}', b'{"type": 1}', b'{"type": "partial_response", "content": 7}'],
)
async def test_data_that_are_not_json_of_the_right_shape_are_a_bad_stream(data: bytes) -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.chunk(b"event: message\ndata: %b\n\n" % data)
        scene.end()

    assert (await the_failure(play))[0] == "bad stream"


@pytest.mark.parametrize("events", ["C", "Cm", "mC", "mcm", "mcc", "mcCC", "mcCm", "mcCk", "km", "mk"])
async def test_events_in_a_wrong_order_are_a_bad_stream(events: str) -> None:
    """m: pieces, c: complete, C: completed; k: connected, which has come once."""

    async def play(scene: Scene) -> None:
        def again() -> None:
            scene.event("connected", conversation_id="c1")

        scene.connected()
        for letter in events:
            {"m": scene.pieces, "c": scene.complete, "C": scene.completed, "k": again}[letter]()
        scene.end()

    kind, said = await the_failure(play)

    assert kind == "bad stream"
    assert "came after" in said


@pytest.mark.parametrize("event", ["message", "completed", "connected"])
async def test_events_without_what_they_are_for_are_a_bad_stream(event: str) -> None:
    async def play(scene: Scene) -> None:
        if event == "connected":
            scene.head()
            scene.event("connected")
        else:
            scene.connected()
            scene.pieces()
        if event == "completed":
            scene.complete()
        scene.event(event, "partial_response" if event == "message" else None)
        scene.end()

    assert (await the_failure(play))[0] == "bad stream"


async def test_an_answer_that_was_begun_again_is_what_came_since() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces("Hel")
        scene.event("message", "reset", content="")
        scene.pieces()
        scene.complete()
        scene.completed()
        scene.end()

    assert (await played(play)).errors == {}


async def test_events_of_other_names_are_passed_over() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.chunk(b": still here\n\n")
        scene.event("heartbeat")
        scene.pieces()
        scene.complete()
        scene.completed()
        scene.end()

    assert (await played(play)).errors == {}


async def test_pieces_that_do_not_join_to_the_complete_answer_are_a_mismatch() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces("Hello, ", "hew ", "are you?")
        scene.complete()
        scene.completed()
        scene.end()

    kind, said = await the_failure(play)

    assert kind == "mismatch"
    assert "part at character 8" in said


async def test_a_piece_that_is_missing_is_a_mismatch() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces(*PIECES[:2])
        scene.complete()
        scene.end()

    kind, said = await the_failure(play)

    assert kind == "mismatch"
    assert "part at character 11" in said


async def test_a_stored_message_that_is_not_what_was_said_is_a_mismatch() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces()
        scene.complete()
        scene.completed("Hello, how are you")
        scene.end()

    kind, said = await the_failure(play)

    assert kind == "mismatch"
    assert "'completed'" in said


async def test_another_conversation_at_the_end_is_a_mismatch() -> None:
    async def play(scene: Scene) -> None:
        scene.connected()
        scene.pieces()
        scene.complete()
        scene.completed(conversation="c2")
        scene.end()

    assert (await the_failure(play))[0] == "mismatch"


async def test_a_conversation_goes_on_by_its_name_and_grows_by_two() -> None:
    async def play(scene: Scene) -> None:
        scene.well(total=2 + 2 * (scene.number % 3))

    async with ChatStage(play) as stage:
        report = await report_of(stage.url, Plan(requests=6, turns=3))

        assert report.errors == {}
        assert [scene.asked.get("conversation_id") for scene in stage.scenes] == [None, "c1", "c1"] * 2
        assert stage.connections == 1


async def test_a_conversation_that_does_not_grow_is_a_mismatch() -> None:
    report = await played(well, Plan(requests=2, turns=2))

    assert (report.ok, report.errors) == (1, {"mismatch": 1})
    assert report.examples["mismatch"] == "The conversation is said to have 2 messages; it should have 4."


async def test_a_turn_answered_in_another_conversation_is_a_mismatch() -> None:
    async def play(scene: Scene) -> None:
        scene.connected(f"c{scene.number}")
        scene.pieces()
        scene.complete()
        scene.completed(conversation=f"c{scene.number}", total=2 + 2 * scene.number)
        scene.end()

    assert (await played(play, Plan(requests=2, turns=2))).errors == {"mismatch": 1}


async def test_after_a_failure_another_conversation_is_begun() -> None:
    async def play(scene: Scene) -> None:
        if scene.number == 1:
            scene.cut()
        else:
            scene.well(total=2 if scene.number < 3 else 4)

    async with ChatStage(play) as stage:
        report = await report_of(stage.url, Plan(requests=4, turns=4))

        assert report.errors == {"lost": 1}
        assert [scene.asked.get("conversation_id") for scene in stage.scenes] == [None, "c1", None, "c1"]


async def test_failures_of_every_kind_are_counted_beside_what_went_well() -> None:
    async def play(scene: Scene) -> None:
        if scene.number % 3 == 0:
            scene.well()
        elif scene.number % 3 == 1:
            scene.cut()
        else:
            scene.head(429, b"Content-Length: 0\r\n")

    report = await played(play, Plan(requests=30, concurrency=3))

    assert (report.requests, report.ok, report.failed) == (30, 10, 20)
    assert report.errors == {"lost": 10, "http 429": 10}
    assert sum(second.failed for second in report.seconds) == 20


async def test_a_server_that_makes_up_statuses_does_not_fill_the_memory() -> None:
    async def play(scene: Scene) -> None:
        scene.head(400 + scene.number, b"Content-Length: 0\r\n")

    report = await played(play, Plan(requests=100))

    assert len(report.errors) == 41
    assert report.errors["other"] == 60


async def test_no_connection_left_on_this_machine_is_not_the_servers_fault() -> None:
    async with ChatStage(well) as stage:
        door = await find_door(stage.url, None, None)
        turn = Turn(time.perf_counter(), time.perf_counter())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)  # the next number that is free
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            await PostChat(door).have(turn, "hello")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert turn.failure == (Kind.OWN_LIMIT, os.strerror(errno.EMFILE))


async def test_a_connection_that_rested_is_not_used_again() -> None:
    async with ChatStage(well) as stage:
        talker = PostChat(await find_door(stage.url, None, None))
        for rested_s in (0.0, 0.0, 60.0):
            talker._rested -= rested_s
            talker.begin()
            await talker.have(Turn(0.0, 0.0), "hello")

        assert stage.connections == 2
        talker.hang_up()


async def test_a_server_that_closes_after_each_answer_is_connected_to_again() -> None:
    async def play(scene: Scene) -> None:
        scene.head(more=b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n")
        scene.head = lambda: None  # type: ignore[assignment, misc]
        scene.well()
        scene.cut()

    report = await played(play, Plan(requests=4))

    assert (report.ok, report.connections) == (4, 4)


async def test_the_token_and_the_question_travel_as_they_should() -> None:
    async with ChatStage(well) as stage:
        await report_of(f"{stage.url}/chat", Plan(requests=1, message="¿Qué tal?"), token="abc.def")

        (scene,) = stage.scenes
        assert scene.asked == {"message": "¿Qué tal?"}
        assert scene.headers["authorization"] == "Bearer abc.def"
        assert scene.headers["host"] == f"127.0.0.1:{stage.port}"


async def test_an_encrypted_server_is_believed_by_its_authority_alone() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    found = []
    async with ChatStage(well, tls=context) as stage:
        for trust in (trusting, ssl.create_default_context()):
            door = await find_door(stage.url, None, trust)
            load = Load(Plan(requests=1), lambda door=door: PostChat(door), url=door.url, talker="")  # type: ignore[misc]
            await load.run()
            found.append(load.report().errors)

    assert found == [{}, {"refused": 1}]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://127.0.0.1",
        "127.0.0.1:8000",
        "http://",
        "http://127.0.0.1:99999",
        "http://a:b@127.0.0.1",
        "http://x/?a=b",
        "http://127.0.0.1/é",
        "http://127.0.0.1/a b",
        f"http://{'x' * 300}/",
    ],
)
async def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    with pytest.raises(BadRequest, match="address"):
        await find_door(url, None, None)


async def test_a_host_nobody_knows_is_said_to_be_unknown() -> None:
    with pytest.raises(BadRequest, match=r"Nobody knows the host 'nobody\.invalid'"):
        await find_door("http://nobody.invalid:8000", None, None)


async def test_a_token_cannot_bring_a_header_with_it() -> None:
    with pytest.raises(BadRequest, match="token"):
        await find_door("http://127.0.0.1", "abc\r\nX-Evil: 1", None)
