"""What the recorder's look each second costs, with a firewall of 50,000 rules."""

from __future__ import annotations

import time
from collections.abc import Callable

from ctrecorder.watch.watcher import Look, Watcher
from tests.bench.report import Report
from tests.support.router import Lab

RULES = 50_000
LOOKS = 500
MICRO = 1e6


def run(report: Report) -> None:
    """CPU of a look without a change, after a change that hides nothing, and of reading all."""
    report.heading(f"A look at {RULES:,} rules")
    rules = "".join(
        f"add rule inet t c ip saddr 10.0.{n >> 8}.{n & 255} tcp dport 80 drop\n"
        for n in range(RULES)
    )
    with Lab(asleep=True) as lab:
        head = "type filter hook forward priority 0;"
        sets = "set s { type ipv4_addr; }"
        load(lab, f"table inet t {{\n{sets}\nchain c {{\n{head}\nct state new counter\n}}\n}}\n")
        load(lab, rules)
        watcher = lab.router.call(lambda: Watcher(time.time_ns, time.time_ns()))
        try:
            first = cpu(lab, watcher, 1)
            report.figure("CPU of the first look: all rules are read", first, "s", most=2)
            quiet = cpu(lab, watcher, LOOKS) / LOOKS * MICRO
            report.figure("CPU of a look without a change", quiet, "us", most=100)
            load(lab, "add element inet t s { 192.0.2.1 }\n")
            element = cpu(lab, watcher, 1) * MICRO
            report.figure("CPU of a look after a set element", element, "us", most=1000)
            load(lab, "add rule inet t c ct state invalid drop\n")
            changed = cpu(lab, watcher, 1)
            report.figure("CPU of a look after a rule with ct", changed, "s", most=2)
        finally:
            watcher.close()


def cpu(lab: Lab, watcher: Watcher, looks: int) -> float:
    """Seconds of CPU, also of the kernel, that `looks` looks take."""
    return lab.router.call(lambda: _timed(lambda: watcher.look(time.time_ns()), looks))


def _timed(look: Callable[[], Look], looks: int) -> float:
    begin = time.thread_time()
    for _ in range(looks):
        look()
    return time.thread_time() - begin


def load(lab: Lab, text: str) -> None:
    lab.router.run("nft", "-f", "-", stdin=text)
