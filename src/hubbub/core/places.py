"""Which threads a person has come across, and what they are called on their screen; what is being written there."""

from __future__ import annotations

from hubbub.core import frames, names
from hubbub.core.lines import clean_output
from hubbub.core.nouns import Message

MAX_WRITING = 64
"""Answers being written that are remembered."""

_TITLE = str.maketrans("[]\n\t", "()  ")  # a title must not read as the name of a sender


class Places:
    """Those of one person."""

    def __init__(self, user: str) -> None:
        self.me = names.key(user)
        self.titles: dict[str, str] = {}  # groups by id
        self.mine: dict[str, None] = {}  # threads one is in, oldest first
        self._private: dict[str, str] = {}  # key of the other's name → thread
        self._writing: dict[str, str] = {}  # run → its assistant

    def thread_named(self, name: str) -> str | None:
        """The id of the thread with that id or title, with or without `#`; threads one is in come first."""
        name = name.removeprefix("#").strip()
        if name in self.titles or name in self.mine:
            return name
        wanted = names.key(name)
        if not wanted:  # many threads have no title
            return None
        for id in (*self.mine, *self.titles):
            if wanted in (names.key(id), names.key(self.titles.get(id, ""))):
                return id
        return None

    def private_with(self, name: str) -> str | None:
        """The id of one's private thread with that member, if one has come across it."""
        return self._private.get(names.key(name))

    def where(self, thread: str) -> str:
        return f"#{self.titles.get(thread) or thread}"

    def other(self, view: frames.ThreadView) -> str | None:
        """With whom the thread is private; None when it is a group."""
        if view.title or view.public or view.member_count != 2:
            return None
        others = [name for name in view.members if names.key(name) != self.me]
        return others[0] if len(others) == 1 and len(view.members) == 2 else None

    def enter(self, view: frames.ThreadView) -> bool:
        """One is in that thread. Is it a group one was not in before?"""
        new = view.id not in self.mine
        self.mine[view.id] = None
        self.learn(view)
        return new and view.id in self.titles

    def learn(self, view: frames.ThreadView) -> None:
        other = self.other(view)
        if other:
            self.wrote_to(other, view.id)
        else:
            self.titles[view.id] = " ".join(clean_output(view.title).translate(_TITLE).split())

    def wrote_to(self, name: str, thread: str) -> None:
        self._private[names.key(name)] = thread

    def learn_from(self, message: Message) -> None:
        """Where a message went tells a private thread from a group for certain."""
        if message.destination == message.thread:
            if message.thread not in self.titles:
                self.titles[message.thread] = ""
                self._private = {name: id for name, id in self._private.items() if id != message.thread}
        elif message.thread not in self.titles:
            mine = names.key(message.sender) == self.me
            self.wrote_to(message.destination if mine else message.sender, message.thread)

    # Answers being written

    def heard_of(self, run: frames.RunFrame) -> None:
        """It is waiting, being written, or over."""
        if isinstance(run, frames.RunCompleted | frames.RunCancelled | frames.RunFailed):
            self._writing.pop(run.run, None)
        elif run.run not in self._writing:
            self._writing[run.run] = run.assistant
            if len(self._writing) > MAX_WRITING:
                del self._writing[next(iter(self._writing))]

    def writing(self, name: str) -> list[str]:
        """The runs of that assistant that are not over, oldest first."""
        return [run for run, assistant in self._writing.items() if names.key(assistant) == names.key(name)]
