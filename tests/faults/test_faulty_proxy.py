"""The bad network itself: a fault test is worth what its faults are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Self

import pytest

from support.faulty import CLEAN, End, Faults, FaultyProxy
from support.witness import Remembering

DATA = bytes(range(256)) * 40


class Counterpart(Remembering):
    """A server that keeps every connection's bytes and says `DATA` to a client once it has spoken."""

    def __init__(self) -> None:
        super().__init__()
        self.port = self.tcp_port = 0
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self.speaks = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.tcp_port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = len(self.heard)
        self.heard.append(b"")
        try:
            while data := await reader.read(4096):
                if self.speaks and not self.heard[at]:
                    writer.write(DATA)
                self.heard[at] += data
                self._news.set()
            self.ends.append("end")
        except ConnectionResetError:
            self.ends.append("reset")
        finally:
            self._news.set()
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Counterpart]:
    async with Counterpart() as server:
        yield server


async def talk(proxy: FaultyProxy, data: bytes = DATA, within_s: float = 5.0) -> tuple[bytes, str]:
    """Say everything, hear everything: what was heard, and the end of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.tcp_port)
    heard = b""
    try:
        async with asyncio.timeout(within_s):
            writer.write(data)
            while piece := await reader.read(4096):
                heard += piece
                if len(heard) == len(DATA):
                    return heard, "all"
            return heard, "end"
    except ConnectionResetError:
        return heard, "reset"
    except TimeoutError:
        return heard, "silence"
    finally:
        writer.transport.abort()


async def test_without_faults_everything_goes_through(server: Counterpart) -> None:
    async with FaultyProxy(server) as proxy:
        assert await talk(proxy) == (DATA, "all")
        await server.until(lambda: server.heard == [DATA] and len(server.ends) == 1)
        assert (proxy.links[0].up, proxy.links[0].down) == (len(DATA), len(DATA))


@pytest.mark.parametrize("many", [0, 1, 3, 4097, len(DATA) - 1])
@pytest.mark.parametrize("end", [End.CUT, End.HALF])
async def test_a_cut_comes_after_exactly_so_many_bytes_of_the_server(server: Counterpart, many: int, end: End) -> None:
    async with FaultyProxy(server, Faults(down=many, end=end)) as proxy:
        assert await talk(proxy) == (DATA[:many], "end")
        assert proxy.met == 1


@pytest.mark.parametrize("many", [0, 1, 3, 4097, len(DATA) - 1])
@pytest.mark.parametrize("end", [End.CUT, End.HALF])
async def test_a_cut_comes_after_exactly_so_many_bytes_of_the_client(server: Counterpart, many: int, end: End) -> None:
    server.speaks = False
    async with FaultyProxy(server, Faults(up=many, end=end)) as proxy:
        assert await talk(proxy) == (b"", "end")
        await server.until(lambda: len(server.ends) == 1)
        assert server.heard == [DATA[:many]]


async def test_a_reset_is_seen_as_one_on_both_sides(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(down=100, end=End.RST)) as proxy:
        heard, end = await talk(proxy)
        assert end == "reset"
        assert DATA[:100].startswith(heard)
        await server.until(lambda: server.ends == ["reset"])


async def test_a_deaf_direction_swallows_and_the_other_goes_on(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(down=100, end=End.DEAF)) as proxy:
        assert await talk(proxy, within_s=0.3) == (DATA[:100], "silence")
        assert proxy.links[0].swallowed.is_set()
        await server.until(lambda: server.heard == [DATA])


async def test_a_black_hole_takes_everything_tells_nobody_and_never_closes(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(up=100, end=End.HOLE)) as proxy:
        heard, end = await talk(proxy, DATA * 200, within_s=0.3)
        assert end == "silence"
        assert len(heard) == proxy.links[0].down
        assert server.heard == [DATA[:100]]
        assert server.ends == []


async def test_half_an_end_by_the_client_is_passed_on_and_the_answer_still_comes(server: Counterpart) -> None:
    async with FaultyProxy(server) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"that is all")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 5) == DATA
        assert (server.heard, server.ends) == ([b"that is all"], ["end"])
        writer.close()


async def test_latency_and_jitter_keep_the_order(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(latency_s=0.05, jitter_s=0.05)) as proxy:
        began = time.monotonic()
        assert await talk(proxy) == (DATA, "all")
        assert time.monotonic() - began > 0.1


async def test_a_narrow_line_takes_its_time(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(bytes_per_s=40_000)) as proxy:
        began = time.monotonic()
        assert await talk(proxy, b"go") == (DATA, "all")
        assert time.monotonic() - began > 0.8 * len(DATA) / 40_000


async def test_one_byte_at_a_time_arrives_as_many_pieces(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(slice_bytes=1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"go")
        heard, pieces = b"", 0
        async with asyncio.timeout(10):
            while len(heard) < 1000:
                heard += await reader.read(4096)
                pieces += 1
        assert DATA.startswith(heard)
        assert pieces > 300
        writer.transport.abort()


async def test_a_duplicated_connection_says_everything_twice_and_only_one_is_heard(server: Counterpart) -> None:
    async with FaultyProxy(server, Faults(replay_s=0.02)) as proxy:
        assert await talk(proxy) == (DATA, "all")
        await server.until(lambda: len(server.ends) == 2)
        assert server.heard == [DATA, DATA]


async def test_the_same_seed_is_the_same_faults(server: Counterpart) -> None:
    def draw(chance: Random) -> Faults:
        return Faults(down=chance.randrange(len(DATA)))

    async def lengths(seed: int) -> list[int]:
        async with FaultyProxy(server, draw, seed=seed) as proxy:
            return [len((await talk(proxy))[0]) for _ in range(5)]

    assert await lengths(1) == await lengths(1)
    assert await lengths(1) != await lengths(2)


async def test_a_server_that_is_not_there_is_a_reset(server: Counterpart) -> None:
    async with FaultyProxy(server) as proxy:
        server.tcp_port = 1  # nobody listens there
        assert (await talk(proxy))[1] == "reset"


async def test_connections_can_be_ended_now_and_faults_exchanged_for_later_ones(server: Counterpart) -> None:
    server.speaks = False
    async with FaultyProxy(server, Faults(up=0)) as proxy:
        assert (await talk(proxy))[1] == "end"
        proxy.faults = CLEAN
        talking = asyncio.create_task(talk(proxy))
        await server.until(lambda: server.heard[-1] == DATA)
        proxy.end_all(End.RST)
        assert (await talking)[1] == "reset"
