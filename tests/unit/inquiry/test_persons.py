"""Who it was, in each kind of NAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.inquiries import Json, ask, connection, hosts, log
from tests.support.slow_pairing import SECOND, T

PUBLIC, SERVER = "198.51.100.1", "203.0.113.9"
SNAT = connection("tcp", ("10.0.0.1 1234", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def flow_of(answer: Json) -> Json:
    ((flow,),) = [person["flows"] for person in answer["persons"]]
    found: Json = flow
    return found


def test_snat(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log(folder, SNAT)
    found = ask(folder, capfd, f"{PUBLIC}:40000")
    assert found["verdict"] == "ONE"
    (person,) = found["persons"]
    assert {name: person[name] for name in ("address", "ports", "translated", "connections")} == {
        "address": "10.0.0.1",
        "ports": [1234],
        "translated": True,
        "connections": 1,
    }
    assert flow_of(found)["remote"] == {"address": SERVER, "port": 443}
    assert hosts(ask(folder, capfd, f"{PUBLIC}:40000", "--to", SERVER)) == ["10.0.0.1"]
    assert hosts(ask(folder, capfd, f"{PUBLIC}:40000", "--to", "203.0.113.8", code=1)) == []
    assert hosts(ask(folder, capfd, f"[::ffff:{PUBLIC}]:40000")) == ["10.0.0.1"]


def test_dnat(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    called = (f"{SERVER} 5555", f"{PUBLIC} 8080"), ("10.0.0.80 80", f"{SERVER} 5555")
    log(folder, connection("tcp", *called))
    found = ask(folder, capfd, f"{PUBLIC}:8080", "--to", f"{SERVER}:5555")
    assert hosts(found) == ["10.0.0.80"]
    assert (flow_of(found)["direction"], flow_of(found)["inside"]["port"]) == ("in", 80)


def test_both_at_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The inside host called one server and got another: --to names either, and both are shown."""
    orig = "10.0.0.1 1234", "192.0.2.53 53"
    log(folder, connection("udp", orig, (f"{SERVER} 5353", f"{PUBLIC} 40000")))
    for remote in ("192.0.2.53:53", f"{SERVER}:5353"):
        found = ask(folder, capfd, f"{PUBLIC}:40000", "--to", remote)
        assert hosts(found) == ["10.0.0.1"]
        assert flow_of(found)["remote"] == {"address": "192.0.2.53", "port": 53}
        assert flow_of(found)["remote_behind"] == {"address": SERVER, "port": 5353}
    assert hosts(ask(folder, capfd, f"{PUBLIC}:40000", "--to", f"{SERVER}:53", code=1)) == []


