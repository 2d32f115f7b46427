"""What was once possible: races, lock-outs and growth that a reviewer found by trying."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbub.core.errors import NameTaken, RateLimited
from hubbub.core.nouns import Kind, Role, Scope
from hubbub.hub.addresses import Addresses, whose
from hubbub.hub.passwords import AT_ONCE, MAX_OF_ONE, MAX_WAITING, Passwords
from hubbub.stores import backup
from support.server import House, fresh, serving
from tests.attack.people import PASSWORD, account, cookie, member, opaque, signed

# Races


async def test_who_is_removed_cannot_outrun_it_by_asking_again_and_again(house: House) -> None:
    for _ in range(10):
        owner, victim = fresh("owner"), fresh("victim")
        async with await house.talk("framed", owner) as theirs, await house.talk("framed", victim) as one:
            thread = await theirs.group(victim)
            for n in range(30):
                await one.send("thread.add", thread=thread, member=victim, id=f"a{n}")
            removing = asyncio.create_task(theirs.ask("thread.remove", thread=thread, member=victim))
            for n in range(30):
                await one.send("thread.add", thread=thread, member=victim, id=f"b{n}")
                await one.send("message.send", thread=thread, text=f"{n}", id=f"c{n}")
            assert (await removing)["type"] == "thread"
            await one.ask("ping")
        stored = (await house.app.hub.store.read_after(thread, 0, 200, 1 << 20)).messages
        removed = next(m.seq for m in stored if m.metadata.get("event") == "removed")
        assert [m.sender for m in stored if m.seq > removed] == []
        assert await house.app.hub.store.role(thread, victim) is None


async def test_owners_who_leave_at_the_same_moment_leave_one_behind(house: House) -> None:
    owner, heir, third = fresh("owner"), fresh("heir"), fresh("third")
    async with await house.talk("text", owner) as one, await house.talk("binary", heir) as other:
        thread = await one.group(heir, third)
        await asyncio.gather(one.ask("thread.leave", thread=thread), other.ask("thread.leave", thread=thread))

    room = await house.app.hub.room(thread)
    assert await house.app.hub.store.role(thread, third) is Role.OWNER
    assert room.members[third] is Role.OWNER


async def test_a_reader_who_leaves_and_comes_back_is_a_reader(house: House) -> None:
    owner, reader = fresh("owner"), fresh("reader")
    async with await house.talk("text", owner) as one, await house.talk("framed", reader) as other:
        made = await one.ask("thread.create", title="t", members=[reader], public=True)
        thread = made["thread"]["id"]
        await one.ask("thread.role", thread=thread, member=reader, role="reader")
        await other.ask("thread.leave", thread=thread)
        assert (await other.ask("thread.join", thread=thread))["type"] == "thread"
        assert (await other.ask("message.send", thread=thread, text="hello"))["code"] == "not_found"
        await one.ask("thread.role", thread=thread, member=reader, role="member")
        assert (await other.ask("message.send", thread=thread, text="hello"))["type"] == "ack"


# One address


def test_of_ipv6_the_first_half_counts() -> None:
    assert whose("2001:db8:1:2::1") == whose("2001:db8:1:2:ffff::9") != whose("2001:db8:1:3::1")
    assert whose("::ffff:192.0.2.1") == "192.0.2.1" != whose("192.0.2.2")
    counted = Addresses(2, 100, loopback=False)
    assert [counted.enter(f"2001:db8::{n}") for n in range(3)] == [True, True, False]
    counted.leave("2001:db8::77")
    assert counted.enter("2001:db8::99")


async def test_one_address_cannot_take_all_the_places_where_passwords_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = Passwords()
    going_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def judge(*_: Any) -> bool:
        await going_on.wait()
        return True

    monkeypatch.setattr(loop, "run_in_executor", lambda *_: asyncio.ensure_future(judge()), raising=False)
    tries = [asyncio.create_task(passwords.verify("x", "y", "192.0.2.1")) for _ in range(AT_ONCE + MAX_WAITING)]
    other = asyncio.create_task(passwords.verify("x", "y", "192.0.2.2"))
    await asyncio.sleep(0)
    going_on.set()
    outcomes = await asyncio.gather(*tries, return_exceptions=True)

    assert [type(one) for one in outcomes].count(RateLimited) == AT_ONCE + MAX_WAITING - MAX_OF_ONE
    assert await other


# Sign-ins, tokens, names


async def test_nothing_that_was_taken_away_comes_back_with_a_backup(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with serving(home) as house:
        name = await account(house, password=True)
        _, device = await opaque(house, name, ["read"])
        old = signed(house, name)
        backup.back_up(home / "hubbub.db", tmp_path / "copy.db")
    backup.lay_in(tmp_path / "copy.db", home / "hubbub.db")
    async with serving(home) as house, house.http() as http:
        for _ in range(3):
            for token in (old, device):
                async with house.http(token) as shown:
                    assert (await shown.get("/api/me")).status_code == 401
            await house.app.hub.gate.sign_out_everywhere(name, by="a test")
        again = await http.post("/api/auth/login", json={"user": name, "password": PASSWORD})
        assert again.status_code == 200


async def test_nobody_has_more_tokens_by_asking_for_many_at_once(house: House) -> None:
    name = await account(house)
    made = await asyncio.gather(
        *(house.app.hub.gate.make_token(name, "", [Scope.READ], by=name) for _ in range(120)), return_exceptions=True
    )

    assert sum(isinstance(one, tuple) for one in made) == len(house.app.hub.gate.tokens_of(name)) == 100


async def test_the_password_of_somebody_who_is_shut_out_can_be_set(house: House) -> None:
    name = await account(house, password=True)
    await house.app.hub.gate.change(name, by="a test", disabled=True)

    changed = await house.app.hub.gate.set_password(name, "another password", by="a test")

    assert changed.disabled


async def test_a_connection_that_cannot_be_ended_keeps_nobody_else_in(house: House) -> None:
    names = [await account(house) for _ in range(3)]
    talkers = [await house.connect("text") for _ in names]
    for name, talker in zip(names, talkers, strict=True):
        await talker.hello(token=signed(house, name))
    gate = house.app.hub.gate
    [stuck] = house.app.hub.people.sessions_of(names[0])

    class Broken:
        """A door that cannot be shut."""

        address = ""

        def write(self, data: bytes) -> None: ...

        def end(self, code: str, reason: str) -> None:
            raise ZeroDivisionError

    stuck.door = Broken()  # type: ignore[assignment]
    with structlog.testing.capture_logs() as logged:
        for name in names:
            await house.app.hub.store.accounts.change(name, disabled=True)
        await gate.refresh()
        for talker in talkers[1:]:
            async with asyncio.timeout(5):
                assert (await talker.take("bye"))["code"] == "unauthorized"
    assert [line["event"] for line in logged] == ["session_not_ended"]


async def test_an_anonymous_connection_shuts_nobody_out(house: House) -> None:
    first, second = await house.connect("text"), await house.connect("framed")
    assert [(await one.ask("hello"))["type"] for one in (first, second)] == ["welcome", "welcome"]
    async with house.http() as http:
        assert (await http.get("/api/me")).json()["user"] == "visitor"
    await first.close()
    await second.close()


async def test_a_passer_by_keeps_nobody_from_their_own_name(house: House) -> None:
    name = fresh("Minnie")
    passer_by = name.replace("nn", "nn").replace("M", "rn")
    async with house.http(user=passer_by) as http:
        assert (await http.get("/api/me")).status_code == 200
    gate = house.app.hub.gate
    with pytest.raises(NameTaken):
        await gate.register(name, PASSWORD)

    await gate.add(name)

    async with house.http(user=passer_by) as http:
        assert (await http.get("/api/me")).status_code == 409
    with pytest.raises(NameTaken):
        await gate.add(passer_by)
    with pytest.raises(NameTaken):
        await gate.add("OpenAI")


async def test_a_device_is_not_introduced_as_a_person_who_has_its_name(house: House) -> None:
    name = await account(house)
    assert await house.app.hub.gate.introduce(name) == ""
    device = (await house.app.hub.gate.add(fresh("device"), kind=Kind.DEVICE)).name

    assert await house.app.hub.gate.introduce(device) != ""


async def test_signing_out_with_a_stale_cookie_takes_it_away(house: House) -> None:
    name, _ = await member(house)
    async with house.http() as http:
        gone = await http.post("/api/auth/logout", headers=cookie(house, "eyJ.no.good"))
        nothing = await http.post("/api/auth/logout", params={"user": name})

    assert (gone.status_code, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)
    assert nothing.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_page_elsewhere_makes_nobody_known_here(house: House, headers: dict[str, str]) -> None:
    name = fresh("squatter")
    async with house.http() as http:
        asked = await http.get("/api/me", params={"user": name}, headers=headers)
        page = await http.get("/", headers={"sec-fetch-site": "cross-site"})

    assert (asked.status_code, page.status_code) == (403, 200)
    assert house.app.hub.people.known(name) is None
