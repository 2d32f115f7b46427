"""Certificates made as the tests run."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """One server's certificate and who signed it, as files."""

    ca: Path
    cert: Path
    key: Path

    @property
    def trusting(self) -> ssl.SSLContext:
        """A client's context that believes whoever signed it."""
        return ssl.create_default_context(cafile=self.ca)

    @property
    def flags(self) -> dict[str, Path]:
        """The settings of the server."""
        return {"tls_cert": self.cert, "tls_key": self.key}


def certificates(directory: Path, *names: str) -> Certificates:
    """For these names, by an authority of their own; for this machine's when none is given."""
    directory.mkdir(exist_ok=True)
    made = Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(made.ca))
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    made.key.write_bytes(issued.private_key_pem.bytes())
    made.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return made
