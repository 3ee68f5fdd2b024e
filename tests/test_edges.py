"""Small, lopsided and awkward inputs: an audit ends with a table, or with a reason."""

import json

import numpy as np
import pytest

from purification_nb.attacks.reconstructions import reidentified
from purification_nb.audit import measure, report, run
from purification_nb.audit.sentences import recipe_table
from purification_nb.datasets import digits
from purification_nb.defences.baselines import one_hot
from purification_nb.defences.publishing import keep_labels, limit_decimals
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.intervals import mean_with_interval
from purification_nb.records import Records
from purification_nb.service import Recipe
from purification_nb.splits import split_sets
from purification_nb.targets import MLPTarget

TARGET = MLPTarget((16,), epochs=3)


def sets(n1, n2, n3, k=3, shape=(4, 4)):
    """Make a split of random pictures with the three sizes."""
    rng = np.random.default_rng(0)
    made = [Records(rng.random((n, *shape)), np.arange(n) % k, k) for n in (n1, n2, n3)]
    return split_sets(*made)


def test_far_fewer_nonmembers_than_members(tmp_path):
    found = run.audit(
        sets(240, 60, 42),
        "none,purifier_keep_label",
        seeds=1,
        target=TARGET,
        jobs=1,
        progress=False,
    )
    lines = recipe_table(found, "none").index
    assert "members re-identified among ten of their label" in lines
    assert not any(line.startswith("non-members re-identified") for line in lines)
    rows = json.loads((report.save(found, tmp_path) / "audit.json").read_text())["rows"]
    assert any(
        r["metric"] == "reidentified_nonmembers" and "no label has 10" in (r["error"] or "")
        for r in rows
    )
    assert all(isinstance(r["n"], (int, type(None))) for r in rows)


@pytest.mark.parametrize("attacks", ["inversion", "label"])
def test_one_kind_of_attack_alone(attacks, tmp_path):
    found = run.audit(
        sets(120, 60, 120), "none,one_hot", attacks, seeds=1, target=TARGET, jobs=1, progress=False
    )
    assert (report.save(found, tmp_path) / "report.html").exists() and len(found.summary()) == 2


def test_two_classes_and_vectors(tmp_path):
    data = sets(120, 60, 120, 2, (7,))
    near = run.audit(
        data, "none,purifier", "label,neighbours", seeds=1, target=TARGET, jobs=1, progress=False
    )
    assert all(
        0 <= near.value(recipe, "accuracy", "neighbours") <= 1 for recipe in ("none", "purifier")
    )
    found = run.audit(
        data, "all", "label,confidence,inversion", seeds=1, target=TARGET, jobs=1, progress=False
    )
    assert found.summary()["strongest attack"].notna().all()
    assert (report.save(found, tmp_path) / "report.html").exists()


def test_a_failing_inversion_is_written_down(monkeypatch):
    monkeypatch.setattr(measure, "inversion_measures", lambda *_: 1 / 0)
    found = run.audit(
        sets(120, 60, 120),
        "none",
        "label,inversion",
        seeds=1,
        target=TARGET,
        jobs=1,
        progress=False,
    )
    failed = found.table[found.table.attack == "inversion"]
    assert failed.error.str.contains("ZeroDivisionError").all()
    assert found.value("none", "accuracy", "label") is not None


def test_recipes_with_awkward_names():
    plans = [
        Recipe(TARGET),
        Recipe(TARGET, one_hot, "mine (v2)"),
        Recipe(TARGET, one_hot, "mine", "strength=2"),
    ]
    found = run.audit(
        sets(120, 60, 120), plans, "label", seeds=np.arange(1), jobs=1, progress=False
    )
    assert found.summary()["strongest attack"].notna().all()
    assert found.recipes == [
        "none",
        "mine (v2)",
        "mine (strength=2)",
    ]


def test_ties_keep_their_label():
    assert limit_decimals([[0.5004, 0.4996], [0.4996, 0.5004], [0.5, 0.5], [1, 0]], 2).argmax(
        1
    ).tolist() == [0, 1, 0, 0]
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.full(5, 0.3), 2000)
    for decimals in (1, 2, 3):
        short = limit_decimals(scores, decimals)
        assert (short.argmax(1) == scores.argmax(1)).all()
        assert np.allclose(short.sum(1), 1)
        assert (short >= 0).all()
    flat = np.full((3, 4), 0.25)
    assert keep_labels(flat, np.eye(4)[[3, 0, 2]]).argmax(1).tolist() == [3, 0, 2]


def test_settings_given_are_settings_used():
    scored = Recipe(TARGET)(*(lambda s: (s.d1, s.d2))(sets(120, 60, 120)), 0).answer(
        sets(120, 60, 120).d2
    )
    assert PurifierDefence(epochs=3)(None, scored, 0).settings["epochs"] == 3
    assert PurifierDefence(rate=0.002)(None, scored, 0).settings["rate"] == 0.002
    assert PurifierDefence(paper=True, epochs=4)(None, scored, 0).settings == {
        "lam": 1.0,
        "rate": 0.01,
        "epochs": 4,
        "batch_size": 50,
    }


def test_intervals_of_rates_and_of_few_groups():
    never = mean_with_interval(np.zeros(600, bool))
    assert never[0] == never[1] == 0 and 0.001 < never[2] < 0.02  # none in 600 is not never
    assert mean_with_interval(np.zeros(600)) == (0, 0, 0)  # a distortion that is nowhere is no rate
    assert np.isfinite(mean_with_interval(np.arange(4.0), [[0, 1], [2, 3], [4, 5], [6, 7]])).all()
    assert np.isnan(
        reidentified(
            np.zeros((12, 2)), np.random.default_rng(0).random((12, 2)), np.r_[np.zeros(10), 1, 1]
        )
    )[-2:].all()


def test_a_cache_that_cannot_be_written_costs_a_warning_not_the_training(monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_CACHE", "/dev/null/nowhere")
    pairs = digits(0)
    with pytest.warns(UserWarning, match="could not be remembered"):
        service = MLPTarget((8,), epochs=1)(pairs.d1, pairs.d2, 0)
    assert service(pairs.d3.x).shape == (len(pairs.d3), 10)
