"""What keeps the notebooks honest is itself tested: each way to break a stored output must turn red."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_notebooks as form
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
SOURCE = "print('acked 500')\nprint('⏱ 1.2 s')"


def written(path: Path, printed: str, count: int | None = 1) -> Path:
    cell = new_code_cell(SOURCE, execution_count=count)
    if printed:
        cell.outputs = [new_output("stream", name="stdout", text=printed)]
    notebook = new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def nbval(path: Path) -> int:
    """The exit code of strict nbval under the project's own configuration."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", f"--confcutdir={ROOT}"]
    options = ["-p", "no:cacheprovider", "-p", "conftest", str(path)]
    return subprocess.run([*command, *options], cwd=ROOT).returncode


@pytest.mark.parametrize(
    ("printed", "red"),
    [
        ("acked 500\n⏱ 1.2 s\n", False),
        ("acked 500\n⏱ 99.9 s\n", False),
        ("acked 501\n⏱ 1.2 s\n", True),
        ("acked 500 ⏱\n⏱ 1.2 s\n", True),
        ("acked 500\n", True),
    ],
    ids=["same", "another timing", "another count", "a stopwatch behind a count", "a line missing"],
)
def test_a_count_is_compared_and_a_timing_is_not(tmp_path, printed, red):
    assert nbval(written(tmp_path / "n.ipynb", printed)) == int(red)


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
