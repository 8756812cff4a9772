"""The pages of `make site`: every link leads somewhere, no page needs the network, no diagram is old."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from test_browser import CHROMIUM

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))
import build  # noqa: E402
import diagrams  # noqa: E402


class Page(HTMLParser):
    """What a page refers to, and the places in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.tags = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag != "a":
            self.loads += [found[name] for name in ("src", "href", "data", "srcset") if name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "site"
    build.main(folder)
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def test_every_link_leads_somewhere(site):
    followed = 0
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", f"{path}: {link}"
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert place.is_file(), f"{path} leads to {link}"
            if parts.fragment:
                names = {parts.fragment, unquote(parts.fragment)}  # a browser looks for either
                assert names & site[place].ids, f"{path} leads to {link}"
            followed += 1
    assert followed > 300


def test_nothing_is_loaded_from_elsewhere(site):
    for path, page in site.items():
        for link in page.loads:
            assert link.startswith("data:image/png") or not urlsplit(link).scheme, f"{path} loads {link[:80]}"
            assert not link.startswith("//")
        assert not any(tag == "script" for tag, _ in page.tags), path
    style = (next(iter(site)).parents[1] / "style.css").read_text(encoding="utf-8")
    assert "url(" not in style and "@import" not in style


def test_figures_have_their_text_and_solutions_are_folded(site):
    for notebook in build.NOTEBOOKS:
        cells = nbformat.read(notebook, 4).cells
        (page,) = (page for path, page in site.items() if path.stem == notebook.stem)
        figures = sum("image/png" in o.get("data", {}) for cell in cells for o in cell.get("outputs", []))
        images = [found for tag, found in page.tags if tag == "img"]
        assert len(images) == figures + 1  # and the diagram
        assert all(len(found.get("alt", "")) > 20 for found in images)
        folds = [found for tag, found in page.tags if tag == "details"]
        assert len(folds) == sum(cell.source.count("<details>") for cell in cells)
        assert not any("open" in found for found in folds)


@pytest.mark.parametrize("picture", diagrams.diagrams(), ids=lambda path: path.stem)
def test_a_diagram_is_drawn_from_what_the_notebook_says(picture):
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.endswith(diagrams.comment(diagrams.diagrams()[picture])), "make diagrams"


def test_a_link_to_nothing_stops_the_build(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"README\.md links to gone\.md"):
        build.target("gone.md", ROOT / "README.md", tmp_path)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_a_network(site, scheme):
    assert CHROMIUM, "no Chromium on PATH: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(color_scheme=scheme, offline=True)
            asked = []
            context.on("request", lambda request: asked.append(request.url))
            page = context.new_page()
            for path in site:
                page.goto(path.as_uri())
                broken = page.evaluate(
                    "() => [...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"
                )
                assert not broken, f"{path}: {broken}"
                back, text = page.evaluate(
                    "() => (s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
                )
                assert (light(back) > light(text)) == (scheme == "light")
                assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), path
            assert asked and all(urlsplit(url).scheme in ("file", "data") for url in asked)
        finally:
            browser.close()


def light(colour):
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
