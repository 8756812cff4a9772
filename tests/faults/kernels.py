"""Kills and interrupts the kernel at a random moment of each notebook, as a learner's Stop or a crash does.

    python tests/faults/kernels.py [--seed 1] [--notebooks 01 04]

Killed: within 15 s no server, no folder and no process of its cluster is left. Interrupted: once the kernel
is idle again, Run All passes in it. The moment is a cell, drawn from the seed, and up to two seconds after
it began. Prints a line each; exit status 1 where something was left, or a cell failed.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_kernels import ROOT, kernel

LIMIT = 300  # seconds for a cell: none of the lessons' takes a tenth of it


def cells(notebook: Path) -> list[str]:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def left(folder: str) -> list[str]:
    """What the cluster of this folder left: processes that name it, and its directories."""
    processes = [
        f"process {process.pid}: {' '.join(process.info['cmdline'])[:80]}"
        for process in psutil.process_iter(["cmdline"])
        if folder in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]
    return processes + [f"folder {path}" for path in Path(folder).iterdir() if "nats" in path.name]


def run_all(running, sources: list[str], at: int = -1, then=lambda: None) -> str:
    """Executes the cells one after the other; what the first that fails raised, or nothing.

    `then` is called when cell `at` begins.
    """
    for index, source in enumerate(sources):
        request = running.client.execute(source)
        if index == at:
            then()
        try:
            running.result(request, LIMIT)
        except (RuntimeError, TimeoutError) as error:
            return f"cell {index}: {error}: {source[:60]!r}"
        if not running.manager.is_alive():
            return "killed"
    return ""


def killed(sources: list[str], at: int, delay: float, folder: str) -> str:
    with kernel() as running:
        process = psutil.Process(running.manager.provisioner.pid)
        run_all(running, sources[:at])
        running.client.execute(sources[at])
        time.sleep(delay)  # the moment, drawn
        before = len(left(folder))
        process.kill()
        until = time.monotonic() + 15
        while (rest := left(folder)) and time.monotonic() < until:
            psutil.wait_procs([process], timeout=0.2)
    return f"left: {rest}" if rest else f"{before} processes and folders, none left"


def interrupted(sources: list[str], at: int, delay: float, folder: str) -> str:
    with kernel() as running:
        stop = threading.Timer(delay, running.manager.interrupt_kernel)
        ended = run_all(running, sources, at, stop.start)
        stop.join()
        if wrong := run_all(running, sources):
            return f"left: after {ended or 'no error'} Run All failed: {wrong}"
    return f"stopped {ended.split(chr(10))[0][:60] or 'nothing'}; Run All passed"


def main(seed: int, wanted: list[str]) -> int:
    draw, failed = random.Random(seed), 0
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if notebook.stem == "instructor" or not notebook.stem.startswith(tuple(wanted)):
            continue
        sources = cells(notebook)
        for fault in (killed, interrupted):
            at, delay = draw.randrange(len(sources)), draw.uniform(0, 2)
            with tempfile.TemporaryDirectory(prefix="kernels", ignore_cleanup_errors=True) as folder:
                os.environ["TMPDIR"] = folder
                outcome = fault(sources, at, delay, folder)
            failed += outcome.startswith("left")
            print(
                f"seed {seed}, {notebook.stem}, {fault.__name__} {delay:.1f} s into {at}: {outcome}",
                flush=True,
            )
    return bool(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--notebooks", nargs="+", default=[""])
    a = parser.parse_args()
    raise SystemExit(main(a.seed, a.notebooks))
