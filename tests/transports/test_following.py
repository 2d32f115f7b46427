"""`GET /api/runs/{id}/events`: one answer, from an exact character to its end, whoever comes when and is cut where."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from starlette.requests import Request

from hubbub.core import frames
from hubbub.core.errors import NotFound, Unauthorized
from hubbub.core.nouns import Run
from hubbub.hub import following
from hubbub.hub.access import Caller
from hubbub.hub.following import follow
from hubbub.transports.streams import EventStream
from support.inbox import WAIT_S, Over
from support.listeners import Refused, SseReader
from support.server import House, fresh, serving
from support.talkers import Talker

SIXTY = "(demo model) " + " ".join(str(number) for number in range(1, 61))
ENDS = ("run.completed", "run.failed", "run.cancelled")
Own = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One whose model takes its time."""
    async with serving(tmp_path_factory.mktemp("home"), demo_word_s=0.01) as house:
        yield house


async def asked(alice: Talker, text: str) -> dict[str, Any]:
    """Ask openai: the first frame of the run."""
    await alice.write("openai", text)
    return await alice.take("run.queued")


async def stream(house: House, alice: Talker, run: str, more: str = "", **how: Any) -> SseReader:
    token = alice.welcome["token"]
    return await SseReader.open(house.port, f"/api/runs/{run}/events{more}", token=token, **how)


class Kept:
    """What a careful reader of one run keeps."""

    def __init__(self) -> None:
        self.text = ""
        self.attempt = 0
        self.resets = 0
        self.end: dict[str, Any] = {}

    def take(self, frame: dict[str, Any]) -> None:
        assert not self.end, "something came after the end"
        if frame["type"] == "run.delta":
            assert frame["offset"] == len(self.text), "a piece is doubled or missing"
            self.text, self.attempt = self.text + frame["text"], frame["attempt"]
        elif frame["type"] == "run.reset":
            self.text, self.attempt, self.resets = "", frame["attempt"], self.resets + 1
        elif frame["type"] in ENDS:
            self.end = frame

    async def all(self, reader: SseReader) -> Kept:
        while not self.end:
            self.take(await reader.next())
        with pytest.raises(Over):
            await reader.next()
        return self


