"""A person in line mode sees every message once and whole, and answers as they are written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.core import screen
from hubbub.core.frames import (
    Ack,
    Bye,
    Checked,
    Error,
    Frame,
    History,
    MessageFrame,
    Ok,
    Pong,
    Presence,
    Reset,
    RunCancelled,
    RunCompleted,
    RunDelta,
    RunFailed,
    RunQueued,
    RunReset,
    RunStarted,
    ThreadFrame,
    Threads,
    ThreadView,
    Typing,
    Welcome,
    Who,
)
from hubbub.core.nouns import Message
from hubbub.core.screen import Screen

LOBBY = ThreadView(id="lobby", title="", members=["alice", "bob"], member_count=2, head=0, public=True)
WITH_BOB = ThreadView(id="tb", title="", members=["Bob", "alice"], member_count=2, head=0, public=False)
GARDEN = ThreadView(id="g1", title="Garden", members=["alice", "bob"], member_count=2, head=0, public=False)


def welcome(*threads: ThreadView, epoch: str = "e1") -> Welcome:
    return Welcome(
        user="alice",
        token="",
        session="s",
        server={"name": "hubbub", "epoch": epoch},
        threads=list(threads),
        limits={},
    )


def said(
    seq: int,
    text: str,
    sender: str = "bob",
    thread: str = "tb",
    destination: str = "alice",
    *,
    type: str = "chat",
    stored: bool = False,
    run: str | None = None,
    **metadata: Any,
) -> MessageFrame:
    message = Message(
        id=f"{seq}-x",
        thread=thread,
        seq=seq,
        sender=sender,
        destination=destination,
        type=type,
        text=text,
        timestamp=f"T{seq}",
        metadata=metadata,
        run=run,
    )
    return MessageFrame(thread=thread, seq=seq, message=message, **({"stored": True} if stored else {}))


def in_lobby(seq: int, text: str, sender: str = "bob", **more: Any) -> MessageFrame:
    return said(seq, text, sender, "lobby", "lobby", **more)


def piece(offset: int, text: str, *, run: str = "r1", by: str = "openai", attempt: int = 1) -> RunDelta:
    return RunDelta(run=run, thread=f"t{by}", assistant=by, attempt=attempt, offset=offset, text=text)


def answered(
    seq: int,
    text: str,
    *,
    run: str = "r1",
    by: str = "openai",
    state: str = "completed",
    stored: bool = False,
) -> MessageFrame:
    return said(seq, text, by, f"t{by}", stored=stored, run=run, state=state)


def completed(*, run: str = "r1", by: str = "openai") -> RunCompleted:
    return RunCompleted(run=run, thread=f"t{by}", assistant=by, attempt=1, message="m", seq=1)


def cancelled(*, run: str = "r1", by: str = "openai") -> RunCancelled:
    return RunCancelled(run=run, thread=f"t{by}", assistant=by, attempt=1, message="m", seq=1)


def failed(error: str, *, run: str = "r1", by: str = "openai") -> RunFailed:
    return RunFailed(run=run, thread=f"t{by}", assistant=by, attempt=1, message="m", seq=1, error=error)


def connected(*threads: ThreadView) -> Screen:
    """Alice's screen after `Connected! …`."""
    alice = Screen("alice", lambda: "NOW")
    alice.show(welcome(LOBBY, *threads), 0)
    alice.show(Who(online=["alice"]), 0)
    return alice


def seen(alice: Screen, *heard: Frame, now: float = 0.0) -> str:
    return "".join(alice.show(frame, now) for frame in heard)


# Signing in


def test_the_first_line_tells_who_else_is_online() -> None:
    alice = Screen("alice", lambda: "NOW")

    assert seen(alice, welcome(LOBBY)) == ""
    assert seen(alice, Who(online=["Alice", "bob", "openai"])) == "Connected! Users online: bob, openai\n"


def test_who_asked_again_answers_without_a_greeting() -> None:
    alice = connected()

    assert seen(alice, Who(online=["alice", "bob"])) == "Users online: bob\n"
    assert seen(alice, Who(online=["alice"])) == "Users online: nobody else\n"


