"""What keeps the notebooks honest is itself tested: each way to break a stored output must turn red."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_notebooks as form
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
SOURCE = "print('acked 500 in ≈ 2.5 s')\nprint('⏱ 1.2 s')\nprint('<td>≈ 5</td><td>20</td>')"
ROW = "<td>≈ 5</td><td>20</td>\n"


def written(path: Path, printed: str, count: int | None = 1) -> Path:
    cell = new_code_cell(SOURCE, execution_count=count)
    if printed:
        cell.outputs = [new_output("stream", name="stdout", text=printed)]
    notebook = new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


CASES = {
    "same": ("acked 500 in ≈ 2.5 s\n⏱ 1.2 s\n" + ROW, "PASSED"),
    "another_timing": ("acked 500 in ≈ 2.5 s\n⏱ 99.9 s\n" + ROW, "PASSED"),
    "another_almost": ("acked 500 in ≈   7.1 s\n⏱ 1.2 s\n" + ROW, "PASSED"),
    "another_count": ("acked 501 in ≈ 2.5 s\n⏱ 1.2 s\n" + ROW, "FAILED"),
    "another_unit_behind_almost": ("acked 500 in ≈ 2.5 ms\n⏱ 1.2 s\n" + ROW, "FAILED"),
    "a_stopwatch_behind_a_count": ("acked 500 in ≈ 2.5 s ⏱\n⏱ 1.2 s\n" + ROW, "FAILED"),
    "a_line_missing": ("acked 500 in ≈ 2.5 s\n" + ROW, "FAILED"),
    "another_almost_in_a_table": ("acked 500 in ≈ 2.5 s\n⏱ 1.2 s\n<td>≈ 6</td><td>20</td>\n", "PASSED"),
    "another_count_in_a_table": ("acked 500 in ≈ 2.5 s\n⏱ 1.2 s\n<td>≈ 5</td><td>21</td>\n", "FAILED"),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, str]:
    """What strict nbval under the project's own configuration says of each case: PASSED or FAILED."""
    folder = tmp_path_factory.mktemp("compared")
    for name, (printed, _) in CASES.items():
        written(folder / f"{name}.ipynb", printed)
    command = [sys.executable, "-m", "pytest", "-rA", "-c", "pyproject.toml", f"--confcutdir={ROOT}"]
    options = ["-p", "no:cacheprovider", "-p", "conftest", "--color=no", str(folder)]
    ran = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return {name: word for word, name in re.findall(r"^([A-Z]+) \S*?(\w+)\.ipynb", ran.stdout, re.MULTILINE)}


@pytest.mark.parametrize("case", CASES)
def test_a_count_is_compared_and_a_timing_is_not(verdicts, case):
    assert verdicts[case] == CASES[case][1]


def test_cleared_outputs_and_counts_are_noticed(tmp_path):
    cleared = written(tmp_path / "n.ipynb", "", count=None)
    with pytest.raises(AssertionError, match="make run"):
        form.test_counts_run_from_one(cleared)
    with pytest.raises(AssertionError, match="lost its output"):
        form.test_a_cell_that_shows_something_has_stored_it(cleared)


@pytest.mark.parametrize("printed", ["/tmp/nats-1/x\n", "nats://127.0.0.1:40123\n"])
def test_an_output_that_names_a_machine_is_noticed(tmp_path, printed):
    with pytest.raises(AssertionError):
        form.test_no_output_names_this_machine(written(tmp_path / "n.ipynb", printed))
