"""A server for the time of one command: on free ports, with a home that is gone afterwards.

Nothing of the environment configures it, nor a `.env`: a load test started in passing must not ask a model that costs
money. Without limits on how fast one member may send, as a load test is one member.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from hubbub import config
from hubbub.core.errors import Unavailable

READY_S = 30.0
STOP_S = 12.0
_SETTINGS = {"HUBBUB_ENGINE": "demo", "HUBBUB_SEND_RATE": "0", "HUBBUB_SEND_BURST": "0"}


@contextlib.asynccontextmanager
async def own_server() -> AsyncIterator[str]:
    """Its address, from when it answers; it is stopped on leaving. Raises Unavailable: it did not start."""
    ours = {name for setting in config.SETTINGS for name in (setting.variable, *setting.aliases)}
    environ = {name: value for name, value in os.environ.items() if name not in ours} | _SETTINGS
    lifeline, held = os.pipe()  # nobody writes to it; when we go, however that comes, the server leaves
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, held)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hubbub-load-")))
        ready, said = os.pipe()
        try:
            with (home / "server.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "hubbub", "serve", "--host", "127.0.0.1", "--port", "0", "--tcp-port", "0"),
                    *("--home", str(home / "home"), "--no-web"),
                    *("--ready-fd", str(said), "--lifeline-fd", str(lifeline)),
                    env=environ,
                    cwd=home,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[said, lifeline],
                    start_new_session=True,  # Ctrl-C is for us
                )
        finally:
            os.close(said)
            os.close(lifeline)
        try:
            yield f"http://127.0.0.1:{await _port(ready, home / 'server.log')}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _port(ready: int, log: Path) -> int:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ready, "rb")
    )
    try:
        async with asyncio.timeout(READY_S):
            said = await reader.read()
    except TimeoutError:
        raise Unavailable(f"The server for the load test was not ready after {READY_S:g} s.") from None
    finally:
        transport.close()
    if not said:
        raise _failure(log)
    port: int = json.loads(said)["http"]
    return port


def _failure(log: Path) -> Unavailable:
    """Why it did not start: its own last sentence."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing."]
    return Unavailable(f"The server for the load test did not start: {lines[-1].removeprefix('hubbub: ')}")
