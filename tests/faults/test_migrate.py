"""`hubbub migrate` as somebody types it, beside servers as they run, and killed at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubbub.core.nouns import stamp
from hubbub.stores.archive import KINDS, Archive, Move
from hubbub.stores.mongo_archive import MongoArchive
from hubbub.stores.sqlite import SqliteStore
from hubbub.stores.sqlite_archive import SqliteArchive
from support import mongod
from support.command import hubbub
from support.everything import furnish
from support.process import ROOT, Server, running
from support.talkers import FramedClient

NAME = "migrated"
PASSWORD = "correct horse battery"
THERE = ("--from", "sqlite", "--to", "mongodb")
BACK = ("--from", "mongodb", "--to", "sqlite")


@pytest.fixture(scope="module")
def mongo() -> Iterator[mongod.Mongod]:
    with mongod.replica_set() as (server,):
        yield server


@pytest.fixture
def environ(mongo: mongod.Mongod) -> dict[str, str]:
    """An empty database."""
    with mongo.client() as client:
        client.drop_database(NAME)
    return {"DATABASE_URI": mongod.uri([mongo]), "DATABASE_NAME": NAME}


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """With a house in which there is something of everything."""
    home = tmp_path / "home"
    home.mkdir()
    store = SqliteStore(home / "hubbub.db")
    await store.open()
    await furnish(store)
    await store.close()
    return home


async def rows_in(archive: Archive) -> dict[str, Any]:
    try:
        await archive.open(fill=False)
        kinds: dict[str, Any] = {kind.name: [row async for row in archive.rows(kind)] for kind in KINDS}
        about = await archive.about()
        return {**kinds, "epoch": about.epoch, "rights": about.rights}
    finally:
        await archive.close()


async def in_file(home: Path) -> dict[str, Any]:
    return await rows_in(SqliteArchive(home / "hubbub.db"))


async def in_mongodb(environ: dict[str, str]) -> dict[str, Any]:
    return await rows_in(MongoArchive(environ["DATABASE_URI"], NAME))


async def test_it_says_what_was_moved_and_what_to_do_next(home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    before = await in_file(home)

    code, out, err = await hubbub("migrate", *THERE, "--home", home, environ=environ)
    assert code == 0, err
    assert f"{len(before['messages'])} messages" in out
    assert "are the same. Start the server with DATABASE_URI and DATABASE_NAME" in out
    assert f"moving messages: {len(before['messages'])} of {len(before['messages'])}" in err
    assert await in_mongodb(environ) == before

    code, out, err = await hubbub("migrate", *BACK, "--home", tmp_path / "new", environ=environ)
    assert code == 0, err
    assert "Start the server without DATABASE_URI" in out
    assert await in_file(tmp_path / "new") == before
    assert (tmp_path / "new" / "hubbub.db").stat().st_mode & 0o777 == 0o600


async def test_a_second_time_it_says_that_all_was_moved_before(home: Path, environ: dict[str, str]) -> None:
    await hubbub("migrate", *THERE, "--home", home, environ=environ)

    code, out, _ = await hubbub("migrate", *THERE, "--home", home, environ=environ)

    assert code == 0
    assert "nothing was done" in out


async def test_a_database_can_be_named_on_the_command_line(home: Path, environ: dict[str, str]) -> None:
    before = await in_file(home)
    del environ["DATABASE_NAME"]

    code, _, err = await hubbub("migrate", *THERE, "--home", home, "--database-name", NAME, environ=environ)

    assert code == 0, err
    assert await in_mongodb(environ) == before


async def test_clients_of_a_real_server_go_on_after_their_house_has_moved(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """There and back. Their cursors, keys, marks, passwords and tokens are as good as before, and what was revoked is
    as bad; an answer that was under way is given; who answers every second message counts on."""
    home, new = tmp_path / "home", tmp_path / "new"
    async with running(home, {"HUBBUB_DEMO_WORD_S": "0.2"}) as server, asking(server) as http:
        code, _, err = await hubbub("user", "add", "carol", "--home", home, typed=PASSWORD)
        assert code == 0, err
        code, bot, err = await hubbub("user", "token", "bot", "--home", home)
        assert code == 0, err
        login = (await http.post("/auth/login", json={"user": "carol", "password": PASSWORD})).json()["access_token"]
        revoked = (await http.post("/tokens", json={"label": "old"}, headers=bearer(login))).json()
        assert (await http.delete(f"/tokens/{revoked['id']}", headers=bearer(login))).status_code == 204
        poet = {"name": "poet", "every": 2, "engine": "demo", "personalities": {"grim": "Be grim."}}
        assert (await http.post("/assistants", json=poet, headers=bearer(login))).status_code == 201
        async with await said_hello(server, user="bob"):
            pass
        async with await said_hello(server, user="ann") as ann:
            token, epoch = ann.welcome["token"], ann.welcome["server"]["epoch"]
            verse = await ann.group("poet", title="Vérse 🌷")
            await ann.post(verse, "the first of two", metadata={"$a.b": [1, 1.5, None, "\u2028"]})
            group = await ann.group("bob")
            await ann.post(group, "first", key="k")
            asked = await ann.post(group, "@openai count to 50")
            delta = await ann.take("run.delta")
            as_ann = bearer(token)
            seen = [
                f"/threads/{verse}",
                f"/threads/{verse}/messages",
                f"/threads/{group}/messages?before={asked['seq'] + 1}",
                "/assistants",
            ]
            before = {path: (await http.get(path, headers=as_ann)).content for path in seen}
            tokens = (await http.get("/tokens", headers=bearer(login))).content
            await server.kill()

    code, _, err = await hubbub("migrate", *THERE, "--home", home, environ=environ)
    assert code == 0, err

    async with running(home, environ) as server, asking(server) as http:
        for path in seen:
            assert (await http.get(path, headers=as_ann)).content == before[path], path
        assert (await http.get("/tokens", headers=bearer(login))).content == tokens
        assert (await http.get("/me", headers=bearer(revoked["token"]))).status_code == 401
        resume = {"epoch": epoch, "threads": {group: asked["seq"]}}
        async with await said_hello(server, token=token, resume=resume) as ann:
            assert ann.welcome["server"]["epoch"] == epoch
            added, answer = await ann.messages(2, group)
            assert added["text"] == "ann added openai."
            assert (answer["seq"], answer["run"]) == (added["seq"] + 1, delta["run"])
            assert not [frame for frame in ann.heard if frame["type"] == "reset"]
            assert (await ann.post(group, "first", key="k"))["seq"] == 1
            second = await ann.post(verse, "the second of two")
            poem = await ann.take("message", lambda frame: frame["message"]["sender"] == "poet", thread=verse)
            assert poem["message"]["seq"] == second["seq"] + 1
        async with await said_hello(server, user="bob") as bob:
            assert [one["text"] for one in await bob.messages(2, group)] == ["first", "@openai count to 50"]
        for proof in ({"user": "carol", "password": PASSWORD}, {"token": bot.strip()}):
            async with await said_hello(server, **proof):
                pass
        seen = [f"/threads/{one}{more}" for one in (verse, group) for more in ("", "/messages")]
        before = {path: (await http.get(path, headers=as_ann)).content for path in seen}
        assert await server.stop() == 0

    code, _, err = await hubbub("migrate", *BACK, "--home", new, environ=environ)
    assert code == 0, err
    shutil.copy(home / "secret.key", new)
    async with running(new) as server, asking(server) as http:
        for path in seen:
            assert (await http.get(path, headers=as_ann)).content == before[path], path
        assert (await http.get("/me", headers=bearer(revoked["token"]))).status_code == 401
        resume = {"epoch": epoch, "threads": {group: answer["seq"] - 1}}
        async with await said_hello(server, token=token, resume=resume) as ann:
            assert ann.welcome["server"]["epoch"] == epoch
            assert await ann.messages(1, group) == [answer]
            assert (await ann.post(group, "first", key="k"))["seq"] == 1
            assert (await ann.post(group, "and on"))["seq"] == answer["seq"] + 1
        async with await said_hello(server, user="carol", password=PASSWORD):
            pass


def asking(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}/api", trust_env=False)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def said_hello(server: Server, **hello: Any) -> FramedClient:
    client = await FramedClient.open(server.tcp_port)
    await client.hello(**hello)
    return client


# Refused


ASKED_WRONGLY, NOT_NOW = 2, 69


async def refused(*arguments: str | Path, environ: dict[str, str], code: int = NOT_NOW) -> str:
    """`hubbub migrate …`, which must not work: the one sentence it says."""
    began = time.monotonic()
    ended, out, err = await hubbub("migrate", *arguments, environ=environ)
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith("hubbub: ")
    assert ended == code
    assert time.monotonic() - began < 8
    return err


async def test_a_place_that_a_server_runs_on_is_refused_and_so_is_what_it_leaves(
    home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path / "other", environ) as server:
        said = await refused(*BACK, "--home", tmp_path / "new", environ=environ)
        assert f"A Hubbub is running on the MongoDB database '{NAME}'. Stop every server" in said
        assert said == await refused(*THERE, "--home", home, environ=environ)
        assert await server.stop() == 0

    for arguments, place in ((THERE, "MongoDB database"), (BACK, f"file {home}")):
        said = await refused(*arguments, "--home", home, environ=environ, code=ASKED_WRONGLY)
        assert f"There are data in the {place}" in said


async def test_nothing_can_be_moved_from_where_there_is_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    for arguments, place in ((THERE, tmp_path), (BACK, f"the MongoDB database '{NAME}'")):
        said = await refused(*arguments, "--home", tmp_path, environ=environ, code=ASKED_WRONGLY)
        assert f"There are no data in {place}" in said


async def test_what_a_newer_version_has_written_is_refused(
    home: Path, environ: dict[str, str], mongo: mongod.Mongod, tmp_path: Path
) -> None:
    with mongo.client() as client:
        client[NAME]["meta"].insert_one({"_id": "hubbub", "schema": 99, "epoch": "e"})
    for arguments in ((*THERE, "--home", home), (*BACK, "--home", tmp_path / "new")):
        assert "written by a newer Hubbub (schema 99" in await refused(*arguments, environ=environ)
    with mongo.client() as client:
        client.drop_database(NAME)
    with sqlite3.connect(home / "hubbub.db") as db:
        db.execute("PRAGMA user_version = 99")
    assert "written by a newer Hubbub (schema 99" in await refused(*THERE, "--home", home, environ=environ)


@pytest.mark.parametrize(
    ("uri", "says", "code"),
    [
        ("", "Where MongoDB is, DATABASE_URI says", ASKED_WRONGLY),
        ("postgres://me:hush@127.0.0.1/x", "DATABASE_URI", NOT_NOW),
        ("mongodb://me:hush@{address}/?replicaSet=rs0", "does not know the user or the password", NOT_NOW),
    ],
    ids=["none", "other", "wrong password"],
)
async def test_a_wrong_address_is_refused_and_a_password_in_it_never_shown(
    home: Path, mongo: mongod.Mongod, uri: str, says: str, code: int
) -> None:
    said = await refused(*THERE, "--home", home, environ={"DATABASE_URI": uri.format(address=mongo.address)}, code=code)

    assert says in said
    assert "hush" not in said


async def test_two_places_have_to_be_two(home: Path, environ: dict[str, str]) -> None:
    said = await refused("--from", "sqlite", "--to", "sqlite", "--home", home, environ=environ, code=ASKED_WRONGLY)

    assert "two different places" in said


# Killed


def add_messages(home: Path, count: int) -> None:
    """So many more in the lobby, which the server could have made."""
    with sqlite3.connect(home / "hubbub.db") as db:
        (head,) = db.execute("SELECT max(seq) FROM messages WHERE thread = 'lobby'").fetchone()
        db.executemany(
            "INSERT INTO messages (thread, seq, id, sender, type, text, timestamp, key) VALUES (?,?,?,?,?,?,?,?)",
            (
                ("lobby", seq, f"{seq}-{seq:012}", "Ann", "chat", f"{seq} " + "word " * 20, stamp(seq), f"key {seq}")
                for seq in range(head + 1, head + 1 + count)
            ),
        )
    db.close()


@pytest.mark.parametrize("kills", [12, pytest.param(120, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_killed_at_random_moments_it_goes_on_and_ends_right(
    home: Path, environ: dict[str, str], mongo: mongod.Mongod, tmp_path: Path, kills: int
) -> None:
    add_messages(home, 20_000)
    before = await in_file(home)
    for house in range(kills // 12):
        old, new = tmp_path / f"old {house}", tmp_path / f"new {house}"
        shutil.copytree(home, old)
        new.mkdir()
        with mongo.client() as client:
            client.drop_database(NAME)

        await killed_on_the_way_there_and_back(old, new, environ, random.Random(house))

        assert await in_mongodb(environ) != before, "what is left behind has another epoch"
        assert await in_file(new) == before


async def killed_on_the_way_there_and_back(
    old: Path, new: Path, environ: dict[str, str], chance: random.Random
) -> None:
    """Twelve times, and then not."""
    on_the_way = 0
    for arguments, target in (
        ((*THERE, "--home", old), lambda: MongoArchive(environ["DATABASE_URI"], NAME)),
        ((*BACK, "--home", new), lambda: SqliteArchive(new / "hubbub.db")),
    ):
        for lines in (0, 1, 4, 4, 4, chance.randrange(5, 20)):  # messages come fifth
            await killed_after(lines, chance.uniform(0, 0.1 if lines else 0.6), *arguments, environ=environ)
            on_the_way += await under_way(target())
        code, _, err = await hubbub("migrate", *arguments, environ=environ)
        assert code == 0, err
    assert on_the_way >= 3


async def killed_after(lines: int, seconds: float, *arguments: str | Path, environ: dict[str, str]) -> None:
    """Kill it so long after so many lines, if it is not done by then."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "migrate", *map(str, arguments)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")} | environ,
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        for _ in range(lines):
            await process.stderr.readline()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


