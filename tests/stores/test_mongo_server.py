"""A whole server, its commands and its doctor on MongoDB."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hubbub import accounts, doctor, upkeep
from hubbub.core.errors import BadRequest, Unavailable
from hubbub.doctor import Level
from hubbub.stores import mongo_alone
from hubbub.stores.mongo import MongoStore
from support import mongod
from support.process import running
from support.server import no_tracebacks, serving, settings

from .conftest import Nodes


async def test_messages_wait_in_mongodb_for_whoever_is_away_and_assistants_answer(
    nodes: Nodes, mongo: mongod.Mongod, tmp_path: Path
) -> None:
    where = {"database_uri": mongod.uri([mongo]), "database_name": "nodes"}
    with no_tracebacks():
        async with serving(tmp_path / "home", **where) as house, await house.talk("framed", "ann") as ann:
            said = await ann.write("bob", "are you there?")
            assert said["delivery"] == "stored"
            await ann.write("openai", "repeat: one two three")
            async with asyncio.timeout(20):
                while True:
                    answer = await ann.take("message")
                    if answer["message"]["sender"] == "openai":
                        break
            assert "one two three" in answer["message"]["text"]
        async with serving(tmp_path / "another home", **where) as house:
            async with await house.talk("ws", "bob") as bob:
                heard = await bob.take("message", thread=said["thread"])
                assert (heard["seq"], heard["stored"]) == (1, True)
                assert (await bob.ask("seen", thread=heard["thread"], seq=1))["type"] == "ok"
            async with await house.talk("ws", "ann") as ann:
                assert {view["head"] for view in ann.welcome["threads"]} >= {1, 2}
    assert not (tmp_path / "home" / "hubbub.db").exists()
    assert await nodes[0].open_runs() == []


async def test_hubbub_user_and_the_doctor_work_on_mongodb(nodes: Nodes, mongo: mongod.Mongod, tmp_path: Path) -> None:
    chosen = settings(
        tmp_path / "home", database_uri=mongod.uri([mongo]), database_name="nodes", guests="off", registration="off"
    )
    async with accounts.opened(chosen) as opened:
        await opened.add("ann", "correct horse battery", admin=True)
    async with accounts.opened(chosen) as opened:
        assert [row.account.name for row in opened.rows()] == ["ann"]
        await opened.sign_out("ann")

    found = {one.about: one for one in doctor.examine(lambda: chosen, Path("/nonexistent"))}

    assert found["database"].level is Level.FINE
    assert found["accounts"].sentence == "Guests are off; accounts: 1, of admins: 1."
    with pytest.raises(BadRequest, match="mongodump"):
        upkeep.back_up(chosen, tmp_path / "copy", overwrite=False)
    with pytest.raises(BadRequest, match="mongorestore"):
        upkeep.restore(chosen, tmp_path / "copy")


def test_the_doctor_says_what_is_wrong_with_a_database(mongo: mongod.Mongod, tmp_path: Path) -> None:
    def sentence(uri: str, name: str) -> tuple[Level, str]:
        chosen = settings(tmp_path / "home", database_uri=uri, database_name=name)
        found = doctor.examine(lambda: chosen, Path("/nonexistent"))
        return next((one.level, one.sentence) for one in found if one.about == "database")

    with mongo.client() as client:
        client["newer"]["meta"].replace_one({"_id": "hubbub"}, {"schema": 99, "epoch": "e"}, upsert=True)
    uri = mongod.uri([mongo])

    level, said = sentence("mongodb://ann:canary@127.0.0.1:1/", "x")
    assert (level, "canary" in said) == (Level.WRONG, False)
    assert "is it running" in said
    assert sentence(uri, "newer")[0] is Level.WRONG
    assert sentence(uri, "nothing") == (Level.NOTE, "The database 'nothing' is empty; the first start makes it.")
    with mongo.client() as client:
        assert "nothing" not in client.list_database_names()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.b", r"HUBBUB_DATABASE_NAME cannot be 'a\.b'"),
        ("é" * 100, r"HUBBUB_DATABASE_NAME has more than 63 bytes: 'éé"),
    ],
)
async def test_a_name_no_database_can_have_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        async with serving(tmp_path / "home", database_uri="mongodb://127.0.0.1:1/", database_name=name):
            pass


async def test_a_server_on_sqlite_does_not_import_what_mongodb_needs(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as server:
        loaded = await asyncio.to_thread(Path(f"/proc/{server.pid}/maps").read_text)
    assert "apsw" in loaded
    assert "pymongo" not in loaded


async def test_without_redis_a_second_server_on_one_database_is_refused_until_the_first_has_gone(
    nodes: Nodes, mongo: mongod.Mongod, tmp_path: Path
) -> None:
    where = {"database_uri": mongod.uri([mongo]), "database_name": "nodes"}
    async with serving(tmp_path / "home", **where) as house:
        with pytest.raises(
            Unavailable, match=r"Another Hubbub runs on .*'nodes'. Several on one database take REDIS_URL"
        ):
            async with serving(tmp_path / "second", **where):
                pass
        async with await house.talk("framed", "ann") as ann:
            assert (await ann.post("lobby", "still here"))["type"] == "ack"
    async with asyncio.timeout(mongo_alone.TERM_S / 2), serving(tmp_path / "second", **where):
        pass


async def test_a_server_that_was_killed_keeps_its_successor_waiting_for_seconds_at_most(
    nodes: Nodes, mongo: mongod.Mongod, tmp_path: Path
) -> None:
    where = {"HUBBUB_DATABASE_URI": mongod.uri([mongo]), "HUBBUB_DATABASE_NAME": "nodes"}
    async with running(tmp_path / "home", where) as server:
        await server.kill()
        await server.start()


async def test_a_term_is_kept_for_as_long_as_it_is_wanted(
    nodes: Nodes, mongo: mongod.Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_alone, "TERM_S", 0.4)
    monkeypatch.setattr(mongo_alone, "RENEW_EVERY_S", 0.05)
    first, second = (MongoStore(mongod.uri([mongo]), "nodes", alone=True) for _ in "ab")
    await first.open()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await second.open()
    await first.close()
    await second.open()
    await second.close()
