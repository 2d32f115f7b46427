"""The page at /test, in a browser: a conversation, tasks that wait, are written and are stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.server import House, serving


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path / "home", demo_word_s=0.01) as house:
        yield house


@pytest.fixture
async def page(house: House, browser: Any) -> AsyncIterator[Any]:
    """The page as a phone shows it. Nothing else is asked, and nothing goes wrong in it."""
    context = await browser.new_context(viewport={"width": 360, "height": 740})
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda ask: wrong.append(ask.url) if urlsplit(ask.url).port not in (house.port, None) else None)
    await page.goto(f"http://127.0.0.1:{house.port}/test")
    yield page
    width = await page.evaluate("() => document.documentElement.scrollWidth")
    await context.close()
    assert wrong == []
    assert width <= 360


async def test_somebody_has_a_conversation_and_opens_it_again(page: Any) -> None:
    log = page.get_by_role("log", name="Conversation")
    await page.get_by_label("Message").fill("count to 20")
    await page.get_by_role("button", name="Send").click()
    await log.get_by_text("(demo model) 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20").wait_for()
    conversation = await page.get_by_label("Conversation", exact=True).first.input_value()
    await page.get_by_role("button", name="Send").and_(page.locator(":enabled")).wait_for()
    await page.get_by_label("Message").fill("count to 3")
    await page.get_by_label("Message").press("Enter")
    await log.get_by_text("(demo model) 1 2 3", exact=True).wait_for()
    await page.get_by_role("button", name="New conversation").and_(page.locator(":enabled")).click()
    cleared = await log.inner_text()
    await page.locator("#conversation").fill(conversation)
    await page.get_by_role("button", name="Show").click()
    await log.get_by_text("(demo model) 1 2 3", exact=True).wait_for()

    assert cleared.strip() == ""
    assert await log.locator(".said").count() == 4
    assert len(conversation) == 36


async def test_a_conversation_that_is_not_there_is_said_in_a_sentence(page: Any) -> None:
    await page.locator("#conversation").fill("00000000-0000-4000-8000-000000000000")
    await page.get_by_label("Message").fill("hello")
    await page.get_by_role("button", name="Send").click()

    await page.get_by_text("There is no conversation 00000000-0000-4000-8000-000000000000 here").wait_for()


async def test_several_tasks_at_once_are_written_and_one_of_them_is_stopped(page: Any) -> None:
    tasks = page.get_by_role("list", name="Tasks").get_by_role("listitem")
    await page.get_by_label("Context").fill("[[delay=0.05 words=100000]] on and on")
    await page.get_by_role("button", name="Generate").click()
    await tasks.get_by_text("on and on on").wait_for()
    await page.get_by_label("Context").fill("[[delay=0.01]] one two three")
    await page.get_by_label("Tasks", exact=True).first.fill("3")
    await page.get_by_role("button", name="Generate").click()
    await tasks.get_by_text("Place 3 in the queue").wait_for()
    await tasks.last.get_by_role("button", name="Stop").click()
    await tasks.get_by_text("Stopped").wait_for()
    for place in range(3):
        await tasks.nth(place).get_by_text("Done").wait_for()
        await tasks.nth(place).get_by_text("one two three").wait_for()
    await page.get_by_role("button", name="Clear finished").click()

    assert await tasks.count() == 0


async def test_its_files_come_with_the_policy_of_every_page(house: House) -> None:
    async with house.http() as http:
        page = await http.get("/test")
        parts = [await http.get(f"/test/{name}") for name in ("page.js", "page.css")]
        others = [await http.get(path) for path in ("/test/index.html", "/test/..%2frequests.py", "/test/nothing")]

    for answer in (page, *parts):
        assert answer.status_code == 200
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text
    assert "http://" not in page.text
    assert "style=" not in page.text
    assert [answer.status_code for answer in others] == [404, 404, 404]
