"""Several processes that are one server, on MongoDB and Redis: who is at one hears who is at another, and whichever is
asked tells of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import mongod
from support.gunicorn import Gunicorn, free_ports, gunicorn
from support.process import READY_S, SETTINGS
from support.redis import redis_server
from support.server import House, fresh
from support.talkers import FramedClient, Talker, WsClient

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
async def outside() -> AsyncIterator[dict[str, str]]:
    """A truth and a queue that belong to no process."""
    with mongod.replica_set() as servers:
        async with redis_server() as redis:
            yield {"DATABASE_URI": mongod.uri(servers), "REDIS_URL": redis.url}


@pytest.fixture
async def server(tmp_path: Path, outside: dict[str, str]) -> AsyncIterator[Gunicorn]:
    async with gunicorn(tmp_path / "home", "--workers", "2", DATABASE_NAME=fresh("d"), **outside) as server:
        await becomes(2, lambda: answering(server))
        yield server


async def becomes(wanted: float, look: Callable[[], Awaitable[float]]) -> None:
    async with asyncio.timeout(READY_S):
        while await look() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def started(server: Gunicorn) -> set[float]:
    """When the workers that answer were started, which none was at the same moment."""
    return set(await asyncio.gather(*(counted(server, "hubbub_process_start_time_seconds") for _ in range(8))))


async def answering(server: Gunicorn) -> int:
    return len(await started(server))


async def crowd(server: House, count: int) -> list[Talker]:
    """People at both ports, some at each process."""
    talkers: list[Talker] = []
    for number in range(count):
        one = await (WsClient.open(server.port) if number % 2 else FramedClient.open(server.tcp_port))
        await one.hello(fresh("p"))
        talkers.append(one)
    return talkers


async def counted(server: Gunicorn, name: str) -> float:
    """A number of /metrics, as any of the workers tells it; labels are added up."""
    async with server.http() as http:
        text = (await http.get("/metrics")).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


async def least(server: Gunicorn, name: str) -> float:
    """The smallest that any of them tells."""
    return min([await counted(server, name) for _ in range(8)])


async def test_people_at_two_workers_are_in_one_house(server: Gunicorn) -> None:
    everybody = await crowd(server, 12)
    for number, one in enumerate(everybody):
        await one.post("lobby", f"from {number}")
    for one in everybody:
        heard = [(await one.message(f"from {number}"))["seq"] for number in range(12)]
        assert heard == sorted(heard)
    for one in everybody:
        await one.close()


async def test_metrics_are_of_all_workers_whichever_is_asked(server: Gunicorn) -> None:
    everybody = await crowd(server, 12)
    for number, one in enumerate(everybody):
        await one.post("lobby", f"{number}")
    for name in ("hubbub_messages_total", "hubbub_connections"):
        await becomes(12, lambda name=name: least(server, name))  # type: ignore[misc]
    for one in everybody:
        await one.close()


async def test_while_all_workers_are_replaced_nobody_waits_for_the_next_and_nothing_counted_is_taken_back(
    server: Gunicorn,
) -> None:
    (one,) = await crowd(server, 1)
    for number in range(5):
        await one.post("lobby", f"{number}")
    await becomes(5, lambda: least(server, "hubbub_messages_total"))
    before = server.workers
    known: set[float] = set()
    heard: set[float] = set()
    async with asyncio.timeout(40):
        while len(known) < 2:
            known |= await started(server)
        server.process.send_signal(signal.SIGHUP)
        while len(server.workers) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        following = set(server.workers) - set(before)
        for pid in following:
            os.kill(pid, signal.SIGSTOP)
        while not known <= heard:
            heard |= await started(server)
        assert heard == known
        for pid in following:
            os.kill(pid, signal.SIGCONT)
        lowest = 5.0
        while set(before) & set(server.workers):
            lowest = min(lowest, await counted(server, "hubbub_messages_total"))
    assert len(server.workers) == 2
    assert not await started(server) & known
    assert min(lowest, await counted(server, "hubbub_messages_total")) == 5
    assert "Traceback" not in server.said, server.said


async def test_uvicorns_workers_share_the_tcp_port_too(tmp_path: Path, outside: dict[str, str]) -> None:
    port, tcp_port = free_ports(2)
    given = {"HUBBUB_HOME": str(tmp_path), "HUBBUB_TCP_PORT": str(tcp_port), "DATABASE_NAME": fresh("d"), **outside}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "hubbub.asgi:app", "--workers", "2", "--port", str(port)),
        *("--timeout-graceful-shutdown", "5"),
        env={**os.environ, **SETTINGS, **given},
        cwd=tmp_path,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(READY_S), httpx2.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        ends: list[Any] = [await FramedClient.open(tcp_port) for _ in range(6)]
        for one in ends:
            await one.hello(fresh("p"))
        await ends[0].post("lobby", "hello")
        for one in ends:
            assert await one.message("hello")
        process.send_signal(signal.SIGTERM)
        for one in ends:
            assert (await one.take("bye"))["code"] == "shutdown"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(30):
            await process.wait()
