"""The bounds of one server that an operator may move."""

from __future__ import annotations

from dataclasses import dataclass

from hubbub.core import frames


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; a rate of 0 means no limit."""

    send_rate: float = 20.0
    send_burst: float = 40.0
    hello_s: float = 10.0
    slow_s: float = 10.0
    frame_s: float = 30.0
    head_s: float = 10.0  # for the head of an HTTP request
    head_bytes: int = 16 << 10
    name_s: float = 120.0  # for a person in line mode
    text_bytes: int = frames.MAX_TEXT_BYTES
    history_turns: int = 10  # messages an assistant is shown
    history_tokens: int = 8000  # of them together, four bytes taken for one
    member_connections: int = 64  # 0 = no limit, here and below
    address_connections: int = 256
    strangers_per_minute: float = 100  # requests of an address without a token
    wrong_passwords: int = 5  # a minute, for one name from one address
    limit_loopback: bool = False  # hold loopback to what an address may do
    http_connections: int = 0  # of everybody together
