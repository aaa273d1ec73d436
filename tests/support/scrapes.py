"""Files of metrics as Prometheus would have scraped them, and the series of promtool's rule tests
that are made of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.prometheus import promtool

EVERY = 15  # seconds between two scrapes
ALERTS = Path(__file__).resolve().parents[2] / "contrib/prometheus/ctrecorder-alerts.yml"
_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_INSTANCE = 'instance="router",job="node"'

Scrape = Mapping[str, float]


def scrape(directory: Path) -> dict[str, float]:
    """The samples of all files, as the collector finds them."""
    text = "".join(path.read_text() for path in sorted(directory.glob("*.prom")))
    return {
        f"{name}{{{_INSTANCE},{labels}}}": float(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


@dataclass
class Series:
    """Scrapes of a router, at `begin` (Unix time) and then each 15 seconds."""

    begin: float
    scrapes: list[Scrape] = field(default_factory=list)

    def lasting(self, seconds: int) -> Series:
        """The same, and nothing is written any more for so long: files that stay as they are."""
        return Series(self.begin, [*self.scrapes, *self.scrapes[-1:] * (seconds // EVERY)])

    def off(self, seconds: int) -> Series:
        """The same, and then no file any more: /run is empty after a boot."""
        return Series(self.begin, [*self.scrapes, *[{}] * (seconds // EVERY)])

    def inputs(self) -> list[dict[str, str]]:
        """As promtool wants them: time begins at 0 there, so it does in what is a time."""
        names = dict.fromkeys(name for one in self.scrapes for name in one)
        return [{"series": name, "values": " ".join(self._values(name))} for name in names]

    def _values(self, name: str) -> Iterator[str]:
        shift, there = self.begin if is_time(name) else 0, False
        for one in self.scrapes:
            value = one.get(name)
            # What a scrape lacks is over at once: Prometheus notes that as stale.
            yield f"{value - shift:.3f}" if value is not None else "stale" if there else "_"
            there = value is not None


def is_time(name: str) -> bool:
    """If the values of a series are Unix times."""
    return bool(re.match(r"ctrecorder_(\w+_timestamp|start_time)_seconds\{", name))


@dataclass
class RuleTest:
    """Which alerts are firing at which second of a series, and no others."""

    name: str
    series: Series
    firing: dict[int, set[str]]

    def to_json(self) -> dict[str, object]:
        tests = [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{second}s",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)
                ],
            }
            for second, names in self.firing.items()
        ]
        return {
            "name": self.name,
            "interval": f"{EVERY}s",
            "input_series": self.series.inputs(),
            "promql_expr_test": tests,
        }


def check(tests: list[RuleTest], folder: Path) -> None:
    """Run the rule tests; AssertionError with what promtool says."""
    path = folder / "rules-test.yml"
    path.write_text(
        json.dumps(
            {
                "rule_files": [str(ALERTS)],
                "evaluation_interval": f"{EVERY}s",
                "tests": [one.to_json() for one in tests],
            }
        )
    )
    promtool("test", "rules", path)
