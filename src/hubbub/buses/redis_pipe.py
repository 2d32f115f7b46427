"""One connection to Redis through which everything that changes it goes, in the order it was said.

What is said while a round trip is under way goes with the next one, together. Every script may be sent again without
harm (redis_scripts.py), so after a failure the same commands go out once more, first of all; only those somebody is
waiting for with impatience are told that Redis is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.retry
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TooSlow

from hubbub.buses.redis_scripts import SCRIPTS, SHA
from hubbub.core.errors import BadRequest, Unavailable

log = structlog.get_logger("hubbub.redis")

Value = str | bytes | int | float

PATIENCE_S = 2.0
"""How long Redis may take to answer, and to let us in."""

PIECES_S = 0.01
"""Pieces of answers go out at most so often; whatever else is said goes at once and takes them along."""

MOST_AT_ONCE = 256
"""Commands in one round trip."""

MOST_EVENTS = 10_000
MOST_EVENT_BYTES = 8 << 20
"""Events that may wait to go out. They are hints: what is more is lost."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two attempts to reach a Redis that is away."""


HOW: dict[str, Any] = {"protocol": 2, "socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}


class Address:
    """Where Redis is. Shown without its password."""

    def __init__(self, url: str) -> None:
        """Raises BadRequest: it cannot be one."""
        self._url = url
        try:
            self.client().connection_pool.make_connection()  # type: ignore[no-untyped-call]
            parts = urlsplit(url)
            self._shown = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
            self._host = (parts.hostname or "") if parts.scheme == "redis" else None  # of what does not encrypt
        except (ValueError, TypeError):
            raise BadRequest(
                "REDIS_URL is not an address of Redis; expected one such as redis://127.0.0.1:6379/0, rediss:// where "
                "it encrypts."
            ) from None

    def __str__(self) -> str:
        return self._shown

    @property
    def in_the_clear(self) -> bool:
        """Could somebody on the network listen?"""
        try:
            return self._host is not None and not ipaddress.ip_address(self._host).is_loopback
        except ValueError:
            return self._host not in ("", "localhost")

    def trouble(self) -> str | None:
        """What is wrong with Redis now; None when it answers. Waits for it."""
        with redis.Redis.from_url(self._url, retry=redis.retry.Retry(NoBackoff(), 0), **HOW) as client:
            try:
                client.ping()
            except Exception as failure:  # whatever it is
                return why(failure)
        return None

    def client(self) -> Redis:
        """Connections whose failures are ours to see: redis-py would try ten times by itself. Answers in RESP2 are the
        same on every server."""
        return Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), **HOW)


def why(failure: BaseException) -> str:
    """What is wrong with Redis, in words of ours: its own may repeat what it was sent, as a password."""
    if isinstance(failure, AuthenticationError):
        return "it refuses the password"
    if isinstance(failure, BusyLoadingError):
        return "it is loading its data"
    if isinstance(failure, TooSlow | TimeoutError):
        return "it does not answer in time"
    if isinstance(failure, Disconnected | OSError):
        return "it cannot be reached"
    return f"it answers {type(failure).__name__}"


class Command:
    """One thing to say.

    Args:
        make: its arguments at the moment it is sent, each time; None: it need not be said any more.
        told: is given the answer, or the exception instead of one.
        patient: wait while Redis is away.
        piece: part of an answer, which may wait for the next round trip.
    """

    __slots__ = ("make", "patient", "piece", "script", "told")

    def __init__(
        self,
        script: str,
        make: Callable[[], Sequence[Value] | None],
        told: Callable[[Any], None] | None = None,
        *,
        patient: bool = True,
        piece: bool = False,
    ) -> None:
        self.script = script
        self.make = make
        self.told = told
        self.patient = patient
        self.piece = piece


