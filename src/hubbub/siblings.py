"""Several processes that are one server, shown as one: each lays its numbers into a directory, and whoever is asked
adds up what lies there.

What a process has counted still counts when it has ended: its file stays, and is added to that of all others who have
ended when the next one starts, so that there are never more files than processes, and one. Nobody waits for another
here, who may stand still at any moment: whoever reads knows from that one file which of the others it holds already.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from pathlib import Path

import msgspec
import structlog

from hubbub.hub.meter import Counts, Meter, Told, add

log = structlog.get_logger("hubbub.siblings")

TELL_EVERY_S = 2.0
SILENT_S = 10.0
"""Who has said nothing for so long is not as it said; what it has counted, it has counted."""

ENDED = "ended"


class Ended(msgspec.Struct, frozen=True):
    """What all those have counted who have ended, and the files that were added last: they may still be there."""

    told: Told
    files: list[str] = []


class Siblings:
    """Args:
    directory: theirs alone, of this machine.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mine = directory / f"{os.getpid()}-{time.time_ns()}"  # a number may be given again
        with (directory / "lock").open("a") as file, contextlib.suppress(BlockingIOError):  # another one is at it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._gather()

    def told(self, mine: Told) -> list[Told]:
        """See `Others`. A directory that cannot be used is as if there were nobody else."""
        try:
            self._lay(self._mine, mine)
            others = {}
            for path in self._files():
                with contextlib.suppress(FileNotFoundError):  # it has just been added to the ended ones
                    others[path.name] = _lately(path)
            ended = self._ended()  # the last to be read: of what is gone, nothing is missed
        except (OSError, msgspec.MsgspecError) as failure:
            log.warning("siblings_not_heard", reason=str(failure))
            return []
        return [ended.told, *(told for name, told in others.items() if name not in (self._mine.name, *ended.files))]

    async def keep_telling(self, meter: Meter) -> None:
        """Until cancelled."""
        while True:
            try:
                self._lay(self._mine, meter.tell())
            except OSError as failure:
                log.warning("siblings_not_told", reason=failure.strerror)
            await asyncio.sleep(TELL_EVERY_S)

    def leave(self, meter: Meter) -> None:
        """The last this process says."""
        with contextlib.suppress(OSError):
            self._lay(self._mine, _counted(meter.tell()))

    def _files(self) -> list[Path]:
        return list(self._directory.glob("[0-9]*"))

    def _ended(self) -> Ended:
        path = self._directory / ENDED
        return msgspec.msgpack.decode(path.read_bytes(), type=Ended) if path.exists() else Ended(Told(Counts()))

    def _gather(self) -> None:
        """Put together what those have counted who have ended."""
        gone = [path for path in self._files() if not _lives(path)]
        ended = self._ended()
        told = ended.told
        for path in gone:
            if path.name not in ended.files:  # else whoever added it was killed before it was removed
                told = _together(told, _read(path))
        self._lay(self._directory / ENDED, Ended(told, [path.name for path in gone]))
        for path in gone:
            path.unlink()

    def _lay(self, path: Path, what: Told | Ended) -> None:
        new = self._directory / f".{path.name}.{os.getpid()}"
        new.write_bytes(msgspec.msgpack.encode(what))
        new.replace(path)


def _read(path: Path) -> Told:
    return msgspec.msgpack.decode(path.read_bytes(), type=Told)


def _lately(path: Path) -> Told:
    told = _read(path)
    return told if path.stat().st_mtime > time.time() - SILENT_S else _counted(told)


def _counted(told: Told) -> Told:
    return Told(counts=told.counts, logged=told.logged, cpu_s=told.cpu_s)


def _together(one: Told, other: Told) -> Told:
    logged = dict(one.logged)
    for level, count in other.logged.items():
        add(logged, level, count)
    return Told(counts=one.counts.plus(other.counts), logged=logged, cpu_s=one.cpu_s + other.cpu_s)


def _lives(path: Path) -> bool:
    try:
        os.kill(int(path.name.partition("-")[0]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
