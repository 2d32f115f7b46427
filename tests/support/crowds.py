"""Thousands of clients in one thread: bare sockets, one epoll, and of every frame only what has to be known.

A `Crowd` keeps nothing it heard. It notices what is wrong at once (a number missing, doubled or out of order) and
counts the rest, so that ten thousand clients cost the machine less than the server that is looked at. It is not
asyncio: whoever runs it drives it with `turn`, `until` and `during`, and nothing else happens in between.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import json
import resource
import select
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Protocol

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONNECTIONS_AN_ADDRESS = 8000
"""One source address has some 28,000 ports to one destination, and the port of a connection that ended rests for a
minute. So after this many the next ones come from the next loopback address."""

MANY = 64
"""Clients that dial before the others are heard again."""

QUEUED = 3500
"""Clients that may wait for their welcome. A listening socket holds 4096 connections nobody has taken yet; beyond that
the kernel drops them, and they try again after 1, 3 and 7 seconds, whatever the server does."""

STAMP = b'"text":"@'


class Ports(Protocol):
    """Where the server is now."""

    @property
    def port(self) -> int: ...

    @property
    def tcp_port(self) -> int: ...


def client_frame(wire: str, payload: bytes) -> bytes:
    """As a client sends it: length-prefixed, or a WebSocket text message. Its mask is zero, so nothing is masked."""
    size = len(payload)
    if wire == "tcp":
        return size.to_bytes(4, "big") + payload
    if size < 126:
        return bytes([0x81, 0x80 | size]) + b"\0\0\0\0" + payload
    if size < 1 << 16:
        return b"\x81\xfe" + size.to_bytes(2, "big") + b"\0\0\0\0" + payload
    return b"\x81\xff" + size.to_bytes(8, "big") + b"\0\0\0\0" + payload


class Client:
    """One member on one connection at a time. `cursor` is the last number it heard; the next must be the one after."""

    __slots__ = ("connected", "cursor", "held", "name", "outgoing", "sock", "token", "upgraded", "welcome", "wire")

    def __init__(self, name: str, wire: str) -> None:
        self.name = name
        self.wire = wire  # "ws" or "tcp"
        self.sock: socket.socket | None = None
        self.connected = False  # somebody took the connection
        self.upgraded = False  # frames from here on
        self.welcome = False
        self.held = b""
        self.outgoing = b""
        self.token = ""
        self.cursor = -1  # not known yet


class Crowd:
    """Clients that all hear one thread.

    Args:
        receive_buffer: bytes their sockets hold, for a crowd that is to stop reading.
        come_back_s: whoever loses the connection dials again, at a random moment within so many seconds.
        goal: the seq with which a client has heard everything.
    """

    def __init__(
        self,
        at: Ports,
        *,
        thread: str = "lobby",
        receive_buffer: int = 0,
        come_back_s: float = 0.0,
        goal: int = 0,
        seed: int = 0,
    ) -> None:
        self.at = at
        self.thread = thread
        self.come_back_s = come_back_s
        self.goal = goal
        self.clients: list[Client] = []
        self.welcomed = 0  # clients that are welcome now
        self.served = 0  # clients that have heard the goal
        self.messages = 0
        self.bytes = 0
        self.acks = 0
        self.ended = 0  # connections that ended or could not be made
        self.byes: list[dict[str, Any]] = []
        self.refused: list[str] = []  # what the server did not allow
        self.wrong: list[str] = []  # what it must never do
        self.delays: list[float] = []  # of messages that say when they were sent, in seconds
        self.online: set[str] = set()  # as last answered to `who`
        self.epoch = ""
        self.receive_buffer = receive_buffer
        self._poll = select.epoll()
        self._by_file: dict[int, Client] = {}
        self._due: list[tuple[float, int, Client]] = []
        self._ticket = itertools.count()
        self._dials = itertools.count()
        self._chance = Random(seed)

    # What the test asks for

    def add(self, count: int, wire: str, name: str) -> list[Client]:
        """New clients, which do not dial yet."""
        new = [Client(f"{name}{number:05}", wire) for number in range(count)]
        self.clients += new
        return new

    def dial(self, clients: Iterable[Client]) -> None:
        """Connect and say hello, at once and without waiting: the first time by name, then with token and cursor."""
        before = self.welcomed + self.ended
        for number, client in enumerate(clients):
            self._dial(client)
            if number % MANY == MANY - 1:
                self.turn(0)
            while number - (self.welcomed + self.ended - before) >= QUEUED:
                self.turn(0.1)

    def join(self, clients: Iterable[Client], within_s: float = 30.0, together: int = 200) -> None:
        """Connect so that no more than `together` wait for their welcome; back when all are welcome."""
        waiting = list(clients)[::-1]
        deadline, before, asked = time.monotonic() + within_s, self.welcomed, 0
        total = len(waiting)
        while self.welcomed - before < total:
            assert time.monotonic() < deadline, f"{self.welcomed - before} of {total} were welcomed; {self.refused[:3]}"
            while waiting and asked - (self.welcomed - before) < together:
                self._dial(waiting.pop())
                asked += 1
            self.turn(0.1)

    def say(self, client: Client, text: str) -> None:
        """Write to the thread; the ack is counted."""
        payload = json.dumps({"type": "message.send", "thread": self.thread, "text": text}).encode()
        self._write(client, client_frame(client.wire, payload))

    def say_when(self, client: Client, pad: int) -> None:
        """Write a message of `pad` bytes that says when it was sent; whoever hears it adds to `delays`."""
        self.say(client, f"@{time.monotonic():.6f}@".ljust(pad, "x"))

    def who(self, client: Client) -> None:
        """Ask who is online; the answer replaces `online`."""
        self._write(client, client_frame(client.wire, b'{"type":"who"}'))

    def stop_reading(self, clients: Iterable[Client]) -> None:
        for client in clients:
            assert client.sock is not None
            self._poll.modify(client.sock, 0)

    def read_on(self, clients: Iterable[Client]) -> None:
        """Read again, as fast as anybody."""
        for client in clients:
            assert client.sock is not None
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._poll.modify(client.sock, select.EPOLLIN)

    def cut(self, clients: Iterable[Client]) -> None:
        """End connections without a word."""
        for client in clients:
            self._close(client)

    def turn(self, timeout_s: float) -> None:
        """Hear what there is; wait for it so long at most."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._dial(heapq.heappop(self._due)[2])
        if self._due:
            timeout_s = min(timeout_s, self._due[0][0] - now)
        for file, events in self._poll.poll(timeout_s, 1024):
            client = self._by_file.get(file)
            if client is None:
                continue
            if events & select.EPOLLOUT:
                self._flush(client)
            if client.sock is not None and events & ~select.EPOLLOUT:
                self._read(client)

    def until(self, true: Callable[[], bool], within_s: float) -> float:
        """Hear until something is true; how long it took."""
        began = time.monotonic()
        while not true():
            left = began + within_s - time.monotonic()
            assert left > 0, f"not within {within_s} s; {self}"
            self.turn(min(left, 0.1))
        return time.monotonic() - began

    def during(self, seconds: float) -> None:
        """Hear for so long."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.turn(left)

    def close(self) -> None:
        self.come_back_s = 0.0
        self.cut(self.clients)
        self._poll.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"{len(self.clients)} clients, {self.welcomed} welcome, {self.served} served, {self.ended} ended, "
            f"refused {self.refused[:3]}, wrong {self.wrong[:3]}"
        )

    # Connections

    def _dial(self, client: Client) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        address = 2 + next(self._dials) // CONNECTIONS_AN_ADDRESS % 250
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.0.{address}", 0))
        client.sock, client.connected, client.welcome = sock, False, False
        client.upgraded, client.held = client.wire == "tcp", b""
        client.outgoing = self._hello(client)
        self._by_file[sock.fileno()] = client
        port = self.at.tcp_port if client.wire == "tcp" else self.at.port
        trouble = sock.connect_ex(("127.0.0.1", port))
        if trouble not in (0, errno.EINPROGRESS):
            self._over(client)
            return
        self._poll.register(sock, select.EPOLLIN | select.EPOLLOUT)
        self._flush(client)

    def _hello(self, client: Client) -> bytes:
        hello: dict[str, Any] = {"type": "hello", "threads": [self.thread]}
        if client.token:
            resume = {"epoch": self.epoch, "threads": {self.thread: client.cursor}}
            hello |= {"token": client.token, "resume": resume}
        else:
            hello["user"] = client.name
        greeting = client_frame(client.wire, json.dumps(hello).encode())
        return greeting if client.wire == "tcp" else HANDSHAKE + greeting

    def _write(self, client: Client, data: bytes) -> None:
        client.outgoing += data
        self._flush(client)
        if client.outgoing and client.sock is not None:
            self._poll.modify(client.sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, client: Client) -> None:
        if client.sock is None or not client.outgoing:
            return
        try:
            sent = client.sock.send(client.outgoing)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as trouble:
            if trouble.errno != errno.ENOTCONN or client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._over(client)
            return
        client.connected = True
        client.outgoing = client.outgoing[sent:]
        if not client.outgoing:
            self._poll.modify(client.sock, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        assert client.sock is not None
        try:
            data = client.sock.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._feed(client, data)
        else:
            self._over(client)

    def _close(self, client: Client) -> None:
        if client.sock is not None:
            del self._by_file[client.sock.fileno()]
            client.sock.close()
            client.sock = None
            self.welcomed -= client.welcome
            client.welcome = False

    def _over(self, client: Client) -> None:
        """The connection ended, or was never made."""
        self._close(client)
        self.ended += 1
        if self.come_back_s:
            when = time.monotonic() + self._chance.uniform(0, self.come_back_s)
            heapq.heappush(self._due, (when, next(self._ticket), client))

    # Frames

    def _feed(self, client: Client, data: bytes) -> None:
        self.bytes += len(data)
        if client.held:
            data = client.held + data
        at, end, tcp = 0, len(data), client.wire == "tcp"
        if not client.upgraded:
            blank = data.find(b"\r\n\r\n")
            if blank < 0:
                client.held = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.refused.append(f"{client.name}: {data[:300]!r}")
            client.upgraded = True
            at = blank + 4
        while at + 2 <= end:
            if tcp:
                head, kind = 4, 1
                length = int.from_bytes(data[at : at + 4], "big")
            else:
                head, kind, length = 2, data[at] & 15, data[at + 1]
                if length > 125:
                    head = 4 if length == 126 else 10
                    length = int.from_bytes(data[at + 2 : at + head], "big")
            if at + head + length > end or at + head > end:
                break
            at += head + length
            if kind == 1:
                self._hear(client, data[at - length : at])
        client.held = data[at:]

    def _hear(self, client: Client, payload: bytes) -> None:
        if payload.startswith(b'{"type":"message",'):
            self._hear_message(client, payload)
        elif payload.startswith(b'{"type":"ack"'):
            self.acks += 1
        elif payload.startswith(b'{"type":"welcome"'):
            self._hear_welcome(client, json.loads(payload))
        elif payload.startswith(b'{"type":"bye"'):
            self.byes.append(json.loads(payload))
        elif payload.startswith(b'{"type":"who"'):
            self.online = set(json.loads(payload)["online"])
        elif payload.startswith((b'{"type":"error"', b'{"type":"reset"')):
            self.refused.append(f"{client.name}: {payload[:300].decode()}")

    def _hear_message(self, client: Client, payload: bytes) -> None:
        began = payload.index(b'"seq":') + 6
        seq = int(payload[began : payload.index(b",", began)])
        if not client.welcome:
            self.wrong.append(f"{client.name} was told {seq} before it was welcome")
        if seq != client.cursor + 1:
            self.wrong.append(f"{client.name} was told {seq} after {client.cursor}")
        client.cursor = seq
        self.messages += 1
        self.served += seq == self.goal
        stamped = payload.find(STAMP)
        if stamped >= 0:
            sent = payload[stamped + len(STAMP) : payload.index(b"@", stamped + len(STAMP))]
            self.delays.append(time.monotonic() - float(sent))

    def _hear_welcome(self, client: Client, welcome: dict[str, Any]) -> None:
        client.welcome = True
        client.token = welcome["token"]
        self.epoch = welcome["server"]["epoch"]
        self.welcomed += 1
        if client.cursor < 0:
            [view] = welcome["threads"]
            client.cursor = view["seen"]


# The machine


def room_for(connections: int) -> str:
    """Let this process and the servers it starts hold so many connections. Why not, if that cannot be."""
    needed = connections + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return ""
    if hard != resource.RLIM_INFINITY and hard < needed:
        return f"{needed} open files are needed and {hard} allowed"
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))
    return "" if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= needed else "the limit of open files cannot be raised"


def own_kb(pid: int) -> float:
    """Memory of a process that is its own, in KiB. Pages of libraries do not count: whether those are shared depends on
    which other programs run."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return float(fields["Anonymous"].split()[0])


def open_files(pid: int) -> list[str]:
    """What every open file of a process is: a path, or `socket:[…]`."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(str(link.readlink()))
    return found


def connections(pid: int) -> int:
    return sum(what.startswith("socket:") for what in open_files(pid))


def unsent(*ports: int, to: Crowd | None = None) -> list[int]:
    """Bytes the kernel holds for each connection of a server, or for those of a crowd: written, and not taken by the
    other side."""
    theirs = None if to is None else {one.sock.getsockname()[1] for one in to.clients if one.sock is not None}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].split(":")[0], 16)
        for row in rows
        if int(row[1].split(":")[1], 16) in ports
        and row[3] != "0A"
        and (theirs is None or int(row[2].split(":")[1], 16) in theirs)
    ]


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
