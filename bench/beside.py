"""What stands beside several nodes: MongoDB on a disk, and Redis, from the wheels that the tests use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from bench import machine

sys.path.append(str(machine.HERE.parent / "tests"))


def missing() -> str:
    """Why there is none for this machine; empty: there is."""
    from support import mongod

    found = mongod.find()
    return found if isinstance(found, str) else ""


def mongodb(stack: contextlib.ExitStack) -> tuple[str, int]:
    """The address of a replica set of one server, and its process."""
    from support import mongod

    database = mongod.Mongod(stack.enter_context(machine.directory()) / "data")
    stack.callback(database.kill)
    database.start()
    mongod.initiate([database])
    assert database._process is not None
    return mongod.uri([database]), database._process.pid


def both(stack: contextlib.ExitStack, on: set[int]) -> tuple[str, str, list[int]]:
    """MongoDB and Redis on these cores: their addresses and processes."""
    from support import redis

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, on)
    try:
        uri, pid = mongodb(stack)
        port = redis.free_port()
        command = [str(redis.program()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        queue = subprocess.Popen([*command, "--logfile", os.devnull], text=True)
    finally:
        os.sched_setaffinity(0, cores)
    stack.callback(machine.stop, queue)
    _answers(port)
    return uri, f"redis://127.0.0.1:{port}/0", [pid, queue.pid]


def _answers(port: int, within_s: float = 10.0) -> None:
    from redis import ConnectionError, Redis

    deadline = time.monotonic() + within_s
    with Redis(port=port) as client:
        while True:
            try:
                client.ping()
                return
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
