"""`GET /docs`: the HTTP interface to read and to try, without any other server.

The page is built with the web client: Swagger UI and the few lines that start it with `/openapi.json`, each a file of
this server, so that the policy of the chat page is enough for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse, Response

NOT_BUILT = (
    "The docs page is not built here; `make web` builds it. The description it would show is at /openapi.json.\n"
)


def answer_docs(built: Path, headers: Mapping[str, str]) -> Response:
    """The page out of the directory `built`, or how to build it."""
    page = built / "docs.html"
    if not page.is_file():
        return PlainTextResponse(NOT_BUILT, headers=dict(headers))
    return FileResponse(page, headers={**headers, "cache-control": "no-cache"})
