"""Thirty-two people who write, read and ask, spread over the nodes of a cluster and over every transport."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator
from random import Random

from hubbub.core.nouns import Message, RunState, new_id
from support.checker import check
from support.cluster import Cluster
from support.lines import LineClient
from support.talkers import FramedClient
from support.witness import LOBBY, Remembering, StreamWitness, Witness, told_log

TALKERS = 24
STREAMS = 4
TYPISTS = 4
KINDS = ("text", "binary", "framed")
PATIENCE_S = 1.5
SETTLED_S = 40.0
MARK = re.compile(r"<(.+?)>")


class Typist(Remembering):
    """Somebody with `nc`, who signs in by name each time. `shown` has the marks of the messages, by connection."""

    def __init__(self, name: str, at: object, seed: int) -> None:
        super().__init__()
        self.name = name
        self.typed: list[str] = []
        self.shown: list[list[str]] = []
        self.done = False
        self.client: LineClient | None = None
        self.ready = asyncio.Event()
        self._at = at
        self._chance = Random(seed)

    def type(self, text: str) -> None:
        """Once, if there is a connection; it may be lost with it."""
        if self.ready.is_set() and self.client is not None:
            self.typed.append(text)
            self.client.type(f"#lobby: {text}")

    @property
    def newest(self) -> str:
        return next((marks[-1] for marks in reversed(self.shown) if marks), "")

    async def live(self) -> None:
        while not self.done:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    self.client = await LineClient.open(self._at.tcp_port)  # type: ignore[attr-defined]
                self.client.type(self.name)
                await self._read(self.client)
            self.ready.clear()
            if self.client is not None:
                self.client.cut()
            await asyncio.sleep(self._chance.uniform(0.05, 0.2))

    async def _read(self, client: LineClient) -> None:
        """Until the end, or until it is silent for long: nobody with nc would stay."""
        text, marks = "", list[str]()
        self.shown.append(marks)
        while True:
            async with asyncio.timeout(PATIENCE_S if not self.ready.is_set() else None):
                data = await client.reader.read(65536)
            text += data.decode(errors="replace")
            if not data or "already taken" in text:
                return
            if "Connected!" in text:
                self.ready.set()
            *lines, text = text.split("\n")
            for line in lines:
                marks += MARK.findall(line)
            self._news.set()


class People:
    """32 of them. Names are new each time, and so are all texts."""

    def __init__(self, cluster: Cluster) -> None:
        mark = new_id()[:6].lower().replace("_", "x").replace("-", "x")
        self.cluster = cluster
        self.mark = mark
        self.talkers = [
            Witness(
                f"{mark}-{KINDS[i % 3]}-{i}",
                cluster.doors(i // 3),
                [KINDS[i % 3]],
                window=1 if i % 2 else 4,
                seed=i,
                patience_s=PATIENCE_S,
            )
            for i in range(TALKERS)
        ]
        self.streams: list[StreamWitness] = []
        self.typists = [Typist(f"{mark}-lines-{i}", cluster.doors(i), i) for i in range(TYPISTS)]
        self.questions = 0
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        for i in range(STREAMS):
            name = f"{self.mark}-stream-{i}"
            async with await FramedClient.open(self.cluster.doors(i).tcp_port) as first:
                welcome = await first.hello(name, threads=[LOBBY])
            stream = StreamWitness(
                name, self.cluster.doors(i), token=welcome["token"], seed=i, patience_s=PATIENCE_S * 4
            )
            stream.testimony.began[LOBBY] = welcome["threads"][0]["seen"]
            self.streams.append(stream)
        everybody = [*self.talkers, *self.streams, *self.typists]
        tasks = [asyncio.create_task(one.live()) for one in everybody]
        try:
            async with asyncio.timeout(30):
                for one in everybody:
                    await one.ready.wait()
            yield
            for task in tasks:
                assert not task.done() or task.result() is None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def say(self, one: Witness) -> None:
        one.say(f"<{one.name}/{next(self._numbers)}>".ljust(100, "."))

    def all_say(self, count: int) -> None:
        for _ in range(count):
            for one in self.talkers:
                self.say(one)

    def ask(self, chance: Random, count: int = 3) -> None:
        for one in chance.sample(self.talkers, count):
            self.questions += 1
            one.say(f"@openai repeat: {one.name} {next(self._numbers)} and twenty words more " + "word " * 20)

    async def chatter(self, chance: Random) -> None:
        """Some say something ten times a second, until cancelled."""
        while True:
            for one in chance.sample(self.talkers, 4):
                if len(one._waiting) < 10:
                    self.say(one)
            chance.choice(self.typists).type(f"<{self.mark}-typed/{next(self._numbers)}>")
            await asyncio.sleep(0.1)

    async def level(self) -> float:
        """Until everything was acknowledged, and everybody who reads by number has heard all of it: how long it took
        from the last acknowledgement."""
        for one in self.talkers:
            await one.until(lambda one=one: one.settled, SETTLED_S)  # type: ignore[misc]
        began = time.monotonic()
        head = max(seq for one in self.talkers for seq in one.testimony.acked.get(LOBBY, {"": 0}).values())
        for reader in (*self.talkers, *self.streams):
            await reader.until(lambda reader=reader: (reader.cursor or 0) >= head, SETTLED_S)  # type: ignore[misc]
        return time.monotonic() - began

    async def judged(self) -> None:
        """Everything that was said, promised and shown, against what MongoDB holds."""
        await self._answered()
        log = await self._told_alike()
        plain = [(message.seq, message.sender, message.text) for message in log]
        for reader in (*self.talkers, *self.streams):
            await reader.until(lambda reader=reader: (reader.cursor or 0) >= len(log), SETTLED_S)  # type: ignore[misc]
        wrongs = check([one.testimony for one in (*self.talkers, *self.streams)], {LOBBY: plain})
        assert not wrongs, wrongs[:20]
        for one in self.talkers:
            assert len(one.testimony.acked[LOBBY]) == len(one.testimony.sent[LOBBY])
            assert not one.resets
        marked = [(message.sender, MARK.findall(message.text)[0]) for message in log if "<" in message.text]
        for typist in self.typists:
            others = [mark for sender, mark in marked if sender != typist.name]
            await typist.until(lambda typist=typist, others=others: typist.newest == others[-1], SETTLED_S)  # type: ignore[misc]
            _judge_lines(typist, others)

    async def _told_alike(self) -> list[Message]:
        """The log, once every node tells the same and what was typed last is in it, if it ever will be."""
        async with asyncio.timeout(SETTLED_S):
            while True:
                log = await self.cluster.log()
                plain = [(message.seq, message.sender, message.text) for message in log]
                told = [
                    await told_log(node, name=f"{self.mark}-{place}") for place, node in enumerate(self.cluster.nodes)
                ]
                if told == [plain] * len(told):
                    return log

    async def _answered(self) -> None:
        """Each question has one answer in the log, and each run one end."""
        async with asyncio.timeout(SETTLED_S), self.cluster.store() as store:
            while await store.open_runs():  # noqa: ASYNC110 - other processes end them
                await asyncio.sleep(0.1)
            log = await self.cluster.log()
            asked = [m.seq for m in log if m.text.startswith("@openai") and m.sender.startswith(self.mark)]
            assert len(asked) == self.questions
            runs = [await store.run(message.run) for message in log if message.run is not None]
        ours = [run for run in runs if run is not None and run.trigger in asked]
        assert len(ours) == len(runs[len(runs) - len(ours) :])
        assert sorted(run.trigger for run in ours) == asked
        failed = [run.error for run in ours if run.state is RunState.FAILED]
        assert [run.state for run in ours].count(RunState.COMPLETED) == len(ours) - len(failed)
        print(f"{len(failed)} of {len(ours)} answers failed: {set(failed)}")
        ends = {one.name: one.ends for one in self.talkers}
        for name, told in ends.items():
            assert len(told) == len(set(told)), f"{name} was told an end twice"


def _judge_lines(typist: Typist, log: list[str]) -> None:
    """Nothing is missing and everything in order. After a cut connection, what was shown just before may come again."""
    at = {mark: place for place, mark in enumerate(log)}
    last: int | None = None
    for marks in typist.shown:
        places = [at[mark] for mark in marks]
        if not places:
            continue
        assert places == list(range(places[0], places[0] + len(places))), f"{typist.name}: {places}"
        assert last is None or places[0] <= last + 1, f"{typist.name} was not shown {log[last + 1 : places[0]]}"
        last = places[-1] if last is None else max(last, places[-1])
    assert last == len(log) - 1
