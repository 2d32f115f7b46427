"""Who answers, in the file of the default store. See `core.ports.Assistants` for what each method promises."""

from __future__ import annotations

import msgspec

from hubbub.core import names
from hubbub.core.errors import NameTaken, NotFound
from hubbub.core.nouns import Assistant
from hubbub.stores.sqlite_accounts import File

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Assistant).decode


class SqliteAssistants:
    def __init__(self, store: File) -> None:
        self._store = store

    async def all(self) -> list[Assistant]:
        return [_from_json(row[0]) for row in self._store.read("SELECT body FROM assistants ORDER BY n", ())]

    async def add(self, assistant: Assistant) -> None:
        def work() -> None:
            added = self._store.writer.execute(
                "INSERT OR IGNORE INTO assistants (key, body) VALUES (?,?) RETURNING 1",
                (names.key(assistant.name), _to_json(assistant).decode()),
            ).fetchone()
            if added is None:
                raise NameTaken(f"There is an assistant called '{assistant.name}' already.")

        await self._store.write(work)

    async def change(self, assistant: Assistant) -> None:
        def work() -> None:
            changed = self._store.writer.execute(
                "UPDATE assistants SET body = ? WHERE key = ? RETURNING 1",
                (_to_json(assistant).decode(), names.key(assistant.name)),
            ).fetchone()
            if changed is None:
                raise NotFound(f"No assistant is called '{assistant.name}'.")

        await self._store.write(work)

    async def delete(self, name: str) -> None:
        def work() -> None:
            self._store.writer.execute("DELETE FROM assistants WHERE key = ?", (names.key(name),))

        await self._store.write(work)

    async def personality(self, thread: str, member: str) -> str:
        sql = "SELECT personality FROM memberships WHERE thread = ? AND member = ?"
        found = self._store.read(sql, (thread, member))
        return str(found[0][0]) if found else ""
