"""docs/operations.md and docs/alerts.yml against the code: every name in them is one a server exports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import trustme
import yaml
from promql_parser import MatchOp

from hubbub import config
from hubbub.app import App
from hubbub.hub.families import COUNTS, PREFIX, Family, families

from .pages import plain, read, render, table

PAGE = read("docs/operations.md")
RULES = yaml.safe_load(read("docs/alerts.yml"))
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
SCRAPED = {"up": {"job"}}
"""What Prometheus adds of its own."""

VALUES = {"state": {"queued", "running", "completed", "failed", "cancelled"}, "level": {"warning", "error"}}


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """A server that has everything there is to watch."""
    tmp = tmp_path_factory.mktemp("operations")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(tmp / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp / "cert.pem"))
    flags = {"home": tmp / "home", "port": 0, "tcp_port": 0, "tls_cert": tmp / "cert.pem", "tls_key": tmp / "key.pem"}
    async with App(config.load(flags, {}, Path("/nonexistent"))) as app:
        yield app


def labels(family: Family) -> list[str]:
    known = [known for known in COUNTS.values() if PREFIX + known.name == family.name]
    return list(known[0].labels) if known else list(family.samples[0].labels)


def exported(app: App) -> dict[str, set[str]]:
    """The names a scraper sees, each with its labels."""
    found: dict[str, set[str]] = {}
    for family in families(app.meter):
        names = set(labels(family))
        match family.kind:
            case "counter":
                found[family.name + "_total"] = names
            case "histogram":
                found |= {family.name + "_bucket": names | {"le"}}
                found |= {family.name + "_sum": names, family.name + "_count": names}
            case _:
                found[family.name] = names
    return found


def test_every_metric_is_listed_with_its_kind_and_labels(app: App) -> None:
    rows = [
        [
            f"`{family.name}{'_total' if family.kind == 'counter' else ''}`",
            family.kind,
            ", ".join(f"`{name}`" for name in labels(family)),
            family.help,
        ]
        for family in families(app.meter)
    ]

    assert table(PAGE, "What is counted").rows == rows, render(["metric", "kind", "labels", "meaning"], rows)


def selectors(expression: Any) -> Iterator[Any]:
    """Every selector of series in a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from selectors(inner)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_is_about_metrics_and_labels_that_there_are(app: App, rule: dict[str, Any]) -> None:
    names = exported(app) | SCRAPED
    found = list(selectors(promql_parser.parse(rule["expr"])))

    assert len(found) == len(re.findall(r"hubbub_\w+|\bup\b", rule["expr"]))
    for selector in found:
        assert selector.name in names, f"{rule['alert']} watches {selector.name}, which nothing exports"
        for matcher in selector.matchers.matchers:
            assert matcher.name in names[selector.name], f"{selector.name} has no label {matcher.name}"
            if matcher.name in VALUES and matcher.op == MatchOp.Equal:
                assert matcher.value in VALUES[matcher.name]
    for grouped in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        known = set().union(*(names[selector.name] for selector in found)) | {"instance"}
        assert {name.strip() for name in grouped.split(",")} <= known


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_is_wrong(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Hubbub[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]


def test_no_two_alerts_are_called_the_same() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_what_has_to_be_watched_is_watched() -> None:
    watched = " ".join(rule["expr"] for rule in ALERTS)
    for name in (
        "cpu",
        "memory",
        "disk",
        'log_entries_total{level="error"',
        "queue_wait",
        'state="queued"',
        "commits_lost",
    ):
        assert name in watched
    for name in ("runs_ended_total", "event_loop_lag", "certificate_expiry", "open_fds", "runs_refused"):
        assert name in watched


def test_the_example_for_prometheus_is_yaml() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = yaml.safe_load(example)

    assert found["scrape_configs"][0]["job_name"] == "hubbub"
    assert found["rule_files"] == ["alerts.yml"]


def test_the_events_of_an_answer_are_those_in_the_log() -> None:
    source = "".join(
        Path(__file__).parents[2].joinpath("src/hubbub/hub", name).read_text() for name in ("telling.py", "worker.py")
    )
    said = set(
        re.findall(r'"(run_(?:queued|held|taken|first_piece|written|ended|cancelled|retried)|batch_\w+ed)"', source)
    )

    assert {plain(row[0]) for row in table(PAGE, "The log").rows} == said
