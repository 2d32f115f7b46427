"""The client: one member's ear and voice on a server, over as many connections as it takes.

    async with Client("tcp://127.0.0.1:5000", user="alice") as client:
        await client.send("hello", to="bob")
        async for frame in client:
            ...

Entering connects, or raises what a person can act on. From then on the client keeps itself connected: it
comes back after a jittered wait, goes on where it stopped hearing, and repeats what was not acknowledged
under the same keys. It gives up only where trying again cannot help: no such account, a name that is taken
or not a name.

Who uses it decides nothing of that. What it says is acknowledged once, what it hears it hears once and in
order.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, overload

from hubbub import __version__
from hubbub.client.address import parse_address
from hubbub.client.asking import Asking
from hubbub.client.connection import Timing
from hubbub.client.life import Ask, Life, Status
from hubbub.client.trust import Trust
from hubbub.core import frames
from hubbub.core.errors import BadRequest, Unavailable


class Client:
    """Give `user` or `token`. `threads`, where given, are the only ones heard. A name that has to be proved is
    refused, unless `ask` knows somebody who has its password. `trust`: for encrypted addresses.

    `in_flight` requests travel at once; with 1, sends keep their order even through refusals. When `queue`
    events wait to be taken, reading stops, so take them (`async for`) or hear nothing (`threads=[]`).
    """

    def __init__(
        self,
        address: str,
        *,
        user: str | None = None,
        token: str | None = None,
        client: str = f"hubbub/{__version__}",
        threads: list[str] | None = None,
        rand: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_state: Callable[[Status], None] | None = None,
        in_flight: int = 32,
        queue: int = 256,
        timing: Timing | None = None,
        trust: Trust | None = None,
        ask: Ask | None = None,
    ) -> None:
        if not user and not token:
            raise BadRequest("A client needs a name or a token.")
        self._life = Life(
            parse_address(address),
            frames.Hello(user=None if token else user, token=token, client=client, threads=threads),
            rand or random.Random(),
            clock,
            on_state,
            in_flight,
            queue,
            timing or Timing(),
            trust or Trust(),
            ask,
        )
        # Unique for the life of this client, and never from `rand`: a seeded one would say old keys again.
        self._keys = (f"{prefix}-{n}" for prefix in (secrets.token_urlsafe(12),) for n in count(1))

    async def __aenter__(self) -> Client:
        """Connect. Raises Unavailable when nobody answers, or the server's own refusal."""
        await self._life.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Tell the last `seen` cursors, say bye and leave. What was not acknowledged by now stays so."""
        await self._life.leave()

    @property
    def user(self) -> str:
        """The member's name as the server spells it; empty before the first welcome."""
        return self._life.welcome.user if self._life.welcome else ""

    @property
    def closed(self) -> bool:
        """Has it been closed, or has it given up?"""
        return self._life.over

    @property
    def welcome(self) -> frames.Welcome | None:
        """The newest welcome: the server's name, epoch and limits."""
        return self._life.welcome

    @property
    def threads(self) -> dict[str, frames.ThreadView]:
        """The member's threads, as last heard of. `seen` is only in those of the welcome."""
        return self._life.threads

    # Asking ---------------------------------------------------------------------------------------

    @overload
    async def request(self, frame: frames.MessageSend, *, timeout_s: float | None = ...) -> frames.Ack: ...
    @overload
    async def request(self, frame: frames.HistoryGet, *, timeout_s: float | None = ...) -> frames.History: ...
    @overload
    async def request(self, frame: frames.ThreadList, *, timeout_s: float | None = ...) -> frames.Threads: ...
    @overload
    async def request(self, frame: frames.WhoGet, *, timeout_s: float | None = ...) -> frames.Who: ...
    @overload
    async def request(self, frame: frames.Check, *, timeout_s: float | None = ...) -> frames.Checked: ...
    @overload
    async def request(
        self,
        frame: frames.ThreadCreate | frames.ThreadJoin | frames.ThreadLeave | frames.ThreadAdd | frames.ThreadRemove,
        *,
        timeout_s: float | None = ...,
    ) -> frames.ThreadFrame: ...
    @overload
    async def request(
        self, frame: frames.RunStart | frames.RunCancel, *, timeout_s: float | None = ...
    ) -> frames.RunReply: ...
    @overload
    async def request(self, frame: frames.Register, *, timeout_s: float | None = ...) -> frames.Registered: ...
    @overload
    async def request(self, frame: frames.Request, *, timeout_s: float | None = ...) -> frames.Frame: ...

    async def request(self, frame: frames.Request, *, timeout_s: float | None = 30.0) -> frames.Frame:
        """Ask once and return the reply. `id` is set here.

        What may be asked twice is asked again when the connection is lost meanwhile. The answer to `check`
        comes as events: its messages, which carry an `id`, then `checked`, which is returned too.
        Raises the refusal as its Problem; Unavailable: no answer came, and for what changes something (a
        thread made, a send without key) the outcome is unknown.
        """
        return await self._asking().ask(frame, timeout_s)

    async def send(
        self,
        text: str,
        *,
        to: str | None = None,
        thread: str | None = None,
        message_type: str = "chat",
        metadata: dict[str, Any] | None = None,
        reply_to: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> frames.Ack:
        """Post a message and return its acknowledgement, however many connections that takes.

        Give `to` (a name) or `thread`. Whatever is lost on the way is sent again with the same key, in the
        same order; without `timeout_s` for as long as the client lives. Cancelling leaves open whether it
        was posted.
        Raises the refusal as its Problem, when the same send would be refused again.
        """
        frame = frames.MessageSend(
            text=text,
            to=to,
            thread=thread,
            message_type=message_type,
            metadata=metadata or {},
            reply_to=reply_to,
            key=key or next(self._keys),
        )
        ack = await self._asking().ask(frame, timeout_s, patient=True)
        assert isinstance(ack, frames.Ack)
        return ack

    def mark(self, thread: str, seq: int) -> None:
        """Everything in `thread` up to `seq` was seen: move the member's cursor, soon and without waiting."""
        self._life.mark(thread, seq)

    # Hearing --------------------------------------------------------------------------------------

    async def next(self) -> frames.Frame:
        """The next event. Raises why the client gave up; Unavailable: it was closed."""
        event = await self._life.inbox.take()
        if event is None:
            raise Unavailable("The client was closed.")
        return event

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> frames.Frame:
        event = await self._life.inbox.take()
        if event is None:
            raise StopAsyncIteration
        return event

    def _asking(self) -> Asking:
        if not self._life.begun:
            raise Unavailable("The client is not connected: enter it with 'async with'.")
        return self._life.asking
