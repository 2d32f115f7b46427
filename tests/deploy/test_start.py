"""./start.sh, from a fresh clone to a server that answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx2
import pytest

from support.gunicorn import free_ports
from support.image import uv_program
from support.process import ROOT, SETTINGS


def cloned(into: Path) -> Path:
    """The files a clone has; the page is taken as it was built, when it was."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    if (ROOT / "src/hubbub/web").is_dir():
        shutil.copytree(ROOT / "src/hubbub/web", into / "src/hubbub/web")
    return into


@pytest.mark.timeout(300)
async def test_one_command_sets_up_a_fresh_clone_and_serves_it(tmp_path: Path) -> None:
    clone = cloned(tmp_path / "clone")
    port, tcp_port = free_ports(2)
    mine = {"HUBBUB_HOME": str(tmp_path / "home"), "HUBBUB_TCP_PORT": str(tcp_port), "UV_OFFLINE": "1"}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HUBBUB_", "VIRTUAL_ENV", "UV_PROJECT"))}
    inherited["PATH"] = f"{Path(uv_program()).parent}:{inherited['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("sh", str(clone / "start.sh"), "--bind", f"127.0.0.1:{port}"),
            env={**inherited, **SETTINGS, **mine},
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(240), httpx2.AsyncClient(trust_env=False) as http:
            while True:
                assert process.returncode is None, (tmp_path / "log").read_text()
                try:
                    answer = await http.get(f"http://127.0.0.1:{port}/readyz")
                    break
                except httpx2.TransportError:
                    await asyncio.sleep(0.1)
            assert answer.text == "ok"
            assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
