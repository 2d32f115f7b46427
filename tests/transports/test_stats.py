"""A server seen from outside: `/metrics`, `/api/stats`, and the life of an answer in the log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
import trustme
from prometheus_client.parser import text_string_to_metric_families as parse
from starlette.types import Receive, Scope, Send

from hubbub import asgi
from hubbub.asgi import build
from hubbub.core.nouns import RunState
from hubbub.core.ports import Progress
from hubbub.hub.meter import Meter
from hubbub.tls import Certificate
from hubbub.transports.measured import Measured
from support.certificates import certificates
from support.server import House, fresh, serving, settings


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path / "home") as house:
        yield house


async def scraped(http: httpx2.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


async def told(http: httpx2.AsyncClient, name: str, **labels: str) -> float:
    """The metric of exactly these labels."""
    return (await scraped(http))["hubbub_" + name, frozenset(labels.items())]


ENDS = ("run.completed", "run.failed", "run.cancelled")


# What is counted


async def test_a_scraper_reads_what_was_done(house: House) -> None:
    ann, ben = fresh("ann"), fresh("ben")
    async with house.http(user=ann) as http, await house.talk("framed", ben) as talker:
        before = await told(http, "messages_total")
        delivered = await told(http, "deliveries_total")
        for _ in range(3):
            assert (await http.post("/api/threads/lobby/messages", json={"text": "hello"})).status_code == 201
            await talker.take("message")

        assert await told(http, "messages_total") == before + 3
        assert await told(http, "deliveries_total") >= delivered + 3
        assert await told(http, "connections", door="tcp") == 1
        assert await told(http, "sessions_total", door="tcp") == 1
        route = {"method": "POST", "route": "/api/threads/{id}/messages"}
        assert await told(http, "http_requests_total", status="201", **route) == 3
        assert await told(http, "http_request_duration_seconds_count", **route) == 3
        assert await told(http, "commit_duration_seconds_count") >= 3
        assert await told(http, "commit_size_sum") >= await told(http, "commit_size_count")
        assert await told(http, "process_resident_memory_bytes") > 10 << 20
        assert await told(http, "disk_free_bytes") > 0


async def test_every_door_is_counted_as_itself(house: House) -> None:
    async with (
        house.http() as http,
        await house.talk("text", fresh("a")),
        await house.talk("framed", fresh("b")),
        await house.nc(fresh("c")) as person,
        await house.listen(user=fresh("d")),
    ):
        person.type("!who")
        await person.sees("Users online")
        doors = {door: await told(http, "connections", door=door) for door in ("websocket", "tcp", "lines", "sse")}
        assert doors == {"websocket": 1, "tcp": 1, "lines": 1, "sse": 1}


async def test_what_people_make_up_makes_no_new_series(house: House) -> None:
    secret = fresh("secret")
    async with house.http(user=secret) as http:
        await http.get("/health")
        before = len(await scraped(http))
        for n in range(30):
            await http.get(f"/api/threads/{secret}{n}")
            await http.get(f"/{secret}{n}")
            await http.get(f"/{secret}/{n}/deeper")
            await http.get("/health", params={"q": f"{secret}{n}"})
            await http.post("/api/threads/lobby/messages", json={"text": f"{secret} {n}"})
        again = await scraped(http)
        text = (await http.get("/metrics")).text + json.dumps((await http.get("/api/stats")).json())
        text += (await http.get("/metrics", headers={"accept": "application/json"})).text

    assert len(again) - before < 5 * 20, "more than the series of five routes"
    assert secret not in text
    assert (
        "hubbub_http_requests_total",
        frozenset({("method", "GET"), ("route", "/api/threads/{id}"), ("status", "404")}),
    ) in again


async def test_refusals_before_any_route_are_counted(house: House) -> None:
    async with house.http() as http:
        answer = await http.get("/health", headers={"x": "y" * 17_000})
        assert answer.status_code == 431
        assert await told(http, "http_refused_early_total", status="431") == 1
        assert (await http.get("/health", headers={"host": "elsewhere.example"})).status_code >= 400
        requests = [key for key in await scraped(http) if key[0] == "hubbub_http_requests_total"]
        assert any(("route", "(none)") in labels for _, labels in requests)


async def test_a_wrong_password_and_too_much_haste_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", send_rate=1.0, send_burst=1.0) as house, house.http(user="ann") as http:
        await http.post("/api/auth/register", json={"user": "ben", "password": "12345678"})
        answer = await http.post("/api/auth/login", json={"user": "ben", "password": "87654321"})
        assert answer.status_code == 401
        statuses = [
            (await http.post("/api/threads/lobby/messages", json={"text": "hello"})).status_code for _ in range(3)
        ]
        assert 429 in statuses
        http.cookies.clear()

        assert await told(http, "wrong_passwords_total") == 1
        assert await told(http, "rate_limited_total") == statuses.count(429)


async def test_when_the_certificate_ends_is_told_also_when_it_has_ended(tmp_path: Path) -> None:
    made = certificates(tmp_path / "tls")
    async with serving(tmp_path / "home", **made.flags) as house:
        (gauge,) = [one for one in house.app.meter.now() if one.name == "certificate_expiry_seconds"]
        assert gauge.value > house.app.hub.clock()

    ended = datetime(2020, 1, 2, tzinfo=UTC)
    issued = trustme.CA().issue_cert("localhost", not_after=ended)
    made.key.write_bytes(issued.private_key_pem.bytes())
    made.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    assert Certificate(made.cert, made.key).expires == ended.timestamp()


def test_what_only_a_scraper_needs_is_not_imported_at_the_start() -> None:
    asked = "import sys, hubbub.app, hubbub.asgi; print(sorted({'psutil', 'prometheus_client'} & set(sys.modules)))"

    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


LOGS = """
import logging, structlog
from pathlib import Path
from hubbub import config, process
process.set_up_logging(config.load({}, {"HUBBUB_LOG_LEVEL": "warning"}, Path("/nonexistent")))
structlog.get_logger("ours").error("broken")
structlog.get_logger("ours").warning("strange")
structlog.get_logger("ours").info("not heard")
logging.getLogger("theirs").error("broken")
logging.getLogger("theirs").info("not heard")
print(process.logged)
"""


def test_entries_of_the_log_are_counted_ours_and_those_of_others() -> None:
    said = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "{'warning': 1, 'error': 2}"


async def test_under_another_server_beyond_loopback_routes_are_known_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "load", lambda: settings(Path("unused"), guests="on", behind_proxy=True))
    built, meter = build(), Meter()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"hub": house.app.hub, "site": house.app.site, "meter": meter}
        scope["server"] = ("192.0.2.1", 443)
        await built(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as http:
        answer = await http.get("/api/me")

    assert meter.counts.requests == {f"GET /api/me {answer.status_code}": 1}


# The forms


async def test_json_for_who_asks_for_it(house: House) -> None:
    async with house.http() as http:
        await http.get("/health")
        await http.get("/nothing")
        answer = await http.get("/metrics", headers={"accept": "application/json"})

    found = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert {"total_requests", "active_conversations", "average_response_time", "error_rate", "timestamp"} < set(found)
    assert found["total_requests"] == 2
    assert 0 < found["average_response_time"] < 5
    assert found["error_rate"] == 0.0


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "text/plain; version=0.0.4"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("text/plain;version=nonsense;escaping=x", "text/plain; version=0.0.4"),
        ("application/json", "application/json"),
    ],
)
async def test_everybody_gets_the_form_they_read(house: House, accept: str | None, form: str) -> None:
    async with house.http() as http:
        answer = await http.get("/metrics", headers={"accept": accept} if accept else {})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(form)
    assert answer.headers["cache-control"] == "no-store"


async def test_stats_have_quantiles_slow_requests_and_a_value_a_minute(house: House) -> None:
    async with house.http() as http:
        for _ in range(20):
            await http.get("/health")
        house.app.meter.turn()
        found = (await http.get("/api/stats")).json()

    (row,) = [row for row in found["requests"]["last_5_minutes"] if row["route"] == "GET /health"]
    assert row["count"] == 20
    assert 0 < row["p50"] <= row["p90"] <= row["p95"] <= row["p99"] <= row["max"] < 5
    assert set(found["slowest"][0]) == {"route", "status", "ms", "at"}
    assert len(found["series"]["at"]) == 2
    assert found["series"]["request_s_p50"][0] == pytest.approx(row["p50"])
    assert found["series"]["requests_per_s"][0] > 0


async def test_with_guests_off_a_scraper_shows_a_token_that_reads(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", guests="off") as house, house.http() as http:
        for path in ("/metrics", "/api/stats"):
            assert (await http.get(path)).status_code == 401
            assert (await http.get(path, headers={"accept": "application/json"})).status_code == 401
        assert (await http.get("/stats")).status_code == 200
        await http.post("/api/auth/register", json={"user": "scraper", "password": "12345678"})
        _, secret = await house.app.hub.gate.make_token("scraper", "", ["read"], by="the test")
        _, writes = await house.app.hub.gate.make_token("scraper", "", ["write"], by="the test")
        http.cookies.clear()
        for path in ("/metrics", "/api/stats"):
            assert (await http.get(path, headers={"authorization": f"Bearer {secret}"})).status_code == 200
            assert (await http.get(path, headers={"authorization": f"Bearer {writes}"})).status_code == 401


async def test_who_only_looks_does_not_become_a_member(house: House) -> None:
    async with house.http() as http:
        await http.get("/metrics")
        await http.get("/api/stats")

    known = house.app.hub.people.known("visitor")
    assert known is None or not known.arrived


# Requests that end otherwise


class Answers:
    """An application that answers once it is told to, or does not."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = type("Route", (), {"path": "/made/{up}"})
        if self.how == "fails":
            raise RuntimeError("a bug")
        if self.how == "answers":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(("how", "status"), [("answers", 204), ("fails", 500), ("client leaves", 499)])
