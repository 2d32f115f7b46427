"""Who writes answers here, made from the settings: the demo model, a model server, a program."""

from __future__ import annotations

import shlex
import sys
from urllib.parse import urlsplit

from hubbub.config import Settings
from hubbub.core.errors import BadRequest
from hubbub.core.ports import Engine

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-5-mini"
"""What is asked of OpenAI itself when nobody says which model: its list begins with no particular one."""

MOCK_DELAY_S = 0.3

EVERY = frozenset({"demo", "openai", "script"})
"""Every engine there may be: over Redis a worker elsewhere may have what is not set up here."""


def engines(settings: Settings) -> dict[str, Engine]:
    """Everybody who can write, by name. Those nobody asks for cost nothing but this.

    Raises BadRequest: an address or a key cannot be one, or the engine that was chosen is not there.
    """
    from hubbub.engines.demo import DemoEngine
    from hubbub.engines.script import ScriptEngine

    found: dict[str, Engine] = {
        "demo": DemoEngine(word_s=settings.demo_word_s, first_s=settings.response_delay),
        "script": ScriptEngine(_script(settings)),
    }
    if settings.openai_api_key or settings.openai_base_url:
        from hubbub.engines.chat_completions import ChatEngine

        base_url = settings.openai_base_url or OPENAI_URL
        model = settings.openai_model or (OPENAI_MODEL if base_url.startswith(OPENAI_URL) else "")
        try:
            found["openai"] = ChatEngine(
                base_url,
                model,
                settings.openai_api_key or None,
                at_once=settings.openai_at_once,
                max_tokens=settings.openai_max_tokens,
            )
        except ValueError as wrong:
            raise BadRequest(str(wrong)) from None
    if settings.engine == "openai" and "openai" not in found and not settings.redis_url:
        raise BadRequest("HUBBUB_ENGINE=openai takes OPENAI_API_KEY, or OPENAI_BASE_URL of a server without a key.")
    return found


def default_engine(settings: Settings) -> str:
    """Who writes for an assistant that does not say."""
    if settings.engine != "auto":
        return str(settings.engine)
    if settings.openai_api_key or settings.openai_base_url:
        return "openai"
    return "script" if settings.script else "demo"


def answers(settings: Settings) -> str:
    """Who answers, in words for whoever starts the server."""
    engine = default_engine(settings)
    if engine == "demo":
        return "a built-in demo model answers; it needs no key"
    if engine == "script":
        return f"{shlex.split(settings.script)[0]} answers" if settings.script else "the mock program answers"
    where = urlsplit(settings.openai_base_url or OPENAI_URL).netloc
    return f"{settings.openai_model or 'the model'} at {where} answers"


def _script(settings: Settings) -> list[str]:
    if settings.script:
        return shlex.split(settings.script)
    slow = MOCK_DELAY_S if settings.origin["response_delay"] == "default" else settings.response_delay
    return [sys.executable, "-m", "hubbub.engines.mock_script", "--delay", f"{slow:g}"]
