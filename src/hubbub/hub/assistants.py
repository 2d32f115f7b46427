"""Who answers here: the assistants that came with the server and those that members made.

An assistant is a member like others; what makes it answer is kept in the store. Whoever made one may change it, and so
may an admin of the server; those that came with it are the admins' alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hubbub.core import names, news
from hubbub.core.errors import BadRequest, NameTaken, NotFound
from hubbub.core.lines import clean_output
from hubbub.core.nouns import Assistant, Kind
from hubbub.hub import access
from hubbub.hub.access import Caller, Need

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

MAX_ASSISTANTS = 1000
MAX_INSTRUCTIONS = 32 << 10
MAX_PERSONALITIES = 16
MAX_MANNER = 4 << 10
SHORTEST_S = 5.0
LONGEST_S = 7 * 86_400.0


class Assistants:
    """Those of one hub, `by_name`.

    Args:
        given: those that come with the server. What an admin changed about them is kept beside the others.
        engines: who can write here.
        engine: who does where an assistant does not say.
        unlisted: write for an endpoint of ours alone; no list has them, and no message addresses them.
    """

    def __init__(
        self,
        hub: Hub,
        given: Iterable[Assistant],
        engines: frozenset[str],
        engine: str,
        unlisted: Iterable[Assistant] = (),
    ) -> None:
        self._hub = hub
        self.by_name = {assistant.name: assistant for assistant in given}
        self.unlisted = {assistant.name: assistant for assistant in unlisted}
        self._given = dict(self.by_name)
        self._changes = 0
        self.engines = engines
        self.engine = engine

    async def learn(self) -> None:
        """Read what is kept. One that came with the server, and does not any more, does not answer; nor does one a
        member made under a name the server now needs itself."""
        changes = -1
        while changes != self._changes:  # what was changed here meanwhile may not be in what was read
            changes = self._changes
            kept = await self._hub.store.assistants.all()
        taken = set(map(names.key, self._given))
        mine = [one for one in kept if (one.name in self._given if not one.owner else names.key(one.name) not in taken)]
        now = dict(self._given) | {one.name: one for one in mine}
        for name in self.by_name.keys() - now.keys():
            self._forget(name)
        for assistant in now.values():
            self._keep(assistant)

    def _keep(self, assistant: Assistant) -> None:
        self._changes += 1
        self.by_name[assistant.name] = assistant
        for room in self._hub.rooms.values():
            if assistant.name in room.members:
                room.assistants[assistant.name] = None

    def _forget(self, name: str) -> None:
        self._changes += 1
        self.by_name.pop(name, None)
        for room in self._hub.rooms.values():
            room.assistants.pop(name, None)

    def _tell(self) -> None:
        self._hub.others.tell(news.Assistants(node=self._hub.others.node))

    def is_one(self, name: str) -> bool:
        """Is this the name of an assistant, in any spelling?"""
        return names.key(name) in map(names.key, [*self.by_name, *self.unlisted])

    def that_writes(self, name: str) -> Assistant | None:
        """Whose runs are called so, exactly so spelt; an unlisted one, too."""
        return self.by_name.get(name) or self.unlisted.get(name)

    def writer(self, assistant: Assistant) -> str:
        """The engine that writes for it."""
        return assistant.engine or self.engine

    def named(self, name: str) -> Assistant:
        """The assistant of that name, in any spelling. Raises NotFound."""
        known = self._hub.people.known(name)
        if known is None or known.name not in self.by_name:
            raise NotFound(f"No assistant is called '{name}'.{self._hub.people.hint(name)}")
        return self.by_name[known.name]

    # The verbs

    def listing(self, caller: Caller) -> list[dict[str, Any]]:
        access.require(caller, Need.LISTEN)
        return [self._view(assistant, caller) for assistant in self.by_name.values()]

    def get(self, caller: Caller, name: str) -> dict[str, Any]:
        access.require(caller, Need.LISTEN)
        return self._view(self.named(name), caller)

    async def create(self, caller: Caller, name: str, **asked: Any) -> dict[str, Any]:
        """A new member that answers. Raises NameTaken, BadRequest."""
        access.require(caller, Need.ACT)
        hub = self._hub
        hub.people.require_pace(caller.name)
        assistant = self._checked(Assistant(name=names.normalise(name), owner=caller.name, **asked))
        if len(self.by_name) >= MAX_ASSISTANTS:
            raise BadRequest(f"There are {len(self.by_name)} assistants already; delete one first.")
        known = hub.people.known(name)
        if known is not None and (known.kind is not Kind.ASSISTANT or known.name in self.by_name):
            raise NameTaken(f"There is somebody called '{known.name}' already.")
        hub.gate.require_free(assistant.name)
        assistant = replace(assistant, name=known.name if known else assistant.name)
        await hub.store.assistants.add(assistant)
        self._keep(assistant)
        await hub.arrive(assistant.name, Kind.ASSISTANT)
        self._keep(assistant)  # in rooms it is in from an earlier life, too
        self._tell()
        hub.gate.audit("assistant_made", assistant=assistant.name, by=caller.name)
        return self._view(assistant, caller)

    async def change(self, caller: Caller, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is given."""
        assistant = self.named(name)
        access.require_owner(caller, assistant.owner)
        self._hub.people.require_pace(caller.name)
        changed = self._checked(replace(assistant, **changes))
        store = self._hub.store.assistants
        try:
            await store.change(changed)
        except NotFound:
            if assistant.name not in self._given:
                raise
            await store.add(changed)  # what came with the server is kept from its first change on
        self._keep(changed)
        self._tell()
        self._hub.gate.audit("assistant_changed", assistant=changed.name, by=caller.name)
        return self._view(changed, caller)

    async def delete(self, caller: Caller, name: str) -> None:
        """It answers no more; what it said stays. Answers it is writing are stopped."""
        assistant = self.named(name)
        access.require_owner(caller, assistant.owner)
        self._hub.people.require_pace(caller.name)
        if assistant.name in self._given:
            raise BadRequest(f"'{assistant.name}' comes with the server; its settings turn it off.")
        await self._hub.store.assistants.delete(assistant.name)
        await self._hub.runs.stop_all(assistant.name)
        self._forget(assistant.name)
        self._tell()
        self._hub.gate.audit("assistant_deleted", assistant=assistant.name, by=caller.name)

    def _view(self, assistant: Assistant, caller: Caller) -> dict[str, Any]:
        """As its readers see it; its instructions are for whoever may change them."""
        view: dict[str, Any] = {
            "name": assistant.name,
            "engine": assistant.engine or self.engine,
            "model": assistant.model,
            "personalities": list(assistant.personalities),
            "every": assistant.every,
            "every_s": assistant.every_s,
            "in_turn": assistant.in_turn,
            "owner": assistant.owner,
        }
        if access.owns(caller, assistant.owner):
            view |= {"instructions": assistant.instructions, "personalities": assistant.personalities}
        return view

    def _checked(self, assistant: Assistant) -> Assistant:
        """Raises BadRequest: something about it cannot be."""
        if assistant.engine and assistant.engine not in self.engines:
            raise BadRequest(
                f"There is no engine '{assistant.engine}' here; there are {', '.join(sorted(self.engines))}."
            )
        if len(assistant.instructions.encode()) > MAX_INSTRUCTIONS:
            raise BadRequest(f"Instructions have at most {MAX_INSTRUCTIONS} bytes.")
        if len(assistant.personalities) > MAX_PERSONALITIES:
            raise BadRequest(f"An assistant has at most {MAX_PERSONALITIES} personalities.")
        for one, manner in assistant.personalities.items():
            if not (1 <= len(one) <= 32 and one.replace("-", "").replace("_", "").isalnum()):
                raise BadRequest("A personality's name is one word of up to 32 letters, digits, '-' and '_'.")
            if len(manner.encode()) > MAX_MANNER:
                raise BadRequest(f"The instructions of a personality have at most {MAX_MANNER} bytes.")
        if clean_output(assistant.model) != assistant.model or "\n" in assistant.model or len(assistant.model) > 200:
            raise BadRequest("A model's name is one line of up to 200 characters.")
        if not 0 <= assistant.every <= 1000:
            raise BadRequest("'every' is a number of messages, from 1 to 1000, or 0 for never.")
        if assistant.every_s and not SHORTEST_S <= assistant.every_s <= LONGEST_S:
            raise BadRequest(f"'every_s' is seconds, from {SHORTEST_S:g} to {LONGEST_S:g}, or 0 for never.")
        return assistant
