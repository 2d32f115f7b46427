"""What a client can tell of a token without its key."""

from __future__ import annotations

import base64
import json


def lifetime_s(token: str) -> float | None:
    """Seconds a signed token (RFC 7519) is good for, from its making on; None for any other."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) - float(claims["iat"])
    except (ValueError, KeyError, TypeError):
        return None
