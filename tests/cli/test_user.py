"""`hubbub user`, on data that nobody serves and beside a server that goes on serving them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.checker import check
from support.command import hubbub
from support.inbox import Over
from support.process import ROOT, Server, running
from support.talkers import FramedClient
from support.witness import LOBBY, Witness, stored_log

PASSWORD = "correct horse battery"
SOON_S = 1.5
"""A second, as promised, and what a busy machine adds."""

User = Callable[..., Awaitable[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def user(home: Path) -> User:
    """`hubbub user …` on that home, which must work: what it prints."""

    async def run(*arguments: str, typed: str = "") -> str:
        code, out, err = await hubbub("user", *arguments, "--home", home, typed=typed)
        assert code == 0, err
        return out

    return run


@pytest.fixture
async def server(home: Path) -> AsyncIterator[Server]:
    async with running(home) as server:
        yield server


async def refused(home: Path, *arguments: str, typed: str = "", **environ: str) -> tuple[int, str]:
    """`hubbub user …`, which must not work: its exit code and the one sentence it says."""
    code, out, err = await hubbub("user", *arguments, "--home", home, typed=typed, environ=environ)
    assert code != 0
    assert out == ""
    assert err.startswith("hubbub: ")
    assert err.count("\n") == 1, err
    return code, err.removeprefix("hubbub: ").strip()


async def soon(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until it is so."""
    async with asyncio.timeout(SOON_S):
        while not await true():  # noqa: ASYNC110 -- another process decides
            await asyncio.sleep(0)


async def sign_in(server: Server, **hello: Any) -> dict[str, Any]:
    """The reply to a hello, and the connection's end."""
    async with await FramedClient.open(server.tcp_port) as client:
        return await client.ask("hello", **hello)


def audit(home: Path) -> list[dict[str, str]]:
    lines = (home / "logs" / "audit.log").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "time"} for line in lines]


def mode(path: Path) -> int | None:
    return path.stat().st_mode & 0o777 if path.exists() else None


