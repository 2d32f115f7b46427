"""What every command pays before it runs."""

from __future__ import annotations

import asyncio
import sys


async def test_the_command_line_alone_imports_nothing_heavy() -> None:
    code = "import sys; from hubbub.cli import parser; parser(); print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    modules = (await process.communicate())[0].decode().split()

    assert "hubbub.cli.serve" in modules
    assert not {"asyncio", "structlog", "hubbub.config", "hubbub.app"} & set(modules)
