"""Every notebook in JupyterLab, as a person uses it: open, Run All, Run All again, in headless Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The instructor's view needs a class that runs. Lesson 2 is the longest, so it starts first; its worker keeps
# the test that follows, so that is the shortest.
FIRST = ("02_clustering", "welcome")
NOTEBOOKS = sorted(
    (ROOT / "notebooks").glob("[0w]*.ipynb"), key=lambda path: (path.stem not in FIRST, path.name)
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SETTINGS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}

# JupyterLab draws only the cells in view, so the model is asked and not the page.
MODEL = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
  const outputs = cell => Array.from({length: cell.outputs.length}, (_, i) => cell.outputs.get(i).toJSON());
  return {
    counts: cells.map(cell => cell.executionCount),
    problems: cells.flatMap(outputs).filter(o => o.output_type === 'error' || o.name === 'stderr'),
  };
}"""
RUN_ALL = """() => {
  window.done = false;
  window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.done = true });
}"""
IDLE = """() => {
  const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  return panel && panel.sessionContext && panel.sessionContext.session?.kernel?.status === 'idle';
}"""

pytestmark = pytest.mark.browser


@contextmanager
def lab(folder: Path):
    """JupyterLab on a copy of the notebooks, without token, on 127.0.0.1; its URL."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(SETTINGS))
    notebooks = folder / "notebooks"
    shutil.copytree(ROOT / "notebooks", notebooks)
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    options = [f"--port={port}", "--IdentityProvider.token=", f"--notebook-dir={notebooks}"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            [*command, *options, "--expose-app-in-browser"], env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/api", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "lab.log").read_text()[-2000:]
        yield url
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_all_works_twice(notebook, tmp_path):
    assert CHROMIUM, "no Chromium on PATH: apt-get install chromium"
    from playwright.sync_api import TimeoutError, sync_playwright

    with lab(tmp_path) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 1400})
            page.goto(f"{url}/lab/tree/{notebook.name}?reset")
            page.wait_for_function(IDLE, timeout=60_000)
            for _ in range(2):
                page.evaluate(RUN_ALL)
                try:
                    page.wait_for_function("() => window.done", timeout=300_000)
                except TimeoutError:
                    pytest.fail(f"after 300 s still at it, cells by execution count: {page.evaluate(MODEL)}")
                page.wait_for_function(IDLE, timeout=60_000)
                found = page.evaluate(MODEL)
                if found["problems"]:
                    pytest.fail(
                        "\n".join("\n".join(o.get("traceback", [])) or str(o) for o in found["problems"])
                    )
                assert all(found["counts"]), "a cell did not run"
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        finally:
            browser.close()
