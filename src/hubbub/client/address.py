"""Where a server is, as one text: `tcp://host:port`, `ws://host:port/ws` or `wss://host/ws`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from hubbub.core.errors import BadRequest

_PORTS = {"tcp": 5000, "ws": 80, "wss": 443}
_RULE = "Write it like tcp://127.0.0.1:5000 or ws://127.0.0.1:8000/ws."


@dataclass(frozen=True, slots=True)
class Address:
    scheme: str  # tcp, ws or wss
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_address(text: str) -> Address:
    """The address in `text`; without a scheme it is TCP. Raises BadRequest with how to write it."""
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise BadRequest(f"'{text}' is not an address: {wrong}. {_RULE}") from None
    if parts.scheme not in _PORTS:
        raise BadRequest(f"'{text}' starts with '{parts.scheme}'; expected tcp, ws or wss. {_RULE}")
    if not host or port == 0:
        raise BadRequest(f"'{text}' names no {'port' if host else 'host'}. {_RULE}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadRequest(f"An address carries no name, password or token: those travel in the hello. {_RULE}")
    if parts.scheme == "tcp":
        if parts.path.strip("/"):
            raise BadRequest(f"'{text}' has a path, and TCP knows none. {_RULE}")
        return Address("tcp", host, port or _PORTS["tcp"])
    path = parts.path if parts.path.strip("/") else "/ws"
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], path)
