"""Streams of frames, right and wrong, read by Hubbub and by the `websockets` library: both must say the same.

The library's sans-I/O protocol is the oracle. It gives frames, so `Oracle` joins fragments and checks text as
its own connections do. Hubbub differs on purpose in these points, and only there:

- `early`: it refuses at the byte that breaks a rule, the oracle at the end of the frame. So both are given
  frame after frame, and for the oracle the frame that Hubbub refused is completed with zeros first.
- `minimal`: a length not in its shortest form is refused (RFC 6455 §5.2: MUST be), the oracle takes it.
- `order`: of several rules one frame breaks, Hubbub names the first on the wire; the oracle looks at the
  length, then at a close's reason, and at the rest at last. That includes a length with its top bit set.
- `closing`: a close inside a fragmented message is a close (§5.4: control frames MAY be injected there); for
  the oracle it is an error.
- `control`: control frames do not count towards the limit of a message; for the oracle they do.

HUBBUB_FUZZ is the number of streams.
"""

from __future__ import annotations

import codecs
import os
from collections import Counter
from random import Random

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.uri import parse_uri

from hubbub.core.websocket import (
    Binary,
    Broken,
    Close,
    Event,
    Ping,
    Pong,
    Receiver,
    Text,
    accept,
    binary_frame,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)

STREAMS = int(os.environ.get("HUBBUB_FUZZ", "2000"))
LIMITS = (0, 20, 130, *[400] * 4, *[70_000] * 3)
TEXTS = ("", "plain", "añ", "☃☃", "😀 and more", "x" * 124 + "é", "x" * 130, "\0\uffff\U0010ffff")
BAD_UTF8 = (
    b"\xff",
    b"\xc0\xaf",
    b"\xe2\x98",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"ok\x80",
    b"\xf0\x9f\x98",
)
CODES = (0, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535)


class Oracle:
    """The library's reading of a stream, given frame after frame."""

    def __init__(self, limit: int) -> None:
        self.protocol = Protocol(SERVER, state=OPEN, max_size=limit)
        self.decoder: codecs.IncrementalDecoder | None = None
        self.joined = b""
        self.inside = False

    def feed(self, frame: bytes) -> list[Event]:
        self.protocol.receive_data(frame)
        events: list[Event] = []
        try:
            for event in self.protocol.events_received():
                assert isinstance(event, Frame)
                events += self.read(event)
        except UnicodeDecodeError:
            return [*events, Broken(1007, "")]
        if self.protocol.parser_exc is not None:
            assert self.protocol.close_sent is not None
            events.append(Broken(self.protocol.close_sent.code, ""))
        return events

    def read(self, frame: Frame) -> list[Event]:
        data = bytes(frame.data)
        if frame.opcode is Opcode.PING:
            return [Ping(data)]
        if frame.opcode is Opcode.PONG:
            return [Pong(data)]
        if frame.opcode is Opcode.CLOSE:
            close = self.protocol.close_rcvd
            assert close is not None
            return [Close(int(close.code), close.reason)]
        if frame.opcode is not Opcode.CONT:
            self.joined = b""
            self.decoder = codecs.getincrementaldecoder("utf-8")() if frame.opcode is Opcode.TEXT else None
        self.joined += data
        self.inside = not frame.fin
        if self.decoder is not None:
            self.decoder.decode(data, frame.fin)
        if not frame.fin:
            return []
        return [Binary(self.joined) if self.decoder is None else Text(self.joined)]


def header(first: int, length: int, form: int, mask: int = 0x80) -> bytes:
    if form == 7:
        return bytes((first, mask | length))
    size, mark = (2, 126) if form == 16 else (8, 127)
    return bytes((first, mask | mark)) + length.to_bytes(size, "big")


def encode(random: Random, first: int, payload: bytes) -> bytes:
    """A frame as a client should send it, and once in a while with a header that it should not."""
    length = len(payload)
    form = 7 if length < 126 else 16 if length < 65536 else 64
    mask = 0x80
    slip = random.random()
    if slip < 0.01:
        form = random.choice((16, 64) if length < 65536 else (64,))
    elif slip < 0.02:
        length, form = random.choice(((1 << 63) - 1, 1 << 63, (1 << 64) - 1, 70_001, length + 65536)), 64
    elif slip < 0.03:
        mask = 0
    key = random.randbytes(4)
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return header(first, length, form, mask) + key + masked


