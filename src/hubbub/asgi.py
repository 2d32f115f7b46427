"""The ASGI application: `uvicorn hubbub.asgi:app`, and what `hubbub serve` puts behind its own HTTP port."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hubbub import __version__
from hubbub.compat import chat, generate, lobby, messages
from hubbub.compat.trying import serve_test_page
from hubbub.config import SEVERAL_TAKE, Settings, is_loopback, load
from hubbub.core.errors import BadRequest, Internal, NotFound, Problem, Unauthorized
from hubbub.transports import asgi_doors, rest, sign_in, stats
from hubbub.transports.callers import answer_document, answer_problem, hub_of, site_of
from hubbub.transports.docs_page import answer_docs
from hubbub.transports.measured import Measured
from hubbub.transports.problems import AS_IT_IS, MEDIA_TYPE
from hubbub.transports.site import Site, below, fields

log = structlog.get_logger("hubbub.http")

SHARED_HEADERS = ("authorization", "content-type", "idempotency-key", "last-event-id")
NOT_FROM_OUTSIDE = "Guests are let in on loopback only; HUBBUB_GUESTS=on lets them in from everywhere."
NOT_IN_THE_CLEAR = "Outside loopback this takes TLS, or HUBBUB_BEHIND_PROXY=1 with a proxy that encrypts."
NO_PAGE = "The web page is not built here; `make web` builds it. Everything else works, nc on the TCP port for one.\n"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

PAGE_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

REFUSED: dict[str, Any] = {
    "description": "Refused: an RFC 9457 document with a `code` of ours",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "code"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                    "retry_after": {"type": "number", "description": "seconds"},
                },
            }
        }
    },
}
"""What every route may answer."""


def build(settings: Settings | None = None) -> FastAPI:
    """The application. With `settings`, the hub comes in the lifespan state of the server around it; without, the
    application starts everything but the HTTP port by itself, from the environment."""
    app = FastAPI(
        title="Hubbub",
        version=__version__,
        summary="People, AI assistants and devices in one live conversation.",
        lifespan=_lifespan if settings is None else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to wherever the request's Host says
        separate_input_output_schemas=False,
        responses={"4XX": REFUSED},
    )
    started = time.monotonic()
    app.add_exception_handler(Problem, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    app.include_router(sign_in.router)
    for router in (rest.router, chat.router, generate.router, messages.router):
        app.include_router(router)
    app.include_router(stats.router)
    stats.serve_page(app)

    @app.get("/health", tags=["operation"], summary="How the server is")
    @app.head("/health", include_in_schema=False)
    async def health(request: Request) -> dict[str, Any]:
        hub = hub_of(request)
        try:
            await hub.store.thread("lobby")
            store = "ok"
        except Problem as problem:
            store = problem.detail
        checks = {"store": store, **hub.bus.checks()}
        return {
            "status": "ok" if set(checks.values()) == {"ok"} else "degraded",
            "version": __version__,
            "uptime": round(time.monotonic() - started, 3),
            "timestamp": hub.stamp(),
            "active_connections": len(hub.sessions),
            "checks": checks,
        }

    @app.get("/healthz", tags=["operation"], summary="Is the process alive?", response_class=PlainTextResponse)
    @app.head("/healthz", include_in_schema=False)
    async def healthz() -> str:
        return "ok"

    @app.get("/readyz", tags=["operation"], summary="Should it be sent work?", response_class=PlainTextResponse)
    @app.head("/readyz", include_in_schema=False)
    async def readyz(request: Request) -> Response:
        stopping = hub_of(request).stopping
        return PlainTextResponse("stopping" if stopping else "ok", 503 if stopping else 200)

    for path in ("/api/events", "/api/threads/{id}/events"):

        @app.get(path, tags=["events"], summary="Server-sent events; resumes from `Last-Event-ID`")
        async def events(request: Request) -> Response:
            return await asgi_doors.serve_stream(request, hub_of(request), site_of(request))

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await asgi_doors.serve_websocket(socket, socket.state.hub, socket.state.site)

    @app.websocket("/ws/{user}")
    async def ws_lobby(socket: WebSocket, user: str) -> None:
        await lobby.serve_lobby(socket, socket.state.hub, socket.state.site, user)

    serve_test_page(app, PAGE_HEADERS)
    app.add_middleware(Doorkeeper)
    if settings is None:
        app.add_middleware(Outside)
    app.add_middleware(Measured)
    if settings is None or settings.web:
        _serve_page(app, page_directory())
    return app


class Doorkeeper:
    """Refuses requests for another server, and those of other sites' pages, before any route sees them. Pages of the
    origins that were named may also read the answers (Fetch standard, CORS)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._shared: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            site: Site = scope["state"]["site"]
            scope["root_path"] = root = site.root or scope.get("root_path", "")
        if scope["type"] == "http":
            try:
                headers = fields(scope["headers"])
                site.require(scope["method"], below(scope["path"], root), headers)
            except Problem as refused:
                await answer_problem(refused)(scope, receive, send)
                return
            if headers.get("origin") in site.origins:
                if self._shared is None:
                    self._shared = CORSMiddleware(
                        self._app,
                        allow_origins=sorted(site.origins),
                        allow_methods=["*"],
                        allow_headers=SHARED_HEADERS,
                        allow_credentials=True,
                    )
                await self._shared(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Outside:
    """Under a server that is not ours, nobody says where it listens. So what came in at another address than loopback
    has to meet here what our own server asks of its settings before it starts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refusal: dict[str, str] = {}  # by scheme, asked once when somebody comes in elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        if scope["type"] == "lifespan" or server is None or is_loopback(server[0]):
            refusal = ""
        else:
            refusal = self._refuse("tls" if scope["scheme"] in ("https", "wss") else "plain")
        if not refusal:
            if server is not None and not is_loopback(server[0]) and "site" in (state := scope.get("state", {})):
                scope["state"] = {**state, "site": replace(state["site"], local=False)}  # in place: see `Measured`
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
        else:
            await answer_problem(Unauthorized(refusal))(scope, receive, send)

    def _refuse(self, kind: str) -> str:
        if kind not in self._refusal:
            settings = load()
            self._refusal[kind] = ""
            if settings.guests == "auto" and not settings.behind_proxy:
                self._refusal[kind] = NOT_FROM_OUTSIDE
            elif kind == "plain" and not settings.behind_proxy:
                self._refusal[kind] = NOT_IN_THE_CLEAR
        return self._refusal[kind]


def page_directory() -> Path:
    """Where the build puts the web page."""
    return Path(str(resources.files("hubbub"))) / "web"


def _serve_page(app: FastAPI, directory: Path) -> None:
    headers = PAGE_HEADERS

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> Response:
        index = directory / "index.html"
        if not index.is_file():
            return PlainTextResponse(NO_PAGE, headers=headers)
        return FileResponse(index, headers=headers | {"cache-control": "no-cache"})

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    def docs() -> Response:
        return answer_docs(directory, headers)

    def file(name: str, kept: str) -> Response:
        try:
            path = (directory / name).resolve()
            there = path.is_relative_to(directory.resolve()) and path.is_file()
        except (OSError, ValueError):  # no possible name of a file
            there = False
        if not there:
            raise NotFound(f"There is nothing at /{name[:200]}.")
        return FileResponse(path, headers=headers | {"cache-control": kept})

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str) -> Response:  # its name changes with its content
        return file(f"assets/{name}", "max-age=31536000, immutable")

    @app.get("/{name}", include_in_schema=False)
    def top(name: str) -> Response:
        return file(name, "no-cache")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    from hubbub.app import App

    settings = load()
    settings.require_a_writer()
    spawned = multiprocessing.parent_process() is not None  # by uvicorn, for --workers or for --reload
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(App(settings, http=False, several=spawned and settings.shareable))
        except Problem as refused:
            if not spawned or settings.shareable:
                raise
            raise BadRequest(f"{refused.detail} Was uvicorn to start several workers? {SEVERAL_TAKE}") from None
        stack.enter_context(_told_to_stop(running.hub.dismiss))
        yield {"hub": running.hub, "site": running.site, "meter": running.meter}


@contextmanager
def _told_to_stop(dismiss: Callable[[], None]) -> Iterator[None]:
    """Let `dismiss` run when the server around us is told to stop. It waits for open streams to end before it tells
    the lifespan so, and only we can end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def told(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(dismiss)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is told:
                signal.signal(number, handler)


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return answer_problem(problem)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return answer_problem(Internal("The request failed on our side; it was logged."))


async def _invalid(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, RequestValidationError)
    first = wrong.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return answer_problem(BadRequest(f"{place}: {first['msg']}."))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem):  # from reading the body
        return answer_problem(error.__cause__)
    if error.status_code == 404:
        return answer_problem(NotFound(f"There is nothing at {request.url.path}."))
    document = {"type": "about:blank", "title": error.detail, "status": error.status_code, "code": "bad_request"}
    document["detail"] = f"{request.method} {request.url.path}: {error.detail}."
    return answer_document(document, error.status_code, AS_IT_IS | dict(error.headers or {}))


def __getattr__(name: str) -> Any:
    """`app` is built when a server asks for it, so that importing this module for `build` stays cheap."""
    if name == "app":
        globals()["app"] = build()
        return globals()["app"]
    raise AttributeError(name)


__all__ = ["app", "build"]  # noqa: F822  (app is made on demand)
