"""Server-sent events as they really come: cut anywhere, ended in any way, with much between them that is nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.core.sse_lines import MAX_EVENT_BYTES, SseLines, TooLong

STREAM = (
    '\ufeffdata: {"a": 1}\n\n: a comment\n\ndata:\n\nid: 7\nretry: 5\n\nevent: error\ndata: über 🙂\n\n'
    "data: two\ndata: lines\n\nwhat is this\ndata:  one space goes\n\ndata: [DONE]"
).encode()
MEANS = [
    ("message", b'{"a": 1}'),
    ("error", "über 🙂".encode()),
    ("message", b"two\nlines"),
    ("message", b" one space goes"),
    ("message", b"[DONE]"),
]


def read(*chunks: bytes) -> list[tuple[str, bytes]]:
    lines = SseLines()
    found = [event for chunk in chunks for event in lines.feed(chunk)]
    return [tuple(event) for event in [*found, *lines.end()]]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_means_the_same_however_it_is_cut_and_its_lines_end(ending: bytes, size: int) -> None:
    stream = STREAM.replace(b"\n", ending)

    assert read(*(stream[at : at + size] for at in range(0, len(stream), size))) == MEANS


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: a", b"data", b":", b"event: e", b"x"])), st.data())
def test_where_the_network_cuts_is_never_seen(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))

    assert read(*(stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True))) == read(stream)


def test_an_event_is_out_as_soon_as_its_last_byte_is_in() -> None:
    lines = SseLines()

    assert lines.feed(b"data: a\n") == []
    assert lines.feed(b"\n") == [("message", b"a")]
    assert lines.feed(b"data: b\r\n\r") == [("message", b"b")]


def test_llama_cpps_older_way_to_tell_an_error_is_understood() -> None:
    assert read(b'error: {"code": 500}\n\n') == [("error", b'{"code": 500}')]


@pytest.mark.parametrize("size", [1000, 1 << 22])
def test_a_line_without_an_end_is_refused_at_a_mebibyte(size: int) -> None:
    lines = SseLines()
    for _ in range(MAX_EVENT_BYTES // size):
        lines.feed(b"x" * size)

    with pytest.raises(TooLong):
        lines.feed(b"x" * size)


def test_neither_a_long_line_nor_an_event_of_many_lines_is_longer_than_a_mebibyte() -> None:
    with pytest.raises(TooLong):
        SseLines().feed(b"data: " + b"x" * MAX_EVENT_BYTES + b"\n")
    with pytest.raises(TooLong):
        SseLines().feed((b"data: " + b"x" * 1000 + b"\n") * 2000)
    assert len(read(b"data: " + b"x" * (MAX_EVENT_BYTES - 6) + b"\n\n")[0][1]) == MAX_EVENT_BYTES - 6