def message(random: Random) -> list[tuple[int, bytes]]:
    """The frames of one message or control frame, as (first byte, payload)."""
    kind = random.choices(("text", "binary", "ping", "pong", "close"), (10, 5, 3, 2, 2))[0]
    if kind == "close":
        reason = random.choice(TEXTS).encode()[:123] if random.random() < 0.8 else random.choice(BAD_UTF8)
        code = random.choice(CODES).to_bytes(2, "big")
        return [(0x88, random.choice((b"", code, code + reason, code + reason, code[:1])))]
    if kind in ("ping", "pong"):
        size = random.choice((0, 3, 125, 125, 126)) if random.random() < 0.5 else 5
        return [(0x89 if kind == "ping" else 0x8A, random.randbytes(size))]
    if kind == "text":
        payload = "".join(random.choices(TEXTS, k=random.randrange(3))).encode()
        if random.random() < 0.06:
            payload += random.choice(BAD_UTF8) + random.choice((b"", b"more"))
    else:
        size = random.choice((0, 1, 125, 126, 140)) if random.random() < 0.98 else random.choice((65535, 65536))
        payload = random.randbytes(size)
    opcode = 1 if kind == "text" else 2
    if random.random() < 0.6:
        return [(0x80 | opcode, payload)]
    marks = sorted(random.choices(range(len(payload) + 1), k=random.randrange(1, 4)))
    pieces = [payload[a:b] for a, b in zip([0, *marks], [*marks, len(payload)], strict=True)]
    frames: list[tuple[int, bytes]] = []
    for i, piece in enumerate(pieces):
        frames.append(((0x80 if i == len(pieces) - 1 else 0) | (0 if i else opcode), piece))
        if random.random() < 0.2:
            frames.append((random.choice((0x89, 0x8A)), b"between"))
        elif random.random() < 0.02:
            frames.append((0x88, b"\x03\xe8bye"))
    return frames


def stream(random: Random) -> bytes:
    """Some messages; in half of the streams with one mutation of a frame, a byte, or where it ends."""
    frames = [frame for _ in range(random.randrange(1, 7)) for frame in message(random)]
    mutation = random.random()
    at = random.randrange(len(frames))
    if mutation < 0.06:
        del frames[at]
    elif mutation < 0.12:
        frames.insert(random.randrange(len(frames) + 1), frames[at])
    elif mutation < 0.24:
        frames[at] = (frames[at][0] ^ 1 << random.randrange(8), frames[at][1])
    data = b"".join(encode(random, first, payload) for first, payload in frames)
    at = random.randrange(len(data) + 1)
    if at == len(data):
        return data
    if 0.24 <= mutation < 0.36:
        return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]
    if 0.36 <= mutation < 0.42:
        return data[:at] + data[at + 1 :]
    if 0.42 <= mutation < 0.5:
        return data[:at]
    return data


def ours(data: bytes, limit: int, marks: list[int]) -> list[Event]:
    receiver = Receiver(limit)
    return [e for a, b in zip([0, *marks], [*marks, len(data)], strict=True) for e in receiver.feed(data[a:b])]


def measure(data: bytes, at: int) -> tuple[int, int]:
    """How long the header of the frame at `at` is, and the length it declares, as far as they are there."""
    if at + 1 == len(data):
        return 2, 0
    short = data[at + 1] & 127
    size = {126: 2, 127: 8}.get(short, 0)
    length = int.from_bytes(data[at + 2 : at + 2 + size].ljust(size, b"\0"), "big") if size else short
    return 2 + size + (4 if data[at + 1] & 128 else 0), length


def compare(data: bytes, limit: int) -> str:
    """Give both readers frame after frame and name how it ends. Fails where they differ without a reason."""
    receiver, oracle, at = Receiver(limit), Oracle(limit), 0
    while at < len(data):
        size, length = measure(data, at)
        frame = data[at : at + size + length]
        inside, joined = oracle.inside, len(oracle.joined) if oracle.inside else 0
        mine = receiver.feed(frame)
        last = mine[-1] if mine else None
        if len(frame) < size + length and isinstance(last, Broken):
            if len(frame) == 1:
                frame += b"\x80"
            size, length = measure(frame, 0)
            frame = frame.ljust(size + min(length, limit), b"\0")  # the oracle reads no more than that
        theirs = oracle.feed(frame)
        if [Broken(e.code, "") if isinstance(e, Broken) else e for e in mine] == theirs:
            if isinstance(last, Broken):
                return f"refused {last.code}"
            if isinstance(last, Close):
                return "closed"
        else:
            too_long = theirs == [Broken(1009, "")] and length > limit - joined
            return known_difference(frame, length, inside, too_long, mine, theirs)
        at += len(frame)
    return "open"


