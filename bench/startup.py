"""Start: from the command to the first message that is on disk, and how long `--help` takes.

As a user would meet it: byte-code is there (one start warms up), nothing is pinned to a core. The floors are the
interpreter alone, and the interpreter importing the web framework.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench import machine
from bench.options import Options
from bench.result import Result, Void, compare

LIMIT_S = 30.0
IMPORT = "import fastapi, uvicorn"


def run(options: Options) -> Iterator[Result]:
    """`up`, `serve`, `--help`."""
    rounds = options.rounds or (1 if options.short else 7)
    cases = (
        ("hubbub up → first ack", lambda: first_ack("up"), IMPORT, 1.0),
        ("hubbub serve → first ack", lambda: first_ack("serve"), IMPORT, 1.0),
        ("hubbub --help", lambda: seconds_of("-m", "hubbub", "--help"), "pass", 0.15),
    )
    for case, ours, code, goal in cases:
        result = Result("startup", case, "s", goal=None if options.short else goal, less_is_better=True, goal_on="ours")
        try:
            yield _case(result, 0 if options.short else 1, rounds, ours, code)
        except Void as void:
            result.void = str(void)
            yield result


def _case(result: Result, warm_ups: int, rounds: int, ours: Callable[[], float], code: str) -> Result:
    for _ in range(warm_ups):
        ours()
        seconds_of("-c", code)
    compare(result, rounds, ours, lambda: seconds_of("-c", code))
    result.notes = {"floor is": f"python -c '{code}'"}
    return result


def seconds_of(*arguments: str) -> float:
    """How long the interpreter takes with these arguments."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env=machine.environment(), cwd=os.sep, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def first_ack(command: str) -> float:
    """Start the command in an empty home, send a message over TCP as soon as somebody listens, wait for its ack."""
    port, tcp = free_port(), free_port()
    with machine.directory() as home:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "hubbub", command, "--port", str(port), "--tcp-port", str(tcp)],
            env={**machine.environment(), "HUBBUB_HOME": str(home)},
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            talk(process, tcp, began + LIMIT_S)
            return time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(machine.STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def talk(process: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    """Say hello and one thing. Raises Void when there is no ack for it."""
    while True:
        try:
            door = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
            break
        except ConnectionRefusedError:
            if process.poll() is not None or time.perf_counter() > deadline:
                raise Void("the server did not start") from None
            time.sleep(0.002)
    with door, door.makefile("rwb") as file:
        for frame in (
            {"type": "hello", "user": "early"},
            {"type": "message.send", "thread": "lobby", "text": "good morning", "id": 1},
        ):
            payload = json.dumps(frame).encode()
            file.write(len(payload).to_bytes(4, "big") + payload)
        file.flush()
        while True:
            head = file.read(4)
            if len(head) < 4:
                raise Void("lost: the connection ended before the ack")
            answer = json.loads(file.read(int.from_bytes(head, "big")))
            if answer["type"] == "error":
                raise Void(f"the server said {answer['detail']}")
            if answer["type"] == "ack":
                return


def free_port() -> int:
    """A port nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