def test_hairpin(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """From the public address to the public address: two inside hosts have it at once."""
    orig = "10.0.0.1 1234", f"{PUBLIC} 8080"
    log(folder, connection("tcp", orig, ("10.0.0.80 80", f"{PUBLIC} 40000")))
    assert hosts(ask(folder, capfd, f"{PUBLIC}:40000")) == ["10.0.0.1"]
    assert hosts(ask(folder, capfd, f"{PUBLIC}:8080")) == ["10.0.0.80"]
    assert hosts(ask(folder, capfd, f"{PUBLIC}:8080", "--to", "10.0.0.1")) == ["10.0.0.80"]
    both = ask(folder, capfd, PUBLIC)
    assert (both["verdict"], hosts(both)) == ("SEVERAL", ["10.0.0.1", "10.0.0.80"])


def test_nat66(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = "2001:db8:9::9 443"
    log(folder, connection("tcp", ("fd00::5 1234", server), (server, "2001:db8::1 40000")))
    assert hosts(ask(folder, capfd, "[2001:db8::1]:40000", "--to", "2001:db8:9::9")) == ["fd00::5"]


def test_zones_and_marks_are_persons(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two customers with one inside address."""
    both = (f"{SERVER} 443", f"{PUBLIC} 40000")
    orig = ("10.0.0.1 1234", f"{SERVER} 443")
    log(
        folder,
        connection("tcp", orig, both, number=1, zone=3),
        connection("tcp", orig, both, number=2, zone=4),
        connection("tcp", orig, both, number=3, zone=4, mark=0x20),
    )
    found = ask(folder, capfd, f"{PUBLIC}:40000")
    assert found["verdict"] == "SEVERAL"
    assert [(one["address"], one["zone"], one.get("mark")) for one in found["persons"]] == [
        ("10.0.0.1", 3, None),
        ("10.0.0.1", 4, None),
        ("10.0.0.1", 4, 32),
    ]


@pytest.mark.parametrize("public_id", [7, 4711])
def test_icmp_ids(folder: Path, capfd: pytest.CaptureFixture[str], public_id: int) -> None:
    """The id can be translated.  A port is never an id, and type * 256 + code is never a port."""
    echo = ("10.0.0.1 7", f"{SERVER} 2048"), (f"{SERVER} {public_id}", f"{PUBLIC} 0")
    log(folder, connection("icmp", *echo))
    found = ask(folder, capfd, f"{PUBLIC}:{public_id}", "--protocol", "icmp")
    assert found["question"]["id"] == public_id
    assert "port" not in found["question"]
    assert flow_of(found)["inside"] == {"address": "10.0.0.1", "id": 7}
    assert flow_of(found)["public"] == {"address": PUBLIC, "id": public_id}
    assert flow_of(found)["remote"] == {"address": SERVER}
    assert flow_of(found)["translated"] is True
    assert hosts(ask(folder, capfd, f"{PUBLIC}:8", "--protocol", "icmp", code=1)) == []
    for port in (public_id, 2048):
        assert hosts(ask(folder, capfd, f"{PUBLIC}:{port}", code=1)) == []
    assert hosts(ask(folder, capfd, PUBLIC)) == ["10.0.0.1"]


def test_icmp_that_is_answered_inside(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    echo = (f"{SERVER} 9", f"{PUBLIC} 2048"), ("10.0.0.80 9", f"{SERVER} 0")
    log(folder, connection("icmp", *echo))
    found = ask(folder, capfd, f"{PUBLIC}:9", "--protocol", "icmp")
    assert hosts(found) == ["10.0.0.80"]
    assert flow_of(found)["direction"] == "in"


def test_protocols_without_ports(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log(folder, connection("gre", ("10.0.0.1", SERVER), (SERVER, PUBLIC)))
    found = ask(folder, capfd, PUBLIC)
    assert (hosts(found), found["persons"][0]["ports"]) == (["10.0.0.1"], [])
    assert flow_of(found)["inside"] == {"address": "10.0.0.1"}
    assert found["shared_by"] == 1


@pytest.mark.parametrize(
    ("protocol", "orig", "reply"),
    [
        ("tcp", (f"{PUBLIC} 40000", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000")),
        ("icmp", (f"{PUBLIC} 7", f"{SERVER} 2048"), (f"{SERVER} 7", f"{PUBLIC} 0")),
        ("gre", (PUBLIC, SERVER), (SERVER, PUBLIC)),
        ("tcp", (f"{SERVER} 5555", f"{PUBLIC} 80"), (f"{PUBLIC} 80", f"{SERVER} 5555")),
        ("icmp", (f"{SERVER} 7", f"{PUBLIC} 2048"), (f"{PUBLIC} 7", f"{SERVER} 0")),
    ],
)
def test_untranslated_is_never_called_translated(
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    protocol: str,
    orig: tuple[str, str],
    reply: tuple[str, str],
) -> None:
    log(folder, connection(protocol, orig, reply))
    found = ask(folder, capfd, PUBLIC)
    assert hosts(found) == [PUBLIC]
    assert not found["persons"][0]["translated"]
    assert not flow_of(found)["translated"]


def test_who_is_listed_only_by_the_tolerance_comes_last(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One had it from 60 to 90 s, another had it from 40 to 68 s, a third from 74 s on."""
    ends = (f"{SERVER} 443", f"{PUBLIC} 40000")
    first = connection("tcp", ("10.0.0.2 1", f"{SERVER} 443"), ends, number=2)
    third = connection("tcp", ("10.0.0.3 1", f"{SERVER} 443"), ends, number=3)
    first[0]["time"], first[1]["time"] = T + 40 * SECOND, T + 68 * SECOND
    third[0]["time"] = T + 74 * SECOND
    log(folder, first, SNAT, third)
    found = ask(folder, capfd, f"{PUBLIC}:40000")
    assert (found["verdict"], hosts(found)) == ("ONE", ["10.0.0.1"])
    wide = ask(folder, capfd, f"{PUBLIC}:40000", "--tolerance", "5")
    assert (wide["verdict"], hosts(wide)) == ("SEVERAL", ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    assert [one["only_by_tolerance"] for one in wide["persons"]] == [False, True, True]


@pytest.mark.parametrize(("begun", "only"), [(71.4, False), (72.6, True)])
def test_a_start_by_receipt_may_be_late(
    folder: Path, capfd: pytest.CaptureFixture[str], begun: float, only: bool
) -> None:
    """The second that is asked about ends at 71 s; a receipt may be 1.5 s late."""
    late = connection("tcp", ("10.0.0.3 1", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"))
    late[0]["time"] = T + int(begun * SECOND)
    late[0].pop("start", None)
    log(folder, late)
    found = ask(folder, capfd, f"{PUBLIC}:40000", "--tolerance", "2")
    assert [one["only_by_tolerance"] for one in found["persons"]] == [only]


@pytest.mark.parametrize(
    ("begun", "ended", "verdict"),
    [
        (60, 90, "ONE"),
        (70.9, 90, "ONE"),
        (71.3, 90, "ONE KNOWN (not proved)"),
        (40, 72, "ONE"),
        (40, 71.2, "ONE KNOWN (not proved)"),
    ],
)
def test_a_receipt_that_may_be_late_proves_nobody(
    folder: Path, capfd: pytest.CaptureFixture[str], begun: float, ended: float, verdict: str
) -> None:
    """The second from 70 s on: who is known only if a receipt was late, or was not, may not have
    had the address in it.
    """
    one = connection("tcp", ("10.0.0.3 1", f"{SERVER} 443"), (f"{SERVER} 443", f"{PUBLIC} 40000"))
    one[0]["time"], one[1]["time"] = T + int(begun * SECOND), T + int(ended * SECOND)
    log(folder, one)
    code = 0 if verdict == "ONE" else 3
    found = ask(folder, capfd, f"{PUBLIC}:40000", "--tolerance", "0", code=code)
    assert (found["verdict"], hosts(found)) == (verdict, ["10.0.0.3"])
    assert ("a time of receipt can be 1.5 s late" in found.get("why", "")) is bool(code)
