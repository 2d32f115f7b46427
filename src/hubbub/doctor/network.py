"""Who can reach the server, how, and whether its ports are free."""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from hubbub.config import Settings
from hubbub.core.errors import BadRequest
from hubbub.doctor.data import served
from hubbub.doctor.findings import Finding, fine, note, unsafe, wrong
from hubbub.tls import Certificate, handshake

EXPIRES_SOON_S = 14 * 86_400
ANSWER_S = 5.0
"""How long whoever has a port may take to show what it is."""

EXPIRED, OTHER_NAME = 10, 62
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_HOSTNAME_MISMATCH."""


def encryption(settings: Settings) -> Iterator[Finding]:
    """Would passwords cross a network in the clear?"""
    try:
        settings.require_safe()
    except BadRequest as refused:
        yield unsafe("tls", refused.detail)
        return
    how = "encrypted" if settings.tls_cert else "behind a proxy that encrypts" if settings.behind_proxy else "loopback"
    yield fine("tls", f"It listens on {settings.host}, {how}.")


def strangers(settings: Settings) -> Iterator[Finding]:
    """Did somebody open the doors to everybody?"""
    if settings.local:
        return
    if settings.guests_allowed:
        yield unsafe(
            "guests",
            "Guests are let in from outside this machine, so anybody who reaches it speaks in the lobby under any "
            "free name; HUBBUB_GUESTS=off keeps them out.",
        )
    if settings.registration_allowed:
        yield unsafe(
            "registration",
            "Anybody who reaches it from outside this machine may make an account; HUBBUB_REGISTRATION=off leaves "
            "that to admins and `hubbub user add`.",
        )


def certificate(settings: Settings) -> Iterator[Finding]:
    """Will clients believe the certificate, for how long, and does nobody else have its key?"""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        server = Certificate(settings.tls_cert, settings.tls_key).context
    except BadRequest as refused:
        yield wrong("certificate", refused.detail)
        return
    mode = settings.tls_key.stat().st_mode
    if mode & 0o007:
        yield unsafe("certificate", f"Others on this machine can read the private key: chmod o-rwx {settings.tls_key}")
    try:
        shown = _shown(server, settings)
    except ssl.SSLCertVerificationError as refused:
        yield wrong("certificate", _refused(refused, settings))
        return
    names = [name for _, name in shown.get("subjectAltName", ())]
    left_s = ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()
    if not names:
        yield wrong(
            "certificate",
            f"The certificate {settings.tls_cert} names no host (subjectAltName), so no client accepts it.",
        )
    if left_s < EXPIRES_SOON_S:
        yield wrong(
            "certificate",
            f"The certificate {settings.tls_cert} expires in {left_s / 86_400:.0f} days; put a newer one in its place, "
            "which a running server takes within a minute.",
        )
    elif names:
        yield fine("certificate", f"The certificate is for {', '.join(names)} and good for {left_s / 86_400:.0f} days.")


def _shown(server: ssl.SSLContext, settings: Settings) -> dict[str, Any]:
    """What a client reads in the certificate, in a handshake within this process. Raises SSLCertVerificationError: it
    would not be believed even by one who trusts whoever made it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is itself what is trusted
    client.load_verify_locations(settings.tls_cert)
    host = settings.host if _is_name(settings.host) else None
    client.check_hostname = host is not None
    return handshake(server, client, host)


def _refused(refused: ssl.SSLCertVerificationError, settings: Settings) -> str:
    if refused.verify_code == EXPIRED:
        return f"The certificate {settings.tls_cert} has expired; put a newer one in its place."
    if refused.verify_code == OTHER_NAME:
        return f"The certificate {settings.tls_cert} is not for the name {settings.host}, so no client accepts it."
    return f"No client accepts the certificate {settings.tls_cert}: {refused.verify_message}."


