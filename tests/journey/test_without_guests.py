"""`hubbub up` where names have to be proved, and where everything is encrypted: its own thermometer still comes in."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.certificates import certificates

from .conftest import PATIENCE_S, Running, start, stop
from .people import Framed

PASSWORD = "correct horse battery"
CANARY = "hbt_canary-that-is-nobodys-business-0123456789"


async def register(up: Running, name: str, verify: ssl.SSLContext | bool = True) -> str:
    """A token of a new account."""
    scheme = "http" if verify is True else "https"
    async with httpx2.AsyncClient(trust_env=False, verify=verify) as http:
        given = {"user": name, "password": PASSWORD}
        reply = await http.post(f"{scheme}://127.0.0.1:{up.http}/api/auth/register", json=given)
    assert reply.status_code == 201, reply.text
    token: str = reply.json()["access_token"]
    return token


async def children(up: Running) -> dict[str, int]:
    """The parts of Hubbub and their process ids."""
    listing = await asyncio.create_subprocess_exec(
        "pgrep", "-P", str(up.process.pid), "-a", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await listing.communicate()
    rows = [line.split() for line in out.decode().splitlines()]
    return {row[row.index("hubbub") + 1]: int(row[0]) for row in rows if "hubbub" in row}


async def measured(alice: Framed, key: str) -> None:
    """The thermometer is there and answers."""
    alice.send(type="message.send", id=key, to="thermometer1", text="range", key=key)

    def the_answer(frame: dict[str, Any]) -> bool:
        if frame["type"] != "message" or frame["message"]["sender"] != "thermometer1":
            return False
        return bool(frame["message"]["metadata"].get("temps")) and frame["seq"] > seen

    seen = max((frame["seq"] for frame in alice.frames if frame["type"] == "message"), default=0)
    await alice.until(the_answer)


def seen_by_others(parts: dict[str, int]) -> bytes:
    """Their command lines and environments."""
    return b"".join(
        Path(f"/proc/{pid}/{file}").read_bytes() for pid in parts.values() for file in ("cmdline", "environ")
    )


async def replaced(up: Running, part: str) -> None:
    """Kill a part and wait until there is another one in its place."""
    old = (await children(up))[part]
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while (await children(up)).get(part, old) == old:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_the_thermometer_comes_in_without_guests_and_after_every_restart(tmp_path: Path) -> None:
    up = await start(tmp_path / "home", HUBBUB_GUESTS="off", HUBBUB_TOKEN=CANARY)
    try:
        assert "hubbub user add NAME --admin --home" in " ".join(up.said.split())
        token = await register(up, "alice")
        alice = await Framed().connect(up.tcp, token=token)
        assert alice.welcome["type"] == "welcome", alice.welcome
        await measured(alice, "first")
        shown = seen_by_others(await children(up))
        assert CANARY.encode() not in shown
        assert b"eyJ" not in shown, "a signed token"

        await replaced(up, "thermometer")
        await measured(alice, "second")
        alice.cut()
        await replaced(up, "serve")
        await replaced(up, "thermometer")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    alice = await Framed().connect(up.tcp, token=token)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        await measured(alice, "third")
        alice.cut()
    finally:
        await stop(up)
    logs = b"".join(log.read_bytes() for log in (tmp_path / "home" / "logs").iterdir())
    assert b"eyJ" not in logs
    assert PASSWORD.encode() not in logs


async def test_where_guests_are_welcome_nothing_is_registered(tmp_path: Path) -> None:
    addresses = {"REDIS_URL": f"redis://ann:{CANARY}@127.0.0.1:1"}  # where none is
    up = await start(tmp_path / "home", HUBBUB_TOKEN=CANARY, **addresses)
    try:
        assert "hubbub user add" not in up.said
        assert CANARY.encode() not in seen_by_others({"thermometer": (await children(up))["thermometer"]})
        alice = await Framed().connect(up.tcp, user="alice")
        await measured(alice, "first")
        alice.cut()
    finally:
        await stop(up)
    assert not (tmp_path / "home" / "logs" / "audit.log").exists()


async def test_everything_is_encrypted_when_there_is_a_certificate(tmp_path: Path) -> None:
    made = certificates(tmp_path / "certificates", "127.0.0.1", "chat.example.com")
    tls = "--tls-cert", str(made.cert), "--tls-key", str(made.key)
    up = await start(tmp_path / "home", *tls, HUBBUB_GUESTS="off")
    try:
        assert f"https://127.0.0.1:{up.http}/" in up.said
        assert f"wss://127.0.0.1:{up.http}/ws" in up.said
        assert f"hubbub chat --address tls://127.0.0.1:{up.tcp}" in up.said
        token = await register(up, "alice", made.trusting)
        alice = Framed()
        alice._in, alice._out = await asyncio.open_connection("127.0.0.1", up.tcp, ssl=made.trusting)
        alice._task = asyncio.create_task(alice._read())
        alice.send(type="hello", token=token)
        await alice.until(lambda frame: frame["type"] == "welcome")
        await measured(alice, "first")
        alice.cut()
    finally:
        await stop(up)
