"""A server whose disk keeps only what was synced, and photographs of that disk taken while it works.

A photograph is what would be found after the power had been cut at that moment: the server is frozen, whatever it had
said until then is heard, and the image that `synced_only.c` keeps is copied. In a kind photograph nothing else
survives; in a harsh one any part of what was written and not synced survives as well, down to single sectors.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import apsw

from support.checker import Testimony
from support.process import ROOT, Server, missing

SECTOR = 512
HEAD = struct.Struct("=qq")


def compiled(into: Path) -> Path:
    """The shim, as a library to preload."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        missing("There is no C compiler")
        raise AssertionError
    library = into / "synced_only.so"
    source = ROOT / "tests" / "faults" / "synced_only.c"
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-lpthread"], check=True)
    return library


class Disk:
    """The disk under one home.

    Args:
        directory: where the home and everything about it is put.
        sync_s: how long a sync takes; above some milliseconds the server commits in a thread.
    """

    def __init__(self, directory: Path, shim: Path, *, sync_s: float = 0.0) -> None:
        self.home = directory / "home"
        self.image = directory / "image"
        self.pending = directory / "pending"
        for made in (self.image, self.pending):
            made.mkdir(parents=True)
        self._to_fail = directory / "to-fail"
        self._to_refuse = directory / "to-refuse"
        self.environ = {
            "LD_PRELOAD": str(shim),
            "SYNCED_HOME": str(self.home),
            "SYNCED_IMAGE": str(self.image),
            "SYNCED_PENDING": str(self.pending),
            "SYNCED_FAIL": str(self._to_fail),
            "SYNCED_REFUSE": str(self._to_refuse),
            "SYNCED_DELAY_US": str(int(sync_s * 1e6)),
        }

    def fail_next_sync_of(self, name: str) -> None:
        """It says EIO, and the pages it was to write are clean from then on and never reach the disk."""
        _appear(self._to_fail, name)

    @property
    def failed(self) -> bool:
        """Has the sync that was to fail been asked for?"""
        return not self._to_fail.exists()

    def refuse_writes_to(self, name: str, error: int) -> None:
        """Until `accept_writes`, every write to that file fails with this error."""
        _appear(self._to_refuse, f"{error} {name}")

    def accept_writes(self) -> None:
        self._to_refuse.unlink()

    async def photograph(
        self, server: Server, witnesses: Sequence[Testimony], into: Path, survives: Random | None = None
    ) -> list[Testimony]:
        """Take what a power cut would leave now; what everybody had been promised and shown by then.

        Args:
            survives: decides which of the unsynced writes survive; none of them do without it.
        """
        server.signal(signal.SIGSTOP)
        await frozen(server.pid)
        try:
            await until_still(lambda: sum(heard(one) for one in witnesses))
            self.develop(into, survives)
            testimonies = copy.deepcopy(list(witnesses))
        finally:
            server.signal(signal.SIGCONT)
        for one in testimonies:
            one.to_the_end = False
        return testimonies

    def develop(self, into: Path, survives: Random | None = None) -> None:
        """Copy the image of a server that does not run."""
        shutil.copytree(self.image, into)
        if survives is None:
            return
        share = survives.choice((0.1, 0.5, 0.9, 1.0))
        for journal in self.pending.iterdir():
            if journal.suffix == ".gone":
                if survives.random() < share:
                    (into / journal.stem).unlink(missing_ok=True)
            elif journal.stat().st_size:
                _write_some_of(journal, into / journal.name, survives, share)


def _appear(path: Path, text: str) -> None:
    made = path.with_name(path.name + ".new")
    made.write_text(text)
    made.rename(path)


def _write_some_of(journal: Path, file: Path, survives: Random, share: float) -> None:
    data, at = journal.read_bytes(), 0
    file.touch()
    with file.open("r+b") as to:
        while at + HEAD.size <= len(data):
            offset, length = HEAD.unpack_from(data, at)
            at += HEAD.size
            if length < 0:
                if survives.random() < share:
                    to.truncate(offset)
                continue
            written = data[at : at + length]
            at += length
            place = 0
            while place < len(written):
                end = place + SECTOR - (offset + place) % SECTOR
                if survives.random() < share:
                    to.seek(offset + place)
                    to.write(written[place:end])
                place = end


def heard(one: Testimony) -> int:
    return sum(map(len, one.acked.values())) + sum(map(len, one.shown.values()))


async def frozen(pid: int, within_s: float = 5.0) -> None:
    """Wait until no thread of a process that was sent SIGSTOP runs any more."""
    async with asyncio.timeout(within_s):
        while not _stands_still(pid):  # nothing tells when, so it is looked at  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def _stands_still(pid: int) -> bool:
    return all(_state(task) in "TZX" for task in Path(f"/proc/{pid}/task").iterdir())


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


async def until_still(count: Callable[[], int], looks: int = 4) -> None:
    """Wait until a number has not changed for some looks."""
    last, same = count(), 0
    while same < looks:
        await asyncio.sleep(0.003)
        now = count()
        last, same = now, same + 1 if now == last else 0


def altered(*changes: str) -> list[str]:
    """What python runs instead of the server's own module: the server, after these changes to it."""
    return ["-c", "\n".join([*changes, "from hubbub.__main__ import main", "main()"])]


def damage(home: Path) -> Iterable[str]:
    """What SQLite finds wrong with the database."""
    db = apsw.Connection(str(home / "hubbub.db"))
    try:
        return [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    finally:
        db.close()
