"""Guessing passwords, asking too often, and taking every connection there is, while everybody else goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import pytest

from hubbub.core.errors import RateLimited
from hubbub.hub.passwords import FAILURES, LONGEST_S, WINDOW_S, Attempts
from support.listeners import Refused
from support.raw import HANDSHAKE, Wire, request
from support.server import House, fresh
from support.talkers import TALKERS
from tests.attack.ears import Ear
from tests.attack.people import PASSWORD, account, signed

# Guessing


async def guess(house: House, name: str, password: str = "wrong wrong") -> Any:
    async with house.http() as http:
        return await http.post("/api/auth/login", json={"user": name, "password": password})


async def test_five_wrong_passwords_a_minute_and_then_not_even_the_right_one(house: House) -> None:
    name, other = await account(house, password=True), await account(house, password=True)

    failures = [(await guess(house, spelling)).status_code for spelling in (name, name.upper(), name, f" {name}", name)]
    limited = await guess(house, name)

    assert failures == [401] * FAILURES
    assert limited.status_code == 429
    assert 50 <= int(limited.headers["retry-after"]) <= 60
    assert limited.json()["code"] == "rate_limited"
    assert (await guess(house, name, PASSWORD)).status_code == 429
    for kind in TALKERS:
        async with await house.connect(kind) as talker:
            assert (await talker.ask("hello", user=name, password=PASSWORD))["code"] == "rate_limited"
    async with house.http(signed(house, name)) as http:  # nor by the way round
        body = {"old": PASSWORD, "new": PASSWORD + "!"}
        assert (await http.post("/api/auth/password", json=body)).status_code == 429
        form = {"username": name, "password": PASSWORD, "grant_type": "password"}
        assert (await http.post("/api/auth/login", data=form)).status_code == 429
        assert (await http.get("/api/me")).status_code == 200, "who is signed in already goes on"
    assert (await guess(house, other, PASSWORD)).status_code == 200


async def test_many_guesses_at_once_are_no_way_round(house: House) -> None:
    name = await account(house, password=True)

    answers = await asyncio.gather(*(guess(house, name, f"guess number {turn}") for turn in range(25)))

    assert sorted(answer.status_code for answer in answers) == [401] * FAILURES + [429] * 20


async def test_guesses_of_a_name_nobody_has_are_counted_the_same(house: House) -> None:
    name = fresh("nobody")

    answers = [(await guess(house, name)).status_code for _ in range(FAILURES + 1)]

    assert answers == [401] * FAILURES + [429]


def test_every_further_failure_doubles_the_wait() -> None:
    attempts, now = Attempts(), 1000.0
    for _ in range(FAILURES):
        attempts.begin("joe", "here", now)

    waits = []
    for _ in range(10):
        with pytest.raises(RateLimited) as refused:
            attempts.begin("joe", "here", now)
        assert refused.value.retry_after is not None
        waits.append(refused.value.retry_after)
        attempts.begin("joe", "elsewhere", now)  # another address waits for nobody
        attempts.succeeded("joe", "elsewhere")
        now += waits[-1]
        attempts.begin("joe", "here", now)

    assert waits == [min(LONGEST_S, WINDOW_S * 2**turn) for turn in range(10)]


def test_the_right_password_makes_up_for_the_wrong_ones() -> None:
    attempts = Attempts()
    for _ in range(3):
        for _ in range(FAILURES):
            attempts.begin("joe", "here", 0.0)
        attempts.succeeded("joe", "here")


async def test_nobody_learns_who_has_an_account(house: House) -> None:
    known, disabled, tokens_only = [await account(house, password=one) for one in (True, True, False)]
    await house.app.hub.gate.change(disabled, by="the test", disabled=True)
    took: dict[str, list[float]] = {}
    said = set()
    async with house.http() as http:
        for turn in range(4):
            no = fresh("no")
            for kind, name in (("known", known), ("disabled", disabled), ("tokens", tokens_only), ("nobody", no)):
                began = perf_counter()
                answer = await http.post("/api/auth/login", json={"user": name, "password": "wrong wrong"})
                if turn:  # the first ones open the connection and make the hash of nobody
                    took.setdefault(kind, []).append(perf_counter() - began)
                said.add((answer.status_code, answer.text))

    fast, *_, slow = sorted(median(times) for times in took.values())

    assert len(said) == 1, said
    assert slow < 2.5 * fast, took


async def test_whoever_guesses_does_not_disturb_the_others(house: House) -> None:
    async with await house.talk("text", fresh("ann")) as ann, await house.talk("framed", fresh("bob")) as bob:
        flood = [asyncio.create_task(guess(house, fresh("victim"))) for _ in range(60)]
        waits, most = [], 0
        while not all(task.done() for task in flood):
            began = perf_counter()
            await ann.write(bob.welcome["user"], "still here?")
            await bob.message("still here?")
            waits.append(perf_counter() - began)
            most = max(most, sum(thread.name.startswith("password") for thread in threading.enumerate()))
            assert house.app.hub.gate._passwords._under_way <= 34
        answers = [task.result().status_code for task in flood]

    assert set(answers) == {401, 429}, "a queue has an end"
    assert answers.count(401) >= 30
    assert 1 <= most <= 2
    assert len(waits) > 10
    assert median(waits) < 0.1


# Strangers


async def test_a_stranger_asks_so_often_a_minute(own_house: Callable[..., Any]) -> None:
    async with own_house(store="memory", strangers_per_minute=4, limit_loopback=True) as house:
        name = await account(house)
        async with house.http() as http:
            got = [(await http.get("/api/me", params={"user": "guest"})).status_code for _ in range(5)]
            assert got == [200] * 4 + [429]
            limited = await http.get("/api/me")
            assert int(limited.headers["retry-after"]) >= 1
            for _ in range(2):  # every way of a stranger is the same one
                assert (await http.get("/api/me", headers={"authorization": "Bearer x"})).status_code == 429
                assert (await guess(house, name)).status_code == 429
                body = {"user": fresh("x"), "password": PASSWORD}
                assert (await http.post("/api/auth/register", json=body)).status_code == 429
                assert (await http.post("/api/auth/guest", json={"user": fresh("x")})).status_code == 429
        for kind in TALKERS:
            async with await house.connect(kind) as talker:
                assert (await talker.ask("hello", user=fresh("x")))["code"] == "rate_limited"
                assert (await talker.ask("hello", token="x"))["code"] == "rate_limited"
        with pytest.raises(Refused) as refused:
            await house.listen(user=fresh("x"))
        assert refused.value.status == 429
        async with house.http(signed(house, name)) as http:
            for _ in range(20):
                assert (await http.get("/api/me")).status_code == 200, "who is known is no stranger"


async def test_loopback_is_ones_own_unless_asked(own_house: Callable[..., Any]) -> None:
    async with own_house(store="memory", strangers_per_minute=2, address_connections=2) as house:
        async with house.http(user="guest") as http:
            assert {(await http.get("/api/me")).status_code for _ in range(8)} == {200}
        wires = [await Wire.open(house.port) for _ in range(5)]
        wires[-1].send(request("GET", "/healthz"))
        assert (await wires[-1].response()).status == 200


# Connections


@pytest.mark.parametrize("limit", [3, 64])
async def test_so_many_connections_of_a_member(own_house: Callable[..., Any], limit: int) -> None:
    more = {} if limit == 64 else {"member_connections": limit}
    async with own_house(store="memory", **more) as house:
        name = await account(house)
        token = signed(house, name)
        kinds = [("text", "binary", "framed", "sse", "lobby")[turn % 5] for turn in range(limit)]
        ears = [await Ear.open(house, kind, user=name, token=token) for kind in kinds]

        for kind in TALKERS:
            async with await house.connect(kind) as talker:
                refused = await talker.ask("hello", token=token)
                assert refused["code"] == "rate_limited"
                assert refused["retry_after"] > 0
        with pytest.raises(Refused) as stream:
            await house.listen(token=token)
        assert stream.value.status == 429
        bearer = {"authorization": f"Bearer {token}"}
        async with await Wire.open(house.port) as wire:
            wire.send(request("GET", f"/ws/{name}", {**HANDSHAKE, **bearer}))
            assert (await wire.response()).status == 101
            assert await wire.close_code() == 1008
        async with await house.talk("text", fresh("other")):
            pass

        ears.pop().close()
        async with asyncio.timeout(2):
            while len(house.app.hub.people.sessions_of(name)) == limit:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        ears.append(await Ear.open(house, "framed", user=name, token=token))
        for ear in ears:
            ear.close()


@pytest.mark.parametrize("limit", [4, 256])
async def test_so_many_connections_of_an_address(own_house: Callable[..., Any], limit: int) -> None:
    more = {} if limit == 256 else {"address_connections": limit}
    async with own_house(store="memory", limit_loopback=True, strangers_per_minute=0, **more) as house:

        async def one_more(port: int) -> Wire | None:
            """A connection, unless it is refused at once."""
            wire = await Wire.open(port)
            if port == house.port:
                wire.send(request("GET", "/healthz"))
                if (await wire.response()).status == 429:
                    assert await wire.rest(2) == b""
                    return None
                return wire
            wire.send(b"\0\0\0\x0f" + b'{"type":"ping"}')
            said = await wire.reader.read(100)
            if said.startswith(b"Too many connections"):
                await wire.rest(2)
                return None
            assert b"hello_required" in said
            return wire

        held: list[Any] = [await one_more((house.port, house.tcp_port)[turn % 2]) for turn in range(limit - 3)]
        held += [await house.connect("text"), await house.listen(user=fresh("x")), await house.nc(fresh("y"))]
        assert None not in held

        for port in (house.port, house.tcp_port):
            assert await one_more(port) is None
        for taken in held[-5:]:  # whatever kind it was, its place is free again
            taken.cut()
            async with asyncio.timeout(2):
                while (again := await one_more(house.tcp_port)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            held.append(again)
        assert await one_more(house.port) is None
        for wire in held:
            wire.cut()
