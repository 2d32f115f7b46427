"""The pages on a path of a site, through nginx, in a browser: everything they ask for is below that path."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.certificates import certificates
from support.gunicorn import free_ports
from support.nginx import nginx
from support.server import House, serving

PASSWORD = "correct horse battery"
PATIENCE_MS = 15_000


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[House, str]]:
    given = {"behind_proxy": True, "guests": "on", "registration": "on", "root_path": "/hubbub"}
    async with serving(tmp_path / "home", **given) as house:
        (port,) = free_ports(1)
        made = certificates(tmp_path / "certificates")
        async with nginx(tmp_path / "nginx", "nginx-subpath.conf", house.port, port, made):
            yield house, f"https://localhost:{port}/hubbub/"


async def test_the_chat_and_the_other_pages_work_below_a_path(site: tuple[House, str], browser: Any) -> None:
    house, url = site
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    astray: list[str] = []
    context.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else astray.append(asked.url))
    context.on(
        "response", lambda answer: astray.append(f"{answer.status} {answer.url}") if answer.status == 404 else None
    )
    page = await context.new_page()
    page.on("websocket", lambda socket: None if socket.url == f"wss{url[5:]}ws" else astray.append(socket.url))

    await page.goto(url)
    await page.get_by_test_id("way-register").click()
    await page.get_by_test_id("name").fill("ann")
    await page.get_by_test_id("password").fill(PASSWORD)
    await page.get_by_test_id("enter").click()
    await page.locator('[data-testid="status"][data-state="connected"]').wait_for()
    async with await house.talk("text", "bob") as bob:
        await bob.post("lobby", "hello ann")
        await page.get_by_text("hello ann").wait_for()
    (cookie,) = await context.cookies()
    assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/hubbub/", True, True)

    await page.reload()  # signed in by the cookie
    await page.locator('[data-testid="status"][data-state="connected"]').wait_for()
    await page.get_by_text("hello ann").wait_for()

    await page.goto(f"{url}docs")
    await page.get_by_text(re.compile("Is the process alive")).first.wait_for()
    await page.goto(f"{url}stats")
    await page.get_by_text("Requests by route").wait_for()
    await page.goto(f"{url}test")
    await page.get_by_label("Message").first.fill("count to 3")
    await page.keyboard.press("Enter")
    await page.locator("#log").get_by_text(re.compile("1.*2.*3", re.DOTALL)).first.wait_for()
    assert not astray
    await context.close()