def test_someone_alone_is_told_that_nobody_else_is_there() -> None:
    alice = Screen("alice", lambda: "NOW")
    seen(alice, welcome())

    assert seen(alice, Who(online=["alice"])) == "Connected! Users online: nobody else\n"


def test_what_was_missed_comes_after_the_greeting_however_much_it_is() -> None:
    alice = Screen("alice", lambda: "NOW")

    early = seen(alice, welcome(WITH_BOB), *(said(n, f"line {n}", stored=True) for n in range(1, 1001)))
    counted_early = alice.take_printed()
    lines = seen(alice, Who(online=["bob"])).splitlines()

    assert early == ""
    assert counted_early == {}
    assert lines[0] == "Connected! Users online: bob"
    assert lines[1:] == [f"[Stored] [T{n}][bob] 'line {n}'" for n in range(1, 1001)]
    assert alice.take_printed() == {"tb": 1000}


def test_messages_do_not_wait_for_ever_for_a_greeting_that_does_not_come() -> None:
    alice = Screen("alice", lambda: "NOW")
    seen(alice, welcome(WITH_BOB), said(1, "hello"))

    assert alice.due == screen.GREETING_S
    assert alice.tick(screen.GREETING_S) == "[T1][bob] hello\n"
    assert seen(alice, said(2, "again")) == "[T2][bob] again\n"
    assert seen(alice, Who(online=["bob"])) == "Connected! Users online: bob\n"


def test_messages_before_the_greeting_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "GREETING_CHARS", 20)
    alice = Screen("alice", lambda: "NOW")

    assert seen(alice, welcome(WITH_BOB), said(1, "x" * 20)) == f"[T1][bob] {'x' * 20}\n"


def test_someone_whose_name_is_taken_learns_it_without_a_greeting() -> None:
    alice = Screen("alice", lambda: "NOW")

    text = seen(alice, Error(code="name_taken", title="The name is in use", detail="Username already taken."))

    assert text == "Username already taken.\n"


# Messages


def test_a_private_message_shows_when_and_who() -> None:
    assert seen(connected(), said(1, "hello")) == "[T1][bob] hello\n"


def test_a_message_to_many_shows_where() -> None:
    alice = connected(GARDEN)

    assert seen(alice, in_lobby(1, "hello all")) == "[T1][#lobby][bob] hello all\n"
    assert seen(alice, said(1, "who digs?", thread="g1", destination="g1")) == "[T1][#Garden][bob] who digs?\n"


def test_a_stored_message_is_quoted_and_says_that_it_is_stored() -> None:
    alice = connected()

    assert seen(alice, said(1, "are you there?", stored=True)) == "[Stored] [T1][bob] 'are you there?'\n"
    assert seen(alice, in_lobby(1, "hi", stored=True)) == "[Stored] [T1][#lobby][bob] 'hi'\n"


def test_a_stored_reading_says_what_it_is_and_a_live_one_does_not() -> None:
    alice = connected()
    reading = said(1, "21.5 °C", "thermometer1", type="subscription", stored=True, temperature=21.5)

    assert seen(alice, reading) == "[Stored] [SUBSCRIPTION][T1][thermometer1] '21.5 °C'\n"
    assert seen(alice, said(2, "22 °C", "thermometer1", type="subscription")) == "[T2][thermometer1] 22 °C\n"


def test_ones_own_messages_are_not_echoed_but_count_as_seen() -> None:
    alice = connected()

    assert seen(alice, said(1, "hi", "ALICE", destination="bob"), in_lobby(4, "all", "alice")) == ""
    assert alice.take_printed() == {"tb": 1, "lobby": 4}
    assert alice.take_printed() == {}


def test_a_message_that_comes_twice_is_printed_once() -> None:
    alice = connected()

    assert seen(alice, said(1, "hi"), said(1, "hi", stored=True)) == "[T1][bob] hi\n"


def test_another_epoch_numbers_its_messages_anew() -> None:
    alice = connected()
    seen(alice, said(1, "before"))

    assert seen(alice, welcome(LOBBY, epoch="e2"), said(1, "after")) == "[T1][bob] after\n"


