"""The same key again: acknowledgements are lost on the way, sends are repeated over other transports, and the server is
killed in between. One message, one number; the same key with another text is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import websockets

from support import checker
from support.faulty import CLEAN, End, Faults, FaultyProxy
from support.inbox import Frame, Over
from support.process import Server, running
from support.raw import Wire, request
from support.talkers import FramedClient
from support.witness import LOBBY, Remembering, connect, stored_log

SENDERS = 8
BATCH = 25
TRANSPORTS = ("framed", "text", "binary", "REST")
MET = {End.CUT: 5, End.RST: 3, End.DEAF: 2}


def losing_answers(chance: Random) -> Faults:
    """Somewhere between the welcome and the last acknowledgement nothing comes back any more."""
    end = chance.choices(list(MET), list(MET.values()))[0]
    return Faults(down=chance.randrange(1, 7000), end=end)


class Progress(Remembering):
    """How many different sends were acknowledged so far."""

    told = 0

    def one_more(self) -> None:
        self.told += 1
        self._news.set()


@dataclass
class Sender:
    """One member, who repeats what was not acknowledged and much that was."""

    name: str
    token: str
    proxy: FaultyProxy
    chance: Random
    progress: Progress
    told: dict[str, int] = field(default_factory=dict)  # key -> seq, as acknowledged first
    testimony: checker.Testimony = field(init=False)
    tries: Counter[str] = field(default_factory=Counter)  # of each key
    acks: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    kind: str = ""  # used last

    def __post_init__(self) -> None:
        self.testimony = checker.Testimony(self.name, keeps_order=False)

    async def send(self, batches: int) -> None:
        for batch in range(batches):
            keys = [f"{self.name}-{batch}-{at}" for at in range(BATCH)]
            self.testimony.sent.setdefault(LOBBY, []).extend(map(said, keys))
            self.proxy.faults = losing_answers
            for _ in range(self.chance.randint(1, 5)):
                await self._try(keys)
            self.proxy.faults = CLEAN
            while not all(key in self.told for key in keys) or min(self.tries[key] for key in keys) < 2:
                await self._try(keys)

    async def _try(self, keys: list[str]) -> None:
        """All of them once more, over any transport, as far as that comes."""
        kind = self.kind = self.chance.choice([kind for kind in TRANSPORTS if kind != self.kind])
        sends = list(self._with_others(keys))
        number = self.proxy.connections + 1
        hearing = asyncio.create_task(self._ask_rest(sends) if kind == "REST" else self._ask(kind, sends))
        deaf = asyncio.create_task(self._deafened(number))
        done, _ = await asyncio.wait([hearing, deaf], return_when=asyncio.FIRST_COMPLETED)
        if hearing not in done:
            hearing.cancel()
        deaf.cancel()
        await asyncio.wait([hearing, deaf])
        if not hearing.cancelled() and (wrong := hearing.exception()) is not None:
            if not isinstance(wrong, Over | OSError | EOFError | websockets.WebSocketException | IndexError):
                raise wrong
            await asyncio.sleep(self.chance.uniform(0, 0.02))  # the server may be away
        self.kinds[kind] += 1

    async def _deafened(self, number: int) -> None:
        """Until this connection keeps an answer from us."""
        await (await self.proxy.link(number)).swallowed.wait()

    def _with_others(self, keys: list[str]) -> Iterator[tuple[str, str]]:
        """(key, text). Here and there a used key has another text, behind the right one or, if that is known to be
        stored, anywhere."""
        for at, key in enumerate(keys):
            yield key, said(key)
            if self.chance.random() < 0.1:
                used = [*keys[: at + 1], *(other for other in keys[at:] if other in self.told)]
                yield self.chance.choice(used), "something else"

    async def _ask(self, kind: str, sends: list[tuple[str, str]]) -> None:
        talker = await connect(self.proxy, kind)
        try:
            await talker.send("hello", id="hello", token=self.token, threads=[])
            while (await talker._read()).get("id") != "hello":
                pass
            for at, (key, text) in enumerate(sends):
                await talker.send("message.send", id=at, key=key, thread=LOBBY, text=text)
            self.tries.update({key for key, _ in sends})
            waiting = iter(enumerate(sends))
            for at, (key, text) in waiting:
                frame = await talker._read()
                while "id" not in frame:
                    frame = await talker._read()
                assert frame["id"] == at
                self._answered(key, text, frame)
        finally:
            talker.cut()

    async def _ask_rest(self, sends: list[tuple[str, str]]) -> None:
        wire = await Wire.open(self.proxy.port)
        try:
            for key, text in sends:
                headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
                body: dict[str, Any] = {"text": text}
                if self.chance.random() < 0.5:
                    headers["idempotency-key"] = key
                else:
                    body["key"] = key
                wire.send(request("POST", f"/api/threads/{LOBBY}/messages", headers, json.dumps(body).encode()))
            self.tries.update({key for key, _ in sends})
            for key, text in sends:
                answer = await wire.response()
                assert answer.status in (201, 409, 503), answer
                self._answered(key, text, answer.json | {"type": "ack" if answer.status == 201 else "error"})
        finally:
            wire.cut()

    def _answered(self, key: str, text: str, frame: Frame) -> None:
        if text != said(key):
            assert (frame["type"], frame.get("code")) == ("error", "key_conflict"), frame
            self.conflicts += 1
        elif frame["type"] == "ack":
            assert self.told.setdefault(key, frame["seq"]) == frame["seq"], f"{key} was {self.told[key]}, now {frame}"
            if not self.acks[key]:
                self.progress.one_more()
            self.testimony.acked.setdefault(LOBBY, {})[text] = frame["seq"]
            self.acks[key] += 1
        else:
            assert frame["code"] in ("unavailable", "shutdown"), frame


def said(key: str) -> str:
    return f"what {key} says"


@pytest.mark.parametrize(
    ("sends", "kills"), [(2000, 3), pytest.param(20_000, 30, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
async def test_what_is_sent_again_with_its_key_is_one_message_with_one_number_over_any_transport_and_through_kills(
    tmp_path: Path, sends: int, kills: int
) -> None:
    seed = sends
    async with running(tmp_path / "home") as server:
        progress = Progress()
        senders = [await a_sender(server, number, seed, progress) for number in range(SENDERS)]
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(kill_in_between(server, progress, sends, kills))
            for one in senders:
                group.create_task(behind_its_network(one, sends // SENDERS // BATCH))
        assert killing.done()
        await server.kill()

    log = await stored_log(tmp_path / "home" / "hubbub.db")
    assert checker.check([one.testimony for one in senders], {LOBBY: log}) == []
    assert len(log) == sends
    assert sum(len(one.told) for one in senders) == sends
    # All this means little if the network was kind.
    tries = sum(one.tries.total() for one in senders)
    acks = sum(one.acks.total() for one in senders)
    assert tries > 3 * sends
    assert tries - acks > sends, "few acknowledgements were lost"
    assert acks > 1.2 * sends, "few were acknowledged twice"
    assert sum(one.conflicts for one in senders) > sends / 10
    assert all(one.kinds.keys() == set(TRANSPORTS) for one in senders)


async def a_sender(server: Server, number: int, seed: int, progress: Progress) -> Sender:
    name, chance = f"sender{number}", f"{seed}/{number}"
    async with await FramedClient.open(server.tcp_port) as talker:
        token = (await talker.hello(name))["token"]
    return Sender(name, token, FaultyProxy(server, losing_answers, seed=chance), Random(chance), progress)


async def behind_its_network(one: Sender, batches: int) -> None:
    async with one.proxy:
        try:
            await one.send(batches)
        except BaseException as failure:
            failure.add_note(f"the network's seed: {one.proxy.seed!r}")
            raise


async def kill_in_between(server: Server, progress: Progress, sends: int, kills: int) -> None:
    for number in range(1, kills + 1):
        await progress.until(lambda wanted=sends * number // (kills + 1): progress.told >= wanted, 60)  # type: ignore[misc]
        await server.kill()
        await server.start()
