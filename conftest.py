"""Bare `pytest` runs the notebooks under strict nbval, from whichever folder it is called."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

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
# The instructor's view needs a class that runs: tests/test_classroom.py opens one for it.
collect_ignore = [] if os.environ.get("CLASS_FOLDER") else ["notebooks/instructor.ipynb"]
NEEDS = {
    "docker": "a Docker engine and Compose: make test-docker",
    "browser": "Chromium: make test-browser",
    "sections": "some minutes more: make test-sections",
    "cli": "the nats CLI, the exporter and Prometheus: make test-cli",
}
left_out = pytest.StashKey[Counter]()


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
