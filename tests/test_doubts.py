"""What makes one doubt the input of an audit, what decides, and what must not be doubted."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB

from purification_nb.adversary import Knowledge
from purification_nb.attacks.blind import Blind
from purification_nb.audit.doubts import Doubt, distinct_doubts, doubts_about, independent_rows
from purification_nb.audit.exports import difference_of_exports
from purification_nb.audit.repeated_rows import records_of_rows, told_digits
from purification_nb.audit.run import audit
from purification_nb.audit.score_files import check_shared
from purification_nb.audit.scores_only import audit_scores
from purification_nb.audit.shift import measure_shift, shift_doubt
from purification_nb.datasets import load
from purification_nb.records import InputError, Records, Scored
from purification_nb.repeats import chance_of_sharing, row_names
from purification_nb.splits import PARTS, digit_pairs, split_records, split_sets
from purification_nb.targets import MLPTarget
from purification_nb.trained import check_class_order

CANNOT_SAY = "Whether its scores leak cannot be said while the doubt above stands."


def answers(n, seed, k=5, sure=2.0, right=0.85):
    """Answers of a model to n records, right in so many cases; `sure` spreads its logits."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    logits = rng.normal(0, sure, (n, k))
    best = np.where(rng.random(n) < right, y, (y + rng.integers(1, k, n)) % k)
    logits[np.arange(n), best] = logits.max(1) + rng.exponential(sure, n)
    return Scored(softmax(logits, 1), y)


def rounded(part, decimals):
    """The same answers with so many decimals; what is missing to 1 goes to the top score."""
    scores = part.scores.round(decimals)
    scores[np.arange(len(part)), scores.argmax(1)] += 1 - scores.sum(1)
    return Scored(scores.round(decimals), part.y)


def copied(part, times):
    """Every row so many times, as a log of repeated requests has it."""
    return part[np.random.default_rng(0).permutation(np.repeat(np.arange(len(part)), times))]


def scores_audit(*sets, attacks="label,confidence,neighbours", seeds=1):
    """An audit of scores alone, without its warnings."""
    with warnings.catch_warnings(action="ignore"):
        return audit_scores(*sets, attacks=attacks, seeds=seeds, jobs=1, progress=False)


@pytest.fixture(scope="module")
def digits():
    """Give single digits, and a forest fitted on their D1."""
    split = load("digits", 0)
    forest = RandomForestClassifier(30, random_state=0, n_jobs=1)
    return split, forest.fit(split.d1.x.reshape(len(split.d1), -1), split.d1.y)


# Repeated rows, repeated records


@pytest.mark.parametrize("times", [(4, 4), (2, 2), (4, 1)], ids=["four", "two", "members only"])
def test_copies_of_nonmembers_are_no_leak(times):
    ours, theirs = (copied(answers(50, seed), n) for seed, n in zip((1, 2), times, strict=True))
    found = scores_audit(ours, theirs)
    said = " ".join(found.conclusion())
    assert "So its scores leak" not in said
    assert f"{50 * (times[0] - 1)} of {50 * times[0]} rows of the members repeat" in said
    assert found.value("none", "accuracy", "neighbours", "low") <= 0.5


def test_without_that_the_copies_were_a_leak():
    ours, theirs = (copied(answers(50, seed), 4) for seed in (1, 2))
    apart = [
        Scored(part.scores, part.y, groups=np.arange(i, i + 200))
        for i, part in ((0, ours), (200, theirs))
    ]
    assert scores_audit(*apart).value("none", "accuracy", "neighbours") > 0.8


def test_a_group_column_has_precedence():
    ours, theirs = copied(answers(60, 1), 2), copied(answers(60, 2), 2)
    ours = Scored(ours.scores, ours.y, groups=np.arange(120))
    remarks = scores_audit(ours, theirs, attacks="label").run["remarks"]
    assert len(remarks) == 2 and "of the nonmembers repeat" in remarks[0]


