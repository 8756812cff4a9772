"""Bare `pytest` runs the notebooks under strict nbval, from whichever folder it is called."""

from pathlib import Path

ROOT = Path(__file__).parent


def pytest_configure(config):
    # nbval reads this path relative to the working directory; here it is made absolute. One rule:
    # a line that starts with the stopwatch holds a timing and is compared as if it held none.
    config.option.nbval_sanitize_with = str(ROOT / "tests" / "sanitize.cfg")
