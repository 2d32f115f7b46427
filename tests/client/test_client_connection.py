"""The client against a server whose connections break: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from small_server import Session, SmallServer

from hubbub.client import Client, State, Status, Timing
from hubbub.client.inbox import OVERFULL
from hubbub.core import frames
from hubbub.core.errors import BadRequest, KeyConflict, NameTaken, RateLimited, Unauthorized, Unavailable
from hubbub.core.framing import prefixed
from hubbub.core.nouns import LOBBY
from hubbub.core.wire import encode

FAST = Timing(base_s=0.01, cap_s=0.05, mark_every_s=0.0, goodbye_s=0.5)
LIMIT_S = 10


@pytest.fixture
async def server() -> AsyncIterator[SmallServer]:
    async with SmallServer() as server:
        yield server


def alice(server: SmallServer, **more: Any) -> Client:
    return Client(server.address, **({"user": "alice", "timing": FAST} | more))


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is so: what another task does at its own pace has no event to wait for."""
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def hear(client: Client, count: int) -> list[frames.MessageFrame]:
    """The next `count` messages."""
    heard: list[frames.MessageFrame] = []
    async with asyncio.timeout(LIMIT_S):
        while len(heard) < count:
            frame = await client.next()
            if isinstance(frame, frames.MessageFrame):
                heard.append(frame)
    return heard


def no_more(client: Client) -> bool:
    return not client._life.inbox._events


def once(do: Callable[[Session, Any], None], kind: type[frames.Request]) -> Callable[[Session, Any], bool]:
    """Deal with the first request of this kind in another way."""
    done: list[bool] = []

    def before(session: Session, request: frames.Request) -> bool:
        if done or not isinstance(request, kind):
            return False
        done.append(True)
        do(session, request)
        return True

    return before


# The first connection


async def test_a_first_connection_that_fails_says_what_to_do() -> None:
    async with SmallServer() as server:
        address = server.address

    with pytest.raises(Unavailable, match=r"nothing listens on tcp://127.0.0.1:\d+. Is the server running"):
        await Client(address, user="alice", timing=FAST).__aenter__()


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    async with SmallServer() as server:
        server.before = lambda session, request: True

        with pytest.raises(Unavailable, match="did not answer within"):
            await alice(server, timing=Timing(connect_s=0.05)).__aenter__()


@pytest.mark.parametrize(
    ("code", "problem"), [("name_taken", NameTaken), ("unauthorized", Unauthorized), ("bad_request", BadRequest)]
)
async def test_a_hello_that_is_refused_raises_the_refusal(
    server: SmallServer, code: str, problem: type[Exception]
) -> None:
    server.before = lambda session, request: session.refuse(request, code, "because") or True

    with pytest.raises(problem, match="because"):
        await alice(server).__aenter__()


async def test_a_prompt_for_people_makes_it_come_again_and_speak_sooner() -> None:
    async with SmallServer() as server:
        server.before = once(lambda session, request: session.writer.write(b"Enter your username: "), frames.Hello)

        async with alice(server) as client:
            assert client.user == "alice"


async def test_nobody_asks_a_client_that_was_not_entered(server: SmallServer) -> None:
    with pytest.raises(Unavailable, match="async with"):
        await alice(server).send("hello", to="bob")


# Asking


async def test_each_reply_finds_who_asked(server: SmallServer) -> None:
    server.private("alice", "bob")
    async with alice(server) as client:
        who, threads, ack = await asyncio.gather(
            client.request(frames.WhoGet()),
            client.request(frames.ThreadList()),
            client.send("hello", to="bob"),
        )

        assert who.online == ["alice"]
        assert {thread.id for thread in threads.threads} == {LOBBY, "alice-bob"}
        assert (ack.thread, ack.seq, ack.offline) == ("alice-bob", 1, ["bob"])


async def test_a_refusal_is_raised_as_its_problem(server: SmallServer) -> None:
    server.before = once(lambda session, request: session.refuse(request, "not_found", "no such run"), frames.RunCancel)
    async with alice(server) as client:
        with pytest.raises(Exception, match="no such run") as refused:
            await client.request(frames.RunCancel(run="x"))

        assert refused.value.code == "not_found"  # type: ignore[attr-defined]


async def test_a_request_that_is_never_answered_ends_in_time(server: SmallServer) -> None:
    server.before = once(lambda session, request: None, frames.WhoGet)
    async with alice(server) as client:
        with pytest.raises(Unavailable, match="No answer to who came within"):
            await client.request(frames.WhoGet(), timeout_s=0.02)


