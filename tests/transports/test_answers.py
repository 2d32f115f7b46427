"""An answer while it is being written: the same characters everywhere, resumed at the exact one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.inbox import Inbox
from support.listeners import SseReader
from support.server import House, fresh, serving
from support.talkers import TALKERS, Talker

SIXTY = "(demo model) " + " ".join(str(number) for number in range(1, 61))


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One whose model takes its time."""
    async with serving(tmp_path_factory.mktemp("home"), demo_word_s=0.01) as house:
        yield house


@dataclass
class Reading:
    """What a careful reader keeps of one run, over all its connections."""

    epoch: str
    thread: str
    seq: int = 0
    run: str = ""
    attempt: int = 1
    text: str = ""
    deltas: int = 0
    ended: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)

    def take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "run.delta":
            assert not self.final, "a piece came after the message"
            assert frame["offset"] == len(self.text), "a piece is doubled or missing"
            self.run, self.text = frame["run"], self.text + frame["text"]
            self.deltas += 1
        elif frame["type"] == "message":
            assert frame["seq"] == self.seq + 1
            self.seq = frame["seq"]
            if frame["message"]["run"]:
                self.final = frame["message"]
        elif frame["type"] in ("run.completed", "run.cancelled", "run.failed"):
            assert self.final, "the end came before the message"
            self.ended = frame

    async def follow(self, reader: Inbox, until: Callable[[], bool]) -> None:
        while not (self.ended or until()):
            frame = await reader.take(None, lambda f: "id" not in f and (f.get("thread") == self.thread))
            self.take(frame)

    @property
    def resume(self) -> dict[str, Any]:
        runs = {self.run: [self.attempt, len(self.text)]} if self.run else {}
        return {"epoch": self.epoch, "threads": {self.thread: self.seq}, "runs": runs}

    @property
    def last_id(self) -> str:
        return f"{self.epoch}.{self.seq}.{self.run}.{self.attempt}.{len(self.text)}"


async def asked(talker: Talker, text: str) -> Reading:
    """Ask openai; a reading that knows the question."""
    ack = await talker.write("openai", text)
    reading = Reading(talker.welcome["server"]["epoch"], ack["thread"])
    await reading.follow(talker, lambda: reading.seq == ack["seq"])
    return reading


def check_whole(reading: Reading) -> None:
    assert reading.text == reading.final["text"]
    assert reading.final["metadata"]["state"] == "completed"
    assert reading.final["metadata"]["model"]
    assert reading.final["run"] == reading.run
    assert reading.ended["type"] == "run.completed"
    assert (reading.ended["message"], reading.ended["seq"]) == (reading.final["id"], reading.final["seq"])


@pytest.mark.parametrize("kind", TALKERS)
async def test_the_life_of_an_answer_is_told_in_order(house: House, kind: str) -> None:
    async with await house.talk(kind, fresh("alice")) as alice:
        reading = await asked(alice, "count to 60")
        await reading.follow(alice, lambda: False)
        kinds = [frame["type"] for frame in alice.heard if frame["type"].startswith("run.")]
        common = {"type", "run", "thread", "assistant", "attempt"}

    check_whole(reading)
    assert reading.text == SIXTY
    assert reading.deltas > 10
    assert [kind for kind, _ in itertools.groupby(kinds)] == [
        "run.queued",
        "run.started",
        "run.delta",
        "run.completed",
    ]
    by_kind = {frame["type"]: frame for frame in alice.heard}
    assert set(by_kind["run.queued"]) == common | {"position"}
    assert set(by_kind["run.started"]) == common
    assert set(by_kind["run.delta"]) == common | {"offset", "text"}
    assert set(by_kind["run.completed"]) == common | {"message", "seq"}
    order = [frame["type"] for frame in alice.heard if frame["type"] in ("run.delta", "message", "run.completed")]
    assert order[-3:] == ["run.delta", "message", "run.completed"]


