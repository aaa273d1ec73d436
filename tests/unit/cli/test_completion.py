"""Completion: in a real bash, through bash-completion, with the file that the package ships; and
without numpy, which takes time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's XDG_DATA_HOME, where bash-completion finds the file under each command's name."""
    home = tmp_path_factory.mktemp("xdg")
    (home / "bash-completion" / "completions").mkdir(parents=True)
    for command in COMMANDS:
        (home / "bash-completion" / "completions" / command).symlink_to(
            ROOT / "etc" / "completion" / "bash" / "ctrecord"
        )
    return home


def tab(home: Path, line: str, cwd: Path = ROOT) -> list[str]:
    """The words on the screen of an interactive bash after `line` and TAB."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "package" / "press_tab.py", "bash", line],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "XDG_DATA_HOME": str(home)},
        timeout=60,
        check=True,
    )
    words: list[str] = json.loads(done.stdout)
    return words


def ask(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What the command answers to argcomplete's question, as the shells ask it."""
    query = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }
    command = ["sh", "-c", f"exec {line.split()[0]} 8>&1 9>&2 >/dev/null"]
    return subprocess.run(
        command,
        capture_output=True,
        env={**os.environ, **query, **environment},
        timeout=20,
        check=False,
    )


@pytest.mark.slow
def test_bash_offers_options_and_completes_the_only_one(home: Path) -> None:
    assert {"--rotate", "--rows"} <= set(tab(home, "ctrecord --ro"))
    assert tab(home, "ctrecord --ni") == ["ctrecord", "--nice"]


@pytest.mark.slow
def test_bash_offers_protocols_also_after_a_comma(home: Path) -> None:
    assert {"icmp", "tcp", "udp", "sctp"} <= set(tab(home, "ctrecord -p "))
    assert set(tab(home, "ctrecord -p tcp,u")) >= {"tcp,udp", "tcp,udplite"}


@pytest.mark.slow
def test_bash_offers_segments_and_folders_and_nothing_else(home: Path, tmp_path: Path) -> None:
    for name in ("20260101-000000.ctlog", "20260101-010000.ctlog", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "2026old").mkdir()
    shown = tab(home, "ctlist -f 2026", tmp_path)
    assert {"20260101-000000.ctlog", "20260101-010000.ctlog", "2026old/"} <= set(shown)
    assert tab(home, "ctlist -f 20260101-00", tmp_path) == ["ctlist", "-f", "20260101-000000.ctlog"]
    assert not [word for word in tab(home, "ctlist -f ", tmp_path) if "notes" in word]


@pytest.mark.slow
def test_bash_offers_formats_and_events(home: Path) -> None:
    assert {"text", "classic", "conntrack", "json", "csv"} <= set(tab(home, "ctlist --format "))
    assert {"new", "update", "destroy", "existing"} <= set(tab(home, "ctlist --event "))
    assert {"icmp", "tcp", "udp"} <= set(tab(home, "ctlist --protocol "))


@pytest.mark.slow
def test_bash_completes_an_expression_inside_quotes(home: Path, tmp_path: Path) -> None:
    assert tab(home, "ctlist 'src 192.0.2.7 an", tmp_path)[-1].startswith("and")
    assert {"assured", "at", "after"} <= set(tab(home, "ctlist tcp and a", tmp_path))


@pytest.mark.parametrize(
    "line", ["ctlist --since ", "ctlist -p ", "ctlist --zone ", "ctlist -i ", "ctlist --reason "]
)
def test_no_paths_where_times_ports_and_addresses_are_wanted(line: str) -> None:
    answers = ask(line).stdout.decode().split("\n")
    assert not [answer for answer in answers if "/" in answer or answer in ("man", "tests")]


def test_descriptions_for_zsh_and_fish() -> None:
    answer = ask("ctlist 'sn", _ARGCOMPLETE_SHELL="fish", _ARGCOMPLETE_DFS="\t")
    assert answer.stdout.decode() == "snat\tthe source was translated"
    answer = ask("ctlist --rev", _ARGCOMPLETE_SHELL="fish", _ARGCOMPLETE_DFS="\t")
    assert answer.stdout.decode().strip() == "--reverse\tthe newest line first"


@pytest.mark.parametrize("command", COMMANDS)
def test_numpy_is_not_loaded_for_an_answer(command: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("import os\nos._exit(99)\n")
    answer = ask(f"{command} --h", PYTHONPATH=str(tmp_path))
    assert answer.returncode == 0
    assert b"--help" in answer.stdout


def test_the_shells_files_know_every_command() -> None:
    for path in ("bash/ctrecord", "zsh/_ctrecorder", "fish/ctrecord.fish"):
        text = (ROOT / "etc" / "completion" / path).read_text()
        assert all(f" {command}" in text for command in COMMANDS), path
