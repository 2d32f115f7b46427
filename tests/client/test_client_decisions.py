"""What the client decides without a server: how long to wait, what to say again, where to go on."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.client.address import parse_address
from hubbub.client.backoff import LONGEST_S, STEADY_S, Backoff
from hubbub.client.decode import Unreadable, decode, problem_of
from hubbub.client.hearing import Hearing
from hubbub.client.ledger import Ledger
from hubbub.client.marks import Marks
from hubbub.core import errors, frames, wire
from hubbub.core.errors import BadRequest, Internal, RateLimited, Shutdown
from hubbub.core.nouns import Message


class Most(random.Random):
    """Chance that always takes the longest."""

    def uniform(self, a: float, b: float) -> float:
        return b


def send(text: str, key: str | None = "k") -> frames.MessageSend:
    return frames.MessageSend(text=text, to="bob", key=key and f"{key}-{text}")


def texts(asked: list[frames.Request]) -> list[str]:
    return [frame.text for frame in asked if isinstance(frame, frames.MessageSend)]


def message(seq: int, thread: str = "t") -> frames.MessageFrame:
    said = Message(
        id=f"{seq}-x",
        thread=thread,
        seq=seq,
        sender="bob",
        destination="alice",
        type="chat",
        text=str(seq),
        timestamp="",
        metadata={},
    )
    return frames.MessageFrame(thread=thread, seq=seq, message=said)


def delta(offset: int, text: str, attempt: int = 1, run: str = "r") -> frames.RunDelta:
    return frames.RunDelta(run=run, thread="t", assistant="openai", attempt=attempt, offset=offset, text=text)


def ended(run: str = "r") -> frames.RunCompleted:
    return frames.RunCompleted(run=run, thread="t", assistant="openai", attempt=1, message="1-x", seq=1)


def welcome(epoch: str = "one", **seen: int) -> frames.Welcome:
    return frames.Welcome(
        user="alice",
        token="t",
        session="s",
        server={"epoch": epoch},
        threads=[
            frames.ThreadView(id=id, title="", members=[], member_count=2, head=99, public=False, seen=seq)
            for id, seq in seen.items()
        ],
        limits={},
    )


# Waiting


def test_each_failure_doubles_the_longest_wait_up_to_the_cap() -> None:
    backoff = Backoff(Most())

    waits = [backoff.next_s() for _ in range(8)]

    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_a_wait_is_anything_between_nothing_and_the_longest() -> None:
    rand = random.Random(1)

    first = [Backoff(rand).next_s() for _ in range(1000)]

    assert min(first) < 0.02
    assert max(first) > 0.48
    assert 0.2 < sum(first) / 1000 < 0.3


def test_nobody_comes_back_before_the_server_said() -> None:
    assert all(2.0 <= Backoff(random.Random(seed)).next_s(2.0) <= 2.5 for seed in range(100))
    assert Backoff(Most()).next_s(1e9) == LONGEST_S + 0.5


def test_a_connection_that_held_ends_the_row_of_failures_and_a_short_one_does_not() -> None:
    backoff = Backoff(Most())
    for _ in range(4):
        backoff.next_s()

    backoff.held(STEADY_S - 1)
    assert backoff.next_s() == 8
    backoff.held(STEADY_S)
    assert backoff.next_s() == 0.5


# Asking


def test_what_was_not_answered_is_said_again_with_the_same_keys_in_the_same_order() -> None:
    ledger = Ledger(in_flight=3)
    ids = [ledger.put(send(text)) for text in "abcd"]
    first = ledger.ready(0)
    ledger.answered(ids[1])

    cannot = ledger.lost()
    again = ledger.ready(0)

    assert texts(first) == ["a", "b", "c"]
    assert cannot == []
    assert texts(again) == ["a", "c", "d"]
    assert again[:2] == [first[0], first[2]]


def test_what_would_count_twice_is_not_asked_twice() -> None:
    ledger = Ledger()
    made = ledger.put(frames.ThreadCreate(title="x"))
    keyless = ledger.put(send("a", key=None))
    ledger.put(frames.WhoGet())
    ledger.ready(0)

    assert ledger.lost() == [made, keyless]
    assert [type(frame) for frame in ledger.ready(0)] == [frames.WhoGet]


def test_what_never_reached_the_wire_is_not_lost_with_it() -> None:
    ledger = Ledger(in_flight=1)
    ledger.put(frames.WhoGet())
    made = ledger.put(frames.ThreadCreate(title="x"))
    ledger.ready(0)

    assert ledger.lost() == []
    ledger.answered(ledger.ready(0)[0].id)  # type: ignore[arg-type]
    assert [frame.id for frame in ledger.ready(0)] == [made]


def test_a_send_refused_for_now_is_not_overtaken_by_later_sends_but_by_other_requests() -> None:
    ledger = Ledger(in_flight=1)
    ledger.put(send("a"))
    ledger.put(send("b"))
    ledger.put(frames.WhoGet())
    (asked,) = ledger.ready(0)

    entry = ledger.refused(asked.id)  # type: ignore[arg-type]
    assert entry is not None
    entry.not_before = 5.0

    assert ledger.due() == 5.0
    (who,) = ledger.ready(1)
    assert isinstance(who, frames.WhoGet)
    ledger.answered(who.id)  # type: ignore[arg-type]
    assert ledger.ready(4.9) == []
    assert texts(ledger.ready(5)) == ["a"]


def test_what_nobody_waits_for_is_not_said_again() -> None:
    ledger = Ledger(in_flight=1)
    ids = [ledger.put(send(text)) for text in "abc"]
    ledger.ready(0)

    ledger.withdraw(ids[0])
    ledger.withdraw(ids[1])

    assert texts(ledger.ready(0)) == ["c"]
    assert not ledger.answered(ids[0])


@given(st.data())
def test_whatever_happens_sends_stay_in_order_and_none_is_forgotten(data: st.DataObject) -> None:
    ledger = Ledger(in_flight=data.draw(st.integers(1, 4)))
    put, answered, at = 0, [], 0.0
    for step in data.draw(st.lists(st.sampled_from(["put", "write", "answer", "refuse", "lose"]), max_size=60)):
        at += 1
        match step:
            case "put":
                put += 1
                ledger.put(send(str(put)))
            case "write":
                written = texts(ledger.ready(at))
                assert written == sorted(written, key=int)
            case "answer" if ledger.asked:
                id = next(iter(ledger.asked))
                answered.append(ledger.asked[id].frame.text)  # type: ignore[attr-defined]
                ledger.answered(id)
            case "refuse" if ledger.asked:
                entry = ledger.refused(next(iter(ledger.asked)))
                assert entry is not None
                entry.not_before = at + data.draw(st.integers(0, 5))
            case "lose":
                assert ledger.lost() == []
    while len(ledger):
        at += 10
        ledger.ready(at)
        for id in list(ledger.asked):
            answered.append(ledger.asked[id].frame.text)  # type: ignore[attr-defined]
            ledger.answered(id)
    assert sorted(answered, key=int) == [str(n + 1) for n in range(put)]
    if ledger.in_flight == 1:
        assert answered == [str(n + 1) for n in range(put)]


# Hearing


def test_a_message_is_heard_once_however_often_it_is_said() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome(t=3))

    heard = [hearing.take(message(seq)) for seq in (3, 4, 4, 5, 4, 5, 6)]

    assert [m.seq for m in heard if m] == [4, 5, 6]  # type: ignore[attr-defined]


def test_it_goes_on_after_the_last_message_and_the_last_character() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome(t=3, u=7))

    hearing.take(message(4))
    hearing.take(delta(0, "añ🎈"))
    resume = hearing.resume()

    assert resume is not None
    assert resume.epoch == "one"
    assert resume.threads == {"t": 4, "u": 7}
    assert resume.runs == {"r": (1, 3)}


def test_pieces_of_an_answer_are_spliced_to_the_character() -> None:
    hearing = Hearing()

    heard = [hearing.take(piece) for piece in (delta(0, "ab"), delta(0, "ab"), delta(1, "b🎈d"), delta(4, "e"))]

    assert "".join(p.text for p in heard if p) == "ab🎈de"  # type: ignore[attr-defined]
    assert [p.offset for p in heard if p] == [0, 2, 4]  # type: ignore[attr-defined]


def test_a_new_attempt_begins_again_and_the_old_one_is_over() -> None:
    hearing = Hearing()
    reset = frames.RunReset(run="r", thread="t", assistant="openai", attempt=2)
    hearing.take(delta(0, "abc"))

    assert hearing.take(reset) is reset
    assert hearing.take(reset) is None
    assert hearing.take(delta(3, "d", attempt=1)) is None
    assert hearing.take(delta(0, "x", attempt=2)) is not None
    assert hearing.resume() is None  # nothing to resume before a welcome
    hearing.welcomed(welcome())
    resume = hearing.resume()
    assert resume is not None
    assert resume.runs == {"r": (2, 1)}


def test_an_answer_ends_once_and_is_then_forgotten() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome())
    hearing.take(delta(0, "abc"))

    assert hearing.take(ended()) is not None
    assert hearing.take(ended()) is None
    assert hearing.take(delta(3, "late")) is None
    resume = hearing.resume()
    assert resume is not None
    assert resume.runs == {}


def test_a_run_that_was_only_announced_is_named_so_that_its_end_is_repeated() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome())

    hearing.take(frames.RunQueued(run="r", thread="t", assistant="openai", attempt=1, position=1))

    resume = hearing.resume()
    assert resume is not None
    assert resume.runs == {"r": (1, 0)}


def test_in_another_epoch_the_old_numbers_mean_nothing() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome("one", t=50))
    hearing.take(message(51))

    hearing.welcomed(welcome("two", t=2))

    assert hearing.take(message(3)) is not None
    resume = hearing.resume()
    assert resume is not None
    assert (resume.epoch, resume.threads) == ("two", {"t": 3})


def test_after_a_reset_a_thread_may_be_read_from_any_number() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome(t=50))

    assert hearing.take(frames.Reset(thread="t", reason="x")) is not None

    assert hearing.take(message(9)) is not None


def test_a_resume_fits_into_a_frame_and_names_what_was_heard_last() -> None:
    hearing = Hearing()
    hearing.welcomed(welcome(**{f"t{n}": 1 for n in range(1000)}))
    hearing.take(message(2, "t5"))

    resume = hearing.resume()

    assert resume is not None
    assert len(resume.threads) == wire.MAX_KEYS
    assert resume.threads["t5"] == 2
    wire.decode(wire.encode(frames.Hello(user="alice", resume=resume)))


def test_it_names_only_the_threads_it_asked_to_hear() -> None:
    hearing = Hearing(["t"])
    hearing.welcomed(welcome(t=3, u=7))

    resume = hearing.resume()

    assert resume is not None
    assert resume.threads == {"t": 3}


# Marks, addresses, frames


def test_of_many_marks_only_the_furthest_is_told_and_only_once() -> None:
    marks = Marks()
    for seq in (3, 5, 4):
        marks.note("t", seq)

    assert marks.take() == [("t", 5)]
    marks.note("t", 5)
    assert not marks
    marks.note("t", 6)
    assert marks.take() == [("t", 6)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tcp://127.0.0.1:5001", "tcp://127.0.0.1:5001"),
        ("localhost", "tcp://localhost:5000"),
        ("localhost:7", "tcp://localhost:7"),
        ("tcp://[::1]:5000", "tcp://[::1]:5000"),
        ("ws://example.org", "ws://example.org:80/ws"),
        ("wss://example.org/chat/ws", "wss://example.org:443/chat/ws"),
    ],
)
def test_an_address_says_how_and_where(text: str, meant: str) -> None:
    assert str(parse_address(text)) == meant


@pytest.mark.parametrize(
    "text",
    ["http://x", "tcp://", "tcp://x:99999", "ws://me:secret@x/ws", "ws://x/ws?token=1", "tcp://x/y", "tcp://x:0"],
)
def test_what_is_no_address_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(BadRequest, match="Write it like"):
        parse_address(text)


def test_every_frame_of_the_server_is_read_back_as_it_was() -> None:
    for frame in (message(1), delta(0, "x"), ended(), welcome(t=1), frames.Pong(), frames.Pong(id="p")):
        assert decode(wire.encode(frame)) == frame


def test_a_frame_of_a_later_version_is_passed_over_and_a_broken_one_is_not() -> None:
    assert decode(b'{"type":"hologram","x":1}') is None
    for broken in (b'{"type":"message"}', b"{", b"\xff", b"[]"):
        with pytest.raises(Unreadable):
            decode(broken)


def test_every_code_of_the_table_becomes_its_problem() -> None:
    for code, outside in errors.OUTSIDE.items():
        problem = problem_of(frames.Error(code=code, title=outside.title, detail="why"))
        assert problem.code == code
        assert problem.detail == "why"
    assert isinstance(problem_of(frames.Error(code="shutdown", title="", detail="")), Shutdown)
    assert isinstance(problem_of(frames.Error(code="new", title="", detail="")), Internal)
    limited = problem_of(frames.Error(code="rate_limited", title="", detail="", retry_after=2))
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 2