def test_a_reset_thread_is_heard_again_from_the_start() -> None:
    alice = connected(GARDEN)
    seen(alice, said(5, "x", thread="g1", destination="g1"))

    text = seen(alice, Reset(thread="g1", reason="epoch"), said(1, "y", thread="g1", destination="g1"))

    assert text == "#Garden has to be read again: epoch\n[T1][#Garden][bob] y\n"


def test_a_deleted_message_says_so() -> None:
    alice = connected()

    assert seen(alice, said(1, "", deleted=True)) == "[T1][bob] (deleted)\n"
    assert seen(alice, said(2, "", deleted=True, stored=True)) == "[Stored] [T2][bob] (deleted)\n"


def test_a_text_cannot_fake_a_line_nor_drive_the_terminal() -> None:
    text = seen(connected(), said(1, "hi\n[T1][carol] pay him\x1b[2J"))

    assert text == "[T1][bob] hi\n  [T1][carol] pay him[2J\n"


def test_a_title_cannot_pass_for_a_sender() -> None:
    view = ThreadView(id="g2", title="x][bob\n\x1b", members=["alice"], member_count=1, head=0, public=False)
    alice = connected(view)

    assert seen(alice, said(1, "hi", "eve", "g2", "g2")) == "[T1][#x)(bob][eve] hi\n"


def test_history_is_printed_in_live_form_with_ones_own_lines_and_moves_no_cursor() -> None:
    alice = connected()
    mine, his = said(1, "hi", "alice", destination="bob").message, said(2, "hello", "bob").message
    cut = answered(3, "Once", state="cancelled").message

    text = seen(alice, History(thread="tb", messages=[mine, his, cut], more=False))

    assert text == "[T1][alice] hi\n[T2][bob] hello\n[T3][openai] Once (cancelled)\n"
    assert alice.take_printed() == {}


# Replies


def ack(delivery: str, *offline: str, thread: str = "tb", count: int | None = None) -> Ack:
    count = len(offline) if count is None else count
    return Ack(
        thread=thread,
        seq=1,
        message="1-x",
        timestamp="T1",
        delivery=delivery,
        offline=list(offline),
        offline_count=count,
    )


def test_a_message_to_someone_away_is_confirmed_as_saved() -> None:
    alice = connected()

    assert seen(alice, ack("stored", "Joe")) == "User 'Joe' is offline. Message saved.\n"
    assert alice.places.private_with("joe") == "tb"


def test_other_acknowledgements_say_nothing() -> None:
    alice = connected()

    assert seen(alice, ack("live"), ack("live", "Joe"), ack("stored", "Joe", thread="lobby")) == ""
    assert seen(alice, ack("stored", "Joe", "Ann", thread="g9")) == ""


def test_what_was_asked_is_answered_in_a_line() -> None:
    alice = connected()

    assert seen(alice, Checked(count=0)) == "No more messages.\n"
    assert seen(alice, Error(code="not_found", title="", detail="Did you mean bob?")) == "Did you mean bob?\n"
    assert seen(alice, Bye(code="shutdown", reason="Back soon.", resume=True, retry_after=1)) == "Back soon.\n"
    assert seen(alice, Threads(threads=[LOBBY, GARDEN, WITH_BOB])) == "Threads: #lobby, #Garden, Bob\n"
    assert seen(alice, Threads(threads=[])) == "Threads: none\n"


def test_what_only_machines_need_is_not_printed() -> None:
    quiet: list[Frame] = [
        Presence(user="bob", online=True),
        Typing(thread="tb", user="bob"),
        Ok(),
        Pong(),
        RunQueued(run="r", thread="t", assistant="openai", attempt=1, position=1),
        RunStarted(run="r", thread="t", assistant="openai", attempt=1),
        RunReset(run="r", attempt=2, thread="t", assistant="openai"),
        completed(run="r"),
    ]

    assert seen(connected(), *quiet) == ""


# Threads


