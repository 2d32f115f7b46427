"""Somebody who was put out of a thread hears nothing newer, however they listen and however far behind they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from hubbub.core.nouns import Role
from support.inbox import Inbox
from support.listeners import Refused
from support.server import House, fresh
from support.talkers import TALKERS, FramedClient, Talker, WsClient
from tests.attack.people import member

LONG = "x" * 20_000
SMALL = 32 << 10
"""What the reader's side of a socket holds."""

MANY = 100
"""Long messages of a backlog: 2 MB, more than the buffers on the way take."""


class Group:
    """A thread of an owner and somebody who is about to be removed."""

    def __init__(self, house: House, owner: Talker, victim: str, token: str, thread: str) -> None:
        self.house, self.owner, self.victim, self.token, self.thread = house, owner, victim, token, thread

    @classmethod
    async def of(cls, house: House) -> Group:
        name, mine = await member(house)
        victim, token = await member(house)
        owner = await house.connect("framed")
        await owner.hello(token=mine)
        return cls(house, owner, victim, token, await owner.group(victim, title=name))

    async def fill(self) -> None:
        for _ in range(MANY):
            await self.owner.send("message.send", thread=self.thread, text=LONG)
        for _ in range(MANY):
            await self.owner.take("ack")

    async def remove(self) -> int:
        """The seq that the removal took."""
        reply = await self.owner.ask("thread.remove", thread=self.thread, member=self.victim)
        assert reply["type"] == "thread", reply
        return int(reply["thread"]["head"])

    async def go_on(self) -> None:
        """What the one who was removed must not hear."""
        for _ in range(3):
            await self.owner.post(self.thread, "not for you")

    async def talker(self, kind: str, **more: Any) -> Talker:
        talker = await self.house.connect(kind, **more)
        await talker.hello(token=self.token)
        return talker


def newest(inbox: Inbox, thread: str) -> int:
    """The highest seq of the thread that was heard."""
    return max(
        (frame["seq"] for frame in inbox.heard if frame["type"] == "message" and frame["thread"] == thread), default=0
    )


async def hears_no_more(inbox: Inbox, group: Group, removed: int) -> None:
    """Whatever is still on its way is read; then the thread was silent after the removal."""
    async with group.house.http(user=fresh("witness")) as http:
        sent = await http.post("/api/messages", json={"to": group.victim, "text": (last := fresh("last"))})
        assert sent.status_code == 201
    await inbox.message(last)  # another thread's, written later than all of theirs
    assert newest(inbox, group.thread) <= removed
    assert "not for you" not in json.dumps(inbox.heard)


@pytest.mark.parametrize("kind", [*TALKERS, "sse", "sse of one thread"])
async def test_live(house: House, kind: str) -> None:
    group = await Group.of(house)
    if kind == "sse of one thread":
        inbox: Any = await house.listen(group.thread, token=group.token)
    else:
        inbox = await (house.listen(token=group.token) if kind == "sse" else group.talker(kind))
    await group.owner.post(group.thread, "for you")
    await inbox.message("for you")

    removed = await group.remove()
    await group.go_on()

    if kind == "sse of one thread":
        await inbox.take("thread", where=lambda frame: group.victim not in frame["thread"]["members"])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):  # nothing else is told on it that could be waited for
                await inbox.drain()
        assert newest(inbox, group.thread) <= removed
    else:
        await hears_no_more(inbox, group, removed)
    inbox.cut()


@pytest.mark.parametrize("kind", [*TALKERS, "sse"])
async def test_in_the_middle_of_a_long_backlog(house: House, kind: str) -> None:
    group = await Group.of(house)
    await group.fill()
    if kind == "sse":
        inbox: Any = await house.listen(token=group.token, receive_buffer=SMALL)
    else:
        inbox = await group.talker(kind, receive_buffer=SMALL)
    await inbox.take("message", thread=group.thread)  # it has begun, and is not read on

    removed = await group.remove()
    await group.go_on()

    await hears_no_more(inbox, group, removed)
    assert newest(inbox, group.thread) < MANY, "the backlog had been told already, so nothing was tried"
    inbox.cut()


@pytest.mark.parametrize("kind", ["framed", "binary"])
async def test_in_the_middle_of_a_check(house: House, kind: str) -> None:
    group = await Group.of(house)
    classes: dict[str, Any] = {"framed": FramedClient, "binary": WsClient}
    port = house.tcp_port if kind == "framed" else house.port
    more = {} if kind == "framed" else {"binary": True}
    asker = await classes[kind].open(port, receive_buffer=SMALL, **more)
    await asker.hello(token=group.token, threads=["lobby"])
    await group.fill()
    await asker.send("check", id="c")
    await asker.take("message", thread=group.thread)

    removed = await group.remove()
    await group.go_on()

    end = await asker.take(None, lambda frame: frame["type"] != "message", id="c")
    assert end["type"] == "checked", "what is unseen in other threads was not told"
    assert newest(asker, group.thread) <= removed
    assert newest(asker, group.thread) < MANY
    asker.cut()


