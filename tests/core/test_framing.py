"""Payloads come out of the bytes as they went in, wherever the network cut them, and a claimed length costs nothing."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.core.errors import TooLarge
from hubbub.core.framing import MAX_FRAME_BYTES, Overlong, Splitter, prefixed

payload_lists = st.lists(st.binary(max_size=20), max_size=6)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def split(pieces: list[bytes], limit: int = MAX_FRAME_BYTES) -> list[bytes]:
    splitter = Splitter(limit)
    return [payload for piece in pieces for payload in splitter.feed(piece)]


def test_the_length_is_four_bytes_big_endian() -> None:
    assert prefixed(b"hi") == b"\0\0\0\2hi"
    assert prefixed(b"x" * 259)[:4] == b"\0\0\1\3"


@given(payloads=payload_lists, data=st.data())
def test_any_payloads_cut_anywhere_come_out_whole(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(prefixed, payloads))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))

    assert split(cut(stream, cuts)) == payloads


def test_every_two_cuts_of_a_stream_give_the_same_payloads() -> None:
    payloads = [b"", b"a", b"0123456789", b"", b"zz"]
    stream = b"".join(map(prefixed, payloads))

    for one in range(len(stream) + 1):
        for other in range(one, len(stream) + 1):
            assert split(cut(stream, [one, other])) == payloads


def test_a_stream_may_arrive_byte_by_byte() -> None:
    payloads = [b"hello", b"", b"world"]

    assert split([bytes([byte]) for byte in b"".join(map(prefixed, payloads))]) == payloads


@pytest.mark.parametrize("arrived", [b"\0", b"\0\0\0\2", b"\0\0\0\2h", b"\0\0\0\1x\0"])
def test_a_frame_that_has_begun_is_unfinished(arrived: bytes) -> None:
    splitter = Splitter()

    splitter.feed(arrived)

    assert splitter.unfinished


@pytest.mark.parametrize("arrived", [b"", b"\0\0\0\0", b"\0\0\0\2hi", b"\0\0\0\1x\0\0\0\1y"])
def test_between_frames_nothing_is_unfinished(arrived: bytes) -> None:
    splitter = Splitter()

    splitter.feed(arrived)

    assert not splitter.unfinished


def test_a_frame_at_the_limit_is_accepted() -> None:
    assert split([prefixed(b"x" * 16)], limit=16) == [b"x" * 16]
    assert split([prefixed(b"x" * 16)[:5], b"x" * 15], limit=16) == [b"x" * 16]
    assert split([prefixed(bytes(MAX_FRAME_BYTES))]) == [bytes(MAX_FRAME_BYTES)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_frame_one_above_the_limit_is_refused_with_both_numbers(size: int) -> None:
    stream = prefixed(b"x" * 17)

    with pytest.raises(TooLarge, match="17 bytes was announced; the limit is 16 bytes"):
        split([stream[i : i + size] for i in range(0, len(stream), size)], limit=16)


def test_four_gigabytes_are_refused_at_the_fourth_byte() -> None:
    splitter = Splitter()
    for _ in range(3):
        assert splitter.feed(b"\xff") == []

    with pytest.raises(Overlong):
        splitter.feed(b"\xff")


def test_a_claimed_length_allocates_nothing() -> None:
    splitter = Splitter()
    tracemalloc.start()
    try:
        with pytest.raises(Overlong):
            splitter.feed(b"\xff\xff\xff\xff")
        splitter.feed(b"\x00\x0f\xff\xff")  # an allowed megabyte that has not come yet
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 64 << 10


@given(payloads=payload_lists, data=st.data())
def test_the_frames_before_a_broken_one_are_not_lost(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(prefixed, payloads)) + b"\xff\xff\xff\xff"
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    splitter = Splitter()
    got: list[bytes] = []

    for piece in cut(stream, cuts):
        try:
            got += splitter.feed(piece)
        except Overlong as refused:
            got += refused.before
            break
    else:
        pytest.fail("The broken frame was not noticed.")

    assert got == payloads
