"""A learner's copies of the notebooks, in `lab/`: laid once, kept, put back on demand; JupyterLab on them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOKS, LAB = ROOT / "notebooks", ROOT / "lab"
FIRST = "welcome.ipynb"


def originals(name: str = "") -> list[Path]:
    """The notebooks whose name begins with `name`, as `02`; SystemExit where none does."""
    learners = [NOTEBOOKS / FIRST, *sorted(NOTEBOOKS.glob("0*.ipynb"))]
    found = [path for path in learners if path.name.startswith(name)]
    if not found:
        sys.exit(f"no notebook {name!r}: {', '.join(path.stem for path in originals())}")
    return found


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(notebook: dict) -> str:
    """A digest of what its cells say, outputs aside."""
    said = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def commit() -> str:
    """The checkout's commit; "unknown" where this is no checkout, or git is missing."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def lay(original: Path) -> Path:
    """Writes the copy of one notebook: no outputs, no counts, and what it was made from."""
    notebook = read(original)
    notebook["metadata"].pop("widgets", None)  # the state of the panels is an output, too
    notebook["metadata"]["copied_from"] = {"commit": commit(), "sources": sources(notebook)}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    LAB.mkdir(exist_ok=True)
    copy = LAB / original.name
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return copy


def lay_missing() -> list[Path]:
    """Lays the copies that are not there yet; what a learner wrote is never overwritten."""
    return [lay(original) for original in originals() if not (LAB / original.name).exists()]


def reset(name: str = "") -> None:
    """Puts one copy, or all, back to the start, and keeps the old one beside it."""
    for original in originals(name):
        copy = LAB / original.name
        if copy.exists():
            number = 1
            while (kept := copy.with_name(f"{copy.stem}.kept-{number}.ipynb")).exists():
                number += 1
            copy.rename(kept)
            print(f"lab/{copy.name} is new; what you had is lab/{kept.name}")
        else:
            print(f"lab/{copy.name} is new")
        lay(original)


def told_age(copy: Path) -> str | None:
    """What to tell of a copy whose original says something else by now; None of any other notebook."""
    try:
        made = read(copy)["metadata"]["copied_from"]
        if copy.parent.resolve() != LAB.resolve() or made["sources"] == sources(read(NOTEBOOKS / copy.name)):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # renamed, no copy, or half written: nothing is known of its age
    return (
        f"This copy of {copy.name} is of commit {made['commit']}, and the notebook has changed since. "
        f"For the new one: `make reset NB={copy.stem}` (or `python -m helpers reset {copy.stem}`), "
        "then reload the page; yours is kept beside it."
    )


def open_lab(arguments: list[str]) -> None:
    """JupyterLab on the copies, in this process; `arguments` are its own."""
    from jupyterlab.labapp import LabApp

    # Our defaults (no news, Markdown rendered, names in full) stand below the user's own settings.
    defaults = [str(ROOT / "config" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, defaults))
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # A workspace of its own: the tabs of another project stay with it.
    page = f"/lab/workspaces/nats/tree/lab/{FIRST}"
    LabApp.launch_instance(
        [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url={page}", *root, *arguments]
    )


def main(arguments: list[str]) -> None:
    """`python -m helpers lab`: lays what is missing, says what is old, opens JupyterLab."""
    for copy in lay_missing():
        print(f"lab/{copy.name} is yours to write in")
    for copy in sorted(LAB.glob("*.ipynb")):
        if told := told_age(copy):
            print(told)
    open_lab(arguments)
