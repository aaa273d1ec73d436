"""Makes the sealed recording in tests/data/golden/seals, which every later version must check:

    /usr/bin/python3 -m tests.data.make_golden_seals

It refuses to overwrite.  The verification key is KEY.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from ctrecorder.sealing.epoch import GRACE_NS
from tests.support.sealed import Recording

GOLDEN = Path(__file__).parent / "golden" / "seals"
KEY = bytes(range(32))


def main() -> None:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} is there: it is kept for ever")
    with tempfile.TemporaryDirectory() as folder:
        ours = Recording(Path(folder), KEY)
        ours.squeeze(ours.record(2))
        ours.hold("case 17")
        ours.clock.passes(3 * GRACE_NS)
        ours.record(1)
        shutil.copytree(ours.folder, GOLDEN)


if __name__ == "__main__":
    main()
