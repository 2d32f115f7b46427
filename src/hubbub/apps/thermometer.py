"""A device that is a member: people write commands to it and it answers, and tells its subscribers the
temperature.

It keeps nothing. Who is subscribed stands in its threads on the server: what the device last said in a
private thread (confirmed, unsubscribed, a reading) tells whether that thread is subscribed. What was
written to it while it was away comes after its hello. An answer has the key `re-` and the id of the
command, so one that is heard again after a crash is not answered again.

It answers only what is addressed to it, and never a notification, a reading or an assistant's answer: two
devices that explain themselves to each other would not end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hubbub import __version__
from hubbub.client import Client, State, Status, Trust
from hubbub.core import frames, names, nouns
from hubbub.core.errors import KeyConflict, NotFound, Problem
from hubbub.core.nouns import Message, MessageType

INTERVAL_S = 100.0
JITTER = 0.05
REBOOT_S = 2.0
UNIT = "C"

HELP = "I understand: subscribe, unsubscribe, range, reboot, help."

_SILENT = frozenset({MessageType.NOTIFICATION, MessageType.SUBSCRIPTION})

_log = logging.getLogger("hubbub.thermometer")


async def run(
    where: str | Client,
    name: str = "thermometer1",
    interval_s: float = INTERVAL_S,
    *,
    token: str | None = None,
    trust: Trust | None = None,
    reboot_s: float = REBOOT_S,
    rand: random.Random | None = None,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Be a thermometer until cancelled. `where` is an address, or a client that is connected.

    Args:
        interval_s: between readings, give or take five percent.
        token: for a name that is registered; it says the name, too.
        trust: for an encrypted address.

    Raises Problem: the server cannot be reached at first, or does not let it in.
    """
    rand = rand or random.Random()
    if isinstance(where, Client):
        await Thermometer(where, interval_s, reboot_s, rand, now, sleep).live()
        return
    program = f"hubbub-thermometer/{__version__}"
    # One at a time: what it said last must stand last in the thread, or it could not be recalled from there.
    async with Client(
        where, user=name, token=token, client=program, rand=rand, in_flight=1, on_state=_log_state, trust=trust
    ) as client:
        await Thermometer(client, interval_s, reboot_s, rand, now, sleep).live()


