"""What a chat model is shown: a thread's turns as the messages of the Chat Completions dialect.

One message of instructions first, then user and assistant by turns, a user's at both ends: the templates of many
models refuse anything else, and some servers take an assistant's message at the end as the beginning of the answer.
Where the thread leaves such a place empty, `…` stands in it.

The assistant's own earlier turns are the assistant's. Everyone else's are the user's, one line each; with more than
one speaker among them a line begins with the speaker's name, and the further lines of its text are indented, so that
nobody can write a line that looks like another's. (The dialect's own `name` field is refused by some servers and not
shown to the model by others.)
"""

from __future__ import annotations

from collections.abc import Iterator

from hubbub.core.names import key
from hubbub.core.nouns import Prompt, Turn

SILENCE = "…"
INDENT = "\n  "


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as a list of {"role": system, user or assistant, "content": text}; never empty."""
    instructions = [turn.text for turn in prompt.turns if turn.role == "system" and turn.text]
    shown: list[dict[str, str]] = []
    for role, text in _lines(prompt):
        if shown and shown[-1]["role"] == role:
            shown[-1]["content"] += f"\n{text}"
        else:
            shown.append({"role": role, "content": text})
    if not shown or shown[0]["role"] == "assistant":
        shown.insert(0, {"role": "user", "content": SILENCE})
    if shown[-1]["role"] == "assistant":
        shown.append({"role": "user", "content": SILENCE})
    if instructions:
        shown.insert(0, {"role": "system", "content": "\n".join(instructions)})
    return shown


def _lines(prompt: Prompt) -> Iterator[tuple[str, str]]:
    own = key(prompt.assistant)

    def is_own(turn: Turn) -> bool:
        return turn.role == "assistant" and key(turn.name) == own

    said = [turn for turn in prompt.turns if turn.role != "system" and turn.text]
    several = len({key(turn.name) for turn in said if not is_own(turn)}) > 1
    for turn in said:
        if is_own(turn):
            yield "assistant", turn.text
        elif several or turn.role == "assistant":
            yield "user", f"{turn.name}: {INDENT.join(turn.text.splitlines())}"
        else:
            yield "user", turn.text
