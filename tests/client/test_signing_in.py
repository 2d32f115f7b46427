"""The terminal client and programs where names have to be proved: passwords, tokens, encryption."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from hubbub.apps import thermometer
from hubbub.apps.chat import NO_PASSWORD_HERE, chat
from hubbub.client import Client, Timing, Trust
from hubbub.core import frames
from hubbub.core.errors import Unauthorized, Unavailable
from support.certificates import certificates
from support.server import House, fresh, serving

PASSWORD = "correct horse battery"
WRONG = "The name or the password is wrong."
FAST = Timing(base_s=0.01, mark_every_s=0.0, goodbye_s=0.5)
LIMIT_S = 10


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with serving(tmp_path_factory.mktemp("home"), store="memory") as house:
        yield house


@pytest.fixture
async def alice(house: House) -> str:
    """Somebody whose name has a password."""
    return (await house.app.hub.gate.register(fresh("alice"), PASSWORD)).name


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Visit:
    """Somebody at a terminal of their own, or a pipe. `screen` is what they see, with what the terminal echoes."""

    def __init__(self, house: House, terminal: bool, **more: Any) -> None:
        self._fd, self._theirs = os.openpty() if terminal else os.pipe()[::-1]
        self._screen = b""
        self.said = io.StringIO()
        if terminal:
            os.set_blocking(self._fd, False)
            self.out = self.err = os.fdopen(os.dup(self._theirs), "w")
        else:
            self.out = self.err = self.said  # type: ignore[assignment]
        where = more.pop("address", f"tcp://127.0.0.1:{house.tcp_port}")
        more = {"timing": FAST, "patience_s": 1.0} | more
        self.task = asyncio.create_task(chat(where, stdin=self._theirs, out=self.out, err=self.err, **more))

    @property
    def screen(self) -> str:
        if self.said.getvalue():
            return self.said.getvalue()
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self._screen += data
        return self._screen.decode().replace("\r", "")

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        os.write(self._fd, f"{text}\n".encode())

    async def sees(self, text: str, times: int = 1) -> None:
        await until(lambda: self.screen.count(text) >= times or self.task.done())
        assert self.screen.count(text) >= times, self.screen

    async def is_asked(self, question: str, times: int = 1) -> None:
        await self.sees(question, times)
        await until(lambda: not self.echoes)

    async def left(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            return await self.task

    async def over(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        for fd in (self._fd, self._theirs):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.asynccontextmanager
async def visit(house: House, terminal: bool = True, **more: Any) -> AsyncIterator[Visit]:
    someone = Visit(house, terminal, **more)
    try:
        yield someone
    finally:
        await someone.over()


# In a terminal


async def test_a_registered_name_is_asked_for_its_password_which_does_not_show(house: House, alice: str) -> None:
    async with visit(house, user=alice) as someone:
        await someone.is_asked(f"Password for {alice}: ")
        someone.type(PASSWORD)
        await someone.sees("Connected!")
        assert someone.echoes
        someone.type("exit")
        assert await someone.left() == 0

        assert PASSWORD not in someone.screen
        assert f"Password for {alice}: \nConnected!" in someone.screen


async def test_three_wrong_passwords_are_enough(house: House, alice: str) -> None:
    async with visit(house, user=None) as someone:
        someone.type(alice)
        for attempt in range(3):
            await someone.is_asked(f"Password for {alice}: ", attempt + 1)
            someone.type(f"not {PASSWORD}")
        assert await someone.left() == 77
        await someone.sees(WRONG, 3)
        assert someone.echoes
        assert PASSWORD not in someone.screen


async def test_who_gives_no_password_is_asked_for_another_name(house: House, alice: str) -> None:
    other = fresh("other")
    async with visit(house, user=None) as someone:
        someone.type(alice)
        await someone.is_asked(f"Password for {alice}: ")
        someone.type("")
        await someone.sees("Enter your username: ", 2)
        someone.type(other)
        await someone.sees("Connected!")
        assert house.app.hub.people.online(other)


async def test_a_terminal_that_is_left_at_the_question_shows_again_what_is_typed(house: House, alice: str) -> None:
    async with visit(house, user=alice) as someone:
        await someone.is_asked(f"Password for {alice}: ")
        someone.task.cancel()
        await asyncio.wait([someone.task])
        assert someone.echoes


async def test_the_connection_comes_back_without_the_password(house: House, alice: str) -> None:
    async with visit(house, user=alice) as someone:
        await someone.is_asked("Password")
        someone.type(PASSWORD)
        await someone.sees("Connected!")
        [session] = house.app.hub.people.sessions_of(alice)
        session.door.transport.abort()  # type: ignore[attr-defined]
        await someone.sees("connected again")
        assert someone.screen.count("Password") == 1


async def test_who_is_signed_out_is_asked_again_and_what_was_typed_meanwhile_is_sent(house: House, alice: str) -> None:
    bob = fresh("bob")
    async with visit(house, user=alice) as someone, await house.talk("text", bob) as robert:
        await someone.is_asked("Password")
        someone.type(PASSWORD)
        await someone.sees("Connected!")
        await house.app.hub.gate.sign_out_everywhere(alice, by="an admin")
        await someone.is_asked(f"Password for {alice}: ", 2)
        assert "You were signed out; sign in again.\n" in someone.screen
        await robert.write(alice, "are you there?")
        someone.type(PASSWORD)
        await someone.sees("connected again")
        await someone.sees("are you there?")
        someone.type(f"{bob}: yes")
        assert await robert.message("yes")


async def test_a_name_becomes_ones_own_before_the_visit_or_in_it(house: House) -> None:
    for name, before in ((fresh("cat"), True), (fresh("dan"), False)):
        async with visit(house, user=name, register=before) as someone:
            if not before:
                await someone.sees("Connected!")
                someone.type("!register")
            await someone.is_asked(f"New password for {name}: ")
            someone.type(PASSWORD)
            await someone.sees("The same again: ")
            someone.type(PASSWORD)
            await someone.sees(f"The name {name} is yours now")
            await someone.sees("Connected!")
            [session] = house.app.hub.people.sessions_of(name)
            session.door.transport.abort()  # type: ignore[attr-defined]
            await someone.sees("connected again")
            assert PASSWORD not in someone.screen
            assert house.app.hub.gate.account(name)


async def test_two_different_passwords_change_nothing(house: House) -> None:
    name = fresh("cat")
    async with visit(house, user=name) as someone:
        await someone.sees("Connected!")
        someone.type("!register")
        await someone.is_asked("New password")
        someone.type(PASSWORD)
        await someone.sees("The same again: ")
        someone.type(f"{PASSWORD}!")
        await someone.sees("Those were two different passwords.")
        assert house.app.hub.gate.account(name) is None


async def test_what_is_heard_while_a_password_is_asked_for_waits(house: House) -> None:
    name = fresh("cat")
    async with visit(house, user=name) as someone, await house.talk("text", fresh("ann")) as ann:
        await someone.sees("Connected!")
        someone.type("!register")
        await someone.is_asked("New password")
        await ann.write(name, "hello")
        [session] = house.app.hub.people.sessions_of(name)
        await until(lambda: not session.door.unsent())
        someone.type("")
        await someone.sees("] hello")
        assert f"New password for {name}: \n" in someone.screen


# In a pipe


async def test_a_pipe_is_told_how_to_sign_in(house: House, alice: str) -> None:
    async with visit(house, terminal=False, user=alice) as someone:
        assert await someone.left() == 77

    assert someone.screen == (f"The name '{alice}' is registered; sign in with its password.\n{NO_PASSWORD_HERE}\n")


async def test_a_pipe_cannot_register(house: House) -> None:
    async with visit(house, terminal=False, user=fresh("cat"), register=True) as someone:
        assert await someone.left() == 64


async def test_a_token_is_enough_until_it_is_revoked(house: House, alice: str) -> None:
    gate = house.app.hub.gate
    token, secret = await gate.make_token(alice, "a script", ["read", "write"], by=alice)
    async with visit(house, terminal=False, token=secret) as someone:
        await someone.sees("Connected!")
        [session] = house.app.hub.people.sessions_of(alice)
        session.door.transport.abort()  # type: ignore[attr-defined]
        await someone.sees("connected again")
        await gate.revoke_token(token.id, by=session.caller)
        assert await someone.left() == 77

    assert "was revoked" in someone.screen
    assert secret not in someone.screen


# As long as it takes


async def test_a_program_outlives_its_token(tmp_path: Path) -> None:
    async with serving(tmp_path, guests="off", jwt_expires_in_hours=3 / 3600) as house:
        gate = house.app.hub.gate
        first = await gate.introduce("thermometer1")
        where = f"tcp://127.0.0.1:{house.tcp_port}"
        async with Client(where, token=first, timing=FAST) as client:
            async with asyncio.timeout(LIMIT_S):
                while valid(house, first):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            [session] = house.app.hub.people.sessions_of("thermometer1")
            session.door.transport.abort()  # type: ignore[attr-defined]
            assert (await client.request(frames.WhoGet())).online


def valid(house: House, token: str) -> bool:
    try:
        house.app.hub.gate.identify(token, None)
    except Unauthorized:
        return False
    return True


async def test_a_device_whose_account_is_disabled_says_so_and_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, guests="off") as house:
        gate = house.app.hub.gate
        token = await gate.introduce("thermometer1")
        running = asyncio.create_task(thermometer.run(f"tcp://127.0.0.1:{house.tcp_port}", token=token))
        await until(lambda: bool(house.app.hub.people.sessions_of("thermometer1")))
        await gate.change("thermometer1", by="an admin", disabled=True)
        with pytest.raises(Unauthorized):
            async with asyncio.timeout(LIMIT_S):
                await running
        with pytest.raises(Unauthorized):
            await gate.introduce("thermometer1")


async def test_a_guest_needs_no_introduction(house: House) -> None:
    assert await house.app.hub.gate.introduce(fresh("device")) == ""


# Encrypted


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_the_client_speaks_encrypted_to_whom_it_trusts(tmp_path: Path, scheme: str) -> None:
    made, other = certificates(tmp_path / "a"), certificates(tmp_path / "b")
    async with serving(tmp_path / "home", made.trusting, **made.flags) as house:
        port = house.tcp_port if scheme == "tls" else house.port
        where = f"{scheme}://localhost:{port}"
        for trust in (Trust(ca=made.ca), Trust(only=made.cert)):
            async with Client(where, user="alice", trust=trust) as client:
                assert (await client.send("hello", to="bob")).seq
        for trust in (Trust(), Trust(ca=other.ca), Trust(only=other.cert)):
            with pytest.raises(Unavailable) as refused:
                async with Client(where, user="alice", trust=trust):
                    pass
            assert "cannot be trusted (" in refused.value.detail
            assert refused.value.detail.endswith("with --ca FILE.")
            assert refused.value.detail.count("\n") == 0


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    made = certificates(tmp_path / "a", "chat.example.com")
    async with serving(tmp_path / "home", made.trusting, **made.flags) as house:
        with pytest.raises(Unavailable, match=r"Hostname mismatch, certificate is not valid for 'localhost'"):
            async with Client(f"tls://localhost:{house.tcp_port}", user="alice", trust=Trust(ca=made.ca)):
                pass
        async with Client(f"tls://localhost:{house.tcp_port}", user="alice", trust=Trust(only=made.cert)) as client:
            assert client.user == "alice"


async def test_a_server_that_does_not_encrypt_is_one_sentence(house: House) -> None:
    with pytest.raises(Unavailable, match="does not speak TLS"):
        async with Client(f"wss://127.0.0.1:{house.port}/ws", user="alice"):
            pass


# The commands


async def command(home: Path, *arguments: str, stdin: bytes = b"", **environ: str) -> tuple[int, str]:
    """Run `hubbub …`: its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}, **environ},
    )
    async with asyncio.timeout(LIMIT_S):
        said, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_programs_sign_in_by_a_file_or_the_environment(house: House, alice: str, tmp_path: Path) -> None:
    _, secret = await house.app.hub.gate.make_token(alice, "", ["read", "write"], by=alice)
    file, bob = tmp_path / "token", fresh("bob")
    file.write_text(secret + "\n")
    chatting = "chat", "--address", f"tcp://127.0.0.1:{house.tcp_port}"
    line = f"{bob}: hello\n".encode()

    assert (await command(tmp_path, *chatting, "--token-file", str(file), stdin=line))[0] == 0
    assert (await command(tmp_path, *chatting, HUBBUB_TOKEN=secret, stdin=line))[0] == 0
    assert (await command(tmp_path, *chatting, "--user", fresh("guest"), HUBBUB_TOKEN=secret, stdin=line))[0] == 0
    async with await house.talk("text", bob) as robert:
        senders = [(await robert.take("message"))["message"]["sender"] for _ in range(3)]
    assert sorted(sender == alice for sender in senders) == [False, True, True]
    file.write_text("two words\n")
    for wrong in (str(file), str(tmp_path / "nowhere")):
        code, said = await command(tmp_path, *chatting, "--token-file", wrong)
        assert (code, said.count("\n")) == (2, 1)
        assert wrong in said
