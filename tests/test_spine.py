"""The main job, end to end: what the first issue says it must show, on two seeds."""

import json
from pathlib import Path

import forked
import numpy as np
import pytest

from purification_nb.attacks import catalogue
from purification_nb.audit import run
from purification_nb.cache import cache_folder

RECIPES = {
    "none",
    "one_hot",
    "constant_per_label",
    "release_below",
    "purifier",
    "purifier_keep_label",
    "imitation",
    "dropout",
}
THRESHOLDS = [
    name + end
    for name in ("confidence", "entropy", "modified_entropy")
    for end in ("", "_per_class")
]
CHOSEN = {"strongest", "strongest_at_low_fpr"}
ATTACKS = {
    None,
    "label",
    *THRESHOLDS,
    "nsh_log",
    "boosted",
    "neighbours",
    "calibrated",
    "inversion",
    *CHOSEN,
}
METRICS = {
    "accuracy",
    "auc",
    "tpr_at_fpr_0.01",
    "tpr_at_fpr_0.001",
    "inversion_error_members",
    "inversion_error_nonmembers",
    "train_accuracy",
    "test_accuracy",
    "label_flips_members",
    "label_flips_nonmembers",
    "distortion_l1",
    "distortion_l2",
    "distortion_l1_members",
    "distortion_l2_members",
    "ssim_members",
    "ssim_nonmembers",
    "dispersion",
    "reidentified_members",
    "reidentified_nonmembers",
    "inversion_error_reference",
    "label_only_inversion_error_reference",
    "label_floor",
    "difficulty_floor",
    "tpr_floor_at_fpr_0.01",
    "tpr_floor_at_fpr_0.001",
    "label_only_inversion_error",
    "label_only_inversion_error_nonmembers",
    "mean_image_error",
    "mean_image_error_nonmembers",
    "train_seconds",
    "query_seconds",
    "ece",
    "nll",
    "mean_top_score",
    "mean_top_score_undefended",
    "label_only_distortion_l1",
    "over_floor",
    "over_blind",
    "blind_floor",
    "empirical_epsilon",
    "inversion_error_over_label_only",
    "inversion_error_over_label_only_nonmembers",
    *(
        f"reidentified_over_label_only_{who}{end}"
        for who in ("members", "nonmembers")
        for end in ("", "_exposed")
    ),
    *(
        f"{kind}reidentified_{who}{end}"
        for kind in ("", "label_only_")
        for who in ("members", "nonmembers")
        for end in ("", "_exposed")
    ),
}


def command(folder, *arguments):
    """Run the audit as a user does and read its results file."""
    done = forked.command("audit", "--out", folder, *arguments, timeout=1500)
    assert done.returncode == 0, done.stderr
    return json.loads((Path(folder) / "audit.json").read_text()), done.stdout


def number(results, recipe, metric, attack=None, what="value"):
    """Give one number of the pooled rows."""
    (row,) = [
        r
        for r in results["rows"]
        if r["seed"] is None and (r["recipe"], r["metric"], r["attack"]) == (recipe, metric, attack)
    ]
    return row[what]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run what `make demo` runs, on two of its three seeds, one thing at a time."""
    return command(tmp_path_factory.mktemp("demo"), "--seeds", "2", "--jobs", "1")


@pytest.fixture(scope="module")
def pairs(demo):
    """Give the results file of the demo."""
    return demo[0]


def leak(results, recipe):
    """Give how far the strongest attack gets above the bare service's label floor."""
    return number(results, recipe, "accuracy", "strongest") - number(results, "none", "label_floor")


def test_the_results_file_has_the_names_of_the_design(pairs):
    rows = pairs["rows"]
    assert {r["recipe"] for r in rows} == RECIPES
    assert {r["attack"] for r in rows} == ATTACKS
    assert {r["metric"] for r in rows} == METRICS
    assert {r["seed"] for r in rows} == {0, 1, None}
    errors = {(r["metric"], r["error"]) for r in rows if r["error"]}
    assert {metric for metric, _ in errors} == {"tpr_at_fpr_0.001", "tpr_floor_at_fpr_0.001"}
    assert all("10000 non-members" in why for _, why in errors)
    for r in rows:
        assert (r["value"] is None) == (r["error"] is not None)
        if r["low"] is not None:
            assert r["low"] - 1e-9 <= r["value"] <= r["high"] + 1e-9, r


def test_the_data_itself_leaks_nothing(pairs):
    for _, low, high in pairs["run"]["controls"]["true_label"].values():
        assert low <= 0.5 <= high


def test_the_target_learns_and_leaks(pairs):
    assert number(pairs, "none", "test_accuracy") >= 0.82
    assert 0.55 <= number(pairs, "none", "label_floor") <= 0.59
    assert number(pairs, "none", "accuracy", "strongest") >= 0.64


def test_the_trained_attack_is_not_under_trained(pairs):
    best = max(number(pairs, "none", "accuracy", name) for name in THRESHOLDS)
    assert number(pairs, "none", "accuracy", "nsh_log") >= best - 0.02