@pytest.mark.parametrize("every", [1, 2, 5, 13])
async def test_cut_after_every_few_pieces_and_resumed_on_the_next_transport_nothing_is_doubled_or_missing(
    house: House, every: int
) -> None:
    alice = await house.talk("text", fresh("alice"))
    reading = await asked(alice, "count to 60")
    token = alice.welcome["token"]

    async def talker(kind: str) -> Inbox:
        return await house.talk(kind, token=token, resume=reading.resume)

    async def stream() -> Inbox:
        return await house.listen(reading.thread, token=token, last_id=reading.last_id)

    ways: list[Callable[[], Awaitable[Any]]] = [lambda kind=kind: talker(kind) for kind in TALKERS]
    ways = [ways[0], ways[1], stream, ways[2], stream]
    reader: Any = alice
    cuts = 0
    for way in itertools.cycle(ways):
        wanted = reading.deltas + every
        await reading.follow(reader, lambda wanted=wanted: reading.deltas >= wanted)
        if isinstance(reader, SseReader) and not reading.ended:
            assert reader.ids[len(reader.heard) - 1] == reading.last_id
        if reading.ended:
            break
        reader.cut()
        cuts += 1
        reader = await way()
    reader.cut()

    check_whole(reading)
    assert reading.text == SIXTY
    assert cuts >= 1


@pytest.mark.parametrize("kind", [*TALKERS, "stream"])
async def test_who_comes_late_gets_all_so_far_in_one_piece(house: House, kind: str) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        reading = await asked(alice, "count to 60")
        await reading.follow(alice, lambda: reading.deltas >= 20)
        token = alice.welcome["token"]
        late: Any
        late = await (house.listen(reading.thread, token=token) if kind == "stream" else house.talk(kind, token=token))
        late_reading = Reading(reading.epoch, reading.thread, seq=1)
        first = await late.take("run.delta")
        late_reading.take(first)
        await late_reading.follow(late, lambda: False)
        await reading.follow(alice, lambda: False)

        assert first["offset"] == 0
        assert first["text"].startswith(reading.text[: len("(demo model) 1 2 3")])
        assert len(first["text"]) > 20
        assert late_reading.text == reading.text
        check_whole(late_reading)
        late.cut()


