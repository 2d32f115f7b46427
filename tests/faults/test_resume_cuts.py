"""Readers cut off after any byte come back over another transport and are told exactly the rest.

Written strictly: a reader says how far it had heard, and from then on nothing may come that it had, nothing may be left
out, and every piece of an answer begins at the very character it said. `Last-Event-ID` is used as a browser uses it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import websockets

from support import checker
from support.faulty import CLEAN, End, Faults, FaultyProxy
from support.inbox import Frame, Over
from support.listeners import SseReader
from support.process import Server, running
from support.talkers import FramedClient, Talker
from support.witness import LOBBY, Remembering, connect, told_log

READERS = 25
ANSWERS = 4  # at least
PACE = {"HUBBUB_DEMO_WORD_S": "0.001"}
TRANSPORTS = ("framed", "text", "binary", "SSE")
ENDS = {End.CUT: 6, End.RST: 3, End.HALF: 1}
STREAM = f"/api/threads/{LOBBY}/events"
GONE = (Over, OSError, EOFError, websockets.WebSocketException)


def question(number: int) -> tuple[str, str]:
    """And the answer: plain numbers, or characters that are more than one byte or one UTF-16 unit."""
    if number % 4 < 2:
        return f"@openai count to {400 + number}", "(demo model) " + " ".join(map(str, range(1, 401 + number)))
    text = " ".join(f"{at}·ä€𝄞🙂" for at in range(number, number + 200))
    return f"@openai repeat: {text}", f"(demo model) {text}"


def a_cut(chance: Random) -> Faults:
    """Within the first bytes, within what was missed, within what is live."""
    down = chance.randrange(1, chance.choice([1000, 5000, 20_000]))
    if chance.random() < 0.1:
        return Faults(up=chance.randrange(1, 400), down=down, end=chance.choice([End.CUT, End.RST]))
    return Faults(down=down, end=chance.choices(list(ENDS), list(ENDS.values()))[0])


class Reader:
    """One reader over many connections, who knows how far it has heard and believes nothing else."""

    def __init__(self, name: str, proxy: FaultyProxy, token: str, epoch: str, chance: Random) -> None:
        self.testimony = checker.Testimony(name, began={LOBBY: 0}, shown={LOBBY: []})
        self.proxy = proxy
        self.chance = chance
        self.token = token
        self.epoch = epoch
        self.cursor = 0
        self.kind = ""
        self.kinds: Counter[str] = Counter()
        self.runs: dict[str, str] = {}  # those whose end was not told yet, and what was told of them
        self.finals: dict[str, str] = {}
        self.ended: set[str] = set()
        self.spliced = 0  # answers whose pieces were the whole text
        self.resumed_within = 0  # connections that began in the middle of an answer
        self._named: dict[str, int] = {}  # positions within answers, as this connection began with
        self._at: dict[str, int] = {}  # on this connection: where the next piece of a run must begin
        self._last_id = ""

    async def read(self, kind: str, enough: Callable[[], bool] = lambda: False) -> None:
        """One connection: resume, and hear until it ends or that is enough."""
        self.kind = kind
        self.kinds[kind] += 1
        if kind == "SSE":
            stream = await self._open_stream()
            try:
                while not enough():
                    frame = await stream._read()
                    self._hear(frame)
                    self._check_id(frame, stream.ids[-1])
                    self._last_id = stream.last_id
            finally:
                stream.cut()
            return
        self._last_id = ""
        talker = await connect(self.proxy, kind)
        try:
            await self._hello(talker)
            while not enough():
                self._hear(await talker._read())
        finally:
            talker.cut()

    async def _open_stream(self) -> SseReader:
        last_id = self._last_id or self._position()
        named = last_id.split(".")[2:]
        self._begin({named[0]: int(named[2])} if named else {})
        try:
            return await SseReader.open(self.proxy.port, STREAM, token=self.token, last_id=last_id)
        except (ValueError, IndexError) as half_a_head:
            raise Over from half_a_head

    async def _hello(self, talker: Talker) -> None:
        self._begin({run: len(text) for run, text in self.runs.items()})
        runs = {run: [1, at] for run, at in self._named.items()}
        resume = {"epoch": self.epoch, "threads": {LOBBY: self.cursor}, "runs": runs}
        await talker.send("hello", id="hello", token=self.token, threads=[LOBBY], resume=resume)
        welcome = await talker._read()
        assert (welcome["type"], welcome["id"]) == ("welcome", "hello"), welcome

    def _position(self) -> str:
        """A `Last-Event-ID` for what other transports told. It can name one answer."""
        being_written = [run for run, text in self.runs.items() if text and run not in self.finals]
        if not being_written:
            return f"{self.epoch}.{self.cursor}"
        run = being_written[-1]
        return f"{self.epoch}.{self.cursor}.{run}.1.{len(self.runs[run])}"

    def _begin(self, named: dict[str, int]) -> None:
        self._named, self._at = named, dict(named)

    def _check_id(self, frame: Frame, id: str | None) -> None:
        if frame["type"] == "message":
            assert id == f"{self.epoch}.{self.cursor}"
        elif frame["type"] == "run.delta":
            assert id == f"{self.epoch}.{self.cursor}.{frame['run']}.1.{frame['offset'] + len(frame['text'])}"
        else:
            assert id is None

    def _hear(self, frame: Frame) -> None:
        match frame["type"]:
            case "message":
                self._message(frame)
            case "run.queued" | "run.started":
                assert frame["run"] not in self.ended
                self.runs.setdefault(frame["run"], "")
            case "run.delta":
                self._piece(frame["run"], frame["offset"], frame["text"])
            case "run.completed":
                run = frame["run"]
                assert run in self.finals, f"{run} ended before its message"
                assert run not in self.ended, f"{run} ended twice"
                self.ended.add(run)
                del self.runs[run]
            case "presence" | "thread" | "typing":
                pass
            case other:
                raise AssertionError(f"{other} was not to be told: {frame}")

    def _message(self, frame: Frame) -> None:
        seq, text, run = frame["seq"], frame["message"]["text"], frame["message"]["run"]
        assert seq == self.cursor + 1, f"{seq} was told over {self.kind} right after {self.cursor}"
        self.cursor = seq
        self.testimony.shown[LOBBY].append((seq, text))
        if run is not None:
            heard = self.runs.setdefault(run, "")
            assert text.startswith(heard), f"told {heard[-40:]!r}, which is not in {text[-40:]!r}"
            if self._at.get(run):
                assert heard == text, f"of {run} {heard[-40:]!r} was told when it ended with {text[-40:]!r}"
                self.spliced += 1
            self.finals[run] = text

    def _piece(self, run: str, offset: int, text: str) -> None:
        assert run not in self.finals, f"a piece of {run} came after its message"
        expected = self._at.get(run, 0)
        assert offset == expected, f"{run} over {self.kind}: a piece begins at {offset}, not at {expected}"
        self.resumed_within += bool(self._named.pop(run, 0))
        self._at[run] = offset + len(text)
        heard = self.runs.get(run, "")
        assert text.startswith(heard[offset:]) or heard[offset:].startswith(text)
        self.runs[run] = max(heard, heard[:offset] + text, key=len)


class Progress(Remembering):
    """How often readers were cut off by now, and the answers that were written meanwhile."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.cuts = 0
        self.answers: list[str] = []

    @property
    def enough(self) -> bool:
        return self.cuts >= self.wanted and len(self.answers) >= ANSWERS

    def cut(self) -> None:
        self.cuts += 1
        self._news.set()

    def answered(self, text: str) -> None:
        self.answers.append(text)
        self._news.set()


