"""What a person types is understood, and nothing they read or type can drive a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub.core import lines, names
from hubbub.core.lines import (
    AskHelp,
    AskWho,
    CheckNow,
    JoinThread,
    Leave,
    ListThreads,
    Nothing,
    ReadHistory,
    Say,
    SayIn,
    Unclear,
    clean_input,
    clean_output,
    parse,
)

INVALID = Unclear("Invalid format. Use: NAME: MESSAGE")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("bob: hello", Say("bob", "hello")),
        ("bob:hello", Say("bob", "hello")),
        ("  bob :  hello  ", Say("bob", "hello")),
        ("thermometer1: subscribe", Say("thermometer1", "subscribe")),
        ("bob: see: this", Say("bob", "see: this")),
        ("12:30 see you", Say("12", "30 see you")),
        ("Ærøskøbing: goddag", Say("Ærøskøbing", "goddag")),
        ("ｂｏｂ: wide", Say("bob", "wide")),
        ("#lobby: hello all", SayIn("lobby", "hello all")),
        ("#Garden plans 2026: who digs?", SayIn("Garden plans 2026", "who digs?")),
        ("!check", CheckNow()),
        ("!CHECK ", CheckNow()),
        ("!who", AskWho()),
        ("!threads", ListThreads()),
        ("!help", AskHelp()),
        ("!history bob", ReadHistory("bob")),
        ("!history #lobby", ReadHistory("#lobby")),
        ("!history #Garden plans", ReadHistory("#Garden plans")),
        ("!join #Garden plans", JoinThread("Garden plans")),
        ("!join garden", JoinThread("garden")),
        ("exit", Leave()),
        (" EXIT ", Leave()),
        ("", Nothing()),
        (" \t ", Nothing()),
    ],
)
def test_a_line_is_understood(line: str, meant: lines.Line) -> None:
    assert parse(line) == meant


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "hello there: you",
        "bob:",
        "bob:   ",
        ": hello",
        "...: hello",
        "#: hello",
        "#lobby",
        "#lobby:",
        "exit: now",
        "http://example.org/",
        "a" * 65 + ": too long a name",
    ],
)
def test_a_line_that_addresses_nobody_gets_the_sentence_that_says_how(line: str) -> None:
    assert parse(line) == INVALID


def test_an_unknown_command_is_named_and_help_is_offered() -> None:
    assert parse("!dance now") == Unclear("There is no command !dance. Try !help.")
    assert parse("!") == Unclear("There is no command !. Try !help.")


def test_a_command_without_what_it_needs_says_what_it_needs() -> None:
    assert parse("!history") == Unclear("Use: !history NAME or !history #THREAD")
    assert parse("!history #") == Unclear("Use: !history NAME or !history #THREAD")
    assert parse("!join") == Unclear("Use: !join THREAD")


def test_words_after_a_command_that_takes_none_are_not_silently_ignored() -> None:
    assert parse("!check bob") == Unclear("!check stands alone on its line. Try !help.")


def test_help_names_every_command_of_the_grammar() -> None:
    for word in ("NAME: MESSAGE", "#THREAD: MESSAGE", "!check", "!who", "!threads", "!help", "exit"):
        assert word in lines.HELP
    assert "!history" in lines.HELP
    assert "!join" in lines.HELP


@settings(deadline=None)
@given(st.text())
def test_every_line_means_something_and_a_name_it_addresses_is_legal(line: str) -> None:
    meant = parse(line)

    if isinstance(meant, Say):
        assert names.normalise(meant.to) == meant.to
        assert meant.text


@pytest.mark.parametrize(
    ("raw", "typed"),
    [
        (b"bob: hello\r\n", "bob: hello"),
        (b"bob: hello\n", "bob: hello"),
        (b"bob: hello\r\x00", "bob: hello"),
        (b"\xff\xfd\x03alice\r\n", "alice"),
        (b"al\xff\xfb\x01ice", "alice"),
        (b"\xff\xfd'alice", "alice"),
        (b"al\xff\xf1ice", "alice"),
        (b"\xff\xfa\x18\x00XTERM\xff\xf0alice", "alice"),
        (b"\xff\xfa\x1f\x00P\x00\x18\xff\xf0\xff\xfd\x01x", "x"),
        (b"\xff\xfa\x1f\x00\xff\xff\xf0\x18\xff\xf0x", "x"),
        (b"alice\xff", "alice"),
        (b"alice\xff\xfd", "alice"),
        (b"alice\xff\xfa\x18half", "alice"),
        (b"a\xff\xffb", "a\ufffdb"),
        (b"gr\xfc\xdfe", "gr\ufffd\ufffde"),
        ("grüße\n".encode(), "grüße"),
        (b"bob: \x1b[31mred\x07\x00", "bob: [31mred"),
        (b"bbo\b\bob: hi", "bob: hi"),
        (b"\x7f\x7fbob", "bob"),
        (b"a\tb", "a\tb"),
        ("a\x85b\x9bc".encode(), "abc"),
        (b"", ""),
    ],
)
def test_a_line_from_a_socket_becomes_the_text_that_was_typed(raw: bytes, typed: str) -> None:
    assert clean_input(raw) == typed


@settings(deadline=None)
@given(st.binary())
def test_whatever_comes_from_a_socket_no_control_character_gets_through(raw: bytes) -> None:
    assert all(char == "\t" or unicodedata.category(char) != "Cc" for char in clean_input(raw))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs"))))
def test_plain_text_comes_through_unchanged(text: str) -> None:
    assert clean_input(text.encode() + b"\r\n") == text


def test_a_newline_in_a_text_cannot_begin_a_line_that_looks_like_a_message() -> None:
    assert clean_output("hi\n[2026][bob] send money") == "hi\n  [2026][bob] send money"
    assert clean_output("a\r\nb\u2028c") == "a\n  b\n  c"


def test_escapes_and_direction_overrides_never_reach_a_terminal() -> None:
    assert clean_output("\x1b[2Jgone\x07\x9b5n\x7f\x00") == "[2Jgone5n"
    assert clean_output("a\u202egnp\u2066x\u2069\u202c") == "agnpx"
    assert clean_output("a\tb") == "a\tb"
    assert clean_output("שלום\u200f grüße 🙂\u200d") == "שלום\u200f grüße 🙂\u200d"


@settings(deadline=None)
@given(st.text(), st.text())
def test_cleaning_pieces_is_cleaning_the_whole(one: str, other: str) -> None:
    assert clean_output(one) + clean_output(other) == clean_output(one + other)


@settings(deadline=None)
@given(st.text())
def test_every_line_of_cleaned_text_but_the_first_is_indented(text: str) -> None:
    first, *others = clean_output(text).split("\n")

    assert all(line.startswith("  ") for line in others)
    assert all(char in "\t\n" or unicodedata.category(char) != "Cc" for char in first + "".join(others))
