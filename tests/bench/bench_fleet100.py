"""A question to 60 routers with 100,000,000 connections in all, which take minutes to make."""

from __future__ import annotations

from tests.bench import bench_fleet
from tests.bench.report import Report

BY_NAME = True


def run(report: Report) -> None:
    """60 routers of 1,666,667 connections each."""
    bench_fleet.measure(report, 1_666_667)
