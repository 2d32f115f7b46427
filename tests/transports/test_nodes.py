"""Two nodes on one store and one Redis: whoever is connected to one of them lives in the same house as all others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hubbub.app import App
from hubbub.buses.redis import RedisBus
from hubbub.core import news
from hubbub.core.errors import Unavailable
from hubbub.core.nouns import Membership, Role, new_id
from hubbub.core.ports import Store
from hubbub.hub import others
from hubbub.stores.memory import MemoryStore
from support.inbox import WAIT_S
from support.redis import RedisServer, redis_server
from support.server import House, fresh, settings
from support.talkers import TALKERS

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


class Nodes:
    """Servers that share everything but their connections."""

    def __init__(self, home: Path, url: str) -> None:
        self._home = home
        self._flags = {"redis_url": url, "redis_tasks_queue_name": new_id(), "jwt_secret_key": KEY}
        self._store = MemoryStore()
        self._open: dict[House, AsyncExitStack] = {}

    async def start(self, **flags: Any) -> House:
        stack = AsyncExitStack()
        home = self._home / str(len(self._open))
        app = App(settings(home, **self._flags, **flags), store=self._store)
        house = House(await stack.enter_async_context(app))
        self._open[house] = stack
        return house

    async def stop(self, house: House) -> None:
        await self._open.pop(house).aclose()

    async def close(self) -> None:
        for house in list(self._open):
            await self.stop(house)


@pytest.fixture
async def nodes(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path, redis.url)
    yield made
    await made.close()


@pytest.fixture
async def two(nodes: Nodes) -> tuple[House, House]:
    """Two of them that have heard of each other."""
    one, other = await nodes.start(), await nodes.start()
    await until(lambda: one.app.hub.others._nodes and other.app.hub.others._nodes)
    return one, other


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110 - another node is waited for
            await asyncio.sleep(0.005)


async def seen_from(house: House, name: str, online: bool = True) -> None:
    """Until that node knows that somebody is connected, or is not."""
    await until(lambda: house.app.hub.people.online(name) is online)


@pytest.mark.parametrize("kind", TALKERS)
async def test_what_is_said_on_one_node_is_heard_on_the_other(two: tuple[House, House], kind: str) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk(kind, ann) as alice, await other.talk(kind, bob) as robert:
        await alice.post("lobby", "hello over there")
        assert (await robert.message("hello over there"))["sender"] == ann
        await robert.post("lobby", "hello back")
        assert (await alice.message("hello back"))["sender"] == bob
        await robert.send("typing", thread="lobby")
        assert (await alice.take("typing"))["user"] == bob


async def test_a_private_message_reaches_somebody_on_the_other_node_live(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("framed", bob) as robert:
        await seen_from(one, bob)
        ack = await alice.ask("message.send", to=bob, text="psst")
        heard = await robert.message("psst")
        back = await robert.ask("message.send", to=ann, text="yes?")
        await alice.message("yes?")

    assert (ack["delivery"], ack["offline_count"]) == ("live", 0)
    assert heard["destination"] == bob
    assert back["thread"] == ack["thread"]


async def test_a_new_group_is_told_to_its_members_on_the_other_node(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("binary", bob) as robert:
        thread = await alice.group(bob)
        assert (await robert.take("thread"))["thread"]["id"] == thread
        await alice.post(thread, "welcome")
        assert (await robert.message("welcome"))["thread"] == thread
        await robert.post(thread, "thanks")
        await alice.message("thanks")


async def test_whoever_is_added_or_removed_on_one_node_hears_so_on_the_other(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        thread = await alice.group()
        await alice.post(thread, "before")
        await alice.ask("thread.add", thread=thread, member=bob)
        await alice.post(thread, "one")
        assert (await robert.message("one"))["thread"] == thread
        await alice.ask("thread.remove", thread=thread, member=bob)
        room = other.app.hub.rooms[thread]
        await until(lambda: bob not in room.members)
        await alice.post(thread, "two")
        await alice.write(bob, "and this?")
        await robert.message("and this?")
        refused = await robert.ask("message.send", thread=thread, text="let me in")

    assert refused["code"] == "not_found"
    assert not [frame for frame in robert.heard if "two" in str(frame)]


async def test_everybody_is_told_who_comes_and_goes_on_the_other_node(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice:
        async with await other.talk("text", bob):
            assert await alice.take("presence", user=bob) == {"type": "presence", "user": bob, "online": True}
            assert bob in (await alice.ask("who"))["online"]
        assert (await alice.take("presence", user=bob))["online"] is False
        assert bob not in (await alice.ask("who"))["online"]
        assert (await alice.ask("message.send", to=bob, text="later"))["delivery"] == "stored"


async def test_somebody_on_both_nodes_is_gone_when_they_have_left_both(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice:
        first = await one.talk("text", bob)
        await seen_from(other, bob)
        async with await other.talk("text", token=first.welcome["token"]):
            await until(lambda: bob in one.app.hub.others.online)
            first.cut()
            await until(lambda: not one.app.hub.people.connected(bob))
            assert bob in (await alice.ask("who"))["online"]
        assert (await alice.take("presence", user=bob, online=False))["online"] is False


async def test_who_comes_later_learns_who_is_there(two: tuple[House, House], nodes: Nodes) -> None:
    bob = fresh("bob")
    async with await two[0].talk("text", bob):
        third = await nodes.start()
        await seen_from(third, bob)


async def test_a_node_that_stops_or_falls_silent_takes_its_people_along(
    two: tuple[House, House], nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "ALIVE_EVERY_S", 0.05)
    monkeypatch.setattr(others, "SILENT_S", 0.5)
    one, other = two
    bob, joe = fresh("bob"), fresh("joe")
    third = await nodes.start()
    robert, joseph = await other.talk("text", bob), await third.talk("text", joe)
    await seen_from(one, bob)
    await seen_from(one, joe)
    third.app.hub.bus.tell = lambda news: None  # type: ignore[method-assign]
    await seen_from(one, joe, online=False)
    assert one.app.hub.people.online(bob)
    await nodes.stop(other)
    await seen_from(one, bob, online=False)
    robert.cut()
    joseph.cut()


async def test_the_last_that_a_node_says_is_its_goodbye_whatever_still_happens_there(two: tuple[House, House]) -> None:
    _, other = two
    said: list[news.AnyNews] = []
    other.app.hub.bus.tell = said.append  # type: ignore[method-assign]
    other.app.hub.others.stop()
    async with await other.talk("text", fresh("bob")):
        assert isinstance(said[-1], news.Leaving)


async def test_whoever_is_sent_away_by_a_node_may_go_to_another_one_at_once(
    two: tuple[House, House], nodes: Nodes
) -> None:
    one, other = two
    async with await other.talk("text", fresh("bob")) as robert:
        await nodes.stop(other)
        assert (await robert.take("bye"))["retry_after"] < 0.5
    await until(lambda: not one.app.hub.others.there)
    async with await one.talk("text", fresh("ann")) as alice:
        await nodes.stop(one)
        assert (await alice.take("bye"))["retry_after"] >= 1


async def test_a_guest_s_name_that_is_held_on_one_node_is_refused_on_the_other(two: tuple[House, House]) -> None:
    one, other = two
    bob = fresh("bob")
    async with await one.talk("text", bob) as robert, await other.connect("text") as stranger:
        await until(lambda: bob in other.app.hub.others.holders)
        refused = await stranger.ask("hello", user=bob)
        assert (refused["type"], refused["code"]) == ("error", "name_taken")
        async with await other.talk("framed", token=robert.welcome["token"]) as again:
            assert again.welcome["user"] == bob
    await until(lambda: bob not in other.app.hub.others.holders)


async def test_an_assistant_made_on_one_node_answers_on_the_other_and_is_seen_by_both(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob, poet = fresh("ann"), fresh("bob"), fresh("poet")
    async with (
        await one.talk("text", ann) as alice,
        await other.talk("text", bob) as robert,
        one.http(alice.welcome["token"]) as http,
    ):
        assert (await http.post("/api/assistants", json={"name": poet})).status_code == 201
        await until(lambda: poet in other.app.hub.assistants.by_name)
        await robert.post("lobby", f"@{poet} repeat: the same words for all")
        ends = [await reader.take("run.completed") for reader in (alice, robert)]
        said = [await reader.message("(demo model) the same words for all") for reader in (alice, robert)]
        assert ends[0] == ends[1]
        assert said[0] == said[1]
        for reader in (alice, robert):
            pieces = [frame["text"] for frame in reader.heard if frame["type"] == "run.delta"]
            assert "".join(pieces) == said[0]["text"]
        await http.delete(f"/api/assistants/{poet}")
        await until(lambda: poet not in other.app.hub.assistants.by_name)


async def test_an_answer_is_stopped_from_the_other_node(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        thread = await alice.group(bob, "openai")
        await alice.post(thread, "@openai count to 2000")
        run = (await robert.take("run.delta"))["run"]
        await robert.ask("run.cancel", run=run)
        for reader in (alice, robert):
            assert (await reader.take("run.cancelled"))["run"] == run
            said = next(frame for frame in reader.heard if frame["type"] == "message" and frame["message"]["run"])
            heard = "".join(frame["text"] for frame in reader.heard if frame["type"] == "run.delta")
            assert said["message"]["metadata"]["state"] == "cancelled"
            assert said["message"]["text"].startswith(heard)


async def test_who_waits_for_their_turn_on_one_node_is_left_alone_by_the_other(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.hub.runs.COMPARE_EVERY_S", 0.05)
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        async with one.http(alice.welcome["token"]) as http:
            second = fresh("second")
            await http.post("/api/assistants", json={"name": second, "in_turn": True})
        thread = await alice.group(bob, "openai", second)
        await alice.post(thread, f"@openai @{second} count to 60")
        for _ in range(2):
            await robert.take("run.completed")
        runs = [run for run in one.app.hub.store._runs.values() if run.thread == thread]  # type: ignore[attr-defined]

    assert [(run.attempt, str(run.state)) for run in runs] == [(1, "completed"), (1, "completed")]
    [first, then] = sorted(run.seq or 0 for run in runs)
    assert next(run for run in runs if run.assistant == second).seq == then > first


async def test_a_thread_that_is_renamed_or_deleted_on_one_node_is_so_on_the_other(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        thread = await alice.group(bob)
        await robert.take("thread")
        async with one.http(alice.welcome["token"]) as http:
            await http.patch(f"/api/threads/{thread}", json={"title": "roses"})
            await until(lambda: other.app.hub.rooms[thread].thread.title == "roses")
            await http.delete(f"/api/threads/{thread}")
        assert (await robert.take("reset", thread=thread))["reason"] == "The thread was deleted."
        assert thread not in other.app.hub.rooms


async def test_whatever_nobody_was_told_of_is_found_by_looking(two: tuple[House, House]) -> None:
    one, other = two
    ann, bob, poet = fresh("ann"), fresh("bob"), fresh("poet")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        one.app.hub.bus.tell = lambda news: None  # type: ignore[method-assign]
        async with one.http(alice.welcome["token"]) as http:
            await http.post("/api/assistants", json={"name": poet})
        thread = await alice.group(bob)
        await alice.post(thread, "can you hear me?")
        assert thread not in other.app.hub.rooms
        await other.app.hub.others.compare()
        assert (await robert.message("can you hear me?"))["thread"] == thread
        assert poet in other.app.hub.assistants.by_name


async def test_what_is_said_while_redis_is_away_is_heard_all_the_same(
    two: tuple[House, House], redis: RedisServer
) -> None:
    one, other = two
    async with await one.talk("text", fresh("ann")) as alice, await other.talk("text", fresh("bob")) as robert:
        with redis.frozen():
            await until(lambda: set(other.app.hub.bus.checks().values()) != {"ok"})
            await alice.post("lobby", "said in the silence")
            await robert.message("said in the silence")


async def test_whoever_is_removed_while_redis_is_away_is_told_nothing_newer(
    two: tuple[House, House], redis: RedisServer
) -> None:
    one, other = two
    ann, bob, carol = fresh("ann"), fresh("bob"), fresh("carol")
    async with (
        await one.talk("text", ann) as alice,
        await other.talk("text", bob) as robert,
        await other.talk("text", carol) as caroline,
    ):
        thread = await alice.group(bob, carol)
        for reader in (robert, caroline):
            await reader.take("thread")
        with redis.frozen():
            await until(lambda: set(other.app.hub.bus.checks().values()) != {"ok"})
            await alice.ask("thread.remove", thread=thread, member=bob)
            await alice.post(thread, "not for them")
            await caroline.message("not for them")

            assert bob not in other.app.hub.rooms[thread].members
            async with other.http(robert.welcome["token"]) as http:
                assert (await http.get(f"/api/threads/{thread}/messages")).status_code == 404
        await alice.post("lobby", "the end")
        assert not [m for m in await told_until(robert, "the end") if m["thread"] == thread]


async def told_until(reader: Any, last: str) -> list[Any]:
    """The messages it was told, up to that one."""
    told: list[Any] = []
    while not told or told[-1]["text"] != last:
        told.append((await reader.take("message"))["message"])
    return told


async def test_whoever_is_removed_elsewhere_is_told_nothing_newer_though_the_store_is_away(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    ann, bob, carol = fresh("ann"), fresh("bob"), fresh("carol")
    async with (
        await one.talk("text", ann) as alice,
        await other.talk("text", bob) as robert,
        await other.talk("text", carol) as caroline,
    ):
        thread = await alice.group(bob, carol)
        for reader in (robert, caroline):
            await reader.take("thread")
        with monkeypatch.context() as away:
            away.setattr(other.app.hub, "store", Away(other.app.hub.store))
            await alice.ask("thread.remove", thread=thread, member=bob)
            await alice.post(thread, "not for them")
            await caroline.message("not for them")
            await alice.post("lobby", "the end")
            assert not [m for m in await told_until(robert, "the end") if m["thread"] == thread]


async def test_what_a_store_that_was_away_could_not_say_is_asked_again_within_seconds(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "COMPARE_EVERY_S", 3600.0)
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        thread = await alice.group(bob)
        await robert.take("thread")
        with monkeypatch.context() as away:
            store = Away(other.app.hub.store)
            away.setattr(other.app.hub, "store", store)
            await alice.ask("thread.role", thread=thread, member=bob, role="reader")
            await until(lambda: store.asked)

        await until(lambda: other.app.hub.rooms[thread].members[bob] is Role.READER)


async def test_a_node_whose_store_is_slow_stays_there(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    bob = fresh("bob")
    async with await other.talk("text", bob):
        await seen_from(one, bob)
        monkeypatch.setattr(other.app.hub, "store", Away(other.app.hub.store, asyncio.Event()))
        monkeypatch.setattr(others, "ALIVE_EVERY_S", 0.02)
        monkeypatch.setattr(others, "SILENT_S", 2.5)
        other.app.hub.others._compared_at = float("-inf")
        heard_at = one.app.hub.others._nodes[other.app.hub.others.node]
        await until(lambda: other.app.hub.store.asked)  # type: ignore[attr-defined]
        since = time.monotonic()
        await until(lambda: heard_at.heard_at > since + 0.1)
        assert one.app.hub.people.online(bob)


async def test_what_could_not_be_compared_is_compared_when_the_store_is_back(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    ann, bob = fresh("ann"), fresh("bob")
    async with await one.talk("text", ann) as alice, await other.talk("text", bob) as robert:
        one.app.hub.bus.tell = lambda news: None  # type: ignore[method-assign]
        thread = await alice.group(bob)
        await alice.post(thread, "can you hear me?")
        with monkeypatch.context() as away:
            store = Away(other.app.hub.store)
            away.setattr(other.app.hub, "store", store)
            other.app.hub.others.missed()
            await until(lambda: store.asked)
        assert (await robert.message("can you hear me?"))["thread"] == thread


class Away:
    """A store that says nothing about who is where, or not until `back`."""

    def __init__(self, store: Store, back: asyncio.Event | None = None) -> None:
        self._store = store
        self._back = back
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def memberships(self, thread: str) -> list[Membership]:
        self.asked += 1
        if self._back is not None:
            await self._back.wait()
        raise Unavailable("The database does not answer.")


async def test_a_node_that_could_not_be_heard_says_so_when_it_can(
    two: tuple[House, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.hub.sweep.COMPARE_EVERY_S", 3600.0)
    monkeypatch.setattr(others, "COMPARE_EVERY_S", 3600.0)
    one, other = two
    async with await one.talk("text", fresh("ann")) as alice, await other.talk("text", fresh("bob")) as robert:
        bus = one.app.hub.bus
        assert isinstance(bus, RedisBus)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bus._pipe, "_round_trip", _unreachable)
            await alice.post("lobby", "nobody hears this")
            await until(lambda: bus._pipe.trouble)
            await until(lambda: not bus._pipe._events)
        assert set(other.app.hub.bus.checks().values()) == {"ok"}
        began = time.monotonic()
        await robert.message("nobody hears this")
        assert time.monotonic() - began < 2


async def _unreachable(batch: object) -> None:
    raise ConnectionError
