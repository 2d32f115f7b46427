"""The whole server as one object that tests can build: `async with App(settings) as app`.

Opens in order: the home directory, the store, the bus, the hub, the worker, the TCP port, the HTTP port. Closes in the
opposite order. It builds everything and owns every lifetime; nothing below it knows what it is wired to.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from hubbub import __version__
from hubbub.config import Settings
from hubbub.core.nouns import Assistant
from hubbub.core.ports import Engine, Store
from hubbub.hub.auth import Auth, load_key, older_key
from hubbub.hub.conversing import GENERATE
from hubbub.hub.hub import Hub
from hubbub.hub.limits import Limits
from hubbub.hub.meter import Gauge, Meter, Others
from hubbub.models import EVERY, default_engine, engines
from hubbub.process import BACKLOG, audit_log, listening, logged, prepare_home
from hubbub.tls import Certificate
from hubbub.transports.encrypted import EncryptedPort
from hubbub.transports.site import Site
from hubbub.transports.tcp import Threshold
from hubbub.workers import bus_of, worker_of

if TYPE_CHECKING:
    import uvicorn

log = structlog.get_logger("hubbub.app")

OPENAI = Assistant(
    name="openai",
    instructions="You are openai, an assistant in a conversation of several people. Answer briefly and kindly.",
    personalities={
        "happy": "You are in a splendid mood, and it shows.",
        "angry": "You are in a bad temper, and it shows; you still help.",
        "spanish": "You answer in Spanish, whatever language you are asked in.",
    },
)
"""The assistant that comes with the server."""

DRAIN_S = 5
KEEPALIVE_S = 5
PROXIED_KEEPALIVE_S = 75
"""How long an idle HTTP connection is kept. A proxy keeps its own for a minute (nginx), and a request it sends on one
that we are just closing is lost: so it has to be the first who gives up."""


class App:
    """One server process.

    Args:
        http: False when another ASGI server brings the HTTP port.
        engine: writes the answers; the built-in demo model by default.
        store: keeps the truth; the settings' by default.
        tcp, web: sockets that listen already, to be used for its two ports.
        several: is it one of several processes that are one server? Then the TCP port is shared with the others.
        keepalive_s: how long an idle HTTP connection is kept; by default as long as makes sense.
        others: what the meter is told of those.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        http: bool = True,
        engine: Engine | None = None,
        store: Store | None = None,
        tcp: socket.socket | None = None,
        web: socket.socket | None = None,
        several: bool = False,
        keepalive_s: float | None = None,
        others: Others | None = None,
    ) -> None:
        self.settings = settings
        self._given_store = store
        self._http = http
        self._tcp = tcp
        self._web = web
        self._several = several
        self._keepalive_s = keepalive_s
        self._others = others
        self._engine = engine
        self._doors: list[Callable[[], None]] = []
        self._open = contextlib.AsyncExitStack()
        self.http_port = 0
        self.tcp_port = 0

    async def __aenter__(self) -> App:
        try:
            await self._start()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _start(self) -> None:
        settings = self.settings
        settings.require_safe()
        # Ports first: a port in use should be said before anything is made.
        tcp = self._tcp or listening(settings.host, settings.tcp_port, "tcp_port", shared=self._several)
        self._open.callback(tcp.close)
        web = self._web or (listening(settings.host, settings.port, "port") if self._http else None)
        if web is not None:
            self._open.callback(web.close)
        prepare_home(settings.home)
        self.meter = Meter(version=__version__, home=settings.home, logged=logged, others=self._others)
        store = self._given_store or self._store()
        await store.open()
        self._open.push_async_callback(store.close)
        bus = bus_of(settings)
        await bus.open()
        self._open.push_async_callback(bus.close)
        writers = {"demo": self._engine} if self._engine else engines(settings)
        generate = GENERATE if GENERATE.engine in writers else replace(GENERATE, engine="")
        self.hub = Hub(
            store,
            bus,
            self._auth(),
            assistants=[OPENAI] if settings.openai else [],
            # Where it is turned off nobody else is to be called so, lest they answer in its place at /chat.
            unlisted=[generate] if settings.openai else [generate, OPENAI],
            engines=EVERY if settings.redis_url else frozenset(writers),
            engine="demo" if self._engine else default_engine(settings),
            limits=Limits(
                send_rate=settings.send_rate,
                send_burst=settings.send_burst,
                hello_s=settings.hello_s,
                name_s=settings.name_s,
                frame_s=settings.frame_s,
                head_s=settings.head_s,
                head_bytes=settings.head_bytes,
                slow_s=settings.slow_s,
                text_bytes=settings.text_bytes,
                history_turns=settings.max_history_length,
                history_tokens=settings.max_history_tokens,
                member_connections=settings.member_connections,
                address_connections=settings.address_connections,
                wrong_passwords=settings.wrong_passwords,
                strangers_per_minute=settings.strangers_per_minute,
                limit_loopback=settings.limit_loopback,
                http_connections=settings.http_connections,
            ),
            registration=settings.registration_allowed,
            audit=audit_log(settings.logs, rotates=not self._several),
            version=__version__,
            meter=self.meter,
        )
        self.site = Site(
            origins=settings.origins or frozenset(),
            local=settings.local,
            proxied=settings.behind_proxy,
            secure=settings.tls_cert is not None,
            root=settings.root_path,
        )
        await self.hub.start()
        self._open.push_async_callback(self.hub.stop)
        if settings.worker:
            for name, engine in writers.items():
                work = self.hub.spawn(worker_of(settings, bus, name, engine, self.meter).keep(), standing=True)
                self._open.push_async_callback(self._stop_worker, work)
        loop = asyncio.get_running_loop()
        tls = None
        if settings.tls_cert is not None:
            tls = Certificate(settings.tls_cert, settings.tls_key)
            self.hub.spawn(tls.renew(), standing=True)
            self.meter.gauges.append(partial(_expiry, tls))
        await self._serve_tcp(tcp, tls)
        self.tcp_port = tcp.getsockname()[1]
        if web is not None:
            self.http_port = web.getsockname()[1]
            # TCP is answered already; HTTP takes half a second longer, nearly all of it to import FastAPI.
            await loop.run_in_executor(None, _import_http)
            await self._serve_http(web, tls)
        self._open.push_async_callback(self.hub.drain)
        if self._web is not None:  # whoever comes now comes to those we share it with
            for close in self._doors:
                self._open.callback(close)

    def _store(self) -> Store:
        settings = self.settings
        if settings.database_uri:
            from hubbub.stores.mongo import MongoStore

            return MongoStore(
                settings.database_uri,
                settings.database_name,
                committed=self.meter.committed,
                alone=not settings.shareable,
            )
        if settings.store == "memory":
            from hubbub.stores.memory import MemoryStore

            return MemoryStore()
        from hubbub.stores.sqlite import DATABASE, SqliteStore

        return SqliteStore(settings.home / DATABASE, committed=self.meter.committed)

    def _auth(self) -> Auth:
        settings = self.settings
        file = settings.home / "secret.key"
        key = settings.jwt_secret_key.encode() or load_key(file)
        previous = settings.jwt_previous_secret_key.encode()
        return Auth(
            key,
            older=[previous] if previous else older_key(file),
            guests=settings.guests_allowed,
            expires_s=settings.jwt_expires_in_hours * 3600,
            algorithm=settings.jwt_algorithm,
        )

    @staticmethod
    async def _stop_worker(task: asyncio.Task[Any]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def _serve_tcp(self, sock: socket.socket, tls: Certificate | None) -> None:
        if tls is not None:
            port = EncryptedPort(self.hub, sock, lambda: tls.context, lambda counted: Threshold(self.hub, counted))
            self._open.callback(port.close)
            self._doors.append(port.close)
            return
        server = await asyncio.get_running_loop().create_server(lambda: Threshold(self.hub), sock=sock, backlog=BACKLOG)
        self._open.callback(server.close)
        self._doors.append(server.close)

    async def _serve_http(self, sock: socket.socket, tls: Certificate | None) -> None:
        import uvicorn

        from hubbub.asgi import build
        from hubbub.compat.lobby import lobby_door
        from hubbub.transports import sse
        from hubbub.transports.http import HttpPort, http_port, websocket_door

        config = uvicorn.Config(
            build(self.settings),
            http=HttpPort,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=self._keepalive_s
            or (PROXIED_KEEPALIVE_S if self.settings.behind_proxy else KEEPALIVE_S),  # type: ignore[arg-type]
            backlog=BACKLOG,
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        server.lifespan.state.update(
            {
                "hub": self.hub,
                "site": self.site,
                "meter": self.meter,
                "upgrades": (websocket_door, lobby_door),
            }
        )
        await server.startup(sockets=[] if tls else [sock])
        self._doors += [one.close for one in server.servers]
        self.hub.spawn(sse.beat(server.server_state.connections), standing=True)
        self._open.push_async_callback(self._stop_http, server, sock, self.hub.spawn(server.main_loop(), standing=True))
        if tls is not None:
            port = EncryptedPort(
                self.hub,
                sock,
                lambda: tls.context,
                lambda counted: http_port(server, counted),
                counts=not self.settings.behind_proxy,
            )
            self._open.callback(port.close)
            self._doors.append(port.close)

    async def _stop_http(self, server: uvicorn.Server, sock: socket.socket, ticking: asyncio.Task[None]) -> None:
        server.should_exit = True
        await asyncio.wait([ticking])
        await server.shutdown(sockets=[sock])


def _expiry(tls: Certificate) -> Iterator[Gauge]:
    if tls.expires is not None:
        yield Gauge(
            "certificate_expiry_seconds", "Until when the certificate is good, in Unix seconds", tls.expires, adds=False
        )


def _import_http() -> None:
    for module in ("uvicorn", "hubbub.asgi", "hubbub.transports.http"):
        importlib.import_module(module)


def import_parts(settings: Settings) -> None:
    """Import what an App with these settings imports as it starts: whoever forks some of them does it once for all."""
    _import_http()
    importlib.import_module("hubbub.stores.mongo" if settings.database_uri else "hubbub.stores.sqlite")
    importlib.import_module("hubbub.buses.redis" if settings.redis_url else "hubbub.buses.local")
