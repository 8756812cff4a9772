"""Measures what a learner meets in a notebook; `python tests/notebook_measures.py` prints it for all.

Core is what stands before the heading "Going further" (exercises included), further is the rest.
Options: --json for programs, --brief for a line a notebook. Honest minutes: prose at 200 words a minute,
8 s a code line, 10 s an output, 20 s a plot and a prediction, 4 minutes an exercise; running not counted.
A line is what is not blank and no comment, and each `;` is one more. A verdict is an output whose
expression is a comparison, `not`, `and`, `or`, `all`, `any`, `.equals` or their like. Helper vocabulary:
what is imported from helpers, and each attribute used of such a module and of `cluster` or `supercluster`.
"""

import ast
import glob
import io
import json
import re
import statistics
import sys
import tokenize

VERDICTS = {
    "all",
    "any",
    "isinstance",
    "equals",
    "issubset",
    "issuperset",
    "isclose",
    "allclose",
    "array_equal",
    "startswith",
    "endswith",
}


def parsed(source: str) -> ast.Module | None:
    lines = [
        ("pass" if re.match(r"\s*[%!]", line) or line.rstrip().endswith("?") else line)
        for line in source.splitlines()
    ]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return None


def code_lines(source: str) -> int:
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    try:
        extra = sum(
            token.type == tokenize.OP and token.string == ";"
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
        )
    except (tokenize.TokenError, SyntaxError, IndentationError):
        extra = 0
    return len(lines) + extra


def words(source: str) -> int:
    text = re.sub(r"(```|~~~).*?\1", "", source, flags=re.S)
    text = re.sub(r"<[^>]*>|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|https?://\S+", " ", text)
    return len(re.findall(r"\w+", text))


def definitions(tree: ast.Module) -> int:
    named = sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)
    return named + sum(
        isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) for node in tree.body
    )


def is_verdict(node: ast.AST) -> bool:
    if isinstance(node, (ast.Compare, ast.BoolOp)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return True
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in VERDICTS or name == "bool"
    return isinstance(node, ast.FormattedValue) and is_verdict(node.value)


def verdicts(tree: ast.Module) -> int:
    shown = [tree.body[-1].value] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "display"):
            shown += node.args
    shown += [part for node in shown if isinstance(node, ast.JoinedStr) for part in node.values]
    shown += [part for node in shown if isinstance(node, (ast.Tuple, ast.List)) for part in node.elts]
    return sum(map(is_verdict, shown))


def vocabulary(trees: list[ast.Module]) -> set[str]:
    modules, found = {"cluster": "cluster", "supercluster": "supercluster"}, set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
                for alias in node.names:
                    if alias.name[:1].islower() and (
                        node.module == "helpers"
                        or alias.asname
                        or node.module.endswith("check")
                        or node.module.endswith("plots")
                    ):
                        modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    else:
                        found.add(alias.name)
            elif isinstance(node, ast.Import):
                modules |= {
                    a.asname or a.name.split(".")[-1]: a.name
                    for a in node.names
                    if a.name.startswith("helpers")
                }
    for tree in trees:
        found |= {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and node.attr not in ("options", "domain", "urls", "nodes")
        }
    return found


def shown_things(cell: dict) -> list[str]:
    """Outputs as a reader sees them: all of a stream is one."""
    kinds = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        kind = (
            "plot"
            if {"image/png", "image/svg+xml"} & data.keys()
            else "stream"
            if output["output_type"] == "stream"
            else "value"
        )
        if kind != "stream" or "stream" not in kinds:
            kinds.append(kind)
    return kinds


def part(cells: list[dict], path: str) -> dict:
    code = [c for c in cells if c["cell_type"] == "code"]
    prose = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    sources = ["".join(c["source"]) for c in code]
    trees = [parsed(source) for source in sources]
    for source, tree in zip(sources, trees, strict=True):
        if tree is None:
            print(f"NOT PARSED, so not counted in {path}: {source.splitlines()[0]}", file=sys.stderr)
    trees = [tree for tree in trees if tree]
    lengths = sorted(map(code_lines, sources)) or [0]
    shown = [shown_things(c) for c in code]
    plots = sum(kinds.count("plot") for kinds in shown)
    others = sum(map(len, shown)) - plots
    exercises = sum("exercise" in c["metadata"].get("tags", []) for c in code)
    count, lines = words(prose), sum(lengths)
    minutes = (
        count / 200
        + lines * 8 / 60
        + others * 10 / 60
        + (plots + prose.count("**Predict")) * 20 / 60
        + exercises * 4
    )
    return {
        "code cells": len(code),
        "code lines": lines,
        "median": statistics.median(lengths),
        "p90": lengths[int(len(lengths) * 0.9) if len(lengths) > 1 else 0],
        "max": lengths[-1],
        "cells of 1-4 lines, %": round(100 * sum(n <= 4 for n in lengths) / len(lengths)),
        "cells that show something, %": round(100 * sum(map(bool, shown)) / max(1, len(code))),
        "cells that show more than one thing": sum(len(kinds) > 1 for kinds in shown),
        "functions and classes": sum(map(definitions, trees)),
        "helper vocabulary": len(vocabulary(trees)),
        "verdicts shown": sum(map(verdicts, trees)),
        "words": count,
        "words a code line": round(count / max(1, lines), 1),
        "plots": plots,
        "predictions": prose.count("**Predict"),
        "honest minutes": round(minutes),
    }


def measure(path: str) -> dict:
    with open(path, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    heads = (
        i
        for i, c in enumerate(cells)
        if c["cell_type"] == "markdown" and re.search(r"^## Going further", "".join(c["source"]), re.M)
    )
    place = next(heads, len(cells))
    promised = re.search(r"\*\*Time:\*\*\D*(\d+)", "\n".join("".join(c["source"]) for c in cells))
    return {
        "promised minutes": int(promised[1]) if promised else None,
        "core": part(cells[:place], path),
        "further": part(cells[place:], path) if place < len(cells) else None,
        "whole": part(cells, path),
    }


def main() -> None:
    arguments = [a for a in sys.argv[1:] if a not in ("--json", "--brief")]
    found = {path: measure(path) for path in arguments or sorted(glob.glob("notebooks/*.ipynb"))}
    if "--json" in sys.argv:
        print(json.dumps(found, indent=1))
        return
    if "--brief" in sys.argv:
        for path, measures in found.items():
            few = (
                "median",
                "p90",
                "max",
                "code lines",
                "honest minutes",
                "functions and classes",
                "helper vocabulary",
                "verdicts shown",
            )
            print(
                f"{path}, core:",
                ", ".join(f"{key} {measures['core'][key]}" for key in few)
                + f"; promised minutes {measures['promised minutes']}",
            )
        return
    for path, measures in found.items():
        print(f"{path}   promised minutes: {measures['promised minutes']}")
        print(f"   {'':<40}{'core':>8}{'further':>10}{'whole':>8}")
        for key in measures["core"]:
            further = measures["further"][key] if measures["further"] else "-"
            print(f"   {key:<40}{measures['core'][key]:>8}{further:>10}{measures['whole'][key]:>8}")


if __name__ == "__main__":
    main()
