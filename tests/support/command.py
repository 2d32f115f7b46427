"""`hubbub …` as somebody types it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from support.process import ROOT


async def hubbub(
    *arguments: str | Path, typed: str = "", cwd: Path = ROOT, environ: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command: its exit code, what it printed, what it complained of.

    Args:
        typed: what comes through a pipe.
        environ: settings beside the environment, of which nothing that configures Hubbub is left.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")} | (environ or {}),
    )
    out, err = await process.communicate(typed.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
