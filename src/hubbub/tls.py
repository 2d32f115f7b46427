"""TLS for both ports: one certificate, which may be replaced while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from hubbub.core.errors import BadRequest

log = structlog.get_logger("hubbub.tls")

HANDSHAKE_S = 10.0
LOOK_EVERY_S = 60.0


class Certificate:
    """A certificate with its key. Raises BadRequest with what is wrong with them."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load()

    def _load(self) -> None:
        try:
            self._changed = self._times()
            self.context.load_cert_chain(self._cert, self._key, password="")
        except OSError as failure:  # ssl.SSLError is one of them
            raise BadRequest(
                f"The certificate {self._cert} with the key {self._key} cannot be used: {failure.strerror or failure}."
            ) from None

    def _times(self) -> tuple[float, float]:
        return self._cert.stat().st_mtime, self._key.stat().st_mtime

    async def renew(self) -> None:
        """Until cancelled: take the files again when they have changed. Open connections keep what they have."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._times() != self._changed:
                    self._load()
                    log.info("certificate_renewed")
            except (OSError, BadRequest) as failure:
                log.error("certificate_not_renewed", reason=str(failure))
