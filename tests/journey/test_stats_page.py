"""The page at /stats, in a browser: what was done is drawn, on wide screens and narrow ones, in light and dark."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.server import House, fresh, serving

SIZES = {"wide": (1280, 900), "phone": (360, 740)}
ENDS = ("run.completed", "run.failed", "run.cancelled")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path / "home") as house:
        yield house


async def opened(house: House, browser: Any, **context: Any) -> tuple[Any, list[str]]:
    """The page, drawn, and what went wrong in it; no other server is reached."""
    page = await (await browser.new_context(**context)).new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if urlsplit(asked.url).port != house.port else None)
    await page.goto(f"http://127.0.0.1:{house.port}/stats")
    return page, wrong


async def some_work(house: House) -> None:
    ann = fresh("ann")
    async with house.http(user=ann) as http, await house.listen("lobby", user=ann) as reader:
        for _ in range(5):
            await http.get("/api/users")
        await http.post("/api/threads/lobby/messages", json={"text": "@openai count to 5"})
        await reader.take(where=lambda frame: frame["type"] in ENDS)


async def chart(page: Any, title: str) -> Any:
    return page.locator("figure", has=page.get_by_text(title, exact=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_was_done_is_drawn(house: House, browser: Any, size: str, scheme: str) -> None:
    await some_work(house)
    house.app.meter.turn()
    await some_work(house)
    house.app.meter.turn()
    width, height = SIZES[size]

    page, wrong = await opened(house, browser, color_scheme=scheme, viewport={"width": width, "height": height})

    for title in ("Requests a second", "Time to an answer's beginning", "First token, after a batch began"):
        figure = await chart(page, title)
        drawing = figure.get_by_role("img")
        await drawing.wait_for()
        said = await drawing.get_attribute("aria-label")
        assert re.search(r": [\d.]+ ?\S* lately, [\d.]+ ?\S* at most", said), said
        assert " L" in re.sub(r"(?<=\d)L", " L", await figure.locator("path").first.get_attribute("d")), "a line"
    row = page.locator("#routes tr", has=page.get_by_text("GET /api/users", exact=True))
    assert (await row.locator("td").all_inner_texts())[0] == "10"
    assert await page.locator("#runs tbody tr td").first.inner_text() == "2"
    assert await page.locator("#slowest tbody tr").count() >= 5
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    assert wrong == []
    await page.context.close()


async def test_it_says_so_where_there_is_nothing_yet(house: House, browser: Any) -> None:
    page, wrong = await opened(house, browser)

    empty = await chart(page, "First token, after a batch began")
    await empty.get_by_text("Nothing yet.").wait_for()
    assert await page.locator("#runs").get_by_text("No answers in this time.").is_visible()
    assert wrong == []
    await page.context.close()


async def test_it_refreshes_by_itself_and_says_when_the_server_is_gone(house: House, browser: Any) -> None:
    page, _ = await opened(house, browser)
    await page.locator("#now").get_by_text("Messages").wait_for()
    await page.clock.install()
    await page.reload()
    messages = page.locator("#now div", has=page.get_by_text("Messages", exact=True)).locator("dd")
    await messages.get_by_text("0 deliveries").wait_for()
    async with house.http(user=fresh("ann")) as http:
        await http.post("/api/threads/lobby/messages", json={"text": "hello"})
    await page.clock.run_for(6000)
    await page.locator("xpath=//*[@id='now']//dt[.='Messages']/following-sibling::dd[text()='1']").wait_for()

    await page.context.set_offline(True)
    await page.clock.run_for(6000)
    alert = page.get_by_role("alert")
    await alert.get_by_text("The server does not answer.").wait_for()
    assert await page.locator("#routes tbody tr").count() > 0, "what is known stays"
    await page.context.set_offline(False)
    await page.clock.run_for(6000)
    await alert.wait_for(state="hidden")
    await page.context.close()


async def test_without_guests_it_sends_whoever_is_not_signed_in_to_the_chat_page(tmp_path: Path, browser: Any) -> None:
    async with serving(tmp_path / "closed", guests="off") as house:
        page, _ = await opened(house, browser)
        await page.get_by_role("alert").get_by_text("Sign in first").wait_for()
        assert not await page.locator("#all").is_visible()
        async with asyncio.timeout(10):
            made = await page.context.request.post(
                f"http://127.0.0.1:{house.port}/api/auth/register",
                data={"user": "alice", "password": "correct horse battery"},
            )
        assert made.status == 201
        await page.reload()
        await page.locator("#routes tbody tr").first.wait_for()
        await page.context.close()


async def test_its_policy_allows_nothing_inline(house: House, browser: Any) -> None:
    async with house.http() as http:
        answer = await http.get("/stats")

    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", answer.text)


async def test_a_minute_can_be_pointed_at(house: House, browser: Any) -> None:
    for _ in range(3):
        await some_work(house)
        house.app.meter.turn()
    page, _ = await opened(house, browser)
    figure = await chart(page, "Messages and deliveries a second")
    before = await figure.locator("b").first.inner_text()

    await figure.get_by_role("img").hover(position={"x": 120, "y": 40})

    caption = page.locator("figcaption", has_text="Messages and deliveries a second,")
    await caption.wait_for()
    assert await page.locator("figure", has=caption).locator("b").first.inner_text() != before
    await page.context.close()
