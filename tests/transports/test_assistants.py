"""Assistants over the doors: made over REST, spoken to in lines, stopped by whoever may write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from support.server import House, fresh

Own = Callable[..., AbstractAsyncContextManager[House]]
ENDLESS = "count to 2000"


async def test_an_assistant_that_was_made_answers_in_its_thread_and_can_be_changed_and_deleted(house: House) -> None:
    ann, poet = fresh("ann"), fresh("poet")
    async with await house.talk("binary", ann) as alice, house.http(alice.welcome["token"]) as http:
        made = await http.post("/api/assistants", json={"name": poet, "instructions": "Rhyme.", "in_turn": True})
        assert made.status_code == 201, made.text
        assert made.json() == {
            "name": poet,
            "instructions": "Rhyme.",
            "engine": "demo",
            "model": "",
            "personalities": {},
            "every": 0,
            "every_s": 0.0,
            "in_turn": True,
            "owner": ann,
        }
        await alice.write(poet, "repeat: hello")
        assert (await alice.message("(demo model) hello"))["sender"] == poet
        changed = await http.patch(f"/api/assistants/{poet}", json={"every": 3})
        assert (changed.status_code, changed.json()["every"], changed.json()["instructions"]) == (200, 3, "Rhyme.")
        assert (await http.get(f"/api/assistants/{poet.upper()}")).json() == changed.json()
        assert poet in [one["name"] for one in (await http.get("/api/assistants")).json()["assistants"]]
        assert (await http.delete(f"/api/assistants/{poet}")).status_code == 204
        assert (await http.get(f"/api/assistants/{poet}")).status_code == 404


async def test_what_is_wrong_with_an_assistant_is_said_in_a_sentence(house: House) -> None:
    async with house.http(user=fresh("ann")) as http:
        taken = await http.post("/api/assistants", json={"name": "OpenAI"})
        engine = await http.post("/api/assistants", json={"name": fresh("bot"), "engine": "steam"})
        field = await http.post("/api/assistants", json={"name": fresh("bot"), "temperature": 1})
        foreign = await http.patch("/api/assistants/openai", json={"every": 1})

    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert engine.json()["detail"] == "There is no engine 'steam' here; there are demo, script."
    assert field.status_code == 400
    assert (foreign.status_code, foreign.json()["detail"]) == (
        404,
        "That takes whoever made it, or an admin of the server.",
    )


async def test_lines_about_itself_are_answered_at_once(house: House) -> None:
    async with await house.nc(fresh("ann")) as person:
        person.type("openai: help")
        await person.sees("[openai] I am openai. I answer when you write to me")
        await person.sees("\n  personality NAME: happy (now), angry, spanish\n")
        person.type("openai: personality spanish")
        await person.sees("[openai] I am spanish now.\n")
        person.type("openai: rotate")
        await person.sees("[openai] I am happy now.\n")


async def test_a_line_stops_what_an_assistant_is_writing(house: House) -> None:
    async with await house.nc(fresh("ann")) as person:
        person.type(f"openai: {ENDLESS}")
        await person.sees("[openai] (demo model) 1 2 3")
        person.type("!stop OpenAI")
        await person.sees("(cancelled)\n")
        person.type("!stop openai")
        assert await person.line() == "openai is not writing anything to you."
        person.type("!stop")
        assert await person.line() == "Use: !stop NAME"


async def test_another_member_stops_an_answer_they_hear(house: House) -> None:
    ann, bob = fresh("ann"), fresh("bob")
    async with await house.talk("text", ann) as alice, await house.nc(bob) as robert:
        thread = await alice.group(bob, "openai")
        await alice.post(thread, f"@openai {ENDLESS}")
        await robert.sees("(demo model) 1 2 3")
        robert.type("!stop openai")
        end = await alice.take("run.cancelled")
        await robert.sees("(cancelled)")

    assert end["assistant"] == "openai"


async def test_whoever_has_to_wait_is_told_how_many_come_first(own_house: Own) -> None:
    async with own_house(max_tasks_batch_size=1, demo_word_s=10.0) as house:
        ann, bob = fresh("ann"), fresh("bob")
        async with await house.talk("text", ann) as alice, await house.nc(bob) as robert:
            for _ in range(8):  # that many are written at once
                await alice.write("openai", ENDLESS)
                await alice.take("run.started")
            await alice.write("openai", ENDLESS)
            await alice.take("run.queued", lambda frame: frame["position"] == 1)
            robert.type(f"openai: {ENDLESS}")  # which comes before another of ann's
            robert.type(f"openai: {ENDLESS}")
            await robert.sees("openai will answer; 2 answers come first.\n")
            async with house.http(alice.welcome["token"]) as http:
                queued = await alice.ask("run.start", thread=(await alice.group("openai")), assistant="openai")
                assert queued["run"]["position"] == 4
                view = (await http.get(f"/api/runs/{queued['run']['id']}")).json()
                assert (view["state"], view["position"]) == ("queued", 4)
