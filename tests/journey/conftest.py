"""A person's machine: `hubbub up` in an empty home, a browser, and what else people connect with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

PATIENCE_S = 20


@dataclass
class Running:
    """`hubbub up`, as its own output describes it."""

    process: asyncio.subprocess.Process
    said: str
    http: int
    tcp: int
    home: Path

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http}/"

    async def server_pid(self) -> int:
        """The server among the launcher's children."""
        listing = await asyncio.create_subprocess_exec(
            "pgrep", "-P", str(self.process.pid), "-f", "hubbub serve", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await listing.communicate()
        return int(out.split()[0])


async def start(home: Path, *arguments: str, **environ: str) -> Running:
    """Start `hubbub up` and read until it has said everything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "up", "--port", "0", "--tcp-port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=home.parent,
        env={**clean_environment(), "HUBBUB_HOME": str(home), **environ},
    )
    said = ""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while "Ctrl-C stops" not in said:
            line = await process.stdout.readline()
            assert line, f"hubbub up ended early, saying:\n{said}"
            said += line.decode()
    http = re.search(r"https?://127\.0\.0\.1:(\d+)/", said)
    tcp = re.search(r"(?:nc 127\.0\.0\.1 |tls://127\.0\.0\.1:)(\d+)", said)
    assert http, said
    assert tcp, said
    return Running(process, said, int(http[1]), int(tcp[1]), home)


async def stop(running: Running) -> str:
    """Ctrl-C; what it says at the end."""
    with contextlib.suppress(ProcessLookupError):
        running.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await running.process.communicate()
    return out.decode()


def clean_environment() -> dict[str, str]:
    """The environment without anything that configures Hubbub."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Running]:
    running = await start(tmp_path / "home", HUBBUB_DEMO_WORD_S="0.02")
    yield running
    if running.process.returncode is None:
        await stop(running)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    """A headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium is not installed")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        await browser.close()


def missing(what: str) -> None:
    """A laptop skips what it cannot run; CI must not."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI may skip nothing.")
    pytest.skip(what)
