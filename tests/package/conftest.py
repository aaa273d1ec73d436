"""The packages, built once, and a booted router of each release with the package installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.support.booted import CHECKOUT, SUITES, Builds, Router
from tests.support.router import Lab

HERE = Path(__file__).parent
EXPOSURE = "systemd-analyze security"


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    folder = tmp_path_factory.mktemp("builds")
    named = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".*_cache", ".hypothesis")

    def ignored(path: str, names: list[str]) -> set[str]:
        # Other tests unpack packages in build/.
        return {*named(path, names), *(["build"] if Path(path) == CHECKOUT else [])}

    shutil.copytree(CHECKOUT, folder / "tree", ignore=ignored)
    folder.chmod(0o755)
    return Builds(folder)


class Packages(dict[str, Path]):
    """The package, by the release that it was built in: built when it is first asked for."""

    def __init__(self, builds: Builds) -> None:
        super().__init__()
        self._builds = builds

    def __missing__(self, suite: str) -> Path:
        self[suite] = self._builds.build(suite, suite)
        return self[suite]


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With pytest-xdist, one process takes all tests of a release: it has one booted router, which
    waits most of the time.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if isinstance(item, pytest.Function) and HERE in item.path.parents:
            words = item.callspec.params.values() if hasattr(item, "callspec") else ()
            suite = next((word for word in words if word in SUITES), SUITES[0])
            item.add_marker(pytest.mark.xdist_group(suite))


@pytest.fixture(scope="session")
def packages(builds: Builds) -> dict[str, Path]:
    return Packages(builds)


@pytest.fixture(scope="session", params=SUITES)
def router(
    request: pytest.FixtureRequest, builds: Builds, packages: dict[str, Path]
) -> Iterator[Router]:
    """A router whose conntrack has the kernel's defaults, with the package installed by apt: the
    service runs.
    """
    with (
        Lab(sysctls={"nf_conntrack_events": 2, "nf_conntrack_timestamp": 0}) as lab,
        Router(lab, request.param, builds.folder) as router,
    ):
        router.said = router.install(packages[router.suite])
        yield router


@pytest.fixture(params=SUITES)
def bare(request: pytest.FixtureRequest, builds: Builds) -> Iterator[Router]:
    """A router of its own for one test, without the package."""
    with Lab() as lab, Router(lab, request.param, builds.folder) as router:
        yield router


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """The exposure of each unit that was measured, also in a process of pytest-xdist."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    shown = [text for one in reports for name, text in one.user_properties if name == EXPOSURE]
    if shown:
        terminalreporter.section(EXPOSURE)
        for text in sorted(shown):
            terminalreporter.line(str(text))
