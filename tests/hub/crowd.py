"""A hub with everything in memory, a bus and a store that can be as bad as theirs may be, and clients that check what
they hear."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from hubbub.buses.local import LocalBus
from hubbub.core import frames
from hubbub.core.feed import Feed, Verdict
from hubbub.core.forms import Shout
from hubbub.core.frames import RunDelta
from hubbub.core.nouns import Assistant, Draft, Membership, Message, Run, Thread, stamp
from hubbub.core.ports import Event, Lease, Page
from hubbub.hub.access import Caller
from hubbub.hub.auth import Auth
from hubbub.hub.hub import Hub
from hubbub.hub.session import Session
from hubbub.stores.memory import MemoryStore

MAY_STILL_COME = (b'{"type":"bye"', b'{"type":"thread"')
"""What a full socket is told all the same: that it is over, and what its member entered or left."""

ENDS = ("run.completed", "run.failed", "run.cancelled")


class Lines:
    """A form that is easy to read: one frame a line."""

    def encode(self, shouts: Sequence[Shout]) -> bytes:
        return b"".join(shout.payload + b"\n" for shout in shouts)


LINES = Lines()


class PausingStore(MemoryStore):
    """Every reading takes a few turns of the loop, as it does when the store is on another machine."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance

    async def _pause(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)

    async def read_after(self, thread: str, after: int, limit: int, max_bytes: int) -> Page:
        await self._pause()
        page = await super().read_after(thread, after, limit, max_bytes)
        await self._pause()
        return page

    async def run(self, id: str) -> Run | None:
        await self._pause()
        return await super().run(id)


