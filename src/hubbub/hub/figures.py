"""What `/metrics` and `/api/stats` answer, from a meter alone: a server and a worker process show the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from hubbub.core.nouns import stamp
from hubbub.core.sketch import Sketch
from hubbub.hub.families import families
from hubbub.hub.meter import SLOWEST, Counts, Meter, Minute

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
WINDOWS = {"last_5_minutes": 5, "last_hour": 60}


def wants_json(accept: str) -> bool:
    """Scrapers name the text formats; who names JSON and none of them gets JSON."""
    return "application/json" in accept and "text/plain" not in accept and "openmetrics" not in accept


def exposition(meter: Meter, accept: str = "") -> tuple[bytes, str]:
    """Prometheus' text, or OpenMetrics when `accept` asks for it, and its media type."""
    from prometheus_client import exposition as plain
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.openmetrics import exposition as openmetrics

    class Collected:
        def collect(self) -> Iterable[Metric]:
            for family in families(meter):
                names = list(family.samples[0].labels) if family.samples else []
                metric: Any
                if family.kind == "histogram":
                    metric = HistogramMetricFamily(family.name, family.help, labels=names)
                    ends = [str(bound) for bound in family.bounds]
                    for one in family.samples:
                        buckets = [*zip(ends, one.buckets, strict=True), ("+Inf", one.number)]
                        metric.add_metric(list(one.labels.values()), buckets, one.value)
                else:
                    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                    metric = kind(family.name, family.help, labels=names)
                    for one in family.samples:
                        metric.add_metric(list(one.labels.values()), one.value)
                yield metric

    if "application/openmetrics-text" in accept:
        encode: Callable[[Any], bytes] = openmetrics.generate_latest
        return encode(Collected()), openmetrics.CONTENT_TYPE_LATEST
    return plain.generate_latest(Collected()), plain.CONTENT_TYPE_PLAIN_0_0_4


def brief(meter: Meter) -> dict[str, Any]:
    """`/metrics` as JSON: five plain fields, since the start of this process, and everything that the text has.
    `average_response_time` in seconds, `error_rate` the share of requests that failed on our side (5xx)."""
    counts = meter.total()
    requests = counts.requests
    total = sum(requests.values())
    took = _together(counts.request_s.values())
    return {
        "total_requests": total,
        "active_conversations": int(sum(gauge.value for gauge in meter.now() if gauge.name == "rooms_open")),
        "average_response_time": round(took.mean or 0.0, 6),
        "error_rate": round(_errors(counts) / total, 6) if total else 0.0,
        "timestamp": stamp(meter.clock()),
        "metrics": {
            family.name + ("_total" if family.kind == "counter" else ""): [
                {"labels": one.labels, "count": one.number, "sum": round(one.value, 6)}
                if family.kind == "histogram"
                else {"labels": one.labels, "value": one.value}
                for one in family.samples
            ]
            for family in families(meter)
        },
    }


def stats(meter: Meter) -> dict[str, Any]:
    """`/api/stats`. Times in seconds, sizes in bytes; null where there is nothing to tell."""
    ever = meter.total()
    windows = {name: _sum(meter.last(minutes)) for name, minutes in WINDOWS.items()} | {"since_start": ever}
    slowest = sorted(chain.from_iterable(minute.slowest for minute in meter.last(60)), reverse=True)[:SLOWEST]
    vitals = meter.vitals()
    return {
        "timestamp": stamp(meter.clock()),
        "version": meter.version,
        "uptime_s": round(meter.uptime_s, 3),
        "now": [{"name": gauge.name, "labels": gauge.labels, "value": gauge.value} for gauge in meter.now()],
        "process": {name: getattr(vitals, name) for name in vitals.__struct_fields__},
        "log_entries": meter.log_entries(),
        "requests": {name: _by_route(counts) for name, counts in windows.items()},
        "slowest": [
            {"route": slow.route, "status": slow.status, "ms": round(slow.seconds * 1000, 3), "at": stamp(slow.at)}
            for slow in slowest
        ],
        "runs": {name: _runs(counts) for name, counts in windows.items()},
        "store": {
            name: {"commit_s": quantiles(counts.commit_s), "commit_size": quantiles(counts.group_size)}
            for name, counts in windows.items()
        },
        "loop_lag_s": {name: quantiles(counts.loop_lag_s) for name, counts in windows.items()},
        "counts": {name: value for name in ever.__struct_fields__ if isinstance(value := getattr(ever, name), int)},
        "series": _series(meter),
    }


