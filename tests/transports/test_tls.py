"""Both ports, encrypted: what is said over plain connections is said here, and nobody who reads slowly is a burden."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from hubbub.core.errors import BadRequest
from support.certificates import Certificates, certificates
from support.inbox import WAIT_S, Inbox
from support.lines import PROMPT
from support.listeners import SseReader
from support.server import House, fresh, serving
from support.talkers import TALKERS, Talker

COUNT = 2500
SMALL = 8192
FILLING = "x" * 1000
READERS = (*TALKERS, "stream")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, made: Certificates) -> AsyncIterator[House]:
    async with serving(tmp_path_factory.mktemp("home"), made.trusting, store="memory", **made.flags) as house:
        yield house


@pytest.mark.parametrize("kind", TALKERS)
async def test_frames_travel_both_ways(house: House, kind: str) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk(kind, ann) as alice, await house.talk("framed", bob) as robert:
        await alice.write(bob, "hello")
        assert (await robert.message("hello"))["sender"] == ann
        await robert.write(ann, "hello yourself")
        assert await alice.message("hello yourself")


async def test_people_type_lines(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc() as person, await house.talk("text", bob) as robert:
        assert await person.sees(PROMPT) == ""
        person.type(ann)
        await person.sees("Connected!")
        person.type(f"{bob}: hello")
        assert await robert.message("hello")
        await robert.write(ann, "hello yourself")
        await person.sees("hello yourself\n")
        person.type("exit")
        began = asyncio.get_running_loop().time()
        assert await person.rest() == ""
        assert asyncio.get_running_loop().time() - began < 0.5, (
            "the end of the connection has to be told, not waited for"
        )


async def test_rest_and_event_streams(house: House) -> None:
    ann = fresh("ann")
    async with await house.listen(user=fresh("eve")) as stream, house.http(user=ann) as http:
        posted = await http.post("/api/threads/lobby/messages", json={"text": f"hello from {ann}"})
        assert posted.status_code == 201
        assert (await stream.message(f"hello from {ann}"))["sender"] == ann


async def test_an_answer_reaches_everybody_as_it_is_written(house: House) -> None:
    async with (
        await house.listen(user=fresh("eve")) as stream,
        await house.talk("framed", fresh("ann")) as alice,
        await house.talk("text", fresh("bob")) as bob,
        await house.talk("binary", fresh("cat")) as cat,
    ):
        await alice.post("lobby", "@openai count to 200")
        written = [await answer(reader) for reader in (alice, bob, cat, stream)]

    assert len(set(written)) == 1
    assert written[0].endswith(" 199 200")


async def answer(reader: Inbox) -> str:
    written = ""
    while True:
        frame = await reader.take(None, lambda f: f["type"] in ("run.delta", "run.completed"))
        if frame["type"] == "run.completed":
            return written
        assert frame["offset"] == len(written)
        written += frame["text"]


async def reader_of(house: House, kind: str, token: str) -> Talker | SseReader:
    """Somebody whose socket holds little and who does not read yet."""
    if kind == "stream":
        return await house.listen(token=token, receive_buffer=SMALL)
    talker = await house.connect(kind, receive_buffer=SMALL)
    await talker.send("hello", token=token)
    return talker


async def token_of(house: House, name: str) -> str:
    async with await house.talk("text", name) as talker:
        token: str = talker.welcome["token"]
    return token


async def in_order(reader: Inbox, thread: str, count: int) -> None:
    for seq in range(1, count + 1):
        frame = await reader.take("message", thread=thread)
        assert frame["seq"] == seq


async def stopped(house: House, name: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while name not in [session.name for session in house.app.hub.slow]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", READERS)
async def test_who_reads_slowly_hears_everything_once_and_is_no_burden(house: House, kind: str) -> None:
    bob, eve = fresh("bob"), fresh("eve")
    token = await token_of(house, bob)
    async with await house.talk("framed", fresh("ann")) as alice, await house.talk("text", eve) as other:
        thread = await alice.group(bob, eve)
        slow = await reader_of(house, kind, token)
        await slow_is_here(house, bob)
        for number in range(COUNT):
            await alice.send("message.send", thread=thread, text=f"{number} {FILLING}")
        await in_order(other, thread, COUNT)
        await stopped(house, bob)
        [session] = house.app.hub.people.sessions_of(bob)

        assert held(session) < 1 << 20
        await in_order(slow, thread, COUNT)
        await alice.post(thread, "end")
        assert await slow.message("end")
        assert session not in house.app.hub.slow
        slow.cut()


async def slow_is_here(house: House, name: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not house.app.hub.people.sessions_of(name):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def held(session: Any) -> int:
    """Bytes this process keeps for a reader: what is not encrypted yet, and what is."""
    return int(session.door.unsent())


@pytest.mark.parametrize("kind", READERS)
async def test_a_reader_in_step_is_never_taken_for_a_slow_one(house: House, kind: str) -> None:
    bob = fresh("bob")
    token = await token_of(house, bob)
    async with await house.talk("framed", fresh("ann")) as alice:
        thread = await alice.group(bob)
        quick: Talker | SseReader
        if kind == "stream":
            quick = await house.listen(token=token)
        else:
            quick = await house.talk(kind, token=token)
        for number in range(200):
            await alice.post(thread, f"{number}")
            assert (await quick.take("message", thread=thread))["seq"] == number + 1
        await asyncio.sleep(0)
        [session] = house.app.hub.people.sessions_of(bob)

        assert not session.stopped
        assert session.feed is None  # in step
        assert not house.app.hub.slow
        quick.cut()


@pytest.mark.parametrize("kind", READERS)
async def test_who_does_not_read_for_too_long_is_closed(
    tmp_path_factory: pytest.TempPathFactory, made: Certificates, kind: str
) -> None:
    bob = fresh("bob")
    home = tmp_path_factory.mktemp("home")
    async with serving(home, made.trusting, store="memory", slow_s=0.5, **made.flags) as house:
        token = await token_of(house, bob)
        async with await house.talk("framed", fresh("ann")) as alice:
            thread = await alice.group(bob)
            slow = await reader_of(house, kind, token)
            await slow_is_here(house, bob)
            for number in range(COUNT):
                await alice.send("message.send", thread=thread, text=f"{number} {FILLING}")
            async with asyncio.timeout(WAIT_S):
                while house.app.hub.people.sessions_of(bob):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            slow.cut()


async def test_nobody_is_held_to_a_certificate_for_another_name(house: House, made: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", house.tcp_port, ssl=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "127.0.0.1", house.tcp_port, ssl=made.trusting, server_hostname="chat.example.com"
        )


@pytest.mark.parametrize("port", ["port", "tcp_port"])
async def test_who_does_not_encrypt_is_told_nothing_and_closed(house: House, port: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", getattr(house, port))
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(WAIT_S):
        assert b"HTTP" not in await rest(reader)
    writer.close()


async def rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_an_old_version_of_tls_is_refused(house: House, made: Certificates) -> None:
    old = made.trusting
    with warnings.catch_warnings(action="ignore"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", house.tcp_port, ssl=old, server_hostname="localhost")


async def test_a_certificate_that_is_renewed_is_shown_from_then_on(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.tls.LOOK_EVERY_S", 0.01)
    directory = tmp_path_factory.mktemp("certificates")
    first = certificates(directory)
    async with (
        serving(tmp_path_factory.mktemp("home"), first.trusting, **first.flags) as house,
        await house.talk("framed", fresh("ann")) as alice,
    ):
        house.tls = certificates(directory).trusting  # by another authority, in the same files
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    talker = await house.talk("framed", fresh("bob"))
                    break
                except ssl.SSLError:
                    await asyncio.sleep(0.01)
        await alice.write(talker.welcome["user"], "open connections stay")
        assert await talker.message("open connections stay")
        talker.cut()


async def test_a_certificate_whose_key_is_not_there_yet_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.tls.LOOK_EVERY_S", 0.01)
    first, second = (certificates(tmp_path_factory.mktemp("certificates")) for _ in range(2))
    async with serving(tmp_path_factory.mktemp("home"), first.trusting, **first.flags) as house:
        with structlog.testing.capture_logs() as logged:
            first.cert.write_bytes(second.cert.read_bytes())
            async with asyncio.timeout(WAIT_S):
                while not logged:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for kind in TALKERS:
                async with await house.talk(kind, fresh("ann")) as ann:
                    assert ann.welcome
            assert [entry["event"] for entry in logged] == ["certificate_not_renewed"], "it is said once"
            house.tls = second.trusting
            first.key.write_bytes(second.key.read_bytes())
            async with asyncio.timeout(WAIT_S):
                while logged[-1]["event"] != "certificate_renewed":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for kind in TALKERS:
            async with await house.talk(kind, fresh("bob")) as bob:
                assert bob.welcome


@pytest.mark.parametrize("break_it", ["cert", "key", "both"])
async def test_a_server_without_a_usable_certificate_does_not_start(
    tmp_path_factory: pytest.TempPathFactory, break_it: str
) -> None:
    made = certificates(tmp_path_factory.mktemp("certificates"))
    flags: dict[str, Any] = dict(made.flags)
    if break_it == "both":
        flags["tls_key"] = None
    else:
        (made.cert if break_it == "cert" else made.key).write_text("nonsense")
    with pytest.raises(BadRequest) as refused:
        async with serving(tmp_path_factory.mktemp("home"), **flags):
            pass

    assert "cannot be used" in refused.value.detail or "both HUBBUB_TLS_CERT" in refused.value.detail
