"""The server's own hub, sessions, doors, worker and runs, as a process that can vanish.

What is not its own: the store is a `DiskStore`, the bus loses, doubles, delays and reorders what it carries, the
engine writes what chance says, and tokens are made without cryptography.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from hubbub.buses.local import LocalBus
from hubbub.core.errors import Problem, Unauthorized
from hubbub.core.nouns import Assistant, Prompt
from hubbub.core.ports import EngineFailure, Event
from hubbub.engines.demo import DemoEngine
from hubbub.hub.auth import Auth, Claims
from hubbub.hub.hub import Hub
from hubbub.hub.limits import Limits
from hubbub.hub.session import Session
from hubbub.hub.worker import Worker
from hubbub.transports.tcp import Threshold
from hubbub.transports.websocket import WebSocketDoor
from simulation.clock import OWNER
from simulation.disk import DiskStore
from simulation.network import Connection

if TYPE_CHECKING:
    from simulation.world import World

SLOW_S = 4.0
ASSISTANTS = ("openai", "ada")
WORDS = ("tea ", "Grüße ", "👋🏽 ", "naïve ", "\n", "é", "  ", "and so on, ", "日本語", "x" * 40)
STOPS_WITHIN_S = 30.0


class PlainAuth(Auth):
    """Tokens that are the same in every run."""

    def issue(self, name: str, now: float, generation: int = 0, sign_in: str = "") -> str:
        return f"token-of-{name}"

    def read(self, token: str) -> Claims:
        if not token.startswith("token-of-"):
            raise Unauthorized("Not a token.")
        return Claims(token.removeprefix("token-of-"), "its id", 1e12, 0)


class NumberedSession(Session):
    """Sets of sessions are walked in the same order in every run."""

    __slots__ = ("number",)
    numbers = itertools.count()

    def __init__(self, *args: Any, **named: Any) -> None:
        self.number = next(self.numbers)
        super().__init__(*args, **named)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class BadBus(LocalBus):
    """Carries hints as a bus between machines may. `badness` 0 is the bus of a single process."""

    def __init__(self, chance: Random, badness: float) -> None:
        super().__init__()
        self._chance = chance
        self.badness = badness

    def listen(self, hear: Callable[[Event], None], ended: Callable[[str], None], *others: Any) -> None:
        super().listen(lambda event: self._carry(hear, event), lambda run: self._carry(ended, run))

    def _carry(self, to: Callable[[Any], None], what: Any) -> None:
        if not self.badness:
            to(what)
            return
        bad = self._chance.random() / self.badness
        times = 0 if bad < 0.3 else 2 if bad < 0.5 else 1
        for _ in range(times):
            late = self._chance.random() < self.badness
            asyncio.get_running_loop().call_later(self._chance.uniform(0, 0.5 if late else 0.002), to, what)


class Scribe:
    """An engine that writes whatever; `written` holds all it said, by run and attempt at it."""

    name = "scribe"
    batch = 4
    at_once = 8

    def __init__(self, chance: Random, written: dict[str, list[str]]) -> None:
        self._chance = chance
        self._written = written
        self._demo = DemoEngine(word_s=0.05)
        self.calm = False

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, str]]:
        chance = self._chance
        texts = [self._written.setdefault(prompt.run, []) for prompt in prompts]
        for text in texts:
            text.append("")
        if prompts[0].turns[-1].text.startswith("repeat:"):
            async for at, piece in self._demo.answer(prompts):
                texts[at][-1] += piece
                yield at, piece
            return
        left = {at: chance.randint(0, 12) for at in range(len(prompts))}
        await asyncio.sleep(chance.uniform(0, 0.5))
        while left:
            at = chance.choice(list(left))
            left[at] -= 1
            if left[at] < 0:
                del left[at]
                yield at, ""
                continue
            if not self.calm and chance.random() < 0.01:
                raise EngineFailure("It rained.") if chance.random() < 0.7 else KeyError("a mistake in the engine")
            piece = chance.choice(WORDS)
            texts[at][-1] += piece
            yield at, piece
            if chance.random() < 0.7:
                await asyncio.sleep(chance.expovariate(1 / 0.15))


class Server:
    """One process, from its start to its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.store = DiskStore(world.disk)
        self.bus = BadBus(world.chance, world.bus_badness)
        self.engine = Scribe(world.chance, world.written)
        self.hub: Hub | None = None
        self.worker: asyncio.Task[None] | None = None
        self.connections: list[Connection] = []
        self.accepting = False
        self.stopping = False
        self.dead = False
        self.websockets: set[Any] = set()

    def _task(self, work: Any) -> asyncio.Task[Any]:
        return self._world.loop.create_task(work, context=self.context.copy())

    def start(self) -> None:
        self._task(self._start())

    async def _start(self) -> None:
        world = self._world
        self.hub = Hub(
            self.store,
            self.bus,
            PlainAuth(bytes(range(32)), guests=True),
            assistants=[Assistant(name=name, instructions="Be kind.") for name in ASSISTANTS],
            limits=Limits(slow_s=SLOW_S, send_rate=world.send_rate, send_burst=world.send_rate * 2),
            clock=lambda: 1.8e9 + world.loop.time(),
        )
        try:
            await self.hub.start()
        except Problem as failure:
            world.note(f"server could not start: {failure.code}")
            world.loop.call_soon(world.crash, context=world.context)
            return
        self.worker = self.hub.spawn(self._work(), standing=True)
        self.accepting = True
        world.note("server started")

    async def _work(self) -> None:
        """As `App._work`."""
        while True:
            try:
                await Worker(self.bus, self.engine).work()
            except Exception as died:
                self._world.complain(f"the worker died: {died!r}")
                await asyncio.sleep(0.1)

    def connect(self, kind: str, hear: Callable[[bytes], None]) -> Connection | None:
        """A new connection; None when it is refused."""
        if not self.accepting or self.dead:
            return None
        assert self.hub is not None
        protocol: asyncio.Protocol = (
            Threshold(self.hub) if kind == "framed" else self.context.run(WebSocketDoor, self.hub, self.websockets)
        )
        connection = Connection(self._world.network, protocol, self.context, hear)
        self.connections.append(connection)
        return connection

    def stop(self) -> None:
        """As SIGTERM: the order of `App`."""
        if not self.stopping and self.accepting:
            self.stopping = True
            self._task(self._stop())

    async def _stop(self) -> None:
        world, began = self._world, self._world.loop.time()
        assert self.hub is not None
        assert self.worker is not None
        await self.hub.drain()
        self.accepting = False
        self.worker.cancel()
        await asyncio.wait([self.worker])
        await self.hub.stop()
        await self.store.close()
        took = world.loop.time() - began
        world.note(f"server stopped after {took:.2f} s")
        if took > STOPS_WITHIN_S:
            world.complain(f"G8: it took {took} s to stop")
        world.loop.call_soon(world.exited, self, context=world.context)

    def vanish(self) -> None:
        """Nothing of it runs any more; the kernel closes its connections."""
        self.dead = True
        self.accepting = False
        self._world.loop.vanish(self)
        for connection in self.connections:
            connection.transport.die()
