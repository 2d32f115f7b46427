"""What an assistant is told about itself: help, personality NAME, rotate."""

from __future__ import annotations

import pytest

from hubbub.core import manners
from hubbub.core.nouns import Assistant

MOODY = Assistant(name="Openai", personalities={"happy": "Smile.", "angry": "Shout.", "spanish": "Hola."})
PLAIN = Assistant(name="Plain", every=3, every_s=60)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("help", ("help", "")),
        ("  HELP ", ("help", "")),
        ("help!", ("help", "")),
        ("@openai help", ("help", "")),
        ("@Openai: rotate", ("rotate", "")),
        ("rotate.", ("rotate", "")),
        ("personality angry", ("personality", "angry")),
        ("Personality ANGRY!", ("personality", "angry")),
        ("@openai, personality  spanish", ("personality", "spanish")),
        ("personality", ("personality", "")),
    ],
)
def test_a_text_that_is_nothing_else_is_a_command(text: str, asked: tuple[str, str]) -> None:
    assert manners.command(text, MOODY) == asked


@pytest.mark.parametrize(
    "text",
    ["help me", "please help", "rotate it", "personality happy and kind", "@bob help", "what is help", "", "helper"],
)
def test_a_question_is_none(text: str) -> None:
    assert manners.command(text, MOODY) is None


def test_without_personalities_only_help_is_one() -> None:
    assert manners.command("help", PLAIN) == ("help", "")
    assert manners.command("rotate", PLAIN) is None
    assert manners.command("personality happy", PLAIN) is None


def test_the_first_personality_is_in_force_until_another_is_chosen() -> None:
    assert manners.in_force(MOODY, "") == "happy"
    assert manners.in_force(MOODY, "spanish") == "spanish"
    assert manners.in_force(MOODY, "one that was taken away") == "happy"
    assert manners.in_force(PLAIN, "") == ""


def test_rotating_goes_round() -> None:
    chosen, heard = "", []
    for _ in range(3):
        _, chosen = manners.obey(("rotate", ""), MOODY, chosen)
        heard.append(chosen)

    assert heard == ["angry", "spanish", "happy"]


def test_a_personality_is_chosen_by_its_name() -> None:
    assert manners.obey(("personality", "angry"), MOODY, "") == ("I am angry now.", "angry")


def test_an_unknown_one_changes_nothing_and_the_others_are_named() -> None:
    reply, then = manners.obey(("personality", "sad"), MOODY, "angry")

    assert then == "angry"
    assert reply == "I have no personality 'sad'. There are: happy, angry, spanish."
    assert manners.obey(("personality", ""), MOODY, "angry")[0].startswith("I am angry.")


def test_a_wrong_name_is_not_given_back_at_any_length() -> None:
    reply, _ = manners.obey(("personality", "ΐ".casefold() * 20_000), MOODY, "")

    assert len(reply) < 150


def test_help_says_when_it_answers_and_which_personality_is_in_force() -> None:
    text, then = manners.obey(("help", ""), MOODY, "angry")

    assert then == "angry"
    assert "mention me as @Openai" in text
    assert "personality NAME: happy, angry (now), spanish" in text
    plain, _ = manners.obey(("help", ""), PLAIN, "")
    assert "after every 3 messages" in plain
    assert "every 60 seconds" in plain
    assert "personality" not in plain
