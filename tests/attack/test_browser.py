"""What pages of other sites try in somebody's browser, and what is tried with addresses, proxies and cookies."""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.listeners import Refused
from support.raw import HANDSHAKE, Response, Wire, request, ws_frame
from support.server import House, fresh
from tests.attack.people import PASSWORD, account, attacked, member
from tests.attack.people import cookie as cookie_of
from tests.attack.test_revocation import stock_server

FRIEND = "https://chat.example.com"


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("home")
    async with attacked(home, store="memory", origins=frozenset({FRIEND})) as house:
        yield house


@pytest.fixture(scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Behind a proxy that encrypts, with guests, and few requests of strangers."""
    home = tmp_path_factory.mktemp("proxied")
    more = {"behind_proxy": True, "guests": "on", "registration": "on", "limit_loopback": True}
    async with attacked(home, store="memory", strangers_per_minute=5, address_connections=2, **more) as house:
        yield house


async def answer(house: House, data: bytes) -> Response:
    async with await Wire.open(house.port) as wire:
        wire.send(data)
        return await wire.response()


def strangers(port: int) -> list[str]:
    """Origins that are not the page of `localhost:port`, though they look like it."""
    return [
        "https://evil.example",
        "null",
        "",
        f"http://localhost:{port + 1}",
        "http://localhost",
        f"https://localhost:{port}",
        f"ws://localhost:{port}",
        f"http://127.0.0.1:{port}",  # another origin than the name, to a browser
        f"http://localhost:{port}.evil.example",
        f"http://evil-localhost:{port}",
        f"http://evil.localhost:{port}",
        f"http://localhost:{port}@evil.example",
        f"http://localhost:{port}/",
        f" http://localhost:{port} x",
        f"http://localhost:{port}, https://evil.example",
        f"file://localhost:{port}",
        "https://chat.example.com.evil.example",
        "https://evilchat.example.com",
        "https://chat.example.com:8443",
        "http://chat.example.com",
        "https://chat.example.com/",
        "*",
    ]


async def test_a_page_of_another_site_opens_no_websocket(house: House) -> None:
    for path in ("/ws", "/ws/somebody"):
        for origin in strangers(house.port):
            headers = {**HANDSHAKE, "host": f"localhost:{house.port}", "origin": origin}
            assert (await answer(house, request("GET", path, headers))).status == 403, origin


async def test_ones_own_page_and_the_allowed_one_do(house: House) -> None:
    host = f"localhost:{house.port}"
    own = [f"http://{host}", f"HTTP://LOCALHOST:{house.port}", FRIEND]
    for origin in own:
        asked = await answer(house, request("GET", "/ws", {**HANDSHAKE, "host": host, "origin": origin}))
        assert asked.status == 101, origin
    asked = await answer(house, request("GET", "/ws", {**HANDSHAKE, "host": host}))
    assert asked.status == 101, "what is no browser does not say where it is"


@pytest.mark.parametrize("who", ["a guest", "a cookie", "a bearer"])
async def test_a_page_of_another_site_changes_nothing(house: House, who: str) -> None:
    name, token = await member(house)
    shown = {"a cookie": cookie_of(house, token), "a bearer": {"authorization": f"Bearer {token}"}}.get(who, {})
    thread = (await house.app.hub.store.threads_of(name))[0][0].id
    host = f"localhost:{house.port}"
    writes = [
        ("POST", f"/api/threads/{thread}/messages", {"text": "t"}),
        ("POST", "/api/messages", {"to": fresh("x"), "text": "t"}),
        ("POST", "/api/threads", {}),
        ("POST", "/api/auth/logout", None),
        ("POST", "/api/auth/login", {"user": name, "password": PASSWORD}),
        ("POST", "/api/auth/guest", {"user": fresh("x")}),
        ("POST", "/api/auth/register", {"user": fresh("x"), "password": PASSWORD}),
        ("PUT", f"/api/threads/{thread}/seen", {"seq": 0}),
        ("PATCH", f"/api/threads/{thread}", {"title": "t"}),
        ("DELETE", f"/api/threads/{thread}", None),
    ]
    before = (await house.app.hub.room(thread)).known
    for origin in ("https://evil.example", "null", f"http://localhost:{house.port + 1}"):
        for method, path, body in writes:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                headers = {**shown, "host": host, "origin": origin, "content-type": kind}
                said = await answer(
                    house, request(method, path, headers, b"" if body is None else json.dumps(body).encode())
                )
                assert said.status == 403, (method, path, origin)
                assert not [header for header in said.headers if header.startswith("access-control")]
    assert (await house.app.hub.room(thread)).known == before
    for origin in (f"http://{host}", FRIEND, None):
        headers = {**shown, "host": host, "content-type": "application/json"} | ({"origin": origin} if origin else {})
        said = await answer(house, request("POST", f"/api/threads/{thread}/messages", headers, b'{"text":"t"}'))
        assert said.status == 201, origin


async def test_no_other_page_may_read_an_answer(house: House) -> None:
    for method in ("GET", "OPTIONS"):
        said = await answer(
            house,
            request(method, "/api/threads", {"origin": "https://evil.example", "access-control-request-method": "PUT"}),
        )
        assert not [header for header in said.headers if header.startswith("access-control")]


REBOUND = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example",
    "localhostevil.example",
    "127.0.0.1.nip.io:{port}",
    "127.0.0.1.evil.example",
    "xlocalhost",
    "[::1].evil.example",
    "user@evil.example",
    "localhost:{port}@evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "chat.example.com.evil.example",
    "0x7f000001.example",
]


async def test_a_name_that_is_not_this_machines_is_not_answered(house: House) -> None:
    for name in REBOUND:
        host = name.format(port=house.port)
        for path in ("/api/me", "/api/events", "/", "/openapi.json", "/health", "/ws"):
            headers = {"host": host, "origin": f"http://{host}"} | (HANDSHAKE if path == "/ws" else {}) | {"host": host}
            said = await answer(house, request("GET", path, headers))
            assert said.status in (400, 421), (host, path, said.status)
        said = await answer(house, request("POST", "/api/threads", {"host": host, "origin": f"http://{host}"}, b"{}"))
        assert said.status in (400, 421)


async def test_this_machines_own_names_are(house: House) -> None:
    port = house.port
    for host in (
        "localhost",
        f"localhost:{port}",
        f"LocalHost:{port}",
        "127.0.0.1",
        f"[::1]:{port}",
        "[::1]",
        "127.1.2.3",
    ):
        assert (await answer(house, request("GET", "/api/me", {"host": host}))).status == 200, host


async def test_two_host_headers_are_none(house: House) -> None:
    for first, second in (("localhost", "evil.example"), ("evil.example", "localhost")):
        for path in ("/api/me", "/api/events"):
            said = await answer(house, f"GET {path} HTTP/1.1\r\nhost: {first}\r\nhost: {second}\r\n\r\n".encode())
            assert said.status in (400, 421), (path, first, second)
        upgrade = request("GET", "/ws", {**HANDSHAKE, "host": second, "Host": first})
        assert (await answer(house, upgrade)).status in (400, 421), (first, second)


async def test_under_another_server_too(tmp_path: Path) -> None:
    async with stock_server(tmp_path) as house:
        for path in ("/ws", "/ws/somebody"):
            for host, origin in (("evil.example", "http://evil.example"), ("localhost", "http://evil.example")):
                headers = {**HANDSHAKE, "host": host, "origin": origin}
                assert (await answer(house, request("GET", path, headers))).status == 403, (path, host)
        for path in ("/api/me", "/api/events"):
            said = await answer(house, request("GET", path, {"host": "evil.example"}))
            assert said.status == 421


# Proxies


async def test_what_a_visitor_says_of_their_address_is_not_believed(proxied: House) -> None:
    """Only what the proxy added at the end counts."""
    for turn in range(5):
        headers = {"x-forwarded-for": f"10.0.0.{turn}, 203.0.113.9"}
        assert (await answer(proxied, request("GET", "/api/me", headers))).status == 200
    for said in ("203.0.113.9", "1.2.3.4,203.0.113.9", "127.0.0.1, ::1 , 203.0.113.9"):
        assert (await answer(proxied, request("GET", "/api/me", {"x-forwarded-for": said}))).status == 429, said
    other = await answer(proxied, request("GET", "/api/me", {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}))
    assert other.status == 200


async def test_nor_without_a_proxy(own_house: Any) -> None:
    async with own_house(store="memory", strangers_per_minute=3, limit_loopback=True) as house:
        got = [
            (await answer(house, request("GET", "/api/me", {"x-forwarded-for": f"203.0.113.{turn}"}))).status
            for turn in range(6)
        ]
    assert got == [200, 200, 200, 429, 429, 429]


async def test_connections_behind_a_proxy_are_counted_by_who_is_behind_it(proxied: House) -> None:
    held = []
    for _ in range(2):
        wire = await Wire.open(proxied.port)
        wire.send(request("GET", "/ws", {**HANDSHAKE, "x-forwarded-for": "192.0.2.1"}))
        assert (await wire.response()).status == 101
        held.append(wire)
    spoofed = {**HANDSHAKE, "x-forwarded-for": "192.0.2.77, 192.0.2.1"}
    assert (await answer(proxied, request("GET", "/ws", spoofed))).status == 429
    assert (await answer(proxied, request("GET", "/ws", {**HANDSHAKE, "x-forwarded-for": "192.0.2.2"}))).status == 101
    for wire in held:
        wire.cut()


async def test_the_scheme_is_the_proxys_word_too(proxied: House) -> None:
    for proto, status in (("https", 101), ("http", 403), ("https, http", 403), ("http, https", 101), ("gopher", 403)):
        headers = {"host": "chat.example.org", "origin": "https://chat.example.org", "x-forwarded-proto": proto}
        asked = await answer(proxied, request("GET", "/ws", {**HANDSHAKE, **headers, "x-forwarded-for": "192.0.2.50"}))
        assert asked.status == status, proto


# Cookies, credentials and headers


async def signed_in(house: House, http: httpx2.AsyncClient, **headers: str) -> tuple[str, SimpleCookie]:
    name = await account(house, password=True)
    said = await http.post("/api/auth/login", json={"user": name, "password": PASSWORD}, headers=headers)
    assert said.status_code == 200
    return name, SimpleCookie(said.headers["set-cookie"])


async def test_the_cookie_is_for_the_browser_alone(house: House, proxied: House) -> None:
    async with house.http() as http:
        _, kept = await signed_in(house, http)
        mine = kept[f"hubbub_{house.port}"]  # a host has one jar for the servers on all its ports
        assert mine["httponly"]
        assert mine["samesite"] == "Strict"
        assert mine["path"] == "/"
        assert not mine["domain"]
        assert not mine["secure"]  # http would lose it
        [ended] = SimpleCookie((await http.post("/api/auth/logout")).headers["set-cookie"]).values()
        assert (ended.key, ended.value, ended["max-age"]) == (mine.key, "", "0")
    async with proxied.http() as http:
        headers = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.60", "host": "chat.example.org"}
        _, kept = await signed_in(proxied, http, **headers)
        assert kept["hubbub"]["secure"]


async def test_a_guest_in_the_address_is_not_the_one_in_the_cookie(house: House) -> None:
    """Two tabs of one browser: one signed in, one a guest. Neither acts as the other."""
    name, token = await member(house)
    other, _ = await member(house)
    cookie = cookie_of(house, token)
    guest = fresh("guest")
    async with house.http() as http:
        assert (await http.get("/api/me", headers=cookie)).json()["user"] == name
        assert (await http.get("/api/me", params={"user": guest}, headers=cookie)).json()["user"] == guest
        assert (await http.get("/api/me", params={"user": name}, headers=cookie)).json()["registered"]
        asked = await http.get("/api/me", params={"user": other}, headers=cookie)
        assert asked.status_code == 401, "a name in the address is not proved by the cookie of another"
    with pytest.raises(Refused):
        await house.listen(user=other, headers=cookie)


OTHERS = [
    'prefs={"a": 1}',
    "flag",
    "k=a b",
    'q="un',
    "é=é",
    "a[0]=1",
    "path=/",
    "expires=Thu, 01 Jan 1970 00:00:00 GMT; max-age=0",
    "=; ;;",
    "xhubbub=1; hubbubx=2; HUBBUB=3; hubbub_1=4",
]
LONG = f"long={'x' * 8000}"


async def known_as(house: House, *cookies: str) -> list[str]:
    """Whom every door takes somebody for by their cookie headers."""
    head = "".join(f"cookie: {cookie}\r\n" for cookie in cookies).encode()
    before, end = request("GET", "/api/me")[:-2], b"\r\n"
    names = [(await answer(house, before + head + end)).json["user"]]
    async with await Wire.open(house.port) as wire:
        wire.send(before.replace(b"/api/me", b"/api/events") + head + end)
        streams = (await wire.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")  # nobody's would be 400
        names.append(names[0] if streams else "nobody")
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/ws", HANDSHAKE)[:-2] + head + end)
        assert (await wire.response()).status == 101
        wire.send(ws_frame(0x81, b'{"type":"hello"}'))
        names.append(json.loads((await wire.frame())[1]).get("user", "nobody"))
    return names


async def test_whatever_other_programs_leave_in_a_browser_one_stays_signed_in(house: House, tmp_path: Path) -> None:
    """A browser sends the cookies of every program of a host to each of them."""
    async with stock_server(tmp_path) as stock:
        for here, others in ((house, [*OTHERS, LONG]), (stock, OTHERS)):  # which takes no header as long as that
            name, token = await member(here)
            mine = f"hubbub={token}"
            for other in others:
                for cookies in ([f"{other}; {mine}"], [f"{mine};{other}"], [other, mine], [mine, other]):
                    assert await known_as(here, *cookies) == [name] * 3, (other[:40], here is stock)


async def test_of_two_cookies_of_our_name_the_first_counts(house: House) -> None:
    name, token = await member(house)
    _, theirs = await member(house)
    for cookies in ([f"hubbub={token}; hubbub={theirs}"], [f"hubbub={token}", f"hubbub={theirs}"]):
        assert await known_as(house, *cookies) == [name] * 3


async def test_a_page_gets_no_hold_of_what_its_browser_keeps(house: House) -> None:
    name, token = await member(house)
    headers = cookie_of(house, token)
    async with house.http() as http:
        renewed = await http.post("/api/auth/refresh", headers=headers)
    async with await Wire.open(house.port) as wire:
        wire.send(request("GET", "/ws", {**HANDSHAKE, **headers}))
        assert (await wire.response()).status == 101
        wire.send(ws_frame(0x81, b'{"type":"hello"}'))
        _, said = await wire.frame()

    assert (renewed.status_code, "access_token" in renewed.json()) == (200, False)
    assert (json.loads(said)["user"], json.loads(said)["token"]) == (name, "")


async def test_no_credential_counts_in_an_address(house: House, closed_house: House) -> None:
    for here in (house, closed_house):
        name, token = await member(here)
        for field in ("token", "access_token", "jwt", "api_key", "authorization", "hubbub", "auth"):
            query = f"?{field}={token}"
            said = await answer(here, request("GET", f"/api/me{query}"))
            assert said.status == 401 or said.json["user"] != name
            assert (await answer(here, request("GET", f"/api/events{query}"))).status == 400
            async with await Wire.open(here.port) as wire:
                wire.send(request("GET", f"/ws{query}", HANDSHAKE))
                assert (await wire.response()).status == 101
                wire.send(ws_frame(0x81, b'{"type":"hello"}'))
                _, hello = await wire.frame()
                assert json.loads(hello).get("user") != name
            async with await Wire.open(here.port) as wire:
                wire.send(request("GET", f"/ws/{name}{query}", HANDSHAKE))
                assert (await wire.response()).status == 101
                assert await wire.close_code() == 1008


async def test_the_page_may_run_nothing_that_is_not_its_own(house: House) -> None:
    async with house.http() as http:
        for path in ("/",):
            said = await http.get(path)
            policy = dict(
                part.strip().partition(" ")[::2] for part in said.headers["content-security-policy"].split(";")
            )
            for where in ("script-src", "default-src", "connect-src"):
                assert policy[where] == "'self'", where
            assert "unsafe" not in said.headers["content-security-policy"]
            assert policy["img-src"] == "'self' data:"
            assert policy["frame-ancestors"] == "'none'"
            assert policy["base-uri"] == "'none'"
            assert policy["object-src"] == "'none'"
            assert policy["form-action"] == "'self'"
            assert said.headers["x-content-type-options"] == "nosniff"
            assert said.headers["referrer-policy"] == "no-referrer"
        for path in ("/api/me", "/api/threads", "/nowhere", "/api/threads/none", "/api/events?x=1"):
            said = await http.get(path)
            assert "html" not in said.headers["content-type"], path
            assert said.headers["x-content-type-options"] == "nosniff", path
        said = await http.post("/api/auth/guest", json={"user": fresh("x")})
        assert said.headers["cache-control"] == "no-store"