def test_being_added_to_a_thread_is_told_once() -> None:
    alice = connected()

    assert seen(alice, ThreadFrame(thread=GARDEN)) == "You are now in #Garden.\n"
    assert seen(alice, ThreadFrame(thread=GARDEN), ThreadFrame(thread=LOBBY)) == ""


def test_a_new_private_thread_is_not_announced() -> None:
    alice = connected()

    assert seen(alice, ThreadFrame(thread=WITH_BOB)) == ""
    assert alice.places.private_with("BOB") == "tb"


def test_threads_are_found_by_title_or_id_whatever_the_case() -> None:
    alice = connected(GARDEN)

    assert alice.places.thread_named("garden") == "g1"
    assert alice.places.thread_named("#GARDEN") == "g1"
    assert alice.places.thread_named("g1") == "g1"
    assert alice.places.thread_named("Lobby") == "lobby"
    assert alice.places.thread_named("kitchen") is None
    assert alice.places.thread_named("#") is None


def test_of_two_threads_with_one_title_ones_own_is_meant() -> None:
    alice = connected()
    theirs = ThreadView(id="g0", title="Garden", members=["bob"], member_count=1, head=0, public=True)

    seen(alice, Threads(threads=[theirs]))
    before = alice.places.thread_named("garden")
    seen(alice, ThreadFrame(thread=GARDEN))

    assert before == "g0"
    assert alice.places.thread_named("garden") == "g1"


def test_the_private_thread_with_someone_is_learned_from_frames() -> None:
    alice = connected(WITH_BOB)
    seen(alice, said(1, "hi", "carol", "tc"), said(1, "hi", "alice", "td", "dave"))

    assert alice.places.private_with("Bob") == "tb"
    assert alice.places.private_with("CAROL") == "tc"
    assert alice.places.private_with("dave") == "td"
    assert alice.places.private_with("erin") is None


def test_an_untitled_group_of_two_is_not_taken_for_a_private_thread() -> None:
    alice = connected(WITH_BOB)

    text = seen(alice, said(1, "hi", thread="tb", destination="tb"))

    assert text == "[T1][#tb][bob] hi\n"
    assert alice.places.private_with("bob") is None


# Answers being written


def test_an_answer_is_seen_as_it_is_written() -> None:
    alice = connected()

    assert seen(alice, piece(0, "Once ")) == "[NOW][openai] Once "
    assert seen(alice, piece(5, "upon")) == "upon"
    assert seen(alice, answered(2, "Once upon a time")) == " a time\n"
    assert seen(alice, completed()) == ""
    assert alice.take_printed() == {"topenai": 2}


def test_an_answer_in_a_group_shows_where() -> None:
    delta = RunDelta(run="r", thread="lobby", assistant="openai", attempt=1, offset=0, text="Hi")

    assert seen(connected(), delta) == "[NOW][#lobby][openai] Hi"


def test_pieces_that_overlap_or_come_twice_are_written_once() -> None:
    alice = connected()

    text = seen(alice, piece(0, "ab🙂"), piece(0, "ab🙂"), piece(1, "b🙂cd"), piece(9, "hole"), answered(1, "ab🙂cde"))

    assert text == "[NOW][openai] ab🙂cde\n"


def test_an_answer_nothing_of_which_was_seen_is_a_message_like_others() -> None:
    assert seen(connected(), answered(1, "Hello."), completed()) == "[T1][openai] Hello.\n"


def test_late_pieces_of_an_ended_answer_are_not_written() -> None:
    alice = connected()

    assert seen(alice, answered(1, "Hello."), piece(0, "Hel"), piece(0, "Hello.")) == "[T1][openai] Hello.\n"


def test_an_answer_cut_at_its_limit_gets_no_second_end() -> None:
    assert seen(connected(), piece(0, "Once upon"), answered(1, "Once")) == "[NOW][openai] Once upon\n"


def test_other_lines_wait_until_the_answer_ends() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "))

    assert seen(alice, said(1, "hi"), Who(online=["bob"]), now=0.5) == ""
    assert alice.take_printed() == {}
    assert alice.due == 0.5 + screen.HOLD_S
    assert seen(alice, piece(5, "upon"), now=1) == "upon"
    assert seen(alice, answered(1, "Once upon"), now=2) == "\n[T1][bob] hi\nUsers online: bob\n"
    assert alice.take_printed() == {"tb": 1, "topenai": 1}
    assert alice.due is None