class Thermometer:
    def __init__(
        self,
        client: Client,
        interval_s: float,
        reboot_s: float,
        rand: random.Random,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._me = names.key(client.user)
        self._interval_s = interval_s
        self._reboot_s = reboot_s
        self._rand = rand
        self._now = now
        self._sleep = sleep
        self._subscribed: dict[str, None] = {}  # private threads
        self._explained: set[str] = set()  # threads that were told the commands and have not used one since
        self._last = self._measure()
        self._power = asyncio.Lock()  # while it reboots, it tells nobody anything

    async def live(self) -> None:
        for thread in list(self._client.threads.values()):
            if thread.head and not thread.public and thread.member_count <= 2:
                await self._recall(thread.id)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._listen())
        except ExceptionGroup as several:
            why = several.exceptions[0]
            if isinstance(why, Problem):  # the client has given up, and says why
                raise why from None
            raise

    # Measuring ----------------------------------------------------------------------------------------

    def _measure(self) -> dict[str, Any]:
        return {
            "temperature": round(self._rand.uniform(22.0, 24.0), 1),
            "unit": UNIT,
            "time": nouns.stamp(self._now()),
        }

    async def _read(self) -> None:
        while True:
            await self._sleep(self._interval_s * self._rand.uniform(1 - JITTER, 1 + JITTER))
            async with self._power:
                self._last = self._measure()
                for thread in list(self._subscribed):
                    if thread in self._subscribed:  # not unsubscribed while the others were told
                        await self._tell(thread, self._last, None)

    async def _tell(self, thread: str, reading: dict[str, Any], key: str | None) -> None:
        text = f"Temperature update: {reading['temperature']} °C"
        await self._post(thread, text, MessageType.SUBSCRIPTION, reading, key=key)

    # Listening ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for frame in self._client:
            match frame:
                case frames.MessageFrame():
                    await self._answer(frame.message)
                    # Only now: a command that is not yet answered must be heard again after a crash.
                    self._client.mark(frame.thread, frame.seq)
                case frames.Reset():
                    await self._start_over(frame.thread)

    async def _answer(self, message: Message) -> None:
        if not self._is_command(message):
            return
        command = message.text.strip().casefold()
        if command in ("subscribe", "unsubscribe", "range", "reboot"):
            self._explained.discard(message.thread)
        match command:
            case "subscribe":
                self._subscribed[message.thread] = None
                await self._reply(message, "Subscription confirmed.", "subscribed")
                await self._tell(message.thread, self._last, f"re-{message.id}-reading")
            case "unsubscribe":
                was = message.thread in self._subscribed
                self._subscribed.pop(message.thread, None)
                await self._reply(message, "Unsubscribed." if was else "You were not subscribed.", "unsubscribed")
            case "range":
                temps = [round(self._rand.uniform(20.0, 25.0), 1) for _ in range(5)]
                text = f"Temperature range: {', '.join(map(str, temps))} °C"
                await self._reply(message, text, "range", temps=temps, time=nouns.stamp(self._now()))
            case "reboot":
                async with self._power:
                    await self._reply(message, "Rebooting…", "rebooting")
                    await self._sleep(self._reboot_s)  # and hears nobody meanwhile, as devices do
                    await self._reply(message, "Reboot complete.", "rebooted", step="-done")
            case _:
                if command == "help" or message.thread not in self._explained:
                    self._explained.add(message.thread)
                    await self._reply(message, HELP, "help")

    def _is_command(self, message: Message) -> bool:
        return (
            names.key(message.destination) == self._me
            and names.key(message.sender) != self._me
            and message.type not in _SILENT
            and message.run is None
            and bool(message.text.strip())
        )

    async def _reply(self, to: Message, text: str, event: str, step: str = "", **more: Any) -> None:
        await self._post(
            to.thread,
            text,
            MessageType.NOTIFICATION,
            {"event": event, **more},
            key=f"re-{to.id}{step}",
            reply_to=to.id,
        )

    async def _post(
        self,
        thread: str,
        text: str,
        kind: MessageType,
        metadata: dict[str, Any],
        *,
        key: str | None = None,
        reply_to: str | None = None,
    ) -> None:
        try:
            await self._client.send(
                text, thread=thread, message_type=kind, metadata=metadata, key=key, reply_to=reply_to
            )
        except KeyConflict:
            pass  # answered before a crash, with other temperatures
        except NotFound:
            self._subscribed.pop(thread, None)
        except Problem as problem:
            if self._client.closed:
                raise
            _log.warning("not sent: %s", problem.detail)

    # Recalling ----------------------------------------------------------------------------------------

    async def _recall(self, thread: str) -> None:
        """Read back to what this device last said about a subscription there."""
        self._subscribed.pop(thread, None)
        before: int | None = None
        newest = True
        while True:
            page = await self._client.request(frames.HistoryGet(thread=thread, before=before))
            for message in reversed(page.messages):
                if names.key(message.sender) != self._me:
                    continue
                event = message.metadata.get("event")
                if newest and event == "help":
                    self._explained.add(thread)
                newest = False
                if message.type == MessageType.SUBSCRIPTION or event == "subscribed":
                    self._subscribed[thread] = None
                    return
                if event == "unsubscribed":
                    return
            if not page.more or not page.messages:
                return
            before = page.messages[0].seq

    async def _start_over(self, thread: str) -> None:
        """The server's log was restored: what stands in it holds, what is unanswered is answered."""
        view = self._client.threads.get(thread)
        if view is None or view.public or view.member_count > 2:
            return
        await self._recall(thread)
        page = await self._client.request(frames.HistoryGet(thread=thread))
        seen = view.seen if isinstance(view.seen, int) else 0
        for message in page.messages:
            if message.seq > seen:
                await self._answer(message)


def _log_state(status: Status) -> None:
    if status.state is State.RECONNECTING:
        _log.warning("connection lost (%s), trying again in %.1f s", status.reason, status.in_s)
    else:
        _log.info("%s", status.state)
