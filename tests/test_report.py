"""What an audit says of itself: the verdict, the printed table, the page in a real browser."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from purification_nb.attacks.catalogue import DEFAULT_ATTACKS
from purification_nb.audit import cells, remembered, run
from purification_nb.audit.findings import Audit
from purification_nb.audit.overview import (
    headline,
    overview,
    verdict_rests_on,
    verdict_title,
    verdict_word,
)
from purification_nb.audit.page import rendered_page
from purification_nb.audit.page_parts import (
    applicable_attacks,
    most_exposed,
    reasons_not_measured,
)
from purification_nb.audit.report import load_results, save
from purification_nb.audit.rows import COLUMNS
from purification_nb.audit.shift import SCORES_ALONE
from purification_nb.audit.text import model_sentences, notes
from purification_nb.records import Scored
from purification_nb.targets import MLPTarget

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def row(recipe, metric, value, low=None, high=None, attack=None, error=None):
    """Give one row of an audit's table that pools the seeds."""
    known = {"recipe": recipe, "metric": metric, "value": value, "low": low, "high": high}
    return dict.fromkeys(COLUMNS) | known | {"data": "mine", "attack": attack, "error": error}


def rows_of(recipe, over, low, high, floor=0.57):
    """Give the rows that a report asks of a recipe."""
    return [
        row(recipe, "label_floor", floor, floor - 0.02, floor + 0.02),
        row(recipe, "accuracy", floor + over, floor + low, floor + high, "strongest"),
        row(recipe, "over_floor", over, low, high, "strongest"),
        row(recipe, "tpr_at_fpr_0.01", 0.131, 0.05, 0.2, "strongest_at_low_fpr"),
        row(recipe, "tpr_floor_at_fpr_0.01", 0.037, 0.0, 0.07),
        row(recipe, "test_accuracy", 0.865, 0.84, 0.89),
        row(recipe, "distortion_l1", 0.155, 0.14, 0.17),
        row(recipe, "reidentified_members", 0.38, 0.3, 0.4, "inversion"),
    ]


ENDS = {"leaks": (0.12, 0.1, 0.14), "bounded": (0.0, -0.01, 0.02), "undecided": (0.02, -0.1, 0.12)}


def told(**kinds):
    """Make an audit by hand: recipe -> the verdict on it."""
    rows, verdicts = [], []
    for recipe, kind in kinds.items():
        over, low, high = ENDS[kind]
        rows += rows_of(recipe, over, low, high)
        ends = {"over": over, "low": low, "high": high, "p": 0.5}
        verdicts.append({"recipe": recipe, "attack": "strongest", "verdict": kind} | ends)
    settings = {"data": "mine", "seeds": [0, 1], "attacks": ["label"], "model": "a trained forest"}
    found = {
        "settings": settings,
        "verdicts": verdicts,
        "strongest": {recipe: {"0": "boosted", "1": "nsh_log"} for recipe in kinds},
        "versions": {"purification_nb": "0", "torch": "0"},
        "scale": "lesson",
        "seconds": {},
    }
    shown = {recipe: {"row": (recipe, None)} for recipe in kinds}
    return Audit(as_table(rows), found, shown)


def as_table(rows):
    """Make a table as audits have it."""
    table = pd.DataFrame(rows, dtype=object)
    return table.where(table.notna(), None)


# --- the verdict


@pytest.mark.parametrize(
    ("kind", "title", "second", "word"),
    [
        ("leaks", "The scores leak", "The leak is +0.120 [+0.100, +0.140] over", "leaks"),
        (
            "bounded",
            "single-query attacks leave room for 0.020 at most",
            "more than 0.020 over the label floor can be excluded",
            "at most 0.020",
        ),
        ("undecided", "Too little data", "up to 0.120 over the label floor", "too little data"),
    ],
)
def test_each_of_the_three_verdicts_in_two_sentences(kind, title, second, word):
    found = told(none=kind)
    first, how_large = headline(found)
    assert title in verdict_title(found) and second in how_large
    assert "chance is 50, and the label alone gives 57" in first
    assert verdict_word(found, "none") == word == overview(found).verdict["none"]
    for said in (str(found).replace("\n", " "), found._repr_html_(), rendered_page(found, {})):
        assert how_large in said


