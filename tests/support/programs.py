"""Slow programs for a test, and a look at the processes they are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hubbub.core.nouns import Prompt, Turn
from hubbub.core.ports import EngineFailure
from hubbub.engines.script import ScriptEngine

MOCK = (sys.executable, "-m", "hubbub.engines.mock_script", "--delay", "0")
SILENT = "[[nothing]]"
LONG = "[[stall delay=0 first=0]] one"


def asking(text: str, run: str = "r0") -> Prompt:
    return Prompt(run=run, assistant="openai", turns=(Turn(role="user", name="alice", text=text),))


def python(code: str) -> tuple[str, ...]:
    """A program of few lines; its files are `sys.argv[1:]`."""
    return (sys.executable, "-uc", f"import base64, json, os, signal, sys, time\n{code}")


def shell(code: str) -> tuple[str, ...]:
    return ("sh", "-c", code, "sh")


class Scripts:
    """Engines whose files are in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, argv: Sequence[str] = MOCK, **settings: Any) -> ScriptEngine:
        return ScriptEngine(argv, directory=self.directory, **settings)

    def files(self) -> list[Path]:
        return sorted(self.directory.rglob("*"))

    def processes(self) -> list[int]:
        """Those that were given a file."""
        return [pid for pid in pids() if str(self.directory).encode() in proc(pid, "cmdline")]


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def proc(pid: int, what: str) -> bytes:
    """A file of a process; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def state(pid: int) -> str:
    """R, S, T …, and `gone` also for what only waits to be buried."""
    found = proc(pid, "stat").rpartition(b") ")[2][:1].decode()
    return "gone" if found in ("", "Z") else found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.002)


async def answers(engine: ScriptEngine, *texts: str) -> list[list[str]]:
    """For each text the pieces of its answer; "" its end, a failure as its sentence in brackets."""
    found: list[list[str]] = [[] for _ in texts]
    async for slot, piece in engine.answer([asking(text) for text in texts]):
        found[slot].append(f"<{piece}>" if isinstance(piece, EngineFailure) else str(piece))
    return found


async def answer(engine: ScriptEngine, text: str = "hi") -> tuple[str, str]:
    """What was said, and how it ended."""
    ((*said, end),) = await answers(engine, text)
    return "".join(said), end
