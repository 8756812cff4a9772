"""The welcome page: what the original example promises to print stands here, from what really happened."""

import ast
import re

import nbformat
import notebook_measures
import pytest
import test_notebooks as form

PATH = form.ROOT / "notebooks" / "welcome.ipynb"
LESSONS = sorted((form.ROOT / "notebooks").glob("0*.ipynb"))

# The original's "expected output", line by line: its tag there, and what stands for it here.
EXPECTED = {
    "Starting 4-node cluster": r"\[NATS Cluster\] 4 nodes, .*: nats-server-1, .*nats-server-4",
    "Initializing persistent storage": r"\[JetStream\] domain enterprise",
    "Creating ORDERS, PAYMENTS, INVENTORY": r"\] ORDERS in .*\n.*PAYMENTS in .*\n.*INVENTORY in .*file",
    "Setting up payment-processor group": r"\[Consumer Groups\] payment-processor",
    "Publishing order with correlation": r"\[Order Service\] order \d+, .* [0-9a-f-]{36}",
    "Order persisted to ORDERS stream": r"\[JetStream\] persisted to ORDERS",
    "Message confirmed (sequence: 1)": r"\[Acknowledgment\] confirmed, sequence 1\b",
    "Consumer group processing": r"\[Payment Service\] 30 orders taken",
    "Message distributed across 3 consumers": r"\[Load Balancing\] .* 3 workers: \[10, 10, 10\]",
    "Payment for order #12345": r"\[Processing\] payment for order \d+",
    "Payment processed successfully": r"\[Acknowledgment\] 30 processed, 30 in PAYMENTS",
    "Inventory check request": r"\[Request-Reply\] ",
    "Request routed to available server": r"\[Load Balancer\] answered by ≈ inventory-[123]",
    "Stock available: 15 units": r"\[Response\] stock available: 15 units",
    "Request-Reply correlated successfully": r"\[Correlation\] asked +(\S+)\n\[Correlation\] answered \1",
    "Replaying historical data": r"\[Message Replay\] up to sequence 1000",
    "Processing 1000 historical messages": r"\[Replay\] 1,000 historical messages",
    "Historical order patterns analyzed": r"\[Analytics\] busiest hour: \d+:00",
}


@pytest.fixture(scope="module")
def printed() -> str:
    return "".join(form.printed(cell) for cell in form.cells(PATH, "code"))


@pytest.mark.parametrize("line", EXPECTED)
def test_each_line_of_the_originals_output_has_its_counterpart(printed, line):
    assert re.search(EXPECTED[line], printed), f"nothing in the stored outputs stands for: {line}"


def test_what_is_printed_is_a_value_and_no_literal():
    """A tag may be written down; a figure behind it comes from the servers."""
    for cell in form.cells(PATH, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                assert not all(isinstance(part, ast.Constant) for part in node.args), ast.unparse(node)
                literal = "".join(
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )
                assert not re.search(r"\d", re.sub("<12|:00", "", literal)), ast.unparse(node)


def test_it_is_walked_in_the_minutes_it_promises():
    notebook = nbformat.read(PATH, as_version=4)
    end = next(i for i, cell in enumerate(notebook.cells) if "## The five lessons" in cell.source)
    found = notebook_measures.part(notebook.cells[:end])
    assert found["median"] <= 4 and found["p90"] <= 9 and found["max"] <= 15, found
    assert found["verdicts shown"] == 0 and found["cells that show something, %"] >= 60, found
    promised = int(re.search(r"\*\*Time:\*\* (\d+)", notebook.cells[0].source)[1])
    assert abs(promised - found["honest minutes"]) <= promised / 10, found["honest minutes"]


def glossary() -> list[str]:
    table = next(
        cell.source for cell in form.cells(PATH, "markdown") if cell.source.startswith("## Glossary")
    )
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)[2:]
    return [term for row in rows for term in row.split(", ")]


@pytest.mark.parametrize("term", glossary())
def test_a_term_is_in_bold_where_the_course_first_says_it(term):
    """Titles, promises, links and code aside."""
    assert len(glossary()) == 27
    word = re.compile(rf"\b{term}s?\b", re.IGNORECASE)
    for lesson in LESSONS:
        for cell in form.cells(lesson, "markdown")[1:]:
            prose = re.sub(
                r"```.*?```|`[^`]*`|^#[^\n]*$|\[[^]]*\]\([^)]*\)",
                "",
                cell.source,
                flags=re.DOTALL | re.MULTILINE,
            )
            if word.search(prose):
                bold = {said for said in re.findall(r"\*\*([^*]+)\*\*", prose) if word.fullmatch(said)}
                assert bold, f"{lesson.stem}: {prose[:300]}"
                return
    pytest.fail(f"no lesson says {term}")
