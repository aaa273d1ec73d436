"""Parquet without pyarrow: one line that says how to get it.  (The writer was tried by hand.)"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.shipping.parquet import Files, _texts
from ctrecorder.shipping.results import TargetError
from ctrecorder.shipping.target import parse
from tests.support import asked, rows
from tests.support.router import CHECKOUT


def test_without_pyarrow_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for path in asked.record(folder, chain="00c0ffee00c0ffee"):
        squeeze(path, SqueezeOptions())
    target = f"file:{tmp_path}/out.parquet"
    with pytest.raises(TargetError, match="pip install --target DIR pyarrow"):
        Files(parse(target), "edge1")
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctship", "--router", "edge1", "--to", target, folder],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ctship: {target}: Parquet needs pyarrow, which Debian does not have")
    assert list(tmp_path.glob("out*")) == []


def test_addresses_are_text() -> None:
    table = rows.table([{"orig_src": "192.0.2.1"}, {"orig_src": "10.0.0.5"}], 2)
    assert _texts(table["orig_src"], 2) == ["192.0.2.1", "10.0.0.5"]
    table = rows.table([{"orig_src": "2001:db8::"}, {"orig_src": "::"}], 10)
    assert _texts(table["orig_src"], 10) == ["2001:db8::", "::"]
