"""The documentation site builds without a fault, without a network, and no link in it leads
nowhere."""

import ast
import html
import re
import sys
from functools import cache
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
import game  # noqa: E402
from test_playground import browser  # noqa: E402, F401 - a fixture
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


@cache
def page_at(path: Path) -> Page:
    """Read a page once for all tests."""
    return Page(path)


def broken(site: Path) -> list[str]:
    """List every link and every file loaded, within the site, that leads nowhere."""
    pages, found = {path: page_at(path) for path in site.rglob("*.html")}, []
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
    loaded = {link for path in site.rglob("*.html") for link in page_at(path).loads}
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
        page = page_at(site / "api" / f"{room}.html")
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
    links = page_at(site / "07_players.html").links
    assert any(link.startswith("05_inversion.html") for link in links)
    assert any(link.startswith("api/") and "#purification_nb." in link for link in links)
    index = page_at(site / "index.html").links
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


def test_readers_find_pages_in_the_order_in_which_they_need_them(site):
    links = [link for link in page_at(site / "game.html").links if not link.startswith("#")]
    wanted = ["game.html", *(f"tutorials/{name}.html" for name in docs.HOW_TO), "01_records.html"]
    wanted += ["16_imitation.html", "tutorials/peers.html", "api/records.html"]
    places = [links.index(link) if link != "game.html" else 0 for link in wanted]
    assert places == sorted(places)
    assert {path.stem for path in (ROOT / "nbs" / "tutorials").glob("*.ipynb")} == {
        *docs.HOW_TO,
        docs.PEERS,
    }


def test_long_imports_are_folded_in_chapters_and_stand_open_in_tutorials(site):
    chapter = (site / "06_purifier.html").read_text(encoding="utf-8")
    how_to = (site / "tutorials" / "your_pytorch_model.html").read_text(encoding="utf-8")
    assert "hide-input" in chapter and "tag_hide-input" not in how_to


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


# In a real browser


def opened(browser, path: Path, width: int, **settings):  # noqa: F811
    """Open a page of the site; gives it and what its console complained of."""
    page, complaints = browser.new_page(viewport={"width": width, "height": 900}, **settings), []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri(), wait_until="load")
    return page, complaints


def truth_of(picture: str) -> bool:
    """Say whether the record with these pixels is a member, from the data file."""
    saved = game.read()
    (row,) = (i for i, record in enumerate(saved["records"]) if record[0] == picture)
    flips, key = saved["sealed"].split(".")
    return flips[row] != key[row]


def pixels_shown(page) -> str:
    """Read the picture in question back from the page."""
    greys = page.eval_on_selector_all(
        ".game-picture rect", "all => all.map(one => +one.getAttribute('fill').match(/\\d+/)[0])"
    )
    return "".join(game.LEVELS[round(16 * grey / 255)] for grey in greys)


def test_the_game_is_played_by_keyboard_and_counts_rightly(browser, site):  # noqa: F811
    page, complaints = opened(browser, site / "game.html", 1280, reduced_motion="reduce")
    assert page.eval_on_selector(".game-bar", "e => getComputedStyle(e).transitionDuration") in (
        "0s",
        "",
    )
    box, points = page.locator("#game"), 0
    for number in range(10):
        said, truth = number % 3 == 0, truth_of(pixels_shown(page))
        assert not re.search(r"it was|Right|Wrong", box.inner_text())  # nothing is given away
        page.locator("#game-yes" if said else "#game-no").focus()
        page.keyboard.press("Enter")
        points += said == truth
        told = box.locator("[role=status]").inner_text()
        assert told.startswith("Right" if said == truth else "Wrong")
        assert f"it was a {'member' if truth else 'non-member'}" in told
        assert page.evaluate("document.activeElement.id") == "game-next"
        page.keyboard.press("Enter")
    text, bare = box.inner_text().replace("\xa0", " "), game.read()["modes"]["bare"]
    assert f"You: {points} of 10" in text
    for share in (bare["threshold"], bare["label"]):
        assert f"{100 * share:.1f} %" in text
    page.locator("#game-on").press("Enter")
    assert "Round 1 of 10, behind the paper's purifier" in box.inner_text()
    assert complaints == []
    page.close()


def test_on_a_dark_telephone_nothing_sticks_out_and_the_slider_moves(browser, site):  # noqa: F811
    page, complaints = opened(browser, site / "game.html", 390, color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    rights = page.eval_on_selector_all(
        "#game *, #slider *", "all => all.map(one => one.getBoundingClientRect().right)"
    )
    assert max(rights) <= 390
    status = page.locator("#slider [role=status]")
    drawn, said = page.locator(".game-members").get_attribute("d"), status.inner_text()
    page.locator("#game-lambda").focus()
    for stop in game.read()["slider"][1:]:
        page.keyboard.press("ArrowRight")
        now = status.inner_text().replace("\xa0", " ")
        assert now != said and f"{100 * stop['threshold']:.1f} %" in now
        assert page.locator("#game-lambda").get_attribute("aria-valuetext") == stop["name"]
        said = now
    assert page.locator(".game-members").get_attribute("d") != drawn
    assert complaints == []
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_has_one_search_box_and_fits(browser, site, width):  # noqa: F811
    page, _ = opened(browser, site / "index.html", width)
    boxes = page.locator("button.search-button__button").all()
    shown = [b for b in boxes if b.is_visible() and b.bounding_box()["x"] >= 0]
    assert len(shown) == 1
    for name in ("06_purifier", "tutorials/peers", "tutorials/quickstart", "api/defences.purifier"):
        page.goto((site / f"{name}.html").as_uri(), wait_until="domcontentloaded")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.close()