async def read_under_cuts(reader: Reader, progress: Progress) -> None:
    async with reader.proxy as proxy:
        try:
            while True:
                met = proxy.met
                with suppress(*GONE):
                    await reader.read(reader.chance.choice([kind for kind in TRANSPORTS if kind != reader.kind]))
                if proxy.met > met:
                    progress.cut()
        except Exception as failure:
            failure.add_note(f"the network's seed: {proxy.seed!r}, after {proxy.connections} connections")
            raise


async def hear_the_rest(reader: Reader, head: int, runs: int) -> None:
    async with reader.proxy as proxy, asyncio.timeout(20):
        proxy.faults = CLEAN
        await reader.read("framed", lambda: reader.cursor == head)
        if reader.runs:  # the end of an answer it had not heard of before is told to who asks for it
            await reader.read("text", lambda: not reader.runs)
    assert len(reader.ended) == len(reader.finals) == runs


async def write(server: Server, progress: Progress) -> checker.Testimony:
    """One message after the other, about two hundred a second."""
    said = checker.Testimony("writer", sent={LOBBY: []}, acked={LOBBY: {}})
    async with await FramedClient.open(server.tcp_port) as writer:
        await writer.hello("writer", threads=[])
        for number in itertools.count():
            if progress.enough:
                return said
            said.sent[LOBBY].append(text := f"line {number}: ünïcödé 🙂" + "·" * (number % 97))
            said.acked[LOBBY][text] = (await writer.post(LOBBY, text))["seq"]
            await asyncio.sleep(0.005)
    raise AssertionError