def test_a_doubt_that_decides_comes_first_and_forbids_the_verdict():
    found = told(none="leaks", one_hot="bounded")
    found.run |= {"doubts": ["small", "swapped?"], "deciding_doubts": ["swapped?"]}
    assert set(overview(found).verdict) == {"in doubt"} and "No conclusion" in verdict_title(found)
    for said in (str(found), rendered_page(found, {}).partition("<h1>")[2]):
        places = [said.lower().index(word) for word in ("swapped?", "small", "no conclusion")]
        assert places == sorted(places)
        assert "leaks" not in said.partition("Details")[0].replace(">leaks", "")


# --- what is printed


def test_what_is_printed_fits_eighty_columns_and_says_all():
    kinds = dict(none="leaks", constant_per_label="bounded", purifier_keep_label="undecided")
    found = told(**kinds)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80 and repr(found) == str(found)
    line = next(one for one in lines if one.startswith("none"))
    assert " ".join(line.split()) == "none +.120 [.100, .140] 13% (4%) 86.5% .15 38% leaks"
    assert "+.020 [-.100, .120]" in str(found) and "too little data" in str(found)


def test_notes_long_names_and_failures_stay_within_a_hundred():
    long = "rounding (decimals=1, rows=[3, 4, 5], and much more that somebody wrote down here)"
    found = told(**{"none": "leaks", long: "bounded", "never": "bounded"})
    more = [
        row("none", "accuracy", 0.667, 0.6, 0.7, "strongest_repeated"),
        row("none", "epsilon", 8.0),
        row("none", "empirical_epsilon", 0.41, attack="strongest"),
    ]
    rows = [one for one in found.table.to_dict("records") if one["recipe"] != "never"]
    failed = row("never", "test_accuracy", None, error="ValueError: no such luck")
    found.table = as_table([*rows, *more, failed])
    said = str(found)
    assert max(map(len, said.splitlines())) <= 80
    assert "Accuracy with repeated queries: none 0.667" in said
    assert "none at most 8.00 (promised), at least 0.41 (measured)" in said
    assert "never failed: ValueError: no such luck" in said
    assert overview(found).verdict["never"] == "failed"
    assert "no such luck" in rendered_page(found, {})


# --- sentences that do not apply stay away


def judged(found, recipe, attack, kind, ends):
    """Add the verdict on one more attack."""
    row = {"recipe": recipe, "attack": attack, "verdict": kind, "p": 0.5}
    found.run["verdicts"].append(row | dict(zip(("over", "low", "high"), ends, strict=True)))


def verdict_on(found, recipe):
    """Give the dictionary that holds a recipe's verdict."""
    return next(one for one in found.run["verdicts"] if one["recipe"] == recipe)


def test_where_another_attack_decided_the_page_names_it_beside_the_verdict():
    found = told(none="leaks", one_hot="bounded", rounding="bounded", top_k="bounded")
    judged(found, "one_hot", "entropy", "bounded", (0.01, -0.02, 0.043))
    judged(found, "one_hot", "label_only_noise", "leaks", (0.2, 0.1, 0.3))  # repeats its queries
    verdict_on(found, "one_hot")["high"] = 0.043
    judged(found, "rounding", "entropy", "leaks", (0.05, 0.03, 0.07))
    verdict_on(found, "rounding")["verdict"] = "leaks"
    rests_on = {recipe: verdict_rests_on(found, recipe) for recipe in found.recipes}
    assert rests_on["none"] is None and rests_on["top_k"] is None  # the interval beside it decided
    assert rests_on["one_hot"].replace("\xa0", " ") == "decided by entropy: +0.010 [-0.020, 0.043]"
    assert rests_on["rounding"].startswith("leaks to entropy: +0.050 [0.030")
    said = (
        "rounding leaks to entropy: +0.050 [0.030, 0.070], though the interval in its row holds 0."
    )
    assert said in str(found).replace("\n", " ") and said in found._repr_html_()
    page = rendered_page(found, {})
    for recipe in ("one_hot", "rounding"):
        assert f'<span class="why">{rests_on[recipe]}</span>' in page
    found.run["deciding_doubts"] = ["swapped?"]
    assert verdict_rests_on(found, "one_hot") is None


def test_who_tries_labels_alone_concludes_nothing_about_scores():
    found = told(none="bounded", one_hot="bounded")
    for name in ("label", "label_only_noise"):
        judged(found, "none", name, "bounded", (0.0, -0.01, 0.02))
    assert verdict_title(found) == "No verdict on the scores"
    assert headline(found) == [
        "No single-query attack reads the scores, so there is no verdict on them."
    ]
    assert found.conclusion()[0].startswith("An attacker who draws records")
    assert "Hatched" not in rendered_page(found, {})
    assert verdict_word(found, "none") == "not attacked"
    assert "0.020" not in f"{verdict_title(found)} {headline(found)}"
    judged(found, "none", "confidence", "bounded", (0.0, -0.01, 0.02))
    assert verdict_word(found, "none") == "at most 0.020"