class BadBus(LocalBus):
    """Events come when the test says so, and then perhaps not at all, twice, or in another order."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance
        self._on_the_way: list[Event] = []
        self.bad = True

    def publish(self, event: Event) -> None:
        if not self.bad:
            super().publish(event)
            return
        if isinstance(event.frame, RunDelta):
            self._extend(event.frame)
        self._on_the_way.append(event)

    def bring(self) -> None:
        """Some event arrives, or does not."""
        chance = self._chance
        if not self._on_the_way:
            return
        at = chance.randrange(min(4, len(self._on_the_way)))
        event = self._on_the_way[at] if chance.random() < 0.2 else self._on_the_way.pop(at)
        if chance.random() < 0.8:
            for hear in self._hearers:
                hear(event)


class Door:
    """A socket that takes `room` bytes and then is full."""

    kind = "test"

    def __init__(self) -> None:
        self.session: Session | None = None
        self.client: Client | None = None
        self.room = 1 << 40
        self.full = False
        self.writes = 0
        self.ended: str | None = None

    def write(self, data: bytes, /) -> None:
        assert self.client is not None
        self.writes += 1
        try:
            assert not self.full or data.startswith(MAY_STILL_COME), f"written to although it is full: {data[:40]!r}"
            self.client.hear(data)
        except AssertionError as wrong:  # raised from here it would end as a line in a log
            self.client.wrong.append(str(wrong))
        self.room -= len(data)
        if self.room <= 0:
            self.full = True
            assert self.session is not None
            self.session.stop()  # as a transport does, from within its `write`

    def drain(self, room: int = 1 << 40) -> None:
        self.room, was_full = room, self.full
        self.full = False
        if was_full and self.session is not None:
            self.session.go_on()

    address = ""

    def fileno(self) -> int:
        return -1

    def unsent(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end(self, code: str, reason: str) -> None:
        self.ended = code


class Client:
    """Somebody on the other side of the wire, who remembers what they heard and accepts no hole and no double."""

    def __init__(self, name: str, *, strict: bool = True) -> None:
        self.name = name
        self.strict = strict  # on a good bus: every piece exactly where the last one ended, every end in its place
        self.feed = Feed()
        self.first: dict[str, int] = {}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, tuple[int, str]] = {}
        self.places: dict[str, str] = {}  # run -> thread
        self.loose: set[str] = set()  # runs of threads that were left: they may go on from anywhere, or never
        self.over: set[str] = set()  # runs whose message was heard
        self.ended: dict[str, int] = {}
        self.left: set[str] = set()
        self.wrong: list[str] = []
        self.door = Door()
        self.session: Session | None = None

    async def connect(self, hub: Hub) -> None:
        """Come in, or come back to where they were."""
        self.door = Door()
        self.door.client = self
        self.session = self.door.session = Session(hub, self.door, LINES)
        runs = {run: (at, len(text)) for run, (at, text) in self.answers.items() if run not in self.ended}
        resume = frames.Resume(epoch=hub.store.epoch, threads=dict(self.feed.threads), runs=runs)
        views = await self.session.begin(Caller(self.name), None, resume)
        for view in views:
            assert isinstance(view.seen, int)
            if view.id not in self.feed.threads:
                self.start(view.id, view.seen)
        self.session.listen()

    def disconnect(self) -> None:
        if self.session is not None:
            self.session.lost()
        self.session = self.door.session = None

    def start(self, thread: str, seq: int) -> None:
        self.feed.threads[thread] = self.first[thread] = seq
        self.messages[thread] = []

    def leave(self, thread: str) -> None:
        self.feed.threads.pop(thread, None)
        self.left.add(thread)
        self.loose |= {run for run, place in self.places.items() if place == thread}

    def hear(self, data: bytes) -> None:
        for line in data.splitlines():
            frame = json.loads(line)
            kind = frame["type"]
            if kind == "message":
                self.hear_message(frame)
            elif kind == "run.delta":
                self.hear_piece(frame)
            elif kind == "run.reset":
                self.answers[frame["run"]] = (frame["attempt"], "")
            elif kind in ENDS:
                self.hear_end(frame)

    def hear_message(self, frame: dict[str, Any]) -> None:
        thread, seq, message = frame["thread"], frame["seq"], frame["message"]
        assert thread not in self.left, f"{self.name} heard {thread} {seq} after leaving"
        assert seq == message["seq"]
        if thread not in self.feed.threads:
            self.start(thread, seq - 1)
        verdict = self.feed.ask(thread, seq)
        assert verdict is Verdict.NEXT, f"{self.name} heard {thread} {seq} as {verdict} after {self.feed.threads}"
        self.messages[thread].append(message)
        self.over.add(message["run"])
        if (run := message["run"]) in self.answers and run not in self.loose:
            text = self.answers[run][1]
            whole: str = message["text"]
            assert whole == text if self.strict else whole.startswith(text), f"{text!r} of {whole!r}"

    def hear_piece(self, frame: dict[str, Any]) -> None:
        run, attempt, offset, text = frame["run"], frame["attempt"], frame["offset"], frame["text"]
        if run in self.loose or (run in self.over and not self.strict):
            return
        known, have = self.answers.get(run, (attempt, ""))
        if attempt > known:
            have = ""
        assert attempt >= known
        assert offset <= len(have), f"a hole between {len(have)} and {offset}"
        if self.strict:
            assert offset == len(have), f"{self.name} heard {run} from {offset} again, having {len(have)}"
            assert run not in self.ended
        assert have[offset:] == text[: len(have) - offset] or len(text) < len(have) - offset
        self.places[run] = frame["thread"]
        self.answers[run] = (attempt, have[:offset] + text if len(text) > len(have) - offset else have)

    def hear_end(self, frame: dict[str, Any]) -> None:
        run, thread = frame["run"], frame["thread"]
        self.ended[run] = self.ended.get(run, 0) + 1
        if self.strict:
            assert self.feed.threads[thread] >= frame["seq"], "an end before its message"


@asynccontextmanager
async def open_hub(store: MemoryStore, bus: LocalBus) -> AsyncIterator[Hub]:
    """A hub with an assistant and a thread `garden` for those who join it."""
    hub = Hub(
        store, bus, Auth(bytes(range(32)), guests=True), assistants=[Assistant(name="openai", instructions="Be kind.")]
    )
    await hub.start()
    await store.create_thread(Thread(id="garden", public=True), [Membership(thread="garden", member="openai")])
    try:
        yield hub
    finally:
        await hub.stop()


async def say(hub: Hub, text: str, sender: str = "alice", thread: str = "lobby") -> Message:
    """Somebody who is not listening writes something."""
    message = await hub.store.append(
        Draft(thread=thread, sender=sender, text=text, timestamp=stamp(0), destination=thread)
    )
    hub.posted(message)
    return message


async def quiet(turns: int = 60) -> None:
    """Until everything that can happen has happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


class Pen:
    """A worker that writes when the test says so."""

    def __init__(self, hub: Hub, lease: Lease) -> None:
        self.hub = hub
        self.lease = lease
        self.task = lease.task
        self.text = ""

    def write(self, text: str) -> None:
        delta = RunDelta(
            run=self.task.run,
            thread=self.task.thread,
            assistant=self.task.assistant,
            attempt=self.task.attempt,
            offset=len(self.text),
            text=text,
        )
        self.text += text
        self.hub.publish(self.task.thread, delta)
