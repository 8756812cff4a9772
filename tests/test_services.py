"""A character is the code of the cell that introduced it: both are compared as syntax trees."""

import ast
from pathlib import Path

import nbformat
import pytest
from test_notebooks import NOTEBOOKS

ROOT = Path(__file__).parents[1]
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
INTRODUCED = {
    "publish_with_retry": "01",
    "OrderService": "01",
    "InventoryService": "03",
    "PaymentService": "04",
}


def bare(tree: ast.AST) -> str:
    """The code without docstrings and annotations."""
    for node in ast.walk(tree):
        if isinstance(node, DEFINITION):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            if not isinstance(node, ast.ClassDef):
                node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)


def defined(source: str) -> dict[str, str]:
    return {n.name: bare(n) for n in ast.parse(source).body if isinstance(n, DEFINITION)}


SERVICES = defined((ROOT / "helpers" / "services.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_character_is_the_code_of_its_cell(name):
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(INTRODUCED[name]))
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = [defined(cell.source)[name] for cell in cells if name in defined(cell.source)]
    assert found == [SERVICES[name]]
