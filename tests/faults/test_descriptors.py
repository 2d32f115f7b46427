"""No descriptor is left: nobody new comes in, those who are in go on, and it passes when somebody leaves."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from pathlib import Path

import pytest
import websockets

from support.inbox import Over
from support.load import Crowd
from support.power import altered
from support.process import Server, running
from support.talkers import FramedClient, Talker, WsClient
from support.witness import LOBBY, stored_log

SMALL_LOG = "from hubbub.stores import group_commit; group_commit.CHECKPOINT_PAGES = 40"
OPENED_AGAIN_S = 5.0
WATCHED_S = 1.0
SPARE = 12


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def limit_descriptors(server: Server, most: int) -> None:
    resource.prlimit(
        server.pid, resource.RLIMIT_NOFILE, (most, resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1])
    )


def cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def flood(server: Server, sockets: list[socket.socket], port: int, count: int) -> None:
    """Connections that the kernel takes and the server cannot, all of which stay open on this side."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sockets.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", port))


async def enters(server: Server, name: str, kind: str) -> Talker:
    """Somebody new, who tries again as long as the door is closed."""
    while True:
        try:
            async with asyncio.timeout(1):
                talker: Talker
                if kind == "framed":
                    talker = await FramedClient.open(server.tcp_port)
                else:
                    talker = await WsClient.open(server.port, open_timeout=1)
                await talker.hello(name)
                return talker
        except (OSError, EOFError, Over, TimeoutError, websockets.WebSocketException):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("door", ["tcp_port", "port"])
async def test_without_descriptors_those_who_are_in_go_on_and_later_others_come_in(tmp_path: Path, door: str) -> None:
    async with running(tmp_path / "home", program=altered(SMALL_LOG)) as server:
        crowd = Crowd(server)
        sockets: list[socket.socket] = []
        async with crowd.there():
            crowd.say("before", 1)
            await crowd.settled()
            limit_descriptors(server, descriptors(server) + SPARE)
            await flood(server, sockets, getattr(server, door), 4 * SPARE)

            crowd.say("meanwhile", 60, size=4000)
            await crowd.settled()
            await crowd.all_heard()
            cpu, at = cpu_s(server), time.monotonic()
            await asyncio.sleep(WATCHED_S)
            busy = (cpu_s(server) - cpu) / (time.monotonic() - at)
            written = server.said

            for sock in sockets:
                sock.close()
            async with asyncio.timeout(OPENED_AGAIN_S):
                for kind in ("framed", "text"):
                    talker = await enters(server, f"late-{kind}", kind)
                    await talker.close()
            crowd.say("after", 1)
            await crowd.settled()
            await crowd.all_heard()
        assert server.returncode is None
        await server.kill()
    assert busy < 0.5, "of a core"
    assert len(written.splitlines()) < 50, written[-2000:]
    assert crowd.codes() == set()
    assert [one.connections for one in crowd.everybody] == [1] * 5
    await crowd.judged(tmp_path / "home")


async def test_a_database_that_cannot_be_opened_anew_for_want_of_descriptors_is_as_soon_as_there_are_some(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    async with running(home) as server:
        alice = await FramedClient.open(server.tcp_port)
        await alice.hello("alice")
        await alice.post(LOBBY, "before", key="k1")

        limit_files(server, (home / "hubbub.db-wal").stat().st_size)
        refused = [await alice.ask("message.send", thread=LOBBY, text="meanwhile", key="k2")]
        limit_files(server, resource.RLIM_INFINITY)
        limit_descriptors(server, 5)
        for _ in range(3):
            refused.append(await alice.ask("message.send", thread=LOBBY, text="meanwhile", key="k2"))
        history = await alice.ask("history", thread=LOBBY)
        limit_descriptors(server, 512)
        ack = await alice.post(LOBBY, "meanwhile", key="k2")
        alice.cut()
        await server.kill()
    assert [one.get("code") for one in refused] == ["storage_full"] + ["unavailable"] * 3
    assert [m["text"] for m in history["messages"]] == ["before"]
    assert ack["seq"] == 2
    assert await stored_log(home / "hubbub.db") == [(1, "alice", "before"), (2, "alice", "meanwhile")]


def limit_files(server: Server, most: int) -> None:
    """No file may become larger."""
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
