"""The game's data are what the library gives, and do not shout the truth."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev" / "docs"))
import game  # noqa: E402

SAVED = game.read()


@pytest.fixture(scope="module")
def bench() -> game.Bench:
    """The service of the game; its networks are those of the chapters, so they are remembered."""
    return game.Bench()


def test_the_data_say_what_made_them():
    made = SAVED["made"]
    assert made["data"] == "digit_pairs" and made["seed"] == game.SEED and made["threads"] == "1"
    assert re.fullmatch(r"[0-9a-f]{10}", made["commit"])


def test_records_answers_and_results_are_the_library_s(bench):
    # Sums differ in their last digits from machine to machine, so networks do a little.
    fresh = game.game(bench)
    for one, other in zip(SAVED["records"], fresh["records"], strict=True):
        assert one[:2] == other[:2]  # the picture and its label
    assert SAVED["sealed"] == fresh["sealed"]
    for place, (name, mode) in enumerate(fresh["modes"].items(), start=2):
        own = [np.array([r[place][0] for r in which["records"]]) for which in (SAVED, fresh)]
        assert np.quantile(np.abs(own[0] - own[1]), 0.9) < 0.05, name
        for what in ("threshold", "label"):
            assert SAVED["modes"][name][what] == pytest.approx(mode[what], abs=0.02), (name, what)


def test_the_slider_begins_with_the_bare_service_and_its_purifiers_hide_members(bench):
    first, *purified = SAVED["slider"]
    fresh = game.stop_of_slider("bare", bench.bare, bench.bare)
    assert first["threshold"] == pytest.approx(fresh["threshold"], abs=0.02)
    assert np.allclose(first["members"], fresh["members"], atol=0.03)
    assert [stop["name"] for stop in purified] == [f"λ = {lam:g}" for lam in game.LAMBDAS]
    for stop in purified:
        assert sum(stop["members"]) == pytest.approx(1, abs=0.01)
        assert sum(stop["nonmembers"]) == pytest.approx(1, abs=0.01)
        assert stop["threshold"] < first["threshold"] - 0.02
        assert abs(stop["label"] - first["label"]) < 0.03  # the floor stays
    with_label_term = [stop["threshold"] for stop in purified[1:]]
    assert max(with_label_term) < purified[0]["threshold"]  # the label term does the rest


def test_the_truth_is_half_and_half_and_not_in_the_open():
    flips, key = SAVED["sealed"].split(".")
    truth = np.array([a != b for a, b in zip(flips, key, strict=True)])
    assert truth.sum() == game.EACH and len(truth) == len(SAVED["records"]) == 2 * game.EACH
    assert abs(np.corrcoef(truth, np.array(list(map(int, flips))))[0, 1]) < 0.3
    text = game.DATA.read_text(encoding="utf-8")
    assert "member" not in re.sub(r'"(non)?members":', "", text)


def test_what_is_written_is_read_back(tmp_path):
    found = {"made": {"seed": 0}, "records": [[1, "a"], [2, "b"]]}
    (tmp_path / "data.js").write_text(game.written(found), encoding="utf-8")
    assert game.read(tmp_path / "data.js") == found


def test_the_page_s_script_loads_nothing_and_is_short():
    script = (game.DATA.parent / "game.js").read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|fetch\(|import |eval\(", script)
    assert len(script.splitlines()) < 400 and game.DATA.stat().st_size < 60_000
