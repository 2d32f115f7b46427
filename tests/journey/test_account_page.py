"""Signing in on the web page: as a guest, with a password, by the cookie, and out again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.server import House, fresh, serving

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with serving(tmp_path_factory.mktemp("home")) as house:
        yield house


@pytest.fixture
async def tabs(browser: Any, house: House) -> AsyncIterator[Any]:
    """One person's browser: its tabs share its cookies."""
    context = await browser.new_context(base_url=f"http://127.0.0.1:{house.port}/")
    context.set_default_timeout(15_000)
    yield context
    await context.close()


async def opened(tabs: Any) -> Any:
    page = await tabs.new_page()
    await page.goto("/")
    return page


async def fill(page: Any, name: str, password: str | None = None, way: str = "password") -> None:
    if password is not None:
        await page.get_by_test_id(f"way-{way}").click()
    await page.get_by_test_id("name").fill(name)
    if password is not None:
        await page.get_by_test_id("password").fill(password)
    await page.get_by_test_id("enter").click()


async def is_in(page: Any, name: str) -> None:
    await page.locator('[data-testid="status"][data-state="connected"]').wait_for()
    assert await page.get_by_test_id("account").inner_text() == f"{name[0].upper()}\n{name}"


async def says(page: Any, sentence: str) -> None:
    await page.get_by_test_id("sign-in-problem").get_by_text(sentence).wait_for()


async def register(house: House, name: str) -> str:
    """A registered name, elsewhere; the token of that sign-in."""
    async with house.http() as http:
        answer = await http.post("/api/auth/register", json={"user": name, "password": PASSWORD})
        assert answer.status_code == 201
        return str(answer.json()["access_token"])


async def readable(page: Any) -> str:
    """All that a script in the page can get at without asking the server."""
    return str(await page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})"))


async def the_cookie(tabs: Any) -> dict[str, Any]:
    [cookie] = await tabs.cookies()
    assert cookie["name"].startswith("hubbub_")
    return dict(cookie)


async def test_a_registered_name_is_still_signed_in_after_a_reload_and_no_script_can_read_why(
    house: House, tabs: Any
) -> None:
    alice = fresh("alice")
    page = await opened(tabs)
    await fill(page, alice, PASSWORD, "register")
    await is_in(page, alice)
    first = await the_cookie(tabs)

    await page.reload()
    await is_in(page, alice)

    renewed = await the_cookie(tabs)
    assert renewed["httpOnly"]
    assert renewed["sameSite"] == "Strict"
    assert renewed["value"] != first["value"]
    seen = await readable(page)
    assert alice in seen
    assert "eyJ" not in seen


async def test_signing_out_ends_it_in_every_tab_and_on_the_server(house: House, tabs: Any) -> None:
    alice = fresh("alice")
    await register(house, alice)
    page = await opened(tabs)
    await fill(page, alice, PASSWORD)
    await is_in(page, alice)
    other = await opened(tabs)
    await is_in(other, alice)
    token = (await the_cookie(tabs))["value"]

    await other.get_by_test_id("account").click()
    await other.get_by_test_id("sign-out").click()
    await other.get_by_test_id("way-register").wait_for()

    await says(page, "sign in again.")  # by the server, or by what the other tab has left in the browser
    assert await tabs.cookies() == []
    async with house.http(token) as http:
        assert (await http.get("/api/me")).status_code == 401
    await page.reload()
    assert await page.get_by_test_id("name").input_value() == alice
    assert await page.get_by_test_id("account").count() == 0


async def test_a_registered_name_is_asked_for_its_password_and_a_wrong_one_is_answered_by_a_sentence(
    house: House, tabs: Any
) -> None:
    alice = fresh("alice")
    await register(house, alice)
    page = await opened(tabs)

    await fill(page, alice)
    await says(page, f"The name '{alice}' is registered; sign in with its password.")
    await page.locator("#password:focus").wait_for()
    await page.get_by_test_id("password").fill("not the password")
    await page.get_by_test_id("enter").click()
    await says(page, "The name or the password is wrong.")
    await page.get_by_test_id("password").fill(PASSWORD)
    await page.get_by_test_id("enter").click()

    await is_in(page, alice)


async def test_a_guest_makes_the_name_their_own_and_goes_on_where_they_were(house: House, tabs: Any) -> None:
    alice = fresh("alice")
    page = await opened(tabs)
    await fill(page, alice)
    await is_in(page, alice)
    await page.get_by_test_id("composer").fill("half a thought")

    await page.get_by_test_id("account").click()
    await page.get_by_test_id("new-password").fill(PASSWORD)
    await page.get_by_role("button", name="Register this name").click()
    await page.get_by_text("Registered: nobody enters under this name without its password.").wait_for()
    await page.keyboard.press("Escape")

    await is_in(page, alice)
    assert await page.get_by_test_id("composer").input_value() == "half a thought"
    assert "eyJ" not in await readable(page)
    account = house.app.hub.gate.account(alice)
    assert account is not None
    assert all(session.caller.generation == account.generation for session in house.app.hub.people.sessions_of(alice))


async def test_another_tab_may_be_another_guest(house: House, tabs: Any) -> None:
    alice, bob = fresh("alice"), fresh("bob")
    await register(house, alice)
    first = await opened(tabs)
    await fill(first, alice, PASSWORD)
    await is_in(first, alice)

    second = await opened(tabs)
    await is_in(second, alice)
    await second.get_by_test_id("account").click()
    await second.get_by_test_id("leave-tab").click()
    await fill(second, bob)
    await is_in(second, bob)
    await first.reload()
    await second.reload()
    await is_in(first, alice)
    await is_in(second, bob)

    # The guest's leaving is the guest's alone.
    await second.get_by_test_id("account").click()
    await second.get_by_test_id("sign-out").click()
    await second.get_by_test_id("name").wait_for()
    await first.reload()
    await is_in(first, alice)


