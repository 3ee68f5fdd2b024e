"""The playground: what it shows, without a browser; and that it moves, in one."""

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
from PIL import Image

from purification_nb.datasets import digits
from purification_nb.defences.baselines import Temperature, TopK
from purification_nb.playground.bench import workbench
from purification_nb.playground.explore import explore
from purification_nb.playground.game import GameRecordPanel, new_game, play
from purification_nb.playground.panels import HistogramPanel, RecordPanel, RocPanel
from purification_nb.playground.quick import QuickDecoder, QuickPurifier
from purification_nb.playground.states import State, show
from purification_nb.playground.walk import tradeoff_points, walk
from purification_nb.records import InputError
from purification_nb.scores import MEMBER, NONMEMBER
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

ROOT = Path(__file__).resolve().parents[1]
ARTEFACTS = ROOT / "test-artefacts"


@pytest.fixture(scope="module")
def bench():
    """A small workbench: single digits, two purifiers beside the bare service."""
    return workbench(
        digits(0),
        MLPTarget((32,), epochs=10),
        lams=(0.0, 1.0),
        alphas=(0.0,),
        betas=(0.0,),
        records=8,
        jobs=1,
    )


@pytest.fixture
def without_widgets(monkeypatch):
    """A Python without ipywidgets."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)


def test_what_is_published_is_g_then_the_cut_then_the_temperature(bench):
    state = State("member", 5, True, 1.0, top=3, temperature=2.0)
    shown, row = show(bench, state), bench.shown["member"][5]
    bare = bench.service(bench.split.heldout_members.x)[[row]]
    purified = QuickPurifier(lam=1.0, alpha=0.0, beta=0.0)(
        None, bench.service.answer(bench.split.d2), 0
    )(bare)
    by_hand = Temperature(2.0).release(TopK(3).release(purified))
    assert np.allclose(shown.after, by_hand[0]) and np.allclose(shown.before, bare[0])
    assert shown.label == bench.split.heldout_members.y[row] and np.array_equal(
        shown.pictures[0], bench.split.heldout_members.x[row]
    )


def test_without_a_purifier_the_weights_do_nothing_and_the_curve_is_the_bare_one(bench):
    one, other = (show(bench, State(purifier=False, lam=lam)) for lam in (0.0, 1.0))
    assert (
        np.array_equal(one.after, other.after)
        and np.array_equal(one.before, one.after)
        and one.l1 == 0
        and one.accuracy == other.accuracy
    )
    assert show(bench, State(lam=0.0)).l1 > 0


def test_records_are_sorted_by_how_sure_the_service_is(bench):
    tops = [show(bench, State("non-member", i, purifier=False)).before.max() for i in range(8)]
    assert tops == sorted(tops) and tops[0] < tops[-1]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"kind": "stranger"}, "member, non-member"),
        ({"lam": 0.5}, "lam is 0.5"),
        ({"record": 8}, "8 records"),
        ({"record": -1}, "8 records"),
        ({"top": 4}, "top is 4"),
        ({"temperature": 7.0}, "temperature is 7"),
    ],
)
def test_a_state_that_does_not_lie_ready_is_refused(bench, wrong, said):
    with pytest.raises(InputError, match=said):
        show(bench, State(**wrong))


def test_a_decoder_draws_what_scores_tell_and_no_more(bench):
    known = bench.part("known_nonmembers", bench.answers[None]["known_nonmembers"])
    x = known.x.copy()
    x[:, 0, 0] = np.log(known.scores.clip(1e-30)).max(1) - np.log(known.scores.clip(1e-30)).min(
        1
    )  # a pixel that the scores give away
    x[:, 0, 1] = np.random.default_rng(0).normal(size=len(x))  # and one that they do not
    drawn = QuickDecoder(type(known)(known.scores, known.y, x), 10).draw(known.scores)
    assert (
        np.corrcoef(drawn[:, 0, 0], x[:, 0, 0])[0, 1] > 0.95
        and abs(np.corrcoef(drawn[:, 0, 1], x[:, 0, 1])[0, 1]) < 0.8
    )
    only_label = QuickDecoder(known, 10)
    assert np.ptp(
        QuickDecoder(type(known)(np.eye(10)[known.scores.argmax(1)], known.y, known.x), 10).draw(
            np.eye(10)[[3, 3]]
        ),
        axis=0,
    ).max() == 0 and only_label.shape_ == (8, 8)


def pixels(png: bytes) -> np.ndarray:
    """Read a PNG's pixels."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", [RecordPanel, HistogramPanel, RocPanel])
