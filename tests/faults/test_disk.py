"""The disk is full, over its quota, or fails to sync: nothing is promised that is not kept, and all can be read."""

from __future__ import annotations

import contextlib
import errno
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.checker import check
from support.load import Crowd
from support.power import Disk, altered, compiled, frozen
from support.process import Server, missing, running
from support.talkers import FramedClient, Talker, WsClient
from support.witness import LOBBY, stored_log

HEALED_S = 5.0
SMALL_LOG = "from hubbub.stores import group_commit; group_commit.CHECKPOINT_PAGES = 40"
LARGE_LOG = "from hubbub.stores import group_commit; group_commit.CHECKPOINT_PAGES = 1 << 20"
PRIVATE = 'mount -t tmpfs -o size=6m,mode=0700 tmpfs "$0" && exec "$@"'


def private_mounts() -> list[str]:
    """How to run something with mounts of its own."""
    if shutil.which("unshare") is None:
        missing("There is no unshare")
    for how in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        if (
            subprocess.run([*how, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode
            == 0
        ):
            return how
    missing("Mounting a small file system is not permitted")
    raise AssertionError


class SmallDisk:
    """A file system of 6 MiB, seen by the server alone; full once a ballast fills the rest of it."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.before = [*private_mounts(), "sh", "-c", PRIVATE, str(home)]
        self._home = home

    def inside(self, server: Server) -> Path:
        return Path(f"/proc/{server.pid}/root{self._home}")

    def fill(self, server: Server) -> None:
        with (self.inside(server) / "ballast").open("wb", buffering=0) as ballast:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)

    def free(self, server: Server) -> None:
        (self.inside(server) / "ballast").unlink()


class SmallFiles:
    """A disk on which from some moment no file may become larger than the log is then: EFBIG, not ENOSPC."""

    def __init__(self, home: Path) -> None:
        self.before: list[str] = []
        self._home = home

    def inside(self, server: Server) -> Path:
        return self._home

    def fill(self, server: Server) -> None:
        most = (self._home / "hubbub.db-wal").stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def free(self, server: Server) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def copied(server: Server, disk: SmallDisk | SmallFiles, into: Path) -> Path:
    """The files of a server frozen in the middle of its work."""
    server.signal(signal.SIGSTOP)
    await frozen(server.pid)
    shutil.copytree(disk.inside(server), into, ignore=shutil.ignore_patterns("*-shm", "lock"))
    server.signal(signal.SIGCONT)
    return into


@pytest.mark.parametrize("kind", [SmallDisk, SmallFiles])
async def test_on_a_full_disk_sends_are_refused_reading_goes_on_and_it_heals_by_itself(
    tmp_path: Path, kind: type[SmallDisk | SmallFiles]
) -> None:
    disk = kind(tmp_path / "home")
    async with running(tmp_path / "home", before=disk.before) as server:
        crowd = Crowd(server)
        async with crowd.there():
            crowd.say("before", 20)
            await crowd.settled()

            await (await FramedClient.open(server.tcp_port)).hello("visitor")
            disk.fill(server)
            crowd.say("meanwhile", 20, size=2000)
            for writer in crowd.writers:
                await writer.until(lambda writer=writer: len(writer.errors) >= 3)  # type: ignore[misc]
            assert crowd.codes() == {"storage_full"}
            assert all(error["retry_after"] > 0 for writer in crowd.writers for error in writer.errors)
            during = await copied(server, disk, tmp_path / "during")
            await read_all(server)

            disk.free(server)
            freed = time.monotonic()
            crowd.say("after", 1)
            await crowd.settled()
            assert time.monotonic() - freed < HEALED_S
            await crowd.all_heard()
            home = await copied(server, disk, tmp_path / "after")
        assert crowd.bystander.connections == crowd.listener.connections == 1, "those who only listened stay connected"
        assert server.returncode is None
        assert crowd.codes() == {"storage_full"}
    await crowd.judged(home)
    assert len(await stored_log(during / "hubbub.db")) >= 20 * len(crowd.writers)


async def read_all(server: Server) -> None:
    """Everything that only reads, by somebody who was here before, over three transports."""
    for kind in ("framed", "text", "binary"):
        talker: Talker
        if kind == "framed":
            talker = await FramedClient.open(server.tcp_port)
        else:
            talker = await WsClient.open(server.port, binary=kind == "binary")
        async with talker:
            welcome = await talker.hello("visitor", threads=[LOBBY], resume=_at(10))
            assert welcome["threads"][0]["head"] >= 60
            assert [m["seq"] for m in await talker.messages(50, LOBBY)] == list(range(11, 61))
            history = await talker.ask("history", thread=LOBBY, after=0, limit=60)
            assert [m["seq"] for m in history["messages"]] == list(range(1, 61))


def _at(seq: int) -> dict[str, Any]:
    return {"threads": {LOBBY: seq}}


async def test_on_a_full_disk_one_can_still_ask_what_is_new(tmp_path: Path) -> None:
    disk = SmallFiles(tmp_path / "home")
    async with running(tmp_path / "home") as server:
        bob = await FramedClient.open(server.tcp_port)
        await bob.hello("bob")
        alice = await FramedClient.open(server.tcp_port)
        await alice.hello("alice")
        await alice.post(LOBBY, "hello bob")
        disk.fill(server)
        refused = await alice.ask("message.send", thread=LOBBY, text="x" * 9000)
        asked = await bob.ask("check")
        alice.cut()
        bob.cut()
    assert refused["code"] == "storage_full"
    assert (asked["type"], asked.get("count")) == ("checked", 1)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
async def test_no_space_no_quota_and_too_large_a_file_are_told_as_a_full_disk(
    tmp_path: Path, shim: Path, error: int
) -> None:
    disk = Disk(tmp_path, shim)
    async with running(disk.home, disk.environ) as server:
        crowd = Crowd(server)
        async with crowd.there():
            crowd.say("before", 1)
            await crowd.settled()
            disk.refuse_writes_to("hubbub.db-wal", error)
            crowd.say("meanwhile", 5)
            for writer in crowd.writers:
                await writer.until(lambda writer=writer: writer.errors)  # type: ignore[misc]
            disk.accept_writes()
            await crowd.settled()
            await crowd.all_heard()
        await server.kill()
    assert crowd.codes() == {"storage_full"}
    assert crowd.bystander.connections == crowd.listener.connections == 1
    await crowd.judged(disk.home)


async def test_a_log_that_cannot_be_copied_into_a_full_database_grows_until_it_can(tmp_path: Path, shim: Path) -> None:
    disk = Disk(tmp_path, shim)
    async with running(disk.home, disk.environ, program=altered(SMALL_LOG)) as server:
        crowd = Crowd(server)
        async with crowd.there():
            before = (disk.home / "hubbub.db").stat().st_size
            disk.refuse_writes_to("hubbub.db", errno.ENOSPC)
            crowd.say("meanwhile", 20, size=9000)
            await crowd.settled()
            during = (disk.home / "hubbub.db").stat().st_size
            disk.accept_writes()
            crowd.say("after", 20, size=9000)
            await crowd.settled()
            await crowd.all_heard()
            assert (disk.home / "hubbub.db").stat().st_size > during + 100_000
        await server.kill()
    assert during == before
    assert crowd.codes() == set(), "nobody has to know"
    await crowd.judged(disk.home)


async def test_a_log_whose_index_cannot_grow_is_a_full_disk(tmp_path: Path, shim: Path) -> None:
    """The commit is on disk already when its index is to grow, and yet nobody is told; the same key decides."""
    disk = Disk(tmp_path, shim)
    async with running(disk.home, disk.environ, program=altered(LARGE_LOG)) as server:
        crowd = Crowd(server)
        async with crowd.there():
            disk.refuse_writes_to("hubbub.db-shm", errno.ENOSPC)
            crowd.say("until the index is full", 100, size=60_000)
            for writer in crowd.writers:
                await writer.until(lambda writer=writer: writer.errors)  # type: ignore[misc]
            disk.accept_writes()
            await crowd.settled()
            await crowd.all_heard()
        await server.kill()
    assert crowd.codes() == {"storage_full"}
    await crowd.judged(disk.home)


@pytest.mark.parametrize("disk_is", ["fast", "slow"])
@pytest.mark.parametrize("failures", [5, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_a_failed_sync_is_never_acknowledged_and_the_same_key_decides(
    tmp_path: Path, shim: Path, disk_is: str, failures: int
) -> None:
    disk = Disk(tmp_path, shim, sync_s=0.004 if disk_is == "slow" else 0.0)
    async with running(disk.home, disk.environ) as server:
        crowd = Crowd(server)
        async with crowd.there():
            for n in range(failures):
                crowd.say(f"round {n}", 10)
                disk.fail_next_sync_of("hubbub.db-wal")
                await crowd.settled()
                assert disk.failed
            await crowd.all_heard()
        image = tmp_path / "dark"
        testimonies = await disk.photograph(server, [one.testimony for one in crowd.everybody], image)
        await server.kill()
    assert crowd.codes() == {"unavailable"}
    assert crowd.bystander.connections == crowd.listener.connections == 1
    await crowd.judged(disk.home)
    assert check(testimonies, {LOBBY: await stored_log(image / "hubbub.db")}) == []
