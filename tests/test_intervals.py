"""Intervals, pooled seeds, verdicts and failing cells, on numbers that can be worked out."""

import numpy as np
import pytest

from purification_nb.adversary import Attack, Knowledge
from purification_nb.attacks.membership import LabelAttack
from purification_nb.audit import report
from purification_nb.audit.run import audit
from purification_nb.audit.scores_only import audit_scores
from purification_nb.audit.verdicts import holm
from purification_nb.evaluation import evaluate, measured, strongest, try_on_known
from purification_nb.intervals import (
    LowFPR,
    Rate,
    folds_by_origin,
    origins_of,
    pooled,
    resampling_weights,
)
from purification_nb.records import Scored
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

SMALL = MLPTarget((32,), epochs=5)
QUICK = {"attacks": "label,confidence", "jobs": 1, "progress": False, "target": SMALL}


def answers(right, n, seed=0, k=10):
    """Answers of which this share is right, as a service would give them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    label = np.where(np.arange(n) < round(right * n), y, (y + 1) % k)
    top = 0.6 + 0.3 * rng.random(n)
    scores = np.repeat((1 - top)[:, None] / (k - 1), k, 1)
    scores[np.arange(n), label] = top
    return Scored(scores, y)


@pytest.mark.parametrize("n", [596, 598])
def test_equal_halves_have_the_interval_of_unequal_ones(n):
    members, nonmembers = answers(1.0, 598), answers(0.957, n, 1)
    floor = LabelAttack().fit(Knowledge(members, nonmembers))
    value, low, high = evaluate(floor, members, nonmembers)["accuracy"][:3]
    assert value == pytest.approx(0.5215, abs=1e-3)
    assert 0.5 < low < 0.515 and 0.527 < high < 0.54


def test_a_perfect_attack_on_few_records_is_not_certain():
    members, nonmembers = answers(1.0, 20), answers(0.0, 21, 1)
    floor = LabelAttack().fit(Knowledge(members, nonmembers))
    value, low, high = evaluate(floor, members, nonmembers)["accuracy"][:3]
    assert value == high == 1 and 0.8 < low < 0.97


def test_an_origin_is_drawn_alike_in_every_set():
    x = np.random.default_rng(0).random((30, 4))
    one = Scored(np.full((30, 2), 0.5), np.zeros(30), x)
    other = Scored(np.full((10, 2), 0.5), np.zeros(10), x[20:])
    first, second = (resampling_weights(origins_of(part)) for part in (one, other))
    assert (first[:, 20:] == second).all() and first.mean() == pytest.approx(1, abs=0.05)


def test_seeds_are_pooled_for_what_they_are_worth():
    rng = np.random.default_rng(0)
    hit = rng.random(400) < 0.7
    weights = resampling_weights(rng.integers(0, 2**62, (400, 1)).astype(np.uint64))
    alone = Rate.of([hit], [weights])
    fresh = [
        Rate.of([hit], [resampling_weights(rng.integers(0, 2**62, (400, 1)).astype(np.uint64))])
        for _ in range(4)
    ]
    assert pooled([alone] * 4).interval() == pytest.approx(alone.interval())
    low, high = pooled(fresh).interval()
    assert (high - low) / np.diff(alone.interval()) == pytest.approx(0.5, abs=0.06)


class Noise(Attack):
    """Scores that have nothing to do with membership."""

    name, needs, threshold_ = "noise", (), 0.5

    def score(self, scored):
        return np.random.default_rng(len(scored)).random(len(scored))


class TiedNoise(Noise):
    """The same in one decimal: a tenth of the records share each score."""

    def score(self, scored):
        return super().score(scored).round(1)


@pytest.mark.parametrize("attack", [Noise(), TiedNoise()])
def test_noise_finds_one_percent_at_one_percent(attack):
    found = []
    for run in range(60):
        sides = answers(0.9, 300 + run, run), answers(0.9, 150 + run, run + 1000)
        found.append(measured(attack, *sides).low_fprs[0.01])
    assert np.mean([one.value for one in found]) == pytest.approx(0.01, abs=0.004)
    covered = np.mean([one.interval()[0] <= 0.01 <= one.interval()[1] for one in found])
    assert covered > 0.9


def test_lots_decide_on_ties():
    members = np.repeat([3.0, 2.0, 1.0], [4, 57, 939])
    nonmembers = np.repeat([2.0, 1.0, 0.0], [19, 600, 380])
    sides = members, nonmembers
    # at 1 % of 999 one may accuse up to the tenth of 19 tied non-members: of tied members the half
    found = LowFPR.at(0.01, sides, [np.ones((2, len(one))) for one in sides])
    assert found.value == pytest.approx((4 + 57 * 10 / 20) / 1000)
    origins = [np.arange(len(one), dtype=np.uint64)[:, None] for one in sides]
    low, high = LowFPR.at(0.01, sides, [resampling_weights(one) for one in origins]).interval()
    assert 0.01 < low < 0.03 and 0.035 < high < 0.07


def test_holm_by_hand():
    # of three, the smallest must be at most a third of the level, the next a half
    assert holm([0.016, 0.024, 0.04], level=0.05) == [True, True, True]
    assert holm([0.017, 0.024, 0.04], level=0.05) == [False, False, False]
    assert holm([0.016, 0.026, 0.04], level=0.05) == [True, False, False]


def test_who_finds_nothing_goes_by_the_label():
    known = Knowledge(answers(0.95, 400), answers(0.9, 400, 1))
    attacks = [one.fit(known) for one in (LabelAttack(), Noise())]
    assert strongest(attacks, known).name == "label"


def test_a_wide_interval_is_no_all_clear():
    members, nonmembers = answers(0.95, 60), answers(0.9, 60, 1)
    with pytest.warns(UserWarning, match="not found to be better on its members"):
        found = audit_scores(
            members, nonmembers, attacks="label,confidence", seeds=1, jobs=1, progress=False
        )
    assert found.verdict("none")["verdict"] == "undecided"
    found.run["deciding_doubts"] = []  # whoever knows better
    assert "too little data to say" in found.conclusion()[1]


def failing_under(seed):
    """A defence that fails under one seed."""

    def defence(scored_d1, scored_d2, now):
        if now == seed:
            raise ValueError("no such luck")
        return lambda scores: scores

    return Recipe(SMALL, defence, "sometimes")


@pytest.mark.parametrize("order", [["none", 1], [1, "none"]], ids=["last", "first"])
def test_a_cell_that_fails_under_one_seed_is_a_line_and_nothing_else(order, tmp_path):
    recipes = [failing_under(1) if one == 1 else one for one in order]
    found = audit("digits", recipes, seeds=2, **QUICK)
    assert found.value("sometimes", "accuracy", "confidence") > 0.4
    (told,) = [one for one in found.sentences() if one.startswith("sometimes")]
    assert "failed under some of the seeds (ValueError: no such luck)" in told
    assert found.conclusion() and (report.save(found, tmp_path) / "report.html").exists()


def test_a_recipe_that_always_fails_may_come_first(tmp_path):
    def never(scored_d1, scored_d2, seed):
        raise ValueError("no such luck")

    found = audit("digits", [Recipe(SMALL, never, "never"), "none"], seeds=1, **QUICK)
    assert found.first == "none" and "the undefended service" in found.conclusion()[0]
    assert (report.save(found, tmp_path) / "report.html").exists()


def test_records_of_one_origin_are_in_one_fold():
    rng = np.random.default_rng(0)
    two_scans = rng.integers(0, 60, (500, 2))
    first, strict = (folds_by_origin(two_scans, 3, 5, apart) for apart in (False, True))
    for scan in range(60):
        assert len(set(first[two_scans[:, 0] == scan])) <= 1
        assert len(set(strict[(two_scans == scan).any(1) & (strict >= 0)])) <= 1
    assert set(first) == {0, 1, 2} and 0.2 < (strict >= 0).mean() < 0.5
    # equal rows without groups stem from one record
    rows = rng.random((40, 3))[rng.integers(0, 40, 200)]
    part = Scored(np.full((200, 2), 0.5), np.zeros(200, int), x=rows)
    fold = folds_by_origin(origins_of(part))
    for row in np.unique(rows, axis=0):
        assert len(set(fold[(rows == row).all(1)])) == 1


def test_choosing_works_on_a_handful_of_different_records():
    """Two members, many times each: there is nothing to keep apart."""
    scores = np.repeat([[0.9, 0.1], [0.8, 0.2]], 20, axis=0)
    part = Scored(scores, np.zeros(40, int), x=scores)
    tried = try_on_known(LabelAttack(), Knowledge(part, part))
    assert tried.complete and tried.accuracy == 0.5
