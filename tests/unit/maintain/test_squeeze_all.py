"""Many segments at once: the worker processes of a command."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

from ctrecorder.maintain import squeeze_all
from ctrecorder.service.privileges import status_of
from tests.support.router import wait_until


def test_no_worker_process_outlives_the_command() -> None:
    """The kernel, or root's scribe, kills the command: its workers would wait for ever."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        with ProcessPoolExecutor(
            2, initializer=squeeze_all._start, initargs=(os.getpid(),)
        ) as pool:
            os.write(there, b"%d\n" % pool.submit(os.getpid).result())
            time.sleep(30)
        os._exit(1)
    worker = int(os.read(here, 100))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until(lambda: not is_alive(worker), "the end of the worker process")
    os.close(here)
    os.close(there)


def is_alive(pid: int) -> bool:
    """If the process runs, and does not only wait for its parent."""
    try:
        return status_of(pid)["State"][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