async def test_each_request_is_counted_once_however_it_ends(how: str, status: int) -> None:
    meter = Meter()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "state": {"meter": meter}}

    async def nothing(*_: Any) -> Any:
        return None

    try:
        await Measured(Answers(how))(scope, nothing, nothing)
    except RuntimeError:
        assert how == "fails"

    assert meter.counts.requests == {f"GET /made/{{up}} {status}": 1}
    assert meter.counts.request_s["GET /made/{up}"].count == 1


async def test_a_failure_of_ours_is_an_error_in_the_rate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    built = build(house.app.settings)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"hub": house.app.hub, "site": house.app.site, "meter": house.app.meter}
        await built(scope, receive, send)

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/api/users")).status_code == 200
        monkeypatch.setattr(house.app.hub.store, "public_threads", broken)
        with structlog.testing.capture_logs():
            assert (await http.get("/api/threads", params={"public": True})).status_code == 500
        rate = (await http.get("/metrics", headers={"accept": "application/json"})).json()["error_rate"]

    assert rate == 0.5


# The life of an answer


async def test_an_answers_life_is_in_the_log_without_a_word_of_it(house: House) -> None:
    ann = fresh("ann")
    with structlog.testing.capture_logs() as logged:
        async with house.http(user=ann) as http, await house.listen("lobby", user=ann) as reader:
            await http.post("/api/threads/lobby/messages", json={"text": "@openai repeat: the secret word"})
            await reader.take(where=lambda frame: frame["type"] in ENDS)
            waited = [entry for entry in logged if entry["event"].startswith("run_")]

    events = [entry["event"] for entry in waited]
    assert events == ["run_queued", "run_taken", "run_first_piece", "run_written", "run_ended"]
    assert len({entry["run"] for entry in waited}) == 1
    for entry in waited:
        assert (entry["thread"], entry["assistant"], entry["engine"], entry["attempt"]) == (
            "lobby",
            "openai",
            "demo",
            1,
        )
    by_name = {entry["event"]: entry for entry in waited}
    assert by_name["run_queued"]["position"] == 1
    assert by_name["run_taken"]["batch"] == 1
    assert by_name["run_taken"]["waited_s"] >= 0
    assert by_name["run_ended"]["state"] == "completed"
    assert by_name["run_ended"]["characters"] == by_name["run_written"]["characters"] > 0
    assert by_name["run_written"]["pieces"] > 1
    levels = {entry["event"]: entry["log_level"] for entry in waited}
    assert [event for event, level in levels.items() if level == "info"] == ["run_queued", "run_written", "run_ended"]
    said = json.dumps(waited)
    assert "secret" not in said
    assert ann not in said


