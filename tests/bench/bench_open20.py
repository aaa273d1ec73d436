"""20,000,000 connections that are all still open, which takes long."""

from __future__ import annotations

from tests.bench import bench_open
from tests.bench.report import Report

BY_NAME = True


def run(report: Report) -> None:
    """As `bench_open`."""
    bench_open.measure(report, (20_000_000,))