async def test_a_sign_in_that_is_revoked_leads_back_to_the_form_and_loses_nothing_written(
    house: House, tabs: Any
) -> None:
    alice = fresh("alice")
    await register(house, alice)
    page = await opened(tabs)
    await fill(page, alice, PASSWORD)
    await is_in(page, alice)
    await page.get_by_test_id("composer").fill("half a thought")
    sockets: list[Any] = []
    page.on("websocket", lambda socket: sockets.append(socket))

    await house.app.hub.gate.sign_out_everywhere(alice, by="somebody who runs the server")
    await says(page, "You were signed out; sign in again.")
    assert await page.get_by_test_id("name").input_value() == alice
    assert sockets == []
    await page.get_by_test_id("password").fill(PASSWORD)
    await page.get_by_test_id("enter").click()

    await is_in(page, alice)
    assert await page.get_by_test_id("composer").input_value() == "half a thought"
    assert len(sockets) == 1


async def test_changing_the_password_keeps_this_page_signed_in(house: House, tabs: Any) -> None:
    alice = fresh("alice")
    elsewhere = await register(house, alice)
    page = await opened(tabs)
    await fill(page, alice, PASSWORD)
    await is_in(page, alice)

    await page.get_by_test_id("account").click()
    await page.get_by_text("Change password").first.click()
    await page.get_by_test_id("old-password").fill(PASSWORD)
    await page.get_by_test_id("new-password").fill("another horse battery")
    await page.get_by_role("button", name="Change password").click()
    await page.get_by_text("Changed.").wait_for()

    await is_in(page, alice)
    async with house.http(elsewhere) as http:
        assert (await http.get("/api/me")).status_code == 401
    await page.reload()
    await is_in(page, alice)


async def test_a_token_is_shown_once_works_and_is_revoked(house: House, tabs: Any) -> None:
    alice = fresh("alice")
    await register(house, alice)
    page = await opened(tabs)
    await fill(page, alice, PASSWORD)
    await page.get_by_test_id("account").click()
    await page.get_by_label("What it is for").fill("kitchen display")
    await page.get_by_label("write").uncheck()
    await page.get_by_label("It lasts").select_option("30 days")
    await page.get_by_test_id("make-token").click()

    secret = await page.get_by_test_id("secret").input_value()
    async with house.http(secret) as http:
        assert (await http.get("/api/me")).json()["scopes"] == ["read"]
    await page.keyboard.press("Escape")
    await page.get_by_test_id("account").click()
    row = page.get_by_test_id("token")
    await row.wait_for()
    assert re.fullmatch(r"kitchen display\s*read · until .+\s*Revoke", await row.inner_text())
    assert await page.get_by_test_id("secret").count() == 0

    await row.get_by_role("button").click()
    await row.get_by_role("button", name="Really revoke").click()
    await row.wait_for(state="detached")
    async with house.http(secret) as http:
        assert (await http.get("/api/me")).status_code == 401


async def test_an_owner_makes_somebody_a_reader_who_is_told_why_they_cannot_write(
    house: House, tabs: Any, browser: Any
) -> None:
    alice, bob = fresh("alice"), fresh("bob")
    page = await opened(tabs)
    await fill(page, alice)
    await is_in(page, alice)
    context = await browser.new_context(base_url=f"http://127.0.0.1:{house.port}/")
    bobs = await opened(context)
    await fill(bobs, bob)
    await is_in(bobs, bob)
    await page.get_by_test_id("new-group").click()
    await page.get_by_label("Title").fill("The plan")
    await page.get_by_label("Members", exact=True).fill(bob)
    await page.get_by_test_id("create-group").click()
    await bobs.get_by_text("The plan").click()
    await bobs.get_by_test_id("composer").fill("may I?")

    await page.get_by_test_id("members-open").click()
    await page.get_by_label(f"What {bob} may do").select_option("reader")
    await bobs.get_by_text("You are a reader here").wait_for()
    assert await bobs.get_by_test_id("composer").is_disabled()
    assert await bobs.get_by_test_id("composer").input_value() == "may I?"
    await page.get_by_label(f"What {bob} may do").select_option("member")
    await bobs.get_by_text("You are a reader here").wait_for(state="detached")
    assert await bobs.get_by_test_id("composer").is_enabled()
    await page.get_by_role("button", name=f"Remove {bob}").click()

    await bobs.get_by_test_id("thread").filter(has_text="The plan").wait_for(state="detached")
    await context.close()


async def test_where_guests_are_off_the_form_asks_for_a_password_at_once(tmp_path: Path, browser: Any) -> None:
    async with serving(tmp_path / "home", guests="off") as house:
        await house.app.hub.gate.add("alice", password_hash=await house.app.hub.gate.hash(PASSWORD))
        context = await browser.new_context(base_url=f"http://127.0.0.1:{house.port}/")
        page = await opened(context)
        await page.get_by_test_id("password").wait_for()
        await page.get_by_test_id("name").fill("alice")
        assert await page.get_by_test_id("way-guest").count() == 0
        await page.get_by_test_id("password").fill(PASSWORD)
        await page.get_by_test_id("enter").click()

        await is_in(page, "alice")
        await context.close()
