"""TLS for both ports: one certificate, which may be replaced while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from hubbub.core.errors import BadRequest

log = structlog.get_logger("hubbub.tls")

LOOK_EVERY_S = 60.0


class Certificate:
    """A certificate with its key. Raises BadRequest with what is wrong with them.

    `context` is what the next handshake takes; it is another one after a renewal.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._load()

    def _load(self) -> None:
        """Into a context of its own: one that is in use loses the key it has when a certificate comes in whose key has
        not been written yet, and then nobody can connect."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            marks = self._marks()
            context.load_cert_chain(self._cert, self._key, password="")
        except OSError as failure:  # ssl.SSLError is one of them
            raise BadRequest(
                f"The certificate {self._cert} with the key {self._key} cannot be used: {failure.strerror or failure}."
            ) from None
        self.context = context
        self._loaded = marks  # from before: what was replaced meanwhile is seen at the next look

    def _marks(self) -> list[tuple[int, int, int]]:
        """What differs once one of the files has been written or replaced; times alone are too coarse."""
        return [(stat.st_ctime_ns, stat.st_ino, stat.st_size) for stat in (self._cert.stat(), self._key.stat())]

    async def renew(self) -> None:
        """Until cancelled: take the files again when they have changed. Open connections keep what they have; while
        the new files cannot be used, new ones get what was there before."""
        said = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._marks() != self._loaded:
                    self._load()
                    log.info("certificate_renewed")
                said = ""
            except (OSError, BadRequest) as failure:
                if str(failure) != said:
                    said = str(failure)
                    log.error("certificate_not_renewed", reason=said)
