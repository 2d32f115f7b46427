"""Behind nginx, with the files of deploy/: at the root of a name, and on a path of a site."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from hubbub import app
from support.certificates import Certificates, certificates
from support.gunicorn import free_ports
from support.listeners import SseReader
from support.nginx import nginx
from support.raw import Wire, request
from support.server import House, fresh, serving
from support.talkers import WsClient

PASSWORD = "correct horse battery"


@dataclass
class Proxied:
    """A server behind nginx."""

    house: House
    port: int
    root: str
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}{self.root}/"

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, verify=self.tls, timeout=10, trust_env=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=[("nginx.conf", ""), ("nginx-subpath.conf", "/hubbub")], ids=["root", "subpath"])
async def proxied(
    tmp_path_factory: pytest.TempPathFactory, made: Certificates, request: pytest.FixtureRequest
) -> AsyncIterator[Proxied]:
    tmp = tmp_path_factory.mktemp("proxied")
    name, root = request.param
    given = {"behind_proxy": True, "guests": "on", "registration": "on", "root_path": root}
    async with serving(tmp / "home", **given) as house:
        (port,) = free_ports(1)
        async with nginx(tmp / "nginx", name, house.port, port, made):
            yield Proxied(house, port, root, made.trusting)


async def test_every_page_and_what_it_links_to_is_below_the_path(proxied: Proxied) -> None:
    async with proxied.http() as http:
        for page in ("", "docs", "test", "stats"):
            answer = await http.get(page)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), page
            found = links(answer.text)
            assert len(found) > 1 or not page
            for link in found:
                address = urljoin(str(answer.url), link)
                assert address.startswith(proxied.url), f"{page} links to {link}"
                assert (await http.get(address)).status_code == 200, address
        described = (await http.get("openapi.json")).json()
        assert [server["url"] for server in described.get("servers", [])] == ([proxied.root] if proxied.root else [])


def links(page: str) -> list[str]:
    found = []
    for name in ("href", "src"):
        found += [piece.partition('"')[0] for piece in page.split(f' {name}="')[1:]]
    return [link for link in found if not link.startswith("data:")]


async def test_requests_with_the_path_in_front_and_without_mean_the_same(proxied: Proxied) -> None:
    async with proxied.house.http() as http:  # some proxies take it away
        for path in {"/api/users", f"{proxied.root}/api/users"}:
            assert (await http.get(path, params={"user": "ann"})).status_code == 200
        for path in {"/api/events", f"{proxied.root}/api/events"}:
            async with await SseReader.open(proxied.house.port, f"{path}?user={fresh('ann')}") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
        for path in {"/ws", f"{proxied.root}/ws"}:
            async with await WsClient.open(proxied.house.port, path=path) as talker:
                await talker.hello(fresh("ann"))
        foreign = {"sec-fetch-site": "cross-site"}  # and what other pages may not ask for, they may not in either way
        for path in {"/api/users", f"{proxied.root}/api/users"}:
            assert (await http.get(path, params={"user": "ann"}, headers=foreign)).status_code == 403


async def test_pieces_of_an_answer_come_as_they_are_written(proxied: Proxied) -> None:
    ann = fresh("ann")
    stream = await SseReader.open(proxied.port, f"{proxied.root}/api/events?user={ann}", tls=proxied.tls)
    async with await WsClient.open(proxied.port, path=f"{proxied.root}/ws", tls=proxied.tls) as talker:
        await talker.hello(fresh("bob"))
        loop = asyncio.get_running_loop()
        sent = {}
        for number in range(5):
            sent[number] = loop.time()
            await talker.post("lobby", f"{number}")
            assert await stream.message(f"{number}")
            assert loop.time() - sent[number] < 1  # buffered, it would come when a block is full, or never


async def test_chat_streams_too(proxied: Proxied) -> None:
    async with proxied.http() as http:
        asking = http.stream("POST", "chat", data={"message": "[[stall delay=2 first=0]] one"})
        async with asking as answer:
            assert answer.status_code == 200
            kinds = [line async for line in answer.aiter_lines() if line.startswith("event: ")]
        assert (kinds[0], kinds[-1]) == ("event: connected", "event: completed")


async def test_the_cookie_is_secure_and_stays_below_the_path(proxied: Proxied) -> None:
    async with proxied.http() as http:
        ann = fresh("ann")
        answer = await http.post("api/auth/register", json={"user": ann, "password": PASSWORD})
        assert answer.status_code == 201
        said = answer.headers["set-cookie"].lower()
        assert f"path={proxied.root}/;" in f"{said};"
        assert "secure" in said
        assert (await http.get("api/me")).json()["user"] == ann
        gone = await http.post("api/auth/logout", headers={"origin": f"https://localhost:{proxied.port}"})
        assert gone.status_code == 204
        assert f"path={proxied.root}/" in gone.headers["set-cookie"].lower()
        assert (await http.get("api/me")).json().get("user") != ann


async def test_what_a_client_says_of_its_own_address_is_not_believed(proxied: Proxied) -> None:
    async with proxied.http() as http:
        wrong = {"user": fresh("ann"), "password": "wrong horse"}
        await http.post("api/auth/login", json=wrong, headers={"x-forwarded-for": "203.0.113.7"})
    last = (proxied.house.app.settings.logs / "audit.log").read_text().splitlines()[-1]
    assert json.loads(last)["address"] == "127.0.0.1"


@pytest.mark.parametrize("proxied", [True, False], ids=["behind-a-proxy", "alone"])
async def test_behind_a_proxy_idle_connections_are_kept_longer(
    proxied: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert app.PROXIED_KEEPALIVE_S > 60  # nginx keeps its own for a minute
    monkeypatch.setattr(app, "PROXIED_KEEPALIVE_S", 60 if proxied else 1)
    monkeypatch.setattr(app, "KEEPALIVE_S", 1 if proxied else 60)
    async with serving(tmp_path / "home", behind_proxy=proxied) as house:
        wire = await Wire.open(house.port)
        wire.send(request("GET", "/healthz", {"host": "localhost"}))
        await wire.response()
        await asyncio.sleep(1.5)  # time is what this is about
        wire.send(request("GET", "/healthz", {"host": "localhost"}))
        assert (await wire.response()).status == 200