def known_difference(
    frame: bytes, length: int, inside: bool, too_long: bool, mine: list[Event], theirs: list[Event]
) -> str:
    first, opcode, last = frame[0], frame[0] & 0x0F, mine[-1] if mine else None
    wrong = isinstance(last, Broken) and last.code == 1002
    if wrong and length < {126: 126, 127: 65536}.get(frame[1] & 127, 0):
        return "minimal"
    if opcode == 8 and inside and isinstance(last, Close) and theirs == [Broken(1002, "")]:
        return "closing"
    if opcode & 8 and length <= 125 and too_long:
        return "control"
    out_of_turn = opcode < 8 and (opcode == 0) != inside
    other_rule = first & 0x70 or out_of_turn or (opcode & 8 and length > 125) or length >> 63
    if wrong and too_long and other_rule:
        return "order"
    if wrong and opcode == 8 and theirs == [Broken(1007, "")] and "close code" in str(last):
        return "order"
    return pytest.fail(f"{frame!r} inside={inside}: Hubbub says {mine}, the oracle {theirs}")


@pytest.mark.timeout(0)
def test_hubbub_and_the_oracle_read_the_same_from_any_stream_in_any_cut() -> None:
    outcomes: Counter[str] = Counter()
    kinds: Counter[type[Event]] = Counter()

    for seed in range(STREAMS):
        random = Random(seed)
        data, limit = stream(random), random.choice(LIMITS)
        try:
            outcomes[compare(data, limit)] += 1
            whole = Receiver(limit).feed(data)
            step = 1 if len(data) < 2000 else 997
            marks = sorted(random.choices(range(len(data) + 1), k=random.randrange(1, 6)))
            for cut in (range(step, len(data), step), marks):
                assert ours(data, limit, list(cut)) == whole
        except BaseException as error:
            error.add_note(f"seed {seed}, limit {limit}, stream {data[:2000].hex()}")
            raise
        kinds.update(type(event) for event in whole)

    if STREAMS >= 2000:  # else the streams were too tame to say anything
        assert min(kinds[kind] for kind in (Text, Binary, Ping, Pong, Close, Broken)) >= 50, kinds
        assert min(outcomes[f"refused {code}"] for code in (1002, 1007, 1009)) >= 50, outcomes
        assert min(outcomes[way] for way in ("open", "closed")) >= 50, outcomes
        assert min(outcomes[way] for way in ("minimal", "order", "closing", "control")) >= 1, outcomes


def test_the_librarys_client_opens_a_connection_and_reads_what_the_server_sends() -> None:
    offer = [ClientPerMessageDeflateFactory()]
    client = ClientProtocol(parse_uri("ws://localhost/ws"), extensions=offer)
    request: Request = client.connect()
    client.send_request(request)
    sent = (b"", b"a", "añ☃😀".encode(), b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536)

    client.receive_data(accept(b"GET", "1.1", [(k.encode(), v.encode()) for k, v in request.headers.raw_items()]))
    for payload in sent:
        client.receive_data(text_frame(payload) + binary_frame(payload))
    client.receive_data(ping_frame(b"are you there") + pong_frame(b"yes") + close_frame(4008, "slow"))
    _, *frames = client.events_received()

    assert client.handshake_exc is None
    assert client.extensions == []
    assert frames == [
        *(Frame(opcode, payload) for payload in sent for opcode in (Opcode.TEXT, Opcode.BINARY)),
        Frame(Opcode.PING, b"are you there"),
        Frame(Opcode.PONG, b"yes"),
        Frame(Opcode.CLOSE, (4008).to_bytes(2, "big") + b"slow"),
    ]
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (4008, "slow")


def test_what_the_librarys_client_sends_is_heard() -> None:
    client = ClientProtocol(parse_uri("ws://localhost/ws"), state=OPEN)
    client.send_text(b"plain")
    client.send_text("a☃".encode(), fin=False)
    client.send_ping(b"between")
    client.send_continuation("😀".encode(), fin=True)
    client.send_binary(b"\xff" * 70_000)
    client.send_close(1001, "going away")

    events = Receiver().feed(b"".join(client.data_to_send()))

    assert events == [
        Text(b"plain"),
        Ping(b"between"),
        Text("a☃😀".encode()),
        Binary(b"\xff" * 70_000),
        Close(1001, "going away"),
    ]
