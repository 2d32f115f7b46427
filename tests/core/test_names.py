"""A name is one word of one script that everybody can see, and two spellings of it are the same member."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hubbub.core.errors import BadRequest
from hubbub.core.names import key, nearest, normalise


@pytest.mark.parametrize(
    "name",
    [
        "alice",
        "Joe",
        "thermometer1",
        "a",
        "x" * 64,
        "_-.",
        "1.2",
        "...a",
        "42",
        "Zoë",
        "Ærøskøbing",
        "Παναγιώτης",
        "Володимир",
        "محمد",
        "דוד",
        "सीता",
        "สมศรี",
        "한결",
        "たろう",
        "サクラさん",
        "スーパー太郎",
        "佐々木",
        "田中taro",
        "王小明",
        "محمد٤٢",
        "ნინო",
        "Նարեկ",
        "ሰላም",
    ],
)
def test_people_are_called_in_their_own_script(name: str) -> None:
    assert normalise(name) == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    ("given_as", "stored"),
    [
        ("  alice ", "alice"),
        ("\u00a0alice\t", "alice"),
        ("ｂｏｂ", "bob"),
        ("ｂｏｂ１", "bob1"),
        ("Zoe\u0308", "Zoë"),
        ("ﬁona", "fiona"),
        ("ﾀﾛｳ", "タロウ"),
    ],
)
def test_a_name_is_stored_normalised(given_as: str, stored: str) -> None:
    assert normalise(given_as) == stored


@pytest.mark.parametrize("name", ["", "   ", "\u3000"])
def test_nobody_is_called_nothing(name: str) -> None:
    with pytest.raises(BadRequest, match="empty"):
        normalise(name)


@pytest.mark.parametrize("character", ["x", "й", "語"])
def test_a_name_of_64_characters_is_accepted_and_one_of_65_refused(character: str) -> None:
    assert normalise(character * 64) == character * 64

    with pytest.raises(BadRequest, match="65 characters"):
        normalise(character * 65)


def test_the_limit_counts_what_is_stored() -> None:
    assert normalise("e\u0301" * 64) == "é" * 64
    with pytest.raises(BadRequest, match="96 characters"):
        normalise("ﬃ" * 32)


@pytest.mark.parametrize("name", [".", "..", "." * 64, "…", "．"])
def test_a_name_is_not_made_of_dots_only(name: str) -> None:
    with pytest.raises(BadRequest, match="dots only"):
        normalise(name)


@pytest.mark.parametrize("name", ["exit", "EXIT", " Exit ", "ｅｘｉｔ"])
def test_nobody_is_called_exit(name: str) -> None:
    with pytest.raises(BadRequest, match="choose another"):
        normalise(name)


@pytest.mark.parametrize(
    "name",
    [
        "al ice",
        "alice:bob",
        "#lobby",
        "@bob",
        "a/b",
        "a\\b",
        "a\nb",
        "a,b",
        "<b>",
        "a'b",
        "a\0b",
        "a\x1bb",
        "👋",
        "½",
        "☺",
    ],
)
def test_a_name_has_no_spaces_signs_or_control_characters(name: str) -> None:
    with pytest.raises(BadRequest, match="letters, digits"):
        normalise(name)


@pytest.mark.parametrize(
    "unseen",
    [
        "\u200b",  # zero width space
        "\u200c",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u202e",  # right-to-left override
        "\u00ad",  # soft hyphen
        "\u034f",  # combining grapheme joiner, a mark
        "\ufe0f",  # variation selector, a mark
        "\U000e0100",  # variation selector, a mark
        "\u180b",  # mongolian variation selector, a mark
        "\u17b4",  # khmer inherent vowel, a mark
        "\u115f",  # hangul filler, a letter
        "\u1160",  # hangul filler, a letter
        "\u3164",  # hangul filler, a letter
        "\uffa0",  # hangul filler, a letter
    ],
)
def test_what_nobody_can_see_is_no_part_of_a_name(unseen: str) -> None:
    for name in (f"bob{unseen}", f"b{unseen}ob", f"한{unseen}결", unseen):
        with pytest.raises(BadRequest):
            normalise(name)


@pytest.mark.parametrize("name", ["\u0301", "\u0301a", "1\u0301", "_\u0301", "a.\u0301"])
def test_a_mark_belongs_to_the_letter_before_it(name: str) -> None:
    with pytest.raises(BadRequest, match="contains"):
        normalise(name)


@pytest.mark.parametrize("name", ["аlice", "bоb", "alίce", "раypal", "boბ", "bob১", "bob٣", "Иван٣", "ΑΒΓабв"])
def test_a_name_does_not_mix_scripts_to_look_like_another(name: str) -> None:
    with pytest.raises(BadRequest, match="mixes"):
        normalise(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Joe", "joe"),
        ("JOE", " joe "),
        ("ｊｏｅ", "Joe"),
        ("STRASSE", "straße"),
        ("Zoe\u0308", "ZOË"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ΐ", "ΐ".upper()),
        ("ΰ", "ΰ".upper()),
        ("ǰ", "ǰ".upper()),
    ],
)
def test_two_spellings_of_a_name_are_one_member(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(("one", "other"), [("joe", "joes"), ("zoe", "zoë"), ("a.b", "ab"), ("a_b", "a-b")])
def test_two_names_stay_two_members(one: str, other: str) -> None:
    assert key(one) != key(other)


@given(st.text(max_size=70))
def test_a_name_is_accepted_as_it_is_stored_or_refused(text: str) -> None:
    try:
        name = normalise(text)
    except BadRequest:
        return

    assert normalise(name) == name
    assert key(name) == key(text) == key(key(name))
    assert 1 <= len(name) <= 64
    assert name.isprintable()
    assert "/" not in name
    assert ":" not in name


@given(st.characters(), st.characters())
def test_a_control_or_unassigned_character_never_slips_in_beside_plain_ones(before: str, after: str) -> None:
    name = f"{before}bob{after}"
    assume(any(unicodedata.category(c)[0] == "C" for c in unicodedata.normalize("NFKC", name)))

    with pytest.raises(BadRequest):
        normalise(f"x{name}x")


def test_a_slip_of_the_finger_finds_the_name_that_was_meant() -> None:
    known = ["alice", "Joe", "thermometer1"]

    assert nearest("alcie", known) == "alice"
    assert nearest("THERMOMETER", known) == "thermometer1"
    assert nearest("jo", known) == "Joe"


def test_a_name_that_is_known_or_like_nobodys_has_no_nearest() -> None:
    known = ["alice", "Joe"]

    assert nearest("ALICE", known) is None
    assert nearest("xyz", known) is None
    assert nearest("xyz", []) is None
