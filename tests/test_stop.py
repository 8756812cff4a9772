"""Stop works everywhere: each cell of more than three seconds is stopped, then its section runs again."""

import time

import nbformat
import pytest
from test_kernels import kernel
from test_notebooks import tags
from test_sections import LONGEST_FIRST, after, parts

LONG = 3  # seconds
CASES = []
for _path in LONGEST_FIRST:
    _titles = [title for title in parts(nbformat.read(_path, as_version=4)) if title != "Clean up"]
    # The longest in two parts, for two workers.
    _cut = _titles.index("Connect two regions") if "Connect two regions" in _titles else len(_titles)
    for _part in filter(None, (_titles[:_cut], _titles[_cut:])):
        CASES.append(pytest.param(_path, {"Connect", *_part}, id=f"{_path.stem} {_part[-1]}"))


def runs(running, cell, seconds: float = 120) -> None:
    try:
        running.run(cell.source, timeout=seconds)
    except RuntimeError as error:
        pytest.fail(f"{error}, after Stop, in:\n{cell.source}")


def stopped(running, cell) -> bool:
    """Runs a cell; where it takes longer, presses Stop and waits until it has ended."""
    request = running.client.execute(cell.source, stop_on_error=False)
    try:
        running.result(request, timeout=LONG)
        return False
    except RuntimeError as error:
        pytest.fail(f"{error}, before any Stop, in:\n{cell.source}")
    except TimeoutError:
        running.manager.interrupt_kernel()
    pressed = time.monotonic()
    try:
        running.result(request, timeout=30)
    except RuntimeError as error:
        assert str(error).startswith(("KeyboardInterrupt", "CancelledError", "CellInterrupted")), error
    assert time.monotonic() - pressed < 10, f"Stop took {time.monotonic() - pressed:.0f} s:\n{cell.source}"
    return True


@pytest.mark.sections
@pytest.mark.parametrize(("path", "titles"), CASES)
def test_stop_then_connect_and_the_section_again(path, titles):
    found = parts(nbformat.read(path, as_version=4))
    code = {title: [c for c in cells if c.cell_type == "code"] for title, cells in found.items()}
    again = {}
    there = set()  # sections whose streams are there: the next Connect deletes them
    with kernel() as running:
        for title, cells in code.items():
            if title not in titles:
                continue
            named = after(found[title])
            if named and named not in there:
                for needed in code[named]:
                    runs(running, needed)
            there |= {title, named}
            for place, cell in enumerate(cells):
                if {"exercise", "check"} & set(tags(cell)) or not stopped(running, cell):
                    continue
                again[title] = cell.source
                for once_more in [*code["Connect"], *(code[named] if named else []), *cells[: place + 1]]:
                    runs(running, once_more)
                there = {title, named}
    assert again, "no cell of this notebook takes longer than three seconds: nothing was stopped"
