"""`GET /test`: a page to try `/chat` and `/generate` by hand, of three files that nobody has to build."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response

from hubbub.core.errors import NotFound

FILES = frozenset({"page.css", "page.js"})


def serve_test_page(app: FastAPI, headers: Mapping[str, str]) -> None:
    """Args:
    headers: what every page of this server is sent with.
    """
    directory = Path(str(resources.files("hubbub.compat"))) / "test_page"
    kept = {**headers, "cache-control": "no-cache"}

    @app.api_route("/test", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> Response:
        return FileResponse(directory / "index.html", headers=kept)

    @app.get("/test/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in FILES:
            raise NotFound(f"There is nothing at /test/{name[:200]}.")
        return FileResponse(directory / name, headers=kept)