async def test_a_run_is_told_in_pieces_and_then_its_end_and_nothing_else(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        reader = await stream(house, alice, run)
        kept = await Kept().all(reader)
        message = await alice.take("message", lambda frame: frame["message"]["run"] == run)

    kinds = [frame["type"] for frame in reader.heard]
    assert kept.text == SIXTY == message["message"]["text"]
    assert kinds.count("run.delta") > 20
    assert set(kinds) <= {"run.queued", "run.delta", "run.completed"}
    assert (kept.end["message"], kept.end["seq"]) == (message["message"]["id"], message["seq"])
    epoch = alice.welcome["server"]["epoch"]
    ids = dict(zip(kinds, reader.ids, strict=True))
    assert ids["run.delta"] == f"{epoch}.{message['seq'] - 1}.{run}.1.{len(SIXTY)}"
    assert ids["run.completed"] == f"{epoch}.{message['seq']}.{run}.1.{len(SIXTY)}"


async def test_four_who_come_and_are_cut_at_random_assemble_the_stored_text(house: House) -> None:
    chance = random.Random(4)
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 200"))["run"]

        async def one(place: int) -> tuple[Kept, int]:
            kept, last_id, cuts = Kept(), "", 0
            while not kept.end:
                before = len(kept.text) + chance.randrange(1, 120)
                by_id = chance.random() < 0.5 and last_id
                more = "" if by_id else f"?attempt={kept.attempt}&offset={len(kept.text)}"
                reader = await stream(house, alice, run, more, last_id=last_id if by_id else "")
                while not kept.end and len(kept.text) < before:
                    kept.take(await reader.next())
                last_id = reader.last_id or last_id
                cuts += not kept.end
                reader.cut()
                if place == 0:
                    await alice.take("run.delta")  # comes back later than the others
            return kept, cuts

        readings = [asyncio.create_task(one(0))]
        for place in range(1, 4):
            for _ in range(chance.randrange(1, 15)):
                await alice.take("run.delta")
            readings.append(asyncio.create_task(one(place)))
        results = await asyncio.gather(*readings)
        message = await alice.take("message", lambda frame: frame["message"]["run"] == run)

    assert [kept.text for kept, _ in results] == [message["message"]["text"]] * 4
    assert all(kept.resets == 0 for kept, _ in results)
    assert sum(cuts for _, cuts in results) >= 8


async def test_who_comes_late_is_told_all_so_far_in_one_piece(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        for _ in range(20):
            await alice.take("run.delta")
        reader = await stream(house, alice, run)
        first = await reader.next()
        kept = Kept()
        kept.take(first)
        await kept.all(reader)

    assert first["type"] == "run.delta"
    assert first["offset"] == 0
    assert len(first["text"]) > len("(demo model) 1 2 3 4 5 6 7 8 9 10")
    assert kept.text == SIXTY


async def test_an_ended_run_gives_what_is_missing_and_its_end_at_once(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        await alice.take("run.completed")
        whole = await stream(house, alice, run)
        part = await stream(house, alice, run, f"?attempt=1&offset={len(SIXTY) - 2}")
        await Kept().all(whole)
        rest = [await part.next(), await part.next()]

    assert [frame["type"] for frame in whole.heard] == ["run.delta", "run.completed"]
    assert whole.heard[0]["text"] == SIXTY
    assert (rest[0]["offset"], rest[0]["text"]) == (len(SIXTY) - 2, "60")
    assert rest[1]["type"] == "run.completed"


async def test_a_browser_that_was_told_the_end_is_told_to_stay_away_and_one_that_missed_it_is_not(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 5"))["run"]
        reader = await stream(house, alice, run)
        await Kept().all(reader)
        delta, end = reader.ids[-2:]
        async with house.http(token=alice.welcome["token"]) as http:
            answer = await http.get(f"/api/runs/{run}/events", headers={"last-event-id": str(end)})
        again = await stream(house, alice, run, last_id=str(delta))
        ending = await again.next()

    assert answer.status_code == 204
    assert ending["type"] == "run.completed"


@pytest.mark.parametrize(
    "cursor", ["elsewhere.1.RUN.1.7", "EPOCH.1.another.1.7", "EPOCH.1.RUN.9.7", "EPOCH.1.RUN.1.99999", "nonsense"]
)
async def test_a_position_that_cannot_be_continued_is_void(house: House, cursor: str) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 5"))["run"]
        await alice.take("run.completed")
        cursor = cursor.replace("EPOCH", alice.welcome["server"]["epoch"]).replace("RUN", run)
        reader = await stream(house, alice, run, last_id=cursor)
        kept = await Kept().all(reader)

    assert kept.resets == 1
    assert kept.text == "(demo model) 1 2 3 4 5"


async def test_a_cancelled_run_ends_for_its_followers_where_its_message_ends(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 2000"))["run"]
        reader = await stream(house, alice, run)
        kept = Kept()
        while len(kept.text) < 30:
            kept.take(await reader.next())
        await alice.ask("run.cancel", run=run)
        await kept.all(reader)
        message = await alice.take("message", lambda frame: frame["message"]["run"] == run)

    assert kept.end["type"] == "run.cancelled"
    assert kept.text == message["message"]["text"]


async def test_whoever_is_removed_from_the_thread_is_told_nothing_more(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice, await house.talk("text", fresh("bob")) as bob:
        thread = await alice.group(bob.welcome["user"], "openai")
        await alice.post(thread, "@openai count to 2000")
        run = (await bob.take("run.queued"))["run"]
        reader = await stream(house, bob, run)
        await reader.take("run.delta")
        await alice.ask("thread.remove", thread=thread, member=bob.welcome["user"])
        bye = await reader.take("bye")
        with pytest.raises(Refused) as refused:
            await stream(house, bob, run)
        await alice.ask("run.cancel", run=run)

    assert bye["code"] == "not_found"
    assert bye["resume"] is False
    assert refused.value.status == 404


async def test_a_stream_ends_when_its_token_does(house: House) -> None:
    hub = house.app.hub
    async with house.http() as http:
        body = {"user": fresh("carol"), "password": "correct horse"}
        token = (await http.post("/api/auth/register", json=body)).json()["access_token"]
    async with await house.talk("text", token=token) as carol:
        run = (await asked(carol, "count to 2000"))["run"]
        caller = hub.gate.identify(token, None)
        told = follow(hub, caller, run)
        await anext(told)
        await hub.gate.sign_out_everywhere(body["user"], by="the test")
        with pytest.raises(Unauthorized):
            await _last(told)
        hub.bus.cancel(run)


async def _last(told: AsyncIterator[frames.RunFrame]) -> None:
    async with asyncio.timeout(WAIT_S):
        async for _ in told:
            pass


async def test_a_reader_that_is_slow_finds_the_pieces_merged(house: House) -> None:
    hub = house.app.hub
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        told = follow(hub, Caller(alice.welcome["user"]), run)
        first = await anext(told)
        await alice.take("run.completed")
        rest = [frame async for frame in told]

    pieces = [frame for frame in [first, *rest] if isinstance(frame, frames.RunDelta)]
    assert "".join(piece.text for piece in pieces) == SIXTY
    assert len(pieces) <= 2
    assert isinstance(rest[-1], frames.RunCompleted)


async def test_a_higher_attempt_is_a_reset_and_what_it_says_is_all_that_counts(own_house: Own) -> None:
    async with own_house(demo_word_s=0.01) as house:
        hub = house.app.hub
        async with await house.talk("text", fresh("alice")) as alice:
            run = (await asked(alice, "count to 60"))["run"]
            kept, reader = Kept(), await stream(house, alice, run)
            while len(kept.text) < 30:
                kept.take(await reader.next())
            stored = await hub.store.run(run)
            assert isinstance(stored, Run)
            hub.bus.forget(run)  # as if whoever wrote it were lost
            await hub.runs._retry(stored)
            await kept.all(reader)

    assert kept.resets == 1
    assert kept.attempt == 2
    assert kept.text == SIXTY


async def test_while_it_waits_a_follower_is_told_its_place(own_house: Own) -> None:
    async with own_house(worker=False) as house, await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group("openai")
        runs = []
        for number in range(3):
            await alice.post(thread, f"@openai count to {number + 1}")
            runs.append((await alice.take("run.queued"))["run"])
        reader = await stream(house, alice, runs[2])
        places = [(await reader.next())["position"]]
        for run in runs[:2]:
            await alice.ask("run.cancel", run=run)
            places.append((await reader.next())["position"])
        await alice.ask("run.cancel", run=runs[2])
        end = await reader.next()

    assert places == [3, 2, 1]
    assert end["type"] == "run.cancelled"


async def test_the_store_is_not_asked_for_every_piece(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked_for = house.app.hub.store, []
    one = store.run
    monkeypatch.setattr(store, "run", lambda id: asked_for.append(id) or one(id))
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        kept = await Kept().all(await stream(house, alice, run))

    assert kept.text == SIXTY
    assert asked_for.count(run) < 20


async def test_what_the_bus_forgets_to_mention_is_told_a_second_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = house.app.hub
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(hub.followers, "wake", lambda run, changed: None)
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 60"))["run"]
        kept = await Kept().all(await stream(house, alice, run))

    assert kept.text == SIXTY


async def test_nothing_is_kept_of_a_follower_that_has_left(house: House) -> None:
    hub = house.app.hub
    async with await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 2000"))["run"]
        reader = await stream(house, alice, run)
        await reader.take("run.delta")
        assert run in hub.followers.runs
        reader.cut()
        async with asyncio.timeout(WAIT_S):
            while run in hub.followers.runs:
                await alice.take("run.delta")
        await alice.ask("run.cancel", run=run)


async def test_a_server_that_goes_away_says_so_at_once_to_who_follows(
    own_house: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 60.0)
    async with own_house(worker=False) as house, await house.talk("text", fresh("alice")) as alice:
        run = (await asked(alice, "count to 3"))["run"]
        reader = await stream(house, alice, run)
        await reader.take("run.queued")
        house.app.hub.dismiss()
        bye = await reader.take("bye")

    assert bye["code"] == "shutdown"
    assert bye["resume"] is True


async def test_a_reader_that_takes_nothing_is_cut_off(own_house: Own) -> None:
    async with own_house(slow_s=0.2) as house:
        hub, aborted = house.app.hub, asyncio.Event()

        class Port:
            def begin_stream(self) -> None: ...

            def abort(self) -> None:
                aborted.set()

        async def full(message: Any) -> None:
            if message.get("body", b"").startswith(b"event"):
                await asyncio.Event().wait()

        async def receive() -> Any:
            await aborted.wait()
            return {"type": "http.disconnect"}

        async def events() -> AsyncIterator[bytes]:
            while True:
                yield b"event: more\n\n"

        scope = {"type": "http", "headers": [], "client": None}
        scope["state"] = {"hub": hub, "site": house.app.site, "port": Port()}
        ended: list[bool] = []
        answer = EventStream(Request(scope), events(), lambda: ended.append(True))
        async with asyncio.timeout(WAIT_S):
            await answer(scope, receive, full)

    assert aborted.is_set()
    assert ended == [True]


async def test_a_run_nobody_knows_is_not_there(house: House) -> None:
    with pytest.raises(NotFound):
        await anext(follow(house.app.hub, Caller("nobody"), "no-such-run"))
