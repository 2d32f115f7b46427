"""The page at /docs, in a browser that reaches this server and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hubbub import asgi
from support.server import House, serving

PASSWORD = "correct horse battery"


@pytest.fixture
async def house(tmp_path: Path) -> Any:
    async with serving(tmp_path / "home") as house:
        yield house


async def test_somebody_registered_authorises_and_asks_who_they_are_without_any_other_server(
    house: House, browser: Any
) -> None:
    async with house.http() as http:
        made = await http.post("/api/auth/register", json={"user": "alice", "password": PASSWORD})
        assert made.status_code == 201
    context = await browser.new_context()
    elsewhere: list[str] = []

    async def only_here(route: Any) -> None:
        if urlsplit(route.request.url).port == house.port:
            await route.continue_()
        else:
            elsewhere.append(route.request.url)
            await route.abort()

    await context.route("**/*", only_here)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    await page.goto(f"http://127.0.0.1:{house.port}/docs")
    await page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".dialog-ux")
    await dialog.locator("#oauth_username").fill("alice")
    await dialog.locator("#oauth_password").fill(PASSWORD)
    await dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await dialog.get_by_text("Logout").wait_for()
    await dialog.get_by_role("button", name="Close").last.click()
    me = page.locator("#operations-accounts-me_api_me_get")
    await me.locator(".opblock-summary-control").click()
    await me.get_by_role("button", name="Execute").click()
    answer = me.locator(".live-responses-table .highlight-code").first
    await answer.wait_for()

    assert '"user": "alice"' in await answer.inner_text()
    assert '"registered": true' in await answer.inner_text()
    assert elsewhere == []
    assert wrong == []
    # Trying something here signs nobody in on the chat page.
    assert await context.cookies() == []
    await context.close()


async def test_without_a_built_page_it_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "page_directory", lambda: tmp_path / "nothing")
    async with serving(tmp_path / "home") as house, house.http() as http:
        answer = await http.get("/docs")

    assert answer.status_code == 200
    assert "`make web` builds it" in answer.text
    assert answer.text.count("\n") == 1


async def test_its_policy_allows_no_inline_script_and_no_other_site(house: House) -> None:
    async with house.http() as http:
        answer = await http.get("/docs")

    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert "<script>" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
