"""Asking the chat engine what a scripted model server makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubbub.core.nouns import Prompt, Turn
from hubbub.core.ports import EngineFailure, Piece
from hubbub.engines.chat_completions import ChatEngine
from tests.support.model_script import (
    Act,
    Script,
    playing,
)

KEY = "sk-canary-4711"
SERVER = "The model server at HERE"
RIGHT = "Is its address right, to the /v1 at its end?"


def asking(text: str = "hi", *, run: str = "r1") -> Prompt:
    return Prompt(run=run, assistant="helper", turns=(Turn(role="user", name="alice", text=text),))


async def heard(script: Script, prompts: Sequence[Prompt] = (), **options: Any) -> list[tuple[int, Piece]]:
    engine = ChatEngine(script.base_url, "gpt-9", KEY, **options)
    return [piece async for piece in engine.answer(prompts or [asking()])]


async def answer(*acts: Act, **options: Any) -> tuple[str, list[Piece]]:
    """The text of the answer to one question, and what else there was, in the order it came."""
    async with playing(*acts) as script:
        pieces = [piece for _, piece in await heard(script, **options)]
        where = f"127.0.0.1:{script.port}"
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    others = [piece for piece in pieces if not (isinstance(piece, str) and piece)]
    return text, [str(other).replace(where, "HERE") if isinstance(other, EngineFailure) else other for other in others]
