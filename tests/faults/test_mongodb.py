"""MongoDB servers are killed and frozen while two nodes write: what was acknowledged is there, once, without holes."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from tests.contracts.words import draft, log, open_thread

from hubbub.core.errors import Unavailable
from hubbub.core.nouns import Role
from hubbub.stores.mongo import MongoStore
from support import mongod

WRITERS = 16
PLACES = tuple(f"t{n}" for n in range(4))
WRITE = frozenset({Role.MEMBER})


@dataclass
class Writing:
    """What writers on two nodes sent and were told."""

    nodes: tuple[MongoStore, MongoStore]
    acked: dict[str, tuple[str, int]] = field(default_factory=dict)  # text -> thread, seq
    sent: set[str] = field(default_factory=set)
    over: bool = False

    async def write(self, writer: int) -> None:
        """With a key, again until it is told; without one, once. To either node."""
        keyed = writer % 2 == 0
        for n in itertools.count():
            if self.over:
                return
            text, thread = f"{writer} {n}", PLACES[n % len(PLACES)]
            self.sent.add(text)
            said = draft(text, f"w{writer}", thread=thread, key=text if keyed else None)
            while True:
                try:
                    message = await random.choice(self.nodes).append(said, WRITE)
                except Unavailable:
                    await asyncio.sleep(0.05)
                    if keyed:
                        continue
                else:
                    assert text not in self.acked
                    self.acked[text] = thread, message.seq
                break

    async def more(self, count: int) -> None:
        """Until so many more were acknowledged."""
        wanted = len(self.acked) + count
        async with asyncio.timeout(40):
            while len(self.acked) < wanted:  # noqa: ASYNC110 -- sixteen writers at once, and none of them to ask
                await asyncio.sleep(0.01)

    async def judge(self) -> None:
        logs = {place: await log(self.nodes[0], place) for place in PLACES}
        for place, messages in logs.items():
            assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
            assert await self.nodes[1].heads([place]) == {place: len(messages)}
        places = [(m.text, (m.thread, m.seq)) for messages in logs.values() for m in messages]
        stored = dict(places)
        assert len(places) == len(stored), "a message is there twice"
        assert self.acked.items() <= stored.items(), "an acknowledged message is not where it was said to be"
        assert stored.keys() <= self.sent
        for messages in logs.values():
            for writer in range(WRITERS):
                mine = [int(m.text.split()[1]) for m in messages if m.sender == f"w{writer}"]
                assert mine == sorted(mine)


@asynccontextmanager
async def writing(servers: list[mongod.Mongod]) -> AsyncIterator[Writing]:
    """Two nodes with sixteen writers, who are judged in the end."""
    nodes = MongoStore(mongod.uri(servers), "hubbub"), MongoStore(mongod.uri(servers), "hubbub")
    for node in nodes:
        await node.open()
    for place in PLACES:
        await open_thread(nodes[0], *(f"w{n}" for n in range(WRITERS)), id=place)
    work = Writing(nodes)
    writers = [asyncio.ensure_future(work.write(n)) for n in range(WRITERS)]
    try:
        yield work
        await work.more(50)
        work.over = True
        await asyncio.gather(*writers)
        await work.judge()
    finally:
        for writer in writers:
            writer.cancel()
        for node in nodes:
            await node.close()


async def kill_and_start_again(server: mongod.Mongod) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def kill_the_primary(servers: list[mongod.Mongod], work: Writing) -> None:
    old = await asyncio.to_thread(mongod.primary, servers)
    await work.more(20)
    await asyncio.to_thread(old.kill)
    await asyncio.to_thread(mongod.primary, servers, but=old)
    await work.more(50)
    await asyncio.to_thread(old.start)


async def freeze_the_primary(servers: list[mongod.Mongod], work: Writing) -> None:
    old = await asyncio.to_thread(mongod.primary, servers)
    await work.more(20)
    old.signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(mongod.primary, servers, but=old)
        await work.more(50)
    finally:
        old.signal(signal.SIGCONT)
    await work.more(50)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
async def test_a_server_that_is_killed_while_two_nodes_write_loses_and_doubles_nothing(kills: int) -> None:
    with mongod.replica_set() as servers:
        async with writing(servers) as work:
            for _ in range(kills):
                await work.more(50)
                await kill_and_start_again(servers[0])


@pytest.mark.parametrize("primaries", [2, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
async def test_primaries_that_are_killed_and_frozen_in_turn_lose_and_double_nothing(primaries: int) -> None:
    with mongod.replica_set(3) as servers:
        async with writing(servers) as work:
            for n in range(primaries):
                await (freeze_the_primary if n % 2 else kill_the_primary)(servers, work)
