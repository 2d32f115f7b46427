"""What the description of the API allows, and much that it does not, made up by schemathesis: no failure of ours, and
no answer that the description does not have."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hubbub.asgi import build
from support import server as servers
from support.process import Server, running
from support.server import fresh
from tests.attack.people import PASSWORD

EXAMPLES = int(os.environ.get("HUBBUB_FUZZ", "0")) or 6
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
STREAMS = r"/events$|^/chat$|^/generate$"
"""Endless, or as long as an answer; what they are asked with is tried in test_injection.py and in tests/compat."""

LEAVING = ("/api/auth/logout", "/api/auth/password")
"""What would end the sign-in that all the others use."""

document = build(servers.settings(Path("unused"), store="memory")).openapi()
schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict({})).exclude(path_regex=STREAMS)
made_up = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    environ = {"HUBBUB_STORE": "memory", "HUBBUB_LOG_LEVEL": "error"}
    async with running(tmp_path_factory.mktemp("home") / "home", environ) as server:
        yield server
        assert "request_failed" not in server.said


@pytest.fixture(scope="module")
async def token(server: Server) -> str:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
        answer = await http.post("/api/auth/register", json={"user": fresh("member"), "password": PASSWORD})
    said: str = answer.json()["access_token"]
    return said


def judge(case: Any, server: Server, headers: dict[str, str]) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", headers=headers, checks=CHECKS, timeout=20)


@schema.parametrize()
@made_up
def test_as_a_guest(case: Any, server: Server) -> None:
    judge(case, server, {"authorization": ""})


@schema.exclude(path=list(LEAVING)).parametrize()
@made_up
def test_as_a_member(case: Any, server: Server, token: str) -> None:
    judge(case, server, {"authorization": f"Bearer {token}"})