async def ask(server: Server, progress: Progress, which: int) -> None:
    """One question after the other; two do, so that two answers are being written at once."""
    async with await FramedClient.open(server.tcp_port) as asker:
        await asker.hello(f"asker{which}", threads=[LOBBY])
        for number in itertools.count(which, 2):
            if progress.enough:
                return
            text, answer = question(number)
            await asker.post(LOBBY, text)
            async with asyncio.timeout(30):
                while (frame := await asker._read())["type"] != "message" or frame["message"]["text"] != answer:
                    pass
            progress.answered(answer)


@pytest.mark.parametrize(
    ("cuts", "seed"), [(500, 1), pytest.param(10_000, 2, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_readers_cut_off_after_any_byte_are_told_exactly_the_rest_over_whatever_transport_they_come_back(
    tmp_path: Path, cuts: int, seed: int
) -> None:
    async with running(tmp_path / "home", PACE) as server, await FramedClient.open(server.tcp_port) as anchor:
        welcome = await anchor.hello("reader", threads=[])
        progress = Progress(cuts)
        readers = [
            Reader(
                f"reader {number}",
                FaultyProxy(server, a_cut, seed=f"{seed}/{number}"),
                welcome["token"],
                welcome["server"]["epoch"],
                Random(f"{seed}/{number}"),
            )
            for number in range(READERS)
        ]
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write(server, progress))
            for which in range(2):
                group.create_task(ask(server, progress, which))
            reading = [group.create_task(read_under_cuts(reader, progress)) for reader in readers]
            await progress.until(lambda: progress.enough, 20 + cuts / 20)
            for task in reading:
                task.cancel()
        said, answers = writing.result(), progress.answers
        log = await told_log(server)
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(hear_the_rest(reader, len(log), len(answers)))
        assert "Traceback" not in server.said

    assert checker.check([said, *(reader.testimony for reader in readers)], {LOBBY: log}) == []
    finals = [text for _, sender, text in log if sender == "openai"]
    assert sorted(finals) == sorted(answers)
    for reader in readers:
        assert list(reader.finals.values()) == finals
    assert progress.cuts >= cuts
    # All this means little unless cuts fell into answers and over every transport.
    assert all(sum(reader.kinds[kind] for reader in readers) > cuts / 8 for kind in TRANSPORTS)
    assert sum(reader.resumed_within for reader in readers) > cuts / 8
    assert sum(reader.spliced for reader in readers) > READERS