def test_without_a_chosen_attack_there_is_no_verdict_and_it_is_said_why():
    found = told(none="bounded")
    judged(found, "none", "boosted", "leaks", (0.2, 0.1, 0.3))
    found.run["verdicts"] = [one for one in found.run["verdicts"] if one["attack"] != "strongest"]
    assert headline(found) == [
        "No attack was chosen as the strongest, so there is no verdict on the scores."
    ]
    found.run["verdicts"] = []
    assert headline(found)[0].startswith("No attack on membership was measured")


def test_a_shift_is_neither_a_leak_nor_an_all_clear():
    found = told(none="leaks", one_hot="bounded")
    verdict_on(found, "none")["verdict"] = "shift"
    title, (_, second) = verdict_title(found), headline(found)
    assert title == "A shift in the records: what of it is a leak cannot be said"
    assert "What of it is a leak cannot be said" in second and "no leak" not in second.lower()
    page = rendered_page(found, {})
    assert "Hatched" not in page and '<section class="verdict unknown">' in page
    # where attacks find more than the records tell, only that much is a leak
    found = told(none="leaks")
    found.run["shift"] = True
    beyond = row("none", "over_blind", 0.05, 0.02, 0.08, "strongest")
    found.table = as_table([*found.table.to_dict("records"), beyond])
    assert "The leak is +0.050 [+0.020, +0.080] over what the records alone tell" in str(
        found
    ).replace("\n", " ")


def test_repeated_queries_are_no_part_of_an_all_clear():
    found = told(none="bounded")
    judged(found, "none", "label_only_noise", "leaks", (0.2, 0.1, 0.3))
    judged(found, "none", "strongest_repeated", "leaks", (0.2, 0.1, 0.3))
    judged(found, "none", "confidence", "bounded", (0.0, -0.01, 0.02))
    often = row("none", "accuracy", 0.77, 0.7, 0.8, "strongest_repeated")
    found.table = as_table([*found.table.to_dict("records"), often])
    assert "with repeated queries 77 of 100 are told rightly" in headline(found)[1]
    assert "No leak was found by single-query attacks" in found.sentences()[0]


def test_who_leaks_to_single_query_attacks_is_not_told_of_those_that_repeat():
    found = told(none="bounded")
    judged(found, "none", "label_only_noise", "leaks", (0.3, 0.2, 0.4))
    judged(found, "none", "neighbours", "leaks", (0.05, 0.01, 0.09))
    verdict_on(found, "none")["verdict"] = "leaks"
    assert "neighbours finds +0.050, and that is no chance" in found.sentences()[0]


def test_what_was_not_tested_is_no_yes():
    found = told(none="leaks")
    scores = np.linspace(0.1, 0.9, 20)
    answers = Scored(np.stack([scores, 1 - scores], 1), np.zeros(20, int))
    tested = np.r_[[0.0, 1.0], np.full(18, np.nan)]
    found.shown["none"] |= {
        "exposed": (scores, scores - 0.05),
        "scored": (answers, answers),
        "picked_out": tested,
    }
    said = most_exposed(found)["re-identified"]
    assert set(said) == {"not measured"}  # the two that were tested are the least exposed


def test_inversion_hits_others_only_where_that_was_measured():
    found = told(purifier="leaks", none="leaks")
    rows = found.table.to_dict("records")
    for one in rows:
        if (one["recipe"], one["metric"]) == ("none", "reidentified_members"):
            one["value"] = 0.77
    found.table = as_table(rows)
    sentence = found.conclusion()[-1]
    assert "whomever" not in sentence and "77%" not in sentence and "with a defence" not in sentence
    others = row("purifier", "reidentified_nonmembers", 0.4, 0.3, 0.5, "inversion")
    found.table = as_table([*rows, others])
    assert "Of non-members it is 40%: this hits whomever" in found.conclusion()[-1]


def test_of_a_defence_in_the_training_it_is_said_that_it_is_another_model():
    found = told(none="leaks", dropout="leaks", purifier="leaks")
    by_recipe = dict(zip(found.recipes, found.sentences(), strict=True))
    assert "Its answers leak" in by_recipe["dropout"]
    assert "over the undefended model's label floor" in by_recipe["dropout"]
    for recipe in ("none", "purifier"):
        assert "Its scores leak" in by_recipe[recipe] and "another model" not in by_recipe[recipe]