def test_coarse_answers_are_not_taken_for_one_record():
    coarse = {
        "one-hot": [
            Scored(np.eye(5)[p.scores.argmax(1)], p.y) for p in map(answers, [400] * 2, (1, 2))
        ],
        "two classes, two decimals": [rounded(answers(400, s, k=2), 2) for s in (1, 2)],
        "three classes, one decimal": [rounded(answers(400, s, k=3), 1) for s in (1, 2)],
    }
    for ours, theirs in coarse.values():
        assert len(np.unique(records_of_rows(ours, theirs))) >= 395
    fine = answers(400, 1)
    assert len(np.unique(records_of_rows(copied(fine, 3), coarse["one-hot"][1]))) == 400


def test_members_that_are_surer_stay_apart():
    """A leak shows in saturated answers, which repeat among members alone."""
    sure = Scored(softmax(np.eye(5)[np.arange(300) % 5] * 200, 1), np.arange(300) % 5)
    assert (
        len(np.unique(records_of_rows(sure, answers(300, 2)))) > 290
        or told_digits(sure.scores[0]) >= 3
    )
    exact = Scored(np.eye(5)[np.arange(300) % 5], np.arange(300) % 5)
    assert len(np.unique(records_of_rows(exact, answers(300, 2)))) == 300


def test_copies_of_coarse_answers_are_bundled():
    few = rounded(answers(80, 1, k=2), 2)
    record = records_of_rows(copied(few, 4), answers(80, 2, k=2))
    assert (np.bincount(record) == 4).all() and len(np.unique(record)) == 80


