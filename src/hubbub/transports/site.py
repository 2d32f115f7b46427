"""Where this server stands in the web: which names it answers to, whose pages may act in it, who a visitor is.

A browser adds somebody's cookie to whatever any page sends, and lets any page reach a server on its own machine. So a
page may act here only when it comes from here, or from an origin that was named; and a server that only this machine
can reach answers only to names that mean this machine, or a page could give it one of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from hubbub.core.errors import BadRequest

COOKIE = "hubbub"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OURS = ("/api/", "/conversations/", "/generate", "/messages")
"""What nobody links to: here a `GET` also tells what is somebody's own, or does something."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]*))(?::[0-9]*)?")


class Misdirected(BadRequest):
    """The request is for a server of another name."""

    status = 421


class ForeignPage(BadRequest):
    """A page of another site asks."""

    status = 403


@dataclass(frozen=True, slots=True)
class Site:
    """Args:
    origins: pages of other sites that may act here, each as scheme://host[:port].
    local: does it listen on loopback alone, with no proxy before it?
    proxied: does what a proxy says of scheme and address count?
    secure: is its own HTTP port encrypted?
    root: the path a proxy has it under, such as /hubbub; "" for none.
    """

    origins: frozenset[str] = frozenset()
    local: bool = False
    proxied: bool = False
    secure: bool = False
    root: str = ""

    def scheme(self, headers: Mapping[str, str]) -> str:
        """http or https, as the visitor sees it. `headers` by lower-case name, here and below."""
        if self.proxied:
            said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            return "https" if said in ("https", "wss") else "http"
        return "https" if self.secure else "http"

    def address(self, peer: str, headers: Mapping[str, str]) -> str:
        """Where a visitor is. A proxy adds whom it heard it from to the end; what came before may be anybody's word."""
        if self.proxied:
            said = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            try:
                return str(ipaddress.ip_address(said.strip("[]")))
            except ValueError:
                return peer
        return peer

    def require_name(self, headers: Mapping[str, str]) -> None:
        """Raises Misdirected: the request is for a name that this server does not have."""
        host = headers.get("host", "").lower()
        if self.local and not (
            _means_this_machine(_name_of(host)) or any(o.endswith(f"://{host}") for o in self.origins)
        ):
            raise Misdirected(
                f"This server listens for its own machine alone and does not answer to the name {host[:100]!r}. Name "
                "it in HUBBUB_ORIGINS, or set HUBBUB_BEHIND_PROXY=1 when a proxy passes requests on to it."
            )

    def require_page(self, headers: Mapping[str, str]) -> None:
        """Raises ForeignPage: a page of another site asks. Clients that are no browser do not say where they are."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        if origin.lower() != f"{self.scheme(headers)}://{headers.get('host', '')}".lower():
            raise ForeignPage(
                f"Pages of {origin[:200]} may not act here. Name that origin in HUBBUB_ORIGINS if they are yours."
            )

    def require(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """What every request has to meet. Raises Misdirected, ForeignPage. Anybody may link to the page; what lies
        behind it (`OURS`) is asked for by our own pages, and `GET` may make somebody known here, too."""
        self.require_name(headers)
        if method not in SAFE or path.startswith(OURS):
            self.require_page(headers)
            if headers.get("sec-fetch-site") in ("cross-site", "same-site") and "origin" not in headers:
                raise ForeignPage("Pages of another origin may not ask for this.")


@dataclass(frozen=True, slots=True)
class Visit:
    """A WebSocket that is being opened. `headers` by lower-case name; `connections` is where its door is registered for
    shutdown; see `SocketDoor` for the rest."""

    path: str
    headers: Mapping[str, str]
    connections: set[Any]
    address: str
    counted: str


def below(path: str, root: str) -> str:
    """A path without the `root` in front of it, which some proxies take away and some leave there."""
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def cookie_name(headers: Mapping[str, str]) -> str:
    """What the cookie is called: with the port, as browsers give one to every server of a host."""
    _, colon, port = headers.get("host", "").rpartition(":")
    return f"{COOKIE}_{port}" if colon and port.isdecimal() else COOKIE


def fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers by lower-case name; of one that is given twice, the last, but all cookies, which HTTP/2 may split
    (RFC 9113, section 8.2.3). Raises BadRequest: it is for two servers at once (RFC 9112, section 3.2)."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        if name == "host" and name in found:
            raise BadRequest("A request has one Host header.")
        found[name] = f"{found[name]}; {text}" if name == "cookie" and name in found else text
    return found


def cookie(headers: Mapping[str, str]) -> str | None:
    """The token in the session cookie. What other programs of this host have put beside it is not read: much of it
    follows no grammar. Of two, the first: browsers begin with the longer path, and then with the older one."""
    wanted = cookie_name(headers)
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            return value or None
    return None


def bearer(headers: Mapping[str, str]) -> str | None:
    """The token of an `Authorization: Bearer …` header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def set_cookie(name: str, token: str, max_age_s: float, *, secure: bool, root: str = "") -> str:
    """The `Set-Cookie` that keeps somebody signed in in a browser: no script can read it, no other site's page sends
    it. An empty token ends it."""
    made: SimpleCookie = SimpleCookie()
    made[name] = token
    morsel = made[name]
    morsel["path"] = f"{root}/"
    morsel["httponly"] = True
    morsel["samesite"] = "Strict"
    morsel["max-age"] = int(max_age_s) if token else 0
    if secure:
        morsel["secure"] = True
    return morsel.OutputString()


def _name_of(host: str) -> str:
    """The name in a Host header; what is no such header (RFC 9110, section 7.2) is nobody's name as it is."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else host


def _means_this_machine(name: str) -> bool:
    """An address cannot be given another meaning; neither can `localhost` (RFC 6761, section 6.3)."""
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
