"""Requests given up in the middle, a thousand of them: no answer, nor any part of one, ever reaches somebody else.

Everything a member may read carries their name. Beside those who give up, others go on asking: over connections that
several members share, as behind a reverse proxy, with several questions on the way at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from support.faulty import RESET
from support.inbox import WAIT_S, Frame
from support.process import Server, running
from support.raw import Wire, request
from support.talkers import TALKERS, FramedClient, Talker
from support.witness import LOBBY, connect, told_log

MEMBERS = 12
IMPATIENT = 8  # so many give up at the same time
LONG = "·" * 400


@dataclass(frozen=True)
class Member:
    name: str
    token: str
    thread: str  # nobody else is in it

    def text(self, number: int) -> str:
        return f"{self.name} {number} {LONG}"


def belongs(member: Member, question: str, body: Frame) -> None:
    """Is this the answer to that member's question?"""
    match question:
        case "me":
            assert body["user"] == member.name
        case "threads":
            assert {thread["id"] for thread in body["threads"]} == {LOBBY, member.thread}
        case "history":
            assert body["thread"] == member.thread
            assert len(body["messages"]) >= 10
            for message in body["messages"]:
                assert (message["sender"], message["text"].split()[0]) == (member.name, member.name)
        case "send":
            assert body["thread"] == member.thread
        case _:
            raise AssertionError(question)


def asked_by_http(member: Member, question: str, number: int) -> tuple[str, str, dict[str, Any] | None]:
    return {
        "me": ("GET", "/api/me", None),
        "threads": ("GET", "/api/threads", None),
        "history": ("GET", f"/api/threads/{member.thread}/messages?limit=20", None),
        "send": ("POST", f"/api/threads/{member.thread}/messages", {"text": member.text(number)}),
    }[question]


def as_bytes(member: Member, question: str, number: int) -> bytes:
    method, target, body = asked_by_http(member, question, number)
    headers = {"authorization": f"Bearer {member.token}"}
    if body is not None:
        headers["content-type"] = "application/json"
    return request(method, target, headers, b"" if body is None else json.dumps(body).encode())


def as_frame(member: Member, question: str, number: int) -> tuple[str, dict[str, Any]]:
    return {
        "threads": ("thread.list", {}),
        "history": ("history", {"thread": member.thread, "limit": 20}),
        "send": ("message.send", {"thread": member.thread, "text": member.text(number)}),
    }[question]


