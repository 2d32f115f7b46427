"""Reads one answer of the Chat Completions dialect, as its many speakers really write it.

A stream of server-sent events, with or without its `[DONE]`, or one JSON object although a stream was asked for. Text
is what stands in a delta's `content` or `refusal`; what a model thinks in `reasoning` or `reasoning_content` is not.
An error may come as `{"error": …}` in any event, as an event of that type, or inside a choice. Whatever else there is
has no meaning here. No await, no clock and no I/O.
"""

from __future__ import annotations

import json
from typing import Any

from hubbub.core.ports import Usage
from hubbub.core.sse_lines import MAX_EVENT_BYTES, ServerEvent, SseLines, TooLong

TOKENS = range(1 << 40)
"""So many an answer may have cost; what a server says beyond is no count."""

_BLANK = b" \t\r\n\xef\xbb\xbf"


class ChatReader:
    """Feed it what was read until it is `over`; at the end of the stream call `end`."""

    def __init__(self) -> None:
        self.over = False
        """Nothing more is to come: the server said so, or something is wrong."""
        self.finish: str | None = None
        """Why the model stopped, once it has: stop, length, content_filter, …"""
        self.usage: Usage | None = None
        self.error: object = None
        """What the server says went wrong, in whatever form it says it."""
        self.strange = False
        """This is no answer of this dialect, or one beyond every measure."""
        self.events = 0
        """How many things it has read that belong to an answer."""
        self.wrote = 0
        """How many of them the model is heard in: it writes, or thinks, or has ended."""
        self._began = False
        self._lines = SseLines()
        self._whole: bytearray | None = None  # a JSON object instead of a stream
        self._half = ""  # the first half of a surrogate pair that was cut in two

    def feed(self, chunk: bytes) -> str:
        """The text in it."""
        if not self._began and (start := chunk.lstrip(_BLANK)):
            self._began = True
            if start.startswith(b"{"):
                self._whole = bytearray()
        if self._whole is not None:
            self._whole += chunk
            if len(self._whole) > MAX_EVENT_BYTES:
                self._stop(strange=True)
            return ""
        return self._read(chunk)

    def end(self) -> str:
        """The text in what had not ended yet."""
        if self._whole is None:
            return self._read(None)
        text = self._object(bytes(self._whole))
        self.over = True
        self.strange = self.error is None and not self.events
        return text

    def _read(self, chunk: bytes | None) -> str:
        text = ""
        try:
            for event in self._lines.end() if chunk is None else self._lines.feed(chunk):
                text += self._event(event)
                if self.over:
                    break
        except TooLong:
            self._stop(strange=True)
        return text

    def _event(self, event: ServerEvent) -> str:
        data = event.data.strip()
        if data == b"[DONE]":
            self.events += 1
            self.over = True
        elif event.type == "error":
            self._stop(error=_json(data) or data.decode("utf-8", "replace"))
        elif data.startswith(b"{"):
            return self._object(data)
        return ""

    def _object(self, data: bytes) -> str:
        found = _json(data)
        if not isinstance(found, dict):
            self._stop(strange=True)
            return ""
        if found.get("error") or found.get("object") == "error":
            self._stop(error=found.get("error") or found)
            return ""
        self._count(found.get("usage"))
        choices = found.get("choices")
        if not isinstance(choices, list):
            return ""
        self.events += 1
        return "".join(self._choice(choice) for choice in choices if isinstance(choice, dict))

    def _choice(self, choice: dict[str, Any]) -> str:
        if choice.get("index"):
            return ""
        said = choice.get("delta") or choice.get("message")
        text = ""
        heard = False
        if isinstance(said, dict):
            heard = any(value for name, value in said.items() if name != "role")
            text = self._joined(_text(said.get("content")) or _text(said.get("refusal")))
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            heard = True
            self.finish = reason
        self.wrote += heard
        if choice.get("error") or self.finish == "error":
            self._stop(error=choice.get("error") or self.finish)
        return text

    def _joined(self, text: str) -> str:
        """Without half characters: some servers escape an emoji as two halves and send them in two pieces."""
        if text.isascii() and not self._half:
            return text
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if type(prompt) is int and type(completion) is int and prompt in TOKENS and completion in TOKENS:
                self.events += 1
                self.usage = Usage(prompt, completion)

    def _stop(self, *, error: object = None, strange: bool = False) -> None:
        self.error, self.strange, self.over = error, strange, True


def _json(data: bytes) -> object:
    try:
        found: object = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found


def _text(content: object) -> str:
    """A text, or the text among the parts some servers send instead."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type", "text") == "text"]
        return "".join(_text(part.get("text")) for part in parts)
    return content if isinstance(content, str) else ""
