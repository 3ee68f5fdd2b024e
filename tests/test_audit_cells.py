"""The audit's cells: remembered where safe, measured anew where not, and failing alone."""

import json

import numpy as np
import pytest

from purification_nb import card
from purification_nb.attacks import catalogue
from purification_nb.audit import cells, figures, report
from purification_nb.audit.report import load_results, save_results
from purification_nb.audit.run import audit
from purification_nb.defences.baselines import ReleaseBelow
from purification_nb.defences.catalogue import CATALOGUE, RECIPES, recipe_called
from purification_nb.defences.in_training import Regularised
from purification_nb.records import InputError
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

QUICK = dict(data="digits", attacks="label,confidence", seeds=1, jobs=1, progress=False)


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """A cache of its own, and a list of the recipes that were measured."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    measured, measure_cell = [], cells.measure_cell

    def watched(plan):
        measured.append(plan.recipe.name)
        return measure_cell(plan)

    monkeypatch.setattr(cells, "measure_cell", watched)
    return measured, tmp_path / "cache"


def rows(found):
    """All a table says, as text, but for the seconds."""
    return (
        found.table[~found.table.metric.isin(["train_seconds", "query_seconds"])]
        .reset_index(drop=True)
        .astype(str)
    )


def test_a_second_audit_measures_what_is_missing(counted):
    measured, _ = counted
    first = audit(recipes="none,one_hot", **QUICK)
    again = audit(recipes="none,one_hot,rounding", **QUICK)
    assert measured == ["none", "one_hot", "rounding"]
    kept = rows(again)[rows(again).recipe != "rounding"].reset_index(drop=True)
    assert kept.equals(rows(first)) and again.sentences()[:2] == first.sentences()
    assert np.array_equal(
        again.shown["one_hot"]["scored"][0].scores, first.shown["one_hot"]["scored"][0].scores
    )
    assert figures.figures(again).keys() == figures.figures(first).keys()


def test_an_interrupted_audit_goes_on(counted, monkeypatch):
    measured, _ = counted
    watched = cells.measure_cell

    def stop_at_the_second(plan):
        if plan.recipe.name == "one_hot":
            raise KeyboardInterrupt
        return watched(plan)

    monkeypatch.setattr(cells, "measure_cell", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        audit(recipes="none,one_hot", **QUICK)
    monkeypatch.setattr(cells, "measure_cell", watched)
    audit(recipes="none,one_hot", **QUICK)
    assert measured == ["none", "one_hot"]


def test_settings_seeds_and_attacks_are_told_apart(counted):
    measured, _ = counted

    def recipe(tau):
        return Recipe(MLPTarget(), ReleaseBelow(tau), "release_below", f"tau={tau}")

    audit(recipes=[recipe(0.5)], **QUICK)
    audit(recipes=[recipe(0.6)], **QUICK)
    audit(recipes=[recipe(0.5)], **QUICK | {"attacks": "label"})
    audit(recipes=[recipe(0.5)], **QUICK | {"seeds": [1]})
    assert len(measured) == 4
    audit(recipes=[recipe(0.5)], **QUICK)
    assert len(measured) == 4


def test_what_a_name_does_not_pin_down_is_measured_anew(counted):
    measured, folder = counted
    for _ in range(2):
        audit(
            recipes=[Recipe(MLPTarget(), lambda d1, d2, seed: lambda scores: scores, "mine")],
            **QUICK,
        )
    assert measured == ["mine", "mine"] and not list(folder.glob("cell-*"))


def test_a_broken_memory_is_a_warning(counted):
    measured, folder = counted
    first = audit(recipes="none", **QUICK)
    (file,) = folder.glob("cell-*.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.warns(UserWarning, match="measured again"):
        again = audit(recipes="none", **QUICK)
    assert measured == ["none", "none"] and rows(again).equals(rows(first))


def test_nothing_is_unpickled(counted):
    _, folder = counted
    audit(recipes="none", **QUICK)
    (file,) = folder.glob("cell-*.npz")
    np.savez(file, plain=np.array([{"rows": []}], dtype=object))
    with pytest.warns(UserWarning, match="could not be read"):
        audit(recipes="none", **QUICK)


def broken(scored_d1, scored_d2, seed):
    raise ValueError("no such luck")


def test_a_recipe_that_fails_leaves_the_others_their_rows(counted, tmp_path):
    found = audit(recipes=["none", Recipe(MLPTarget(), broken, "broken")], **QUICK)
    assert found.value("none", "accuracy", "confidence") > 0.5
    assert found.value("broken", "test_accuracy") is None
    assert "ValueError: no such luck" in found.failure("broken") and found.failure("none") is None
    assert any(sentence.startswith("broken: not measured") for sentence in found.sentences())
    report.save(found, tmp_path / "report")
    assert "no such luck" in (tmp_path / "report" / "report.html").read_text()
    assert load_results(save_results(found, tmp_path / "some.json")).failure(
        "broken"
    ) == found.failure("broken")


def test_where_all_fail_the_reason_is_raised(counted):
    with pytest.raises(ValueError, match="no such luck"):
        audit(recipes=[Recipe(MLPTarget(), broken, "broken")], **QUICK)


def test_an_attack_that_broke_is_tried_again(counted, monkeypatch):
    measured, folder = counted
    kept = catalogue.ATTACKS["confidence"]

    def unlucky():
        raise MemoryError("for once")

    with monkeypatch.context() as patched:
        attack = kept()
        patched.setattr(type(attack), "fit", lambda self, knowledge: unlucky())
        first = audit(recipes="none", **QUICK)
    assert "MemoryError" in str(first.table.error.dropna().tolist())
    assert not list(folder.glob("cell-*"))
    assert audit(recipes="none", **QUICK).value("none", "accuracy", "confidence") > 0.5
    assert measured == ["none", "none"]


def test_the_names_of_the_design():
    assert set(RECIPES) == {
        "none",
        "one_hot",
        "constant_per_label",
        "random_noise",
        "rounding",
        "top_k",
        "temperature",
        "release_below",
        "purifier",
        "purifier_keep_label",
        "purifier_paper",
        "purifier_i",
        "purifier_ii",
        "purifier_i_ii",
        "imitation",
        "memguard",
        "min_max",
        "model_stacking",
        "dp_sgd",
        "l2",
        "dropout",
        "label_smoothing",
        "early_stopping",
    }
    assert all(recipe_called(name).name == name for name in RECIPES)
    assert list(CATALOGUE) == RECIPES


def test_a_defence_in_training_is_measured_against_the_bare_target(counted):
    found = audit(recipes=["l2", "none", Recipe(Regularised(), name="plain")], **QUICK)
    assert found.value("plain", "distortion_l1") == 0
    assert found.value("none", "distortion_l1") == 0
    assert found.value("l2", "distortion_l1") > 0
    assert found.value("l2", "label_floor") == found.value("none", "label_floor")


def test_a_budget_is_reported(counted):
    pytest.importorskip("opacus")
    found = audit(recipes="none,dp_sgd", **QUICK)
    assert found.value("dp_sgd", "epsilon") > 0
    assert found.value("dp_sgd", "delta") == 1e-5
    assert found.value("none", "epsilon") is None


def test_without_the_strongest(counted):
    found = audit(recipes="none", **QUICK | {"strongest": False})
    assert found.value("none", "accuracy", "strongest") is None
    assert found.value("none", "accuracy", "confidence") > 0.5


def test_a_card_never_fills_in(counted, monkeypatch, tmp_path):
    def fails(*_):
        raise OSError("the disk is full")

    monkeypatch.setitem(card.PARTS, "V", fails)
    made = card.reproduce("digits", "V", progress=False)
    ours = made.lines[made.lines.table == "V"]
    assert ours.ours.isna().all()
    assert ours.note.str.contains("the disk is full").all()
    assert made.lines.ours.isna().all()
    held = json.loads((card.save_card(made, tmp_path) / "card.json").read_text())
    assert {line["table"] for line in held["lines"]} == set(card.PAPER)
    assert not any(line["ours"] for line in held["lines"])
    with pytest.raises(InputError, match="no table"):
        card.reproduce("digits", "X", progress=False)


def test_the_command_checks_before_it_works(tmp_path):
    from typer.testing import CliRunner

    from purification_nb.cli import app

    wrong = CliRunner().invoke(
        app, ["reproduce", "--tables", "XII", "--out", str(tmp_path / "card")]
    )
    assert wrong.exit_code == 2
    assert "no table 'XII'" in wrong.output
    assert not (tmp_path / "card").exists()
    (tmp_path / "file").touch()
    blocked = CliRunner().invoke(
        app, ["reproduce", "--tables", "VII", "--out", str(tmp_path / "file" / "card")]
    )
    assert blocked.exit_code == 2 and "cannot write" in blocked.output
