"""Who answers, in memory. See `core.ports.Assistants` for what each method promises."""

from __future__ import annotations

from collections.abc import Callable

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Assistant


class MemoryAssistants:
    """`personalities` gives what was chosen in a thread, by member, for as long as they are in it; None: there is no
    such thread, or they are not in it."""

    def __init__(self, personalities: Callable[[str, str], dict[str, str] | None]) -> None:
        self._assistants: dict[str, Assistant] = {}
        self._personalities = personalities

    async def all(self) -> list[Assistant]:
        return list(self._assistants.values())

    async def add(self, assistant: Assistant) -> None:
        if names.key(assistant.name) in self._assistants:
            raise NameTaken(f"There is an assistant called '{assistant.name}' already.")
        self._assistants[names.key(assistant.name)] = assistant

    async def change(self, assistant: Assistant) -> None:
        if names.key(assistant.name) not in self._assistants:
            raise NotFound(f"No assistant is called '{assistant.name}'.")
        self._assistants[names.key(assistant.name)] = assistant

    async def delete(self, name: str) -> None:
        self._assistants.pop(names.key(name), None)

    async def personality(self, thread: str, member: str) -> str:
        return (self._personalities(thread, member) or {}).get(member, "")