def test_repeated_records_have_one_group_and_stay_on_one_side():
    rng = np.random.default_rng(0)
    sets = [
        Records(np.repeat(rng.random((60, 4)), 3, 0), np.arange(180) // 3 % 3) for _ in range(3)
    ]
    for split in (split_sets(*sets), split_records(sets[0])):
        assert "repeat another one" in split.notes[0]
        ids = [set(getattr(split, part).groups.ravel().tolist()) for part in PARTS]
        assert sum(map(len, ids)) == len(set.union(*ids))
        assert all(
            len(getattr(split, part)) == 3 * len(i) for part, i in zip(PARTS, ids, strict=True)
        )
    assert split_sets(*(part[::3] for part in sets)).notes == ()


def test_an_audit_of_repeated_records_says_so(digits):
    split, forest = digits
    d1 = split.d1[np.repeat(np.arange(100), 2)]
    parts = split_sets(d1, split.d2, split.d3)
    with warnings.catch_warnings(action="ignore"):
        found = audit(parts, "none", "label", 1, forest, jobs=1, progress=False)
    assert "100 of the" in found.run["remarks"][0] and found.run["remarks"][0] in found.conclusion()


def test_a_few_twins_are_set_aside_and_many_refused():
    rng = np.random.default_rng(0)
    sets = [Records(rng.random((1500, 4)), np.arange(1500) % 3) for _ in range(3)]
    twin = Records(np.r_[sets[2].x[:-1], sets[0].x[:1]], sets[2].y)
    split = split_sets(sets[0], sets[1], twin)
    assert len(split.d1) == len(split.d3) == 1499 and "were set aside" in split.notes[0]
    many = Records(np.r_[sets[2].x[:-60], sets[0].x[:60]], sets[2].y)
    with pytest.raises(InputError, match="overlap: they share"):
        split_sets(sets[0], sets[1], many)
    in_reference = split_sets(
        sets[0], Records(np.r_[sets[1].x, sets[0].x[:1]], np.arange(1501) % 3), sets[2]
    )
    assert len(in_reference.d1) == len(in_reference.d2) == 1500


# Two exports


def six_digits(scores):
    """As printf's %.6g writes them."""
    return np.array([[float(f"{p:.6g}") for p in row] for row in scores])


EXPORTS = {
    "%.4f": lambda scores: scores.round(4),
    "%.6f": lambda scores: scores.round(6),
    "%.6g": six_digits,
    "clipped at 1e-7": lambda scores: scores.clip(1e-7, 1 - 1e-7),
    "float32": lambda scores: scores.astype(np.float32),
}


def exported(part, name):
    """A part as this program writes it."""
    return Scored(EXPORTS[name](part.scores), part.y)


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("n", [60, 500])
def test_two_exports_are_told_apart(name, n):
    one, other = answers(n, 1, sure=6.0), answers(n, 2, sure=6.0)
    assert difference_of_exports(exported(one, name), other)
    assert difference_of_exports(other, exported(one, name))
    assert difference_of_exports(one, other) is None
    assert difference_of_exports(exported(one, name), exported(other, name)) is None


def test_two_exports_decide():
    one, other = exported(answers(200, 1), "%.4f"), answers(200, 2)
    found = scores_audit(one, other, attacks="label,confidence")
    assert "not written alike" in found.run["deciding_doubts"][0] == found.conclusion()[0]
    assert CANNOT_SAY in " ".join(found.conclusion())


@pytest.fixture(scope="module")
def pairs():
    """Give real answers about members and non-members of digit_pairs."""
    split = digit_pairs(0)
    service = MLPTarget()(split.d1, split.d2, 0)
    return service.answer(split.d1), service.answer(split.d3)


def test_surer_members_of_one_export_are_not_doubted(pairs):
    assert difference_of_exports(*pairs) is None
    for name in EXPORTS:
        parts = [Scored(EXPORTS[name](part.scores), part.y) for part in pairs]
        assert difference_of_exports(*parts) is None, name


def test_forests_are_not_doubted(digits):
    split, _ = digits
    x = [part.x.reshape(len(part), -1) for part in (split.d1, split.d3)]
    for options in (
        {"n_estimators": 100},
        {"n_estimators": 20, "bootstrap": False},
        {"max_depth": 5},
    ):
        forest = RandomForestClassifier(**({"n_estimators": 30} | options), random_state=0)
        forest.fit(x[0], split.d1.y)
        parts = [
            Scored(forest.predict_proba(table), part.y)
            for table, part in zip(x, (split.d1, split.d3), strict=True)
        ]
        assert difference_of_exports(*parts) is None, options


def test_one_export_is_hardly_ever_taken_for_two():
    found = [
        difference_of_exports(
            exported(answers(80, 2 * s, sure=4), name),
            exported(answers(80, 2 * s + 1, sure=3), name),
        )
        for s in range(60)
        for name in ("%.4f", "clipped at 1e-7", "float32")
    ]
    assert sum(one is not None for one in found) <= 1


# Shifts


def unanswered(x, y=None):
    """Records with answers that say nothing."""
    y = np.zeros(len(x), int) if y is None else y
    return Scored(np.full((len(x), 2), 0.5), y, x.astype(np.float32))


def shift_of(inside, outside, seed=0):
    """What the blind attacker makes of two sets of records, in halves."""
    halves = [np.array_split(side, 2) for side in (inside, outside)]
    known = Knowledge(*(unanswered(half[0]) for half in halves), seed=seed)
    return measure_shift(known, tuple(unanswered(half[1]) for half in halves))


def test_a_shift_is_seen_and_its_absence_is_not():
    rng = np.random.default_rng(0)
    blind, row, seen = shift_of(rng.normal(size=(400, 6)), rng.normal(0.4, 1, (400, 6)))
    assert seen and row["metric"] == "blind_floor" and 0.6 < row["value"] < 0.85
    assert isinstance(blind, Blind)
    alarms = [
        shift_of(rng.normal(size=(120, 3)), rng.normal(size=(120, 3)), seed)[2]
        for seed in range(12)
    ]
    assert sum(alarms) <= 1


def test_there_is_no_shift_in_the_data_sets():
    for name, seeds in (("digit_pairs", (0, 1)), ("digits", (0, 1, 2))):
        for seed in seeds:
            split = load(name, seed)
            halves = [
                unanswered(getattr(split, part).x, np.zeros(len(getattr(split, part)), int))
                for part in PARTS
                if part != "d2"
            ]
            groups = [getattr(split, part).groups for part in PARTS if part != "d2"]
            parts = [
                Scored(half.scores, half.y, half.x, group)
                for half, group in zip(halves, groups, strict=True)
            ]
            _, row, seen = measure_shift(
                Knowledge(parts[0], parts[2], seed=seed), (parts[1], parts[3])
            )
            assert not seen and 0.4 < row["value"] < 0.6, (name, seed, row)


def test_an_audit_tells_a_shift_and_leaves_the_conclusion_to_the_floors(digits):
    split, forest = digits
    later = split_sets(split.d1, split.d2, Records(0.8 * split.d3.x + 0.1, split.d3.y, 10))
    with pytest.warns(UserWarning, match="differ before any model has answered"):
        found = audit(later, "none", "label", 1, forest, jobs=1, progress=False)
    assert found.run["shift"] and found.value("none", "blind_floor") > 0.9
    assert len(found.run["doubts"]) == 1 and found.run["deciding_doubts"] == []
    assert shift_doubt([True, False], [0.6, 0.5]).decides is False
    assert shift_doubt([True, False, False], [0.6, 0.5, 0.5]) is None


def test_with_scores_alone_a_shift_is_remarked_on_and_not_looked_for():
    found = scores_audit(answers(100, 1), answers(100, 2), attacks="label")
    assert "cannot be told from a leak" in found.conclusion()[-1]
    assert found.run["shift"] is False and found.value("none", "blind_floor") is None


# The very file twice


@pytest.mark.parametrize("k, decimals", [(2, 2), (3, 1), (2, 1), (10, 0), (5, 12)])
def test_the_very_file_is_refused_at_any_rounding(k, decimals):
    part = rounded(answers(600, 1, k), decimals)
    for rows in (np.arange(600), np.random.default_rng(0).permutation(600)):
        with pytest.raises(InputError, match="the same records seem to be in both"):
            check_shared(part, part[rows])


def test_chance_twins_are_hardly_ever_refused():
    chances = [
        chance_of_sharing(
            *(row_names(rounded(answers(300, 2 * s + i, k), d).scores) for i in (0, 1))
        )
        for s in range(20)
        for k, d in ((2, 2), (3, 1), (10, 1))
    ]
    assert np.mean(np.array(chances) < 0.01) <= 0.02 and min(chances) > 1e-4


def test_twenty_shared_rows_are_refused_beside_repeated_ones():
    ours, theirs = answers(300, 1), answers(300, 2)
    mixed = Scored(np.r_[theirs.scores, ours.scores[:20]], np.r_[theirs.y, ours.y[:20]])
    with pytest.raises(InputError, match="20 rows"):
        check_shared(ours, mixed)
    check_shared(ours, Scored(np.r_[theirs.scores, ours.scores[:2]], np.r_[theirs.y, ours.y[:2]]))


# Exchanged classes


def renamed(part, *exchanged):
    """Columns of these classes moved on by one, the last to the first."""
    order = np.arange(part.k)
    order[list(exchanged)] = np.roll(exchanged, 1)
    return Scored(part.scores[:, order], part.y)


@pytest.mark.parametrize("exchanged", [(3, 7), (1, 4, 8), (0, 1), tuple(range(10))])
def test_exchanged_columns_are_named(exchanged):
    part = answers(600, 1, k=10, right=0.95)
    with pytest.raises(InputError, match="columns were in another order") as refused:
        check_class_order(renamed(part, *exchanged))
    assert f"column {exchanged[0]} for label" in str(refused.value)


def test_weak_models_and_rare_classes_pass():
    for seed in range(100):
        check_class_order(answers(200, seed, k=10, right=0.3))
        check_class_order(answers(60, seed, k=2, right=0.5))
        part = answers(400, seed, k=10, right=0.9)
        never = part.scores.copy()
        never[:, 4] = 0
        check_class_order(Scored(never / never.sum(1, keepdims=True), part.y))


# Swapped sets, members that are none


def right_in(n, right, k=2, groups=None):
    """n answers of which so many are right, all equally sure."""
    y = np.arange(n) % k
    said = np.where(np.random.default_rng(0).permutation(n) < right, y, (y + 1) % k)
    return Scored(np.eye(k)[said] * 0.5 + 0.5 / k, y, groups=groups)


@pytest.mark.parametrize("n", [598, 600])
def test_swapped_sets_are_seen_at_equal_sizes_too(n):
    members, nonmembers = right_in(600, 600), right_in(n, round(0.957 * n))
    (doubt,) = doubts_about(nonmembers, members, trained=True)
    assert doubt.decides and "have the two been swapped?" in doubt.text
    assert doubts_about(members, nonmembers, trained=True) == []


@pytest.mark.parametrize(("records", "decides"), [(99, False), (100, True)])
def test_few_records_decide_nothing_about_whose_members_they_are(records, decides):
    alike = right_in(records, records), right_in(records, records)
    (doubt,) = doubts_about(*alike, trained=True)
    assert "100.0% and 100.0%" in doubt.text and doubt.decides is decides


@pytest.mark.parametrize(("certain", "says"), [(0.4, None), (0.6, "exactly 1 on 60% of D3")])
def test_a_network_that_is_certain_of_what_it_never_saw_is_asked_how_records_are_scaled(
    certain, says
):
    members, nonmembers = right_in(600, 600), right_in(600, 570)
    first = slice(round(600 * certain))
    nonmembers.scores[first] = np.eye(nonmembers.k)[nonmembers.scores[first].argmax(1)]
    assert doubts_about(members, nonmembers, trained=True) == []
    doubts = doubts_about(members, nonmembers, trained=True, network=True)
    assert not any(doubt.decides for doubt in doubts)
    assert [says in doubt.text for doubt in doubts] == [True] * (says is not None)


def test_the_swap_decides_in_both_audits(digits):
    split, forest = digits
    swapped = split_sets(split.d3, split.d2, split.d1)
    with warnings.catch_warnings(action="ignore"):
        found = audit(swapped, "none", "label,confidence", 1, forest, jobs=1, progress=False)
    scored = [
        Scored(forest.predict_proba(part.x.reshape(len(part), -1)), part.y)
        for part in (split.d3, split.d1)
    ]
    for one in (found, scores_audit(*scored, attacks="label,confidence")):
        assert "have the two been swapped?" in one.run["deciding_doubts"][0]
        assert CANNOT_SAY in " ".join(one.conclusion())


def test_members_that_are_none_decide_in_both_audits(digits):
    split, _ = digits
    x = np.concatenate([part.x.reshape(len(part), -1) for part in (split.d1, split.d2, split.d3)])
    y = np.concatenate([part.y for part in (split.d1, split.d2, split.d3)])
    everyone = RandomForestClassifier(30, random_state=0).fit(x, y)
    with warnings.catch_warnings(action="ignore"):
        found = audit(split, "none", "label,confidence", 1, everyone, jobs=1, progress=False)
    scored = [
        Scored(everyone.predict_proba(part.x.reshape(len(part), -1)), part.y)
        for part in (split.d1, split.d3)
    ]
    for one in (found, scores_audit(*scored, attacks="label,confidence")):
        assert "was not found to be better on its members (D1)" in one.run["deciding_doubts"][0]
        assert CANNOT_SAY in " ".join(one.conclusion())


def test_a_model_that_leaks_in_sureness_alone_is_no_doubt():
    y = np.arange(300) % 2
    top = [
        0.8 + 0.15 * np.random.default_rng(s).random(300) + more for s, more in ((0, 0.03), (1, 0))
    ]
    parts = [Scored(np.where(np.eye(2)[y] == 1, t[:, None], 1 - t[:, None]), y) for t in top]
    assert doubts_about(*parts, trained=True) == []


def test_records_of_one_origin_count_once():
    """Two people, fifty pictures each: no evidence of a swap."""
    people = np.repeat([0, 1], 50)
    members, nonmembers = right_in(100, 50, groups=people), right_in(100, 100, groups=people + 2)
    assert [d.about for d in doubts_about(members, nonmembers, trained=False)] == []
    assert len(independent_rows(people, 100)) == 2


def test_clean_input_is_hardly_ever_doubted():
    found = []
    for seed in range(150):
        members = answers(200, 2 * seed, right=0.9)
        nonmembers = answers(150, 2 * seed + 1, right=0.9)
        found.append(doubts_about(members, nonmembers, trained=False))
    assert sum(map(bool, found)) <= 1


def test_a_naive_bayes_on_its_own_members_passes(digits):
    split, _ = digits
    flat = [part.x.reshape(len(part), -1) for part in (split.d1, split.d3)]
    model = GaussianNB().fit(flat[0], split.d1.y)
    parts = [
        Scored(model.predict_proba(x), part.y)
        for x, part in zip(flat, (split.d1, split.d3), strict=True)
    ]
    assert difference_of_exports(*parts) is None
    assert "swapped" not in [doubt.about for doubt in doubts_about(*parts, trained=True)]


def test_of_doubts_about_one_thing_the_first_is_told():
    doubts = [Doubt("a", True, "x"), Doubt("b", True, "x"), Doubt("c", False)]
    assert [doubt.text for doubt in distinct_doubts(doubts)] == ["a", "c"]
