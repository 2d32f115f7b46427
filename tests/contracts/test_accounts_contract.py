"""The part of the Store's contract about accounts and roles, sentence by sentence (core/ports.py), on every store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hubbub.core.errors import BadRequest, NameTaken, NotFound
from hubbub.core.nouns import Account, Kind, Member, Membership, Message, Role, Scope, Thread, Token
from hubbub.core.ports import Asker, Store
from hubbub.stores import sqlite_file
from hubbub.stores.sqlite import SqliteStore
from tests.contracts.words import draft, log, open_thread

ANN = Account(name="Ann", password="a hash")


def token(id: str = "t1", **more: Any) -> Token:
    fields: dict[str, Any] = {
        "id": id,
        "member": "Ann",
        "label": "sensor",
        "digest": f"digest of {id}",
        "scopes": (Scope.READ, Scope.WRITE),
        "created": 1.5,
    }
    return Token(**fields | more)


# Accounts


async def test_an_account_is_kept_as_it_was_made(store: Store) -> None:
    await store.accounts.add(ANN)

    assert (await store.accounts.changes_after(0)).accounts == (ANN,)


@pytest.mark.parametrize("name", ["Ann", "ANN", "ann", "Ａnn"])
async def test_a_name_has_one_account_in_any_spelling(store: Store, name: str) -> None:
    await store.accounts.add(ANN)

    with pytest.raises(NameTaken):
        await store.accounts.add(Account(name=name))

    assert (await store.accounts.changes_after(0)).accounts == (ANN,)


async def test_of_many_who_want_a_name_at_once_one_gets_it(store: Store) -> None:
    wanted = [store.accounts.add(Account(name="Ann", password=str(n))) for n in range(5)]

    outcomes = await asyncio.gather(*wanted, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(NameTaken) == 4
    assert len((await store.accounts.changes_after(0)).accounts) == 1


async def test_an_account_changes_only_in_what_is_given(store: Store) -> None:
    await store.accounts.add(ANN)

    changed = [
        await store.accounts.change("ann", admin=True),
        await store.accounts.change("ann", password="another hash", sign_out=True),
        await store.accounts.change("ann", disabled=True),
        await store.accounts.change("ann"),
    ]

    later = changed[1].generation
    assert 0 < later != ANN.generation
    assert changed == [
        Account(name="Ann", password="a hash", admin=True),
        Account(name="Ann", password="another hash", admin=True, generation=later),
        Account(name="Ann", password="another hash", admin=True, generation=later, disabled=True),
        Account(name="Ann", password="another hash", admin=True, generation=later, disabled=True),
    ]
    assert (await store.accounts.changes_after(0)).accounts == (changed[-1],)


async def test_what_is_given_may_be_false_or_empty(store: Store) -> None:
    await store.accounts.add(Account(name="Ann", password="a hash", admin=True, disabled=True))

    changed = await store.accounts.change("Ann", password="", admin=False, disabled=False)

    assert changed == Account(name="Ann")


async def test_nobody_without_an_account_is_changed(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.accounts.change("ann", admin=True)


# Tokens


async def test_a_token_is_kept_as_it_was_made_and_is_worth_nothing_once_revoked(store: Store) -> None:
    kept, other = token(), token("t2", expires=2.5, scopes=(Scope.ADMIN,))
    await store.accounts.add_token(kept)
    await store.accounts.add_token(other)
    assert set((await store.accounts.changes_after(0)).tokens) == {kept, other}

    await store.accounts.revoke_token("t1")
    await store.accounts.revoke_token("nobody's")

    found = {token.id: token.revoked for token in (await store.accounts.changes_after(0)).tokens}
    assert found == {"t1": True, "t2": False}


async def test_who_signed_out_is_remembered_until_their_token_would_have_expired(store: Store) -> None:
    await store.accounts.sign_out("a", 100.0, 1.0)
    await store.accounts.sign_out("b", 200.0, 99.0)
    assert (await store.accounts.changes_after(0)).signed_out == {"a": 100.0, "b": 200.0}

    await store.accounts.sign_out("c", 300.0, 100.0)

    assert (await store.accounts.changes_after(0)).signed_out == {"b": 200.0, "c": 300.0}


# What changed


async def test_who_knows_a_version_is_told_what_changed_after_it(store: Store) -> None:
    await store.accounts.add(ANN)
    await store.accounts.add_token(token())
    before = (await store.accounts.changes_after(0)).version

    nothing = await store.accounts.changes_after(before)
    await store.accounts.add(Account(name="Bob"))
    await store.accounts.sign_out("x", 9.0, 0.0)
    news = await store.accounts.changes_after(before)
    await store.accounts.change("Ann", admin=True)
    latest = await store.accounts.changes_after(news.version)

    assert (nothing.version, nothing.accounts, nothing.tokens, nothing.signed_out) == (before, (), (), {})
    assert ([a.name for a in news.accounts], news.tokens, news.signed_out) == (["Bob"], (), {"x": 9.0})
    assert ([a.name for a in latest.accounts], latest.tokens, latest.signed_out) == (["Ann"], (), {})
    assert before < news.version < latest.version


async def test_every_change_makes_a_later_version(store: Store) -> None:
    versions = [(await store.accounts.changes_after(0)).version]
    for change in (
        store.accounts.add(ANN),
        store.accounts.change("Ann", admin=True),
        store.accounts.add_token(token()),
        store.accounts.revoke_token("t1"),
        store.accounts.sign_out("x", 9.0, 0.0),
    ):
        await change
        versions.append((await store.accounts.changes_after(0)).version)

    assert versions == sorted(set(versions))


async def test_accounts_and_tokens_outlive_the_server(tmp_path: Path) -> None:
    for round in range(2):
        store = SqliteStore(tmp_path / "hubbub.db")
        await store.open()
        if not round:
            await store.accounts.add(ANN)
            await store.accounts.add_token(token())
            await store.accounts.sign_out("x", 9.0, 0.0)
        kept = await store.accounts.changes_after(0)
        await store.close()

        assert (kept.accounts, kept.tokens, kept.signed_out) == ((ANN,), (token(),), {"x": 9.0})


# Roles


async def roles(store: Store) -> dict[str, str]:
    return {membership.member: str(membership.role) for membership in await store.memberships("garden")}


async def owned(store: Store, *others: str) -> None:
    await store.create_thread(
        Thread(id="garden"),
        [
            Membership(thread="garden", member="alice", role=Role.OWNER),
            *(Membership(thread="garden", member=other) for other in others),
        ],
    )


async def test_members_keep_the_role_they_came_in_with(store: Store) -> None:
    await owned(store, "bob")
    await store.join(Membership(thread="garden", member="carol", role=Role.READER), None)

    assert await roles(store) == {"alice": "owner", "bob": "member", "carol": "reader"}


async def test_a_new_role_and_its_notice_come_in_the_same_step(store: Store) -> None:
    await owned(store, "bob")

    message = await store.set_role("garden", "bob", Role.READER, draft("alice made bob a reader."))

    assert await roles(store) == {"alice": "owner", "bob": "reader"}
    assert await log(store) == [message]


async def test_the_role_somebody_has_or_somebody_who_is_not_in_is_no_change(store: Store) -> None:
    await owned(store, "bob")

    assert await store.set_role("garden", "bob", Role.MEMBER, draft()) is None
    assert await store.set_role("garden", "carol", Role.OWNER, draft()) is None

    assert await log(store) == []
    with pytest.raises(NotFound):
        await store.set_role("nowhere", "bob", Role.MEMBER, draft())


async def test_the_last_owner_stays_one(store: Store) -> None:
    await owned(store, "bob")
    with pytest.raises(BadRequest):
        await store.set_role("garden", "alice", Role.MEMBER, draft())

    await store.set_role("garden", "bob", Role.OWNER, None)
    await store.set_role("garden", "alice", Role.MEMBER, None)

    assert await roles(store) == {"alice": "member", "bob": "owner"}
    assert await log(store) == []


async def test_when_the_last_owner_goes_whoever_may_write_and_came_first_owns_the_thread(store: Store) -> None:
    await owned(store, "reader", "openai", "bob", "carol")
    await store.add_member(Member(name="openai", kind=Kind.ASSISTANT))
    await store.set_role("garden", "reader", Role.READER, None)
    await store.set_role("garden", "carol", Role.OWNER, None)

    await store.leave("garden", "alice", None)
    assert (await roles(store))["bob"] == "member"  # carol is one yet
    await store.leave("garden", "carol", None)
    assert await roles(store) == {"reader": "reader", "openai": "member", "bob": "owner"}
    await store.leave("garden", "bob", None)
    assert await roles(store) == {"reader": "owner", "openai": "member"}
    await store.leave("garden", "reader", None)
    assert await roles(store) == {"openai": "member"}


async def test_a_thread_nobody_owned_is_given_to_nobody(store: Store) -> None:
    await open_thread(store, "alice", "bob")

    await store.leave("garden", "alice", None)

    assert await roles(store) == {"bob": "member"}


async def test_two_owners_who_leave_in_one_turn_leave_an_owner_behind(store: Store) -> None:
    await owned(store, "bob", "carol")
    await store.set_role("garden", "bob", Role.OWNER, None)

    await asyncio.gather(store.leave("garden", "alice", None), store.leave("garden", "bob", None))

    assert await roles(store) == {"carol": "owner"}


async def test_who_was_made_a_reader_is_one_again_after_leaving_until_somebody_says_otherwise(store: Store) -> None:
    await owned(store, "bob")
    await store.set_role("garden", "bob", Role.READER, None)
    for _ in range(2):
        await store.leave("garden", "bob", None)
        await store.join(Membership(thread="garden", member="bob"), None)
        assert await store.role("garden", "bob") is Role.READER

    await store.set_role("garden", "bob", Role.MEMBER, None)
    await store.leave("garden", "bob", None)
    await store.join(Membership(thread="garden", member="bob"), None)

    assert await store.role("garden", "bob") is Role.MEMBER
    assert await store.role("garden", "nobody") is None
    assert await store.role("nowhere", "bob") is None


OWN = frozenset({Role.OWNER})
WRITE = frozenset({Role.OWNER, Role.MEMBER})


async def test_whoever_loses_a_right_in_the_same_turn_has_lost_it(store: Store) -> None:
    """What was asked for behind a removal or a demotion is judged by what that has left."""
    await owned(store, "bob", "eve")
    await store.set_role("garden", "bob", Role.OWNER, None)
    bob = Asker("bob", OWN)

    async def said(by: str) -> Message:
        return await store.append(draft("hello", by), WRITE)

    outcomes = await asyncio.gather(
        store.set_role("garden", "bob", Role.READER, None, Asker("alice", OWN)),
        store.set_role("garden", "bob", Role.OWNER, None, bob),
        store.leave("garden", "alice", None, bob),
        store.join(Membership(thread="garden", member="dave"), None, Asker("bob", WRITE)),
        said("bob"),
        store.leave("garden", "eve", None, Asker("alice", OWN)),
        store.join(Membership(thread="garden", member="eve"), None, Asker("eve", WRITE)),
        said("eve"),
        said("alice"),
        return_exceptions=True,
    )

    assert [type(one) for one in outcomes if not isinstance(one, Message | None)] == [NotFound] * 6
    assert await roles(store) == {"alice": "owner", "bob": "reader"}
    assert [message.sender for message in await log(store)] == ["alice"]


async def test_threads_from_before_there_were_roles_belong_to_whoever_made_them(tmp_path: Path) -> None:
    path = tmp_path / "hubbub.db"
    db = sqlite_file.connect(path)
    sqlite_file.migrate(db, path, sqlite_file.migrations()[:1])
    for id, pair, members in (("lobby", None, "ab"), ("garden", None, "bac"), ("private", "b/c", "cb")):
        db.execute("INSERT INTO threads (id, title, public, pair) VALUES (?,?,?,?)", (id, id, id == "lobby", pair))
        for member in members:
            db.execute("INSERT INTO memberships (thread, member, seen) VALUES (?,?,0)", (id, member))
    db.close()

    store = SqliteStore(path)
    await store.open()
    found = {id: {m.member: str(m.role) for m in await store.memberships(id)} for id in ("lobby", "garden", "private")}
    await store.close()

    assert found == {
        "lobby": {"a": "member", "b": "member"},
        "garden": {"b": "owner", "a": "member", "c": "member"},
        "private": {"c": "owner", "b": "owner"},
    }
