"""TLS for both ports: one certificate, which may be replaced while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import structlog

from hubbub.core.errors import BadRequest

log = structlog.get_logger("hubbub.tls")

LOOK_EVERY_S = 60.0


class Certificate:
    """A certificate with its key. Raises BadRequest with what is wrong with them.

    `context` is what the next handshake takes; it is another one after a renewal. `expires`: until when it is good, in
    Unix seconds; None when that cannot be read.
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
        self.expires = _expires(context, self._cert)
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


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = None) -> dict[str, Any]:
    """What a client reads in the server's certificate, in a handshake within this process. Raises ssl.SSLError: they
    do not get that far."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return dict(ends[0].getpeercert() or {})


NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: of a certificate that has expired, it is to be read when."""


def _expires(server: ssl.SSLContext, cert: Path) -> float | None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME  # it is itself what is trusted
    try:
        client.load_verify_locations(cert)
        return ssl.cert_time_to_seconds(handshake(server, client)["notAfter"])
    except (OSError, KeyError, ValueError):
        return None
