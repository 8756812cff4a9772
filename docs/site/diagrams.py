"""The notebooks' Mermaid diagrams as pictures, drawn by JupyterLab in Chromium: `make diagrams`.

A picture ends with the diagram it was drawn from, in a comment; tests/test_site.py says which is old.
"""

import re
import sys
import tempfile
import urllib.parse
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FENCE = re.compile(r"```mermaid\n(.*?)```", re.S)


def diagrams() -> dict[Path, str]:
    """The Mermaid source of each picture there must be."""
    return {
        HERE / "diagrams" / f"{path.stem}.svg": FENCE.search(nbformat.read(path, 4).cells[0].source)[1]
        for path in sorted((ROOT / "notebooks").glob("[0w]*.ipynb"))
    }


def comment(source: str) -> str:
    return f"\n<!--\n{source.replace('--', '==')}-->\n"


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from playwright.sync_api import sync_playwright
    from test_browser import CHROMIUM, lab

    (HERE / "diagrams").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            for path, source in diagrams().items():
                page = browser.new_page()
                page.goto(f"{url}/lab/tree/{path.stem}.ipynb?reset")
                picture = page.wait_for_selector("img[src^='data:image/svg']", timeout=60_000)
                drawn = urllib.parse.unquote(picture.get_attribute("src").split(",", 1)[1])
                path.write_text(drawn[drawn.index("<svg") :] + comment(source), encoding="utf-8")
                page.close()
        finally:
            browser.close()


if __name__ == "__main__":
    main()
