"""LiteLLM's proxy, for comparison, in an environment of its own: it cannot live in ours, and is 650 MB.

It is installed into `bin/litellm` when it is first needed. Where that fails the reason is said and it is left out.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench import machine
from bench.compiler import BIN

WHERE = BIN / "litellm"
WHAT = "litellm[proxy]==1.106.2"
INSTALL_S = 600
START_S = 120
CONFIG = """
model_list:
  - model_name: tiny
    litellm_params: {{model: openai/tiny, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""


class Missing(Exception):
    """It cannot be had; why."""


@contextlib.contextmanager
def litellm(model_port: int, home: Path) -> Iterator[tuple[int, int, str]]:
    """Its port, its process and the key it asks for, when it answers. Raises Missing."""
    program = _installed()
    (home / "config.yaml").write_text(CONFIG.format(port=model_port))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (home / "log").open("w") as log:
        command: list[str | Path] = [
            program,
            "--config",
            home / "config.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        key = f"sk-{secrets.token_hex(32)}"
        env = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        process = machine.start(command, machine.SERVER_CORE, env, stdout=log, stderr=log)
        try:
            if not _answers(port, process):
                raise Missing(f"it did not start: {_last_line((home / 'log').read_text())}")
            yield port, process.pid, key
        finally:
            machine.stop(process)


def _installed() -> Path:
    program = WHERE / "bin" / "litellm"
    if not program.exists():
        uv = machine.HERE.parent / "tools" / "uv"
        make: list[str | Path] = [uv, "venv", "--quiet", "--clear", "--python", "3.11", WHERE]
        fill: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", WHERE / "bin" / "python", WHAT]
        for command in (make, fill):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
            except (OSError, subprocess.TimeoutExpired) as failure:
                raise Missing(f"it could not be installed: {failure}") from None
            if done.returncode:
                raise Missing(f"it could not be installed: {_last_line(done.stderr)}")
    return program


def _answers(port: int, process: subprocess.Popen[str]) -> bool:
    """Wait until it does; False when it has ended or takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as asking:
            asking.request("GET", "/health/liveliness")
            if asking.getresponse().status == 200:
                return True
        time.sleep(0.2)
    return False


def _last_line(said: str) -> str:
    return (said.strip() or "it does not say why").splitlines()[-1]
