"""Questions and styles of letters for Hypothesis."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from tests.support.letters import PORT, PROTOCOL, REMOTE, UNTIL, Form, Question, Style

# From 2025-12-01 to 2026-11-24: within a year of the date of the letters, and before it.
FIRST, LAST = 1_764_547_200, 1_795_564_800

ADDRESSES = st.one_of(
    st.builds("198.51.100.{}".format, st.integers(1, 254)),
    st.builds("203.0.113.{}".format, st.integers(1, 98)),
    st.builds("2001:db8:{:x}::{:x}".format, st.integers(1, 0xFFFF), st.integers(1, 0xFFFF)),
)
REMOTES = st.builds("192.0.2.{}".format, st.integers(1, 254))
# 51413 is a listening port, and XARF has services below 12000.
PORTS = st.integers(12_000, 51_000)


def questions(form: Form) -> st.SearchStrategy[list[Question]]:
    """Questions that this form can ask: no two of one address in one second."""
    says = form.says

    def made(
        address: str, port: int, second: int, more: int, remote: str, service: int
    ) -> Question:
        number = port if PORT in says else None
        step = 60 if form.minutes else 1
        return Question(
            address,
            number,
            form.role if number else "none",
            second // step * step,
            second + more if UNTIL in says and more else None,
            remote if REMOTE in says else None,
            service if REMOTE in says else None,
            "tcp" if PROTOCOL in says else None,
        )

    one = st.builds(
        made,
        ADDRESSES,
        PORTS,
        st.integers(FIRST, LAST),
        st.integers(0, 600),
        REMOTES,
        st.sampled_from([22, 80, 443, 6667]),
    )
    many = st.lists(
        one,
        min_size=1,
        max_size=1 if form.one else 6,
        unique_by=lambda each: each.second if form.same else (each.address, each.second),
    )
    if form.same:
        return many.map(lambda found: [replace(each, address=found[0].address) for each in found])
    return many


def styles(form: Form) -> st.SearchStrategy[Style]:
    """Line ends, encodings, folding, order of fields."""
    return st.builds(
        lambda newline, transfer, fold, shuffle, seed: Style(
            newline,
            transfer[0],
            transfer[1] if form.charsets else "utf-8",
            fold,
            random.Random(seed),
            shuffle,
        ),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(
            [
                ("7bit", "utf-8"),
                ("base64", "utf-8"),
                ("base64", "utf-16"),
                ("quoted-printable", "latin-1"),
                ("7bit", "cp1252"),
            ]
        ),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2**16),
    )
