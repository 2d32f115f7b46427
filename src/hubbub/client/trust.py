"""Whose certificates are believed when a connection is encrypted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hubbub.core.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Trust:
    """By default those the system believes, for the host's own name.

    Args:
        ca: believe the authorities in this file instead (PEM).
        only: believe the first certificate in this file and no other, whatever name it is for: that of a server on
            the same machine.
    """

    ca: Path | None = None
    only: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For one connection, as the files are now. Raises BadRequest: a file cannot be used."""
        try:
            if self.only is not None:
                return _pinned(self.only)
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as wrong:  # ssl.SSLError is an OSError
            raise BadRequest(
                f"{self.only or self.ca} holds no certificates that can be used ({getattr(wrong, 'strerror', wrong)})."
            ) from None


def _pinned(file: Path) -> ssl.SSLContext:
    first = file.read_text().partition("-----END CERTIFICATE-----")
    context = ssl.create_default_context(cadata=first[0] + first[1])
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