class Town:
    """The members, and everything they do to one server."""

    def __init__(self, server: Server, members: list[Member], chance: Random, http: httpx2.AsyncClient) -> None:
        self.server = server
        self.members = members
        self.chance = chance
        self.http = http
        self.given_up: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.numbers = iter(range(1, 1 << 30))
        self.over = False

    def some_questions(self, count: int, *, http: bool, member: Member | None = None) -> list[tuple[Member, str]]:
        kinds = ["history", "history", "threads", "send"] + (["me"] if http else [])
        return [(member or self.chance.choice(self.members), self.chance.choice(kinds)) for _ in range(count)]

    # Asking and hearing the answers, in order

    async def ask_over(self, wire: Wire, questions: list[tuple[Member, str]], hear: int) -> None:
        for member, question in questions:
            wire.send(as_bytes(member, question, next(self.numbers)))
        for member, question in questions[:hear]:
            answer = await wire.response()
            assert answer.status in (200, 201), answer
            belongs(member, question, answer.json)
            self.answered["http"] += 1

    async def ask_in(self, talker: Talker, member: Member, questions: list[str], hear: int) -> None:
        """As frames. Whatever comes that was not asked for is of the member's own thread, too."""
        numbers = [next(self.numbers) for _ in questions]
        for number, question in zip(numbers, questions, strict=True):
            kind, fields = as_frame(member, question, number)
            await talker.send(kind, id=f"{member.name}-{number}", **fields)
        for number, question in list(zip(numbers, questions, strict=True))[:hear]:
            while "id" not in (frame := await self._heard(talker)):
                if frame["type"] == "message":
                    assert frame["thread"] == member.thread
                    assert frame["message"]["sender"] == member.name
            assert frame["id"] == f"{member.name}-{number}", frame
            belongs(member, question, frame)
            self.answered["frames"] += 1

    @staticmethod
    async def _heard(talker: Talker) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):  # `wait_for` may swallow the end of those who go on
            return await talker._read()

    async def enter(self, kind: str, member: Member) -> Talker:
        talker = await connect(self.server, kind)
        await talker.hello(token=member.token, threads=[member.thread])
        return talker

    async def ask_pooled(self) -> None:
        [(member, question)] = self.some_questions(1, http=True)
        method, target, body = asked_by_http(member, question, next(self.numbers))
        headers = {"authorization": f"Bearer {member.token}"}
        answer = await self.http.request(method, target, json=body, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        belongs(member, question, answer.json())
        self.answered["pool"] += 1

    # Giving up

    async def within_a_request(self) -> None:
        async with await Wire.open(self.server.port) as wire:
            *before, last = self.some_questions(self.chance.randint(1, 3), http=True)
            await self.ask_over(wire, before, self.chance.randint(0, len(before)))
            data = as_bytes(*last, next(self.numbers))
            wire.send(data[: self.chance.randrange(1, len(data))])
            self._leave(wire)

    async def before_the_answer(self) -> None:
        async with await Wire.open(self.server.port) as wire:
            await self.ask_over(wire, self.some_questions(1, http=True), 0)
            await asyncio.sleep(self.chance.choice([0, 0, self.chance.uniform(0, 0.003)]))
            self._leave(wire)

    async def within_an_answer(self) -> None:
        async with await Wire.open(self.server.port) as wire:
            await self.ask_over(wire, self.some_questions(1, http=True), 0)
            assert await wire.reader.read(self.chance.randrange(1, 3000))
            self._leave(wire)

    async def between_answers(self) -> None:
        async with await Wire.open(self.server.port) as wire:
            questions = self.some_questions(self.chance.randint(3, 6), http=True)
            await self.ask_over(wire, questions, self.chance.randrange(len(questions)))
            self._leave(wire)

    async def in_a_pool(self) -> None:
        asking = asyncio.create_task(self.ask_pooled())
        await asyncio.wait([asking], timeout=self.chance.uniform(0, 0.006))
        asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()

    async def as_frames(self) -> None:
        member = self.chance.choice(self.members)
        talker = await self.enter(self.chance.choice(TALKERS), member)
        questions = [question for _, question in self.some_questions(5, http=False)]
        await self.ask_in(talker, member, questions, self.chance.randrange(len(questions)))
        talker.cut()

    def _leave(self, wire: Wire) -> None:
        how = self.chance.choice(["end", "reset", "half"])
        if how == "half":
            wire.end()
        if how == "reset":
            reset(wire)
        wire.cut()

    async def give_up(self, count: int) -> None:
        """So many times, in any of these ways."""
        ways: list[Callable[[], Awaitable[None]]] = [
            self.within_a_request,
            self.before_the_answer,
            self.within_an_answer,
            self.between_answers,
            self.in_a_pool,
            self.as_frames,
        ]
        for _ in range(count):
            way = self.chance.choice(ways)
            await way()
            self.given_up[way.__name__] += 1

    # Those who go on

    async def go_on_sharing(self) -> None:
        """Several members over one connection, several questions at once, every one answered in its order."""
        async with await Wire.open(self.server.port) as wire:
            while not self.over:
                questions = self.some_questions(4, http=True)
                await self.ask_over(wire, questions, len(questions))

    async def go_on_pooled(self) -> None:
        while not self.over:
            await self.ask_pooled()

    async def go_on_talking(self, kind: str, member: Member) -> None:
        async with await self.enter(kind, member) as talker:
            while not self.over:
                questions = [question for _, question in self.some_questions(4, http=False)]
                await self.ask_in(talker, member, questions, len(questions))


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_no_answer_reaches_another_member_however_many_requests_are_given_up(tmp_path: Path, count: int) -> None:
    async with running(tmp_path / "home") as server:
        members = [await settled(server, f"member-{number:02}") for number in range(MEMBERS)]
        files = open_files(server)
        limits = httpx2.Limits(max_connections=6, max_keepalive_connections=6)
        base = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=base, limits=limits, timeout=WAIT_S, trust_env=False) as http:
            town = Town(server, members, Random(count), http)
            async with asyncio.TaskGroup() as group:
                going_on = [
                    *(group.create_task(town.go_on_sharing()) for _ in range(2)),
                    group.create_task(town.go_on_pooled()),
                    *(group.create_task(town.go_on_talking(*who)) for who in zip(TALKERS, members, strict=False)),
                ]
                giving_up = [group.create_task(town.give_up(count // IMPATIENT)) for _ in range(IMPATIENT)]
                await asyncio.wait(giving_up)
                town.over = True
                for task in going_on:
                    task.cancel()
        await closed(server, files)
        for member in members:
            async with await town.enter("framed", member) as talker:
                await town.ask_in(talker, member, ["history"], 1)
        assert {sender for _, sender, _ in await told_log(server)} == set()
    assert town.given_up.total() == count
    assert min(town.given_up.values()) > count / 12
    assert min(town.answered.values()) > count / 8, town.answered


async def test_a_client_that_leaves_before_the_answers_to_several_requests_is_nothing_to_log(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as server:
        member = await settled(server, "member")
        files = open_files(server)
        async with await Wire.open(server.port) as wire:
            wire.send(as_bytes(member, "me", 0))
            assert (await wire.response()).status == 200
            server.signal(signal.SIGSTOP)  # so that it finds the requests and their end at the same moment
            for number in range(3):
                wire.send(as_bytes(member, "send", number))
            reset(wire)
        server.signal(signal.SIGCONT)
        await closed(server, files)
        await server.stop()
        assert server.said == ""


async def settled(server: Server, name: str) -> Member:
    """A member with a thread of their own and something in it."""
    async with await FramedClient.open(server.tcp_port) as talker:
        token = (await talker.hello(name))["token"]
        member = Member(name, token, await talker.group())
        for number in range(-20, 0):
            await talker.post(member.thread, member.text(number))
    return member


def reset(wire: Wire) -> None:
    wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wire.cut()


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


async def closed(server: Server, files: int) -> None:
    """Wait until the server holds no more connections than before."""
    async with asyncio.timeout(10):
        while open_files(server) > files:  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(0.01)
