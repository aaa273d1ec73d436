"""debian/tests, run by autopkgtest on a booted machine with the package that was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.booted import SUITES, Builds, Router
from tests.support.router import Lab


@pytest.mark.parametrize("suite", SUITES)
def test_the_packages_own_tests_pass(suite: str, builds: Builds, packages: dict[str, Path]) -> None:
    with Lab(asleep=True) as lab, Router(lab, suite, builds.folder, KIND="build") as machine:
        package = f"/srv/{suite}/{packages[suite].name}"
        done = machine.run(
            *(
                "autopkgtest",
                "--no-built-binaries",
                "--ignore-restrictions=isolation-container",
                package,
                "/srv/tree/",
                "--",
                "null",
            ),
            check=False,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    for name in ("recorded", "help"):
        assert any(line.split()[:2] == [name, "PASS"] for line in said.splitlines()), said[-4000:]