def test_an_answer_that_takes_longer_is_broken_and_goes_on() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), said(1, "hi"))

    assert alice.tick(1.9) == ""
    assert alice.tick(2.0) == "\n[T1][bob] hi\n"
    assert alice.due is None
    assert seen(alice, said(2, "still there?"), now=2.1) == "[T2][bob] still there?\n"
    assert seen(alice, piece(5, "upon "), now=2.2) == "… upon "
    assert seen(alice, answered(1, "Once upon a time"), now=2.3) == "a time\n"


def test_a_late_tick_is_made_up_for_by_the_next_frame() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), said(1, "hi"))

    assert seen(alice, piece(5, "upon"), now=7) == "\n[T1][bob] hi\n… upon"


def test_the_end_of_a_broken_answer_goes_on_in_its_own_line() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), said(1, "hi"))
    alice.tick(2)

    assert seen(alice, answered(1, "Once upon"), now=2) == "… upon\n"
    assert alice.take_printed() == {"tb": 1, "topenai": 1}


def test_two_answers_take_turns() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), piece(0, "Wisely ", run="r2", by="owl"))

    assert alice.tick(2) == "\n[NOW][owl] Wisely "
    assert seen(alice, piece(5, "upon"), piece(7, "spoken", run="r2", by="owl"), now=3) == "spoken"
    assert alice.tick(5) == "\n… [openai] upon"
    assert seen(alice, answered(1, "Wisely spoken.", run="r2", by="owl"), now=5) == ""
    assert seen(alice, answered(1, "Once upon"), now=5) == "\n… [owl] .\n"
    assert alice.take_printed() == {"topenai": 1, "towl": 1}


def test_a_stalled_answer_blocks_nobody() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "))

    shown = [seen(alice, said(n, f"line {n}"), now=n * 1.0) for n in range(1, 6)]

    assert shown == [
        "",
        "",
        "\n[T1][bob] line 1\n[T2][bob] line 2\n[T3][bob] line 3\n",
        "[T4][bob] line 4\n",
        "[T5][bob] line 5\n",
    ]


def test_at_most_two_hundred_lines_wait() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "))

    assert seen(alice, *(said(n, "x") for n in range(1, 201))) == ""
    assert seen(alice, said(201, "x")).count("\n") == 202


def test_at_most_64_ki_of_characters_wait() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "))
    head = len("[T1][bob] ")

    assert seen(alice, said(1, "x" * (screen.HOLD_CHARS - head))) == ""
    assert seen(alice, piece(0, "y", run="r2", by="owl")).endswith("x\n[NOW][owl] y")


def test_a_new_attempt_starts_again() -> None:
    alice = connected()
    seen(alice, piece(0, "Onse "))

    reset = RunReset(run="r1", attempt=2, thread="topenai", assistant="openai")
    assert seen(alice, reset) == "\n(starting again) "
    assert seen(alice, reset, piece(0, "Onse upon"), piece(0, "Once", attempt=2)) == "Once"
    assert seen(alice, answered(1, "Once upon")) == " upon\n"


def test_a_higher_attempt_is_itself_a_reset() -> None:
    alice = connected()

    text = seen(alice, piece(0, "Onse "), piece(0, "Once", attempt=2), piece(4, "x"), answered(1, "Once upon"))

    assert text == "[NOW][openai] Onse \n(starting again) Once upon\n"


def test_a_new_attempt_of_a_broken_answer_starts_again_in_its_own_line() -> None:
    alice = connected()
    seen(alice, piece(0, "Onse "), said(1, "hi"))
    alice.tick(2)

    reset = RunReset(run="r1", attempt=2, thread="topenai", assistant="openai")
    assert seen(alice, reset, now=2) == ""
    assert seen(alice, piece(0, "Once", attempt=2), now=2) == "(starting again) Once"