class Pipe:
    """Run `run` as a task.

    Args:
        base: the key every other is made from.
        hushed: called when Redis can be reached again after words were lost.
    """

    def __init__(self, address: Address, base: str, hushed: Callable[[], None]) -> None:
        self._address = address
        self._redis = address.client()
        self._base = base
        self._hushed = hushed
        self._lost = False  # a word, since the last one that went out
        self._due: deque[Command] = deque()
        self._events = self._event_bytes = 0  # that wait
        self._more = asyncio.Event()
        self._urgent = asyncio.Event()
        self._empty = asyncio.Event()
        self._loaded = False
        self._sent_at = 0.0
        self.trouble: str | None = "it has not been asked yet"

    # What may be said

    def say(self, channel: str, word: bytes) -> None:
        """Publish a word; lost when Redis is away, or too much waits."""
        if self._events >= MOST_EVENTS or self._event_bytes + len(word) > MOST_EVENT_BYTES:
            self._lost = True
            return
        self._events += 1
        self._event_bytes += len(word)

        def make() -> Sequence[Value]:
            self._events -= 1
            self._event_bytes -= len(word)
            return f"{self._base}:{channel}", word

        self.push(Command("PUBLISH", make))

    def push(self, command: Command) -> None:
        """Say it in its turn."""
        self._due.append(command)
        self._empty.clear()
        self._more.set()
        if not command.piece:
            self._urgent.set()

    def call(
        self, script: str, *args: Value, patient: bool = True, make: Callable[[], Sequence[Value]] | None = None
    ) -> asyncio.Future[Any]:
        """Say it and have the answer. Whoever stops waiting before it was sent has not said it. Raises Unavailable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def told(reply: Any) -> None:
            if answer.done():
                return
            if isinstance(reply, BaseException):
                answer.set_exception(Unavailable(f"Redis at {self._address} cannot be used: {why(reply)}."))
            else:
                answer.set_result(reply)

        def arguments() -> Sequence[Value] | None:
            return None if answer.cancelled() else args if make is None else make()

        self.push(Command(script, arguments, told, patient=patient))
        return answer

    async def said(self, within_s: float) -> bool:
        """Wait until everything was said. Was it?"""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        return self._empty.is_set()

    # Saying it

    async def run(self) -> None:
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        if not self._due:
            self._empty.set()
        while True:
            await self._more.wait()
            if not self._urgent.is_set() and (left := self._sent_at + PIECES_S - loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._urgent.wait()
            self._urgent.clear()
            batch = [self._due.popleft() for _ in range(min(MOST_AT_ONCE, len(self._due)))]
            try:
                while batch:
                    batch = await self._round_trip(batch)
            except Exception as failure:  # whatever it answers, it is a Redis that cannot be used now
                self._away(failure, batch)
                await self._redis.connection_pool.disconnect()
                pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, pause_s * 2))
                with contextlib.suppress(TimeoutError):  # somebody who cannot wait is answered sooner
                    await asyncio.sleep(FIRST_PAUSE_S)
                    async with asyncio.timeout(pause_s * random.uniform(0.5, 1)):
                        await self._urgent.wait()
            else:
                pause_s = 0.0
                self._sent_at = loop.time()
                if self.trouble is not None:
                    self.trouble = None
                    log.info("redis_connected", address=str(self._address))
                if self._lost:
                    self._lost = False
                    self._hushed()
            if not self._due:
                self._more.clear()
                self._empty.set()

    async def _round_trip(self, batch: list[Command]) -> list[Command]:
        """Send them and hand out the answers. What has to be sent again, because Redis did not know the scripts."""
        async with self._redis.pipeline(transaction=False) as pipe:
            if not self._loaded:
                for text in SCRIPTS.values():
                    pipe.execute_command("SCRIPT", "LOAD", text)
            asked = []
            for command in batch:
                args = self._made(command)
                if args is None:
                    continue
                asked.append(command)
                if command.script in SHA:
                    pipe.execute_command("EVALSHA", SHA[command.script], 1, self._base, *args)
                else:
                    pipe.execute_command(command.script, *args)
            replies = await pipe.execute(raise_on_error=False)
        if not self._loaded:
            for reply in replies[: len(SCRIPTS)]:
                if isinstance(reply, RedisError):
                    raise Disconnected from reply  # one that cannot keep a script is of no use
            replies = replies[len(SCRIPTS) :]
            self._loaded = True
        for reply in replies:
            if isinstance(reply, Disconnected | AuthenticationError):
                raise reply
        again = []
        for command, reply in zip(asked, replies, strict=True):
            if isinstance(reply, NoScriptError):
                self._loaded = False
                again.append(command)
            else:
                self._tell(command, reply)
        return again

    @staticmethod
    def _made(command: Command) -> Sequence[Value] | None:
        try:
            return command.make()
        except Exception:  # a bug; the other commands go out all the same
            log.exception("redis_command_not_made", command=command.script)
            return None

    def _tell(self, command: Command, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            log.warning("redis_refused", command=command.script, why=type(reply).__name__)
        if command.told is not None:
            try:
                command.told(reply)
            except Exception:  # what Redis answers is not of our making
                log.exception("redis_answer_not_understood", command=command.script)

    def _away(self, failure: BaseException, batch: list[Command]) -> None:
        if self.trouble != (reason := why(failure)):
            self.trouble = reason
            log.warning("redis_away", address=str(self._address), why=self.trouble)
        self._loaded = False
        self._events = self._event_bytes = 0
        kept = []
        for command in [*batch, *self._due]:
            if command.script == "PUBLISH":
                self._lost = True
                continue
            if command.patient:
                kept.append(command)
            else:
                self._tell(command, failure)
        self._due = deque(kept)

    async def close(self) -> None:
        await self._redis.aclose()
