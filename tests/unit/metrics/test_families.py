"""The metrics that are declared, and what is said of them elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ctrecorder.metrics.families import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "contrib/prometheus"
# Of node_exporter.
OTHERS = {
    "node_nf_conntrack_entries",
    "node_nf_conntrack_entries_limit",
    "node_filesystem_avail_bytes",
}


def test_names_are_as_prometheus_wants_them() -> None:
    for family in FAMILIES.values():
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
        assert family.help.endswith("."), family.name
        assert "\n" not in family.help


def test_the_page_has_every_metric() -> None:
    page = (ROOT / "man/ctrecorder-metrics.7").read_text()
    told = {}
    for name, kind, labels, words in re.findall(
        r"^\.It (\w+) Pq (\w+)(.*)\n((?:[^.].*\n)+)", page, re.MULTILINE
    ):
        told[f"ctrecorder_{name}"] = (kind, tuple(re.findall(r"Va (\w+)", labels)), words)
    assert told.keys() == FAMILIES.keys()
    for name, (kind, labels, words) in told.items():
        family = FAMILIES[name]
        assert (family.kind, family.labels[1:], family.help) == (
            kind,
            labels,
            " ".join(words.split()),
        )


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:ctrecorder|node)_\w+", text))


def test_alerts_and_dashboard_use_what_there_is() -> None:
    rules = (PROMETHEUS / "ctrecorder-alerts.yml").read_text()
    rules = re.sub(r"#.*", "", rules)
    dashboard = (PROMETHEUS / "ctrecorder-dashboard.json").read_text()
    json.loads(dashboard)
    for text in (rules, dashboard):
        used = names_in(text)
        assert used
        assert used <= FAMILIES.keys() | OTHERS


def test_the_page_names_the_alerts() -> None:
    rules = (PROMETHEUS / "ctrecorder-alerts.yml").read_text()
    page = (ROOT / "man/ctrecorder-metrics.7").read_text()
    alerts = set(re.findall(r"alert: (\w+)", rules))
    assert set(re.findall(r"Ctrecorder\w+", page)) <= alerts