def test_attacks_that_failed_are_named():
    found = told(none="leaks")
    failed = row("none", "accuracy", None, attack="calibrated", error="too few records")
    found.table = as_table([*found.table.to_dict("records"), failed])
    assert "Attacks that failed: calibrated (too few records)." in str(found).replace("\n", " ")


def test_an_attack_that_failed_under_some_seeds_is_said_to_count_under_the_others():
    found = told(none="leaks")
    failed = row("none", "accuracy", None, attack="calibrated", error="too few records")
    of_seeds = [failed | {"seed": 0}] + [
        row("none", "accuracy", 0.6, attack="calibrated") | {"seed": seed} for seed in (1, 2)
    ]
    found.table = as_table([*found.table.to_dict("records"), failed, *of_seeds])
    note = notes(found)[0]
    assert "calibrated (too few records; in 1 of 3 runs, the others count)" in note


def test_usual_attacks_that_were_left_out_are_named():
    found = told(none="leaks")
    found.run["settings"]["attacks"] = [name for name in DEFAULT_ATTACKS if name != "inversion"]
    assert notes(found) == []
    found.run["settings"]["attacks"].remove("calibrated")
    left_out = "Usual attacks that were not tried, and may find more: calibrated."
    assert notes(found) == [left_out] and left_out in str(found).replace("\n", " ")
    found.run["settings"]["not applicable"] = {"calibrated": "it trains models"}
    assert notes(found) == []


def test_a_model_that_was_handed_over_is_described_so_that_its_owner_knows_it():
    found = told(none="leaks")
    found.table.loc[len(found.table)] = row("none", "train_accuracy", 0.567)
    assert model_sentences(found) == "Model: a trained forest."
    assert "on the undefended service" in headline(found)[0]
    found.run["settings"]["handed_over"] = True
    assert "right on 56.7% of the members and 86.5% of the non-members" in model_sentences(found)
    assert "on the service as it was handed over" in headline(found)[0]
    for said in (str(found).replace("\n", " "), found._repr_html_(), rendered_page(found, {})):
        assert model_sentences(found) in said and "the undefended service" not in said


def test_what_seeds_resolve_together_was_measured():
    found = told(none="leaks")
    few = "a TPR at 1.0% FPR needs at least 1000 non-members, there are 600: too few to resolve it"
    alone = [row("none", "tpr_at_fpr_0.01", None, error=few) | {"seed": seed} for seed in (0, 1)]
    found.table = as_table([*found.table.to_dict("records"), *alone])
    assert reasons_not_measured(found) == []
    found.table = as_table([*found.table.to_dict("records"), alone[0] | {"seed": None}])
    (reason,) = reasons_not_measured(found)
    assert "there are fewer" in reason


def test_an_interval_above_nothing_that_proves_nothing_says_why():
    found = told(none="leaks", one_hot="leaks")
    verdict_on(found, "one_hot")["verdict"] = "undecided"
    assert "perhaps by chance (one of 1 tried)" in verdict_rests_on(found, "one_hot")


def test_an_audit_of_scores_alone_is_told_as_one():
    whole, found = (told(none="leaks") for _ in range(2))
    found.run["remarks"] = ["a note", SCORES_ALONE]
    found.run["settings"] |= {
        "files": {"members": {}, "nonmembers": {}},
        "not applicable": {"rmia": "it trains shadow models", "lira": "it trains shadow models"},
    }
    few = "a TPR at 1.0% FPR needs at least 1000 non-members, there are {}: too few to resolve it"
    lines = found.table[~found.table.metric.isin(["tpr_at_fpr_0.01", "reidentified_members"])]
    lines = lines.to_dict("records")
    lines += [row("none", "tpr_at_fpr_0.01", None, error=few.format(n)) for n in (95, 164)]
    lines.append(row("none", "accuracy", None, attack="rmia", error="not applicable: rmia"))
    found.table = as_table(lines)
    pages = (rendered_page(one, {}) for one in (whole, found))
    first, second = (page.partition("<summary>The run")[0] for page in pages)
    for said in ("True positive rate", "Inversion</dt>", "the reference set (D2)"):
        assert said in first and said not in second
    assert second.count(SCORES_ALONE) == 1 and second.count("a note") == 1
    assert second.index(SCORES_ALONE) < second.index("What is leaked")  # beside the verdict
    assert "does not mean safe" in second and "rmia, lira: it trains shadow models" in second
    assert second.count("1000 non-members, there are fewer") == 1
    assert "rmia" not in applicable_attacks(found).index
    assert "\N{DAGGER}" in first and "\N{DAGGER}" not in second  # no mark without its line


