"""Answers from 1, 2, 3 and 5 processes under gunicorn, on MongoDB and Redis, and what a kept connection saves.

Everything shares the cores of this machine, the load tester, MongoDB and Redis, too, as it would for somebody who puts
all of it on one; so what more processes bring ends where the cores do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench import beside, machine
from bench.options import Options
from bench.result import Result, compare

sys.path.append(str(machine.HERE.parent / "tests"))

PROCESSES = (1, 2, 3, 5)
CONCURRENCY = 50
REQUESTS = 300
KEY = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "HUBBUB_GUESTS": "on",
    "HUBBUB_WEB": "0",
    "HUBBUB_SEND_RATE": "0",
    "HUBBUB_SEND_BURST": "0",
    "HUBBUB_WAIT_BATCH_MS": "0",
    "HUBBUB_DEMO_WORD_S": "0",
    "HUBBUB_LOG_LEVEL": "error",
    "HUBBUB_JWT_SECRET_KEY": KEY,
}
"""Answers are there at once, so that the processes are what limits."""


def run(options: Options) -> Iterator[Result]:
    """`POST /chat`, 50 at once, then `GET /health` on connections that are kept and that are not."""
    rounds = options.rounds or (1 if options.short else 3)
    with contextlib.ExitStack() as stack:
        shared: dict[str, str] = {}
        why = "" if options.short else beside.missing()
        if not (options.short or why):
            uri, redis, _ = beside.both(stack, set(machine.CORES))
            shared = {"HUBBUB_DATABASE_URI": uri, "HUBBUB_REDIS_URL": redis}
        alone = stack.enter_context(_gunicorn(1, {}))
        yield _kept(alone, options)
        for count in PROCESSES[:1] if options.short else PROCESSES:
            if why:
                yield Result("workers", f"/chat, {count} process{'es' * (count > 1)}", "answers/s", skipped=why)
                continue
            with _gunicorn(count, shared) as several:
                yield _answers(several, alone, count, 50 if options.short else REQUESTS, rounds)


class Gunicorn:
    """`gunicorn -c gunicorn.conf.py`, running. Its workers may be anywhere."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def worked_s(self) -> float:
        return sum(machine.core_time(worker.pid)[0] for worker in self.workers)

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


@contextlib.contextmanager
def _gunicorn(count: int, beside: dict[str, str]) -> Iterator[Gunicorn]:
    from support.gunicorn import free_ports

    port, tcp_port = free_ports(2)
    with machine.directory() as home:
        own = {"HUBBUB_HOME": str(home), "HUBBUB_PORT": str(port), "HUBBUB_TCP_PORT": str(tcp_port)}
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--workers", str(count)],
            env={**machine.environment(), **SETTINGS, **own, **beside},
            cwd=machine.HERE.parent,
            text=True,
            stderr=subprocess.DEVNULL,
        )
        try:
            gunicorn = Gunicorn(process, port)
            deadline = time.monotonic() + 30
            while not (len(gunicorn.workers) == count and all(gunicorn.answers() for _ in range(3 * count))):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ChildProcessError("gunicorn did not start.")
                time.sleep(0.1)
            yield gunicorn
        finally:
            machine.stop(process)


def _answers(several: Gunicorn, alone: Gunicorn, count: int, requests: int, rounds: int) -> Result:
    result = Result("workers", f"/chat, {count} process{'es' * (count > 1)}", "answers/s")
    reports: list[dict[str, dict[str, float]]] = []
    costs: list[float] = []

    def ours() -> float:
        before = several.worked_s()
        report = _load(several.port, requests)
        costs.append((several.worked_s() - before) / requests * 1e3)
        reports.append(report)
        return report["requests_per_s"]

    for gunicorn in (several, alone):
        _load(gunicorn.port, requests // 5)
    compare(result, rounds, ours, lambda: _load(alone.port, requests)["requests_per_s"])
    best = sorted(reports, key=lambda report: report["requests_per_s"])[len(reports) // 2]
    memory = sum(worker.memory_full_info().uss for worker in several.workers) / count / (1 << 20)
    result.notes = {
        "whole p50, p99": f"{best['whole_s']['p50'] * 1e3:.0f}, {best['whole_s']['p99'] * 1e3:.0f} ms",
        "processor": f"{sorted(costs)[len(costs) // 2]:.1f} ms an answer",
        "memory": f"{memory:.0f} MiB each",
    }
    return result


def _load(port: int, requests: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-m", "hubbub", "load", "--url", f"http://127.0.0.1:{port}", "--output", str(report)]
        command += ["--requests", str(requests), "--concurrency", str(min(requests, CONCURRENCY))]
        quiet = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "env": machine.environment(),
            "cwd": machine.HERE.parent,
        }
        subprocess.run(command, check=True, **quiet)
        told = json.loads(report.read_text())
    assert told["ok"] == requests, told["errors"]
    return told


def _kept(gunicorn: Gunicorn, options: Options) -> Result:
    """Requests one after the other; less is better."""
    result = Result("workers", "GET /health, connection kept", "µs on the core", less_is_better=True)
    times = 50 if options.short else 1000

    def kept() -> float:
        before = gunicorn.worked_s()
        connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port)
        for _ in range(times):
            connection.request("GET", "/health")
            connection.getresponse().read()
        connection.close()
        return (gunicorn.worked_s() - before) / times * 1e6

    def anew() -> float:
        before = gunicorn.worked_s()
        for _ in range(times):
            connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port)
            connection.request("GET", "/health", headers={"Connection": "close"})
            connection.getresponse().read()
            connection.close()
        return (gunicorn.worked_s() - before) / times * 1e6

    return compare(result, options.rounds or (1 if options.short else 5), kept, anew)