def test_a_move_by_blitting_gives_the_picture_that_drawing_anew_gives(bench, kind):
    moved, fresh = kind(bench), kind(bench)
    for state in (
        State(),
        State("member", 7, False),
        State("member", 3, lam=0.0, top=1, temperature=3.0),
    ):
        last = moved.png(show(bench, state))
    assert np.array_equal(pixels(last), pixels(fresh.png(show(bench, state))))
    assert not np.array_equal(pixels(last), pixels(fresh.png(show(bench, State()))))


def test_members_and_non_members_keep_their_colours(bench):
    panel = RecordPanel(bench)
    for kind, colour in (("member", MEMBER), ("non-member", NONMEMBER)):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels(panel.png(show(bench, State(kind, 7)))) == wanted).all(2).sum() > 100


def test_a_game_counts_and_ends(bench):
    game = new_game(bench, rounds=10, seed=1)
    truth = game.is_member
    assert 0 < truth.sum() < 10 and game.points == 0
    for said in truth[:6]:
        game = game.answer(said)
    for said in ~truth[6:]:
        game = game.answer(said)
    assert game.over and game.points == 6 and game.table().loc["you"].iloc[0] == 6
    with pytest.raises(InputError, match="over"):
        game.answer(True)
    members = bench.answers[None]["heldout_members"]
    assert all(
        (members == scores).all(1).any() == inside
        for scores, inside in zip(game.scored.scores, truth, strict=True)
    )


def test_a_game_does_not_show_what_comes(bench):
    game = new_game(bench, seed=1).answer(True)
    panel = GameRecordPanel(game)
    panel.move(game)
    assert [bar.get_height() > 0 for bar in panel.bars][2:] == [False] * 8
    assert (
        new_game(bench, seed=1).scored.y.tolist()
        == game.scored.y.tolist()
        != new_game(bench, seed=2).scored.y.tolist()
    )


