"""What a machine can hold every notebook to: stored outputs, and the style of CONTRIBUTING.md."""

import ast
import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMING = "⏱"

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs
    )


def test_counts_run_from_one(path):
    counts = [cell.execution_count for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1)), "re-execute it from a fresh kernel: make run NB=..."


def test_a_cell_that_shows_something_has_stored_it(path):
    """nbval passes a notebook whose outputs were cleared; this does not."""
    for cell in cells(path, "code"):
        body = ast.parse(cell.source).body
        last = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
        shows = any(
            isinstance(node, ast.Call)
            and (getattr(node.func, "id", "") == "print" or ast.unparse(node.func) == "plots.show")
            for statement in body
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            for node in ast.walk(statement)
        ) or isinstance(last, ast.Name | ast.Attribute | ast.Subscript)
        if shows or "check" in tags(cell):
            assert cell.outputs, f"cell [{cell.execution_count}] has lost its output:\n{cell.source}"


def test_no_error_no_stderr(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            assert output.output_type != "error", f"[{cell.execution_count}] {output.ename}"
            assert output.get("name") != "stderr", f"[{cell.execution_count}] {output.text}"


def test_no_output_names_this_machine(path):
    for cell in cells(path, "code"):
        text = json.dumps(cell.outputs)
        found = re.search(r"/(root|home|Users|tmp|work|var)/[\w./-]*|[A-Z]:\\\\\w+", text)
        assert not found, f"[{cell.execution_count}] {found[0]}"
        assert not re.search(r"127\.0\.0\.1:\d{5}", text), f"[{cell.execution_count}] a port of this run"


def test_timings_are_the_exception(path):
    """What the sanitiser hides must stay small: most lines are compared to the letter."""
    lines = [line for cell in cells(path, "code") for line in printed(cell).splitlines() if line.strip()]
    timings = [line for line in lines if line.startswith(TIMING)]
    assert len(timings) <= len(lines) / 4, f"{len(timings)} of {len(lines)} lines are timings"


def test_no_markers_that_switch_comparison_off(path):
    allowed = {"setup", "exercise", "check"}
    for cell in cells(path, "code"):
        assert set(tags(cell)) <= allowed, tags(cell)
        assert "NBVAL" not in cell.source


def test_a_timing_is_not_compared_and_a_count_is(path):
    """The one sanitising rule, on lines like those of the notebooks."""
    config = (ROOT / "tests" / "sanitize.cfg").read_text()
    rules = re.findall(r"^regex: (.*)$", config, re.MULTILINE)
    assert len(rules) == 1
    assert re.sub(rules[0], "", "⏱ 1.2 s") == re.sub(rules[0], "", "⏱ 99 s")
    assert re.sub(rules[0], "", "stored 500\n⏱ 1.2 s") != re.sub(rules[0], "", "stored 501\n⏱ 1.2 s")


def test_code_fits_the_page(path):
    code = cells(path, "code")
    walk = [cell for cell in code if not {"exercise", "check"} & set(tags(cell))]
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code]
    assert 15 <= len(walk) <= 32, f"{len(walk)} code cells beside the exercises"
    assert statistics.median(lengths) <= 10 and max(lengths) <= 24, sorted(lengths)
    for cell in code:
        assert cell.source.strip(), f"[{cell.execution_count}] is empty"
        for line in cell.source.splitlines():
            assert len(line) <= 88, f"[{cell.execution_count}] {line}"


def test_no_sleep_waits_for_a_state(path):
    """`asyncio.sleep` paces a loop or yields; the comment on its line says which. `time.sleep` never."""
    for cell in cells(path, "code"):
        assert "time.sleep" not in cell.source
        for line in cell.source.splitlines():
            if "asyncio.sleep(" in line and "asyncio.sleep(0)" not in line:
                assert "#" in line, f"[{cell.execution_count}] why does it sleep? {line}"


def test_sections(path):
    text = without_code(prose(path))
    headings = re.findall(r"^(#+) (.*)$", text, re.MULTILINE)
    assert [level for level, _ in headings].count("#") == 1 and headings[0][0] == "#"
    second = [title for level, title in headings if level == "##"]
    closing = ["Exercises", "In practice", "Recap", "Clean up", "Next"]
    assert [title for title in second if title in closing] == closing, second
    assert second[0].startswith("Connect"), second[0]
    for promise in ("**You will learn**", "**You need**", "**Time:**", "> **Predict:**", "```mermaid"):
        assert promise in prose(path), f"no {promise}"
    for _, title in headings[1:]:
        words = re.sub(r"`[^`]*`", "", title).split()[1:]
        shouting = [w for w in words if w.istitle() and w not in PROPER]
        assert len(shouting) <= 1, f"not sentence case: {title}"


PROPER = {"Nats", "Raft", "Python", "Jetstream", "I"}


def test_prose_is_readable_in_one_sitting(path):
    words = len(re.findall(r"\w+", without_code(prose(path))))
    assert 1000 <= words <= 3000, f"{words} words"


def test_every_picture_has_a_text_and_a_sentence(path):
    notebook = nbformat.read(path, as_version=4)
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt) > 30, f"[{cell.execution_count}] no alt text"
                after = notebook.cells[place + 1]
                assert after.cell_type == "markdown", f"[{cell.execution_count}] no sentence after the plot"


def test_links_resolve(path):
    for target in re.findall(r"\]\(([^)#]+)", prose(path)):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:config|benchmarks|tests|helpers)/[\w./]+)`", prose(path)):
        assert (ROOT / name).exists(), name


def test_three_exercises_each_with_hint_and_solution(path):
    code = cells(path, "code")
    assert len([c for c in code if "exercise" in tags(c)]) == 3
    assert len([c for c in code if "check" in tags(c)]) == 3
    for part in ("<summary>Hint</summary>", "<summary>Solution</summary>"):
        assert prose(path).count(part) == 3, part
    for cell in code:
        if "check" in tags(cell):
            assert printed(cell).startswith("Not attempted:"), "an exercise was stored solved"