async def test_no_more_requests_travel_at_once_than_agreed(server: SmallServer) -> None:
    held: list[tuple[Session, frames.Request]] = []

    def hold(session: Session, request: frames.Request) -> bool:
        if isinstance(request, frames.WhoGet):
            held.append((session, request))
            return True
        return False

    server.before = hold
    async with alice(server, in_flight=3) as client, asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(client.request(frames.WhoGet()))
        for _ in range(10):
            await until(lambda: bool(held))
            await asyncio.sleep(0)
            assert len(held) <= 3
            session, request = held.pop(0)
            server.do(session, request)


async def test_what_is_asked_again_and_what_is_not_when_the_connection_goes(server: SmallServer) -> None:
    cut = lambda session, request: session.close()  # noqa: E731
    async with alice(server) as client:
        server.before = once(cut, frames.WhoGet)
        assert (await client.request(frames.WhoGet())).online == ["alice"]

        server.before = once(cut, frames.ThreadCreate)
        with pytest.raises(Unavailable, match="unknown"):
            await client.request(frames.ThreadCreate(title="x"))


# Sending


async def test_a_send_whose_ack_was_lost_is_said_again_with_its_key(server: SmallServer) -> None:
    def store_and_cut(session: Session, request: frames.Request) -> None:
        session.cut_after = 0  # nothing reaches the client any more
        server.do(session, request)

    async with alice(server) as client:
        server.before = once(store_and_cut, frames.MessageSend)

        ack = await client.send("hello", to="bob")

        assert ack.seq == 1
        assert server.texts("alice-bob") == ["hello"]
        sends = [r for r in server.requests if isinstance(r, frames.MessageSend)]
        assert len(sends) == 2
        assert sends[0].key == sends[1].key


async def test_many_sends_over_many_cuts_are_stored_once_and_in_order(server: SmallServer) -> None:
    rand = random.Random(7)

    def cut_now_and_then(session: Session, request: frames.Request) -> bool:
        if isinstance(request, frames.MessageSend) and rand.random() < 0.05:
            session.cut_after = 0
            if rand.random() < 0.5:
                server.do(session, request)  # stored, and nobody is told
            session.close()
            return True
        return False

    server.before = cut_now_and_then
    async with alice(server, threads=[], queue=10_000) as client:
        async with asyncio.timeout(30):
            acks = await asyncio.gather(*(client.send(str(n), to="bob") for n in range(300)))

    assert server.texts("alice-bob") == [str(n) for n in range(300)]
    assert [ack.seq for ack in acks] == list(range(1, 301))
    assert len(server.hellos) > 5


@pytest.mark.parametrize("code", ["unavailable", "rate_limited", "shutdown"])
async def test_a_send_refused_for_now_is_said_again_with_its_key(server: SmallServer, code: str) -> None:
    server.before = once(lambda session, request: session.refuse(request, code, retry_after=0.01), frames.MessageSend)
    async with alice(server, in_flight=1) as client:
        await asyncio.gather(*(client.send(text, to="bob") for text in "abc"))

    sends = [r for r in server.requests if isinstance(r, frames.MessageSend)]
    assert server.texts("alice-bob") == ["a", "b", "c"]
    assert sends[0].key == sends[1].key


async def test_a_request_refused_for_now_is_raised_with_when_to_come_back(server: SmallServer) -> None:
    server.before = once(
        lambda session, request: session.refuse(request, "rate_limited", retry_after=2.5), frames.WhoGet
    )
    async with alice(server) as client:
        with pytest.raises(RateLimited) as refused:
            await client.request(frames.WhoGet())

    assert refused.value.retry_after == 2.5


async def test_a_send_refused_for_good_is_raised_and_not_said_again(server: SmallServer) -> None:
    async with alice(server) as client:
        await client.send("one", to="bob", key="k")
        with pytest.raises(KeyConflict):
            await client.send("two", to="bob", key="k")
        assert server.texts("alice-bob") == ["one"]


async def test_a_send_nobody_waits_for_any_more_is_not_said_after_the_reconnect(server: SmallServer) -> None:
    async with alice(server) as client:
        await server.stop()
        with pytest.raises(Unavailable):
            await client.send("late", to="bob", timeout_s=0.02)
        await server.start()

        await client.send("now", to="bob")

        assert server.texts("alice-bob") == ["now"]


