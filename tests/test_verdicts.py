"""Are an audit's sentences true? A small version of benchmarks/verdicts.py, with fixed seeds."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binom

import verdicts
from purification_nb.adversary import Knowledge
from purification_nb.attacks.membership import LabelAttack
from purification_nb.audit.run import audit
from purification_nb.epsilon import empirical_epsilon, epsilon_of_canaries, epsilon_of_rates
from purification_nb.evaluation import evaluate
from purification_nb.records import refused
from purification_nb.splits import split_sets
from verdicts import Plant, Setting

ORDINARY = (
    Setting(40, 40),
    Setting(41, 40, 2, 3),
    Setting(200, 200, 10, 3),
    Setting(598, 598),
    Setting(2_000, 2_000),
    Setting(500, 500, 10, 1, (4, 4), True),
)
REPEATED = (Setting(200, 200, 10, 1, (4, 4)), Setting(400, 400, 10, 1, (4, 1)))
POOLED = (Setting(200, 200, 10, 3), Setting(200, 200, 10, 3, (4, 4), True))


def by_chance(of: int, rate: float) -> int:
    """How many hits chance allows for: more come once in two hundred times."""
    return int(binom.ppf(0.995, of, rate))


@pytest.fixture(scope="module")
def ordinary():
    """Audits in which nobody leaks."""
    return verdicts.null_audits(18, 0, ORDINARY)


def test_the_headline_claims_no_leak_where_there_is_none(ordinary):
    assert ordinary.headline.sum() <= by_chance(len(ordinary), 0.05)


def test_no_sentence_claims_a_leak_where_there_is_none(ordinary):
    assert ordinary["any"].sum() <= by_chance(len(ordinary), 0.05)


def test_epsilon_is_not_bounded_away_from_0_where_nobody_leaks(ordinary):
    assert ordinary.epsilon.notna().all()
    assert ordinary.epsilon.sum() <= by_chance(len(ordinary), 0.05)


def test_equal_rows_are_one_record():
    found = verdicts.null_audits(8, 0, REPEATED)
    assert found[["headline", "any", "epsilon"]].sum().max() <= by_chance(len(found), 0.05)


def test_intervals_hold_the_truth_about_a_fixed_line():
    found = verdicts.coverage_of_evaluations(180, 0, ORDINARY)
    assert (~found.accuracy.astype(bool)).sum() <= by_chance(len(found), 0.07)


@pytest.mark.parametrize("sizes", [(299, 299), (299, 298)], ids=str)
def test_the_label_floor_has_an_interval_neither_too_narrow_nor_too_wide(sizes):
    plant, setting, rounds = Plant(0.0, (0.01, 0.08)), Setting(*sizes), 300
    missed = 0
    for number in range(rounds):
        sides = verdicts.both_sides(np.random.default_rng([7, number]), setting, plant)
        ends = evaluate(LabelAttack().fit(Knowledge(*sides)), *sides)["accuracy"][1:3]
        missed += not verdicts.holds(ends, plant.label_floor)
    assert binom.ppf(0.005, rounds, 0.02) <= missed <= by_chance(rounds, 0.07)


@pytest.fixture(scope="module")
def pooled():
    """Audits of three seeds, in which something leaks."""
    return verdicts.coverage_of_audits(20, 0, POOLED)


@pytest.mark.parametrize("what", ["label floor", "accuracy", "over the floor"])
def test_pooled_intervals_hold_the_truth(pooled, what):
    assert (~pooled[what].astype(bool)).sum() <= by_chance(len(pooled), 0.07)


def test_three_seeds_know_more_than_one():
    # Three halvings leave 7 records in 8 to measure on: the interval shrinks to .82 of one seed's.
    sides = verdicts.both_sides(np.random.default_rng(0), Setting(400, 400), verdicts.LEAK)
    table = verdicts.quiet_audit(*sides, "label,confidence", 3).table
    rows = table[(table.attack == "confidence") & (table.metric == "accuracy")]
    width = (rows.high - rows.low).astype(float)
    assert 0.7 < width[rows.seed.isna()].item() / width[rows.seed.notna()].mean() < 0.95


def test_planted_leaks_are_found():
    found = verdicts.planted_leaks(6, 0, (0.60, 0.90))
    assert found.found.all() and found["off by"].abs().max() < 0.03
    assert abs(found["off by"].mean()) < 0.015


def test_a_shift_is_no_leak_and_both_are_told_apart():
    found = verdicts.shifts_and_leaks(8, 0)
    shift, leak = found.world.isin(["a shift", "both"]), found.world.isin(["a leak", "both"])
    assert (found["says a shift"] == shift).all()
    assert (found["says a leak"] == leak).all()


@pytest.mark.parametrize(
    "verdict, attack, recipe, claims",
    [
        ("leaks", "strongest", "none", (True, True)),
        ("leaks", "entropy", "none", (False, True)),
        ("leaks", "strongest", "one_hot", (False, True)),
        ("undecided", "strongest", "none", (False, False)),
    ],
)
def test_a_claim_is_read_off_the_verdicts(verdict, attack, recipe, claims):
    table = pd.DataFrame({"recipe": [recipe], "attack": [attack], "verdict": [verdict]})
    found = SimpleNamespace(verdicts=lambda: table, recipes=["none", "one_hot"], run={})
    assert verdicts.claims_of(found)[:2] == claims


def private(d1, d2, seed):
    """A service that promises an epsilon, and keeps no promise."""
    service = verdicts.HardnessTarget(2.0)(d1, d2, seed)
    return replace(service, info={"epsilon": 0.5, "delta": 1e-3})


@pytest.mark.parametrize("target", [private, verdicts.HardnessTarget(2.0)], ids=["promised", "not"])
def test_a_measured_epsilon_stands_beside_a_promised_one(target):
    rng = np.random.default_rng(0)
    sets = [verdicts.people(rng, n) for n in (600, 100, 600)]
    found = audit(
        lambda seed: split_sets(*sets, seed),
        "none",
        "label,confidence",
        seeds=2,
        target=target,
        jobs=1,
        progress=False,
    )
    table = found.table[found.table.metric == "empirical_epsilon"]
    of_seeds, of_both = table[table.seed.notna()].value, table[table.seed.isna()].value.item()
    assert len(of_seeds) == 2 and 0.5 < of_both <= of_seeds.max()
    summary = found.summary()
    columns = ["epsilon at most (promised)", "epsilon at least (measured)"]
    if target is private:
        assert summary.loc["none", columns].tolist() == [0.5, of_both]
    else:
        assert not set(columns) & set(summary.columns)


def told(rng, n, epsilon):
    """Scores of members and of others under randomised response."""
    honest = expit(epsilon)
    return (rng.random(n) < honest) * 1.0, (rng.random(n) >= honest) * 1.0


def test_a_bound_on_epsilon_is_one_and_comes_close():
    bounds = []
    for run in range(200):
        rng = np.random.default_rng(run)
        bounds.append(empirical_epsilon(*told(rng, 3_000, 1.0), known=told(rng, 3_000, 1.0)))
    assert np.mean(np.array(bounds) <= 1.0) >= 0.95 - 0.03
    assert np.median(bounds) > 0.88


def test_bounds_without_known_records_rest_on_half_of_them():
    rng = np.random.default_rng(0)
    scores, known = told(rng, 2_000, 1.0), told(rng, 2_000, 1.0)
    alone, beside = empirical_epsilon(*scores), empirical_epsilon(*scores, known=known)
    assert 0.5 < alone < beside
    assert empirical_epsilon(*scores) == alone  # the halving is seeded


def test_copies_of_a_record_count_once_where_groups_say_so():
    rng = np.random.default_rng(0)
    scores, known = told(rng, 100, 2.0), told(rng, 100, 2.0)
    copied = tuple(np.repeat(side, 8) for side in scores)
    ids = np.repeat(np.arange(100), 8)[:, None]
    once = empirical_epsilon(*scores, known=known)
    as_one = empirical_epsilon(*copied, known=known, groups=(ids, ids + 100))
    assert 0.5 < as_one < 1.15 * once < empirical_epsilon(*copied, known=known)


def test_rates_and_counts_by_hand():
    # 30 of 100 members and 5 of 100 others claimed, no delta: log(0.3 / 0.05); with delta 0.05:
    # log(0.25 / 0.05). Acquittals say less: 0.95 / 0.7.
    assert epsilon_of_rates(0.3, 0.05, 0.0) == pytest.approx(np.log(6))
    assert epsilon_of_rates(0.3, 0.05, 0.05) == pytest.approx(np.log(5))
    # Ten right guesses of ten: q ** 10 = 0.05 where q = 0.741, and log(q / (1 - q)) = 1.052.
    assert epsilon_of_canaries(10, 10, 10, delta=0.0) == pytest.approx(1.0521, abs=1e-3)
    # Of two guesses both right, three canaries, delta 0.001: the chance under epsilon is
    # q ** 2 + 2 * 3 * 0.001 * max(2 q (1 - q), (2 q (1 - q) + (1 - q) ** 2) / 2). With epsilon = 0
    # that is 0.25 + 0.006 * 0.5 = 0.253: refuted at level 0.74, not at 0.75.
    assert epsilon_of_canaries(2, 2, 3, delta=0.001, level=0.74) > 0
    assert epsilon_of_canaries(2, 2, 3, delta=0.001, level=0.75) == 0


def test_what_no_bound_can_be_computed_from_is_refused():
    scores = np.arange(4.0)
    nan = np.array([0.0, np.nan])
    assert "finite" in refused(lambda: empirical_epsilon(scores, nan))
    assert "two members" in refused(lambda: empirical_epsilon(scores[:1], scores))
    assert "delta" in refused(lambda: empirical_epsilon(scores, scores, delta=1.0))
    ids = np.arange(4)[:, None]
    assert "known" in refused(lambda: empirical_epsilon(scores, scores, groups=(ids, ids)))
    assert "canaries" in refused(lambda: epsilon_of_canaries(5, 4, 10))
