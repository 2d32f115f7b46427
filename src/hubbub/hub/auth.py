"""Signed tokens: JWT (RFC 7519) of one algorithm, signed with a key that is made at the first start.

There is no default key. The algorithm comes from the configuration alone; what a token's header says of algorithms and
of keys is not believed (RFC 8725, sections 3.1 and 3.10).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubbub.core.errors import BadRequest, Unauthorized

ALGORITHM = "HS256"
AUDIENCE = "hubbub"
MIN_KEY_BYTES = 32
CLAIMS = ("iss", "aud", "sub", "iat", "exp", "jti")
LEEWAY_S = 60
"""How far the clocks of two nodes may be apart; when a token ends is judged by the gate, to the second."""

MAX_TOKEN = 4096
"""Characters of a token; ours have about 300."""

_SAMPLES = ("changeme", "yoursecret", "your256bit", "supersecret", "example", "sample", "placeholder", "replacethis")
_MIN_VARIETY = 5
"""Different characters a key has at least; one of 32 random bytes, in whatever spelling, has more."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says."""

    name: str
    sign_in: str
    expires: float  # Unix seconds
    generation: int  # of the account; 0 for a guest


class Auth:
    """Makes and reads signed tokens.

    Args:
        key: signs, at least 32 bytes.
        guests: may somebody speak under a name without proving it is theirs?
        expires_s: how long a token is good for.
        algorithm: HS256, HS384 or HS512.
        older: keys whose tokens are still read, so that a key can be changed without signing everybody out.
    """

    def __init__(
        self,
        key: bytes,
        *,
        guests: bool,
        expires_s: float = 30 * 86400,
        algorithm: str = ALGORITHM,
        older: Sequence[bytes] = (),
    ) -> None:
        for one in (key, *older):
            _judge(one)
        self._key = key
        self._keys = (key, *older)
        self.guests = guests
        self.expires_s = expires_s
        self._algorithm = algorithm

    def issue(self, name: str, now: float, generation: int = 0, sign_in: str = "") -> str:
        """A token that proves its bearer is `name`. `sign_in`: what it has in common with the others that were issued
        to whoever signed in then, so that all of them can be ended at once."""
        import jwt  # 0.1 s that `hubbub --help` does not need

        claims = {
            "iss": AUDIENCE,
            "aud": AUDIENCE,
            "sub": name,
            "iat": int(now),
            "exp": int(now + self.expires_s),
            "jti": secrets.token_urlsafe(9),
            "gen": generation,
            "sid": sign_in or secrets.token_urlsafe(9),
        }
        return jwt.encode(claims, self._key, algorithm=self._algorithm)

    def read(self, token: str) -> Claims:
        """What a token says. Raises Unauthorized."""
        import jwt

        if len(token) > MAX_TOKEN:
            raise Unauthorized("The token is not one of this server's.")
        for key in self._keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[self._algorithm],
                    audience=AUDIENCE,
                    issuer=AUDIENCE,
                    leeway=LEEWAY_S,
                    options={"require": list(CLAIMS)},
                )
            except jwt.ExpiredSignatureError:
                raise Unauthorized("The token has expired; sign in again.") from None
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError):
                break
            return _claims(claims)
        raise Unauthorized("The token is not one of this server's.")


def _claims(claims: dict[str, Any]) -> Claims:
    sign_in, generation = claims.get("sid", claims["jti"]), claims.get("gen", 0)
    try:
        expires = float(claims["exp"])
    except OverflowError:  # a whole number of hundreds of digits
        expires = None
    if not isinstance(sign_in, str) or type(generation) is not int or expires is None:  # a bool is an int otherwise
        raise Unauthorized("The token is not one of this server's.")
    return Claims(str(claims["sub"]), sign_in, expires, generation)


def _judge(key: bytes) -> None:
    """Raises BadRequest for a key that could be guessed."""
    unset = "Unset JWT_SECRET_KEY to have one made."
    if len(key) < MIN_KEY_BYTES:
        raise BadRequest(f"The token key has {len(key)} bytes; it needs at least {MIN_KEY_BYTES}. {unset}")
    letters = "".join(char for char in key.decode("latin-1").lower() if char.isalnum())
    if len(set(key)) < _MIN_VARIETY or any(sample in letters for sample in _SAMPLES):
        raise BadRequest(f"The token key is a sample that anybody could guess. {unset}")


def load_key(path: Path) -> bytes:
    """The signing key kept in `path`; made there, readable by its owner only, at the first call. A crash or a full disk
    leaves a whole key or none. Raises BadRequest: others can read it."""
    with contextlib.suppress(FileNotFoundError):
        return _read_key(path)
    key = secrets.token_bytes(MIN_KEY_BYTES)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename, it replaces no key that somebody else has made meanwhile
    except FileExistsError:
        return _read_key(path)
    finally:
        part.unlink(missing_ok=True)
    return key


def older_key(path: Path) -> list[bytes]:
    """The key that was in use before the one in `path`, kept beside it as `<name>.old`; none when there is no such
    file. Raises BadRequest: others can read it."""
    try:
        return [_read_key(path.with_name(path.name + ".old"))]
    except FileNotFoundError:
        return []


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadRequest(
                f"Others on this machine can read the token key {path}. Make it yours alone with `chmod 600`; if "
                "somebody may have read it, delete it, and everybody signs in again."
            )
        return file.read()
