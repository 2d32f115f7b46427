"""REST: every route, its fields, and what a wrong request is told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from support.server import House, fresh

PROBLEM = {"type", "title", "status", "detail", "code"}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The document of a refusal, checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert set(document) >= PROBLEM
    assert (document["status"], document["code"]) == (status, code)
    assert document["detail"]
    return document


async def test_a_guest_token_speaks_for_its_name(house: House) -> None:
    name = fresh("alice")
    async with house.http() as http:
        answer = await http.post("/api/auth/guest", json={"user": name})
        assert answer.status_code == 201
        body = answer.json()
        me = (await http.get("/api/me", headers={"authorization": f"Bearer {body['access_token']}"})).json()

    assert set(body) == {"access_token", "token_type", "expires_in", "user"}
    assert (body["token_type"].lower(), body["user"]) == ("bearer", name)
    assert body["expires_in"] > 0
    assert me["user"] == name


GUEST = {"registered": False, "admin": False, "scopes": ["read", "write"]}


async def test_who_names_nobody_is_the_visitor_and_user_names_a_guest(house: House) -> None:
    name = fresh("alice")
    async with house.http() as http:
        assert (await http.get("/api/me")).json()["user"] == "visitor"
        assert (await http.get("/api/me", params={"user": name})).json() == GUEST | {"user": name, "online": False}
        problem(await http.get("/api/me", params={"user": "a b"}), 400, "bad_request")
        problem(await http.get("/api/me", params={"user": ""}), 400, "bad_request")


async def test_a_connected_name_needs_its_token(house: House) -> None:
    name = fresh("alice")
    async with await house.talk("text", name) as alice, house.http() as http:
        problem(await http.get("/api/me", params={"user": name}), 409, "name_taken")
        problem(
            await http.post("/api/messages", params={"user": name}, json={"to": "b", "text": "x"}), 409, "name_taken"
        )
        problem(await http.post("/api/auth/guest", json={"user": name.upper()}), 409, "name_taken")
        problem(await http.get("/api/me", params={"user": "openai"}), 409, "name_taken")
        headers = {"authorization": f"Bearer {alice.welcome['token']}"}
        assert (await http.get("/api/me", headers=headers)).json() == GUEST | {"user": name, "online": True}


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9."])
async def test_a_token_that_is_not_ours_is_unauthorized(house: House, token: str) -> None:
    async with house.http(token) as http:
        answer = await http.get("/api/me")
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.get("/api/events")).status_code == 401


async def test_a_token_in_the_address_is_not_taken(house: House) -> None:
    name = fresh("alice")
    async with await house.talk("text", name) as alice, house.http() as http:
        token = alice.welcome["token"]
        for key in ("token", "access_token"):
            assert (await http.get("/api/me", params={key: token})).json()["user"] == "visitor"
            problem(await http.get("/api/events", params={key: token}), 400, "bad_request")


async def test_a_thread_is_made_read_changed_and_deleted(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with house.http(user=ann) as http, house.http(user=bob) as other:
        made = await http.post("/api/threads", json={"title": "garden", "members": [bob]})
        assert made.status_code == 201
        thread = made.json()
        assert set(thread) == {"id", "title", "members", "member_count", "head", "public", "seen"}
        assert (thread["title"], thread["member_count"], thread["head"], thread["public"]) == ("garden", 2, 0, False)
        path = f"/api/threads/{thread['id']}"
        assert (await http.get(path)).json() == thread
        assert thread["id"] in [view["id"] for view in (await other.get("/api/threads")).json()["threads"]]
        changed = (await http.patch(path, json={"title": "yard", "public": True})).json()
        assert (changed["title"], changed["public"]) == ("yard", True)
        async with house.http(user=fresh("eve")) as eve:
            listed = (await eve.get("/api/threads", params={"public": "true"})).json()["threads"]
            assert thread["id"] in [view["id"] for view in listed]
        gone = await http.delete(path)
        assert (gone.status_code, gone.content) == (204, b"")
        problem(await other.get(path), 404, "not_found")
        problem(await other.get(f"{path}/messages"), 404, "not_found")


async def test_members_are_added_and_removed(house: House) -> None:
    ann, bob, eve = fresh("ann"), fresh("bob"), fresh("eve")
    async with house.http(user=ann) as http, house.http(user=bob) as robert:
        id = (await http.post("/api/threads", json={})).json()["id"]
        path = f"/api/threads/{id}/members"
        assert (await http.put(f"{path}/{bob}")).json()["member_count"] == 2
        assert (await robert.put(f"{path}/{eve}")).json()["member_count"] == 3
        problem(await robert.delete(f"{path}/{eve}"), 404, "not_found")  # only an owner puts others out
        assert (await http.delete(f"{path}/{eve}")).status_code == 204
        assert (await robert.delete(f"{path}/{bob}")).status_code == 204
        problem(await robert.get(f"/api/threads/{id}"), 404, "not_found")
        problem(await robert.put(f"{path}/{bob}"), 404, "not_found")
        problem(await http.delete(f"{path}/{bob}"), 404, "not_found")


async def test_messages_are_posted_and_read_with_the_fields_of_the_contract(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with house.http(user=ann) as http, house.http(user=bob) as other:
        sent = await http.post("/api/messages", json={"to": bob, "text": "hello", "metadata": {"a": 1}})
        assert sent.status_code == 201
        ack = sent.json()
        assert set(ack) == {"thread", "seq", "message", "timestamp", "delivery", "offline", "offline_count"}
        assert (ack["seq"], ack["delivery"], ack["offline"], ack["offline_count"]) == (1, "stored", [bob], 1)
        path = f"/api/threads/{ack['thread']}/messages"
        second = await other.post(path, json={"text": "yes?", "message_type": "command", "reply_to": ack["message"]})
        assert second.status_code == 201
        page = (await http.get(path, params={"after": 1, "limit": 5})).json()
        newest = (await http.get(path, params={"limit": 1})).json()

    assert set(page) == {"thread", "messages", "more"}
    [message] = page["messages"]
    assert (message["type"], message["reply_to"], message["sender"]) == ("command", ack["message"], bob)
    assert newest == {**page, "more": True}


@pytest.mark.parametrize(
    "params",
    [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"after": -1}, {"before": "a"}, {"after": 1, "before": 3}],
    ids=str,
)
async def test_a_wrong_cursor_is_a_bad_request(house: House, params: dict[str, Any]) -> None:
    async with house.http(user=fresh("ann")) as http:
        problem(await http.get("/api/threads/lobby/messages", params=params), 400, "bad_request")


async def test_unseen_shows_what_others_wrote_and_leaves_the_cursor_to_seen(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with house.http(user=ann) as http, house.http(user=bob) as other:
        thread = (await http.post("/api/messages", json={"to": bob, "text": "one"})).json()["thread"]
        await http.post("/api/messages", json={"to": bob, "text": "two"})
        for _ in range(2):
            unseen = (await other.get("/api/unseen")).json()
            assert [message["text"] for message in unseen["messages"]] == ["one", "two"]
            assert unseen["more"] is False
        limited = (await other.get("/api/unseen", params={"limit": 1})).json()
        assert ([message["text"] for message in limited["messages"]], limited["more"]) == (["one"], True)
        view = (await other.put(f"/api/threads/{thread}/seen", json={"seq": 1})).json()
        assert view["seen"] == 1
        assert [m["text"] for m in (await other.get("/api/unseen")).json()["messages"]] == ["two"]
        back = (await other.put(f"/api/threads/{thread}/seen", json={"seq": 0})).json()
        assert back["seen"] == 1
        assert (await http.get("/api/unseen")).json() == {"messages": [], "more": False}


async def test_an_assistant_is_asked_watched_and_cancelled(house: House) -> None:
    async with house.http(user=fresh("ann")) as http, house.http(user=fresh("eve")) as eve:
        assistants = (await http.get("/api/assistants")).json()["assistants"]
        assert "openai" in [assistant["name"] for assistant in assistants]
        id = (await http.post("/api/threads", json={"members": ["openai"]})).json()["id"]
        await http.post(f"/api/threads/{id}/messages", json={"text": "count to 2000"})
        started = await http.post(f"/api/threads/{id}/runs", json={"assistant": "openai"})
        assert started.status_code == 201
        run = started.json()
        assert set(run) >= {"id", "thread", "assistant", "state", "attempt"}
        assert (run["thread"], run["assistant"], run["attempt"]) == (id, "openai", 1)
        seen = (await http.get(f"/api/runs/{run['id']}")).json()
        assert seen["state"] in ("queued", "running")
        problem(await eve.get(f"/api/runs/{run['id']}"), 404, "not_found")
        problem(await eve.post(f"/api/runs/{run['id']}/cancel"), 404, "not_found")
        problem(await http.post(f"/api/threads/{id}/runs", json={"assistant": "nobody"}), 404, "not_found")
        cancelled = (await http.post(f"/api/runs/{run['id']}/cancel")).json()
        assert cancelled["state"] == "cancelled"
        newest = (await http.get(f"/api/threads/{id}/messages", params={"limit": 1})).json()["messages"][0]
        assert (newest["run"], newest["metadata"]["state"]) == (run["id"], "cancelled")


async def test_users_lists_who_was_here_and_who_is_connected(house: House) -> None:
    ann, bob, never = fresh("ann"), fresh("bob"), fresh("never")
    async with await house.talk("text", ann) as alice, house.http(user=bob) as http:
        await alice.write(never, "are you there?")
        users = {user["name"]: user for user in (await http.get("/api/users")).json()["users"]}

    assert users[ann]["online"] is True
    assert users[bob]["online"] is False
    assert users["openai"]["online"] is True
    assert never not in users


async def test_health_says_how_the_server_is(house: House) -> None:
    async with house.http() as http:
        health = (await http.get("/health")).json()
        for path in ("/healthz", "/readyz"):
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (200, "ok")

    assert health["status"] == "ok"
    assert re.match(r"\d+\.\d+", health["version"])
    assert health["uptime"] >= 0
    assert set(health["checks"]) == {"store"}


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/readyz"])
async def test_head_is_answered_like_get_without_the_body(house: House, path: str) -> None:
    """RFC 9110 §9.1: every server supports GET and HEAD; monitors and `curl -I` ask so."""
    async with house.http() as http:
        answer = await http.head(path)

    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_page_is_served_with_a_strict_policy(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house.http() as http:
        page = await http.get("/")

    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    for rule in ("default-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'", "script-src 'self'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_without_a_built_page_one_sentence_says_so(own_house, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("hubbub.asgi.page_directory", lambda: tmp_path / "nothing")
    async with own_house() as house, house.http() as http:
        page = await http.get("/")

    assert page.status_code == 200
    assert "not built" in page.text
    assert page.text.count("\n") == 1
    assert page.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fapp.py", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../../app.py", "//etc/passwd"]
)
async def test_no_file_outside_the_page_is_served(house: House, path: str) -> None:
    async with house.http() as http:
        answer = await http.get(f"http://127.0.0.1:{house.port}{path}")

    assert answer.status_code == 404


async def test_with_guests_off_everything_but_health_needs_a_token(own_house) -> None:
    async with own_house() as house, house.http() as http:
        lent = (await http.post("/api/auth/guest", json={"user": "bob"})).json()["access_token"]
        mine = await http.post("/api/auth/register", json={"user": "alice", "password": "correct horse"})
        token = mine.json()["access_token"]
    async with own_house(guests="off") as house, house.http() as http:
        for path in (
            "/api/me",
            "/api/threads",
            "/api/users",
            "/api/events",
            "/api/threads/lobby/events",
            "/api/unseen",
        ):
            answer = await http.get(path, params={"user": "alice"})
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.post("/api/auth/guest", json={"user": "eve"})).status_code == 401
        for path in ("/health", "/healthz", "/readyz", "/"):
            assert (await http.get(path)).status_code == 200
        async with house.http(lent) as bob:
            problem(await bob.get("/api/me"), 401, "unauthorized")
        async with house.http(token) as alice:
            assert (await alice.get("/api/me")).json()["user"] == "alice"
            problem(await alice.post("/api/messages", json={"to": "nobody", "text": "x"}), 404, "not_found")
        async with await house.connect("framed") as talker:
            assert (await talker.ask("hello", user="eve"))["code"] == "unauthorized"
            await talker.hello(token=token)


async def test_who_sends_too_fast_is_told_how_long_to_wait(own_house) -> None:
    async with (
        own_house(send_rate=1.0, send_burst=3.0) as house,
        await house.talk("text", "alice") as alice,
        house.http(alice.welcome["token"]) as http,
    ):
        for _ in range(3):
            await alice.write("bob", "x")
        error = await alice.ask("message.send", to="bob", text="x")
        answer = await http.post("/api/messages", json={"to": "bob", "text": "x"})
        document = problem(answer, 429, "rate_limited")
        assert (await alice.ask("ping"))["type"] == "pong"

    assert (error["code"], 0 < error["retry_after"] <= 1) == ("rate_limited", True)
    assert 0 < document["retry_after"] <= 2
    assert answer.headers["retry-after"] in ("1", "2")


@pytest.mark.parametrize("off", [{"send_rate": 0.0}, {"send_burst": 0.0}], ids=str)
async def test_either_limit_set_to_zero_turns_the_limit_off(own_house, off: dict[str, float]) -> None:
    limits = {"send_rate": 1.0, "send_burst": 2.0, **off}
    async with own_house(**limits) as house, await house.talk("text", "alice") as alice:
        for _ in range(10):
            assert (await alice.ask("message.send", to="bob", text="x"))["type"] == "ack"