async def test_stopping_an_answer_is_counted_by_what_it_was_in(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", worker=False) as house, house.http(user=fresh("ann")) as http:
        with structlog.testing.capture_logs() as logged:
            run = (await http.post("/api/threads/lobby/runs", json={"assistant": "openai"})).json()
            assert await told(http, "runs_open", engine="demo", state="queued") == 1
            await http.post(f"/api/runs/{run['id']}/cancel")

        assert await told(http, "runs_cancelled_total", engine="demo", was="queued") == 1
        assert await told(http, "runs_open", engine="demo", state="queued") == 0
        assert await told(http, "runs_ended_total", engine="demo", state="cancelled") == 1
    events = [entry["event"] for entry in logged if entry["event"].startswith("run_")]
    assert events == ["run_queued", "run_cancelled", "run_ended"]


async def test_an_answer_whose_end_is_noticed_twice_is_counted_once(house: House) -> None:
    ann, hub = fresh("ann"), house.app.hub
    async with house.http(user=ann) as http, await house.listen("lobby", user=ann) as reader:
        await http.post("/api/threads/lobby/messages", json={"text": "@openai hello"})
        end = await reader.take(where=lambda frame: frame["type"] in ENDS)
        run = await hub.store.run(end["run"])
        await hub.runs._end(run, Progress(1, "hello", RunState.COMPLETED))

        assert await told(http, "runs_ended_total", engine="demo", state="completed") == 1


async def test_answers_refused_at_a_full_queue_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path / "home", worker=False) as house, house.http(user=fresh("ann")) as http:
        monkeypatch.setattr(house.app.hub.bus, "_max_queue", 1)
        statuses = [
            (await http.post("/api/threads/lobby/runs", json={"assistant": "openai"})).status_code for _ in range(3)
        ]

        assert statuses[0] == 201
        assert await told(http, "runs_refused_total", engine="demo") == 2
        assert await told(http, "runs_ended_total", engine="demo", state="failed") == 2


