"""What a load test found: one document, the same for people and for programs. docs/load.md describes each part.

`version` is raised when a part changes its meaning or goes; new parts may come at any time.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hubbub import __version__
from hubbub.apps.load.plan import Plan
from hubbub.apps.load.quantiles import Quantiles
from hubbub.apps.load.tally import Tally
from hubbub.apps.load.turn import Kind
from hubbub.apps.load.watch import Watch, complaints

VERSION = 1


class Second(msgspec.Struct, frozen=True):
    """`second` after the start; turns by when they ended, pieces by when they came."""

    second: int
    began: int
    ok: int
    failed: int
    pieces: int
    whole_max_s: float
    first_piece_max_s: float


class Step(msgspec.Struct, frozen=True):
    """The turns that began while so many were under way at once."""

    concurrency: int
    from_s: float
    to_s: float
    began: int
    ok: int
    failed: int
    requests_per_s: float
    pieces: int
    whole_s: Quantiles | None
    first_piece_s: Quantiles | None


class Generator(msgspec.Struct, frozen=True):
    """What the load tester itself took, and whether it was what limits."""

    cpu_share: float
    cpu_us_per_request: float
    lag_s: Quantiles | None
    late_s: Quantiles | None
    overloaded: bool
    reasons: list[str]


class Report(msgspec.Struct, frozen=True):
    format: Literal["hubbub load"]
    version: int
    hubbub: str
    started: str  # UTC, RFC 3339
    url: str
    talker: str
    mode: Literal["open", "closed"]
    plan: Plan
    interrupted: bool
    elapsed_s: float
    requests: int
    ok: int
    failed: int
    unfinished: int
    errors: dict[str, int]
    examples: dict[str, str]
    requests_per_s: float
    pieces: int
    pieces_per_s: float
    bytes_sent: int
    bytes_received: int
    connections: int
    whole_s: Quantiles | None
    first_piece_s: Quantiles | None
    gap_s: Quantiles | None
    connect_s: Quantiles | None
    seconds: list[Second]
    steps: list[Step]
    generator: Generator

    @property
    def all_well(self) -> bool:
        return not self.failed and self.ok > 0


def report(
    plan: Plan,
    tally: Tally,
    watch: Watch,
    *,
    url: str,
    talker: str,
    started: str,
    elapsed_s: float,
    interrupted: bool,
) -> Report:
    """Of what was counted until now."""
    ended = tally.ok + tally.failed
    elapsed_s = max(elapsed_s, 1e-9)
    cpu_share = watch.cpu_s() / max(watch.elapsed_s(), 1e-9)
    lag = watch.lag.summary()
    reasons = complaints(cpu_share, lag.p99 if lag else 0.0, tally.kinds[Kind.OWN_LIMIT])
    return Report(
        format="hubbub load",
        version=VERSION,
        hubbub=__version__,
        started=started,
        url=url,
        talker=talker,
        mode=plan.mode,
        plan=plan,
        interrupted=interrupted,
        elapsed_s=elapsed_s,
        requests=tally.began,
        ok=tally.ok,
        failed=tally.failed,
        unfinished=tally.began - ended,
        errors=dict(tally.kinds.most_common()),
        examples=tally.examples,
        requests_per_s=ended / elapsed_s,
        pieces=tally.pieces,
        pieces_per_s=tally.pieces / elapsed_s,
        bytes_sent=tally.sent,
        bytes_received=tally.received,
        connections=tally.connects.count,
        whole_s=tally.whole.summary(),
        first_piece_s=tally.first.summary(),
        gap_s=tally.gaps.summary(),
        connect_s=tally.connects.summary(),
        seconds=[
            Second(i, s.began, s.ok, s.failed, s.pieces, s.whole_max, s.first_max) for i, s in enumerate(tally.seconds)
        ],
        steps=_steps(tally, elapsed_s),
        generator=Generator(
            cpu_share=cpu_share,
            cpu_us_per_request=watch.cpu_s() / max(ended, 1) * 1e6,
            lag_s=lag,
            late_s=tally.late.summary() if plan.mode == "open" else None,
            overloaded=bool(reasons),
            reasons=reasons,
        ),
    )


def _steps(tally: Tally, elapsed_s: float) -> list[Step]:
    """Those that were reached."""
    ends = [stair.begins_s for stair in tally.stairs[1:]] + [elapsed_s]
    return [
        Step(
            concurrency=stair.level,
            from_s=stair.begins_s,
            to_s=min(end, elapsed_s),
            began=count.began,
            ok=count.ok,
            failed=count.failed,
            requests_per_s=(count.ok + count.failed) / max(min(end, elapsed_s) - stair.begins_s, 1e-9),
            pieces=count.pieces,
            whole_s=count.whole.summary(),
            first_piece_s=count.first.summary(),
        )
        for stair, end, count in zip(tally.stairs, ends, tally.steps, strict=True)
        if stair.begins_s < elapsed_s
    ]