def test_a_new_attempt_of_an_answer_that_waits_leaves_no_trace_of_the_first() -> None:
    alice = connected()
    seen(
        alice,
        piece(0, "Once "),
        piece(0, "Wi", run="r2", by="owl"),
        piece(0, "Wise", run="r2", by="owl", attempt=2),
    )

    assert alice.tick(2) == "\n[NOW][owl] Wise"


def test_a_message_that_is_not_what_was_seen_is_written_in_full() -> None:
    alice = connected()

    assert seen(alice, piece(0, "Onse "), answered(1, "Once")) == "[NOW][openai] Onse \n(starting again) Once\n"


def test_a_failed_answer_says_why_after_the_text_so_far() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), said(1, "hi"))

    text = seen(alice, answered(1, "Once upon", state="failed"), failed("the model is gone"))

    assert text == "upon (failed: the model is gone)\n[T1][bob] hi\n"
    assert alice.take_printed() == {"tb": 1, "topenai": 1}


def test_a_cancelled_answer_says_so() -> None:
    alice = connected()

    text = seen(alice, piece(0, "Once "), answered(1, "Once ", state="cancelled"), cancelled())

    assert text == "[NOW][openai] Once (cancelled)\n"


def test_an_answer_that_fails_before_its_first_word_says_why() -> None:
    alice = connected()

    assert seen(alice, answered(1, "", state="failed"), failed("no model")) == "[T1][openai] (failed: no model)\n"


def test_the_end_is_told_even_where_the_message_comes_after_it() -> None:
    alice = connected()

    text = seen(alice, piece(0, "Once"), failed("gone"), answered(1, "Once upon", state="failed"))

    assert text == "[NOW][openai] Once (failed: gone)\n…  upon\n"


def test_the_failure_of_an_answer_that_waits_is_a_line_of_its_own() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), piece(0, "Wi", run="r2", by="owl"))
    seen(alice, answered(1, "Wise", run="r2", by="owl", state="failed"), failed("gone", run="r2", by="owl"))

    assert seen(alice, answered(1, "Once ")) == "\n[T1][owl] Wise\n(owl failed: gone)\n"


def test_a_line_that_only_waits_for_a_reason_holds_nobody_up() -> None:
    alice = connected()
    seen(alice, piece(0, "Once"), answered(1, "Once", state="failed"))

    assert seen(alice, said(1, "hi")) == "\n[T1][bob] hi\n"
    assert seen(alice, failed("gone")) == "(openai failed: gone)\n"


def test_a_stored_answer_that_was_cut_short_says_so() -> None:
    text = seen(connected(), answered(1, "Once", state="cancelled", stored=True))

    assert text == "[Stored] [T1][openai] 'Once' (cancelled)\n"


def test_an_answer_resumed_after_its_end_gets_its_rest_once() -> None:
    alice = connected()

    text = seen(alice, piece(0, "Once "), answered(1, "Once upon", stored=True), completed())

    assert text == "[NOW][openai] Once upon\n"


def test_goodbye_ends_the_open_line_and_keeps_nothing_back() -> None:
    alice = connected()
    seen(alice, piece(0, "Once "), said(1, "hi"), piece(0, "Wise", run="r2", by="owl"))

    text = seen(alice, Bye(code="shutdown", reason="Back soon.", resume=True, retry_after=1))

    assert text == "\n[T1][bob] hi\n[NOW][owl] Wise\nBack soon.\n"


def test_an_answer_under_way_waits_for_the_greeting_too() -> None:
    alice = Screen("alice", lambda: "NOW")

    assert seen(alice, welcome(LOBBY), piece(0, "Once "), piece(5, "upon")) == ""
    assert seen(alice, Who(online=[])) == "Connected! Users online: nobody else\n[NOW][openai] Once upon"


def test_the_screen_remembers_a_bounded_number_of_answers() -> None:
    alice = connected()

    for n in range(3 * screen.KNOWN_RUNS):
        seen(alice, piece(0, "x", run=f"r{n}"), answered(n + 1, "xy", run=f"r{n}"), completed(run=f"r{n}"))

    assert len(alice._answers) <= screen.KNOWN_RUNS
    assert len(alice._feed.runs) <= screen.KNOWN_RUNS