async def test_an_answer_begun_again_after_a_crash_is_counted_and_said(tmp_path: Path) -> None:
    ann = fresh("ann")
    async with serving(tmp_path / "home", worker=False) as house, house.http(user=ann) as http:
        await http.post("/api/threads/lobby/messages", json={"text": "@openai count to 100"})
    with structlog.testing.capture_logs() as logged:
        async with (
            serving(tmp_path / "home", demo_word_s=0.01) as house,
            house.http() as http,
            await house.listen("lobby", user=ann) as reader,
        ):
            await reader.take(where=lambda frame: frame["type"] in ENDS)

            assert await told(http, "runs_retried_total", engine="demo") == 1
            assert await told(http, "runs_ended_total", engine="demo", state="completed") == 1
            assert await told(http, "batches_total", engine="demo", reason="alone") == 1

    (retried,) = [entry for entry in logged if entry["event"] == "run_retried"]
    assert (retried["log_level"], retried["attempt"]) == ("warning", 2)


async def test_a_commit_that_is_lost_is_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError(5, "Input/output error")

    async with house.http(user=fresh("ann")) as http:
        await http.get("/api/users")
        monkeypatch.setattr(house.app.hub.store._group, "_before_commit", broken)
        assert (await http.post("/api/threads/lobby/messages", json={"text": "hello"})).status_code == 503
        monkeypatch.undo()
        assert await told(http, "commits_lost_total") >= 1
