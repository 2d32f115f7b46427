"""A device among members: commands, subscribers, and nothing remembered but what stands on the server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest
from small_server import Session, SmallServer

from hubbub.apps import thermometer
from hubbub.client import Client, Timing
from hubbub.core import frames
from hubbub.core.errors import NameTaken
from hubbub.core.nouns import LOBBY, Message

NAME = "thermometer1"
HERE = "alice-thermometer1"
LIMIT_S = 10


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((seconds, passed))
        await passed

    def pass_interval(self) -> None:
        self._end(lambda seconds: seconds > 10)

    def pass_reboot(self) -> None:
        self._end(lambda seconds: seconds < 10)

    def _end(self, which: Callable[[float], bool]) -> None:
        for seconds, passed in self._waiting:
            if which(seconds) and not passed.done():
                passed.set_result(None)
        self._waiting = [w for w in self._waiting if not w[1].done()]


@pytest.fixture
async def server() -> AsyncIterator[SmallServer]:
    async with SmallServer() as server:
        yield server


@contextlib.asynccontextmanager
async def device(server: SmallServer, seed: int = 1) -> AsyncIterator[Clock]:
    clock = Clock()
    timing = Timing(base_s=0.01, mark_every_s=0.0)
    async with Client(server.address, user=NAME, timing=timing, in_flight=1) as client:
        task = asyncio.create_task(
            thermometer.run(client, rand=random.Random(seed), now=lambda: 1.7e9, sleep=clock.sleep)
        )
        try:
            yield clock
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def said(server: SmallServer, thread: str = HERE) -> list[Message]:
    return [m for m in server.logs.get(thread, []) if m.sender == NAME]


def texts(server: SmallServer, thread: str = HERE) -> list[str]:
    return [m.text for m in said(server, thread)]


async def tell(server: SmallServer, text: str, answers: int, **more: str) -> list[Message]:
    """Write to the device as alice and wait for so many answers."""
    before = len(said(server))
    server.post("alice", text, to=NAME, **more)
    await until(lambda: len(said(server)) >= before + answers)
    return said(server)[before:]


async def quiet(server: SmallServer) -> None:
    """Wait until the device has handled everything that was said to it."""
    await until(
        lambda: all(
            server.seen.get((t, NAME), 0) == len(log) for t, log in server.logs.items() if NAME in server.members[t]
        )
    )


async def test_a_subscriber_is_told_at_once_and_with_every_reading(server: SmallServer) -> None:
    async with device(server) as clock:
        command = server.post("alice", "subscribe", to=NAME)
        await until(lambda: len(said(server)) == 2)
        clock.pass_interval()
        await until(lambda: len(said(server)) == 3)

    confirmed, first, second = said(server)
    assert (confirmed.text, confirmed.type, confirmed.reply_to) == (
        "Subscription confirmed.",
        "notification",
        command.id,
    )
    assert confirmed.metadata == {"event": "subscribed"}
    for reading in (first, second):
        degrees = reading.metadata["temperature"]
        assert 22 <= degrees <= 24
        assert reading.metadata == {"temperature": degrees, "unit": "C", "time": "2023-11-14T22:13:20.000Z"}
        assert (reading.text, reading.type) == (f"Temperature update: {degrees} °C", "subscription")
    assert all(95 <= seconds <= 105 for seconds in clock.asked)


async def test_who_unsubscribed_hears_no_more(server: SmallServer) -> None:
    async with device(server) as clock:
        await tell(server, "subscribe", 2)
        (answer,) = await tell(server, "unsubscribe", 1)
        clock.pass_interval()
        await until(lambda: len(clock.asked) == 2)
        (again,) = await tell(server, "unsubscribe", 1)

    assert (answer.text, answer.metadata) == ("Unsubscribed.", {"event": "unsubscribed"})
    assert again.text == "You were not subscribed."
    assert len(said(server)) == 4


async def test_the_range_is_five_temperatures(server: SmallServer) -> None:
    async with device(server):
        (answer,) = await tell(server, "  RANGE ", 1, type="command")

    temps = answer.metadata["temps"]
    assert len(temps) == 5
    assert all(20 <= t <= 25 for t in temps)
    assert answer.text == f"Temperature range: {', '.join(map(str, temps))} °C"
    assert answer.metadata["time"] == "2023-11-14T22:13:20.000Z"
    assert answer.metadata["event"] == "range"


async def test_a_reboot_takes_its_time(server: SmallServer) -> None:
    async with device(server) as clock:
        await tell(server, "subscribe", 2)
        await tell(server, "reboot", 1)
        await until(lambda: thermometer.REBOOT_S in clock.asked)
        clock.pass_interval()
        server.post("alice", "range", to=NAME)
        await asyncio.sleep(0.01)
        assert texts(server)[2:] == ["Rebooting…"]

        clock.pass_reboot()
        await until(lambda: len(said(server)) == 6)

    assert texts(server)[3] == "Reboot complete."
    assert {m.metadata.get("event", "reading") for m in said(server)[4:]} == {"reading", "range"}


async def test_it_explains_itself_once_until_a_command_is_used(server: SmallServer) -> None:
    async with device(server):
        await tell(server, "what can you do?", 1)
        await tell(server, "hello?", 0)
        await tell(server, "help", 1)
        await tell(server, "range", 1)
        await tell(server, "eh?", 1)
        await quiet(server)

    assert [m.metadata["event"] for m in said(server)] == ["help", "help", "range", "help"]


@pytest.mark.parametrize(
    "more", [{"type": "notification"}, {"type": "subscription"}, {"run": "r1"}, {"metadata": {"deleted": True}}]
)
async def test_devices_assistants_and_deleted_messages_are_not_answered(
    server: SmallServer, more: dict[str, object]
) -> None:
    text = "" if "metadata" in more else "subscribe"
    async with device(server):
        server.post("alice", text, to=NAME, **more)
        await quiet(server)

    assert said(server) == []


async def test_two_devices_do_not_talk_forever(server: SmallServer) -> None:
    timing = Timing(mark_every_s=0.0)
    async with device(server), Client(server.address, user="thermometer2", timing=timing) as other:
        task = asyncio.create_task(thermometer.run(other))
        server.post("thermometer2", "hello", to=NAME)
        await quiet(server)
        await until(lambda: len(server.logs["thermometer1-thermometer2"]) == 2)
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    assert len(server.logs["thermometer1-thermometer2"]) == 2


async def test_what_is_said_in_the_lobby_is_heard_and_not_answered(server: SmallServer) -> None:
    async with device(server):
        server.members[LOBBY] += ["alice", "bob"]
        server.post("alice", "subscribe", thread=LOBBY)
        await quiet(server)

    assert texts(server, LOBBY) == []


async def test_subscribers_survive_the_device_being_started_again(server: SmallServer) -> None:
    async with device(server):
        server.post("bob", "subscribe", to=NAME)
        await tell(server, "subscribe", 2)
        await until(lambda: len(said(server, "bob-thermometer1")) == 2)
        server.post("bob", "unsubscribe", to=NAME)
        await tell(server, "range", 1)
        await quiet(server)

    async with device(server) as clock:
        await until(lambda: len(clock.asked) == 1)
        clock.pass_interval()
        await until(lambda: len(said(server)) == 4)
        await until(lambda: len(clock.asked) == 2)

    assert said(server)[-1].type == "subscription"
    assert texts(server, "bob-thermometer1")[-1] == "Unsubscribed."


async def test_a_subscription_is_recalled_over_many_pages(server: SmallServer) -> None:
    server.post("alice", "subscribe", to=NAME)
    server.post(NAME, "Subscription confirmed.", to="alice", type="notification", metadata={"event": "subscribed"})
    for n in range(300):
        server.post("alice", f"nonsense {n}", to=NAME)
    server.seen[HERE, NAME] = 302

    async with device(server) as clock:
        await until(lambda: len(clock.asked) == 1)
        clock.pass_interval()
        await until(lambda: len(said(server)) == 2)


async def test_commands_that_came_while_it_was_away_are_answered_when_it_returns(server: SmallServer) -> None:
    server.post("alice", "subscribe", to=NAME)
    server.post("alice", "range", to=NAME)

    async with device(server):
        await until(lambda: len(said(server)) == 3)
        await quiet(server)

    assert [m.metadata.get("event") for m in said(server)] == ["subscribed", None, "range"]
    async with device(server, seed=2):
        await quiet(server)
    assert len(said(server)) == 3


async def test_a_crash_before_the_cursor_moved_answers_nothing_twice(server: SmallServer) -> None:
    def move_no_cursor(session: Session, request: frames.Request) -> bool:
        if isinstance(request, frames.Seen):
            session.say(frames.Ok(id=request.id))
        return isinstance(request, frames.Seen)

    server.before = move_no_cursor
    async with device(server):
        for command in ("range", "subscribe", "help"):
            await tell(server, command, 2 if command == "subscribe" else 1)
    before = texts(server)
    server.seen[HERE, NAME] = 0

    async with device(server, seed=2):  # other temperatures: the same keys with another body
        await until(lambda: sum(isinstance(r, frames.MessageSend) for r in server.requests) == 8)
        await asyncio.sleep(0.01)

    assert texts(server) == before


async def test_a_reboot_that_was_interrupted_is_completed_when_it_returns(server: SmallServer) -> None:
    async with device(server) as clock:
        await tell(server, "reboot", 1)
        await until(lambda: thermometer.REBOOT_S in clock.asked)

    async with device(server) as clock:
        await until(lambda: thermometer.REBOOT_S in clock.asked)
        clock.pass_reboot()
        await until(lambda: len(said(server)) == 2)
        await quiet(server)

    assert texts(server) == ["Rebooting…", "Reboot complete."]


async def test_a_subscriber_survives_the_server_being_started_again(server: SmallServer) -> None:
    async with device(server) as clock:
        await tell(server, "subscribe", 2)
        await server.stop()
        clock.pass_interval()
        server.post("alice", "range", to=NAME)
        await server.start()
        await until(lambda: len(said(server)) == 4)

    assert {m.metadata.get("event", "reading") for m in said(server)[2:]} == {"reading", "range"}


async def test_a_restored_log_is_believed(server: SmallServer) -> None:
    async with device(server) as clock:
        await tell(server, "subscribe", 2)
        await quiet(server)
        # The backup is older than the subscription; alice has subscribed to nothing but asks for the range.
        server.logs[HERE].clear()
        server.acked.clear()
        server.seen[HERE, NAME] = 0
        server.epoch = "two"

        def reset_first(session: Session, request: frames.Request) -> None:
            if isinstance(request, frames.Hello):
                session.say(frames.Reset(thread=HERE, reason="another epoch"))

        server.after = reset_first
        server.post("alice", "range", to=NAME)
        server.cut()
        await until(lambda: len(said(server)) == 1)
        clock.pass_interval()
        await until(lambda: len(clock.asked) == 2)

    assert [m.metadata["event"] for m in said(server)] == ["range"]


async def test_cancelling_is_how_it_is_stopped(server: SmallServer) -> None:
    task = asyncio.create_task(thermometer.run(server.address, NAME))
    await until(lambda: bool(server.sessions))

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not server.sessions)
    assert server.hellos[0].user == NAME


async def test_a_name_that_is_taken_stops_it_with_the_reason(server: SmallServer) -> None:
    server.before = lambda session, request: session.refuse(request, "name_taken", "Taken.") or True

    with pytest.raises(NameTaken, match="Taken"):
        await thermometer.run(server.address, NAME)
