"""Many at once: readers that stop, thousands that are silent, thousands that come back at the same moment."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.crowds import Client, Crowd, connections, own_kb, quantile, room_for, unsent
from support.process import Server, missing, running
from support.talkers import FramedClient

USUAL_BYTES, BIG_BYTES = 16_000, 32_000
USUAL_S = 0.1  # from one message to the next
SMALL_BUFFER = 16 << 10
EARLY = 5

LONG = pytest.mark.long, pytest.mark.timeout(300)


def in_both(crowd: Crowd, count: int, name: str) -> list[Client]:
    """Half of them on WebSockets, half on TCP."""
    return crowd.add(count - count // 2, "ws", f"{name}-w") + crowd.add(count // 2, "tcp", f"{name}-t")


# Readers that stop


@pytest.mark.parametrize(
    ("stopped", "live", "fill_s", "fill_bytes", "share"),
    [  # of the delays, the slowest few are the machine's when it does other things as well
        (100, 20, 0.05, BIG_BYTES, 0.5),
        pytest.param(500, 100, USUAL_S, USUAL_BYTES, 0.99, marks=LONG),
    ],
)
async def test_readers_that_stop_slow_nobody_down_cost_little_and_are_closed_with_their_cursor(
    tmp_path: Path, stopped: int, live: int, fill_s: float, fill_bytes: int, share: float
) -> None:
    async with running(tmp_path / "home") as server:
        with Crowd(server) as awake, Crowd(server, receive_buffer=SMALL_BUFFER) as asleep:
            [speaker] = awake.add(1, "tcp", "speaker")
            awake.join([speaker, *in_both(awake, live, "live")])
            sent = talk(awake, speaker, lambda s: s > 2.0, USUAL_S, USUAL_BYTES)
            before = quantile(awake.delays, share)

            asleep.join(in_both(asleep, stopped, "stopped"))
            asleep.stop_reading(asleep.clients)
            open_before, memory, peak = connections(server.pid), own_kb(server.pid), 0.0
            awake.delays.clear()
            early = asleep.clients[:: stopped // EARLY]  # they read on when sent away, the others when all is over
            looks = itertools.count()

            kernel_holds = [-1]

            def full(after_s: float) -> bool:
                """Nothing that lies between them and the server takes any more."""
                if after_s > len(kernel_holds) * 0.3:
                    kernel_holds.append(sum(unsent(server.port, server.tcp_port, to=asleep)))
                return kernel_holds[-1] > 0 and kernel_holds[-3:-1] == kernel_holds[-2:]

            def gone(after_s: float) -> bool:
                nonlocal peak
                if next(looks) % 3 == 0:
                    peak = max(peak, own_kb(server.pid))
                    awake.who(speaker)
                sent_away = [one for one in early if one.name not in awake.online] if awake.online else []
                asleep.read_on(sent_away)
                early[:] = [one for one in early if one not in sent_away]
                asleep.turn(0)
                return connections(server.pid) <= open_before - stopped or after_s > 30

            began = time.monotonic()
            sent += talk(awake, speaker, full, fill_s, fill_bytes)
            sent += talk(awake, speaker, gone, USUAL_S, USUAL_BYTES)
            closed_s = time.monotonic() - began
            beside = quantile(awake.delays, share)
            cost_kb, left_kb = (peak - memory) / stopped, (own_kb(server.pid) - memory) / stopped
            print(
                f"{stopped} stopped, {live} live: closed after {closed_s:.1f} s, {cost_kb:.0f} KiB each at the peak "
                f"and {left_kb:.0f} after; {share:.0%} of the delays under {before * 1000:.1f} ms before, "
                f"{beside * 1000:.1f} ms beside them"
            )
            assert closed_s < 30
            assert cost_kb < 1024
            assert awake.ended == 0

            awake.delays.clear()  # once more without them: the machine may have had other things to do meanwhile
            sent += talk(awake, speaker, lambda s: s > 1.0, USUAL_S, USUAL_BYTES)
            before = max(before, quantile(awake.delays, share))
            assert beside <= max(2 * before, before + 0.05)

            asleep.come_back_s, asleep.goal, asleep.receive_buffer = 1.0, sent, 0
            asleep.read_on([one for one in asleep.clients if one.sock is not None])
            asleep.dial([one for one in asleep.clients if one.sock is None])  # read on early, and found the end
            asleep.until(lambda: asleep.served == stopped, 60)
            print(f"{len(asleep.byes)} found a bye, {asleep.ended} were closed")
            assert {bye["code"] for bye in asleep.byes} == {"slow"}
            assert len(asleep.byes) >= EARLY
            assert (asleep.wrong, asleep.refused, awake.wrong, awake.refused) == ([], [], [], [])
            assert asleep.ended == stopped
            assert all(client.cursor == sent for client in [*asleep.clients, *awake.clients])
        assert "ERROR" not in server.said


def talk(crowd: Crowd, speaker: Client, enough: Callable[[float], bool], every_s: float, size: int) -> int:
    """One message after the other, at a steady pace, until it is enough; how many. Everybody awake has heard them."""
    began, sent, acks = time.monotonic(), 0, crowd.acks
    while not enough(time.monotonic() - began):
        crowd.say_when(speaker, size)
        sent += 1
        crowd.during(began + sent * every_s - time.monotonic())
    crowd.until(lambda: crowd.acks == acks + sent and len({client.cursor for client in crowd.clients}) == 1, 5)
    return sent


async def test_what_is_kept_for_a_reader_that_stopped_is_at_most_a_mebibyte_the_kernel_included(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as server:
        with Crowd(server) as awake, Crowd(server, receive_buffer=SMALL_BUFFER) as asleep:
            [speaker] = awake.add(1, "tcp", "speaker")
            awake.join([speaker])
            asleep.join(in_both(asleep, 2, "stopped"))
            asleep.stop_reading(asleep.clients)
            talk(awake, speaker, lambda s: s > 2.5, 0.01, BIG_BYTES)  # 8 MB

            assert max(unsent(server.port, server.tcp_port)) <= 1 << 20


# Thousands that are silent


@pytest.mark.parametrize(("count", "within_s"), [(1000, 10), pytest.param(10_000, 60, marks=LONG)])
async def test_idle_connections_cost_little_and_all_are_back_after_a_kill(
    tmp_path: Path, count: int, within_s: float
) -> None:
    if why := room_for(count):
        missing(why)
    async with running(tmp_path / "home") as server:
        with Crowd(server) as first, Crowd(server, come_back_s=within_s / 6) as crowd:
            first.join(in_both(first, 50, "warm"))
            before = own_kb(server.pid)
            crowd.join(in_both(crowd, count, "idle"), 60)
            each_kb = (own_kb(server.pid) - before) / count
            assert (crowd.refused, crowd.welcomed) == ([], count)

            await server.kill()
            began = time.monotonic()
            crowd.until(lambda: crowd.welcomed == 0, 5)
            await server.start()
            started_s = time.monotonic() - began
            crowd.until(lambda: crowd.welcomed == count, within_s)
            back_s = time.monotonic() - began
            print(
                f"{count} idle: {each_kb:.1f} KiB each; back {back_s:.1f} s after the kill ({started_s:.1f} to start)"
            )
            assert each_kb <= 10
            assert back_s <= within_s
            assert (crowd.refused, crowd.wrong) == ([], [])
        assert "ERROR" not in server.said


# Thousands that come back at the same moment


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=LONG)])
async def test_everybody_coming_back_at_once_is_served_what_they_missed_within_five_seconds(
    tmp_path: Path, count: int
) -> None:
    if why := room_for(count):
        missing(why)
    missed = 20
    async with running(tmp_path / "home") as server:
        with Crowd(server, goal=missed) as crowd:
            crowd.join(in_both(crowd, count, "member"), 60)
            await server.kill()
            crowd.until(lambda: crowd.welcomed == 0, 10)
            await server.start()
            await say(server, missed)

            used = time.process_time()
            began = time.monotonic()
            crowd.dial(crowd.clients)
            crowd.until(lambda: crowd.served == count, 30)
            served_s = time.monotonic() - began
            used = time.process_time() - used
            print(
                f"{count} came back for {missed} messages each in {served_s:.2f} s (the crowd itself used {used:.2f} s)"
            )
            assert (crowd.refused, crowd.wrong) == ([], [])
            assert crowd.messages == count * missed
            assert served_s <= 5
        assert "ERROR" not in server.said


async def say(server: Server, count: int) -> None:
    """Messages of usual length in the lobby."""
    async with await FramedClient.open(server.tcp_port) as speaker:
        await speaker.hello("speaker", threads=[])
        for number in range(count):
            await speaker.post("lobby", f"message {number} of those that were missed ".ljust(120, "."))
