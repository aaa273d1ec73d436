"""The mutants fit the product: each changes text that is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.model.faults import FAULTS
from tests.model.mutants import MUTANTS, Mutant
from tests.support.router import CHECKOUT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: str(mutant.name))
def test_a_mutant_changes_the_product(mutant: Mutant, tmp_path: Path) -> None:
    module = tmp_path / "ctrecorder" / mutant.path
    module.parent.mkdir(parents=True)
    shutil.copy2(CHECKOUT / "ctrecorder" / mutant.path, module)
    mutant.apply(tmp_path)
    compile(module.read_text(), mutant.path, "exec")
    assert bool(mutant.faults) != bool(mutant.test)
    assert set(mutant.faults) <= set(FAULTS)
    assert not mutant.test or (CHECKOUT / "tests" / mutant.test.partition("::")[0]).exists()
