"""A run's life as operators see it: a line in the log and a number, without a word of what people say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog

from hubbub.core.nouns import Run, RunState
from hubbub.core.ports import Progress
from hubbub.hub.meter import add

if TYPE_CHECKING:
    from hubbub.hub.hub import Hub

log = structlog.get_logger("hubbub.runs")


def held(hub: Hub, run: Run) -> None:
    """It waits for the answers before it in its thread."""
    log.debug("run_held", **_what(hub, run))


def queued(hub: Hub, run: Run, position: int) -> None:
    log.info("run_queued", **_what(hub, run), position=position)


def refused(hub: Hub, run: Run) -> None:
    """The queue was full; its end is told as well."""
    add(hub.counts.queue_full, engine_of(hub, run))


def retried(hub: Hub, run: Run) -> None:
    add(hub.counts.retried, engine_of(hub, run))
    log.warning("run_retried", **_what(hub, run))


def cancelled(hub: Hub, run: Run) -> None:
    """Somebody stops it, just now."""
    was = state_of(hub, run)
    add(hub.counts.cancelled, f"{engine_of(hub, run)} {was}")
    log.info("run_cancelled", **_what(hub, run), was=str(was))


def ended(hub: Hub, run: Run, progress: Progress, begun: float | None) -> None:
    """Its message is stored. `begun`: when it was queued here, in monotonic seconds."""
    hub.meter.ended(engine_of(hub, run), progress.state)
    usage = progress.usage
    figures = {
        "characters": len(progress.text),
        "prompt_tokens": usage.prompt if usage else None,
        "completion_tokens": usage.completion if usage else None,
        "truncated": progress.truncated or None,
        "seconds": round(time.monotonic() - begun, 3) if begun is not None else None,
    }
    tell = log.warning if progress.state is RunState.FAILED else log.info
    known = {name: figure for name, figure in figures.items() if figure is not None}
    tell("run_ended", **_what(hub, run), state=str(progress.state), **known)


def standing(hub: Hub, runs: Iterable[Run]) -> Counter[tuple[str, str]]:
    """How many of these open ones each engine has waiting (`queued`) and is writing (`running`)."""
    found = Counter({(engine, state): 0 for engine in hub.assistants.engines for state in ("queued", "running")})
    found.update((engine_of(hub, run), str(state_of(hub, run))) for run in runs)
    return found


def state_of(hub: Hub, run: Run) -> RunState:
    """A run that has not ended is running once a worker has taken it."""
    return RunState.QUEUED if hub.bus.so_far(run.id) is None else RunState.RUNNING


def engine_of(hub: Hub, run: Run) -> str:
    """The name of the engine that writes it, also when its assistant was deleted meanwhile."""
    assistant = hub.assistants.that_writes(run.assistant)
    return hub.assistants.writer(assistant) if assistant else hub.assistants.engine


def common(run: Run) -> dict[str, Any]:
    """What every line and every frame about it begins with."""
    return {"run": run.id, "thread": run.thread, "assistant": run.assistant, "attempt": run.attempt}


def _what(hub: Hub, run: Run) -> dict[str, Any]:
    return common(run) | {"engine": engine_of(hub, run)}
