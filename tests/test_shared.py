"""Every lesson but 2 on a class's cluster: what a student may do works, and what may not be done says so."""

import asyncio
import os

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from test_sections import LONGEST_FIRST, ROOT, parts

from conftest import kernel_manager
from helpers.classroom import folder, servers

# As docs/instructors.md has it: what breaks nodes, or needs what is the operator's.
REFUSED = {
    "01": {"Kill all four nodes", "What an acknowledgement does not promise",
           "I use memory storage. Do three replicas survive a restart?"},
    "03": {"The service runs, its log is empty, and I get no answer. Why?",
           "Follow an order into the log and through the servers",
           "I wrote `tls://`. Is my connection encrypted?",
           "My connection broke after I had asked, and came back in time. Where is my answer?"},
    "04": {"Kill the consumer's leader"},
    "05": {"Kill a node in the middle of a replay", "Replay in parts while a node dies"},
    "welcome": set(),
}  # fmt: skip
OURS = ("FaultRefused", "Authorization Violation")  # a class lets in no guest


@pytest.fixture
def student(tmp_path):
    """The environment of one, in a class that runs."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    # Other ports for each worker, and for each run: servers that a killed run left must not be in the way.
    port = 14_222 + 16 * (os.getppid() % 100) + 4 * worker
    class_ = folder.make(tmp_path / "class", 2, port=port)
    try:
        asyncio.run(servers.start(class_))
        yield os.environ | {"NATS_URL": class_.url(class_.members[1])}
    finally:
        servers.end(class_.folder)


def said(cell: nbformat.NotebookNode) -> str:
    """The error of a cell; IPython writes one of a task group to stderr."""
    errors = (o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr")
    return "".join(str(error.get("text") or f"{error.ename}: {error.evalue}") for error in errors)


@pytest.mark.sections
@pytest.mark.parametrize("path", [path for path in LONGEST_FIRST if path.stem[:2] in REFUSED] + [
    ROOT / "notebooks" / "welcome.ipynb"
], ids=lambda path: path.stem)  # fmt: skip
def test_what_a_student_may_do_works(path, student):
    notebook = nbformat.read(path, as_version=4)
    kernel = kernel_manager(AsyncKernelManager, kernel_name="python3")
    client = NotebookClient(notebook, kernel, timeout=300, allow_errors=True)
    client.execute(cwd=str(path.parent), env=student, cleanup_kc=True)
    first = {}
    for title, cells in parts(notebook).items():
        errors = [said(cell) for cell in cells if cell.cell_type == "code" and said(cell)]
        if errors:
            first[title] = errors[0]  # what follows in its section leans on it
    assert all(any(word in error for word in OURS) for error in first.values()), first
    assert first.keys() == REFUSED[path.stem[:2] if path.stem[0] == "0" else path.stem]
