"""nginx in front of a server, configured by one of the files in deploy/."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from support.certificates import Certificates
from support.process import ROOT, missing

AROUND = """
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
worker_processes 1;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/hubbub.conf;
}}
"""


def program() -> str:
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        missing("nginx is needed")
    return found or ""


def replaced(text: str, **changes: str) -> str:
    """With other values for some directives, each of which has to be there."""
    lines = text.splitlines()
    for directive, value in changes.items():
        places = [n for n, line in enumerate(lines) if line.split()[:1] == [directive] and line.endswith(";")]
        assert places, f"there is no {directive} in it"
        for n in places:
            lines[n] = f"{directive} {value};"
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def nginx(home: Path, name: str, server_port: int, port: int, made: Certificates) -> AsyncIterator[None]:
    """deploy/NAME as it is, but for ports, names and certificates."""
    write(home, name, server_port, port, made)
    process = await asyncio.create_subprocess_exec(
        *(program(), "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while True:
                assert process.returncode is None, (home / "error.log").read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(10):
            await process.wait()


def write(home: Path, name: str, server_port: int, port: int, made: Certificates) -> None:
    home.mkdir()
    text = replaced(
        (ROOT / "deploy" / name).read_text(),
        server=f"127.0.0.1:{server_port}",
        listen=f"127.0.0.1:{port} ssl",
        server_name="localhost",
        ssl_certificate=str(made.cert),
        ssl_certificate_key=str(made.key),
    )
    (home / "hubbub.conf").write_text(text)
    (home / "nginx.conf").write_text(AROUND.format(home=home))
