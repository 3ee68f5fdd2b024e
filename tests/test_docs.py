"""The documentation site builds without a fault, without a network, and no link in it leads
nowhere."""

import ast
import html
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import notebooks
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev" / "docs"))
pytest.importorskip(
    "myst_nb",
    reason="the tools of the documentation site are not installed: pip install -e '.[dev]'",
)
import build_site as docs  # noqa: E402
from test_release import secrets  # noqa: E402


class Page(HTMLParser):
    """What a page refers to, what can be referred to in it, and what it loads."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors, self.loads = [], set(), []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        self.anchors |= {said[name] for name in ("id", "name") if said.get(name)}
        if tag == "a" and said.get("href"):
            self.links.append(said["href"])
        loaded = said.get("src") or (
            said.get("href")
            if tag == "link" and said.get("rel") in ("stylesheet", "preload", "icon")
            else None
        )
        if loaded:
            self.loads.append(loaded)


def broken(site: Path) -> list[str]:
    """List every link and every file loaded, within the site, that leads nowhere."""
    pages, found = {path: Page(path) for path in site.rglob("*.html")}, []
    for path, page in pages.items():
        for link in page.links + page.loads:
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            where = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
            if not where.exists():
                found.append(f"{path.relative_to(site)} -> {link}")
            elif anchor and where in pages and unquote(anchor) not in pages[where].anchors:
                found.append(f"{path.relative_to(site)} -> {link} (no such place)")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site once."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    docs.build(folder)
    return folder


def test_no_link_leads_nowhere(site):
    assert len(list(site.rglob("*.html"))) > 30 and broken(site) == []


def test_a_broken_link_would_be_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">x</a><a href="c.html">x</a><a href="b.html#there">x</a><img'
        ' src="no.png"><a href="https://example.org">x</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1>')
    assert broken(tmp_path) == [
        "a.html -> c.html",
        "a.html -> b.html#there (no such place)",
        "a.html -> no.png",
    ]


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {link for path in site.rglob("*.html") for link in Page(path).loads}
    assert (
        loaded
        and [
            link
            for link in loaded
            if urlsplit(link).scheme in ("http", "https") or link.startswith("//")
        ]
        == []
    )


def test_every_notebook_is_a_page_with_its_saved_figures_and_no_directive(site):
    for path in notebooks.reading_order(ROOT / "nbs"):
        page = (
            (site / path.relative_to(ROOT / "nbs")).with_suffix(".html").read_text(encoding="utf-8")
        )
        figures = path.read_text(encoding="utf-8").count('"image/png": ')
        if "assignments" in path.parts:  # as students get them, without outputs
            figures = 0
        assert page.count("_images/") >= figures, path.name
        assert not re.search(
            r"#\s*\|\s*(export|slow|default_exp|echo|hide)", re.sub(r"<[^>]+>", "", page)
        ), path.name


def test_every_public_name_has_an_entry_that_explains_its_parameters(site):
    for path in docs.modules():
        room = docs.room_of(path)
        page = Page(site / "api" / f"{room}.html")
        public = docs.public_of(ast.parse(path.read_text()))
        assert [
            name for name in public if f"purification_nb.{room}.{name}" not in page.anchors
        ] == []
    text = " ".join(re.sub(r"<[^>]+>", " ", (site / "api" / "scores.html").read_text()).split())
    assert (
        "How far a defence moved each score vector" in text
        and "scores without the defence" in text
        and "up to 2 in L1, up to sqrt(2) in L2" in text
    )


def test_chapters_link_to_chapters_and_to_the_reference(site):
    links = Page(site / "07_players.html").links
    assert any(link.startswith("05_inversion.html") for link in links)
    assert any(link.startswith("api/") and "#purification_nb." in link for link in links)
    index = Page(site / "index.html").links
    assert {
        "00_start.html",
        "01_records.html",
        "29_playground.html",
        "tutorials/quickstart.html",
        "api/defences.purifier.html",
    } <= set(index)


def test_the_site_gives_no_solution_and_no_hidden_test_away(site):
    text = "".join(
        path.read_text(encoding="utf-8", errors="ignore")
        for path in site.rglob("*")
        if path.suffix in (".html", ".js", ".ipynb", ".md", ".txt", ".py")
    )
    text = "".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())
    assert "YOURCODEHERE" in text and "Whowasinthetrainingset?" in text
    assert [line for line in secrets() if "".join(line.split()) in text] == []
    assert not list(site.rglob("*INSTRUCTOR*"))


def test_formulas_are_drawn_by_the_browser_itself(site):
    page = (site / "06_purifier.html").read_text(encoding="utf-8")
    assert "<math" in page and "MathJax" not in page
    assert [
        formula
        for path in site.glob("*.html")
        for formula in re.findall(r"<math.*?</math>", path.read_text(), re.S)
        if "\\" in re.sub(r"<annotation.*?</annotation>", "", formula, flags=re.S)
    ] == []


def test_a_fault_leaves_the_site_as_it_was(site, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "searchindex.js").write_text("old")

    def faulty(into):
        (into / "index.md").write_text("# A page\n\n[nowhere](nowhere.ipynb)\n")

    monkeypatch.setattr(docs, "write_pages", faulty)
    with pytest.raises(SystemExit, match="left as it was"):
        docs.build(kept)
    assert (kept / "searchindex.js").read_text() == "old"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="not this site"):
        docs.build(tmp_path / "mine")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("As chapter 6 shows", "As [chapter 6](06_purifier.ipynb) shows"),
        (
            "chapters 13 and 14",
            "[chapters 13](13_baselines.ipynb) and [14](14_memguard.ipynb)",
        ),
        ("see Chapter 16.", "see [Chapter 16](16_imitation.ipynb)."),
        ("chapter 99", "chapter 99"),
        ("`chapter 6`", "`chapter 6`"),
        ("[chapter 6](06_purifier.ipynb)", "[chapter 6](06_purifier.ipynb)"),
        ("`gaps` and `nothing_here`", "{py:obj}`~purification_nb.scores.gaps` and `nothing_here`"),
        ("# Chapter 6", "# Chapter 6"),
    ],
)
def test_prose_is_linked(text, wanted):
    assert (
        docs.linked(text, ROOT / "nbs" / "03_scores.ipynb", {"gaps": "purification_nb.scores.gaps"})
        == wanted
    )
