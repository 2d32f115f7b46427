"""A load test in words: one line while it runs, a page at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from hubbub.apps.load.quantiles import Quantiles
from hubbub.apps.load.report import Report
from hubbub.apps.load.tally import Tally

PLAIN_EVERY_S = 5.0
"""Between two lines where none can be written over."""


class Progress:
    """Tells how it goes: on a terminal in one line, elsewhere in a line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._over = stream.isatty()
        self._next_s = PLAIN_EVERY_S
        self._width = 0

    def __call__(self, tally: Tally, elapsed_s: float) -> None:
        line = progress(tally, elapsed_s)
        if self._over:
            self._stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        elif elapsed_s >= self._next_s:
            self._stream.write(line + "\n")
            self._next_s = elapsed_s + PLAIN_EVERY_S
        self._stream.flush()

    def clear(self) -> None:
        if self._over and self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._stream.flush()


def progress(tally: Tally, elapsed_s: float) -> str:
    ended = tally.ok + tally.failed
    line = f"{elapsed_s:.0f} s  {ended:,} requests, {_errors(tally.failed)}, {ended / max(elapsed_s, 1e-9):,.1f}/s"
    line += f", {tally.under_way} under way"
    if tally.first.count:
        line += f", first piece p50 {_time(tally.first.at(0.5))}"
    return line


def page(report: Report) -> str:
    """What the report says, in lines."""
    plan = report.plan
    how = (
        f"at most {plan.concurrency} at once, {plan.turns} turns a conversation"
        if plan.turns > 1
        else (f"at most {plan.concurrency} at once")
    )
    if plan.rate is None:
        mode = f"closed loop, {how}: the next request begins when one has ended"
    else:
        mode = f"open loop, {plan.rate:g} requests/s, {how}: times count from when each was due"
    lines = [
        f"{report.talker} at {report.url}",
        mode,
        "",
        f"requests   {report.requests:,} in {report.elapsed_s:.1f} s, {report.requests_per_s:,.1f}/s"
        f" over {report.connections:,} connections",
        f"ok         {report.ok:,}",
        f"errors     {report.failed:,}",
        *(f"           {count:,} × {kind}: {_plain(report.examples[kind])}" for kind, count in report.errors.items()),
    ]
    if report.interrupted:
        lines.append(f"stopped    before the end; {report.unfinished:,} were under way")
    lines += [
        f"pieces     {report.pieces:,}, {report.pieces_per_s:,.1f}/s",
        f"bytes      {_size(report.bytes_received)} received, {_size(report.bytes_sent)} sent",
        "",
        *_table(
            ("", "p50", "p90", "p95", "p99", "max"),
            [
                _row("whole", report.whole_s),
                _row("first piece", report.first_piece_s),
                _row("between pieces", report.gap_s),
                _row("connecting", report.connect_s),
            ],
        ),
    ]
    if len(report.steps) > 1:
        lines += [
            "",
            *_table(
                ("at once", "requests", "errors", "per s", "whole p50", "p99", "first p50", "p99"),
                [
                    (
                        f"{step.concurrency}",
                        f"{step.ok + step.failed:,}",
                        f"{step.failed:,}",
                        f"{step.requests_per_s:,.1f}",
                        *_two(step.whole_s),
                        *_two(step.first_piece_s),
                    )
                    for step in report.steps
                ],
            ),
        ]
    took = report.generator
    lag = f", its timers late by {_time(took.lag_s.p99)} (p99)" if took.lag_s else ""
    cost = f"{took.cpu_share:.0%} of a core, {took.cpu_us_per_request:,.0f} µs a request{lag}"
    lines += ["", f"The load tester itself took {cost}."]
    if took.overloaded:
        lines += [
            *took.reasons,
            "So the load tester did not keep up, or its machine was busy: the times above may be longer than the "
            "server's by as much. Ask for less at once, or run it on a machine of its own.",
        ]
    return "\n".join(lines)


def _errors(count: int) -> str:
    return "1 error" if count == 1 else f"{count:,} errors"


def _plain(text: str) -> str:
    """What a server said may neither begin a line nor move a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _row(name: str, times: Quantiles | None) -> tuple[str, ...]:
    if times is None:
        return (name, *["–"] * 5)
    return (name, *map(_time, (times.p50, times.p90, times.p95, times.p99, times.max)))


def _two(times: Quantiles | None) -> tuple[str, str]:
    return ("–", "–") if times is None else (_time(times.p50), _time(times.p99))


def _time(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1e3:.2f} ms"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        (
            f"{row[0]:<{widths[0]}}"
            + "".join(f"{cell:>{width + 3}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        )
        for row in (head, *rows)
    ]
