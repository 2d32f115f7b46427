"""One simulated world a seed: people, a server that dies and comes back, and at each step something that goes wrong.

`run(seed)` lives through it and returns what was wrong, with its trace. The same seed gives the same trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from hubbub.hub.session import Session
from simulation.clock import OWNER, Stuck, VirtualLoop, virtual_time
from simulation.disk import Disk, Weather
from simulation.doings import NAMES, Doings
from simulation.judge import Judge
from simulation.network import Connection, Network
from simulation.people import Device
from simulation.server import NumberedSession, Server

STEPS = 90
CALM_S = 60.0
"""Once nothing goes wrong any more, everything must have come to rest after so long."""

EXPECTED_LOGS = frozenset({"run_not_begun", "run_end_not_stored", "mark_not_moved", "engine_failed", "sweep_failed"})


@dataclass
class Outcome:
    """How one world ended. `wrongs` is empty when every promise was kept."""

    seed: int
    wrongs: list[str]
    trace: list[str]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def __str__(self) -> str:
        return "\n".join(
            [f"seed {self.seed} (HUBBUB_SEED={self.seed} runs it alone)", *self.trace[-60:], "wrong:", *self.wrongs]
        )


class World(Doings, Judge):
    """Everything there is."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.loop = VirtualLoop()
        self.context = contextvars.copy_context()
        self.trace: list[str] = []
        self.wrongs: list[str] = []
        self.over = False
        self.calm = False
        self.written: dict[str, list[str]] = {}  # run -> what the engine wrote at each attempt
        self.tokens: dict[str, str] = {}
        chance = self.chance
        self.bus_badness = chance.choice((0.0, 0.0, 0.3, 1.0))
        self.send_rate = chance.choice((0.0, 20.0))
        self.flood = chance.random() < 0.12  # long texts, and readers that stop
        self.network = Network(self.loop, chance, (65536, 262144) if self.flood else (700, 4096, 65536, 262144))
        self.disk = Disk(self.loop, chance, self.note)
        self.disk_fails = chance.random() < 0.6
        self.server: Server | None = None
        self.rough_at = 0.0  # when something last went wrong that delays everybody
        self.counts: dict[str, int] = {}
        names = NAMES[: chance.randint(3, 5)]
        self.devices = [Device(self, name, 1) for name in names]
        self.devices += [Device(self, chance.choice(names), n) for n in range(2, 2 + chance.randint(0, 3))]
        self.texts = itertools.count(1)
        self._restarting = False
        self._main: asyncio.Task[None] | None = None

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():9.4f} {text}")

    def complain(self, wrong: str) -> None:
        if self.over:
            return
        wrong = wrong[:400]
        self.note(f"WRONG {wrong}")
        self.wrongs.append(wrong)
        if self._main is not None:
            self._main.cancel()

    # The server's life

    def connect(self, kind: str, hear: Callable[[bytes], None]) -> Connection | None:
        return self.server.connect(kind, hear) if self.server is not None else None

    def start(self) -> None:
        self._restarting = False
        if self.server is None:
            self.server = Server(self)
            self.server.start()

    def crash(self) -> None:
        """`kill -9`."""
        server, self.server = self.server, None
        if server is None:
            return
        self.note("CRASH")
        self.count("crashes")
        self.rough()
        server.vanish()
        server.store.crash()
        self._start_again()

    def stop(self) -> None:
        """SIGTERM."""
        if self.server is not None and not self.server.stopping and self.server.accepting:
            self.note("STOP")
            self.count("stops")
            self.rough()
            self.server.stop()

    def exited(self, server: Server) -> None:
        if self.server is server:
            self.server = None
            self.rough()
            server.vanish()
            self._start_again()

    def _start_again(self) -> None:
        if self._restarting:
            return
        self._restarting = True
        if self.disk.backup is not None and not self.calm and self.chance.random() < 0.15:
            self.count("restores")
            self.disk.restore()
        self.loop.call_later(self.chance.uniform(0.01, 1.0), self.start, context=self.context)

    def rough(self) -> None:
        self.rough_at = self.loop.time()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # What happens

    async def live(self) -> None:
        self.start()
        for device in self.devices:
            device.come(self.chance.uniform(0, 1))
        await asyncio.sleep(0.5)
        steps = list(self.ACTIONS)
        weights = [self.ACTIONS[step] for step in steps]
        for _ in range(STEPS):
            await asyncio.sleep(self.chance.expovariate(1 / 0.25))
            step = self.chance.choices(steps, weights)[0]
            getattr(self, f"do_{step}")(self.chance.choice(self.devices))
            self.judge_now()
        await self._calm_down()

    async def _calm_down(self) -> None:
        """Nothing goes wrong any more; then everything has to be as it was promised."""
        self.note("calm")
        self.calm = True
        self.disk.weather = Weather()
        self.rough()
        if self.server is not None:
            self.server.engine.calm = True
            self.server.bus.badness = 0.0
        for device in self.devices:
            device.away = False
            device.come()
            if device.line is not None and device.line.connection is not None:
                device.line.connection.read(True)
        # With a bus that loses, the last word on what was lost is the next message.
        until = self.loop.time() + CALM_S
        missing = self.missing()
        while missing and self.loop.time() < until:
            await asyncio.sleep(0.5)
            self.judge_now()
            missing = self.missing()
        for wrong in missing:
            self.complain(wrong)
        self.judge_end()

    # From the beginning to the end

    def lived(self) -> Outcome:
        def to_trace(logger: Any, method: str, event: dict[str, Any]) -> Any:
            owner = OWNER.get()
            what = event.pop("event")
            if not (isinstance(owner, Server) and owner.dead):
                failure = event.pop("exc_info", None)
                self.note(f"log {what} {event} {failure if failure is not True else ''}")
                if method in ("error", "exception") and what not in EXPECTED_LOGS:
                    self.complain(f"logged {what}: {event} {failure!r}")
            raise structlog.DropEvent

        def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            self.complain(f"unhandled: {context.get('message')} {context.get('exception')!r}")

        NumberedSession.numbers = itertools.count()
        self.loop.set_exception_handler(unhandled)
        with contextlib.ExitStack() as patches:
            patches.enter_context(virtual_time(self.loop))
            patches.enter_context(patch("secrets.token_bytes", self._bytes))
            patches.enter_context(patch("hubbub.hub.crowd.os", self.network.os))
            patches.enter_context(patch("hubbub.transports.tcp.Session", NumberedSession))
            patches.enter_context(patch("hubbub.transports.websocket.Session", NumberedSession))
            before = structlog.get_config()
            structlog.configure(processors=[to_trace])
            patches.callback(structlog.configure, **before)
            self._main = self.loop.create_task(self.live())
            try:
                self.loop.run_until_complete(self._main)
            except asyncio.CancelledError:
                pass
            except Stuck as stuck:
                self.wrongs.append(f"stuck: {stuck}")
            self.over = True
            with patch.object(Session, "_advance", lambda session: None):  # unwinding must begin nothing
                self.loop.finish()
        return Outcome(self.seed, self.wrongs, self.trace, self.counts)

    def _bytes(self, count: int | None = None) -> bytes:
        return self.chance.randbytes(count or 32)


def run(seed: int) -> Outcome:
    """Live through the world of that seed."""
    return World(seed).lived()