# Hearing


async def test_what_was_said_while_away_comes_first_and_nothing_twice(server: SmallServer) -> None:
    server.post("bob", "before", to="alice")
    async with alice(server) as client:
        (first,) = await hear(client, 1)
        server.post("bob", "while there", to="alice")
        (second,) = await hear(client, 1)

        server.cut()
        server.post("bob", "while away", to="alice")
        (third,) = await hear(client, 1)

        assert [m.message.text for m in (first, second, third)] == ["before", "while there", "while away"]
        assert first.stored is True
        resume = server.hellos[-1].resume
        assert resume is not None
        assert (resume.epoch, resume.threads["alice-bob"]) == ("one", 2)
        assert server.hellos[-1].token == "token-alice"
        assert no_more(client)


async def test_events_said_twice_are_heard_once(server: SmallServer) -> None:
    server.times = 2
    async with alice(server) as client:
        for n in range(20):
            server.post("bob", str(n), to="alice")
        for piece in (0, 5):
            server.shout(
                frames.RunDelta(run="r", thread=LOBBY, assistant="openai", attempt=1, offset=piece, text="12345")
            )
        server.post("bob", "end", to="alice")

        heard, answer = [], ""
        while "end" not in heard:
            frame = await client.next()
            if isinstance(frame, frames.MessageFrame):
                heard.append(frame.message.text)
            elif isinstance(frame, frames.RunDelta):
                answer += frame.text

        assert heard == [*map(str, range(20)), "end"]
        assert answer == "1234512345"
        assert no_more(client)


async def test_a_cut_at_every_byte_loses_and_doubles_nothing(server: SmallServer) -> None:
    """The connection breaks after 1, 8, 15 … bytes of what follows the hello, often inside a frame."""
    answer = "añ🎈 " * 10
    room = iter(range(1, 2500, 7))

    def break_later(session: Session, request: frames.Request) -> None:
        if isinstance(request, frames.Hello):
            session.cut_after = next(room, None)
            resume = request.resume
            attempt, have = resume.runs.get("r", (1, 0)) if resume else (1, 0)
            for at in range(have - have % 3, len(answer), 3):
                session.say(
                    frames.RunDelta(
                        run="r",
                        thread=LOBBY,
                        assistant="openai",
                        attempt=attempt,
                        offset=at,
                        text=answer[at : at + 3],
                    )
                )

    for n in range(20):
        server.post("bob", str(n), to="alice")
    server.after = break_later
    heard, written = [], ""
    async with alice(server) as client, asyncio.timeout(30):
        while len(heard) < 20 or len(written) < len(answer):
            frame = await client.next()
            if isinstance(frame, frames.MessageFrame):
                heard.append(frame.seq)
            elif isinstance(frame, frames.RunDelta):
                assert frame.offset == len(written)
                written += frame.text
        server.post("bob", "end", to="alice")
        assert (await hear(client, 1))[0].seq == 21

    assert heard == list(range(1, 21))
    assert written == answer
    assert len(server.hellos) > 10


async def test_the_answer_to_check_comes_in_order_even_what_was_heard_before(server: SmallServer) -> None:
    server.post("bob", "hello", to="alice")
    async with alice(server) as client:
        await hear(client, 1)

        checked = await client.request(frames.Check())

        assert checked.count == 1
        again, end = await client.next(), await client.next()
        assert isinstance(again, frames.MessageFrame)
        assert again.id == end.id == checked.id  # type: ignore[attr-defined]
        assert isinstance(end, frames.Checked)


async def test_a_marked_message_is_not_unheard_next_time(server: SmallServer) -> None:
    server.post("bob", "one", to="alice")
    server.post("bob", "two", to="alice")
    async with alice(server) as client:
        for frame in await hear(client, 2):
            client.mark(frame.thread, frame.seq)

    assert server.seen["alice-bob", "alice"] == 2
    async with alice(server) as client:
        server.post("bob", "three", to="alice")
        assert (await hear(client, 1))[0].message.text == "three"


async def test_a_full_queue_stops_the_reading_and_loses_nothing(server: SmallServer) -> None:
    text = "x" * 10_000
    async with alice(server, queue=10) as client:
        for n in range(3000):
            server.post("bob", f"{n} {text}", to="alice")
        session = next(iter(server.sessions))
        await until(lambda: session.writer.transport.get_write_buffer_size() > 0 and client._life.inbox.full)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(client._life.inbox._events) == 10

        heard = await hear(client, 3000)

        assert [frame.seq for frame in heard] == list(range(1, 3001))


