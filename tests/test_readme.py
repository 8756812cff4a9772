"""The README's table, its minutes, and the map of the helpers: each is true."""

import ast
import re

import nbformat
from test_notebooks import NOTEBOOKS, ROOT


def test_each_promise_of_the_original_leads_to_a_heading():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| promise | kept in |")[2]
    rows = [
        line
        for line in table.partition("\n\n")[0].splitlines()
        if line.startswith("| ") and "---" not in line
    ]
    assert len(rows) >= 28
    assert all("](" in row or "*In practice*" in row for row in rows)
    for lesson in NOTEBOOKS:
        assert table.count(f"(notebooks/{lesson.name}#") >= 4, lesson.name


def test_minutes_are_those_of_the_lessons():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    instructors = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
    welcome = (ROOT / "notebooks" / "welcome.ipynb").read_text(encoding="utf-8")
    for lesson in NOTEBOOKS:
        promised = re.search(r"\*\*Time:\*\* (\d+)", lesson.read_text(encoding="utf-8"))[1]
        for text in (readme, welcome):
            row = next(
                line
                for line in text.splitlines()
                if f"({'notebooks/' * (text is readme)}{lesson.name})" in line
            )
            assert re.search(rf"\| {promised} \|", row), row
        number = lesson.name[1]
        assert re.search(rf"^\| {number} .*\| {promised} \|", instructors, re.MULTILINE), number


def test_the_map_of_the_helpers_is_true():
    """helpers/__init__.py: each module once, with its own first sentence and the notebooks that import it."""
    code = {
        path.stem: "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    }
    expected = []
    for path in (ROOT / "helpers").iterdir():
        name, source = path.stem, path / "__init__.py" if path.is_dir() else path
        if name.startswith("_") or not source.is_file():
            continue
        imports = re.compile(rf"(from|import) helpers\.{name}\b|from helpers import [^\n]*\b{name}\b")
        users = [notebook for notebook, text in code.items() if imports.search(text)]
        numbers = ", ".join(user[1] if user[0] == "0" else user for user in users) or "the command line"
        sentence = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))).splitlines()[0]
        expected.append(f"{name} ({numbers}): {sentence}")
    told = ast.get_docstring(ast.parse((ROOT / "helpers" / "__init__.py").read_text(encoding="utf-8")))
    told = told.partition("(a test compares).\n\n")[2].replace("\n    ", " ").splitlines()
    assert told == sorted(expected)
