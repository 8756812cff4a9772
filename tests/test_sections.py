"""Every section of a lesson works after Connect alone: a fresh namespace, what others left deleted."""

import re
import subprocess
import sys
from copy import deepcopy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from test_notebooks import NOTEBOOKS, ROOT

LONGEST_FIRST = sorted(NOTEBOOKS, key=lambda path: not path.stem.startswith("02"))
AGAIN = "await nc.close()\n%reset -f"  # what a fresh kernel would be, on the same cluster


def parts(notebook: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """The cells under each heading of level two, and of level three under the last sections."""
    found: dict[str, list] = {}
    chapter = title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^(##|###) (.*)$", cell.source, re.M)):
            if match[1] == "##":
                chapter = title = match[2]
            elif chapter in ("Going further", "Questions people ask"):
                title = match[2]
        found.setdefault(title, []).append(cell)
    return found


def after(cells: list[nbformat.NotebookNode]) -> str | None:
    """The heading that a section names as one that must stand before it."""
    match = re.search(r"after \*([^*]+)\*", cells[0].source)
    return match[1] if match else None


@pytest.mark.sections
@pytest.mark.parametrize("half", ("even", "odd"))
@pytest.mark.parametrize("path", LONGEST_FIRST, ids=lambda path: path.stem)
def test_each_section_after_connect_alone(path, half, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    found = parts(notebook)
    connect = [cell for cell in found["Connect"] if cell.cell_type == "code"]
    sections = [
        title for title, cells in found.items()
        if title not in ("Connect", "Clean up") and any(cell.cell_type == "code" for cell in cells)
    ]  # fmt: skip
    cells = []
    for title in reversed(sections[half == "odd" :: 2]):  # so that none leans on the one before it
        needed = after(found[title])
        cells += [*connect, new_markdown_cell(title), *(found[needed] if needed else []), *found[title]]
        cells.append(new_code_cell(AGAIN))
    notebook.cells = [deepcopy(cell) for cell in cells if cell.cell_type == "code"]
    for n, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{n}"
    target = tmp_path / path.name
    nbformat.write(notebook, target)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", f"--confcutdir={ROOT}"]
    options = ["-p", "no:cacheprovider", "-p", "conftest", "-p", "no:xdist", "--color=no", str(target)]
    ran = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:]
