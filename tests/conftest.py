"""What all tests share: the checkout's own commands, and hypothesis set so that a run is the same
on every machine.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ctrecorder.metrics import write
from ctrecorder.service.settings import setting

ROOT = Path(__file__).resolve().parent.parent

# Times that depend on the machine's load must not fail a test; what fails in CI must fail here too.
settings.register_profile(
    "ctrecorder",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ctrecorder")
# Chosen by --hypothesis-profile.  `make quick`: fewer examples.  `make coverage`: more, and others
# in each run; a failure prints how to repeat it.
settings.register_profile("quick", max_examples=25)
settings.register_profile("wide", max_examples=200, derandomize=False, print_blob=True)

# Commands run by tests are the checkout's, whatever is installed; none writes __pycache__ as root
# into the checkout.
os.environ["PATH"] = f"{ROOT / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.environ["LC_ALL"] = "C.UTF-8"
# A shell without job control starts what it puts in the background with SIGINT ignored, and so
# would every command of its tests be.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is not in tests/unit makes namespaces, so it is slow."""
    for item in items:
        if not item.path.is_relative_to(ROOT / "tests" / "unit"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def no_metrics_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that names no directory of metrics writes none: /run/ctrecorder is the machine's."""

    def folder_of(path: str | None = None) -> str:
        found = write.folder_of(path)
        return "" if found == setting("metrics", "directory").default else found

    monkeypatch.setattr("ctrecorder.metrics.job.folder_of", folder_of)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own is root's alone."""
    with tempfile.TemporaryDirectory(prefix="ctrecorder-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)
