"""A program in a process group of its own: what it prints is taken when asked for, and nothing of it is left behind.

No shell, no input, no open file of ours, and of our environment nothing. Nothing is read ahead: while nobody asks, a
program that prints more than the pipe holds waits. What it says on stderr is heard at any time, and its end kept.

The program's own number stays taken until `let_go`: it is waited for without being buried, so that a signal to the
group can never reach a stranger who got the number next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
CHUNK = 16 << 10  # more would keep the event loop from others for over a few milliseconds
TAIL_BYTES = 4 << 10  # of stderr
KILL_S = 2.0  # between SIGTERM and SIGKILL
DEATH_S = 1.0  # for what was killed to be gone


class ProcessGroup:
    """Runs `argv` from the moment it is made, within a running event loop, until `stop` or `let_go`; one of them has to
    be called, and `let_go` last. Raises OSError: it cannot be started."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.code: int | None = None
        """How it ended: its exit code, a signal's number below 0, or None while it runs."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()  # something to read, or the program has exited
        self._ended = False  # nobody holds its stdout any more
        self._tail = b""
        self._over = False
        self._free = threading.Event()
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            self._out, out, self._err, err = pipes
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=ENVIRON, start_new_session=True
            )
        except BaseException:
            for end in pipes:
                os.close(end)
            raise
        os.close(out)
        os.close(err)
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)
        self._loop.add_reader(self._err, self._hear)
        self._watch = threading.Thread(target=self._wait, name=f"wait for {self._process.pid}", daemon=True)
        try:
            self._watch.start()
        except BaseException:
            self.let_go()
            raise

    @property
    def pid(self) -> int:
        """The program's process, and the number of its group."""
        return self._process.pid

    @property
    def complaint(self) -> str:
        """The last line on stderr that is not empty; at most 4 KiB, as it was said."""
        for _ in range(8):  # more than a pipe holds
            if self._err >= 0:
                self._hear()
        lines = self._tail.decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    async def read(self, limit_s: float) -> bytes:
        """What it printed next, at most 16 KiB; b"" when the program has exited and all it printed was taken, even if
        somebody it left behind could still print. Raises TimeoutError after `limit_s` without any."""
        await asyncio.sleep(0)  # a program that never stops printing must not keep the loop to itself
        async with asyncio.timeout(limit_s):
            while True:
                exited = self.code is not None  # asked first: what it printed before that is in the pipe by now
                if data := self._take():
                    return data
                if exited:
                    return b""
                await self._wait_for_news()

    async def stop(self, patience_s: float = 0.0) -> None:
        """Let it end by itself within `patience_s`; then SIGTERM to all of the group, and SIGKILL 2 s later. What is
        still printed is thrown away. `let_go` still has to be called."""
        if not await self._gone(patience_s):
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # who was stopped would not hear it
            await self._gone(KILL_S)
        self._signal(signal.SIGKILL)  # also whoever was left behind without holding stdout
        if self.code is None:
            await self._gone(DEATH_S)

    def let_go(self) -> None:
        """Kill whatever is left, at once and without waiting; safe to call twice."""
        if self._over:
            return
        self._signal(signal.SIGKILL)
        self._over = True
        self._free.set()
        if self.code is not None:
            self._watch.join(DEATH_S)  # it only has to bury the dead
        self._loop.remove_reader(self._out)
        self._close_err()
        os.close(self._out)

    def _take(self) -> bytes:
        """What can be had without waiting."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._out, CHUNK)
            self._ended = not data
            return data
        return b""

    async def _wait_for_news(self) -> None:
        self._news.clear()
        try:
            if not self._ended:
                self._loop.add_reader(self._out, self._news.set)
            await self._news.wait()
        finally:
            self._loop.remove_reader(self._out)

    async def _gone(self, limit_s: float) -> bool:
        """Has the program exited, and does nobody hold its stdout any more? Waits for it at most `limit_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while True:
                    data = self._take()
                    if self.code is not None and self._ended:
                        break
                    await (asyncio.sleep(0) if data else self._wait_for_news())
        return self.code is not None and self._ended

    def _hear(self) -> None:
        """Keep the end of what is said on stderr."""
        try:
            data = os.read(self._err, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        else:
            self._close_err()

    def _close_err(self) -> None:
        if self._err >= 0:
            self._loop.remove_reader(self._err)
            os.close(self._err)
            self._err = -1

    def _signal(self, number: signal.Signals) -> None:
        if not self._over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _wait(self) -> None:
        """In a thread of its own: asyncio's own watchers bury at once, and differ between event loops."""
        if hasattr(os, "waitid"):
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            code = 0 if found is None else found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        else:  # macOS before Python 3.13
            code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._exited, code)
        self._free.wait()
        self._process.wait()

    def _exited(self, code: int) -> None:
        self.code = code
        self._news.set()
