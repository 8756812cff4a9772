"""Measures what a learner meets in a notebook; `python tests/notebook_measures.py` prints it for all.

Core is what stands before the heading "Going further" (exercises included). Honest minutes: prose at 200
words a minute, 8 s a code line, 10 s an output, 20 s a plot and a prediction, 4 minutes an exercise; running
not counted. A line is what is not blank and no comment, and each `;` is one more. A verdict is an output
whose expression is a comparison, `not`, `and`, `or`, or a call of one of VERDICTS. Helper vocabulary: what
is imported from helpers, and each attribute used of such a module and of `cluster` or `supercluster`.
"""

import ast
import io
import json
import re
import statistics
import tokenize
from pathlib import Path

VERDICTS = ("all", "any", "bool", "isinstance", "equals", "issubset", "issuperset", "isclose", "allclose",
            "array_equal", "startswith", "endswith")  # fmt: skip
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_lines(source: str) -> int:
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len(lines) + sum(token.type == tokenize.OP and token.string == ";" for token in tokens)


def words(source: str) -> int:
    text = re.sub(r"(```|~~~).*?\1", "", source, flags=re.S)
    text = re.sub(r"<[^>]*>|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|https?://\S+", " ", text)
    return len(re.findall(r"\w+", text))


def definitions(tree: ast.Module) -> int:
    return sum(
        isinstance(node, DEFINITION) or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda))
        for node in tree.body
    )


def is_verdict(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rpartition(".")[2] in VERDICTS
    if isinstance(node, ast.FormattedValue):
        return is_verdict(node.value)
    return isinstance(node, ast.Compare | ast.BoolOp) or isinstance(getattr(node, "op", None), ast.Not)


def verdicts(tree: ast.Module) -> int:
    shown = [tree.body[-1].value] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "display"):
            shown += node.args
    shown += [part for node in shown if isinstance(node, ast.JoinedStr) for part in node.values]
    shown += [part for node in shown if isinstance(node, ast.Tuple | ast.List) for part in node.elts]
    return sum(map(is_verdict, shown))


def vocabulary(trees: list[ast.Module]) -> set[str]:
    modules, found = {"cluster", "supercluster"}, set()
    nodes = [node for tree in trees for node in ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            for alias in node.names:
                module = node.module == "helpers" or alias.asname
                (modules if module else found).add(alias.asname or alias.name)
    return found | {
        f"{node.value.id}.{node.attr}"
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
        and node.attr not in ("options", "domain", "urls", "nodes")
    }


def shown_things(cell: dict) -> list[str]:
    """Outputs as a reader sees them: all of a stream is one."""
    kinds = ["plot" if "image/png" in output.get("data", {}) else output["output_type"]
             for output in cell["outputs"]]  # fmt: skip
    return [kind for n, kind in enumerate(kinds) if kind != "stream" or "stream" not in kinds[:n]]


def part(cells: list[dict]) -> dict:
    code = [c for c in cells if c["cell_type"] == "code"]
    prose = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    sources = ["".join(c["source"]) for c in code]
    trees = [ast.parse(source) for source in sources]
    lengths = sorted(map(code_lines, sources))
    shown = [shown_things(c) for c in code]
    plots = sum(kinds.count("plot") for kinds in shown)
    exercises = sum("exercise" in c["metadata"].get("tags", []) for c in code)
    count, lines = words(prose), sum(lengths)
    seconds = 10 * sum(map(len, shown)) + 10 * plots + 20 * prose.count("**Predict") + 8 * lines
    return {
        "code lines": lines,
        "median": statistics.median(lengths),
        "p90": lengths[int(len(lengths) * 0.9)],
        "max": lengths[-1],
        "cells that show something, %": round(100 * sum(map(bool, shown)) / len(code)),
        "cells that show more than one thing": sum(len(kinds) > 1 for kinds in shown),
        "functions and classes": sum(map(definitions, trees)),
        "helper vocabulary": len(vocabulary(trees)),
        "verdicts shown": sum(map(verdicts, trees)),
        "words a code line": round(count / lines, 1),
        "honest minutes": round(count / 200 + seconds / 60 + 4 * exercises),
    }


def measure(path: Path) -> dict:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = ["".join(c["source"]) for c in cells]
    place = next(n for n, said in enumerate(text) if said.startswith("## Going further"))
    promised = re.search(r"\*\*Time:\*\*\D*(\d+)", "\n".join(text))[1]
    return {"promised minutes": int(promised), "core": part(cells[:place]), "whole": part(cells)}


if __name__ == "__main__":
    for path in sorted(Path("notebooks").glob("0*.ipynb")):
        print(path.stem, json.dumps(measure(path), indent=1))
