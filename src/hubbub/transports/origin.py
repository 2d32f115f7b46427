"""Which pages may open a WebSocket: only our own. Browsers say which site a page came from; others do not."""

from __future__ import annotations


def same_origin(origin: str | None, host: str | None) -> bool:
    """Does the page come from where the request goes? True for a client that is no browser."""
    return origin is None or origin.partition("://")[2].lower() == (host or "").lower()
