"""RFC 6455, sections 4 to 7, as sentences about what a client may send and what the server makes of it."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from hubbub.core.websocket import (
    Binary,
    Broken,
    Close,
    Event,
    Ping,
    Pong,
    Receiver,
    Refused,
    Text,
    accept,
    binary_frame,
    binary_header,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
    text_header,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX = 1 << 20


def header(first: int, length: int, form: int | None = None, mask: int = 0x80) -> bytes:
    """A header up to its length; `form` forces the 7, 16 or 64 bit length."""
    if form == 7 or (form is None and length < 126):
        return bytes((first, mask | length))
    if form == 16 or (form is None and length < 65536):
        return bytes((first, mask | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask | 127)) + length.to_bytes(8, "big")


def frame(opcode: int, payload: bytes = b"", fin: bool = True, key: bytes = b"\x37\xfa\x21\x3d") -> bytes:
    """A whole frame as a client sends it, masked byte by byte as RFC 6455 §5.3 spells it."""
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return header(opcode | fin << 7, len(payload)) + key + masked


def part(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, fin=False)


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


LONG = bytes(range(256))
SNOWMAN = "☃".encode()

HEARD: dict[str, tuple[bytes, list[Event]]] = {
    # §5.7, its examples
    "a masked text": (bytes.fromhex("818537fa213d7f9f4d5158"), [Text(b"Hello")]),
    "a text in two fragments": (part(TEXT, b"Hel") + frame(CONTINUATION, b"lo"), [Text(b"Hello")]),
    "a ping": (frame(PING, b"Hello"), [Ping(b"Hello")]),
    "a pong nobody asked for": (frame(PONG, b"Hello"), [Pong(b"Hello")]),
    "256 bytes": (frame(BINARY, LONG), [Binary(LONG)]),
    "64 KiB": (frame(BINARY, LONG * 256), [Binary(LONG * 256)]),
    # §5.2, lengths
    "an empty text": (frame(TEXT), [Text(b"")]),
    "an empty binary": (frame(BINARY), [Binary(b"")]),
    "the longest 7-bit length": (frame(TEXT, b"x" * 125), [Text(b"x" * 125)]),
    "the shortest 16-bit length": (frame(TEXT, b"x" * 126), [Text(b"x" * 126)]),
    "the longest 16-bit length": (frame(TEXT, b"x" * 65535), [Text(b"x" * 65535)]),
    "the shortest 64-bit length": (frame(TEXT, b"x" * 65536), [Text(b"x" * 65536)]),
    # §5.3, masking
    "a key of zeros": (frame(TEXT, b"Hello", key=bytes(4)), [Text(b"Hello")]),
    "a new key for every frame": (
        part(TEXT, b"He") + frame(CONTINUATION, b"llo", key=b"abcd"),
        [Text(b"Hello")],
    ),
    # §5.4, fragmentation
    "three fragments": (
        part(BINARY, b"a") + part(CONTINUATION, b"b") + frame(CONTINUATION, b"c"),
        [Binary(b"abc")],
    ),
    "empty fragments": (part(TEXT) + part(CONTINUATION) + frame(CONTINUATION), [Text(b"")]),
    "an empty last fragment": (part(TEXT, b"all") + frame(CONTINUATION), [Text(b"all")]),
    "control frames between fragments": (
        part(TEXT, b"a") + frame(PING, b"1") + part(CONTINUATION, b"b") + frame(PONG, b"2") + frame(CONTINUATION, b"c"),
        [Ping(b"1"), Pong(b"2"), Text(b"abc")],
    ),
    "a close between fragments": (part(TEXT, b"a") + closing(1001), [Close(1001, "")]),
    "two fragmented messages in a row": (
        (part(TEXT, b"a") + frame(CONTINUATION, b"b")) * 2,
        [Text(b"ab"), Text(b"ab")],
    ),
    "a text after a fragmented binary": (
        part(BINARY, b"\xff") + frame(CONTINUATION, b"\xff") + frame(TEXT, b"a"),
        [Binary(b"\xff\xff"), Text(b"a")],
    ),
    # §5.5, control frames
    "an empty ping": (frame(PING), [Ping(b"")]),
    "a ping of 125 bytes": (frame(PING, b"x" * 125), [Ping(b"x" * 125)]),
    "a close without a code": (frame(CLOSE), [Close(1005, "")]),
    "a close with a code": (closing(1000), [Close(1000, "")]),
    "a close with a reason": (closing(4001, SNOWMAN), [Close(4001, "☃")]),
    "a close with the longest reason": (closing(1000, b"x" * 123), [Close(1000, "x" * 123)]),
    "nothing after a close": (closing(1000) + frame(TEXT, b"late"), [Close(1000, "")]),
    # §5.6, data
    "text outside ASCII": (frame(TEXT, SNOWMAN), [Text(SNOWMAN)]),
    "text outside the basic plane": (frame(TEXT, "😀".encode()), [Text("😀".encode())]),
    "the last code point": (frame(TEXT, b"\xf4\x8f\xbf\xbf"), [Text(b"\xf4\x8f\xbf\xbf")]),
    "NUL and noncharacters": (frame(TEXT, b"\0\xef\xbf\xbf"), [Text(b"\0\xef\xbf\xbf")]),
    "a code point split by fragments": (
        part(TEXT, SNOWMAN[:1]) + part(CONTINUATION, SNOWMAN[1:2]) + frame(PING) + frame(CONTINUATION, SNOWMAN[2:]),
        [Ping(b""), Text(SNOWMAN)],
    ),
    "binary that is not UTF-8": (frame(BINARY, b"\xff\xfe"), [Binary(b"\xff\xfe")]),
    "several frames": (
        frame(TEXT, b"a") + frame(BINARY, b"b") + frame(PING, b"c") + closing(1000),
        [Text(b"a"), Binary(b"b"), Ping(b"c"), Close(1000, "")],
    ),
    "nothing": (b"", []),
}

# Each stream ends with the byte that breaks the rule: not one byte earlier, not one later, is it refused.
REFUSED: dict[str, tuple[bytes, int]] = {
    # §5.2, the first byte
    "the first reserved bit": (b"\xc1", 1002),
    "the second reserved bit": (b"\xa1", 1002),
    "the third reserved bit": (b"\x91", 1002),
    "a reserved bit on a ping": (b"\xc9", 1002),
    "a reserved bit on a continuation": (part(TEXT, b"a") + b"\xc0", 1002),
    **{f"opcode {code}": (bytes((0x80 | code,)), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a reserved opcode inside a message": (part(TEXT, b"a") + b"\x83", 1002),
    # §5.1, masking
    "an unmasked text": (header(0x81, 5, mask=0), 1002),
    "an unmasked ping": (header(0x89, 0, mask=0), 1002),
    # §5.2, lengths
    "125 in 16 bits": (header(0x81, 125, form=16), 1002),
    "0 in 16 bits": (header(0x82, 0, form=16), 1002),
    "65535 in 64 bits": (header(0x81, 65535, form=64), 1002),
    "0 in 64 bits": (header(0x81, 0, form=64), 1002),
    "a 64-bit length with its top bit": (header(0x82, 1 << 63), 1002),
    "a message one byte too long": (header(0x82, MAX + 1), 1009),
    "the longest length there is": (header(0x82, (1 << 63) - 1), 1009),
    "a too long message in fragments": (part(BINARY, b"abc") + header(0x00, MAX - 2), 1009),
    "a too long last fragment": (part(BINARY, b"abc") + header(0x80, MAX - 2), 1009),
    # §5.4, fragmentation
    "a continuation of nothing": (b"\x80", 1002),
    "a fragment of nothing": (b"\x00", 1002),
    "a continuation after the message ended": (part(TEXT, b"a") + frame(CONTINUATION, b"b") + b"\x80", 1002),
    "a text inside a fragmented message": (part(TEXT, b"a") + b"\x81", 1002),
    "a binary inside a fragmented message": (part(TEXT, b"a") + b"\x82", 1002),
    "a second beginning": (part(BINARY) + b"\x02", 1002),
    # §5.5, control frames
    "a fragmented close": (b"\x08", 1002),
    "a fragmented ping": (b"\x09", 1002),
    "a fragmented pong": (b"\x0a", 1002),
    "a ping of 126 bytes": (header(0x89, 126)[:2], 1002),
    "a pong with a 64-bit length": (header(0x8A, 65536)[:2], 1002),
    "a close of 126 bytes": (header(0x88, 126)[:2], 1002),
    "half a close code": (header(0x88, 1), 1002),
    "a close code not to be sent": (closing(1006), 1002),
    "a close reason that is not UTF-8": (closing(1000, b"\xff"), 1007),
    "a close reason cut inside a code point": (closing(1000, SNOWMAN[:2]), 1007),
    # §8.1, text that cannot become UTF-8: refused in the middle of its frame
    "a lone continuation byte": (frame(TEXT, b"a\x80bc")[:-2], 1007),
    "a byte that never occurs": (frame(TEXT, b"a\xffbc")[:-2], 1007),
    "an overlong slash": (frame(TEXT, b"\xc0\xafbc")[:-3], 1007),
    "an overlong code point of three bytes": (frame(TEXT, b"\xe0\x80\xafb")[:-2], 1007),
    "an overlong code point of four bytes": (frame(TEXT, b"\xf0\x80\x80\xaf")[:-2], 1007),
    # a byte late: Python's decoder judges a surrogate at its third byte, as it has a mode that lets it pass
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80b")[:-1], 1007),
    "a code point past the last": (frame(TEXT, b"\xf4\x90\x80\x80")[:-2], 1007),
    "ASCII where a code point goes on": (frame(TEXT, b"\xe2\x98abc")[:-2], 1007),
    "text that ends inside a code point": (frame(TEXT, SNOWMAN[:2]), 1007),
    "a last fragment that ends inside a code point": (part(TEXT, b"a") + frame(CONTINUATION, b"\xe2"), 1007),
    "an empty last fragment inside a code point": (part(TEXT, b"\xe2") + frame(CONTINUATION), 1007),
    "a bad byte in the first fragment": (part(TEXT, b"\xff"), 1007),
    "a code point split by fragments and then wrong": (
        part(TEXT, b"\xe2") + part(CONTINUATION, b"\x28"),
        1007,
    ),
}


def cuts(data: bytes) -> Iterator[int]:
    """Every split point; in a long stream those near its ends, where headers are, and a sample between."""
    near = 300
    if len(data) <= 2 * near:
        yield from range(len(data) + 1)
    else:
        yield from (
            *range(near),
            *range(near, len(data) - near, 4099),
            *range(len(data) - near, len(data) + 1),
        )


def byte_by_byte(receiver: Receiver, data: bytes) -> list[Event]:
    return [event for i in range(len(data)) for event in receiver.feed(data[i : i + 1])]


@pytest.mark.parametrize(("data", "events"), HEARD.values(), ids=HEARD.keys())
class TestTheServerHears:
    def test_it_whole(self, data: bytes, events: list[Event]) -> None:
        assert Receiver().feed(data) == events

    def test_it_byte_by_byte(self, data: bytes, events: list[Event]) -> None:
        assert byte_by_byte(Receiver(), data) == events

    def test_it_cut_at_every_point(self, data: bytes, events: list[Event]) -> None:
        for cut in cuts(data):
            receiver = Receiver()

            assert receiver.feed(data[:cut]) + receiver.feed(data[cut:]) == events, cut


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
class TestTheServerRefuses:
    def test_it_whole_after_hearing_what_came_before(self, data: bytes, code: int) -> None:
        *heard, last = Receiver().feed(frame(TEXT, b"before") + data)

        assert isinstance(last, Broken)
        assert last.code == code
        assert heard[0] == Text(b"before")

    def test_it_at_the_very_byte_that_is_wrong(self, data: bytes, code: int) -> None:
        receiver = Receiver()

        early = byte_by_byte(receiver, data[:-1])
        (last,) = receiver.feed(data[-1:])

        assert not any(isinstance(event, Broken) for event in early)
        assert isinstance(last, Broken)
        assert last.code == code

    def test_it_cut_at_every_point(self, data: bytes, code: int) -> None:
        for cut in cuts(data):
            receiver = Receiver()

            last = (receiver.feed(data[:cut]) + receiver.feed(data[cut:]))[-1]

            assert isinstance(last, Broken), cut
            assert last.code == code, cut

    def test_it_for_good(self, data: bytes, code: int) -> None:
        receiver = Receiver()
        receiver.feed(data)

        assert receiver.feed(frame(TEXT, b"after")) == []
        assert receiver.feed(closing(1000)) == []

    def test_it_with_a_reason_that_fits_a_close(self, data: bytes, code: int) -> None:
        broken = Receiver().feed(data)[-1]

        assert isinstance(broken, Broken)
        assert broken.reason
        assert close_frame(broken.code, broken.reason)[4:].decode() == broken.reason


def test_a_frame_is_refused_for_its_first_wrong_byte_whatever_else_is_wrong() -> None:
    reserved_bit_and_too_long = header(0xC2, MAX + 1)
    unmasked_and_too_long = header(0x82, MAX + 1, mask=0)
    bad_code_and_bad_reason = closing(999, b"\xff")

    for data in (reserved_bit_and_too_long, unmasked_and_too_long, bad_code_and_bad_reason):
        last = Receiver().feed(data)[-1]

        assert isinstance(last, Broken)
        assert last.code == 1002


def test_every_close_code_is_taken_or_refused_as_section_7_4_says() -> None:
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}

    for code in (*range(5100), 32768, 65535):
        (event,) = Receiver().feed(closing(code))

        assert isinstance(event, Close if code in allowed else Broken), code
        assert event.code == (code if code in allowed else 1002)


def test_text_is_refused_exactly_when_python_cannot_decode_it() -> None:
    tails = (b"", b"\x80", b"\x8f\xbf", b"\x90\x80", b"\xa0\x80", b"\xbf\xbf\xbf", b"\x80\x80\x80", b"a")
    for lead in range(256):
        for tail in tails:
            payload = bytes((lead,)) + tail
            try:
                payload.decode()
                expected: Event = Text(payload)
            except UnicodeDecodeError:
                expected = Broken(1007, "")

            (event,) = Receiver().feed(frame(TEXT, payload))
            last = byte_by_byte(Receiver(), frame(TEXT, payload))[-1]

            for seen in (event, last):
                assert type(seen) is type(expected), payload
                assert isinstance(seen, Broken) or seen == expected


def test_a_message_may_be_exactly_as_long_as_the_limit_whole_or_in_fragments() -> None:
    assert Receiver(5).feed(frame(TEXT, b"Hello")) == [Text(b"Hello")]
    assert Receiver(5).feed(part(TEXT, b"Hel") + frame(CONTINUATION, b"lo")) == [Text(b"Hello")]


def test_a_limit_is_for_one_message_and_does_not_count_control_frames() -> None:
    ping = frame(PING, b"x" * 125)
    data = part(TEXT, b"Hel") + ping + frame(CONTINUATION, b"lo") + ping + frame(TEXT, b"Hello")

    events = Receiver(5).feed(data)

    assert [event for event in events if isinstance(event, Text)] == [Text(b"Hello"), Text(b"Hello")]


def test_a_limit_of_zero_lets_only_empty_messages_in() -> None:
    assert Receiver(0).feed(frame(TEXT)) == [Text(b"")]
    assert [type(event) for event in Receiver(0).feed(frame(TEXT, b"a"))] == [Broken]


@pytest.mark.parametrize("length", [MAX, MAX + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_an_announced_length_allocates_nothing(length: int) -> None:
    receiver = Receiver()
    announced = header(0x81, length) + b"key!"
    tracemalloc.start()

    receiver.feed(announced)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8192


def test_ten_thousand_empty_fragments_are_not_kept() -> None:
    receiver = Receiver()
    receiver.feed(part(TEXT, b"a"))
    empty = part(CONTINUATION) * 1000
    tracemalloc.start()

    for _ in range(10):
        receiver.feed(empty)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept < 8192


def test_an_idle_receiver_holds_no_buffer_even_after_a_long_fragmented_message() -> None:
    receiver = Receiver()
    receiver.feed(part(TEXT, b"x" * 1000) + frame(CONTINUATION, b"y" * 1000))

    held = [getattr(receiver, name) for name in Receiver.__slots__]

    assert not hasattr(receiver, "__dict__")
    assert sys.getsizeof(receiver) <= 64
    assert not any(isinstance(value, bytes | bytearray | list) and value for value in held)
    assert None in held


def test_a_long_message_may_come_in_many_pieces_of_any_size() -> None:
    payload = "añ☃😀".encode() * 5000
    data = frame(TEXT, payload, key=os.urandom(4))

    for size in (1, 2, 3, 5, 1000, 1459):
        receiver = Receiver()
        events = [event for at in range(0, len(data), size) for event in receiver.feed(data[at : at + size])]

        assert events == [Text(payload)]


SENT: dict[str, tuple[Callable[[], bytes], bytes]] = {
    "a text": (lambda: text_frame(b"Hello"), b"\x81\x05Hello"),
    "an empty text": (lambda: text_frame(b""), b"\x81\x00"),
    "a binary": (lambda: binary_frame(b"\xff"), b"\x82\x01\xff"),
    "a header for 125 bytes": (lambda: text_header(125), b"\x81\x7d"),
    "a header for 126 bytes": (lambda: text_header(126), b"\x81\x7e\x00\x7e"),
    "a header for 256 bytes": (lambda: binary_header(256), b"\x82\x7e\x01\x00"),
    "a header for 65535 bytes": (lambda: binary_header(65535), b"\x82\x7e\xff\xff"),
    "a header for 64 KiB": (lambda: binary_header(65536), b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    "a long text": (lambda: text_frame(b"x" * 300), b"\x81\x7e\x01\x2c" + b"x" * 300),
    "a ping": (lambda: ping_frame(b"Hello"), b"\x89\x05Hello"),
    "a pong": (lambda: pong_frame(b"Hello"), b"\x8a\x05Hello"),
    "a close": (lambda: close_frame(1000), b"\x88\x02\x03\xe8"),
    "a close with a reason": (lambda: close_frame(4008, "slow"), b"\x88\x06\x0f\xa8slow"),
    "the answer to a close without a code": (lambda: close_frame(1005), b"\x88\x00"),
    "a reason of 123 bytes": (lambda: close_frame(1000, "x" * 123), b"\x88\x7d\x03\xe8" + b"x" * 123),
    "a reason cut": (lambda: close_frame(1000, "x" * 124), b"\x88\x7d\x03\xe8" + b"x" * 123),
    "a reason cut between code points": (
        lambda: close_frame(1000, "xx" + "☃" * 41),
        b"\x88\x7c\x03\xe8xx" + SNOWMAN * 40,
    ),
    "a reason with half a surrogate": (lambda: close_frame(1000, "a\ud800"), b"\x88\x04\x03\xe8a?"),
}


@pytest.mark.parametrize(("build", "wire"), SENT.values(), ids=SENT.keys())
def test_the_server_sends_frames_whole_and_unmasked(build: Callable[[], bytes], wire: bytes) -> None:
    assert build() == wire


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65536])
def test_the_server_never_sends_a_close_code_that_must_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        close_frame(code)


def test_the_server_never_sends_a_control_frame_of_more_than_125_bytes() -> None:
    assert len(ping_frame(b"x" * 125)) == len(pong_frame(b"x" * 125)) == 127
    for build in (ping_frame, pong_frame):
        with pytest.raises(ValueError, match="126"):
            build(b"x" * 126)


HANDSHAKE = {
    b"Host": b"chat.example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}


def handshake(**changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """The handshake of RFC 6455 §1.3 with some headers changed, or left out where None."""
    changed = {name.replace("_", "-").encode(): value for name, value in changes.items()}
    return [(name, value) for name, value in {**HANDSHAKE, **changed}.items() if value is not None]


HANDSHAKES: dict[str, list[tuple[bytes, bytes]]] = {
    "as in the RFC": handshake(),
    "with names in lower case": [(name.lower(), value) for name, value in HANDSHAKE.items()],
    "with values in other case": handshake(Upgrade=b"WebSocket", Connection=b"upgrade"),
    "among other options": handshake(Connection=b"keep-alive , Upgrade"),
    "among other protocols": handshake(Upgrade=b"h2c, websocket"),
    "in a header of its own": [(b"Connection", b"keep-alive"), *handshake()],
    "with space around the key": handshake(Sec_WebSocket_Key=b" dGhlIHNhbXBsZSBub25jZQ==\t"),
    "with offers that are not taken": [
        *handshake(),
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
        (b"Sec-WebSocket-Protocol", b"chat"),
    ],
}


@pytest.mark.parametrize("headers", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_a_handshake_is_answered_with_101_and_nothing_negotiated(
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert accept(b"GET", "1.1", headers) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


NOT_HANDSHAKES: dict[str, tuple[list[tuple[bytes, bytes]], int]] = {
    "without an upgrade": (handshake(Upgrade=None), 400),
    "to something else": (handshake(Upgrade=b"h2c"), 400),
    "to something that only contains the word": (handshake(Upgrade=b"websockets"), 400),
    "without a connection": (handshake(Connection=None), 400),
    "with a connection kept alive": (handshake(Connection=b"keep-alive"), 400),
    "without a key": (handshake(Sec_WebSocket_Key=None), 400),
    "with an empty key": (handshake(Sec_WebSocket_Key=b""), 400),
    "with a key that is not base64": (handshake(Sec_WebSocket_Key=b"dGhlIHNhbXBsZSBub25j!Q=="), 400),
    "with a key of 15 bytes": (handshake(Sec_WebSocket_Key=b"dGhlIHNhbXBsZSBub25j"), 400),
    "with a key of 17 bytes": (handshake(Sec_WebSocket_Key=b"dGhlIHNhbXBsZSBub25jZWU="), 400),
    "with a line break in the key": (handshake(Sec_WebSocket_Key=b"dGhlIHNhbXBsZSBub25jZQ==\n"), 400),
    "with two keys": ([*handshake(), (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")], 400),
    "without a version": (handshake(Sec_WebSocket_Version=None), 426),
    "of version 8": (handshake(Sec_WebSocket_Version=b"8"), 426),
    "of two versions": ([*handshake(), (b"Sec-WebSocket-Version", b"8")], 426),
    "without headers": ([], 400),
}


@pytest.mark.parametrize(("headers", "status"), NOT_HANDSHAKES.values(), ids=NOT_HANDSHAKES.keys())
def test_what_is_not_a_handshake_is_refused(headers: list[tuple[bytes, bytes]], status: int) -> None:
    with pytest.raises(Refused) as refused:
        accept(b"GET", "1.1", headers)

    assert refused.value.status == status
    assert str(refused.value) == refused.value.detail != ""
    assert ((b"Sec-WebSocket-Version", b"13") in refused.value.headers) == (status == 426)


def test_only_get_opens_a_websocket() -> None:
    for method in (b"POST", b"HEAD", b"CONNECT", b"get"):
        with pytest.raises(Refused) as refused:
            accept(method, "1.1", handshake())

        assert refused.value.status == 405
        assert refused.value.headers == ((b"Allow", b"GET"),)


def test_http_1_0_cannot_upgrade() -> None:
    with pytest.raises(Refused) as refused:
        accept(b"GET", "1.0", handshake())

    assert refused.value.status == 400