async def test_people_write_while_it_answers(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, await house.talk("framed", bob) as robert:
        thread = await alice.group(bob, "openai")
        await alice.post(thread, "@openai count to 60")
        await robert.take("run.delta")
        sent = [(await robert.post(thread, f"meanwhile {number}"))["seq"] for number in range(5)]
        late = [await alice.message(f"meanwhile {number}") for number in range(5)]
        answer = (await alice.take("message", lambda frame: frame["message"]["run"]))["message"]

    assert sent == [message["seq"] for message in late] == [2, 3, 4, 5, 6]
    assert answer["seq"] == 7
    assert answer["text"] == SIXTY
    assert answer["destination"] == thread


async def test_mentioning_the_assistant_brings_it_into_the_thread(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group()
        await alice.post(thread, "hello @openai count to 3, please")
        added = await alice.message()
        while added["type"] != "notification":
            added = await alice.message()
        assert added["metadata"] == {"event": "added", "member": "openai"}
        assert (await alice.take("run.completed"))["thread"] == thread


async def test_a_reply_to_the_assistant_is_answered(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group("openai")
        await alice.post(thread, "@openai count to 3")
        answer = (await alice.take("message", lambda frame: frame["message"]["run"]))["message"]
        await alice.take("run.completed")
        await alice.post(thread, "count to 4", reply_to=answer["id"])
        second = (await alice.take("message", lambda frame: frame["message"]["run"]))["message"]
        await alice.post(thread, "not to you: count to 5")
        await alice.ask("ping")

    assert second["text"].endswith("1 2 3 4")
    assert len([frame for frame in alice.heard if frame["type"] == "run.queued"]) == 2


@pytest.mark.parametrize("kind", TALKERS)
async def test_a_cancelled_answer_keeps_what_was_written(house: House, kind: str) -> None:
    async with await house.talk(kind, fresh("alice")) as alice:
        reading = await asked(alice, "count to 2000")
        await reading.follow(alice, lambda: reading.deltas >= 5)
        reply = await alice.ask("run.cancel", run=reading.run)
        await reading.follow(alice, lambda: False)
        again = await alice.ask("run.cancel", run=reading.run)
        await alice.ask("ping")

    assert set(reply) == {"type", "id", "run"}
    assert reply["run"]["id"] == reading.run
    assert reply["run"]["state"] == again["run"]["state"] == "cancelled"
    assert reading.ended["type"] == "run.cancelled"
    assert reading.final["metadata"]["state"] == "cancelled"
    assert reading.final["text"] == reading.text
    assert len(reading.text) < 2000
    assert alice.heard[-1]["type"] == "pong"
    assert [frame["type"] for frame in alice.heard].count("run.cancelled") == 1


@pytest.mark.parametrize("kind", [*TALKERS, "stream"])
async def test_the_end_of_an_answer_is_repeated_to_who_missed_it(house: House, kind: str) -> None:
    alice = await house.talk("text", fresh("alice"))
    token = alice.welcome["token"]
    reading = await asked(alice, "count to 60")
    await reading.follow(alice, lambda: reading.deltas >= 3)
    await alice.take("run.completed")
    alice.cut()

    back: Any
    if kind == "stream":
        back = await house.listen(reading.thread, token=token, last_id=reading.last_id)
    else:
        back = await house.talk(kind, token=token, resume=reading.resume)
    await reading.follow(back, lambda: False)
    back.cut()

    check_whole(reading)
    assert reading.text == SIXTY


@pytest.mark.parametrize("kind", TALKERS)
async def test_who_has_the_message_but_not_the_end_is_told_the_end(house: House, kind: str) -> None:
    alice = await house.talk("text", fresh("alice"))
    reading = await asked(alice, "count to 5")
    await reading.follow(alice, lambda: bool(reading.final))
    await alice.take("run.completed")
    alice.cut()

    async with await house.talk(kind, token=alice.welcome["token"], resume=reading.resume) as back:
        ended = await back.take("run.completed")
        await back.ask("ping")

    assert (ended["run"], ended["seq"]) == (reading.run, reading.final["seq"])
    assert "message" not in [frame["type"] for frame in back.heard]
    assert "run.delta" not in [frame["type"] for frame in back.heard]


async def test_an_answer_can_be_asked_for_without_a_message(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group("openai")
        await alice.post(thread, "count to 4")
        reply = await alice.ask("run.start", thread=thread, assistant="openai")
        answer = (await alice.take("message", lambda frame: frame["message"]["run"]))["message"]
        nobody = await alice.ask("run.start", thread=thread, assistant="nobody")

    assert set(reply["run"]) >= {"id", "thread", "assistant", "state", "attempt"}
    assert reply["run"]["state"] in ("queued", "running")
    assert answer["run"] == reply["run"]["id"]
    assert answer["text"].endswith("1 2 3 4")
    assert nobody["code"] == "not_found"


async def test_an_answer_asked_for_in_a_thread_the_assistant_is_not_in(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group()
        reply = await alice.ask("run.start", thread=thread, assistant="openai")

        if reply["type"] == "error":
            assert reply["code"] == "not_found"
        else:
            await alice.take("run.completed")
            view = await alice.ask("thread.list")
            mine = next(view for view in view["threads"] if view["id"] == thread)
            assert "openai" in mine["members"], "it wrote in a thread it is not a member of"


async def test_an_assistant_cannot_be_made_to_write_into_the_private_thread_of_two_others(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = (await alice.write(fresh("bob"), "only us two"))["thread"]
        reply = await alice.ask("run.start", thread=thread, assistant="openai")

    assert (reply["type"], reply.get("code")) in (("error", "bad_request"), ("error", "not_found"))


async def test_code_points_are_counted_not_bytes_or_utf16_units(house: House) -> None:
    text = "𝄞 naïve ☃ 👩‍👩‍👧 " * 10
    alice = await house.talk("text", fresh("alice"))
    token = alice.welcome["token"]
    reading = await asked(alice, f"repeat: {text}")
    await reading.follow(alice, lambda: reading.deltas >= 4)
    alice.cut()
    async with await house.talk("framed", token=token, resume=reading.resume) as back:
        await reading.follow(back, lambda: False)

    check_whole(reading)
    assert text.strip() in reading.text


async def test_two_answers_at_once_in_one_thread_are_kept_apart(house: House) -> None:
    async with await house.talk("text", fresh("alice")) as alice:
        thread = await alice.group("openai")
        await alice.post(thread, "@openai count to 30")
        await alice.post(thread, "@openai count to 31")
        ends = [await alice.take("run.completed") for _ in range(2)]
        texts: dict[str, str] = {}
        for frame in alice.heard:
            if frame["type"] == "run.delta":
                assert frame["offset"] == len(texts.get(frame["run"], ""))
                texts[frame["run"]] = texts.get(frame["run"], "") + frame["text"]
        page = await alice.ask("history", thread=thread)

    finals = {message["run"]: message["text"] for message in page["messages"] if message["run"]}
    assert finals == texts
    assert {end["run"] for end in ends} == set(finals)
    assert sorted(text.split()[-1] for text in finals.values()) == ["30", "31"]
