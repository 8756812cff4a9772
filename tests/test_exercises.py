"""Every exercise, untouched, solved as the notebook says, and answered wrongly in plausible ways."""

import ast
import asyncio
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WRONG = ROOT / "tests" / "wrong_answers"


class Exercise:
    """One exercise as it stands in its notebook: setup cells, stub, check, and the folded solution."""

    def __init__(self, setup: list[str], stub: str, check: str, solution: str) -> None:
        self.setup, self.stub, self.check, self.solution = setup, stub, check, solution


def tagged(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def exercises(path: Path) -> list[Exercise]:
    cells = nbformat.read(path, as_version=4).cells
    setup = [cell.source for cell in cells if tagged(cell, "setup")]
    found = []
    for i, cell in enumerate(cells):
        if tagged(cell, "exercise"):
            check = next(c for c in cells[i:] if tagged(c, "check"))
            folded = next(c for c in cells[i:] if "<summary>Solution</summary>" in c.source)
            solution = re.search(
                r"<summary>Solution</summary>.*?```python\n(.*?)```", folded.source, re.DOTALL
            )
            found.append(Exercise(setup, cell.source, check.source, solution[1]))
    return found


async def run(source: str, namespace: dict) -> object:
    """Executes a cell as Jupyter does, `await` included; returns the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    for part, mode in ((tree, "exec"), (last and ast.Expression(last.value), "eval")):
        if part is not None:
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            value = eval(compile(part, "<cell>", mode, flags=flags), namespace)
            if asyncio.iscoroutine(value):
                value = await value
    return value


async def outcome(exercise: Exercise, answer: str) -> object:
    """What the check says to `answer`, on a cluster of its own."""
    namespace: dict = {}
    try:
        for cell in exercise.setup:
            await run(cell, namespace)
        await run(answer, namespace)
        return await run(exercise.check, namespace)
    finally:
        if "js" in namespace and namespace["cluster"].backend != "external":
            js = namespace["js"]
            await namespace["cluster"].delete_streams(js, *(s.config.name for s in await js.streams_info()))
        if "nc" in namespace:
            await namespace["nc"].close()


CASES = [
    pytest.param(exercise, number, path, id=f"{path.stem[:2]}-{number}")
    for path in NOTEBOOKS
    for number, exercise in enumerate(exercises(path), 1)
]


@pytest.mark.parametrize(("exercise", "number", "path"), CASES)
def test_untouched_is_not_attempted(exercise, number, path):
    assert asyncio.run(outcome(exercise, exercise.stub)).state == "not attempted"


@pytest.mark.parametrize(("exercise", "number", "path"), CASES)
def test_solution_is_correct(exercise, number, path):
    found = asyncio.run(outcome(exercise, exercise.solution))
    assert found.state == "correct", found


@pytest.mark.parametrize(("exercise", "number", "path"), CASES)
def test_plausible_wrong_answers_are_not_yet(exercise, number, path):
    answers = sorted(WRONG.glob(f"{path.stem[:2]}_exercise_{number}_*.py"))
    assert answers, f"no wrong answer for exercise {number} of {path.name} in {WRONG}"
    for answer in answers:
        found = asyncio.run(outcome(exercise, answer.read_text()))
        assert found.state == "not yet", f"{answer.name}: {found}"
