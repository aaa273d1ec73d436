"""etc/ctrecorder.conf, written from the declarations of the settings.

python3 -B -m tests.support.example_conf > etc/ctrecorder.conf
"""

from __future__ import annotations

import textwrap

from ctrecorder.service.settings import SECTIONS


def example() -> str:
    """Every setting, commented out at its default, with its meaning, limits, unit and reason."""
    lines = [
        "# The configuration of ctrecorder: see ctrecorder.conf(5).",
        "# Settings that are commented out show the default. Check changes with: ctrecord "
        "--check-config",
        "# Changes take effect after: systemctl reload ctrecord; some need a restart, see there.",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[{name}]", f"# read by {section.command}"]
        for one in section.settings:
            words = f"{one.meaning} {one.reason} Allowed: {one.allowed}."
            lines += [
                "",
                *textwrap.wrap(
                    words, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
                ),
            ]
            if one.unit:
                lines.append(f"# In {one.unit}:")
            lines.append(f"#{one.name} = {one.default}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(example(), end="")
