"""`/metrics`, `/api/stats` and the page that draws them. Nothing private is in any of it: no name, no id, no text.

Who may read the numbers: whoever may listen. While guests are allowed that is everybody who reaches the server, else
it takes a token with the scope `read`, such as one made for a scraper.
"""

from __future__ import annotations

import asyncio
import importlib
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.responses import FileResponse, Response

from hubbub.core import wire
from hubbub.hub import access
from hubbub.hub.access import Need
from hubbub.hub.figures import brief, exposition, stats, wants_json
from hubbub.hub.meter import Meter
from hubbub.hub.vitals import load
from hubbub.transports import site
from hubbub.transports.callers import address, headers_of, hub_of, shown_token

FILES = Path(str(resources.files("hubbub.transports"))) / "stats_page"
TYPES = {"index.html": "text/html", "stats.js": "text/javascript", "stats.css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NOT_KEPT = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

router = APIRouter()


async def watcher(
    request: Request,
    user: Annotated[str | None, Query(description="who is asking, while guests are allowed")] = None,
    shown: Annotated[str | None, Depends(shown_token)] = None,
) -> access.Caller:
    """Who is asking; unlike anybody who does something here, they need not become a member for it."""
    headers = headers_of(request)
    asking = hub_of(request).gate.identify(site.bearer(headers), user, address(request), site.cookie(headers))
    access.require(asking, Need.LISTEN)
    return asking


def meter_of(request: Request) -> Meter:
    meter: Meter = request.state.meter
    return meter


MeterIn = Annotated[Meter, Depends(meter_of)]


async def answer_metrics(meter: Meter, accept: str) -> Response:
    """The numbers in the form that is asked for."""
    await asyncio.to_thread(load)
    if wants_json(accept):
        meter.hear()
        return _json(brief(meter))
    await asyncio.to_thread(importlib.import_module, "prometheus_client")  # 40 ms, the first time
    meter.hear()
    text, media_type = exposition(meter, accept)
    return Response(text, headers=NOT_KEPT | {"content-type": media_type, "vary": "accept"})


async def answer_stats(meter: Meter) -> Response:
    await asyncio.to_thread(load)
    meter.hear()
    return _json(stats(meter))


def answer_page(name: str) -> Response:
    """One of the page's files."""
    headers = {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return FileResponse(FILES / name, headers=headers, media_type=TYPES[name])


def _json(value: object) -> Response:
    return Response(wire.encode_value(value), headers=NOT_KEPT | {"vary": "accept"}, media_type="application/json")


@router.get(
    "/metrics",
    tags=["operation"],
    summary="Everything that is counted: Prometheus' text, OpenMetrics or JSON, by `Accept`",
    dependencies=[Depends(watcher)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}, "application/json": {}}}},
)
async def metrics(request: Request, meter: MeterIn) -> Response:
    return await answer_metrics(meter, request.headers.get("accept", ""))


@router.get(
    "/api/stats",
    tags=["operation"],
    summary="Quantiles by route, slowest requests, answers and the machine, over time",
    dependencies=[Depends(watcher)],
)
async def api_stats(meter: MeterIn) -> Response:
    return await answer_stats(meter)


def serve_page(app: FastAPI) -> None:
    """The page and its two files."""
    for name in TYPES:
        path = "/stats" if name == "index.html" else f"/stats/{name}"
        app.add_api_route(path, partial(answer_page, name), methods=["GET"], include_in_schema=False)
