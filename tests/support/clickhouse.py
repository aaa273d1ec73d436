"""The shim of `clickhouse_shim`, started and asked."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from tests.support.router import CHECKOUT

ENGINE = next(iter(sorted((CHECKOUT / ".venv").glob("chdb-core-*"))), CHECKOUT / "none")


class Server:
    """`target`: for ctship.  `folder`: of the shim."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        assert (ENGINE / "done").exists(), "no ClickHouse engine: make check-faults fetches it"
        environment = {**os.environ, "PYTHONPATH": f"{ENGINE}:{CHECKOUT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.support.clickhouse_shim", "0", str(folder)],
            env=environment,
            cwd=CHECKOUT,
        )
        for _ in range(600):
            if (folder / "ready").exists() and (folder / "ready").read_text():
                break
            assert self._process.poll() is None
            time.sleep(0.05)
        self.port = int((folder / "ready").read_text())
        self.target = f"clickhouse://127.0.0.1:{self.port}/log"

    def ask(self, query: str) -> list[list[str]]:
        """The rows of the answer."""
        server = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        asked = urlencode({"database": "log", "query": query})
        server.request("POST", f"/?{asked}", b"")
        answer = server.getresponse()
        text = answer.read().decode()
        server.close()
        assert answer.status == 200, text
        return [line.split("\t") for line in text.splitlines()]

    def fail(self, when: str, text: str) -> None:
        """The next query with this text fails."""
        (self.folder / "fail").write_text(f"{when} {text}\n")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
