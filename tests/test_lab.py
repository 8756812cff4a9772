"""The learner's copies: laid once, kept, put back; and the look at the machine."""

import importlib
import json
import subprocess
import sys

import nbformat
import pytest
from test_notebooks import ROOT

import helpers
from helpers import doctor, lab


@pytest.fixture
def copies(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "LAB", tmp_path / "lab")
    lab.lay_missing()
    return tmp_path / "lab"


def write_in(copy, source):
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[0].source = source
    nbformat.write(notebook, copy)


def test_copies_have_the_cells_and_no_answers(copies):
    originals = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} - {"instructor.ipynb"}
    assert {path.name for path in copies.iterdir()} == originals and "welcome.ipynb" in originals
    for path in copies.iterdir():
        copy, original = (nbformat.read(p, as_version=4) for p in (path, ROOT / "notebooks" / path.name))
        nbformat.validate(copy)
        assert [c.source for c in copy.cells] == [c.source for c in original.cells]
        assert not any(c.get("outputs") or c.get("execution_count") for c in copy.cells)
        assert lab.told_age(path) is None


def test_what_a_learner_wrote_is_never_lost(copies, capsys):
    copy = copies / "02_clustering.ipynb"
    for words in ("mine", "mine again"):
        write_in(copy, words)
        assert lab.lay_missing() == []
        lab.reset("02")
        assert nbformat.read(copy, as_version=4).cells[0].source.startswith("# 2. Clustering")
    kept = [copies / f"02_clustering.kept-{n}.ipynb" for n in (1, 2)]
    assert [nbformat.read(path, as_version=4).cells[0].source for path in kept] == ["mine", "mine again"]
    said = capsys.readouterr().out
    assert all(path.name in said for path in kept)
    with pytest.raises(SystemExit, match="01_jetstream_persistence, 02_clustering"):
        lab.reset("09")


def test_an_old_copy_says_so_and_names_the_repair(copies, tmp_path, monkeypatch):
    changed = tmp_path / "notebooks"
    changed.mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (changed / path.name).write_bytes(path.read_bytes())
    write_in(changed / "welcome.ipynb", "# Changed since")
    monkeypatch.setattr(lab, "NOTEBOOKS", changed)
    told = lab.told_age(copies / "welcome.ipynb")
    assert "make reset NB=welcome" in told and "python -m helpers reset welcome" in told
    assert lab.told_age(copies / "02_clustering.ipynb") is None
    assert lab.told_age(changed / "welcome.ipynb") is None, "the original itself has no age"
    lab.lay(changed / "welcome.ipynb")
    assert lab.told_age(copies / "welcome.ipynb") is None


@pytest.mark.parametrize("kernel", [True, False])
def test_only_the_kernel_says_so_and_no_process_that_it_starts(kernel, copies, monkeypatch, capsys):
    """A responder of lesson 3 says "ready" on the same way out, and nothing before it."""
    old = nbformat.read(copies / "welcome.ipynb", as_version=4)
    old.metadata["copied_from"]["sources"] = "another"
    nbformat.write(old, copies / "welcome.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", str(copies / "welcome.ipynb"))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if kernel:
        monkeypatch.setitem(sys.modules, "ipykernel", pytest)  # any module: that it was imported counts
    importlib.reload(helpers)
    assert ("make reset NB=welcome" in capsys.readouterr().out) is kernel


def test_the_doctor_has_a_line_a_check_and_an_exit_status_for_scripts():
    command = [sys.executable, "-m", "helpers", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert [check["name"] for check in found] == [
        "Python", "packages", "nats-server", "ports", "Docker", "cluster", "memory", "disk", "proxy",
    ]  # fmt: skip
    assert done.returncode == any(check["repair"] for check in found) and not done.stderr


def test_what_is_amiss_comes_with_its_repair(monkeypatch):
    monkeypatch.setattr(doctor, "FREE", 1e9)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.disk, doctor.proxy, lambda: 1 / 0))
    disk, proxy, broken = doctor.look()
    assert disk.line.startswith("repair  disk") and "TMPDIR" in disk.repair
    assert proxy.found == "set" and "NO_PROXY" in proxy.note and "3128" not in proxy.line
    assert "division by zero" in broken.line, "a check that breaks is a line, not a traceback"
    assert doctor.main() == 1


def test_the_doctor_misses_what_this_python_needs(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [])
    missing = doctor.packages().repair.partition(" missing")[0].split(", ")
    assert "nats-py" in missing
    assert ("nest-asyncio2" in missing, "nest-asyncio" in missing) == (
        (True, False) if sys.version_info >= (3, 14) else (False, True)
    )
