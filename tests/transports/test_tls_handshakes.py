"""Encrypted ports, before anybody has said anything: a handshake is a connection like any other, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from support.certificates import Certificates, certificates
from support.inbox import WAIT_S
from support.server import House, fresh, serving

PORTS = ("port", "tcp_port")
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run something on each kind of loop the server may have."""

    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return run


@contextlib.asynccontextmanager
async def silent(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that does not begin its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What was said until the other side closed."""
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def entered(house: House, kind: str) -> Any:
    """Somebody who comes in as soon as there is room."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await house.talk(kind, fresh("ann"))
            except (OSError, EOFError):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("port", PORTS)
def test_who_never_shakes_hands_is_closed(
    tmp_path: Path, made: Certificates, monkeypatch: pytest.MonkeyPatch, run: Run, port: str
) -> None:
    monkeypatch.setattr("hubbub.transports.encrypted.HANDSHAKE_S", 0.2)

    async def stay_silent() -> None:
        async with (
            serving(tmp_path, made.trusting, store="memory", **made.flags) as house,
            silent(getattr(house, port)) as reader,
        ):
            assert await ended(reader) == b""
            async with await house.talk("text", fresh("bob")) as bob:
                assert bob.welcome

    run(stay_silent())


@pytest.mark.parametrize(("port", "kind"), [("port", "text"), ("tcp_port", "framed")])
def test_handshakes_count_as_connections_of_their_address(
    tmp_path: Path, made: Certificates, run: Run, port: str, kind: str
) -> None:
    limits = {"address_connections": 2, "limit_loopback": True, "strangers_per_minute": 0}

    async def fill() -> None:
        async with serving(tmp_path, made.trusting, store="memory", **limits, **made.flags) as house:
            number = getattr(house, port)
            async with silent(number), silent(number), silent(number) as third:
                assert await ended(third) == b""
            for _ in range(2):  # who is gone has freed the place, whether still in a handshake or behind it
                async with await entered(house, kind), await entered(house, kind), silent(number) as third:
                    assert await ended(third) == b""

    run(fill())


@pytest.mark.parametrize("port", PORTS)
def test_behind_a_proxy_web_handshakes_are_nobodys(tmp_path: Path, made: Certificates, run: Run, port: str) -> None:
    limits = {"address_connections": 2, "limit_loopback": True, "behind_proxy": True, "guests": "on"}

    async def fill() -> None:
        async with serving(tmp_path, made.trusting, store="memory", **limits, **made.flags) as house:
            number = getattr(house, port)
            async with silent(number), silent(number), silent(number) as third:
                if port == "tcp_port":  # whose proxy says nothing of addresses
                    assert await ended(third) == b""
                else:
                    async with house.http() as http:
                        assert (await http.get("/healthz")).status_code == 200
                    assert not third.at_eof()

    run(fill())


def test_a_server_that_goes_waits_for_no_handshake(tmp_path: Path, made: Certificates, run: Run) -> None:
    async def go() -> None:
        async with contextlib.AsyncExitStack() as connections:
            async with serving(tmp_path, made.trusting, store="memory", **made.flags) as house:
                readers = [await connections.enter_async_context(silent(port)) for port in (house.port, house.tcp_port)]
                async with await house.talk("text", fresh("ann")), await house.talk("framed", fresh("bob")):
                    pass  # so that the silent ones were accepted
            async with asyncio.timeout(1):
                assert [await ended(reader) for reader in readers] == [b"", b""]

    run(go())
