"""Who somebody is: signed tokens, and the rule for names nobody has registered.

A token is a JWT of one algorithm, signed with a key that is made at the first start (there is no default key).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from hubbub.core.errors import BadRequest, Unauthorized

ALGORITHM = "HS256"
AUDIENCE = "hubbub"
MIN_KEY_BYTES = 32


class Auth:
    """Makes and reads tokens.

    Args:
        key: at least 32 bytes.
        guests: may somebody speak under a name without proving it is theirs?
        expires_s: how long a token is good for.
    """

    def __init__(self, key: bytes, *, guests: bool, expires_s: float = 30 * 86400, algorithm: str = ALGORITHM) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise BadRequest(
                f"The token key has {len(key)} bytes; it needs at least {MIN_KEY_BYTES}. "
                "Unset JWT_SECRET_KEY to have one made."
            )
        self._key = key
        self.guests = guests
        self.expires_s = expires_s
        self._algorithm = algorithm

    def issue(self, name: str, now: float) -> str:
        """A token that proves its bearer is `name`."""
        import jwt  # 0.1 s that `hubbub --help` does not need

        claims = {
            "iss": AUDIENCE,
            "aud": AUDIENCE,
            "sub": name,
            "iat": int(now),
            "exp": int(now + self.expires_s),
            "jti": secrets.token_urlsafe(9),
        }
        return jwt.encode(claims, self._key, algorithm=self._algorithm)

    def read(self, token: str) -> str:
        """The name a token stands for. Raises Unauthorized."""
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=AUDIENCE,
                options={"require": ["iss", "aud", "sub", "exp", "iat", "jti"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired; sign in again.") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthorized("The token is not one of this server's.") from None
        return str(claims["sub"])


def load_key(path: Path) -> bytes:
    """The signing key kept in `path`; made there, readable by its owner only, at the first call. A crash or a full disk
    leaves a whole key or none."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    key = secrets.token_bytes(MIN_KEY_BYTES)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename, it replaces no key that somebody else has made meanwhile
    except FileExistsError:
        return path.read_bytes()
    finally:
        part.unlink(missing_ok=True)
    return key
