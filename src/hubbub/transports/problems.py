"""Refusals over HTTP: RFC 9457 problem documents with our `code`."""

from __future__ import annotations

import http
import math
from typing import Any

from hubbub.core import wire
from hubbub.core.errors import Problem

MEDIA_TYPE = "application/problem+json"
AS_IT_IS = {"x-content-type-options": "nosniff"}
"""What people wrote stands in answers, and no browser is to look there for a page (WHATWG Fetch, section 3.5)."""


def problem_document(problem: Problem) -> dict[str, Any]:
    """The body for a refusal."""
    outside = problem.outside
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": outside.title,
        "status": problem.http,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.retry_after is not None:
        document["retry_after"] = problem.retry_after
    return document


def problem_headers(problem: Problem) -> dict[str, str]:
    """The headers that go with it."""
    headers = dict(AS_IT_IS)
    if problem.retry_after is not None:
        headers["retry-after"] = str(math.ceil(problem.retry_after))
    if problem.http == 413:
        headers["connection"] = "close"  # the rest of the body is not waited for
    if problem.http == 401:
        headers["www-authenticate"] = "Bearer"
    return headers


def problem_response(problem: Problem) -> bytes:
    """A whole HTTP/1.1 response, for doors that write to the socket themselves."""
    status = http.HTTPStatus(problem.http)
    body = wire.encode_value(problem_document(problem))
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        **problem_headers(problem),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + body