def test_a_new_game_behind_the_purifier_asks_about_purified_scores(bench):
    match = play(bench, seed=1)
    match.again(purified=True)
    published = bench.answers[(1.0, 0.0, 0.0)]
    assert match.shown.purified and all(
        (published[part] == scores).all(1).any()
        for scores, part in zip(
            match.shown.scored.scores,
            np.where(match.shown.is_member, "heldout_members", "heldout_nonmembers"),
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def small_audit():
    """An audit with three settings of one defence."""
    from purification_nb.audit.run import audit
    from purification_nb.defences.baselines import ReleaseBelow

    target = MLPTarget((32,), epochs=10)
    return audit(
        digits(0),
        [
            Recipe(target),
            *(
                Recipe(target, ReleaseBelow(tau), "release_below", f"tau {tau}")
                for tau in (0.2, 0.9, 0.5)
            ),
        ],
        "label,confidence",
        seeds=1,
        target=target,
        jobs=1,
        progress=False,
    )


def test_walking_along_an_audit(small_audit):
    trade = walk(small_audit)
    assert trade.recipe == "release_below" and [
        point.setting for point in trade.points["release_below"]
    ] == ["tau 0.9", "tau 0.5", "tau 0.2"]
    before = trade.draw()
    point = trade.go("release_below", 2)
    assert (
        point.distortion == small_audit.value("release_below (tau 0.2)", "distortion_l1")
        and "tau 0.2" in trade.said()
        and trade.draw() != before
    )
    with pytest.raises(InputError, match="no curve of 'purifer'"):
        trade.go("purifer")
    with pytest.raises(InputError, match="3 settings"):
        trade.go("release_below", 3)


def test_an_audit_without_a_strongest_attack_has_no_curves():
    from purification_nb.audit.run import audit

    with pytest.raises(InputError, match="strongest=True"):
        tradeoff_points(
            audit(
                digits(0),
                "none",
                "label",
                seeds=1,
                target=MLPTarget((32,), epochs=10),
                jobs=1,
                progress=False,
                strongest=False,
            )
        )


def made(kind, bench, small_audit):
    """One of the three explorers."""
    return kind(small_audit if kind is walk else bench)


@pytest.mark.parametrize("kind", [explore, play, walk])
def test_where_there_are_no_widgets_there_is_a_figure(kind, bench, small_audit, without_widgets):
    explorer = made(kind, bench, small_audit)
    bundle = explorer._repr_mimebundle_()
    assert (
        set(bundle) == {"text/plain", "image/png"}
        and pixels(base64.b64decode(bundle["image/png"])).std() > 10
    )
    with pytest.raises(InputError, match=re.escape("purification_nb[notebooks]")):
        explorer.widget()


@pytest.mark.parametrize("kind", [explore, play, walk])
def test_where_there_are_widgets_the_figure_comes_along(kind, bench, small_audit):
    pytest.importorskip(
        "ipywidgets", reason='ipywidgets is not installed: pip install "purification_nb[notebooks]"'
    )
    bundle = made(kind, bench, small_audit)._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(bundle)


def controls_of(widget) -> list:
    """List every widget below one."""
    return [
        widget,
        *(below for child in getattr(widget, "children", ()) for below in controls_of(child)),
    ]


def test_a_slider_redraws_and_says_the_new_number(bench):
    w = pytest.importorskip(
        "ipywidgets", reason='ipywidgets is not installed: pip install "purification_nb[notebooks]"'
    )
    live = explore(bench)
    every = controls_of(live.widget())
    text, pictures = (
        next(c for c in every if isinstance(c, w.HTML)),
        [c for c in every if isinstance(c, w.Image)],
    )
    temperature, purifier, lam = (
        next(c for c in every if getattr(c, "description", "") == name)
        for name in ("temperature", "purifier on", "λ (label)")
    )
    said, drawn = text.value, [picture.value for picture in pictures]
    temperature.value = 5.0
    assert (
        live.shown.state.temperature == 5.0
        and text.value != said
        and live.said() in text.value
        and all(picture.value != old for picture, old in zip(pictures[:2], drawn[:2], strict=True))
    )
    assert not lam.disabled
    purifier.value = False
    assert lam.disabled and "Without a purifier" in text.value
    purifier.value = True
    assert not lam.disabled
    live.set(temperature=2.0, record=3)
    assert temperature.value == 2.0 and live.shown.state.record == 3 and live.said() in text.value


def test_the_saved_chapter_has_a_figure_for_each_explorer():
    cells = nbformat.read(ROOT / "nbs" / "29_playground.ipynb", as_version=4).cells
    for source in (
        "live = explore(bench)\nlive",
        "match = play(bench, seed=3)\nmatch",
        "trade = walk()\ntrade",
    ):
        (cell,) = (cell for cell in cells if cell.source == source)
        assert set(cell.outputs[0].data) == {"image/png", "text/plain"}


# In a real browser


def chromium() -> str:
    """Find Chromium, or install Debian's where that may be done, or skip and say why."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if not (shutil.which("apt-get") and os.geteuid() == 0):
        pytest.skip(
            "no Chromium here, and it cannot be installed without root and apt-get: apt-get install"
            " chromium"
        )
    done = subprocess.run(
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium",
        shell=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if not (found := shutil.which("chromium")):
        pytest.skip(
            "no Chromium here, and apt-get install chromium failed:"
            f" {(done.stderr or done.stdout).strip()[-300:]}"
        )
    return found


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, driven by Playwright."""
    if not importlib.util.find_spec("playwright"):
        pytest.skip("Playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as driver:
        window = driver.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield window
        window.close()


NOTEBOOK = [
    (
        "from purification_nb.datasets import digits\n"
        "from purification_nb.targets import MLPTarget\n"
        "from purification_nb.playground.bench import workbench\n"
        "from purification_nb.playground.explore import explore\n"
        "from purification_nb.playground.game import play"
    ),
    (
        "bench = workbench(digits(0), MLPTarget((32,), epochs=10), lams=(0., 1.), alphas=(0.,),"
        " betas=(0.,), records=8, jobs=1)"
    ),
    "explore(bench)",
    "play(bench, seed=1)",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on loopback, with a small playground and the chapter in its folder; gives its
    address."""
    if not importlib.util.find_spec("jupyterlab"):
        pytest.skip("JupyterLab is not installed: pip install jupyterlab")
    folder = tmp_path_factory.mktemp("lab")
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
            },
        ),
        folder / "small.ipynb",
    )
    shutil.copy(ROOT / "nbs" / "29_playground.ipynb", folder)
    for name, settings in (
        ("apputils-extension/notification", {"fetchNews": "false"}),
        ("notebook-extension/tracker", {"windowingMode": "none"}),
    ):
        place = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = (
        os.environ
        | {
            name: str(folder / name)
            for name in (
                "JUPYTER_CONFIG_DIR",
                "JUPYTER_DATA_DIR",
                "JUPYTER_RUNTIME_DIR",
                "IPYTHONDIR",
            )
        }
        | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    )
    log = (folder / "lab.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.password=",
            "--allow-root",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        cwd=folder,
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "lab.log").read_text()[-2000:]
            try:
                urlopen(f"{address}/api", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise AssertionError(
                "JupyterLab did not answer within two minutes: "
                + (folder / "lab.log").read_text()[-2000:]
            )
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def opened(browser, address, name, width, height):
    """Open a notebook, wait for its kernel, run it all; gives the page and what its console
    complained of."""
    from playwright.sync_api import TimeoutError as TooLate

    page, complaints = browser.new_page(viewport={"width": width, "height": height}), []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/doc/tree/{name}?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    # Run All before the kernel is idle is silently lost
    page.wait_for_selector(
        ".jp-Notebook-ExecutionIndicator[data-status=idle], .jp-NotebookPanel-toolbar"
        " [data-status=idle]",
        timeout=90_000,
        state="attached",
    )
    for _ in range(6):  # on a busy machine even an idle kernel may lose it
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.keyboard.press("Escape")
        page.locator(".lm-MenuBar-item", has_text="Run").first.click()
        page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
        try:
            page.wait_for_function(
                r"[...document.querySelectorAll('.jp-InputPrompt')].some(prompt =>"
                r" /\[[*\d]+\]/.test(prompt.innerText))",
                timeout=20_000,
            )
            return page, complaints
        except TooLate:
            continue
    page.screenshot(path=ARTEFACTS / "playground-not-run.png")
    raise AssertionError(f"no cell of {name} began to run; {complaints[-3:]}")


def serious(complaints: list) -> list:
    """Drop what a browser without a network, or JupyterLab of itself, always says."""
    return [
        said
        for said in complaints
        if not re.search(
            r"favicon|net::ERR_INTERNET_DISCONNECTED|ResizeObserver|/api/me|404"
            r" .*translation|preload",
            said,
        )
    ]


def test_in_a_browser_a_key_moves_a_slider_and_figure_and_number_change(browser, lab):
    ARTEFACTS.mkdir(exist_ok=True)
    page, complaints = opened(browser, lab, "29_playground.ipynb", 1280, 1500)
    pictures = page.locator(".widget-image")
    page.wait_for_function(
        "document.querySelectorAll('.widget-image').length >= 9 &&"
        " [...document.querySelectorAll('.widget-image')].every(i => i.naturalWidth > 0)",
        timeout=480_000,
    )  # three explorers, one of them twice
    text = page.locator("[role=status]").first
    text.scroll_into_view_if_needed()
    said, drawn = text.inner_text(), pictures.nth(1).get_attribute("src")
    handle = page.locator(".widget-hslider", has_text="temperature").first.locator(".noUi-handle")
    handle.focus()
    assert page.evaluate("document.activeElement.className").startswith("noUi-handle")
    start = time.perf_counter()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "said => document.querySelector('[role=status]').innerText != said",
        arg=said,
        timeout=10_000,
    )
    took = 1000 * (time.perf_counter() - start)
    page.wait_for_function(
        "src => document.querySelectorAll('.widget-image')[1].src != src", arg=drawn, timeout=10_000
    )
    assert "temperature 1.5" in text.inner_text()
    (ARTEFACTS / "browser.json").write_text(
        json.dumps({"one key, until the number has changed, ms": round(took)})
    )
    # the game, by keyboard alone
    yes = page.get_by_role("button", name="Member", exact=True).first
    yes.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelectorAll('[role=status]')[1].innerText.startsWith('You said member')",
        timeout=10_000,
    )
    page.screenshot(path=ARTEFACTS / "playground-game.png")
    # the knob of the last explorer
    knob = page.locator(".widget-hslider", has_text="its knob").locator(".noUi-handle")
    knob.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "[...document.querySelectorAll('[role=status]')].at(-1).innerText.startsWith('release_below,"
        " tau 0.7')",
        timeout=10_000,
    )
    page.screenshot(path=ARTEFACTS / "playground-tradeoff.png")
    text.scroll_into_view_if_needed()
    page.screenshot(path=ARTEFACTS / "playground.png")
    assert (
        page.locator(
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']", has_text="Error"
        ).count()
        == 0
    )
    assert serious(complaints) == []
    page.close()


def test_in_a_narrow_window_nothing_sticks_out(browser, lab):
    ARTEFACTS.mkdir(exist_ok=True)
    page, complaints = opened(browser, lab, "small.ipynb", 400, 1600)
    page.locator("[role=status]").first.wait_for(timeout=240_000)
    page.wait_for_function(
        "document.querySelectorAll('.widget-image').length >= 5 &&"
        " [...document.querySelectorAll('.widget-image')].every(i => i.naturalWidth > 0)",
        timeout=60_000,
    )
    page.locator(".widget-image").first.scroll_into_view_if_needed()
    page.screenshot(path=ARTEFACTS / "playground-narrow.png")
    wide = page.evaluate(
        "[...document.querySelectorAll('.widget-image, .widget-hslider, [role=status]')].map(e =>"
        " Math.round(e.getBoundingClientRect().right))"
    )
    assert max(wide) <= 400, wide
    assert serious(complaints) == []
    page.close()
