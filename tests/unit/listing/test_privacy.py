"""ctlist --anonymize and --omit, in every format: no address of the log is left where it must not
be, and everything else stays.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.cli.privacy_options import GENERATE
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.privacy.cryptopan import CryptoPan
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import Row
from tests.unit.listing.test_ctlist import Recording, Run, at, in_utc, run

__all__ = ["in_utc", "run"]
KEY = bytes(range(32))
REMOTE = ("198.51.100.9", "203.0.113.80", "198.51.100.77", "2001:db8:9::9")
FORMS = [
    *((form, []) for form in ("text", "classic", "conntrack", "json", "csv")),
    *((form, ["-s"]) for form in ("text", "classic", "json", "csv")),
]
# Out through SNAT; in through DNAT and SNAT; in IPv6; within; through, where no end is inside.
FLOWS: list[dict[str, Any]] = [
    {
        "orig_src": "192.168.1.5",
        "orig_dst": REMOTE[0],
        "orig_sport": 4001,
        "l4proto": 6,
        "reply_src": REMOTE[0],
        "reply_dst": "203.0.113.1",
        "orig_dport": 443,
        "reply_sport": 443,
        "reply_dport": 1024,
    },
    {
        "orig_src": REMOTE[1],
        "orig_dst": "203.0.113.1",
        "orig_sport": 5001,
        "l4proto": 6,
        "reply_src": "192.168.1.80",
        "reply_dst": REMOTE[1],
        "orig_dport": 80,
        "reply_sport": 8080,
        "reply_dport": 5001,
    },
    {
        "orig_src": "fd00::5",
        "orig_dst": REMOTE[3],
        "orig_sport": 4002,
        "l4proto": 17,
        "reply_src": REMOTE[3],
        "reply_dst": "2001:db8::1",
        "orig_dport": 53,
        "reply_sport": 53,
        "reply_dport": 4002,
    },
    {
        "orig_src": "192.168.1.5",
        "orig_dst": "192.168.1.80",
        "orig_sport": 6,
        "l4proto": 6,
        "reply_src": "192.168.1.80",
        "reply_dst": "192.168.1.5",
        "orig_dport": 22,
        "reply_sport": 22,
        "reply_dport": 6,
    },
    {
        "orig_src": "203.0.113.44",
        "orig_dst": REMOTE[2],
        "orig_sport": 7,
        "l4proto": 6,
        "reply_src": REMOTE[2],
        "reply_dst": "203.0.113.44",
        "orig_dport": 25,
        "reply_sport": 25,
        "reply_dport": 7,
    },
]


@pytest.fixture(params=["raw", "squeezed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    v4: list[Row] = []
    v6: list[Row] = []
    for number, flow in enumerate(FLOWS):
        rows = v6 if ":" in flow["orig_src"] else v4
        rows += [at(number, number, **flow), at(number + 20, number, 3, **flow)]
    path = recording.segment("a", ("dump", -1, -0.5), v4, v6, begin=-2)
    if request.param == "squeezed":
        assert squeeze(str(path), SqueezeOptions()) is not None
    return tmp_path / "log"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY.hex() + "\n")
    path.chmod(0o600)
    return path


def addresses_in(lines: list[str]) -> set[str]:
    """All addresses in some text."""
    found = set()
    for word in re.findall(r"[0-9a-f.:]+", "\n".join(lines).replace("]:", " ")):
        for text in (word, word.rpartition(":")[0]):
            try:
                found.add(str(ipaddress.ip_address(text)))
            except ValueError:
                continue
    return found


def replaced(address: str) -> str:
    one = ipaddress.ip_address(address)
    family = AF_INET if one.version == 4 else AF_INET6
    number = CryptoPan(KEY).number(int(one), family)
    kind = ipaddress.IPv4Address if one.version == 4 else ipaddress.IPv6Address
    return str(kind(number))


@pytest.mark.parametrize(("form", "connections"), FORMS)
def test_anonymous_addresses(
    run: Run, folder: Path, key: Path, form: str, connections: list[str]
) -> None:
    plain = run("--format", form, *connections, folder)[1]
    code, out, err = run("--format", form, *connections, "--anonymize", key, folder)
    assert (code, err, len(out)) == (0, [], len(plain))
    before, after = addresses_in(plain), addresses_in(out)
    assert len(before) > 8
    assert after == {replaced(address) for address in before}
    assert not before & after
    assert [line[:26] for line in out] == [line[:26] for line in plain] or form == "csv"


def test_the_same_but_for_the_addresses(run: Run, folder: Path, key: Path) -> None:
    plain = [json.loads(line) for line in run("-s", "--format", "json", folder)[1]]
    other = run("-s", "--format", "json", "--anonymize", key, folder)[1]
    for one, row in zip(plain, map(json.loads, other), strict=True):
        for name in ("orig_src", "orig_dst", "reply_src", "reply_dst"):
            one[name] = replaced(one[name])
        assert one == row


@pytest.mark.parametrize(("form", "connections"), FORMS)
def test_no_remote_end_is_left(run: Run, folder: Path, form: str, connections: list[str]) -> None:
    plain = run("--format", form, *connections, folder)[1]
    code, out, _ = run("--format", form, *connections, "--omit", "remote", folder)
    assert (code, len(out)) == (0, len(plain))
    assert addresses_in(plain) >= set(REMOTE)
    left = addresses_in(out)
    assert not left & set(REMOTE)
    assert left >= {"192.168.1.5", "192.168.1.80", "203.0.113.1", "fd00::5", "2001:db8::1"}
    assert "203.0.113.44" in left


def test_what_stays_of_each_connection(run: Run, folder: Path) -> None:
    rows = list(csv.DictReader(run("-s", "--format", "csv", "--omit", "remote", folder)[1]))
    ends = [
        tuple(row[f"{side}_{end}"] for side in ("orig", "reply") for end in ("src", "sport"))
        + tuple(row[f"{side}_{end}"] for side in ("orig", "reply") for end in ("dst", "dport"))
        for row in rows
    ]
    assert ends == [
        ("192.168.1.5", "4001", "", "", "", "", "203.0.113.1", "1024"),
        ("", "", "192.168.1.80", "8080", "203.0.113.1", "80", "", ""),
        ("fd00::5", "4002", "", "", "", "", "2001:db8::1", "4002"),
        ("192.168.1.5", "6", "192.168.1.80", "22", "192.168.1.80", "22", "192.168.1.5", "6"),
        ("203.0.113.44", "7", "", "", "", "", "203.0.113.44", "7"),
    ]
    text = run("-s", "--omit", "remote", folder)[1]
    assert "src=192.168.1.5:4001 dst=? src=? dst=203.0.113.1:1024" in text[0]


def test_no_question_finds_what_is_left_out(run: Run, folder: Path) -> None:
    """Who asks for a remote address must not learn who used it."""
    for query in (["-i", REMOTE[0]], ["-i", "198.51.100.0/24"], ["-i", REMOTE[3]], ["-p", "443"]):
        for mode in (["-s"], [], ["--top", "src"], ["--histogram"]):
            assert run(*query, *mode, folder)[0] == 0
            code, out, _ = run(*query, *mode, "--omit", "remote", folder)
            assert code == 1, (query, mode, out)
    assert len(run("-i", "192.168.1.5", "-s", "--omit", "remote", folder)[1]) == 2
    assert len(run("-p", "8080", "-s", "--omit", "remote", folder)[1]) == 1


def test_what_is_missing_tells_nothing_either(run: Run, folder: Path) -> None:
    """Rows that are missing where a filter says "not" would tell who used a remote address."""
    for query in (
        f"not host {REMOTE[0]}",
        f"not dst host {REMOTE[0]}",
        "not port 443",
        f"not remote net {REMOTE[1]}/24",
        f"inside host 192.168.1.5 or not ip host {REMOTE[1]}",
    ):
        for mode in (["-s"], [], ["-c"], ["-c", "-s"], ["--top", "src"], ["--histogram"]):
            left = run(*mode, "--omit", "remote", folder)
            assert run(query, *mode, folder)[1] != left[1]
            assert run(query, *mode, "--omit", "remote", folder) == left, (query, mode)


def test_icmp_without_its_id_is_not_translated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    inside, outside, public = "192.168.1.5", REMOTE[0], "203.0.113.1"
    plain: Row = {
        "orig_src": inside,
        "orig_dst": outside,
        "reply_src": outside,
        "reply_dst": inside,
    }
    ids: Row = {"l4proto": 1, "orig_icmp": (8, 0, 77), "reply_icmp": (0, 0, 77)}
    recording.segment("a", [at(1, 1, **plain, **ids)])
    assert len(run("-s", "not nat", tmp_path / "log")[1]) == 1
    assert len(run("-s", "not nat", "--omit", "remote", tmp_path / "log")[1]) == 1
    recording.segment("b", [at(11, 2, **{**plain, "reply_dst": public}, **ids)])
    assert len(run("-s", "snat", "--omit", "remote", tmp_path / "log")[1]) == 1


def test_tops(run: Run, folder: Path, key: Path) -> None:
    words = ["--top", "remote", "--top", "inside", "--format", "json", folder]
    tops: dict[str, set[str]] = {"remote": set(), "inside": set()}
    for line in map(json.loads, run("--anonymize", key, *words)[1]):
        tops[line["top"]].add(line["key"][line["top"]])
    assert tops["remote"] == {replaced(one) for one in (REMOTE[0], REMOTE[1], REMOTE[3])}
    assert tops["inside"] == {replaced(one) for one in ("192.168.1.5", "192.168.1.80", "fd00::5")}
    left = addresses_in(run("--omit", "remote", *words)[1])
    assert left == {"192.168.1.5", "192.168.1.80", "fd00::5"}
    network = run("--top", "src/24", "--anonymize", key, "-n", "1", folder)[1][2].split()[-1]
    expected = ipaddress.ip_network(f"{replaced('192.168.1.5')}/24", strict=False)
    assert network == str(expected)


def test_both(run: Run, folder: Path, key: Path) -> None:
    out = run("-s", "--anonymize", key, "--omit", "remote", folder)[1]
    left = addresses_in(out)
    assert replaced("192.168.1.5") in left
    assert not left & {*REMOTE, *map(replaced, REMOTE), replaced("0.0.0.0"), replaced("::")}


def test_networks_of_a_rule_are_not_told(run: Run, tmp_path: Path, key: Path) -> None:
    (tmp_path / "log").mkdir()
    facts = {"networks": ["198.51.100.0/24"], "family": 2}
    recording = Recording(tmp_path / "log")
    recording.segment(
        "a", [at(1)], ("gap", 5, 9, "notrack", None, "to 198.51.100.0/24", facts), [at(20)]
    )
    told = run(tmp_path / "log")[2]
    assert any("198.51.100.0/24" in line for line in told)
    for words in (["--anonymize", key], ["--omit", "remote"]):
        for mode in ([], ["--top", "proto"], ["--histogram"]):
            err = run(*words, *mode, tmp_path / "log")[2]
            assert err
            assert not any("198.51" in line for line in err), (words, mode)


def test_keys_that_are_refused(run: Run, folder: Path, key: Path, tmp_path: Path) -> None:
    def refused(path: Path, says: str) -> None:
        code, out, err = run("--anonymize", path, folder)
        assert (code, out, len(err)) == (2, [], 1)
        assert says in err[0]

    key.chmod(0o640)
    refused(key, "other users can read it")
    key.chmod(0o600)
    key.write_text("0x" + KEY.hex())
    assert run("--anonymize", key, folder)[0] == 0
    key.write_text(KEY.hex()[:-1])
    refused(key, GENERATE)
    refused(tmp_path / "none", "No such file")
    assert run("-H", "--omit", "remote", folder)[0] == 2
    code, out, err = run("-v", "-i", REMOTE[0], "--omit", "remote", folder)
    assert (code, out, len(err)) == (2, [], 1)
