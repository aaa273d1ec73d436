"""Crypto-PAn against the published example, nfanon, and a slow implementation."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ctrecorder import uapi
from ctrecorder.columns import Array
from ctrecorder.privacy.cryptopan import CryptoPan
from tests.support.tables import addresses

KEY = bytes(range(1, 33))
# Those of the sample trace of Crypto-PAn 1.0, with its key and its results.
SAMPLE_KEY = bytes(
    [21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16]
    + [216, 152, 143, 131, 121, 121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2]
)
SAMPLE = {"128.11.68.132": "135.242.180.132", "129.118.74.4": "134.136.186.123"}


def column(texts: list[str]) -> Array:
    packed = [ipaddress.ip_address(text).packed for text in texts]
    if len(packed[0]) == 16:
        return np.frombuffer(b"".join(packed), "S16")
    return np.array([int.from_bytes(one, "big") for one in packed], "<u4")


def number(one: Array) -> int:
    data = one.tobytes() if one.dtype.kind == "S" else one.astype(">u4").tobytes()
    return int.from_bytes(data, "big")


def texts(found: Array) -> list[str]:
    kind = ipaddress.IPv6Address if found.dtype.kind == "S" else ipaddress.IPv4Address
    return [str(kind(number(found[place : place + 1]))) for place in range(len(found))]


def slow(key: bytes, address: int, bits: int) -> int:
    """Bit by bit, from the paper."""
    aes = Cipher(algorithms.AES(key[:16]), modes.ECB()).encryptor()
    pad = int.from_bytes(aes.update(key[16:]), "big")
    change = 0
    for length in range(bits):
        prefix = address << (128 - bits) >> (128 - length) << (128 - length)
        block = prefix | pad & ((1 << (128 - length)) - 1)
        change = change << 1 | aes.update(block.to_bytes(16, "big"))[0] >> 7
    return address ^ change


def test_the_published_example() -> None:
    found = CryptoPan(SAMPLE_KEY).addresses(column(list(SAMPLE)), uapi.AF_INET)
    assert texts(found) == list(SAMPLE.values())


@pytest.mark.parametrize("family", [uapi.AF_INET, uapi.AF_INET6])
def test_as_the_slow_implementation(family: int) -> None:
    random = np.random.default_rng(3)
    pan = CryptoPan(KEY)
    bits = 32 if family == uapi.AF_INET else 128
    for _ in range(3):  # the second time, some are known
        some = addresses(random, family, 60, 40)
        found = pan.addresses(some, family)
        for place in range(len(some)):
            one = number(some[place : place + 1])
            expected = slow(KEY, one, bits)
            assert number(found[place : place + 1]) == expected == pan.number(one, family)


@pytest.mark.parametrize("family", [uapi.AF_INET, uapi.AF_INET6])
def test_equal_prefixes_stay_equal(family: int) -> None:
    bits = 32 if family == uapi.AF_INET else 128
    some = addresses(np.random.default_rng(1), family, 80, 60)
    found = CryptoPan(KEY).addresses(some, family)
    for place in range(79):
        before = number(some[place : place + 1]) ^ number(some[place + 1 : place + 2])
        after = number(found[place : place + 1]) ^ number(found[place + 1 : place + 2])
        assert before.bit_length() == after.bit_length() <= bits


def test_what_is_forgotten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrecorder.privacy.cryptopan._KEPT", 10)
    pan, some = CryptoPan(KEY), np.arange(40, dtype="<u4")
    first = [pan.addresses(some[part : part + 8], uapi.AF_INET) for part in range(0, 40, 4)]
    again = [pan.addresses(some[part : part + 8], uapi.AF_INET) for part in range(0, 40, 4)]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len(pan.addresses(some[:0], uapi.AF_INET)) == 0


@pytest.mark.slow
def test_as_nfanon_for_ipv4(tmp_path: Path) -> None:
    """nfcapd of nfdump stores flows from random sources, nfanon replaces them."""
    random = np.random.default_rng(2)
    sources = np.unique(random.integers(1, 2**32, 200, np.uint32))
    (tmp_path / "flows").mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The -w of nfdump 1.7 is the -l of 1.6.
    command = ["nfcapd", "-w", str(tmp_path / "flows"), "-b", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        [*command, "-t", "86400"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 20
        while f":{port:04X} " not in Path("/proc/net/udp").read_text():
            assert time.monotonic() < deadline, "nfcapd"
            time.sleep(0.05)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for first in range(0, len(sources), 30):
                sender.sendto(_netflow5(sources[first : first + 30], first), ("127.0.0.1", port))
                time.sleep(0.01)
        time.sleep(1)
        process.terminate()
        process.wait(20)
    (flows,) = [path for path in (tmp_path / "flows").iterdir() if path.name.startswith("nfcapd")]
    subprocess.run(
        ["nfanon", "-q", "-K", f"0x{KEY.hex()}", "-r", flows, "-w", tmp_path / "anonymous"],
        check=True,
        capture_output=True,
        timeout=20,
    )
    shown = [
        subprocess.run(
            ["nfdump", "-q", "-r", path, "-o", "fmt:%sp %sa"],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout.split()
        for path in (flows, tmp_path / "anonymous")
    ]
    before, after = (dict(zip(one[::2], one[1::2], strict=True)) for one in shown)
    assert len(before) == len(sources)
    ours = texts(CryptoPan(KEY).addresses(column(list(before.values())), uapi.AF_INET))
    assert ours == [after[place] for place in before]


def _netflow5(sources: Array, first: int) -> bytes:
    """A packet of NetFlow v5: a flow from each source, with a port of its own."""
    seconds = int(time.time())
    head = struct.pack(">HHIIIIBBH", 5, len(sources), 100_000, seconds, 0, first, 0, 0, 0)
    flows = [
        struct.pack(
            ">IIIHHIIIIHHBBBBHHBBH",
            *(int(source), 0xC6336401, 0, 0, 0, 1, 100, 50_000, 60_000),
            *(1000 + first + place, 80, 0, 0, 6, 0, 0, 0, 0, 0, 0),
        )
        for place, source in enumerate(sources.tolist())
    ]
    return head + b"".join(flows)