async def test_a_reply_behind_a_full_queue_is_still_found(server: SmallServer) -> None:
    async with alice(server, queue=10) as client:
        for n in range(100):
            server.post("bob", str(n), to="alice")

        async with asyncio.timeout(LIMIT_S):
            await client.send("hello", to="bob")

        assert [f.seq for f in await hear(client, 101)] == list(range(1, 102))


async def test_who_waits_for_a_reply_and_never_takes_events_is_told(server: SmallServer) -> None:
    async with alice(server, queue=2) as client:
        server.before = once(
            lambda session, request: [server.post("bob", str(n), to="alice") for n in range(3 * OVERFULL)],
            frames.WhoGet,
        )
        with pytest.raises(Unavailable, match="Nobody takes the events"):
            await client.request(frames.WhoGet())


# Staying


async def test_it_says_when_the_connection_goes_and_when_it_is_back(server: SmallServer) -> None:
    states: list[Status] = []
    async with alice(server, on_state=states.append) as client:
        server.cut()
        await until(lambda: len(server.hellos) == 2)
        await client.request(frames.WhoGet())

    assert [s.state for s in states] == [State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.CLOSED]
    assert 0 <= states[1].in_s <= 0.01


async def test_it_comes_back_when_the_bye_says(server: SmallServer) -> None:
    states: list[Status] = []
    async with alice(server, on_state=states.append) as client:
        for session in list(server.sessions):
            session.say(frames.Bye(code="shutdown", reason="restarting", resume=True, retry_after=0.05))
        await until(lambda: len(server.hellos) == 2)
        await client.request(frames.WhoGet())

    assert 0.05 <= states[1].in_s <= 0.06
    assert states[1].reason == "restarting"


async def test_a_bye_that_cannot_be_resumed_is_followed_by_a_fresh_hello(server: SmallServer) -> None:
    async with alice(server):
        for session in list(server.sessions):
            session.say(frames.Bye(code="internal", reason="x", resume=False, retry_after=0))
        await until(lambda: len(server.hellos) == 2)

        assert server.hellos[1].resume is None


async def test_it_survives_the_server_being_away_for_a_while(server: SmallServer) -> None:
    async with alice(server) as client:
        await server.stop()
        sending = asyncio.create_task(client.send("typed meanwhile", to="bob"))
        await asyncio.sleep(0.1)  # several attempts fail
        await server.start()

        assert (await sending).seq == 1


async def test_it_gives_up_when_the_name_is_lost_and_tells_everyone_who_waits(server: SmallServer) -> None:
    async with alice(server) as client:
        server.before = lambda session, request: session.refuse(request, "name_taken", "Somebody is alice.") or True
        sending = asyncio.create_task(client.send("hello", to="bob"))
        await asyncio.sleep(0)
        server.cut()

        with pytest.raises(NameTaken, match="Somebody is alice"):
            await asyncio.wait_for(sending, LIMIT_S)
        with pytest.raises(NameTaken):
            await client.next()
        with pytest.raises(NameTaken):
            await client.request(frames.WhoGet())
        assert client.closed


async def test_a_guest_whose_token_ran_out_comes_back_by_name(server: SmallServer) -> None:
    def no_tokens(session: Session, request: frames.Request) -> bool:
        if isinstance(request, frames.Hello) and request.token:
            session.refuse(request, "unauthorized")
            return True
        return False

    server.before = no_tokens
    async with alice(server) as client:
        server.cut()
        await until(lambda: len(server.hellos) == 2)
        assert server.hellos[1].user == "alice"
        assert (await client.request(frames.WhoGet())).online == ["alice"]


async def test_a_silent_server_is_left_and_found_again(server: SmallServer) -> None:
    server.before = once(lambda session, request: None, frames.Ping)
    timing = Timing(base_s=0.01, ping_every_s=0.02, pong_within_s=0.05)
    states: list[Status] = []
    async with alice(server, timing=timing, on_state=states.append):
        await until(lambda: len(server.hellos) == 2)

    assert "has not answered for 0.05 s" in states[1].reason


