"""Whatever the bus loses, doubles or reorders, a listener hears each thread once, in order, and each answer whole."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hubbub.core.feed import Feed, Verdict

ANSWER = "Grüße, 世界! 👋🏽 And so on, letter by letter."


def test_the_next_message_is_told_and_moves_the_position() -> None:
    feed = Feed({"lobby": 3})

    assert feed.ask("lobby", 4) is Verdict.NEXT
    assert feed.threads == {"lobby": 4}


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_what_was_heard_before_is_old_and_moves_nothing(seq: int) -> None:
    feed = Feed({"lobby": 3})

    assert feed.ask("lobby", seq) is Verdict.OLD
    assert feed.threads == {"lobby": 3}


@pytest.mark.parametrize("seq", [5, 6, 2**53])
def test_a_message_too_far_ahead_is_a_gap_and_moves_nothing(seq: int) -> None:
    feed = Feed({"lobby": 3})

    assert feed.ask("lobby", seq) is Verdict.GAP
    assert feed.threads == {"lobby": 3}


def test_each_thread_has_a_position_of_its_own() -> None:
    feed = Feed({"lobby": 3, "garden": 0})

    assert feed.ask("garden", 1) is Verdict.NEXT
    assert feed.threads == {"lobby": 3, "garden": 1}


def test_the_feed_keeps_its_own_copy_of_the_positions_it_was_given() -> None:
    threads, runs = {"lobby": 3}, {"r": (1, 2)}
    feed = Feed(threads, runs)

    feed.ask("lobby", 4)
    feed.piece("r", 1, 2, "x")

    assert threads == {"lobby": 3}
    assert runs == {"r": (1, 2)}


def test_an_answer_nobody_knew_begins_with_its_first_piece() -> None:
    feed = Feed()

    assert feed.piece("r", 1, 0, "Hel") == (0, "Hel")
    assert feed.piece("r", 1, 3, "lo") == (3, "lo")
    assert feed.runs == {"r": (1, 5)}


def test_of_a_piece_that_overlaps_only_the_new_part_is_told() -> None:
    feed = Feed(runs={"r": (1, 3)})

    assert feed.piece("r", 1, 0, "Hello") == (3, "lo")


@pytest.mark.parametrize(("offset", "text"), [(0, "Hel"), (1, "e"), (3, ""), (0, "")])
def test_a_piece_with_nothing_new_is_dropped(offset: int, text: str) -> None:
    feed = Feed(runs={"r": (1, 3)})

    assert feed.piece("r", 1, offset, text) is None
    assert feed.runs == {"r": (1, 3)}


def test_a_piece_that_would_leave_a_hole_is_dropped() -> None:
    feed = Feed(runs={"r": (1, 3)})

    assert feed.piece("r", 1, 4, "o") is None
    assert feed.runs == {"r": (1, 3)}


def test_a_higher_attempt_starts_the_answer_again() -> None:
    feed = Feed(runs={"r": (1, 3)})

    assert feed.piece("r", 2, 0, "Good") == (0, "Good")
    assert feed.runs == {"r": (2, 4)}


def test_a_higher_attempt_is_not_joined_in_the_middle() -> None:
    feed = Feed(runs={"r": (1, 3)})

    assert feed.piece("r", 2, 3, "d") is None
    assert feed.runs == {"r": (1, 3)}


def test_a_lower_attempt_is_over() -> None:
    feed = Feed(runs={"r": (2, 0)})

    assert feed.piece("r", 1, 0, "Hello") is None


def test_offsets_count_code_points_and_not_bytes() -> None:
    feed = Feed()

    feed.piece("r", 1, 0, "👋🏽")

    assert feed.piece("r", 1, 2, "é") == (2, "é")


class AListenerOfABadBus(RuleBasedStateMachine):
    """A log that grows, an answer that is written twice over, and a bus that delivers any event it likes, as often as
    it likes, in any order. The listener reads the store on GAP and asks `so_far` now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.head = 0
        self.feed = Feed({"lobby": 0})
        self.heard: list[int] = []
        self.attempt = 1
        self.written = 0
        self.pieces: list[tuple[int, int, str]] = []
        self.texts: dict[int, str] = {}
        self.attempts_heard: list[int] = []

    @rule(count=st.integers(1, 5))
    def somebody_writes(self, count: int) -> None:
        self.head += count

    @precondition(lambda self: self.head)
    @rule(data=st.data())
    def the_bus_brings_some_message(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(1, self.head))
        verdict = self.feed.ask("lobby", seq)
        if verdict is Verdict.NEXT:
            self.heard.append(seq)
        elif verdict is Verdict.GAP:
            self.read_the_store()

    def read_the_store(self) -> None:
        for seq in range(self.feed.threads["lobby"] + 1, self.head + 1):
            assert self.feed.ask("lobby", seq) is Verdict.NEXT
            self.heard.append(seq)

    @precondition(lambda self: self.written < len(ANSWER))
    @rule(length=st.integers(1, 7))
    def the_assistant_writes_on(self, length: int) -> None:
        text = ANSWER[self.written : self.written + length]
        self.pieces.append((self.attempt, self.written, text))
        self.written += len(text)

    def so_far(self) -> str:
        return ANSWER[: self.written]

    @precondition(lambda self: self.attempt < 3)
    @rule()
    def the_answer_begins_again(self) -> None:
        self.attempt += 1
        self.written = 0

    @precondition(lambda self: self.pieces)
    @rule(data=st.data())
    def the_bus_brings_some_piece(self, data: st.DataObject) -> None:
        self.hear(*data.draw(st.sampled_from(self.pieces)))

    @rule()
    def the_listener_asks_for_the_answer_so_far(self) -> None:
        self.hear(self.attempt, 0, self.so_far())

    def hear(self, attempt: int, offset: int, text: str) -> None:
        told = self.feed.piece("r", attempt, offset, text)
        if told is None:
            return
        at, new = told
        assert new
        self.attempts_heard.append(attempt)
        assert at == len(self.texts.get(attempt, "")), "a hole, or something twice"
        self.texts[attempt] = self.texts.get(attempt, "") + new

    @invariant()
    def each_message_was_heard_once_and_in_order(self) -> None:
        assert self.heard == list(range(1, self.feed.threads["lobby"] + 1))

    @invariant()
    def each_answer_heard_is_how_the_answer_begins(self) -> None:
        assert all(ANSWER.startswith(text) for text in self.texts.values())
        assert self.attempts_heard == sorted(self.attempts_heard)

    def teardown(self) -> None:
        self.read_the_store()
        self.the_listener_asks_for_the_answer_so_far()

        assert self.heard == list(range(1, self.head + 1))
        assert self.texts.get(self.attempt, "") == self.so_far()


TestAListenerOfABadBus = AListenerOfABadBus.TestCase
TestAListenerOfABadBus.settings = settings(max_examples=80, stateful_step_count=40)
