"""The numbers of a meter under the names operators see: the one table of what is exported.

Names follow Prometheus' conventions: base units, `_total` for what only grows. A label's values are few and never come
from people: doors, engines, states, route templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from hubbub.hub.meter import Gauge, Meter

PREFIX = "hubbub_"

TIMES = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0)
SHORT_TIMES = (0.0001, 0.000316, *TIMES[:8])
SIZES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 100.0, 1000.0)
"""Upper ends of the buckets that are shown: ends of the sketch's own, so the counts are exact (316 is short for the
square root of 10)."""


class Sample(NamedTuple):
    """`value` of a histogram is its sum; `buckets` are how many did not exceed each of `bounds`."""

    labels: dict[str, str]
    value: float
    buckets: tuple[int, ...] = ()
    number: int = 0


class Family(NamedTuple):
    """One metric, all its samples; `name` as it is exported, without `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[Sample]
    bounds: tuple[float, ...] = ()


class Known(NamedTuple):
    """How a field of `Counts` is exported."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


COUNTS: dict[str, Known] = {
    "messages": Known("messages", "Messages that are on disk and were acknowledged"),
    "deliveries": Known("deliveries", "Frames written to readers that were in step"),
    "delivered_bytes": Known("delivered_bytes", "Bytes of these frames"),
    "catch_ups": Known("catch_ups", "Times a reader was brought into step from the log"),
    "stalls": Known("reader_stalls", "Times a reader's socket was full"),
    "slow_closed": Known("slow_readers_closed", "Readers that made no progress and were let go"),
    "rate_limited": Known("rate_limited", "Messages and connections refused because somebody was too fast"),
    "wrong_passwords": Known("wrong_passwords", "Sign-ins with a wrong name or password"),
    "sessions": Known("sessions", "Connections that were let in", ("door",)),
    "refused_early": Known("http_refused_early", "HTTP requests refused before a route was looked for", ("status",)),
    "requests": Known("http_requests", "HTTP requests answered", ("method", "route", "status")),
    "request_s": Known(
        "http_request_duration_seconds", "From a request to the beginning of its answer", ("method", "route"), TIMES
    ),
    "runs": Known("runs_ended", "Answers that ended, and how", ("engine", "state")),
    "retried": Known("runs_retried", "Answers begun again after they were interrupted", ("engine",)),
    "cancelled": Known("runs_cancelled", "Answers somebody stopped, by what they were in", ("engine", "was")),
    "queue_full": Known("runs_refused", "Answers refused because too many were waiting", ("engine",)),
    "batches": Known("batches", "Batches taken, and why they waited no longer", ("engine", "reason")),
    "batch_size": Known("batch_size", "Answers written together", ("engine",), SIZES),
    "batch_s": Known("batch_duration_seconds", "What batches took to be written", ("engine",), TIMES),
    "waited_s": Known("queue_wait_seconds", "How long answers waited in the queue", ("engine",), TIMES),
    "first_piece_s": Known("first_token_seconds", "From the beginning of a batch to a first piece", ("engine",), TIMES),
    "piece_gap_s": Known("token_gap_seconds", "From one piece of an answer to the next", ("engine",), SHORT_TIMES),
    "tokens": Known("tokens", "Tokens as the models counted them", ("engine", "kind")),
    "commits_lost": Known("commits_lost", "Commits that failed; nothing of them was promised to anyone"),
    "group_size": Known("commit_size", "Writes that shared a commit", (), SIZES),
    "commit_s": Known("commit_duration_seconds", "What commits took, their fsync included", (), SHORT_TIMES),
    "loop_lag_s": Known("event_loop_lag_seconds", "How much later than asked for the event loop came", (), SHORT_TIMES),
}


def families(meter: Meter) -> Iterator[Family]:
    """Everything, as it is now."""
    total = meter.total()
    for field, known in COUNTS.items():
        yield _counted(known, getattr(total, field))
    yield Family(
        PREFIX + "log_entries",
        "counter",
        "Entries in this process's log",
        [Sample({"level": level}, count) for level, count in sorted(meter.log_entries().items())],
    )
    vitals = meter.vitals()
    yield Family(
        PREFIX + "process_cpu_seconds", "counter", "Processor time of this process", [Sample({}, vitals.cpu_s)]
    )
    told: dict[str, list[Gauge]] = {}
    for gauge in [*_process(meter), *meter.now()]:
        told.setdefault(gauge.name, []).append(gauge)
    for name, gauges in told.items():
        yield Family(PREFIX + name, "gauge", gauges[0].help, [Sample(one.labels, one.value) for one in gauges])


def _counted(known: Known, value: Any) -> Family:
    name = PREFIX + known.name
    by_key: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    if not known.bounds:
        samples = [Sample(_labels(known, key), count) for key, count in sorted(by_key.items())]
        return Family(name, "counter", known.help, samples)
    samples = []
    for key, sketch in sorted(by_key.items()):
        buckets = tuple(sketch.up_to(known.bounds))
        samples.append(Sample(_labels(known, key), sketch.total, buckets, sketch.count))
    return Family(name, "histogram", known.help, samples, known.bounds)


def _labels(known: Known, key: str) -> dict[str, str]:
    return dict(zip(known.labels, key.split(" "), strict=True)) if known.labels else {}


def _process(meter: Meter) -> Iterator[Gauge]:
    vitals = meter.vitals()
    yield Gauge("info", "The version that runs", 1, {"version": meter.version})
    yield Gauge("process_start_time_seconds", "When this process started, in Unix seconds", meter.began_at)
    yield Gauge("uptime_seconds", "How long this process has run", meter.uptime_s)
    for name, help, value in (
        ("process_resident_memory_bytes", "Memory of this process", vitals.resident),
        ("process_open_fds", "Files and sockets this process has open", vitals.files),
        ("process_max_fds", "Files and sockets it may have open", vitals.files_most),
        ("memory_available_bytes", "Memory of the machine that could be had without swapping", vitals.memory_free),
        ("memory_total_bytes", "Memory of the machine", vitals.memory_total),
        ("disk_free_bytes", "Free space where the data are", vitals.disk_free),
        ("disk_total_bytes", "Space where the data are", vitals.disk_total),
    ):
        if value is not None:
            yield Gauge(name, help, value)