async def test_an_old_cursor_gives_nothing_any_more(house: House) -> None:
    group = await Group.of(house)
    async with await group.talker("framed") as before:
        epoch = before.welcome["server"]["epoch"]
        await group.owner.post(group.thread, "for you")
    stream = await house.listen(group.thread, token=group.token)
    await stream.message("for you")
    last = stream.last_id
    stream.cut()

    await group.remove()
    await group.go_on()

    resume = {"epoch": epoch, "threads": {group.thread: 0}}
    for kind in TALKERS:
        async with await house.connect(kind) as talker:
            await talker.hello(token=group.token, resume=resume)
            assert group.thread not in [thread["id"] for thread in talker.welcome["threads"]]
            checked = await talker.ask("check")
            assert checked["type"] == "checked"
            for verb, more in (
                ("history", {"after": 0}),
                ("history", {"before": 99}),
                ("seen", {"seq": 1}),
                ("typing", {}),
            ):
                assert (await talker.ask(verb, thread=group.thread, **more))["code"] == "not_found", verb
            assert newest(talker, group.thread) == 0
        async with await house.connect(kind) as talker:
            refused = await talker.ask("hello", token=group.token, threads=[group.thread], resume=resume)
            assert refused["code"] == "not_found"
    with pytest.raises(Refused) as over:
        await house.listen(group.thread, token=group.token, last_id=last)
    assert over.value.status == 404
    async with await house.listen(token=group.token, last_id=f"{epoch}.{group.thread}:0") as everything:
        await hears_no_more(everything, group, 0)
    async with house.http(group.token) as http:
        assert (await http.get(f"/api/threads/{group.thread}/messages")).status_code == 404
        assert "not for you" not in (await http.get("/api/unseen")).text


async def test_an_answer_stops_in_the_middle(own_house: Any) -> None:
    async with own_house(store="memory", demo_word_s=0.02) as house:
        group = await Group.of(house)
        listeners: list[Any] = [await group.talker(kind) for kind in TALKERS]
        listeners.append(await house.listen(token=group.token))
        await group.owner.post(group.thread, "@openai tell me a long story")
        for listener in listeners:
            await listener.take("run.delta", thread=group.thread)

        removed = await group.remove()
        end = await group.owner.take("run.completed", thread=group.thread)
        answer = (await group.owner.take("message", where=lambda frame: frame["seq"] == end["seq"]))["message"]["text"]

        for listener in listeners:
            await hears_no_more(listener, group, removed)
            heard = "".join(frame["text"] for frame in listener.heard if frame["type"] == "run.delta")
            assert len(heard) < len(answer) / 2, "it went on being told"
            assert not [frame for frame in listener.heard if frame["type"] == "run.completed"]
            listener.cut()
        run = end["run"]
        async with house.http(group.token) as http:
            assert (await http.get(f"/api/runs/{run}")).status_code == 404
            assert (await http.post(f"/api/runs/{run}/cancel")).status_code == 404
        async with await house.connect("text") as talker:
            await talker.hello(token=group.token, resume={"threads": {}, "runs": {run: [1, 0]}})
            await hears_no_more(talker, group, 0)
            assert run not in json.dumps(talker.heard)


async def test_a_member_made_a_reader_hears_but_can_say_nothing(house: House) -> None:
    group = await Group.of(house)
    talker = await group.talker("text")
    made = await group.owner.ask("thread.role", thread=group.thread, member=group.victim, role=Role.READER)
    assert made["type"] == "thread"

    await group.owner.post(group.thread, "listen")

    await talker.message("listen")
    for verb, more in (
        ("message.send", {"text": "no"}),
        ("typing", {}),
        ("thread.add", {"member": fresh("friend")}),
        ("thread.remove", {"member": group.owner.welcome["user"]}),
        ("thread.role", {"member": group.victim, "role": "owner"}),
        ("run.start", {"assistant": "openai"}),
    ):
        assert (await talker.ask(verb, thread=group.thread, **more))["code"] == "not_found", verb
    async with house.http(group.token) as http:
        assert (await http.post(f"/api/threads/{group.thread}/messages", json={"text": "no"})).status_code == 404
        assert (await http.patch(f"/api/threads/{group.thread}", json={"title": "mine"})).status_code == 404
        assert (await http.delete(f"/api/threads/{group.thread}")).status_code == 404
        log = (await http.get(f"/api/threads/{group.thread}/messages")).json()["messages"]
    assert "no" not in [message["text"] for message in log]
    await talker.close()


@pytest.mark.parametrize("what", ["history", "history before", "check", "backlog", "over HTTP", "unseen"])
async def test_a_store_that_answers_late_tells_nothing_newer(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It was asked before the removal, and reads after it."""
    group = await Group.of(house)
    await group.owner.post(group.thread, "for you")
    asker = await group.talker("framed")
    await asker.message("for you")
    store = house.app.hub.store
    asked, may_answer = asyncio.Event(), asyncio.Event()
    reads = {name: getattr(store, name) for name in ("read_after", "read_before")}

    def late(name: str) -> Any:
        async def read(*given: Any) -> Any:
            asked.set()
            await may_answer.wait()
            return await reads[name](*given)

        return read

    for name in reads:
        monkeypatch.setattr(store, name, late(name))
    async with house.http(group.token) as http:
        paths = {"over HTTP": f"/api/threads/{group.thread}/messages?after=0", "unseen": "/api/unseen"}
        if what in paths:
            asking: Any = asyncio.create_task(http.get(paths[what]))
        elif what == "check":
            asking = asyncio.create_task(asker.ask("check"))
        elif what == "backlog":
            asker.cut()
            asker = await house.connect("framed")
            await asker.hello(token=group.token, resume={"threads": {group.thread: 0}})
            asking = asyncio.create_task(hears_no_more(asker, group, 1))
        else:
            where = {} if "before" in what else {"after": 0}
            asking = asyncio.create_task(asker.ask("history", thread=group.thread, **where))
        async with asyncio.timeout(5):
            await asked.wait()
        await group.remove()
        await group.go_on()
        may_answer.set()
        answer = await asking

    said = answer.text if what in paths else json.dumps([answer, *asker.heard])
    assert "not for you" not in said
    asker.cut()