def quantiles(sketch: Sketch) -> dict[str, float | int | None]:
    """How many there are, their mean, and p50 to max, each within 5 %."""
    found: dict[str, float | int | None] = {"count": sketch.count, "mean": _round(sketch.mean)}
    for name, share in SHARES.items():
        found[name] = _round(sketch.quantile(share))
    return found


def _by_route(counts: Counts) -> list[dict[str, Any]]:
    """The busiest first."""
    failed: dict[str, int] = {}
    for key, count in counts.requests.items():
        route, status = key.rsplit(" ", 1)
        if status.startswith("5"):
            failed[route] = failed.get(route, 0) + count
    rows = [
        {"route": route, "errors": failed.get(route, 0), **quantiles(took)} for route, took in counts.request_s.items()
    ]
    return sorted(rows, key=lambda row: -row["count"])


def _runs(counts: Counts) -> dict[str, Any]:
    return {
        "ended": counts.runs,
        "cancelled": counts.cancelled,
        "retried": counts.retried,
        "refused": counts.queue_full,
        "batches": counts.batches,
        "tokens": counts.tokens,
        **{
            name: {engine: quantiles(sketch) for engine, sketch in getattr(counts, name).items()}
            for name in ("batch_size", "batch_s", "waited_s", "first_piece_s", "piece_gap_s")
        },
    }


def _series(meter: Meter) -> dict[str, list[Any]]:
    """A column each of what is drawn over time: one value a minute, oldest first; the last is of the minute that is
    not over."""
    minutes = [*meter.minutes, meter.this_minute()]
    columns: dict[str, Callable[[Minute], Any]] = {
        "at": lambda minute: stamp(minute.at),
        "seconds": lambda minute: minute.seconds,
        "requests_per_s": lambda minute: sum(minute.counts.requests.values()) / minute.seconds,
        "errors": lambda minute: _errors(minute.counts),
        "messages_per_s": lambda minute: minute.counts.messages / minute.seconds,
        "deliveries_per_s": lambda minute: minute.counts.deliveries / minute.seconds,
        "runs_ended": lambda minute: sum(minute.counts.runs.values()),
        "runs_failed": lambda minute: sum(n for key, n in minute.counts.runs.items() if key.endswith(" failed")),
        "queued": lambda minute: minute.queued,
        "cpu": lambda minute: minute.cpu,
        "resident": lambda minute: minute.vitals.resident,
        "memory_free": lambda minute: minute.vitals.memory_free,
        "disk_free": lambda minute: minute.vitals.disk_free,
    }
    drawn: dict[str, Callable[[Counts], Sketch]] = {
        "request_s": lambda counts: _together(counts.request_s.values()),
        "first_piece_s": lambda counts: _together(counts.first_piece_s.values()),
        "piece_gap_s": lambda counts: _together(counts.piece_gap_s.values()),
        "waited_s": lambda counts: _together(counts.waited_s.values()),
        "batch_size": lambda counts: _together(counts.batch_size.values()),
        "commit_s": lambda counts: counts.commit_s,
        "loop_lag_s": lambda counts: counts.loop_lag_s,
    }
    series = {name: [_round(tell(minute)) for minute in minutes] for name, tell in columns.items()}
    for name, pick in drawn.items():
        sketches = [pick(minute.counts) for minute in minutes]
        for share in ("p50", "p95", "p99"):
            series[f"{name}_{share}"] = [_round(sketch.quantile(SHARES[share])) for sketch in sketches]
    series["batch_size_mean"] = [_round(_together(minute.counts.batch_size.values()).mean) for minute in minutes]
    return series


def _together(sketches: Iterable[Sketch]) -> Sketch:
    whole = Sketch()
    for sketch in sketches:
        whole = whole.plus(sketch)
    return whole


def _sum(minutes: Iterable[Minute]) -> Counts:
    whole = Counts()
    for minute in minutes:
        whole = whole.plus(minute.counts)
    return whole


def _errors(counts: Counts) -> int:
    return sum(count for key, count in counts.requests.items() if key.rsplit(" ", 1)[1].startswith("5"))


def _round(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