def test_members_that_an_attacker_cannot_rank_are_not_listed():
    found = told(none="leaks")
    answers = Scored(np.eye(2)[[0] * 40], np.zeros(40, int))
    levels = np.ones(20), np.r_[np.ones(19), 0.0]
    found.shown["none"] |= {"exposed": levels, "scored": (answers, answers)}
    page = rendered_page(found, {})
    assert most_exposed(found) is None
    assert "20 of 20 held-out members" in page and "95.0% of the non-members too" in page
    found.shown["none"]["exposed"] = np.arange(20.0), levels[1]
    page = rendered_page(found, {})
    assert "Nobody is listed" not in page and len(most_exposed(found)) == 10
    assert "<th>false alarms</th>" in page and "Difficulty" not in page


# --- the page, in a browser


@pytest.fixture(scope="module")
def browser():
    """Give a Chromium, or skip."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM)
        yield running
        running.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Write the page of an audit by hand, with its figure, to a file."""
    folder = tmp_path_factory.mktemp("report")
    found = told(none="leaks", purifier_keep_label="undecided", one_hot="bounded")
    save(found, folder)
    assert load_results(folder / "audit.json").overview().equals(found.overview())
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_has_no_horizontal_scroll(browser, page_file, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(page_file.as_uri())
    for _ in range(2):  # folded, and all opened
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.locator("img").count() == 1  # one figure stands open
    words = page.locator(".word").all_inner_texts()
    assert "leaks" in words and "too little data" in words and "at most 0.020" in words
    page.close()


def test_a_page_in_print_opens_what_is_folded(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.get_by_text("True positive rate at a false positive rate").is_visible()
    assert not page.get_by_text("The run: versions").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def brightness(page, of="body", what="backgroundColor"):
    """Give the mean of the three colours of an element, 0 to 255."""
    colour = page.eval_on_selector(of, f"e => getComputedStyle(e).{what}")
    return np.mean([int(part) for part in re.findall(r"\d+", colour)[:3]])


def test_a_page_is_dark_on_a_dark_screen_and_light_in_print(browser, page_file):
    page = browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 800})
    page.goto(page_file.as_uri())
    assert brightness(page) < 40 < 200 < brightness(page, what="color")
    for word in (".word.leaks", ".word.bounded", ".word.unknown", ".note"):
        assert brightness(page, word, "color") > 130
    assert brightness(page, "img") == 255  # figures stand on a light panel
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(media="print", color_scheme="dark")
    assert brightness(page) == 255 and brightness(page, what="color") < 60
    page.emulate_media(media="screen", color_scheme="light")
    assert brightness(page) == 255
    page.close()


# --- a second run


def test_a_second_run_looks_nothing_up_but_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    small = MLPTarget((16,), epochs=3)
    how = dict(attacks="label", seeds=2, target=small, jobs=1, progress=False)
    first = run.audit("digits", "none,one_hot", **how)
    with monkeypatch.context() as forbidden:
        forbidden.setattr(run, "_measured_cells", lambda *_: 1 / 0)
        again = run.audit("digits", "none,one_hot", **how)
    assert again.table.astype(str).equals(first.table.astype(str)) and str(again) == str(first)
    assert np.array_equal(again.shown["none"]["roc"][0], first.shown["none"]["roc"][0])
    assert again.records is not None and again.records_at_risk().equals(first.records_at_risk())
    timeless = [{k: v for k, v in one.run.items() if k != "seconds"} for one in (first, again)]
    assert json.dumps(timeless[0], default=float) == json.dumps(timeless[1], default=float)

    (file,) = Path(tmp_path / "cache").glob("audit-*.npz")
    whole = file.read_bytes()
    for broken in (whole[:100], whole.replace(b"checksum", b"checksun")):
        file.write_bytes(broken)
        assert remembered.remembered_run(file, None) is None
    file.write_bytes(whole)
    for cell in Path(tmp_path / "cache").glob("cell-*.npz"):
        cell.unlink()
    assert remembered.remembered_run(file, None) is None


def test_an_audit_in_which_something_failed_is_not_remembered(tmp_path):
    path = tmp_path / "audit-x.npz"
    remembered.remember_run(path, told(none="leaks"), [], [{"broke": True}])
    remembered.remember_run(None, told(none="leaks"), [], [])
    assert not path.exists() and cells.load_cell(tmp_path / "none") is None
