"""--format conntrack is the line of `conntrack -E -o timestamp` to the letter, but for what is not
recorded, with marks, zones of one and of both directions, updates, and every protocol at hand.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

from tests.support.listeners import Recorder, ctlist, difference
from tests.support.router import INSIDE, INSIDE6, SERVER, SERVER6, Lab, event_sockets, wait_until

# The zone of the original direction alone lets replies find no entry: with UDP, nobody minds.
RULES = """
table inet marks {
    chain zones {
        type filter hook prerouting priority raw;
        iifname lan udp dport 31 ct original zone set 7
        iifname lan udp dport 34 ct reply zone set 8
        udp dport 32 ct zone set 9
        udp sport 32 ct zone set 9
    }
    chain marks {
        type filter hook forward priority mangle;
        tcp dport 33 ct mark set 0x2a
    }
}
"""


def recorded(line: str) -> str:
    """A line of conntrack without what is not recorded: the moment of printing, the timeout, the
    process that caused it.
    """
    line = re.sub(r"^\[[\d.]+\]", "", line)
    line = re.sub(r" \[USERSPACE\].*$", "", line)
    return re.sub(r"^(\t *\[\w+\] \w+ +\d+) \d+(?= )", r"\1", line)


def test_every_line_is_conntracks(lab: Lab, tmp_path: Path) -> None:
    lab.router.run("nft", "-f", "-", stdin=RULES)
    recorder = Recorder(lab, tmp_path / "log", "--updates")
    output = tmp_path / "conntrack.txt"
    peer = lab.router.spawn("conntrack", "-E", "-o", "timestamp", stdout=output)
    wait_until(lambda: event_sockets(peer.pid), "conntrack -E subscribed")
    for inside, server in ((INSIDE, SERVER), (INSIDE6, SERVER6)):
        lab.tcp(inside, (server, 25), payload=b"x" * 1000)
        lab.tcp(inside, (server, 33))
        lab.udp(inside, (server, 31), replied=False)
        lab.udp(inside, (server, 32))
        lab.udp(inside, (server, 54), replied=False)
        lab.udp(inside, (server, 34), replied=False)
        lab.ping(inside, server)
    lab.flush()
    recorder.flush()
    wait_until(
        lambda: not any(each.queued for each in event_sockets(peer.pid)), "conntrack -E reading"
    )
    peer.send_signal(signal.SIGINT)
    peer.wait(timeout=10)
    recorder.stop()

    lines = [line for line in output.read_text().splitlines() if "zone=65535" not in line]
    theirs = Counter(map(recorded, lines))
    ours = Counter(
        map(recorded, ctlist("--format", "conntrack", recorder.folder).stdout.splitlines())
    )
    assert ours == theirs, difference(ours, theirs)
    text = "\n".join(theirs)
    for wanted in (
        "mark=42",
        "zone-orig=7",
        "zone-reply=8",
        "zone=9",
        "[ASSURED]",
        "[UPDATE]",
        "type=128",
    ):
        assert wanted in text, text
