"""What transports/http.py takes for granted of uvicorn and httptools. When one of these fails after an upgrade, read
`HttpPort` against the new `HttpToolsProtocol` before anything else."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hubbub.transports.http import HttpPort
from support.raw import Wire, request
from support.server import House


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def empty(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def protocol(kind: type[HttpToolsProtocol] = HttpToolsProtocol) -> HttpToolsProtocol:
    config = uvicorn.Config(empty, http=kind, ws="none", lifespan="off", log_config=None)
    return kind(config=config, server_state=ServerState(), app_state={"key": "value"})


def test_our_port_is_uvicorns_httptools_protocol() -> None:
    assert HttpPort.__mro__[1] is HttpToolsProtocol
    assert issubclass(HttpToolsProtocol, asyncio.Protocol)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("connection_made", ["transport"]),
        ("connection_lost", ["exc"]),
        ("data_received", ["data"]),
        ("on_message_begin", []),
        ("on_url", ["url"]),
        ("on_header", ["name", "value"]),
        ("on_headers_complete", []),
        ("on_body", ["body"]),
        ("on_message_complete", []),
        ("on_response_complete", []),
        ("send_400_response", ["msg"]),
        ("shutdown", []),
        ("_unset_keepalive_if_required", []),
        ("_get_upgrade", []),
        ("_should_upgrade", []),
    ],
)
def test_the_methods_we_replace_or_call_are_there(method: str, parameters: list[str]) -> None:
    found = inspect.signature(getattr(HttpToolsProtocol, method))
    ours = inspect.signature(getattr(HttpPort, method))

    assert list(found.parameters)[1:] == parameters
    assert list(ours.parameters) == list(found.parameters)


def test_what_we_add_does_not_hide_something_of_uvicorns() -> None:
    added = {name for name in vars(HttpPort) if not name.startswith("__")}
    known = set(vars(HttpToolsProtocol))
    replaced = {
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "shutdown",
        "_should_upgrade",
        "_start_asgi_task",
    }

    assert added & known == replaced
    assert not added & set(vars(protocol())) - replaced


async def test_the_attributes_we_read_are_there() -> None:
    port = protocol()

    assert port.cycle is None
    assert port.parser is not None
    assert port.loop is asyncio.get_running_loop()
    assert port.app_state == {"key": "value"}
    assert port.connections == set()
    assert port.transport is None
    pipe = Pipe()
    port.connection_made(pipe)
    assert port.transport is pipe
    assert port.connections == {port}


async def test_a_request_leaves_the_traces_we_look_for() -> None:
    port = protocol()
    pipe = Pipe()
    port.connection_made(pipe)
    port.data_received(b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Name: Value\r\n\r\n")

    assert port.url == b"/a%20b?c=d"
    assert port.headers == [(b"host", b"x"), (b"x-name", b"Value")]
    assert port.scope["method"] == "GET"
    assert port.scope["http_version"] == "1.1"
    assert port.cycle.response_complete is False
    assert port.cycle.keep_alive is True
    await asyncio.gather(*port.tasks)
    assert port.cycle.response_complete is True
    assert pipe.written.startswith(b"HTTP/1.1 204")
    port.connection_lost(None)


async def test_an_upgrade_is_recognised_and_gives_what_lies_behind_the_head() -> None:
    port = protocol()
    port.connection_made(Pipe())
    data = b"GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\nbehind"

    with pytest.raises(httptools.HttpParserUpgrade) as raised:
        port.parser.feed_data(data)

    assert data[raised.value.args[0] :] == b"behind"
    assert port.parser.should_upgrade()
    assert port.parser.get_method() == b"GET"
    assert port._get_upgrade() == b"websocket"
    port.connection_lost(None)


def test_what_the_parser_raises_is_one_family_but_for_the_upgrade() -> None:
    assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)
    assert issubclass(httptools.HttpParserInvalidMethodError, httptools.HttpParserError)
    assert issubclass(httptools.HttpParserInvalidURLError, httptools.HttpParserError)


def test_the_server_takes_our_class_and_the_state_we_give_it() -> None:
    config = uvicorn.Config(empty, http=HttpPort, ws="none", lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)

    assert config.http_protocol_class is HttpPort
    assert isinstance(server.lifespan.state, dict)
    for method in ("startup", "main_loop", "shutdown"):
        assert inspect.iscoroutinefunction(getattr(server, method))
        assert "sockets" in inspect.signature(server.startup).parameters
        assert "sockets" in inspect.signature(server.shutdown).parameters


async def test_a_keep_alive_connection_serves_many_requests(house: House) -> None:
    async with await Wire.open(house.port) as wire:
        for _ in range(20):
            wire.send(request("GET", "/healthz"))
            assert (await wire.response()).body == b"ok"


async def test_a_large_response_is_written_whole(house: House) -> None:
    async with house.http(user="reader") as http, await house.talk("framed", "writer") as writer:
        thread = await writer.group("reader")
        for _ in range(7):
            await writer.post(thread, "x" * 65536)
        page = (await http.get(f"/api/threads/{thread}/messages")).json()

    assert [len(message["text"]) for message in page["messages"]] == [65536] * 7
