"""A server does not start in a way that would let others in, or listen, without being told so."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hubbub import config
from hubbub.asgi import Doorkeeper, Outside, build
from hubbub.cli.serve import introduce
from hubbub.core.errors import BadRequest
from hubbub.parsing import OUR_PATHS
from hubbub.transports.site import Site
from support.server import serving

NOWHERE = Path("/nonexistent")


def settings(**variables: str) -> config.Settings:
    return config.load(environ={f"HUBBUB_{name.upper()}": value for name, value in variables.items()}, dotenv=NOWHERE)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_guests_and_registration_are_open(host: str) -> None:
    found = settings(host=host)

    found.require_safe()
    assert (found.local, found.guests_allowed, found.registration_allowed) == (True, True, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "chat.example.com", "localhost.example.com"])
@pytest.mark.parametrize("more", [{}, {"guests": "on"}, {"guests": "on", "registration": "on"}])
def test_elsewhere_it_takes_encryption(host: str, more: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match=r"HUBBUB_TLS_CERT and HUBBUB_TLS_KEY, or say --behind-proxy"):
        settings(host=host, **more).require_safe()

    settings(host=host, tls_cert="c.pem", tls_key="k.pem", **more).require_safe()
    settings(host=host, behind_proxy="1", **more).require_safe()


@pytest.mark.parametrize(
    "variables", [{"host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}, {"behind_proxy": "1"}], ids=["tls", "proxy"]
)
def test_whoever_can_come_from_elsewhere_is_no_guest_unless_guests_are_switched_on(variables: dict[str, str]) -> None:
    found = settings(**variables)
    assert (found.local, found.guests_allowed, found.registration_allowed) == (False, False, False)

    found = settings(guests="on", registration="on", **variables)
    assert (found.guests_allowed, found.registration_allowed) == (True, True)


def test_guests_and_registration_can_be_switched_off_on_loopback_too() -> None:
    found = settings(guests="off", registration="off")

    assert (found.guests_allowed, found.registration_allowed) == (False, False)


@pytest.mark.parametrize("given", [{"tls_cert": "c.pem"}, {"tls_key": "k.pem"}])
def test_half_of_a_certificate_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="both"):
        settings(**given).require_safe()


@pytest.mark.parametrize(
    ("origins", "wrong"),
    [
        ("*", "any page could act here"),
        ("chat.example.com", "such as"),
        ("https://a.example/path", "such as"),
        ("https://*.example.com", "any page could act here"),
        ("https://a.example,", "such as"),
        ("ftp://a.example", "such as"),
    ],
)
def test_origins_are_named_exactly(origins: str, wrong: str) -> None:
    with pytest.raises(BadRequest, match=wrong):
        settings(origins=origins)

    assert settings(origins="https://A.example, http://b:81").origins == {"https://a.example", "http://b:81"}


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["--host", "0.0.0.0"], {}, "in the clear"),
        ([], {"HUBBUB_TLS_CERT": "/nonexistent.pem"}, "takes both"),
        (["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.pem"], {}, "cannot be used"),
        ([], {"JWT_SECRET_KEY": "your-secret-key-change-me-please-now"}, "sample"),
        ([], {"JWT_SECRET_KEY": "short"}, "at least 32 bytes"),
        ([], {"JWT_EXPIRES_IN_HOURS": "0"}, "expected hours, from 0.01"),
    ],
)
async def test_one_sentence_says_what_to_do(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], said: str
) -> None:
    code, words = await served(tmp_path, arguments, environ)

    assert code == 2
    assert said in words
    assert len(words.strip().splitlines()) == 1, words


@pytest.mark.parametrize("hours", ["0", "0.009", "-1", "876001", "inf", "nan"])
def test_tokens_live_neither_no_time_nor_for_ever(hours: str) -> None:
    with pytest.raises(BadRequest, match=r"expected hours, from 0\.01 \(36 seconds\) to 876000 \(a hundred years\)"):
        settings(jwt_expires_in_hours=hours)

    assert settings(jwt_expires_in_hours="0.01").jwt_expires_in_hours == 0.01
    assert settings(jwt_expires_in_hours="876000").jwt_expires_in_hours == 876000


async def test_however_short_tokens_live_the_device_is_introduced_without_haste(tmp_path: Path) -> None:
    heard, told = os.pipe()
    try:
        async with serving(tmp_path, guests="off", jwt_expires_in_hours=0.01 / 3600) as house:
            asked = argparse.Namespace(introduce="thermometer1", ready_fd=told)
            introducing = asyncio.create_task(introduce(asked, house.app))
            await asyncio.sleep(0.2)
            introducing.cancel()
        lines = os.read(heard, 1 << 16).splitlines()
    finally:
        os.close(heard)
        os.close(told)

    assert len(lines) == 1


async def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o644)

    code, words = await served(tmp_path, [], {})

    assert (code, "chmod 600" in words) == (2, True), words


async def served(home: Path, arguments: list[str], environ: dict[str, Any]) -> tuple[int | None, str]:
    """How a server that does not start ends, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hubbub", "serve", "--port", "0", "--tcp-port", "0", "--home", str(home), *arguments),
        env={"PATH": "/usr/bin:/bin", **environ},
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("server", "scheme", "variables", "let_in"),
    [
        ("127.0.0.1", "http", {}, True),
        ("192.168.0.7", "http", {}, False),
        ("192.168.0.7", "https", {}, False),  # guests are a matter of loopback
        ("192.168.0.7", "http", {"HUBBUB_GUESTS": "off"}, False),  # in the clear
        ("192.168.0.7", "https", {"HUBBUB_GUESTS": "off"}, True),
        ("192.168.0.7", "http", {"HUBBUB_BEHIND_PROXY": "1"}, True),
        ("192.168.0.7", "wss", {"HUBBUB_GUESTS": "on"}, True),
        ("192.168.0.7", "ws", {"HUBBUB_GUESTS": "on"}, False),
    ],
)
async def test_under_another_server_the_same_is_asked_of_whoever_comes(
    server: str, scheme: str, variables: dict[str, str], let_in: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HUBBUB_GUESTS", "HUBBUB_BEHIND_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    came: list[Any] = []
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        came.append(scope)

    async def send(message: Any) -> None:
        told.append(message)

    kind = "websocket" if scheme.startswith("ws") else "http"
    scope = {"type": kind, "scheme": scheme, "server": (server, 80), "state": {"site": Site(local=True)}}
    await Outside(app)(scope, None, send)  # type: ignore[arg-type]

    assert bool(came) is let_in
    if let_in:  # and whoever comes from elsewhere may call it by another name
        assert came[0]["state"]["site"].local is (server == "127.0.0.1")
    assert [message.get("status") or message.get("code") for message in told[:1]] == (
        [] if let_in else [1008 if kind == "websocket" else 401]
    )


@pytest.mark.parametrize("path", ["/api", "/ws/x", "/a b", "hubbub", "/hub?b", "/a//b", "/ä", "/../x"])
def test_the_path_it_has_on_a_site_is_one_that_means_nothing_else(path: str) -> None:
    with pytest.raises(BadRequest, match="expected a path such as /hubbub"):
        settings(root_path=path)

    assert settings(root_path="/hubbub/").root_path == "/hubbub"
    assert settings(root_path="/a/b").root_path == "/a/b"


def test_every_first_part_of_a_path_that_is_ours_is_kept_from_it() -> None:
    ours = {route.path.split("/")[1] for route in build(settings()).routes if hasattr(route, "path")}

    assert {part for part in ours if part and not part.startswith("{")} <= OUR_PATHS


@pytest.mark.parametrize(("processes", "refused"), [(1, False), (2, True)])
def test_several_processes_take_a_store_and_a_queue_that_are_nobodys(processes: int, refused: bool) -> None:
    for given in ({}, {"redis_url": "redis://127.0.0.1/0"}):
        if refused:
            with pytest.raises(BadRequest, match="several take DATABASE_URI \\(MongoDB\\) and REDIS_URL"):
                settings(**given).require_alone(processes)
        else:
            settings(**given).require_alone(processes)


@pytest.mark.parametrize(("root", "given"), [("/hubbub", ""), ("", "/hubbub")], ids=["ours", "the other server's"])
@pytest.mark.parametrize("path", ["/hubbub/api/users", "/api/users"])
async def test_under_another_server_a_path_in_front_hides_nothing_from_the_doorkeeper(
    root: str, given: str, path: str
) -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a page of another site came in")

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(b"host", b"example.com"), (b"sec-fetch-site", b"cross-site")]
    scope = {"type": "http", "method": "GET", "path": path, "root_path": given, "headers": headers}
    await Doorkeeper(app)({**scope, "state": {"site": Site(root=root)}}, None, send)  # type: ignore[arg-type]

    assert told[0]["status"] == 403
