"""The real server in a process of its own, on its core, with an empty home on a disk and no send limits."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench import machine

SETTINGS = {
    "HUBBUB_SEND_RATE": "0",
    "HUBBUB_SEND_BURST": "0",
    "HUBBUB_WAIT_BATCH_MS": "0",
    "HUBBUB_LOG_LEVEL": "error",
}


@dataclass(frozen=True, slots=True)
class House:
    """A running server. `control` is the port of the bench's own engine, when it has one."""

    process: subprocess.Popen[str]
    http: int
    tcp: int
    control: int

    @property
    def pid(self) -> int:
        return self.process.pid


@contextlib.contextmanager
def house(*, engine: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[House]:
    """`hubbub serve`; with `engine`, the same App with the engine of bench/server.py."""
    with machine.directory() as home:
        told, tell = os.pipe()
        module = ["bench.server"] if engine else ["hubbub", "serve", "--port", "0", "--tcp-port", "0"]
        process = machine.start(
            [sys.executable, "-m", *module, "--ready-fd", str(tell)],
            machine.SERVER_CORE,
            {**SETTINGS, **(settings or {}), "HUBBUB_HOME": str(home)},
            pass_fds=[tell],
            stdout=subprocess.DEVNULL,
        )
        os.close(tell)
        try:
            with os.fdopen(told) as pipe:
                text = pipe.read()
            if not text:
                raise ChildProcessError("The server did not start; what it said is above.")
            ports = json.loads(text)
            yield House(process, ports["http"], ports["tcp"], ports.get("control", 0))
        finally:
            machine.stop(process)
