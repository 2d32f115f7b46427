"""A person with nc or telnet whose name has to be proved."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import structlog

from hubbub.core import frames, lines
from hubbub.core.errors import NameTaken
from support.inbox import WAIT_S
from support.lines import PROMPT, LineClient
from support.process import missing
from support.server import House, fresh

PASSWORD = "correct horse battery"
WRONG = "The name or the password is wrong."
SHOWS = " (it will show as you type): "

Own = Callable[..., AbstractAsyncContextManager[House]]


async def registered(house: House) -> str:
    """Somebody whose name has a password."""
    return (await house.app.hub.gate.register(fresh("alice"), PASSWORD)).name


async def test_a_registered_name_is_asked_for_its_password_and_told_that_it_shows(house: House) -> None:
    alice = await registered(house)
    async with await house.nc() as person:
        person.type(alice.upper())
        await person.sees(f"Password for {alice.upper()}{SHOWS}")
        person.type(PASSWORD)
        assert await person.sees("Connected! Users online: ") == ""
        await person.line()
        person.type("!history #lobby")
        assert house.app.hub.people.online(alice)


async def test_after_a_wrong_password_it_is_asked_again_and_after_three_it_is_over(house: House) -> None:
    alice = await registered(house)
    async with await house.nc() as person:
        person.type(alice)
        for attempt in range(3):
            assert await person.sees(f"Password for {alice}{SHOWS}") == ("" if attempt else PROMPT)
            person.type(f"not {PASSWORD}")
            if attempt < 2:
                assert await person.line() == WRONG
        assert await person.rest() == f"{WRONG} Connect again to go on trying.\n"


async def test_the_right_password_after_a_wrong_one_lets_its_owner_in_and_is_nobodys_name(house: House) -> None:
    alice, word = await registered(house), fresh("word")  # which could be somebody's name
    async with await house.nc() as person:
        person.type(alice)
        await person.sees(SHOWS)
        person.type(word)
        await person.sees(SHOWS)
        person.type(PASSWORD)
        assert await person.sees("Connected! ") == ""
    async with await house.nc() as person:
        person.send(f"{alice}\n{word}1\n{word}2\n{word}3\n{word}4\n".encode())
        await person.rest()
    assert [known for known in house.app.hub.people.members if word in known] == []


async def test_after_a_wrong_password_an_empty_line_leads_back_to_the_name(house: House) -> None:
    alice, other = await registered(house), fresh("other")
    async with await house.nc() as person:
        person.send(f"{alice}\nnot {PASSWORD}\n\n{other}\n".encode())
        await person.sees("Connected!")
        assert house.app.hub.people.online(other)


async def test_a_person_who_guesses_on_is_told_how_long_to_wait_and_types_nothing_more(house: House) -> None:
    """Were they asked for a name, the password they try next would be one."""
    alice, word = await registered(house), fresh("word")
    for visit in (3, 2):
        async with await house.nc() as person:
            person.type(alice)
            for _ in range(visit):
                person.type(f"not {PASSWORD}")
                await person.sees(WRONG)
    async with await house.nc() as person:
        person.send(f"{alice}\n{PASSWORD}\n{word}\n".encode())
        await person.sees(SHOWS)
        assert await person.rest() == "Too many wrong passwords. Try again in 60 s.\n"
        assert house.app.hub.people.known(word) is None


async def test_who_is_sent_away_at_the_name_is_not_known_by_the_password_behind_it(own_house: Own) -> None:
    async with own_house(strangers_per_minute=1, limit_loopback=True) as house:
        alice, word = await registered(house), fresh("word")
        house.app.hub.addresses.count("127.0.0.1")
        async with await house.nc() as person:
            person.send(f"{alice}\n{word}\n".encode())
            assert PROMPT not in (await person.rest()).removeprefix(PROMPT)


async def test_whoever_was_asked_by_mistake_gives_another_name(house: House) -> None:
    alice, other = await registered(house), fresh("other")
    async with await house.nc() as person:
        person.send(f"{alice}\n\n{other}\n".encode())
        await person.sees("Connected!")
        assert house.app.hub.people.online(other)


async def test_where_guests_are_not_allowed_an_unknown_name_is_asked_like_a_known_one(own_house: Own) -> None:
    async with own_house(guests="off", registration="on") as house:
        alice = await registered(house)
        said = []
        for name in (alice, fresh("nobody"), "a b", "..."):
            async with await house.nc() as person:
                person.send(f"{name}\nnot {PASSWORD}\n".encode())
                await person.sees(WRONG + "\n")
                await person.sees(SHOWS)
                said.append(person.shown.replace(name, "NAME"))

    assert set(said) == {f"{PROMPT}Password for NAME{SHOWS}{WRONG}\nPassword for NAME{SHOWS}"}


async def test_the_time_for_a_name_is_the_time_for_the_password_too(own_house: Own) -> None:
    async with own_house(name_s=0.5) as house:
        alice = await registered(house)
        async with await house.nc() as person:
            person.type(alice)
            assert (await person.rest()).endswith(f"Password for {alice}{SHOWS}\nNo hello came in time.\n")


async def test_lines_sent_at_once_are_the_name_the_password_and_what_is_said(house: House) -> None:
    alice, bob = await registered(house), fresh("bob")
    async with await house.nc() as person, await house.talk("text", bob) as robert:
        said = "".join(f"{bob}: {number}\n" for number in range(100))
        person.send(f"{alice}\n{PASSWORD}\n{said}".encode())
        person.end()
        await person.rest()
        assert [(await robert.take("message"))["message"]["text"] for _ in range(100)] == list(map(str, range(100)))


# Telnet


async def telnet(port: int, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    return reader, writer


async def heard(reader: asyncio.StreamReader, end: bytes) -> bytes:
    async with asyncio.timeout(WAIT_S):
        return await reader.readuntil(end)


@pytest.mark.parametrize("first", [b"%s\r\n", b"\xff\xfd\x03%s\n"], ids=["CR LF", "an IAC"])
@pytest.mark.parametrize("enter", [b"\r\n", b"\r\0"], ids=["line by line", "by character"])
async def test_telnet_is_told_to_stop_echoing_until_the_password_is_given(
    house: House, first: bytes, enter: bytes
) -> None:
    alice = (await registered(house)).encode()
    reader, writer = await telnet(house.tcp_port, first.replace(b"%s", alice))

    asked = await heard(reader, b"Password for %s: " % alice)
    writer.write(b"\xff\xfd\x01" + PASSWORD.encode() + enter)  # IAC DO ECHO, as telnet answers
    greeting = await heard(reader, b"Connected!")
    writer.write(b"\xff\xfe\x01exit" + enter)
    async with asyncio.timeout(WAIT_S):
        rest = await reader.read()

    assert asked == PROMPT.encode() + b"\xff\xfb\x01Password for %s: " % alice
    assert greeting == b"\xff\xfc\x01\nConnected!"
    assert b"\xff" not in rest
    writer.close()


async def test_telnet_is_told_again_when_the_password_was_wrong(house: House) -> None:
    alice = (await registered(house)).encode()
    reader, writer = await telnet(house.tcp_port, alice + b"\r\n")

    await heard(reader, b"Password for %s: " % alice)
    writer.write(b"something else\r\n")

    assert await heard(reader, b": ") == b"\xff\xfc\x01\n%s\n\xff\xfb\x01Password for %s: " % (WRONG.encode(), alice)
    writer.close()


# A name of one's own


async def test_a_guest_registers_and_goes_on_while_others_under_the_name_are_gone(house: House) -> None:
    bob = fresh("bob")
    async with await house.nc(bob) as person, await house.talk("text", fresh("ann")) as ann:
        token = house.app.hub.gate.issue(house.app.hub.people.sessions_of(bob)[0].caller)
        other = await house.talk("framed", token=token)
        person.type("!register")
        await person.sees(f"New password for {bob}{SHOWS}")
        person.type(PASSWORD)
        await person.sees(f"The same again{SHOWS}")
        person.type(PASSWORD)
        assert await person.line() == f"The name {bob} is yours now; from now on it takes the password."
        assert (await other.take("bye"))["code"] == "unauthorized"
        person.type(f"{ann.welcome['user']}: still here")
        assert await ann.message("still here")
        person.type("exit")
        await person.rest()
    async with await house.nc() as person:
        person.send(f"{bob}\n{PASSWORD}\n".encode())
        await person.sees("Connected!")


async def test_what_is_said_while_a_password_is_asked_for_waits(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(bob) as person, await house.talk("text", ann) as alice:
        person.type("!register")
        await person.sees(SHOWS)
        await alice.write(bob, "hello")
        person.type(PASSWORD)
        assert await person.sees(SHOWS) == "The same again"
        person.type(f"{PASSWORD}!")
        assert (await person.line()).endswith(f"[{ann}] hello")
        assert await person.line() == lines.DIFFERENT
        person.type("!register")
        await person.sees(SHOWS)
        person.type("")
        assert await person.line() == lines.UNCHANGED


async def test_a_password_that_is_too_short_is_refused_and_the_guest_stays(house: House) -> None:
    async with await house.nc(fresh("bob")) as person:
        person.send(b"!register\nshort\nshort\n")
        await person.sees("A password has 8 to 256 characters, not 5.\n")
        person.type("nonsense")
        assert await person.line() == lines.INVALID


async def test_nobody_is_asked_for_a_password_that_could_not_be_kept(house: House, own_house: Own) -> None:
    async with await house.nc() as person:
        person.send(f"{await registered(house)}\n{PASSWORD}\n!register\n".encode())
        await person.sees("is registered already.\n")
    async with own_house(registration="off") as closed, await closed.nc(fresh("bob")) as person:
        person.type("!register")
        assert "Registration is closed here" in await person.line()


@pytest.mark.parametrize("kind", ["text", "binary", "framed"])
async def test_a_program_registers_by_a_frame_and_goes_on_with_the_new_token(house: House, kind: str) -> None:
    bob = fresh("bob")
    async with await house.talk(kind, bob) as robert:
        reply = await robert.ask("register", password=PASSWORD)
        assert (reply["type"], reply["user"]) == ("registered", bob)
        assert (await robert.ask("ping"))["type"] == "pong"
        assert (await robert.ask("register", password=PASSWORD))["code"] == "name_taken"
    async with await house.connect(kind) as back:
        assert (await back.ask("hello", token=robert.welcome["token"]))["code"] == "unauthorized"
        assert (await back.ask("hello", token=reply["token"]))["user"] == bob


async def test_a_guest_whose_name_is_registered_by_somebody_else_meanwhile_does_not_stay(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("text", bob) as robert:
        gate = house.app.hub.gate
        await robert.send("register", password=PASSWORD)
        async with asyncio.timeout(WAIT_S):
            while not gate._held:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await gate.add(bob, password_hash="somebody else's")
        assert (await robert.take("bye"))["code"] == "unauthorized"


async def test_what_a_guest_had_goes_with_the_name_to_whoever_registers_it_once_they_are_gone(house: House) -> None:
    bob, gate = fresh("bob"), house.app.hub.gate
    async with await house.talk("text", fresh("ann")) as ann:
        robert = await house.talk("text", bob)
        await ann.write(bob, "between us")
        with pytest.raises(NameTaken):
            await gate.register(bob, PASSWORD)
        robert.cut()
        async with asyncio.timeout(WAIT_S):
            while house.app.hub.people.claimed(bob):  # noqa: ASYNC110
                await asyncio.sleep(0)
        await gate.register(bob, PASSWORD)
        async with await house.nc() as another:
            another.send(f"{bob}\n{PASSWORD}\n!history {ann.welcome['user']}\n".encode())
            await another.sees("between us")


async def test_a_token_with_scopes_is_not_exchanged_for_one_that_has_them_all(house: House) -> None:
    alice = await registered(house)
    _, secret = await house.app.hub.gate.make_token(alice, "a bot", ["read"], by=alice)

    async with await house.talk("text", token=secret) as bot:
        assert bot.welcome["token"] == secret


# Where a password is not


async def test_no_password_is_in_a_log_an_answer_or_on_anybodys_screen(own_house: Own, tmp_path: Path) -> None:
    secret = "canary-7f3a91"
    async with own_house() as house:
        with structlog.testing.capture_logs() as logged:
            async with await house.nc(fresh("ann")) as other, await house.nc(fresh("bob")) as person:
                person.send(f"!register\n{secret}\n{secret}\n".encode())
                await person.sees("is yours now")
                bob = next(iter(house.app.hub.gate.accounts())).name
                async with await house.nc() as again:
                    again.send(f"{bob}\n{secret}x\n{secret}\n".encode())
                    await again.sees("Connected!")
                other.type("!check")
                await other.sees("No more messages.")
                seen = person.shown + again.shown + other.shown
    kept = b"".join(file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file())

    assert secret not in seen
    assert secret not in str(logged)
    assert secret.encode() not in kept
    for frame in (frames.Hello(user="x", password=secret, token=secret), frames.Register(password=secret)):
        assert secret not in f"{frame} {frame!r} {list(frame.__rich_repr__())}"


# The programs themselves


class Program(LineClient):
    """Somebody with the program itself, in a terminal of their own."""

    @classmethod
    async def start(cls, program: str, port: int) -> Program:
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
        mine, theirs = os.openpty()
        process = await asyncio.create_subprocess_exec(
            program, "127.0.0.1", str(port), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(mine, False)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(mine), "rb", 0))
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(mine, "wb", 0))
        self = cls(reader, asyncio.StreamWriter(transport, protocol, None, loop))
        self.process = process
        return self

    process: asyncio.subprocess.Process


@pytest.mark.parametrize(("program", "shows"), [("nc", True), ("telnet", False)])
async def test_the_password_shows_in_nc_as_was_said_and_not_in_telnet(house: House, program: str, shows: bool) -> None:
    alice = await registered(house)
    async with await Program.start(program, house.tcp_port) as person:
        await person.sees(PROMPT)
        person.type(alice)
        await person.sees(f"Password for {alice}{SHOWS if shows else ': '}")
        await echoing(person, shows)
        person.type(PASSWORD)
        await person.sees("Connected!")
        person.type("exit")
        async with asyncio.timeout(WAIT_S):
            await person.process.wait()

        assert (PASSWORD in person.shown) is shows


async def echoing(person: LineClient, shows: bool) -> None:
    """Wait until the terminal shows what is typed, or does not."""
    import termios

    fd = person.writer.transport.get_extra_info("pipe").fileno()
    async with asyncio.timeout(WAIT_S):
        while bool(termios.tcgetattr(fd)[3] & termios.ECHO) is not shows:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
