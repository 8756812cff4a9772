"""The executed notebooks and the documents as pages to read without installing anything: `make site`.

Writes the folder `site/`: a page for README.md, each notebook with its stored outputs, and each document. No
page asks the network for anything, so they work from a disk as well as from GitHub Pages.
"""

import html
import posixpath
import re
import shutil
import sys
from pathlib import Path

import nbformat
from jinja2 import Template
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NOTEBOOKS = sorted(
    (ROOT / "notebooks").glob("[0w]*.ipynb"), key=lambda path: (path.stem != "welcome", path.stem)
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "data" / "README.md"]
MERMAID = re.compile(r'<div class="jp-Mermaid">.*?</div>', re.S)
LINK = re.compile(r'(<(?:a|img)\b[^>]*? (?:href|src)=")([^"#]*)([^"]*")')


def main(folder: Path = ROOT / "site") -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for source in (*DOCUMENTS, *NOTEBOOKS, ROOT / "notebooks" / "instructor.ipynb"):
        page = folder / page_of(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(rendered(source, folder), encoding="utf-8")
    light, dark = (
        HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark")
    )
    style = (HERE / "style.css").read_text(encoding="utf-8")
    (folder / "style.css").write_text(
        f"{style}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n", encoding="utf-8"
    )


def page_of(source: Path) -> str:
    """Where the page of a file of the repository stands in the site."""
    place = source.relative_to(ROOT)
    return (
        "index.html"
        if place.name == "README.md" and len(place.parts) == 1
        else place.with_suffix(".html").as_posix()
    )


def rendered(source: Path, folder: Path) -> str:
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    else:
        notebook = nbformat.reads(text, as_version=4)
        notebook.metadata.pop("widgets", None)
        for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # its text stays
    body, _ = HTMLExporter(template_name="basic", anchor_link_text="").from_notebook_node(notebook)
    body = MERMAID.sub(lambda found: diagram(source, html.unescape(found[0])), body)
    body = LINK.sub(lambda found: found[1] + target(html.unescape(found[2]), source, folder) + found[3], body)
    up = "../" * page_of(source).count("/")
    return Template((HERE / "page.html").read_text(encoding="utf-8"), autoescape=False).render(
        title=html.escape(title(text if source.suffix == ".md" else notebook.cells[0].source)),
        body=body,
        up=up,
        here=page_of(source),
        pages=[
            (page_of(path), title(nbformat.read(path, 4).cells[0].source).split(":")[0]) for path in NOTEBOOKS
        ],
    )


def title(markdown: str) -> str:
    return markdown.split("\n", 1)[0].lstrip("# ")


def diagram(source: Path, mermaid: str) -> str:
    """The picture that `make diagrams` has drawn, with the names of its parts as alternative text."""
    drawn = (HERE / "diagrams" / f"{source.stem}.svg").relative_to(ROOT)
    parts = (
        re.sub(r'[("{]|<br/>', " ", part).strip() for part in re.findall(r"\w[(\[{]+(.+?)[)\]}]", mermaid)
    )
    return f'<img class="diagram" src="/{drawn.as_posix()}" alt="Diagram: {", ".join(parts)}">'


def target(link: str, source: Path, folder: Path) -> str:
    """A link of the repository as one of the site; other files than pages are copied.

    Raises FileNotFoundError, with the page, for a link that leads nowhere.
    """
    if not link or ":" in link:
        return html.escape(link)
    path = ROOT / link[1:] if link.startswith("/") else (source.parent / link).resolve()
    if path.suffix in (".ipynb", ".md") and path.exists():
        place = page_of(path)
    elif path.is_file():
        place = path.relative_to(ROOT).as_posix()
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / place)
    else:
        raise FileNotFoundError(f"{source.relative_to(ROOT)} links to {link}, which is no file")
    return html.escape(posixpath.relpath(place, posixpath.dirname(page_of(source)) or "."))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
