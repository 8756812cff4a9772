"""Every benchmark still runs, in its smallest form, and prints its table; figures are not looked at."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.__main__ import DRAWN, PARTS  # noqa: E402

SMALL = {
    "startup": (["1"], r"ready in a median of"),
    "publish": (["--rounds", "1", "--sizes", "64"], r"Go client, fast +[\d,]+"),
    "replay": (
        ["--rounds", "1", "--counts", "500", "2000"],
        r"(?s)2,000 x 256 B with two headers.*loop over fetch\(100\) .* CPU .*loop .* \(500 to 2,000\)",
    ),
    "request_reply": (["--rounds", "1"], r"same node +Go client"),
    "consumer_groups": (["--rounds", "1", "--seconds", "0.2"], r"the price of order"),
    "failover": (
        ["--trials", "1", "--faults", "step_down"],
        r"step_down +1 trials: .* nothing acknowledged lost",
    ),
    "classroom": (["--students", "2", "--orders", "5"], r"students: 2, .* errors: none"),
}

pytestmark = pytest.mark.cli  # one of the clients beside ours is the nats CLI


def test_each_has_its_small_form():
    there = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert set(SMALL) == there
    assert list(PARTS) == list(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_prints_its_table(name, tmp_path):
    options, line = SMALL[name]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *options]
    picture = tmp_path / "drawn.png"
    if name in DRAWN:
        command += ["--picture", str(picture)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert re.search(line, ran.stdout), ran.stdout
    assert name not in DRAWN or picture.read_bytes().startswith(b"\x89PNG")