# Whatever happens

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


@st.composite
def conversations(draw: st.DrawFn) -> tuple[dict[str, str], list[Frame | float]]:
    """The texts of up to three answers and, in any interleaving: their pieces (cut anywhere, some doubled, some
    lost at the end), their messages, other people's messages, replies and the passing of time."""
    texts = {
        name: "".join(draw(st.lists(st.sampled_from([*f"{name[0]}aé🙂 "]), max_size=30)))
        for name in draw(st.sampled_from([["uno"], ["uno", "dos"], ["uno", "dos", "tres"]]))
    }
    tracks: list[list[Frame]] = []
    for name, text in texts.items():
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
        pieces: list[Frame] = []
        for start, end in zip([0, *cuts], cuts, strict=False):
            early = max(0, start - draw(st.integers(0, 3)))
            pieces += [piece(early, text[early:end], run=name, by=name)] * draw(st.integers(1, 2))
        end_frames: list[Frame] = [answered(1, text, run=name, by=name), completed(run=name, by=name)]
        tracks.append(pieces + end_frames + draw(st.sampled_from([[], pieces[:1]])))
    count = draw(st.integers(0, 12))
    tracks.append([said(n, f"<line {n}>", draw(st.sampled_from(["bob", "alice"]))) for n in range(1, count + 1)])
    tracks.append([Checked(count=0)] * draw(st.integers(0, 2)))
    events: list[Frame | float] = []
    while any(tracks):
        track = draw(st.sampled_from([track for track in tracks if track]))
        events.append(track.pop(0))
        if draw(st.booleans()):
            events.append(draw(st.sampled_from([0.1, 1.0, 2.0, 5.0])))
    return texts, events


_ANSWER_LINE = re.compile(r"\[NOW\]\[(\w+)\] |\[T1\]\[(uno|dos|tres)\] |… \[(\w+)\] |… ")


@PATIENT
@given(conversations())
def test_nothing_is_lost_doubled_or_torn_in_any_interleaving(
    case: tuple[dict[str, str], list[Frame | float]],
) -> None:
    texts, events = case
    alice = connected()
    now, out, expected_lines = 0.0, "", []

    for event in events:
        if isinstance(event, float):
            now += event
            if alice.due is not None and now >= alice.due:
                out += alice.tick(now)
                assert alice.due is None or alice.due > now
        else:
            out += alice.show(event, now)
            if isinstance(event, MessageFrame) and event.message.sender == "bob":
                expected_lines.append(f"[T{event.seq}][bob] {event.message.text}")
            elif isinstance(event, Checked):
                expected_lines.append("No more messages.")
        assert alice.due is None or alice.due <= now + screen.HOLD_S
    out += alice.tick(now + 10)

    written = dict.fromkeys(texts, "")
    other_lines = []
    last = ""
    assert out == "" or out.endswith("\n")
    for line in out.split("\n")[:-1]:
        lead = _ANSWER_LINE.match(line)
        if lead:
            last = lead[1] or lead[2] or lead[3] or last
            written[last] += line[lead.end() :]
        else:
            other_lines.append(line)
    assert written == texts
    assert other_lines == expected_lines
    newest = [e.seq for e in events if isinstance(e, MessageFrame) and e.thread == "tb"]
    assert alice.take_printed() == {f"t{name}": 1 for name in texts} | ({"tb": newest[-1]} if newest else {})


@PATIENT
@given(conversations())
def test_no_cursor_runs_ahead_of_what_is_on_the_screen(
    case: tuple[dict[str, str], list[Frame | float]],
) -> None:
    _, events = case
    alice = connected()
    now, out = 0.0, ""

    for event in events:
        now += event if isinstance(event, float) else 0
        out += alice.tick(now) if isinstance(event, float) else alice.show(event, now)

        counted = alice.printed.get("tb", 0)
        shown = [e for e in events if isinstance(e, MessageFrame) and e.thread == "tb" and e.seq <= counted]
        assert all(e.message.text in out for e in shown if e.message.sender == "bob")