async def under_way(archive: Archive) -> bool:
    """Has it begun, and is it not done?"""
    try:
        await archive.open(fill=True)
        move = (await archive.about()).move
        return move is not None and not move.done
    finally:
        await archive.close()


@pytest.mark.parametrize("place", ["sqlite", "mongodb"])
async def test_neither_a_server_nor_a_command_works_on_half_a_house(
    environ: dict[str, str], tmp_path: Path, place: str
) -> None:
    archive: Archive = SqliteArchive(tmp_path / "hubbub.db")
    if place == "mongodb":
        archive = MongoArchive(environ["DATABASE_URI"], NAME)
    await archive.open(fill=True)
    await archive.begin(Move(epoch="epoch", left="left"), rights=0)
    await archive.close()

    for command in (("serve", "--port", "0", "--tcp-port", "0"), ("user", "list")):
        code, _, err = await hubbub(
            *command, "--home", tmp_path, environ=environ if place == "mongodb" else {"HUBBUB_LOG_LEVEL": "warning"}
        )
        assert code == 69
        assert f"Not everything has been moved into {archive.name} yet: finish that with the same 'hubbub migr" in err


@pytest.mark.long
async def test_a_hundred_thousand_messages_move_within_bounds(
    home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    add_messages(home, 100_000)

    for arguments in ((*THERE, "--home", home), (*BACK, "--home", tmp_path / "new")):
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, "migrate", *map(str, arguments)),
            stdout=asyncio.subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")} | environ,
        )
        out, _ = await process.communicate()
        took = time.monotonic() - began
        said, _, kib = out.decode().rstrip().rpartition("\n")
        print(f"{' '.join(map(str, arguments[:4]))}: {took:.1f} s, {int(kib) / 1024:.0f} MiB resident at most")
        assert "100,0" in said, said
        assert took < 55
        assert int(kib) < 120 * 1024


MEASURED = """
import sys
from hubbub.cli import main
main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
