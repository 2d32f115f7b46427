"""A backup taken while people write is one moment of the past; restored, nobody mistakes it for the present."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from support.checker import check
from support.command import hubbub
from support.process import running
from support.talkers import FramedClient
from support.witness import LOBBY, Witness, stored_log


async def test_a_backup_taken_while_people_write_holds_whole_threads_without_holes(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy.db"
    async with running(home) as server:
        people = [Witness(f"person{i}", server, [kind], seed=i) for i, kind in enumerate(("framed", "text", "binary"))]
        tasks = [asyncio.create_task(person.live()) for person in people]
        for person in people:
            await asyncio.wait_for(person.ready.wait(), 10)
            for n in range(3000):
                person.say(f"{person.name} {n}")
        acked = [person.testimony.acked.setdefault(LOBBY, {}) for person in people]
        await people[0].until(lambda: len(acked[0]) >= 300)
        promised = [dict(acks) for acks in acked]
        code, out, err = await hubbub("backup", copy, "--home", home)
        assert code == 0, err
        for person in people:
            person._waiting.clear()
            await person.until(lambda person=person: person.settled)  # type: ignore[misc]
        head = max(seq for acks in acked for seq in acks.values())
        for person in people:
            await person.until(lambda person=person: person.cursor == head)  # type: ignore[misc]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await server.stop() == 0

    now = await stored_log(home / "hubbub.db")
    then = await stored_log(copy)
    assert then == now[: len(then)]
    for acks in promised:  # what was acknowledged before the backup began is in it
        assert all(then[seq - 1][2] == text for text, seq in acks.items())
    assert 0 < len(then) < len(now)
    assert f"{len(then):,} messages" in out
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sqlite3.connect(copy).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert check([person.testimony for person in people], {LOBBY: now}) == []


async def test_a_restored_backup_is_taken_in_by_the_running_server_and_every_old_cursor_is_reset(
    tmp_path: Path,
) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy.db"
    async with running(home) as server:
        alice = Witness("alice", server, ["framed", "text"])
        task = asyncio.create_task(alice.live())
        await asyncio.wait_for(alice.ready.wait(), 10)
        for text in ("one", "two"):
            alice.say(text)
        await alice.until(lambda: alice.cursor == 2)
        assert (await hubbub("backup", copy, "--home", home))[0] == 0
        for text in ("three", "four"):
            alice.say(text)
        await alice.until(lambda: alice.cursor == 4)
        pid = server.pid

        code, out, err = await hubbub("restore", copy, "--home", home)

        assert code == 0, err
        assert "Restored 2 messages" in out
        await alice.until(lambda: bool(alice.resets) and alice.ready.is_set())
        assert alice.byes[0]["code"] == "shutdown"
        assert {reset["thread"] for reset in alice.resets} == {LOBBY}
        task.cancel()
        await asyncio.wait([task])
        async with await FramedClient.open(server.tcp_port) as bob:
            await bob.hello("bob")
            history = await bob.ask("history", thread=LOBBY)
            assert [message["text"] for message in history["messages"]] == ["one", "two"]
            assert (await bob.post(LOBBY, "and on"))["seq"] == 3
        assert server.pid == pid
        assert server.returncode is None
        os.kill(pid, signal.SIGTERM)
        assert await server.ended() == 0

    [kept] = home.glob("hubbub.db.before-*Z")
    assert str(kept) in out
    assert [text for _, _, text in await stored_log(kept)] == ["one", "two", "three", "four"]


async def test_without_a_server_a_backup_is_restored_into_an_empty_home(tmp_path: Path) -> None:
    home, copy, elsewhere = tmp_path / "home", tmp_path / "copy.db", tmp_path / "elsewhere"
    async with running(home) as server, await FramedClient.open(server.tcp_port) as alice:
        await alice.hello("alice")
        await alice.post(LOBBY, "hello")
        assert (await hubbub("backup", copy, "--home", home))[0] == 0

    code, out, err = await hubbub("restore", copy, "--home", elsewhere)

    assert (code, err) == (0, "")
    assert "kept" not in out
    assert [text for _, _, text in await stored_log(elsewhere / "hubbub.db")] == ["hello"]


@pytest.mark.parametrize("moment", ["laid in", "old data aside"])
async def test_a_kill_in_mid_restore_is_finished_at_the_next_start(tmp_path: Path, moment: str) -> None:
    from hubbub.stores import backup

    home, copy = tmp_path / "home", tmp_path / "copy.db"
    async with running(home) as server, await FramedClient.open(server.tcp_port) as alice:
        await alice.hello("alice")
        await alice.post(LOBBY, "one")
        assert (await hubbub("backup", copy, "--home", home))[0] == 0
        await alice.post(LOBBY, "two")
        await server.kill()
    backup.lay_in(copy, home / "hubbub.db")
    if moment == "old data aside":
        (home / "hubbub.db").rename(home / "hubbub.db.before-20260101T000000Z")

    async with running(home) as server, await FramedClient.open(server.tcp_port) as alice:
        await alice.hello("alice")
        texts = [message["text"] for message in (await alice.ask("history", thread=LOBBY))["messages"]]

    assert texts == ["one"]


async def test_of_two_restores_within_a_second_each_keeps_what_it_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubbub.stores import backup

    home, copy = tmp_path / "home", tmp_path / "copy.db"
    async with running(home) as server, await FramedClient.open(server.tcp_port) as alice:
        await alice.hello("alice")
        assert (await hubbub("backup", copy, "--home", home))[0] == 0
        await alice.post(LOBBY, "only here")
        assert await server.stop() == 0
    monkeypatch.setattr(backup.time, "gmtime", lambda: (2026, 1, 1, 0, 0, 0, 3, 1, 0))
    kept = []
    for _ in range(2):
        backup.lay_in(copy, home / "hubbub.db")
        kept.append(backup.take_in(home / "hubbub.db"))

    assert [[text for _, _, text in await stored_log(file)] for file in kept] == [["only here"], []]
    assert backup.kept_aside(home / "hubbub.db") == set(kept)


async def test_what_is_no_backup_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    home, junk, foreign, newer = (tmp_path / name for name in ("home", "junk", "foreign.db", "newer.db"))
    async with running(home) as server, await FramedClient.open(server.tcp_port) as alice:
        await alice.hello("alice")
        await alice.post(LOBBY, "hello")
        assert (await hubbub("backup", newer, "--home", home))[0] == 0
    junk.write_bytes(b"x" * 5000)
    for file, statement in ((foreign, "CREATE TABLE t (x)"), (newer, "PRAGMA user_version = 999")):
        with sqlite3.connect(file) as db:
            db.execute(statement)
    before = sorted((file.name, file.read_bytes()) for file in home.iterdir())

    refusals = [await hubbub("restore", file, "--home", home) for file in (junk, foreign, newer, tmp_path / "none")]

    assert [code for code, _, _ in refusals] == [2, 2, 2, 2]
    for (_, _, err), words in zip(refusals, ("no", "not a backup", "newer Hubbub", "no file"), strict=True):
        assert err.startswith("hubbub: ")
        assert words in err
        assert err.count("\n") == 1
    assert sorted((file.name, file.read_bytes()) for file in home.iterdir()) == before


async def test_a_backup_never_overwrites_unasked_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy.db"
    nothing = await hubbub("backup", copy, "--home", home)
    async with running(home):
        first = await hubbub("backup", copy, "--home", home)
        again = await hubbub("backup", copy, "--home", home)
        asked = await hubbub("backup", copy, "--home", home, "--overwrite")

    assert (nothing[0], first[0], again[0], asked[0]) == (2, 0, 2, 0)
    assert "There are no data" in nothing[2]
    assert "--overwrite" in again[2]
