"""`hubbub load` against Hubbub: its answers are well, and where they cannot be, the report says why."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hubbub.apps.load import Load, Plan, Report
from hubbub.apps.load.post_chat import PostChat, find_door
from hubbub.apps.load.tally import Tally
from support.process import running
from support.server import fresh, serving

LIMIT_S = 30


async def report_of(port: int, plan: Plan, token: str | None = None) -> Report:
    door = await find_door(f"http://127.0.0.1:{port}", token, None)
    load = Load(plan, lambda: PostChat(door), url=door.url, talker="POST /chat")
    async with asyncio.timeout(LIMIT_S):
        await load.run()
    return load.report()


async def test_many_conversations_of_several_turns_are_well(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_word_s=0.0005) as house:
        report = await report_of(house.port, Plan(requests=40, concurrency=8, turns=3))

    assert report.errors == {}
    assert report.ok == 40
    assert report.pieces > 200
    assert report.first_piece_s is not None
    assert report.whole_s is not None
    assert report.first_piece_s.p50 < report.whole_s.p50


async def test_open_arrivals_are_well_too(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_word_s=0.0005) as house:
        report = await report_of(house.port, Plan(rate=20, duration_s=1, concurrency=20))

    assert (report.ok, report.errors) == (20, {})


async def test_who_asks_too_fast_is_refused_and_it_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_word_s=0.0005, send_rate=0.1, send_burst=2.0) as house:
        report = await report_of(house.port, Plan(requests=5, turns=5))

    assert (report.ok, report.errors) == (4, {"http 429": 1})  # after which it is somebody else in a new conversation
    assert report.examples["http 429"]


async def test_without_guests_it_takes_a_token(tmp_path: Path) -> None:
    name = fresh("anna")
    async with serving(tmp_path, demo_word_s=0.0005, guests="off") as house:
        async with house.http() as http:
            account = await http.post("/api/auth/register", json={"user": name, "password": "a long password"})
        stranger = await report_of(house.port, Plan(requests=2))
        member = await report_of(house.port, Plan(requests=2, turns=2), account.json()["access_token"])

    assert stranger.errors == {"http 401": 2}
    assert member.errors == {}


async def test_a_server_that_is_killed_is_seen_to_be_cut_and_then_gone(tmp_path: Path) -> None:
    begun = asyncio.Event()

    def shows(tally: Tally, elapsed_s: float) -> None:
        if tally.ok:
            begun.set()

    async with running(tmp_path / "home", {"HUBBUB_DEMO_WORD_S": "0.02", "HUBBUB_SEND_RATE": "0"}) as server:
        door = await find_door(f"http://127.0.0.1:{server.port}", None, None)
        plan = Plan(requests=30, concurrency=3)
        load = Load(plan, lambda: PostChat(door), url=door.url, talker="POST /chat", shows=shows)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await begun.wait()
            await server.kill()

    errors = load.report().errors
    assert set(errors) <= {"cut", "lost", "refused"}
    # Each talker meets the end once, and once more if its next connection was made and never taken up.
    assert errors.get("cut", 0) + errors.get("lost", 0) <= 6
    assert errors["refused"] > 0
