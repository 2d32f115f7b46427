"""MongoDB as the store: from an append to its message on the disks of a majority, on a replica set of one server.

Beside it, the same documents inserted in groups of as many as there are senders, with the same write concern and
indexes, without anything that judges, numbers or marks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from pymongo import AsyncMongoClient

from bench import beside
from bench.options import Options
from bench.result import Result, compare
from hubbub.core.nouns import Draft, Membership, Role, Thread
from hubbub.stores import mongo_rows as rows
from hubbub.stores.mongo import MongoStore
from hubbub.stores.mongo_rows import Doc

CASES = ((1, 1), (100, 1), (100, 50))
"""Senders and threads."""

TEXT = "x" * 72
STAMP = "2026-01-01T00:00:00.000Z"
WRITE = frozenset({Role.MEMBER})


def run(options: Options) -> Iterator[Result]:
    """One sender, and a hundred in one thread and in fifty."""
    if why := beside.missing():
        yield Result("mongo", "append → message", "messages/s", skipped=why)
        return
    with contextlib.ExitStack() as stack, asyncio.Runner() as loop:
        uri, _ = beside.mongodb(stack)
        for senders, threads in CASES:
            yield loop.run(_case(uri, senders, threads, options))


async def _case(uri: str, senders: int, threads: int, options: Options) -> Result:
    seconds = options.seconds or (0.2 if options.short else 2.0)
    rounds = options.rounds or (1 if options.short else 5)
    plural = "s" if senders > 1 else ""
    result = Result("mongo", f"{senders} sender{plural}, {threads} thread{plural * (threads > 1)}", "messages/s")
    waits: list[float] = []
    ours: list[float] = []
    floor: list[float] = []
    async with _ours(uri, senders, threads) as store, _bare(uri, senders, threads) as insert:
        await _append(store, senders, threads, 0.3, [])
        for turn in range(rounds):  # the order turns round each time, so that drift favours neither
            for bare_now in (False, True) if turn % 2 else (True, False):
                if bare_now:
                    floor.append(await insert(seconds))
                else:
                    ours.append(await _append(store, senders, threads, seconds, waits))
    mine, theirs = iter(ours), iter(floor)
    compare(result, rounds, lambda: next(mine), lambda: next(theirs))
    waits.sort()
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        result.notes[name] = f"{waits[int(len(waits) * part)] * 1000:.2f} ms"
    return result


@contextlib.asynccontextmanager
async def _ours(uri: str, senders: int, threads: int) -> AsyncIterator[MongoStore]:
    store = MongoStore(uri, f"ours{senders}in{threads}")
    await store.open()
    for n in range(threads):
        members = [Membership(thread=f"t{n}", member=f"s{one}") for one in range(n, senders, threads)]
        await store.create_thread(Thread(id=f"t{n}"), members)
    yield store
    await store.close()


async def _append(store: MongoStore, senders: int, threads: int, seconds: float, waits: list[float]) -> float:
    began = time.perf_counter()

    async def send(sender: int) -> int:
        thread = f"t{sender % threads}"
        for sent in itertools.count():
            at = time.perf_counter()
            if at - began > seconds:
                return sent
            key = f"{at}"
            draft = Draft(thread=thread, sender=f"s{sender}", text=TEXT, timestamp=STAMP, destination=thread, key=key)
            await store.append(draft, WRITE)
            waits.append(time.perf_counter() - at)
        return 0

    return sum(await asyncio.gather(*map(send, range(senders)))) / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _bare(uri: str, senders: int, threads: int) -> AsyncIterator[Callable[[float], Awaitable[float]]]:
    """Inserts for so many seconds, and tells how many a second."""
    name = f"bare{senders}in{threads}"
    store = MongoStore(uri, name)  # for its indexes and validators
    await store.open()
    await store.close()
    client = AsyncMongoClient[Doc](uri, w="majority", journal=True)
    numbers = itertools.count(1)

    async def insert(seconds: float) -> float:
        began, inserted = time.perf_counter(), 0
        while (at := time.perf_counter()) - began < seconds:
            docs = []
            for sender in range(senders):
                thread = f"t{sender % threads}"
                draft = Draft(thread=thread, sender=f"s{sender}", text=TEXT, timestamp=STAMP, destination=thread)
                docs.append(rows.of_message(draft.numbered(next(numbers)), f"{at}"))
            await client[name]["messages"].insert_many(docs)
            inserted += senders
        return inserted / (time.perf_counter() - began)

    await insert(0.3)
    yield insert
    await client.close()