def _is_name(host: str) -> bool:
    """Not an address; those who listen on one are reached by a name we do not know."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


# Redis


def redis(settings: Settings) -> Iterator[Finding]:
    """Can Redis be used, and by nobody who listens on the way?"""
    if not settings.redis_url:
        if not settings.worker:
            yield wrong("redis", "Nobody writes answers: HUBBUB_WORKER is off, and there is no REDIS_URL.")
        return
    from hubbub.buses.redis_pipe import Address

    try:
        address = Address(settings.redis_url)
    except BadRequest as refused:
        yield wrong("redis", refused.detail)
        return
    if address.in_the_clear:
        yield unsafe(
            "redis",
            f"Questions and answers travel to Redis at {address} in the clear; rediss:// in REDIS_URL encrypts.",
        )
    trouble = address.trouble()
    if trouble:
        yield wrong("redis", f"Redis at {address} cannot be used: {trouble}.")
    else:
        yield fine("redis", f"Redis at {address} answers.")


# Ports


def ports(settings: Settings) -> Iterator[Finding]:
    """Can the server have its ports, or has it got them?"""
    if settings.port and settings.port == settings.tcp_port:
        yield wrong("ports", f"HTTP and TCP cannot both have port {settings.port}; choose another with --tcp-port.")
        return
    ours, found = served(settings.home), False
    for setting, probe in (("port", _http), ("tcp_port", _tcp)):
        port = getattr(settings, setting)
        if not port or not (why := _occupied(settings.host, port)):
            continue
        at = f"port {port} on {settings.host}"
        flag = "--" + setting.replace("_", "-")
        what = probe(settings, port) if why == errno.EADDRINUSE else None
        if what is not None and ours:
            found = True
            yield wrong("ports", what) if what else fine("ports", f"This Hubbub is running and has {at}.")
        elif what is not None:
            yield wrong("ports", f"Another Hubbub, on other data, has {at}; choose another with {flag}.")
        elif why == errno.EADDRINUSE:
            yield wrong("ports", f"Another program has {at}; choose another with {flag}.")
        else:
            yield wrong("ports", f"It cannot have {at} ({os.strerror(why)}); choose another with {flag} or --host.")
    if ours and not found:
        yield note(
            "ports", f"A server is running on the data in {settings.home}, at other ports than these settings say."
        )
    elif not ours:
        yield fine("ports", "No server is running on these data.")


def _occupied(host: str, port: int) -> int:
    """The number of the error that a server would get there, 0 for none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return errno.EADDRNOTAVAIL
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen(1)
        except OSError as failure:
            return failure.errno or errno.EINVAL
    return 0


def _http(settings: Settings, port: int) -> str | None:
    """What is wrong with the Hubbub that has the HTTP port: an empty text for nothing; None when it is no Hubbub."""
    for tls in _kinds(settings):
        connection = _connection(settings.host, port, tls=tls)
        try:
            connection.request("GET", "/health")
            said = json.loads(connection.getresponse().read(65536))
            store = said["checks"]["store"]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            continue
        finally:
            connection.close()
        return "" if store == "ok" else f"The server is running, but cannot use its data: {store}"
    return None


def _tcp(settings: Settings, port: int) -> str | None:
    """As `_http`, for the TCP port."""
    payload = json.dumps({"type": "ping", "id": 1}).encode()
    for tls in _kinds(settings):
        try:
            with contextlib.ExitStack() as closing:
                sock = closing.enter_context(socket.create_connection((_reached(settings.host), port), ANSWER_S))
                if tls:
                    sock = closing.enter_context(_trusting().wrap_socket(sock))
                sock.sendall(len(payload).to_bytes(4, "big") + payload)
                said = closing.enter_context(sock.makefile("rb"))
                length = int.from_bytes(said.read(4), "big")
                if "type" in json.loads(said.read(min(length, 65536))):
                    return ""
        except (OSError, ValueError, TypeError):
            continue
    return None


def _kinds(settings: Settings) -> tuple[bool, bool]:
    """With TLS or without, first as the settings say; a server may still run with those from before."""
    return settings.tls_cert is not None, settings.tls_cert is None


def _connection(host: str, port: int, *, tls: bool) -> http.client.HTTPConnection:
    if tls:
        return http.client.HTTPSConnection(_reached(host), port, timeout=ANSWER_S, context=_trusting())
    return http.client.HTTPConnection(_reached(host), port, timeout=ANSWER_S)


def _trusting() -> ssl.SSLContext:
    """Only asks who is there, and tells nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reached(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
