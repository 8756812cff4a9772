"""Bare `pytest` runs the notebooks under strict nbval, from whichever folder it is called."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from uuid import uuid4

import nbval.kernel
import pytest
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent
# Where memory is a folder, the servers' files are there. A server syncs what it creates, and a disk with
# other users holds that for seconds: beside two programs that write and sync, one consumer of three
# replicas in five took 1 to 2.7 s, in memory none more than 0.25 s; a client waits for five.
MEMORY = Path("/dev/shm")
if (
    "TMPDIR" not in os.environ
    and os.access(MEMORY, os.W_OK)
    and shutil.disk_usage(MEMORY).free > 8e9
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
):
    os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None
SOCKETS = tempfile.gettempdir()
# The instructor's view needs a class that runs: tests/test_classroom.py opens one for it.
collect_ignore = [] if os.environ.get("CLASS_FOLDER") else ["notebooks/instructor.ipynb"]
NEEDS = {
    "docker": "a Docker engine and Compose: make test-docker",
    "browser": "Chromium: make test-browser",
    "sections": "some minutes more: make test-sections",
    "cli": "the nats CLI, the exporter and Prometheus: make test-cli",
}
left_out = pytest.StashKey[Counter]()


def kernel_manager(kind=KernelManager, **settings):
    """As nbval makes one, and where it can be over socket files, which nobody else takes.

    For TCP, Jupyter looks for free ports that the kernel binds a moment later; in one of some sixty suites a
    client beside it was given one of them in between. The path of such a file has at most 104 bytes.
    """
    if os.name != "nt" and len(SOCKETS) < 80:
        settings |= {"transport": "ipc", "ip": f"{SOCKETS}/kernel-{uuid4().hex[:8]}"}
    return kind(**settings)


nbval.kernel.KernelManager = kernel_manager


def pytest_configure(config):
    # nbval reads this path relative to the working directory; here it is made absolute. Two rules: a line
    # that begins with the stopwatch, and the one token behind "almost equal", are not compared.
    config.option.nbval_sanitize_with = str(ROOT / "tests" / "sanitize.cfg")


def pytest_deselected(items):
    for item in items:
        counts = item.config.stash.setdefault(left_out, Counter())
        counts.update(name for name in NEEDS if item.get_closest_marker(name))


def pytest_terminal_summary(terminalreporter, config):
    for name, count in config.stash.get(left_out, Counter()).items():
        terminalreporter.write_line(f"left out: {count} tests that need {NEEDS[name]}")