def files_with(text: str, directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Before there is a server


async def test_an_account_made_before_the_first_start_signs_in_after_it(home: Path, user: User) -> None:
    said = await user("add", "alice", "--admin", typed=PASSWORD + "\n")

    async with running(home, {"HUBBUB_GUESTS": "off"}) as server:
        reply = await sign_in(server, user="Alice", password=PASSWORD)
        wrong = await sign_in(server, user="alice", password="correct horse")

    assert said == "Added alice, an admin of the server.\n"
    assert [thread["id"] for thread in reply["threads"]] == [LOBBY]
    assert wrong["code"] == "unauthorized"
    assert mode(home) == 0o700


async def test_the_list_says_who_is_what_and_never_a_secret(user: User) -> None:
    await user("add", "zoe", typed=PASSWORD)
    await user("add", "alice", "--admin", typed=PASSWORD)
    await user("add", "lamp", "--device")
    await user("token", "lamp")
    await user("disable", "zoe")

    rows = [line.split() for line in (await user("list")).splitlines()]

    assert rows == [
        ["NAME", "KIND", "ADMIN", "DISABLED", "PASSWORD", "TOKENS"],
        ["alice", "person", "yes", "no", "yes", "0"],
        ["lamp", "device", "no", "no", "no", "1"],
        ["zoe", "person", "no", "yes", "yes", "0"],
    ]


async def test_a_password_comes_from_a_file_too(home: Path, user: User, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nwhat else is in there\n")

    await user("add", "alice", "--password-file", str(file))

    async with running(home) as server:
        assert (await sign_in(server, user="alice", password=PASSWORD))["type"] == "welcome"


async def test_a_person_at_a_terminal_types_the_password_twice_and_does_not_see_it(home: Path) -> None:
    for again, code in (("something else", 2), (PASSWORD, 0)):
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-m", "hubbub", "user", "add", "alice", "--home", str(home)])
        said = await asyncio.to_thread(converse, terminal, [("Password for alice: ", PASSWORD), ("again: ", again)])
        assert exit_code(child) == code, said
        assert PASSWORD not in said
        assert again not in said
        assert ("Added alice." in said) is (code == 0)


def converse(terminal: int, exchange: list[tuple[str, str]]) -> str:
    """Type each answer once its question has come: everything that was on the screen."""
    said = ""
    with contextlib.suppress(OSError):  # the other side has closed
        while True:
            said += os.read(terminal, 4096).decode()
            if exchange and said.endswith(exchange[0][0]):
                os.write(terminal, exchange.pop(0)[1].encode() + b"\n")
    os.close(terminal)
    return said


async def test_a_secret_is_all_that_standard_output_holds_and_is_kept_nowhere(home: Path) -> None:
    code, out, err = await hubbub(
        *("user", "token", "lamp", "--label", "the hall", "--scope", "read", "--expires-days", "3", "--home", home)
    )

    secret = out.strip()
    assert code == 0
    assert re.fullmatch(r"hbt_[\w-]{43}", secret)
    assert "There was no account lamp, so it was added, as a device." in err
    assert re.search(r"allows to read, until \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", err)
    assert files_with(secret, home) == []
    assert [line["event"] for line in audit(home)] == ["account_made", "token_made"]
    assert {line["by"] for line in audit(home)} == {"command line"}


async def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(home: Path, user: User) -> None:
    assert await refused(home, "list") == (2, f"There are no data in {home}.")
    assert mode(home) is None
    await user("add", "alice", typed=PASSWORD)

    assert await refused(home, "add", "Alice", typed=PASSWORD) == (77, "There is an account 'Alice' already.")
    assert (await refused(home, "add", "openai", typed=PASSWORD))[0] == 77
    assert (await refused(home, "add", "visitor", typed=PASSWORD))[0] == 77
    assert (await refused(home, "add", "a1ice", typed=PASSWORD))[1].startswith("'a1ice' looks too much like 'alice'")
    assert (await refused(home, "add", "two words", typed=PASSWORD))[0] == 2
    assert await refused(home, "add", "bob", typed="short\n") == (2, "A password has 8 to 256 characters, not 5.")
    assert await refused(home, "add", "bob") == (2, "There is no password in standard input.")
    assert (await refused(home, "add", "lamp", "--device", "--password-file", "x"))[0] == 2
    assert await refused(home, "disable", "alise") == (66, "There is no account 'alise'. Did you mean 'alice'?")
    assert (await refused(home, "revoke", "nothing"))[0] == 66
    assert (await refused(home, "token", "alice", "--expires-days", "0"))[0] == 2
    assert (await refused(home, "list", HUBBUB_STORE="memory"))[0] == 2
    assert [line["user"] for line in audit(home)] == ["alice"]


async def test_data_of_somebody_else_are_left_alone(home: Path, user: User) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    await user("add", "alice", typed=PASSWORD)
    os.chown(home / "hubbub.db", 12345, -1)

    code, said = await refused(home, "admin", "alice")

    assert code == 2
    assert "belong to 12345; run this as 12345" in said


async def test_nothing_is_changed_that_cannot_be_noted(home: Path, user: User) -> None:
    await user("add", "alice", typed=PASSWORD)
    (home / "logs" / "audit.log").unlink()
    (home / "logs" / "audit.log").mkdir()

    code, said = await refused(home, "admin", "alice")

    assert code == 69
    assert "audit.log cannot be written (Is a directory), so nothing was changed." in said
    with contextlib.closing(sqlite3.connect(home / "hubbub.db")) as db:
        assert db.execute("SELECT name, admin FROM accounts").fetchall() == [("alice", 0)]


# While a server runs on the data


async def test_the_server_lets_in_within_a_second_whom_it_did_not_know(server: Server, user: User) -> None:
    async with await FramedClient.open(server.tcp_port) as carol:
        await carol.hello("carol")
        await user("add", "alice", typed=PASSWORD)
        secret = (await user("token", "lamp")).strip()

        async with await FramedClient.open(server.tcp_port) as alice, await FramedClient.open(server.tcp_port) as lamp:
            await alice.hello("alice", password=PASSWORD)
            await soon(lambda: welcome(lamp, token=secret))
            await soon(lambda: posts(alice, "I am new here"))
            await soon(lambda: posts(lamp, "so am I"))

            await carol.message("I am new here", sender="alice")
            await carol.message("so am I", sender="lamp")
            await lamp.message("I am new here")


async def test_a_new_member_can_be_written_to_before_they_first_come(home: Path, user: User) -> None:
    await user("add", "alice", typed=PASSWORD)
    async with (
        running(home, {"HUBBUB_GUESTS": "off"}) as server,
        await FramedClient.open(server.tcp_port) as alice,
    ):
        await alice.hello("alice", password=PASSWORD)
        assert (await alice.ask("message.send", to="lamp", text="on"))["code"] == "not_found"
        secret = (await user("token", "lamp")).strip()

        async def written() -> bool:
            return bool((await alice.ask("message.send", to="lamp", text="on", key="on"))["type"] == "ack")

        await soon(written)
        async with await FramedClient.open(server.tcp_port) as lamp:
            await lamp.hello(token=secret)
            await lamp.message("on", sender="alice")


async def welcome(client: FramedClient, **hello: Any) -> bool:
    with contextlib.suppress(Over):
        return bool((await client.ask("hello", **hello))["type"] == "welcome")
    return False


async def posts(client: FramedClient, text: str) -> bool:
    reply = await client.ask("message.send", thread=LOBBY, text=text, key=text)
    assert reply["type"] == "ack" or reply["code"] == "not_found", reply
    return bool(reply["type"] == "ack")


@pytest.mark.parametrize("how", ["disable", "sign-out", "password", "revoke"])
async def test_open_connections_end_within_a_second_when_their_right_is_gone(
    server: Server, user: User, how: str
) -> None:
    await user("add", "alice", typed=PASSWORD)
    secret = (await user("token", "alice")).strip()
    token = (await user("tokens", "alice")).splitlines()[1].split()[0]
    async with await FramedClient.open(server.tcp_port) as client, await FramedClient.open(server.tcp_port) as other:
        assert await welcome(client, user="alice", password=PASSWORD)
        await soon(lambda: welcome(other, token=secret))
        ends = {"disable": (client, other), "revoke": (other,)}.get(how, (client,))

        await user(how, token if how == "revoke" else "alice", typed="another password")

        async with asyncio.timeout(SOON_S):
            for one in ends:
                assert (await one.take("bye"))["code"] == "unauthorized"
        for one in {client, other} - set(ends):
            assert (await one.ask("ping"))["type"] == "pong"


async def test_rights_are_given_and_taken_while_the_server_runs(server: Server, home: Path, user: User) -> None:
    await user("add", "alice", typed=PASSWORD)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:

        async def login() -> bool:
            reply = await http.post("/api/auth/login", json={"user": "alice", "password": PASSWORD})
            if reply.status_code == 200:
                http.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
            return bool(reply.status_code == 200)

        async def admin() -> bool:
            return (await http.get("/api/accounts")).status_code == 200

        assert await login()
        assert not await admin()
        assert await user("admin", "alice") == "alice is now an admin of the server.\n"
        await soon(admin)
        await user("admin", "alice", "--off")

        async def no_admin() -> bool:
            return not await admin()

        await soon(no_admin)
        await user("disable", "alice")
        assert not await login()
        await user("enable", "alice")
        await soon(login)

    events = [line["event"] for line in audit(home) if line["by" if "by" in line else "user"] == "command line"]
    assert events == ["account_made", "admin_on", "admin_off", "disabled_on", "disabled_off"]


async def test_a_command_does_not_disturb_a_server_under_load_and_is_not_kept_out_by_it(home: Path, user: User) -> None:
    async with running(home) as server:
        people = [Witness(f"person{i}", server, [kind], seed=i) for i, kind in enumerate(("framed", "text", "binary"))]
        tasks = [asyncio.create_task(person.live()) for person in people]
        for person in people:
            async with asyncio.timeout(10):
                await person.ready.wait()
            for n in range(20_000):
                person.say(f"{person.name} {n}")
        await people[0].until(lambda: len(people[0].testimony.acked.get(LOBBY, {})) >= 100)

        before = sum(len(person.testimony.acked[LOBBY]) for person in people)
        for n in range(4):
            await asyncio.gather(user("add", f"newcomer{n}", typed=PASSWORD), user("token", f"device{n}"), user("list"))
        during = sum(len(person.testimony.acked[LOBBY]) for person in people) - before

        for person in people:
            person._waiting.clear()
            await person.until(lambda person=person: person.settled)  # type: ignore[misc]
        head = max(seq for person in people for seq in person.testimony.acked[LOBBY].values())
        for person in people:
            await person.until(lambda person=person: person.cursor == head)  # type: ignore[misc]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        rows = (await user("list")).splitlines()
        assert await server.stop() == 0

    assert len(rows) == 9
    assert during > 500  # it was a load
    assert [person.errors for person in people] == [[], [], []]
    assert [person.connections for person in people] == [1, 1, 1]
    assert check([person.testimony for person in people], {LOBBY: await stored_log(home / "hubbub.db")}) == []
    assert "error" not in server.said


async def test_a_server_of_another_version_is_left_alone(server: Server, home: Path, user: User) -> None:
    await user("add", "alice", typed=PASSWORD)
    with contextlib.closing(sqlite3.connect(home / "hubbub.db")) as db:
        db.execute("PRAGMA user_version = 99")

    code, said = await refused(home, "admin", "alice")

    assert code == 69
    assert "is of another version (schema 99" in said
    assert (await sign_in(server, user="bob"))["type"] == "welcome"


async def test_no_account_is_put_into_data_that_are_about_to_be_replaced(
    server: Server, home: Path, user: User
) -> None:
    server.signal(19)  # SIGSTOP: it takes nothing in for now
    (home / "hubbub.db.incoming").touch()

    code, said = await refused(home, "add", "alice", typed=PASSWORD)

    assert (code, said) == (69, "A backup is only just being restored; try again in a moment.")
    (home / "hubbub.db.incoming").unlink()
