"""The server goes away: what was begun is finished, nothing new is begun, and nobody is waited for in vain."""

from __future__ import annotations

import asyncio
from asyncio import Future

from hubbub.buses.local import LocalBus
from hubbub.core import frames
from hubbub.core.nouns import Draft, Message, Role
from hubbub.hub import hub as hub_module
from hubbub.stores.memory import MemoryStore
from tests.hub.crowd import Client, open_hub, quiet


class HoldingStore(MemoryStore):
    """A disk that takes until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.release = asyncio.Event()

    def append(self, draft: Draft, roles: frozenset[Role] | None = None) -> Future[Message]:
        return asyncio.ensure_future(self._append_later(draft, roles))

    async def _append_later(self, draft: Draft, roles: frozenset[Role] | None) -> Message:
        await self.release.wait()
        return await super().append(draft, roles)


async def test_a_send_that_is_being_stored_is_acknowledged_before_the_goodbye() -> None:
    store = HoldingStore()
    async with open_hub(store, LocalBus()) as hub:
        alice = Client("alice", strict=False)
        await alice.connect(hub)
        await quiet()
        told: list[bytes] = []
        alice.door.write = told.append  # type: ignore[method-assign]
        alice.door.session.handle(frames.MessageSend(thread="lobby", text="hello", id=1))  # type: ignore[union-attr]
        draining = asyncio.create_task(hub.drain())
        await quiet()
        before = list(told)
        store.release.set()
        await draining

    assert before == []
    said = b"".join(told)
    assert 0 <= said.find(b'"type":"ack"') < said.find(b'"type":"bye"')


async def test_who_does_not_read_is_not_waited_for() -> None:
    async with open_hub(MemoryStore(), LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        assert alice.door.session is not None
        alice.door.full = True
        alice.door.session.stop()
        await asyncio.wait_for(hub.drain(), 0.5)

    assert alice.door.ended == "shutdown"


async def test_an_answer_that_never_comes_does_not_hold_the_server(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(hub_module, "DRAIN_S", 0.05)
    store = HoldingStore()
    async with open_hub(store, LocalBus()) as hub:
        alice = Client("alice")
        await alice.connect(hub)
        await quiet()
        assert alice.door.session is not None
        alice.door.session.handle(frames.MessageSend(thread="lobby", text="hello", id=1))
        await asyncio.wait_for(hub.drain(), 1)
        await hub.stop()
        store.release.set()

    assert alice.door.ended == "shutdown"
