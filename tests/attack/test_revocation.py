"""What was taken from somebody is taken from their open connections too, within a second, by whoever took it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from hubbub.core.nouns import LOBBY, Account
from support.server import House, fresh
from tests.attack.ears import EVERY, SAY_BYE, SIGNED_IN, Ear
from tests.attack.people import PASSWORD, account, attacked, member, now, opaque, signed

SOON_S = 1.0
"""How long somebody may still be connected."""


async def revoke_by_logout(house: House, name: str, token: str) -> None:
    async with house.http(token) as http:
        assert (await http.post("/api/auth/logout")).status_code == 204


async def revoke_everywhere(house: House, name: str, token: str) -> None:
    _, admin = await member(house, admin=True)
    async with house.http(admin) as http:
        assert (await http.post(f"/api/accounts/{name}/sign-out")).status_code == 204


async def revoke_by_password(house: House, name: str, token: str) -> None:
    _, admin = await member(house, admin=True)
    async with house.http(admin) as http:
        changed = await http.patch(f"/api/accounts/{name}", json={"password": PASSWORD})
    assert changed.status_code == 200, changed.text


async def revoke_by_disabling(house: House, name: str, token: str) -> None:
    _, admin = await member(house, admin=True)
    async with house.http(admin) as http:
        assert (await http.patch(f"/api/accounts/{name}", json={"disabled": True})).status_code == 200


async def revoke_in_the_store(house: House, name: str, token: str) -> None:
    """As another node does: nobody tells this one."""
    await house.app.hub.store.accounts.change(name, sign_out=True)


async def sign_out_in_the_store(house: House, name: str, token: str) -> None:
    claims = house.app.hub.gate.auth.read(token)
    await house.app.hub.store.accounts.sign_out(claims.sign_in, claims.expires, now())


Revoke = Callable[[House, str, str], Awaitable[None]]
REVOCATIONS: dict[str, Revoke] = {
    "log out": revoke_by_logout,
    "signed out everywhere": revoke_everywhere,
    "password changed": revoke_by_password,
    "disabled": revoke_by_disabling,
    "signed out everywhere by another node": revoke_in_the_store,
    "logged out on another node": sign_out_in_the_store,
}


async def say(house: House, text: str) -> None:
    """Somebody else writes to the lobby, which everybody hears."""
    async with house.http(user="witness") as http:
        assert (await http.post(f"/api/threads/{LOBBY}/messages", json={"text": text})).status_code == 201


async def all_thrown_out(house: House, ears: list[Ear]) -> None:
    """Each ends soon, says why where it can, and hears nothing that was written after."""
    await asyncio.gather(*(ear.ends(SOON_S) for ear in ears))
    await say(house, secret := fresh("secret"))
    for ear in ears:
        assert secret not in ear.said
        if ear.kind in SAY_BYE:
            assert '"code": "unauthorized"' in ear.said.splitlines()[-1], ear.kind
            assert '"resume": false' in ear.said.splitlines()[-1]
        if ear.close_code is not None:
            assert ear.close_code == 1008
        ear.close()


@pytest.mark.parametrize("how", REVOCATIONS)
async def test_whoever_is_signed_out_is_thrown_out_everywhere(house: House, how: str) -> None:
    name, token = await member(house)
    ears = [await Ear.open(house, kind, user=name, token=token) for kind in SIGNED_IN]
    bystander_name, bystander_token = await member(house)
    bystander = await Ear.open(house, "text", user=bystander_name, token=bystander_token)
    await say(house, before := fresh("before"))
    for ear in ears:
        await ear.hears(before)

    await REVOCATIONS[how](house, name, token)

    await all_thrown_out(house, ears)
    assert not bystander.over.is_set()
    bystander.close()
    async with house.http(token) as http:
        assert (await http.get("/api/me")).status_code == 401


@pytest.mark.parametrize("by", ["REST", "another node"])
async def test_a_revoked_device_token_reaches_open_connections(house: House, by: str) -> None:
    name, mine = await member(house)
    id, token = await opaque(house, name)
    ears = [await Ear.open(house, kind, user=name, token=token) for kind in SIGNED_IN]
    other = await Ear.open(house, "text", user=name, token=mine)

    if by == "REST":
        async with house.http(mine) as http:
            assert (await http.delete(f"/api/tokens/{id}")).status_code == 204
    else:
        await house.app.hub.store.accounts.revoke_token(id)

    await all_thrown_out(house, ears)
    assert not other.over.is_set(), "the same member's other sign-in was ended too"
    other.close()


async def test_changing_ones_password_ends_every_other_sign_in(house: House) -> None:
    name = await account(house, password=True)
    async with house.http() as http:
        first, second = [
            (await http.post("/api/auth/login", json={"user": name, "password": PASSWORD})).json()["access_token"]
            for _ in range(2)
        ]
        http.cookies.clear()
        ears = [await Ear.open(house, kind, user=name, token=second) for kind in SIGNED_IN]
        async with await house.talk("framed", name, password=PASSWORD):
            pass
        with_password = await house.talk("framed", name, password=PASSWORD)
        changed = await http.post(
            "/api/auth/password",
            json={"old": PASSWORD, "new": PASSWORD + "!"},
            headers={"authorization": f"Bearer {first}"},
        )
        assert changed.status_code == 200

        await all_thrown_out(house, ears)
        async with asyncio.timeout(SOON_S):
            assert (await with_password.take("bye"))["code"] == "unauthorized"
        for old in (first, second):
            http.cookies.clear()
            assert (await http.get("/api/me", headers={"authorization": f"Bearer {old}"})).status_code == 401


async def test_whoever_only_lent_a_name_loses_it_to_its_account(house: House) -> None:
    for kind in EVERY:
        name = fresh("guest")
        ear = await Ear.open(house, kind, user=name)

        await house.app.hub.store.accounts.add(Account(name=name, password="somebody's"))  # on another node

        await all_thrown_out(house, [ear])
        async with house.http(user=name) as http:
            assert (await http.get("/api/me")).status_code == 401


async def test_a_guests_token_is_worth_nothing_once_somebody_registered_the_name(house: House) -> None:
    name = fresh("guest")
    async with house.http() as http:
        guest = (await http.post("/api/auth/guest", json={"user": name})).json()["access_token"]
        ears = [await Ear.open(house, "sse", user=name)]  # holds the name for nobody

        made = await http.post("/api/auth/register", json={"user": name, "password": PASSWORD})
        assert made.status_code == 201

        await all_thrown_out(house, ears)
        http.cookies.clear()
        assert (await http.get("/api/me", headers={"authorization": f"Bearer {guest}"})).status_code == 401


async def test_nobody_stays_longer_than_their_token(own_house: Any) -> None:
    async with own_house(store="memory", jwt_expires_in_hours=2 / 3600) as house:
        name = await account(house)
        token = signed(house, name)
        ears = [await Ear.open(house, kind, user=name, token=token) for kind in SIGNED_IN]
        expires = house.app.hub.gate.auth.read(token).expires

        await asyncio.gather(*(ear.ends(expires - house.app.hub.clock() + SOON_S) for ear in ears))

        await all_thrown_out(house, ears)


async def test_an_expired_device_token_ends_its_connections(house: House) -> None:
    name = await account(house)
    _, secret = await house.app.hub.gate.make_token(name, "", ["read"], by="the test", expires_s=0.5)
    ears = [await Ear.open(house, kind, user=name, token=secret) for kind in SIGNED_IN]

    await asyncio.gather(*(ear.ends(0.5 + SOON_S) for ear in ears))

    await all_thrown_out(house, ears)


async def test_a_revocation_while_somebody_is_being_let_in_is_not_missed(house: House) -> None:
    for turns in range(25):
        name, token = await member(house)
        talker = await house.connect("framed")
        await talker.send("hello", token=token)
        for _ in range(turns):
            await asyncio.sleep(0)  # as far as the server gets in so many turns of its loop

        await house.app.hub.gate.sign_out_everywhere(name, by="the test")

        first = await talker.next()
        if first["type"] == "welcome":
            async with asyncio.timeout(SOON_S):
                assert (await talker.drain())[-1]["code"] == "unauthorized"
        else:
            assert first["code"] in ("unauthorized", "unavailable")
        assert not house.app.hub.people.online(name)
        talker.cut()


@asynccontextmanager
async def stock_server(home: Path) -> AsyncIterator[House]:
    """`uvicorn hubbub.asgi:app`, which brings its own doors."""
    from hubbub.asgi import build

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in [name for name in os.environ if name.startswith("HUBBUB_")]:
            patch.delenv(name)
        for name, value in {"HOME": str(home), "TCP_PORT": "0", "SEND_RATE": "0", "STORE": "memory"}.items():
            patch.setenv(f"HUBBUB_{name}", value)
        app = build(None)
        lifespan = app.router.lifespan_context
        seen: dict[str, Any] = {}

        @asynccontextmanager
        async def watched(given: Any) -> AsyncIterator[Any]:
            async with lifespan(given) as state:
                seen.update(state)
                yield state

        app.router.lifespan_context = watched
        config = uvicorn.Config(app, port=0, lifespan="on", log_config=None, timeout_graceful_shutdown=3)
        server = uvicorn.Server(config)
        with contextlib.ExitStack() as quiet:
            quiet.enter_context(pytest.MonkeyPatch.context())
            task = asyncio.create_task(server.serve())
            async with asyncio.timeout(10):
                while not server.started:
                    assert not task.done(), task.result()
                    await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield House(SimpleNamespace(http_port=port, tcp_port=0, hub=seen["hub"]))  # type: ignore[arg-type]
        finally:
            server.should_exit = True
            async with asyncio.timeout(10):
                await task


async def test_under_another_server_too(tmp_path: Path) -> None:
    async with stock_server(tmp_path) as house:
        for how in ("log out", "disabled", "signed out everywhere by another node"):
            name, token = await member(house)
            kinds = [kind for kind in SIGNED_IN if kind != "framed"]
            ears = [await Ear.open(house, kind, user=name, token=token) for kind in kinds]

            await REVOCATIONS[how](house, name, token)

            await all_thrown_out(house, ears)


async def test_another_process_that_shares_the_file_is_heard(own_house: Any, tmp_path: Path) -> None:
    from hubbub.stores.sqlite import DATABASE, SqliteStore

    async with own_house() as house:
        name, token = await member(house)
        id, device = await opaque(house, name)
        by_token = await Ear.open(house, "framed", user=name, token=device)
        by_password = await Ear.open(house, "text", user=name, token=token)
        # The lock of the file keeps a second server out, not a second store of the same one.
        other = SqliteStore.__new__(SqliteStore)
        other.__dict__.update(house.app.hub.store.__dict__)
        assert (tmp_path / "home" / DATABASE).exists()

        await other.accounts.revoke_token(id)
        await all_thrown_out(house, [by_token])
        assert not by_password.over.is_set()

        await other.accounts.change(name, disabled=True)
        await all_thrown_out(house, [by_password])


async def _revocations(house: House, count: int) -> None:
    """G13: one after the other, each with an open connection of a kind in turn, and none is late or hears more."""
    ways: list[Revoke] = [revoke_by_logout, revoke_in_the_store, sign_out_in_the_store, revoke_everywhere]
    turns = itertools.cycle(itertools.product(ways, SIGNED_IN))
    clock = asyncio.get_running_loop().time
    batch = 10  # at a time: a look at the store every half second would make a thousand take ten minutes
    for _ in range(count // batch):

        async def one(how: Revoke, kind: str) -> None:
            name, token = await member(house)
            ear = await Ear.open(house, kind, user=name, token=token)
            began = clock()
            await how(house, name, token)
            await ear.ends(began + SOON_S - clock())
            await say(house, secret := fresh("secret"))
            assert secret not in ear.said
            ear.close()

        await asyncio.gather(*(one(*next(turns)) for _ in range(batch)))


async def test_fifty_revocations_reach_their_connections_in_time(house: House) -> None:
    await _revocations(house, 50)


@pytest.mark.long
async def test_a_thousand_revocations_reach_their_connections_in_time(tmp_path: Path) -> None:
    async with attacked(tmp_path / "home") as house:
        await _revocations(house, 1000)


async def test_a_signed_token_of_a_caller_with_less_rights_gives_no_more(house: House) -> None:
    name = await account(house)
    _, device = await opaque(house, name, ["read"])
    talker = await house.connect("text")
    welcome = await talker.hello(token=device)

    assert welcome["token"] == device  # it is no way to another that never ends
    async with house.http(device) as http:
        assert (await http.post("/api/auth/refresh")).status_code == 400
        assert (await http.post("/api/tokens", json={})).status_code == 401

    await talker.close()
