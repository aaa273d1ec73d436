"""Many questions at once to an archive of 100,000,000 connections, which takes long to make."""

from __future__ import annotations

from tests.bench import bench_many
from tests.bench.report import Report

BY_NAME = True


def run(report: Report) -> None:
    """The archive of 100,000,000 connections."""
    bench_many.measure(report, 100_000_000)
