"""`make demo`: a client, a NAT router and a server in network namespaces; what crosses the router
is recorded, and listed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.router import (
    INSIDE,
    INSIDE6,
    INSIDE6_SERVER,
    INSIDE_2,
    INSIDE_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    Lab,
    wait_until,
)

CHECKOUT = Path(__file__).resolve().parents[2]

# Seconds of recording before and after the traffic, so that the answer in step 6 is covered whole:
# one for the question's tolerance, one because it asks for a whole second.
CLEAR = 2.1

PICTURE = f"""
   inside                        router                       outside
   {INSIDE:<15} --------- lan [ NAT ] wan --------- {SERVER}
   {INSIDE_2:<15}            {PUBLIC}
   {INSIDE6:<15}            {PUBLIC6:<15}         {SERVER6}

   From inside: SNAT to the router's address.  To its ports 8080 and 5353
   from outside: DNAT to {INSIDE_SERVER} and {INSIDE6_SERVER}, ports 80 and 53.
"""


def title(text: str) -> None:
    """A step's heading, bold on a terminal."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}")


def shown(path: Path) -> str:
    """The path as it is typed from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def command(name: str, *arguments: object) -> str:
    """The command line of one of ours, as the reader may type it."""
    return shlex.join([shown(CHECKOUT / "bin" / name), *map(str, arguments)])


def run(name: str, *arguments: object) -> None:
    """Shows a command and what it says.  Its exit code must be 0."""
    print(f"   # {command(name, *arguments)}", flush=True)
    done = subprocess.run(
        [CHECKOUT / "bin" / name, *map(str, arguments)], capture_output=True, text=True, timeout=20
    )
    for line in (done.stdout + done.stderr).splitlines():
        print(f"   {line}")
    if done.returncode:
        raise SystemExit(f"demo: {name} ended with {done.returncode}")


def traffic(lab: Lab) -> tuple[int, float]:
    """Connections of every kind; the source port of the first, and the moment."""
    told = "   {:<9} {:<16} -> {:<16} {}".format
    moment = time.time()
    first = lab.tcp(INSIDE, (SERVER, 443))
    print(told("TCP", INSIDE, SERVER, "port 443: a page is fetched"))
    lab.tcp(INSIDE_2, (SERVER, 443))
    print(told("TCP", INSIDE_2, SERVER, "port 443: by somebody else, too"))
    lab.udp(INSIDE, (SERVER, 53))
    print(told("UDP", INSIDE, SERVER, "port 53: a name is asked for"))
    lab.ping(INSIDE, SERVER)
    print(told("ICMP", INSIDE, SERVER, "ping"))
    lab.tcp(SERVER, (PUBLIC, 8080))
    print(told("TCP", SERVER, PUBLIC, f"port 8080, forwarded to {INSIDE_SERVER}"))
    lab.tcp(INSIDE6, (SERVER6, 443))
    print(told("TCP", INSIDE6, SERVER6, "port 443, over IPv6"))
    lab.ping(INSIDE6, SERVER6)
    print(told("ICMPv6", INSIDE6, SERVER6, "ping"))
    lab.udp(SERVER6, (PUBLIC6, 5353))
    print(told("UDP", SERVER6, PUBLIC6, f"port 5353, forwarded to {INSIDE6_SERVER}"))
    return first, moment


def demonstrate(lab: Lab, folder: Path) -> None:
    """The steps."""
    title("1. A router is built, of network namespaces. Nothing outside them is touched.")
    print(PICTURE.rstrip())

    title("2. The recorder starts on the router.")
    log, said = folder / "log", folder / "ctrecord.stderr"
    log.mkdir()
    options = ["-F", "-U", "root", "-f", log / "%Y%m%d-%H%M%S.ctlog"]
    print(f"   # {command('ctrecord', *options)}")
    recorder = lab.router.spawn(CHECKOUT / "bin/ctrecord", *options, stderr=said)
    wait_until(
        lambda: "table recorded" in said.read_text() or recorder.poll() is not None,
        "ctrecord recording",
    )
    print("".join(f"   {line}\n" for line in said.read_text().splitlines()), end="")

    title("3. Traffic crosses it.")
    time.sleep(CLEAR)
    port, moment = traffic(lab)
    lab.flush()
    time.sleep(CLEAR)
    recorder.send_signal(signal.SIGTERM)
    if recorder.wait(timeout=20):
        raise SystemExit(f"demo: ctrecord ended with {recorder.returncode}: {said.read_text()}")

    title(
        "4. What was recorded: each start (S) and end (E), + if it was answered; before NAT, then "
        "after it."
    )
    run("ctlist", log)

    title(
        "5. The same, a line a connection: start, end, whose clock told them (k: the kernel's), + "
        "if it was answered."
    )
    run("ctlist", "-s", log)

    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))
    title(f"6. Someone complains of {PUBLIC} port {port}, at {at[11:]}. Who was it?")
    run("ctwho", f"{PUBLIC}:{port}", at, "--trust-clock", "-d", log)

    title("7. Is the log whole, and has nobody changed it?")
    run("cttest", log)


def main() -> int:
    """The whole show."""
    if os.geteuid():
        print("demo: needs root, to make network namespaces: sudo make demo", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="ctrecorder-demo-"))
    with Lab() as lab:
        demonstrate(lab, folder)
    log = folder / "log"
    title(f"The namespaces are gone; the log stays in {log}. Look further:")
    for arguments in (["-i", INSIDE_2], ["--proto", "icmpv6", "--format", "json"], ["-H"]):
        print(f"   # {command('ctlist', *arguments, log)}")
    print(f"   # man {shown(CHECKOUT / 'man')}/ctrecorder.7         the idea, and a first day")
    print(f"   # rm -r {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