async def test_an_ack_that_went_missing_is_noticed_by_the_next_pong(server: SmallServer) -> None:
    server.before = once(lambda session, request: None, frames.MessageSend)
    async with alice(server, timing=Timing(base_s=0.01, ping_every_s=0.02)) as client:
        async with asyncio.timeout(LIMIT_S):
            ack = await client.send("hello", to="bob")

    assert ack.seq == 1
    assert len(server.hellos) == 2


async def test_a_reader_that_is_paused_is_not_taken_for_a_silent_server(server: SmallServer) -> None:
    timing = Timing(base_s=0.01, ping_every_s=0.01, pong_within_s=0.02)
    async with alice(server, queue=5, timing=timing) as client:
        for n in range(50):
            server.post("bob", str(n), to="alice")
        await asyncio.sleep(0.15)

        assert len(await hear(client, 50)) == 50
        assert len(server.hellos) == 1


async def test_a_pong_behind_events_nobody_has_taken_yet_is_no_silence(server: SmallServer) -> None:
    def events_first(session: Session, request: frames.Request) -> None:
        for n in range(50):
            server.post("bob", str(n), to="alice")
        server.do(session, request)

    server.before = once(events_first, frames.Ping)
    timing = Timing(base_s=0.01, ping_every_s=0.01, pong_within_s=0.02)
    async with alice(server, queue=5, timing=timing) as client:
        await until(lambda: client._life.inbox.full)
        await asyncio.sleep(0.15)

        assert len(await hear(client, 50)) == 50
        assert len(server.hellos) == 1


async def test_a_frame_that_breaks_the_framing_costs_the_connection_and_nothing_else(server: SmallServer) -> None:
    async with alice(server) as client:
        for session in list(server.sessions):
            session.writer.write(b"\x00\x00\x00\x02{]")
        server.post("bob", "hello", to="alice")

        assert (await hear(client, 1))[0].message.text == "hello"
        assert len(server.hellos) == 2


async def test_leaving_says_bye_and_leaves_no_task_behind(server: SmallServer) -> None:
    before = asyncio.all_tasks()
    async with alice(server) as client:
        server.cut()

    assert await anext(client, None) is None
    await until(lambda: asyncio.all_tasks() - before <= _serving())

    async with alice(server):
        pass
    await until(lambda: isinstance(server.requests[-1], frames.ByeSend))


def _serving() -> set[asyncio.Task[Any]]:
    return {t for t in asyncio.all_tasks() if "_serve" in repr(t.get_coro())}


# WebSocket


async def test_it_speaks_the_same_over_websocket(server: SmallServer) -> None:
    """A bridge: binary messages on one side, the TCP of the small server on the other, several frames a message."""
    from websockets.asyncio.server import ServerConnection, serve

    async def bridge(socket: ServerConnection) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def down() -> None:
            held = b""
            while data := await reader.read(65536):
                held += data
                whole = 0
                while len(held) >= whole + 4 and len(held) >= whole + 4 + int.from_bytes(
                    held[whole : whole + 4], "big"
                ):
                    whole += 4 + int.from_bytes(held[whole : whole + 4], "big")
                if whole:
                    await socket.send(held[:whole])
                    held = held[whole:]
            await socket.close()

        task = asyncio.create_task(down())
        async for data in socket:
            assert isinstance(data, bytes)
            writer.write(data)
        writer.close()
        task.cancel()

    async with serve(bridge, "127.0.0.1", 0, compression=None) as door:
        port = next(iter(door.sockets)).getsockname()[1]
        server.post("bob", "before", to="alice")
        async with Client(f"ws://127.0.0.1:{port}/ws", user="alice", timing=FAST) as client:
            assert (await client.send("hello", to="bob")).seq == 2
            server.cut()
            assert (await client.send("again", to="bob")).seq == 3
            assert [f.message.text for f in await hear(client, 3)] == ["before", "hello", "again"]


async def test_a_web_server_that_is_no_hubbub_is_named_as_such() -> None:
    from websockets.asyncio.server import serve

    async with serve(lambda socket: None, "127.0.0.1", 0, process_request=lambda c, r: c.respond(404, "no")) as door:  # type: ignore[arg-type]
        port = next(iter(door.sockets)).getsockname()[1]
        with pytest.raises(Unavailable, match="answered HTTP 404 instead of a WebSocket"):
            await Client(f"ws://127.0.0.1:{port}", user="alice", timing=FAST).__aenter__()


def test_frames_of_the_small_server_are_the_contracts() -> None:
    assert prefixed(encode(frames.Pong())) == b'\x00\x00\x00\x0f{"type":"pong"}'
