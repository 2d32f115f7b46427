"""The engine for every server that speaks Chat Completions: OpenAI, Ollama, vLLM, llama.cpp, LM Studio, LiteLLM.

It posts a thread's turns, relays the text as it comes, and closes the connection when nobody wants the rest, by which
these servers stop writing. Nothing is tried twice: whoever asks may ask again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from urllib.parse import urlsplit

from hubbub.core.nouns import Prompt
from hubbub.core.ports import EngineFailure, Piece, Usage
from hubbub.engines.chat_failures import ChatFailures, Cut
from hubbub.engines.chat_messages import messages
from hubbub.engines.chat_reader import ChatReader

LIST_S = 10.0
"""How long a server may take to say which models it has."""

MAX_LIST_BYTES = 4 << 20

AFTER_S = 2.0
"""How long a server that has told the end of an answer may take to tell what it cost."""


class ChatEngine:
    """Asks the server at `base_url` (`http://127.0.0.1:11434/v1`) for the model that a prompt names, else for `model`.

    Raises ValueError: the address or the key cannot be one; the sentence repeats neither.

    Args:
        base_url: what stands before `/chat/completions`; http or https, without a name, password or query.
        model: empty: the first one the server lists, asked for when it is first needed.
        api_key: sent to this server and nobody else.
        at_once: how many questions it is asked at the same time.
        connect_s: how long connecting may take, and then TLS again.
        first_s: from asking until the model begins to write, be it thoughts.
        idle_s: between two pieces. A gateway's heartbeats are not the model's.
        total_s: from asking to the end.
        max_tokens: how long an answer may be, in the model's tokens; None: as the server does.
    """

    batch = 1

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        at_once: int = 8,
        connect_s: float = 5,
        first_s: float = 120,
        idle_s: float = 30,
        total_s: float = 600,
        max_tokens: int | None = None,
    ) -> None:
        from hubbub.engines.chat_server import ChatServer  # 0.15 s that a server without such a model is spared

        base, where = _address(base_url)
        key = (api_key or "").strip()
        if not all("!" <= char <= "~" for char in key):
            raise ValueError("The model server's key has characters in it that no key has; look at how it was set.")
        self.name = model or where
        self._model = model
        self.at_once = at_once
        self._first_s = first_s
        self._idle_s = idle_s
        self._total_s = total_s
        self._failures = ChatFailures(where, model, key)
        self._server = ChatServer(base, key, connect_s)
        self._asked: dict[str, object] = {"stream": True, "stream_options": {"include_usage": True}}
        if max_tokens is not None:
            # OpenAI's newer models refuse the older name, and some other servers ignore the newer one.
            name = "max_completion_tokens" if where.startswith("api.openai.com:") else "max_tokens"
            self._asked[name] = max_tokens

    async def answer(self, prompts: Sequence[Prompt]) -> AsyncIterator[tuple[int, Piece]]:
        """Yield (index of the prompt, piece of its answer), a Usage if the server tells one, then an empty piece; or
        the EngineFailure that ended that answer. Several prompts are answered one after the other."""
        for index, prompt in enumerate(prompts):
            try:
                async with aclosing(self._write(prompt)) as pieces:
                    async for piece in pieces:
                        yield index, piece
            except EngineFailure as failure:
                yield index, EngineFailure(*failure.args)  # a sentence, without what stood around where it was raised
            else:
                yield index, ""

    async def _write(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        model = prompt.model or self._model or await self._first_listed()
        fail = self._failures.about(model)
        asked = {"model": model, **self._asked, "messages": messages(prompt)}
        body = json.dumps(asked, ensure_ascii=False).encode(errors="replace")
        reader, wrote = ChatReader(), False
        async with aclosing(self._read(body, reader, fail)) as texts:
            async for text in texts:
                if text:
                    wrote = True
                    yield text
        if reader.usage is not None:
            yield reader.usage
        if reader.error is not None:
            raise fail.broke_off(reader.error)
        if reader.strange or not reader.events:
            raise fail.strange()
        if reader.finish == "content_filter":
            raise fail.filtered()
        if reader.finish is None and not reader.over:
            raise fail.cut()
        if not wrote:
            raise fail.empty(reader.finish)

    async def _read(self, body: bytes, reader: ChatReader, fail: ChatFailures) -> AsyncGenerator[str, None]:
        """Yield what `reader` makes of the answer. Time counts while we wait, not while others deal with a piece."""
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with self._server.ask(body, min(self._first_s, self._total_s), fail) as reply:
                waited = now() - began
                while not reader.over:
                    since, heard = now(), reader.wrote
                    patience_s = AFTER_S if reader.finish else self._idle_s if reader.wrote else self._first_s
                    async with asyncio.timeout_at(min(since + patience_s - waited, began + self._total_s)):
                        chunk = await reply.next()
                    text = reader.feed(chunk) if chunk else reader.end()
                    waited = 0 if reader.wrote > heard else waited + now() - since
                    yield text
                    if not chunk:
                        break
        except (TimeoutError, Cut) as failure:
            if reader.finish:
                return  # what it said is whole; only what it cost is not known
            if isinstance(failure, Cut):
                raise (fail.cut() if reader.events else fail.hung_up()) from None
            if now() >= began + self._total_s:
                raise fail.never_ended(self._total_s) from None
            if reader.wrote:
                raise fail.fell_silent(self._idle_s) from None
            raise fail.never_began(self._first_s) from None

    async def _first_listed(self) -> str:
        """The name of the first model the server lists. Raises EngineFailure."""
        fail, listed, within_s = self._failures, b"", min(LIST_S, self._first_s)
        try:
            async with asyncio.timeout(within_s), self._server.ask(None, within_s, fail) as reply:
                while len(listed) < MAX_LIST_BYTES and (chunk := await reply.next()):
                    listed += chunk
        except (TimeoutError, Cut):
            raise fail.never_began(within_s) from None
        try:
            model = json.loads(listed)["data"][0]["id"]
            if not (isinstance(model, str) and model and model.isprintable()):
                raise ValueError
        except (LookupError, TypeError, ValueError):
            raise fail.no_models() from None
        self.name = self._model = model
        return model


def _address(base_url: str) -> tuple[str, str]:
    """The address without a slash at its end, and its host and port. Raises ValueError."""
    base = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(base)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        odd = "@" in parts.netloc or "?" in base or "#" in base or not base.isprintable() or " " in base
        if odd or not parts.hostname:
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(
            "The model server's address must be like http://127.0.0.1:11434/v1, "
            "without a name, a password, a query or a fragment."
        ) from None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return base, f"{host}:{port}"
