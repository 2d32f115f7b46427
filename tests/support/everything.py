"""A house in which there is something of everything, made through the Store port; and what of it can be seen."""

from __future__ import annotations

from typing import Any

from hubbub.core.nouns import (
    Account,
    Assistant,
    Draft,
    Kind,
    Member,
    Membership,
    Role,
    Run,
    RunState,
    Scope,
    Thread,
    Token,
    stamp,
)
from hubbub.core.ports import Store

PEOPLE = ("Ann", "Bob", "Çelik", "Straße", "花子", "😀")
GARDEN = "garden"


def draft(text: str, sender: str = "Ann", thread: str = GARDEN, **more: Any) -> Draft:
    return Draft(
        **{"thread": thread, "sender": sender, "text": text, "timestamp": stamp(1.5), "destination": thread, **more}
    )


async def furnish(store: Store) -> None:
    """Make it, in an empty store."""
    await store.create_thread(Thread(id="lobby", public=True), [])
    for name in PEOPLE:
        await store.add_member(Member(name=name, arrived=True), [("lobby", None)])
    await store.add_member(Member(name="Written-To"))
    await store.add_member(Member(name="thermometer1", kind=Kind.DEVICE, arrived=True))
    await store.add_member(Member(name="poet", kind=Kind.ASSISTANT))

    await store.create_thread(
        Thread(id=GARDEN, title="The garden 🌷"),
        [
            Membership(thread=GARDEN, member="Ann", role=Role.OWNER),
            *(Membership(thread=GARDEN, member=name) for name in ("😀", "Bob", "poet")),
        ],
    )
    await store.create_thread(
        Thread(id="two", private=True),
        [Membership(thread="two", member=name, role=Role.OWNER) for name in ("Straße", "Ann")],
    )
    for id in ("Ä thread", "\uffff thread", "\U00010000 thread", "empty"):  # UTF-16 would order these otherwise
        await store.create_thread(Thread(id=id), [Membership(thread=id, member="花子", role=Role.OWNER)])
        if id != "empty":
            await store.append(draft("here", "花子", id))
    await store.create_thread(Thread(id="gone"), [Membership(thread="gone", member="Bob")])
    await store.append(draft("lost", "Bob", "gone", key="free again"))
    await store.delete_thread("gone")
    await store.update_thread("empty", title="", public=True)

    await store.append(draft("hello", key="k1"))
    await store.append(
        draft("a\0b \u2028 \\ \" 'quoted' 😀", "Bob", key="k1", metadata={"$a.b": [1, 1.0, True, None, "é"]})
    )
    await store.append(draft("", "😀", metadata={"": {}}, type="command"))
    first = await store.message(GARDEN, 1)
    assert first is not None
    await store.append(draft("an answer", "Bob", reply_to=first.id))
    for n in range(12):
        await store.append(draft(f"news {n}", PEOPLE[n % 6], "lobby", destination="Bob" if n % 3 else "lobby"))
    await store.append(draft("secret", "Straße", "two"))
    await store.see("lobby", "Bob", 7)

    await store.set_role(GARDEN, "Bob", Role.READER, draft("Bob may read.", type="notification"))
    await store.join(Membership(thread=GARDEN, member="Çelik", seen=2), draft("Çelik came.", type="notification"))
    await store.set_role(GARDEN, "Çelik", Role.READER, None)
    await store.leave(GARDEN, "Çelik", draft("Çelik left.", type="notification"))

    await store.assistants.add(Assistant(name="poet", personalities={"grim": "Be grim.", "a.b$": "?"}, every_s=2.5))
    await store.assistants.add(Assistant(name="clerk", owner="Ann"))
    await store.assistants.change(Assistant(name="poet", personalities={"grim": "Be grimmer.", "gay": ""}, every=3))
    for id, trigger in (("r-queued", 1), ("r-done", 2), ("r-running", 3), ("r-failed", 4), ("r-asked", 0)):
        await store.begin_run(Run(id=id, thread=GARDEN, assistant="poet", trigger=trigger, depth=1, asked_by="Ann"))
    await store.set_run("r-running", RunState.RUNNING, 2)
    poem = draft("A poem.", "poet", run="r-done", key="run r-done")
    await store.end_run("r-done", 1, RunState.COMPLETED, None, poem, personality="grim")
    await store.end_run("r-failed", 1, RunState.FAILED, "It would not rhyme.", draft("", "poet", run="r-failed"))

    for account in (
        Account(name="Ann", password="$argon2id$ann", admin=True),
        Account(name="Straße", password="$argon2id$street", generation=1 << 53),
        Account(name="thermometer1"),
    ):
        await store.accounts.add(account)
    for id, more in (("t1", {}), ("t2", {"expires": 4e9}), ("t3", {"scopes": ()})):
        given: dict[str, Any] = {"scopes": (Scope.READ, Scope.WRITE), "created": 1.25, **more}
        await store.accounts.add_token(Token(id=id, member="thermometer1", label="é", digest=f"of {id}", **given))
    await store.accounts.revoke_token("t1")
    await store.accounts.change("straße", disabled=True, sign_out=True)
    await store.accounts.sign_out("signed", 4e9 + 0.125, 0)


async def seen_of(store: Store) -> dict[str, Any]:
    """All that the Store port tells of the house, its order included."""
    rights = await store.accounts.changes_after(0)
    threads = {}
    for thread in {id: None for name in (*PEOPLE, "poet") for id in [t.id for t, _ in await store.threads_of(name)]}:
        page = await store.read_after(thread, 0, 1000, 1 << 30)
        threads[thread] = (await store.thread(thread), page.messages, await store.memberships(thread))
    return {
        "epoch": store.epoch,
        "members": await store.members(),
        "threads": threads,
        "public": await store.public_threads(),
        "of": {name: await store.threads_of(name) for name in PEOPLE},
        "private": await store.private_thread("ann", "STRASSE"),
        "runs": [await store.run(id) for id in ("r-queued", "r-done", "r-running", "r-failed", "r-asked", "none")],
        "open": await store.open_runs(),
        "asked": await store.last_asked(GARDEN, "poet"),
        "assistants": await store.assistants.all(),
        "personality": await store.assistants.personality(GARDEN, "poet"),
        "version": rights.version,
        "accounts": sorted(rights.accounts, key=lambda account: account.name),
        "tokens": sorted(rights.tokens, key=lambda token: token.id),
        "signed_out": rights.signed_out,
        "later": await store.accounts.changes_after(rights.version - 2),
    }
