"""Where a server is, as one text: `tcp://host:port`, `ws://host:port/ws`, or encrypted `tls://host:port`,
`wss://host/ws`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from hubbub.core.errors import BadRequest

_PORTS = {"tcp": 5000, "tls": 5000, "ws": 80, "wss": 443}
_RULE = "Write it like tcp://127.0.0.1:5000 or wss://chat.example.com/ws."


@dataclass(frozen=True, slots=True)
class Address:
    scheme: str  # tcp, tls, ws or wss
    host: str
    port: int
    path: str = ""

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("tls", "wss")

    @property
    def framed(self) -> bool:
        """Are frames prefixed with their length, with no WebSocket around them?"""
        return self.scheme in ("tcp", "tls")

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
        raise BadRequest(f"'{text}' starts with '{parts.scheme}'; expected tcp, tls, ws or wss. {_RULE}")
    if not host or port == 0:
        raise BadRequest(f"'{text}' names no {'port' if host else 'host'}. {_RULE}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadRequest(f"An address carries no name, password or token: those travel in the hello. {_RULE}")
    if parts.scheme in ("tcp", "tls"):
        if parts.path.strip("/"):
            raise BadRequest(f"'{text}' has a path, and TCP knows none. {_RULE}")
        return Address(parts.scheme, host, port or _PORTS[parts.scheme])
    path = parts.path if parts.path.strip("/") else "/ws"
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], path)
