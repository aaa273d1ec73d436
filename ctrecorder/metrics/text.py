"""Samples as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ctrecorder.metrics.families import FAMILIES


class Sample(NamedTuple):
    """The value of a metric; `labels`: values of the labels of its family, in order."""

    name: str
    labels: tuple[str, ...]
    value: float


def text_of(samples: Iterable[Sample]) -> str:
    """All samples, those of a metric together, in the order of their first ones.

    Raises KeyError for a metric that is not declared, ValueError for labels that do not fit.
    """
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.name, []).append(sample)
    lines = []
    for name, members in grouped.items():
        family = FAMILIES[name]
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        for _, values, value in members:
            labels = ",".join(
                f'{label}="{_escaped(text)}"'
                for label, text in zip(family.labels, values, strict=True)
            )
            lines.append(f"{name}{{{labels}}} {_number(value)}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    """A label's value: UTF-8, also of a path that is none."""
    valid = text.encode("utf-8", "replace").decode("utf-8")
    return valid.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """A whole number without a point; a time keeps its milliseconds."""
    return str(int(value)) if value == int(value) else f"{value:.3f}"
