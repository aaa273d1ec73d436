"""The packages, built once, and a booted router of each release with the package installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.booted import CHECKOUT, SUITES, Builds, Router
from tests.support.router import Lab


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    folder = tmp_path_factory.mktemp("builds")
    ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".*_cache", ".hypothesis")
    shutil.copytree(CHECKOUT, folder / "tree", ignore=ignored)
    folder.chmod(0o755)
    return Builds(folder)


@pytest.fixture(scope="session")
def packages(builds: Builds) -> dict[str, Path]:
    """The package, by the release that it was built in."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(SUITES, pool.map(builds.build, SUITES, SUITES), strict=True))


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