def test_the_purifier_takes_the_leak_out(pairs):
    assert leak(pairs, "purifier") <= 0.05 and leak(pairs, "purifier_keep_label") <= 0.05
    over = np.array(list(pairs["run"]["inversion_error_over_label_only"]["purifier"].values()))
    assert over[:, 0].mean() >= 0.95 and over[:, 2].mean() >= 0.98


def test_records_cannot_be_told_apart_behind_it(pairs):
    found = {
        recipe: number(pairs, recipe, "reidentified_members", "inversion")
        for recipe in ("none", "one_hot", "purifier")
    }
    assert found["none"] >= 0.38
    assert abs(found["one_hot"] - 0.1) < 0.02
    assert abs(found["purifier"] - found["one_hot"]) <= 0.03


def test_accuracy_is_kept(pairs):
    bare = number(pairs, "none", "test_accuracy")
    assert bare - number(pairs, "purifier", "test_accuracy") <= 0.02
    assert number(pairs, "purifier_keep_label", "test_accuracy") == bare
    assert (
        number(pairs, "purifier_keep_label", "label_flips_members")
        == number(pairs, "purifier_keep_label", "label_flips_nonmembers")
        == 0
    )


def test_ours_protects_all_and_distorts_nonmembers_less(pairs):
    assert leak(pairs, "imitation") <= 0.02  # planned for 0.01; three seeds
    assert number(pairs, "imitation", "test_accuracy") == number(pairs, "none", "test_accuracy")
    for norm in ("distortion_l1", "distortion_l2"):
        assert number(pairs, "imitation", norm) < min(
            number(pairs, recipe, norm)
            for recipe in ("one_hot", "constant_per_label", "purifier", "purifier_keep_label")
        )
    more = {
        end: np.mean(
            list(pairs["run"]["reidentified_over_label_only"][end]["imitation"].values()), 0
        )
        for end in ("members", "nonmembers")
    }
    assert all(low <= 0.01 for _, low, _ in more.values())
    assert all(mean <= 0.02 for mean, _, _ in more.values())
    assert number(pairs, "imitation", "ece") < number(pairs, "purifier_keep_label", "ece")


def test_a_defence_in_training_changes_the_classifier(pairs):
    assert leak(pairs, "dropout") < leak(pairs, "none") - 0.04
    assert number(pairs, "dropout", "test_accuracy") > number(pairs, "none", "test_accuracy")
    assert number(pairs, "dropout", "distortion_l1") > 0.1
    assert number(pairs, "dropout", "label_floor") == number(pairs, "none", "label_floor")


def test_nothing_is_below_the_floor_that_should_not_be(pairs):
    for recipe in ("one_hot", "constant_per_label"):
        assert abs(leak(pairs, recipe)) < 1e-9


def test_the_same_table_again_from_remembered_networks_and_two_at_a_time(pairs, tmp_path):
    for file in cache_folder().glob("cell-*"):
        file.unlink()  # networks are remembered, what was measured is not
    some = ("none", "purifier_keep_label", "imitation", "dropout")
    again, _ = command(tmp_path, "--jobs", "2", "--seeds", "1", "--recipes", ",".join(some))

    def timeless(results):
        """All a results file says of these recipes and the first seed, but for the seconds."""
        return sorted(
            json.dumps(row, sort_keys=True)
            for row in results["rows"]
            if row["recipe"] in some
            and row["seed"] == 0
            and not row["error"]
            and not row["metric"].endswith("_seconds")
        )

    assert len(timeless(again)) > 100 and timeless(again) == timeless(pairs)


def test_what_is_printed_is_what_is_written(demo):
    results, said = demo
    over = f"{number(results, 'purifier', 'over_floor', 'strongest'):+.3f}".replace("0.", ".", 1)
    assert any(line.startswith("purifier ") and over in line for line in said.splitlines())
    assert max(map(len, said.splitlines())) <= 100
    assert "report.html" in said


def test_location30(data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_DATA", str(data_folder))
    results, _ = command(
        tmp_path,
        "--data",
        "location30",
        "--seeds",
        "1",
        "--recipes",
        "none,purifier_keep_label",
        "--attacks",
        ",".join(["label", *THRESHOLDS, "nsh_log", "boosted", "neighbours"]),
    )
    assert number(results, "none", "accuracy", "strongest") >= 0.80
    assert leak(results, "purifier_keep_label") <= 0.05


def test_an_attack_that_fails_does_not_take_the_others_down(monkeypatch):
    class Broken(catalogue.ATTACKS["confidence"]().__class__):
        def score(self, scored):
            raise ArithmeticError("on purpose")

    monkeypatch.setitem(catalogue.ALL_ATTACKS, "entropy", Broken)
    table = run.audit("digits", "none", "label,entropy", seeds=1, jobs=1, progress=False).table
    failed = table[table.attack == "entropy"]
    assert failed.value.isna().all() and failed.error.str.contains("on purpose").all()
    assert table[(table.attack == "label") & (table.metric == "accuracy")].value.notna().all()
