"""The doctor as a whole: what it reports, its tools, and that no command of it does harm."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from ctrecorder.check import doctor, doctor_kernel, doctor_tools
from ctrecorder.check.doctor_tools import Finding, Note

MODULES = sorted((Path(__file__).parents[3] / "ctrecorder" / "check").glob("doctor*.py"))
# Words of commands that delete logs, rules, packages or an operator's settings, or stop something.
HARMFUL: tuple[str, ...] = (
    "nft delete",
    "nft flush",
    " -D",
    "-F ",
    "rm ",
    "systemctl revert",
    "systemctl stop",
)
HARMFUL += (
    "purge",
    "apt-get remove",
    "--min-free",
    "--max-age",
    "systemctl disable",
    "nftables.conf",
)


def test_a_bad_configuration_comes_first_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("[record]\nrotate = 0\nnat_only = x\n[expire]\nmax_age = 5\n")
    os.utime(conf, (0, 0))
    first, second, third, *others = doctor.diagnose(str(conf))
    assert isinstance(first, Finding)
    assert first.what.endswith("in minutes; using rotate = 60")
    assert first.fix == f"fix the file, then: ctrecord --check-config -c {conf}"
    last = "; the recorder uses the last right value, or does not start without one"
    assert f"line 3: nat_only = x: allowed is yes or no{last}" in second.what
    assert "; nothing is deleted, since 1970.01.01" in third.what
    assert third.what.endswith(" at the latest")
    assert others, "the machine is looked at too"


def test_the_report_names_what_each_command_changes() -> None:
    results: list[Finding | Note] = [
        Finding("a is 0", "sysctl -w a=1", "a"),
        Note("table full", "since boot"),
    ]
    assert not doctor.is_healthy(results)
    finding = ["a is 0", "    fix: sysctl -w a=1", "    changes: a"]
    note = ["table full", "    note: since boot"]
    assert list(doctor.report(results, quiet=False)) == finding + note
    assert list(doctor.report(results, quiet=True)) == finding
    healthy = ["everything is recorded: nothing found that is in the way"]
    assert doctor.is_healthy(results[1:])
    assert list(doctor.report(results[1:], quiet=False)) == healthy + note
    assert list(doctor.report(results[1:], quiet=True)) == []


def test_notes_come_after_findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def table() -> list[Note]:
        return [Note("refused", "")]

    conf = tmp_path / "x.conf"
    conf.write_text(f"[record]\ntemplate = {tmp_path}/%s.ctlog\n")
    tmp_path.chmod(0o755)
    monkeypatch.setattr(doctor_kernel, "look_at_table", table)
    kinds = [type(one) for one in doctor.diagnose(str(conf))]
    assert Note in kinds
    assert Finding in kinds
    assert kinds == sorted(kinds, key=lambda kind: kind is Note)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_command_does_harm(path: Path) -> None:
    """Also not one that a look of the future brings: each text of the modules is searched."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    harmful = [text for text in texts for word in HARMFUL if word in text]
    assert [text for text in harmful if not text.startswith("nothing: ")] == []
    installs = [text for text in texts if "apt-get" in text]
    assert all("apt-get --no-remove install" in text for text in installs)


def test_a_hanging_tool_does_not_hang_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tools, "TOOL_SECONDS", 0.1)
    assert doctor_tools.run_tool("sleep", "10") is None
    assert doctor_tools.run_tool("no-such-tool") is None
    assert doctor_tools.run_tool("false") is None
    assert doctor_tools.run_tool("echo", "x") == "x\n"
