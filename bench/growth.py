"""More members, threads and history, ×10 three times: what each request then costs, which should stay the same.

The server runs in this process, four times with different stores, each with a client on a socket; requests go one after
the other, by turns to each size. Counted is the time this process has had on a core for a request, the client's own
small part included; with MongoDB the time it takes, as the work is done elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from bench import beside, machine
from bench.options import Options
from bench.result import Result
from hubbub import config
from hubbub.app import App
from hubbub.core.nouns import Draft, Member, Membership, Thread, stamp
from hubbub.core.ports import Store

sys.path.append(str(machine.HERE.parent / "tests"))

GROWN = ("members", "threads", "history")
SIZES = {"memory": (100, 1000, 10_000, 100_000), "sqlite": (100, 1000, 10_000, 100_000), "mongodb": (100, 1000, 10_000)}
SHORT = (100, 1000)
GOAL = 1.3
FEW = 100
TOGETHER = {"memory": 1000, "sqlite": 1000, "mongodb": 1000}
"""Writes under way at once while a store is filled."""

PAGE = 50
PLACE = "place"
"""The thread that everything happens in."""

Request = Callable[[], Awaitable[object]]


def run(options: Options) -> Iterator[Result]:
    """Every store, and whatever grows in it."""
    with contextlib.ExitStack() as stack:
        for kind, sizes in SIZES.items():
            why = beside.missing() if kind == "mongodb" else ""
            if why:
                yield Result("scale", kind, "µs at the largest", skipped=why)
                continue
            uri = beside.mongodb(stack)[0] if kind == "mongodb" else ""
            for grown in GROWN[:1] if options.short else GROWN:
                yield from asyncio.run(_grow(kind, grown, SHORT if options.short else sizes, uri, options))


async def _grow(kind: str, grown: str, sizes: tuple[int, ...], uri: str, options: Options) -> list[Result]:
    took: dict[str, dict[int, list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        home = stack.enter_context(machine.directory())
        people = {
            size: await stack.enter_async_context(_served(kind, grown, size, home / str(size), uri)) for size in sizes
        }
        clock = time.perf_counter if kind == "mongodb" else time.process_time
        rounds = options.rounds or (2 if options.short else 9)
        times = 5 if options.short else 40
        for turn in range(rounds + 1):
            for size in sizes if turn % 2 else reversed(sizes):
                for name, request in people[size].items():
                    costs = took.setdefault(name, {}).setdefault(size, [])
                    for _ in range(times):
                        began = clock()
                        await request()
                        if turn:  # the first warms up
                            costs.append(clock() - began)
    return [_result(f"{kind}, {grown}: {name}", by_size) for name, by_size in took.items()]


def _result(case: str, by_size: dict[int, list[float]]) -> Result:
    """Of each size what the cheapest tenth of the requests cost at most, as a machine that others use makes some dearer
    and none cheaper; the ratio is the dearest size by the cheapest."""
    costs = {size: statistics.quantiles(all_of_them, n=10)[0] * 1e6 for size, all_of_them in sorted(by_size.items())}
    result = Result("scale", case, "µs at the largest", less_is_better=True, goal=GOAL)
    result.ours = costs[max(costs)]
    result.floor = costs[min(costs)]
    result.ratios = [max(costs.values()) / min(costs.values())]
    decades = len(costs) - 1
    result.notes = {
        "µs": " → ".join(f"{cost:.0f}" for cost in costs.values()),
        "×10 costs": f"×{(result.ours / result.floor) ** (1 / decades):.2f}",
    }
    return result


@contextlib.asynccontextmanager
async def _served(kind: str, grown: str, size: int, home: Path, uri: str) -> AsyncIterator[dict[str, Request]]:
    """A server with so many of those, a few of the others, and what is asked of it."""
    from support.talkers import FramedClient

    given: dict[str, object] = {"home": home, "port": 0, "tcp_port": 0, "web": False, "openai": False}
    given |= {"send_rate": 0.0, "send_burst": 0.0, "log_level": "error"}
    settings = config.load(flags=given, environ={}, dotenv=Path("/nonexistent"))
    store = await _filled(kind, grown, size, home, uri)
    async with App(settings, store=store) as app, await FramedClient.open(app.tcp_port) as client:
        await client.hello("m0")
        numbers = itertools.count()
        half = (size if grown == "history" else FEW) // 2

        async def send() -> None:
            await client.post(PLACE, f"message {next(numbers)}".ljust(100, "."))

        async def page() -> None:
            got = await client.ask("history", thread=PLACE, after=half - PAGE // 2, limit=PAGE)
            assert len(got["messages"]) == PAGE

        async def join() -> None:
            assert (await client.ask("thread.join", thread="other"))["type"] != "error"
            assert (await client.ask("thread.leave", thread="other"))["type"] != "error"

        async def who() -> None:
            assert (await client.ask("who"))["type"] == "who"

        async def hello() -> None:
            async with await FramedClient.open(app.tcp_port) as again:
                await again.hello(token=client.welcome["token"])

        yield {"send+ack": send, "a page": page, "join and leave": join, "who": who, "hello": hello}


async def _filled(kind: str, grown: str, size: int, home: Path, uri: str) -> Store:
    """Everybody is in the thread and in the other one that is joined and left. The App closes it."""
    store = await _opened(kind, f"{grown}{size}", home, uri)
    together = TOGETHER[kind]
    members, threads, history = (size if grown == what else FEW for what in GROWN)
    names = [f"m{number}" for number in range(members)]
    for first in range(0, members, together):
        some = names[first : first + together]
        await asyncio.gather(*(store.add_member(Member(name=name, arrived=True)) for name in some))
    for id in (PLACE, "other"):
        there = [Membership(thread=id, member=name) for name in names if id == PLACE or name != "m0"]
        await store.create_thread(Thread(id=id, public=True), there)
    for first in range(0, threads, together):
        some = range(first, min(threads, first + together))
        await asyncio.gather(
            *(store.create_thread(Thread(id=f"t{n}"), [Membership(thread=f"t{n}", member="m1")]) for n in some)
        )
    for first in range(0, history, together):
        drafts = [_draft(number) for number in range(first, min(history, first + together))]
        await asyncio.gather(*(store.append(draft) for draft in drafts))
    await store.see(PLACE, "m0", history)
    await store.close()
    return store


def _draft(number: int) -> Draft:
    text = f"message {number}".ljust(100, ".")
    return Draft(thread=PLACE, sender="m0", text=text, timestamp=stamp(time.time()), destination=PLACE)


async def _opened(kind: str, name: str, home: Path, uri: str) -> Store:
    if kind == "memory":
        from hubbub.stores.memory import MemoryStore

        return MemoryStore()
    store: Store
    if kind == "sqlite":
        from hubbub.stores.sqlite import DATABASE, SqliteStore

        home.mkdir(parents=True, mode=0o700)  # noqa: ASYNC240
        store = SqliteStore(home / DATABASE)
    else:
        from hubbub.stores.mongo import MongoStore

        store = MongoStore(uri, name)
    await store.open()
    return store
