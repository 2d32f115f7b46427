"""A person with nc."""

from __future__ import annotations

import asyncio
import re

import pytest

from support.inbox import WAIT_S
from support.lines import PROMPT
from support.server import House, fresh

TIME = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]"


async def test_who_says_nothing_is_asked_for_a_name_within_two_seconds(house: House) -> None:
    async with await house.nc() as person:
        assert await person.sees(PROMPT) == ""
        person.type(fresh("quiet"))
        assert await person.sees("Connected! Users online: ") == ""


async def test_a_newcomer_is_greeted_with_who_is_online(house: House) -> None:
    bob = fresh("bob")
    async with await house.talk("text", bob), await house.nc() as person:
        person.type(fresh("alice"))
        assert await person.sees("Connected! Users online: ") == PROMPT
        online = (await person.line()).split(", ")
        assert bob in online
        assert "openai" in online


async def test_what_waited_is_printed_as_stored_after_the_greeting(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        await alice.write(bob, "are you there?")
        await alice.write(bob, "hm", message_type="command")
    async with await house.nc(bob) as person:
        assert re.fullmatch(rf"\[Stored\] {TIME}\[{ann}\] 'are you there\?'", await person.line())
        assert re.fullmatch(rf"\[Stored\] \[COMMAND\]{TIME}\[{ann}\] 'hm'", await person.line())


async def test_somebody_who_is_offline_has_the_message_saved(house: House) -> None:
    joe = fresh("Joe")
    async with await house.nc(fresh("alice")) as person:
        person.type(f"{joe}: hello!!")
        assert await person.line() == f"User '{joe}' is offline. Message saved."
    async with await house.talk("text", joe) as him:
        assert await him.message("hello!!")


async def test_a_name_like_a_known_one_is_asked_about(house: House) -> None:
    async with await house.talk("framed", "thermometer1"), await house.nc(fresh("alice")) as person:
        person.type("termometer1: subscribe")
        line = await person.line()
        assert line.startswith("User 'termometer1' is offline. Message saved.")
        assert line.endswith("Did you mean 'thermometer1'?")


async def test_check_prints_what_is_unseen_then_that_there_is_no_more(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(bob) as person, await house.talk("text", ann) as alice:
        person.type("!check")
        assert await person.line() == "No more messages."
        await alice.write(bob, "one")
        assert (await person.line()).endswith(f"[{ann}] one")
        person.type("!check")
        assert await person.line() == "No more messages."


async def test_who_help_history_and_nonsense(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(ann) as person, await house.nc(bob) as other:
        person.type("!who")
        assert bob in (await person.line()).removeprefix("Users online: ").split(", ")
        person.type("!help")
        assert "NAME: MESSAGE" in await person.sees("exit")
        await person.line()
        person.type("nonsense")
        assert await person.line() == "Invalid format. Use: NAME: MESSAGE"
        person.type(f"{bob}: one")
        person.type(f"{bob}: two")
        await other.sees("two")
        person.type(f"!history {bob}")
        assert re.fullmatch(rf"{TIME}\[{ann}\] one", await person.line())
        assert re.fullmatch(rf"{TIME}\[{ann}\] two", await person.line())


async def test_history_of_an_earlier_visit_can_be_read(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(ann) as person:
        person.type(f"{bob}: remember")
        await person.sees("Message saved.\n")
    async with await house.nc(ann) as person:
        person.type(f"!history {bob}")
        assert (await person.line()).endswith(f"[{ann}] remember")


async def test_everyone_in_the_lobby_but_the_writer_sees_a_line_for_it(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(ann) as person, await house.nc(bob) as other:
        person.type("#lobby: hello all")
        assert re.fullmatch(rf"{TIME}\[#lobby\]\[{ann}\] hello all", await other.line())
        person.type("!check")
        assert await person.line() == "No more messages."


async def test_exit_leaves(house: House) -> None:
    async with await house.nc(fresh("alice")) as person:
        person.type("EXIT")
        await person.rest()


async def test_a_name_in_use_is_refused_and_another_is_asked_for(house: House) -> None:
    ann = fresh("ann")
    async with await house.talk("text", ann), await house.nc() as person:
        person.type(ann.upper())
        assert await person.sees("Username already taken.\n") == PROMPT
        assert await person.sees(PROMPT) == ""
        person.type(fresh("other"))
        await person.sees("Connected!")


@pytest.mark.parametrize("name", ["a b", "x" * 65, "...", "exit", "аdmin", "a/b", "\u200bx"])
async def test_a_name_that_breaks_the_rules_is_refused_with_the_reason(house: House, name: str) -> None:
    async with await house.nc() as person:
        person.type(name)
        await person.sees(PROMPT)
        assert len(await person.sees(PROMPT)) > 20
        person.type(fresh("fine"))
        await person.sees("Connected!")


async def test_telnet_negotiation_carriage_returns_and_escapes_are_removed(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc() as person, await house.talk("text", bob) as robert:
        person.send(b"\xff\xfb\x01\xff\xfd\x03\xff\xfa\x18\x00vt100\xff\xf0" + ann.encode() + b"\r\n")
        await person.sees("Connected!")
        await person.line()
        person.send(f"{bob}: ".encode() + b"a\x1b[31m\xff\xf1b\x00\x07c\r\n")
        assert (await robert.take("message"))["message"]["text"] == "a[31mbc"


async def test_newlines_are_shown_indented_and_escapes_not_at_all(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc(bob) as person, await house.talk("text", ann) as alice:
        await alice.write(bob, "first\n[fake][name] second\r\n\x1b]0;title\x07third\u2028fourth\u202e")
        assert (await person.line()).endswith(f"[{ann}] first")
        assert await person.line() == "  [fake][name] second"
        assert await person.line() == "  ]0;titlethird"
        assert await person.line() == "  fourth"


async def test_who_types_before_the_prompt_and_closes_is_heard_and_answered(house: House) -> None:
    ann, joe = fresh("ann"), fresh("joe")
    async with await house.nc() as person:
        person.send(f"{ann}\n{joe}: hi\n{joe}: there\n!help\n".encode())
        person.end()
        shown = await person.rest()
    async with await house.talk("text", joe) as him:
        heard = [(await him.take("message"))["message"]["text"] for _ in range(2)]

    assert heard == ["hi", "there"]
    lines = shown.removeprefix(PROMPT).splitlines()
    assert lines[0].startswith("Connected! Users online: ")
    assert lines.count(f"User '{joe}' is offline. Message saved.") == 2
    assert "exit               leave" in lines


async def test_who_closes_right_after_the_name_is_still_told_what_waited(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        await alice.write(bob, "waiting for you")
    async with await house.nc() as person:
        person.send(f"{bob}\n".encode())
        person.end()
        shown = await person.rest()

    assert shown.count("waiting for you") == 1


async def test_who_closes_right_after_check_is_told_what_waited_once(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        for number in range(150):
            await alice.write(bob, f"waiting {number}.")
    async with await house.nc() as person:
        person.send(f"{bob}\n!check\n".encode())
        person.end()
        shown = await person.rest()

    assert re.findall(r"waiting (\d+)\.", shown) == [str(number) for number in range(150)]
    assert shown.endswith("No more messages.\n")


async def test_a_last_line_without_its_end_counts_when_the_person_closes(house: House) -> None:
    ann, joe = fresh("ann"), fresh("joe")
    async with await house.nc() as person:
        person.send(f"{ann}\n{joe}: no newline".encode())
        person.end()
        shown = await person.rest()

    assert "Message saved." in shown


async def test_what_was_printed_is_not_printed_again_at_the_next_visit(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice:
        await alice.write(bob, "once")
        async with await house.nc(bob) as person:
            await person.sees("'once'\n")
            person.type("exit")
            await person.rest()
        async with await house.nc(bob) as person:
            person.type("!check")
            assert await person.line() == "No more messages."


async def test_what_is_printed_live_counts_as_seen(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("framed", ann) as alice, await house.nc(bob) as person:
        thread = await alice.group(bob)
        ack = await alice.post(thread, "hello")
        await person.sees("hello")
        store = house.app.hub.store
        async with asyncio.timeout(WAIT_S):
            while (thread, ack["seq"]) not in [(of.id, seen) for of, seen in await store.threads_of(bob)]:
                await alice.ask("ping")


async def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_read(house: House) -> None:
    async with await house.nc(fresh("alice")) as person:
        for _ in range(3):
            person.send(b"x" * 100_000)
        person.type("")
        assert "too long" in await person.line()
        person.type("nonsense")
        assert await person.line() == "Invalid format. Use: NAME: MESSAGE"


async def test_a_text_of_64_kib_can_be_typed(house: House) -> None:
    bob = fresh("bob")
    async with await house.nc(fresh("alice")) as person, await house.talk("text", bob) as robert:
        person.type(f"{bob}: " + "x" * 65536)
        assert len((await robert.take("message"))["message"]["text"]) == 65536
        person.type(f"{bob}: " + "x" * 65537)
        assert "65536" in await person.line()


async def test_an_answer_is_printed_as_it_is_written(house: House) -> None:
    async with await house.nc(fresh("alice")) as person:
        person.type("openai: count to 20")
        line = await person.line()

    numbers = " ".join(str(number) for number in range(1, 21))
    assert re.fullmatch(rf"{TIME}\[openai\] \(demo model\) {numbers}", line)


async def test_a_thousand_lines_at_once_are_all_dealt_with_in_order(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.nc() as person, await house.talk("framed", bob) as robert:
        lines = "".join(f"{bob}: line {number}\n" for number in range(1000))
        person.send(f"{ann}\n{lines}exit\n".encode())
        heard = [(await robert.take("message"))["message"]["text"] for _ in range(1000)]
        await person.rest()

    assert heard == [f"line {number}" for number in range(1000)]


async def test_a_thread_is_made_known_joined_and_written_to_by_its_title(house: House) -> None:
    title, ann, bob = fresh("garden"), fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, await house.nc(bob) as person:
        thread = await alice.group(title=title, public=True)
        person.type("!threads")
        assert f"#{title}" in await person.line()
        person.type(f"!join {title}")
        await person.sees(f"You are now in #{title}.\n")
        person.type(f"#{title}: hello")
        assert (await alice.message("hello"))["thread"] == thread
