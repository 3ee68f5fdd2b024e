"""The checks of assignment 1: each takes your function and says in a sentence what is wrong with
it."""

import sys
from pathlib import Path

import numpy as np

from purification_nb.scores import MEMBER, NONMEMBER  # noqa: F401 - the colours of the figures

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import answer_on_copies, once_written  # noqa: E402, F401


def is_fair_split(person, parts):
    """Complain where a split by person is not one."""
    assert len(parts) == 3, f"three arrays are asked for, D1, D2 and D3; these are {len(parts)}"
    parts = [np.asarray(part) for part in parts]
    assert all(part.ndim == 1 and not np.issubdtype(part.dtype, np.bool_) for part in parts), (
        "return row numbers, not masks: np.flatnonzero turns a mask into row numbers"
    )
    rows = np.concatenate(parts)
    assert len(np.unique(rows)) == len(rows), "some photograph is in two of the sets"
    assert len(rows) == len(person) and set(rows.tolist()) == set(range(len(person))), (
        f"the three sets hold {len(rows)} rows, there are {len(person)} photographs: each must be"
        " in exactly one"
    )
    sides = [set(person[part].tolist()) for part in parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        if both := sorted(sides[a] & sides[b]):
            raise AssertionError(
                f"person {both[0]} has photographs in D{a + 1} and in D{b + 1}: deal out people,"
                " not photographs"
            )
    shares = [len(side) / len(np.unique(person)) for side in sides]
    assert all(0.2 < share < 0.5 for share in shares), (
        "a third of the people is asked for on each side, these hold"
        f" {', '.join(f'{share:.0%}' for share in shares)}"
    )


def split_by_person(student):
    """Exercise 1."""
    person = np.array([7, 3, 3, 9, 7, 1, 4, 4, 9, 3, 8, 2, 1, 5, 5, 7, 6, 2, 8, 0, 0, 6])
    parts = answer_on_copies(student, person, 0)
    is_fair_split(person, parts)

    def same(one, other):
        return all(
            sorted(np.asarray(a).tolist()) == sorted(np.asarray(b).tolist())
            for a, b in zip(one, other, strict=True)
        )

    assert same(parts, answer_on_copies(student, person, 0)), (
        "seed 0 gives a different split the second time: make the generator from the seed, inside"
        " the function"
    )
    assert not all(same(parts, answer_on_copies(student, person, seed)) for seed in (1, 2, 3)), (
        "seeds 0 and 1 give the same split: shuffle the people with the seed"
    )
    print("split_by_person: nobody is on two sides.")


def gap_attack(student):
    """Exercise 2."""
    scores, y = (
        np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1]]),
        np.array([0, 1, 0, 1]),
    )
    said = np.asarray(answer_on_copies(student, scores, y))
    assert said.shape == (4,), (
        f"one answer for each record is asked for, (4,) here; yours has shape {said.shape}"
    )
    assert np.isin(said, (0, 1)).all(), "the answers must be True or False"
    assert not (said.astype(bool) == [False, False, True, True]).all(), (
        "the other way round: say member where the service is right"
    )
    assert (said.astype(bool) == [True, True, False, False]).all(), (
        "say member exactly where the largest score stands at the true label"
    )
    print("gap_attack: member where the service is right.")


def balanced_accuracy(student):
    """Exercise 3."""
    inside, outside = np.array([True, True, True, False]), np.array([True, False])
    given = float(answer_on_copies(student, inside, outside))
    assert not np.isclose(given, 4 / 6), (
        "3 of 4 members and 1 of 2 others are told right, and you count them as if all records were"
        " one set: take the share in each set first, then the mean of the two shares"
    )
    assert np.isclose(given, 0.625), (
        f"3 of 4 members found, 1 of 2 non-members left alone: that is 0.625, not {given:.4g}"
    )
    assert np.isclose(
        float(answer_on_copies(student, np.array([True, True]), np.array([True, True, True]))), 0.5
    ), (
        "an attack that always says member must get 0.5: non-members are right when they are NOT"
        " accused"
    )
    print("balanced_accuracy: guessing gives one half.")


def allowed_accuracies(known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    """The lowest and highest held-out accuracy among all thresholds that are best on the known
    halves."""

    def accuracy(t, inside, outside):
        return (np.mean(inside >= t) + np.mean(outside < t)) / 2

    every = np.unique(
        np.concatenate([known_members, known_nonmembers, heldout_members, heldout_nonmembers])
    )
    fit = np.array([accuracy(t, known_members, known_nonmembers) for t in every])
    found = [
        accuracy(t, heldout_members, heldout_nonmembers) for t in every[fit >= fit.max() - 1e-12]
    ]
    return min(found), max(found)


def attack_accuracy(student):
    """Exercise 4."""
    known = np.array([0.9, 0.8, 0.8, 0.2]), np.array([0.3, 0.2, 0.1, 0.1])
    heldout = np.array([0.9, 0.85, 0.15, 0.12]), np.array([0.05, 0.04, 0.03, 0.02])
    given = float(answer_on_copies(student, *known, *heldout))
    assert 0 <= given <= 1, f"an accuracy lies between 0 and 1, yours is {given:.4g}"
    assert not np.isclose(given, 1), (
        "your threshold was chosen on the held-out halves: it changes when only the held-out"
        " confidences change"
    )
    assert not np.isclose(given, 0.875), (
        "you report the accuracy on the known halves, where the threshold was fitted; report it on"
        " the held-out ones"
    )
    assert not np.isclose(given, 0.25), (
        "the other way round: at or above the threshold means member"
    )
    assert np.isclose(given, 0.75), (
        "any threshold above 0.3 and up to 0.8 is best on the known halves, and gives 0.75 on the"
        f" held-out ones; yours gives {given:.4g}"
    )
    print("attack_accuracy: chosen on the known halves, measured on the others.")


def log_odds(student):
    """Exercise 5."""
    p = np.array([0.5, 0.9, 0.001, 0.0, 1.0, 0.99999999, 0.999999, 0.2])
    y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    scores = np.repeat(((1 - p) / 2)[:, None], 3, 1)
    scores[np.arange(8), y] = p
    with np.errstate(divide="ignore", invalid="ignore"):
        given = np.asarray(answer_on_copies(student, scores, y), float)
    assert given.shape == (8,), (
        f"one number for each record is asked for, (8,) here; yours have shape {given.shape}"
    )
    right = np.log(p[:3] / (1 - p[:3]))
    assert np.isfinite(given).all(), (
        f"log of zero: a score of exactly {p[~np.isfinite(given)][0]:g} gives"
        f" {given[~np.isfinite(given)][0]}; clip before you take the log"
    )
    assert not np.allclose(given[:3], -right), (
        "the other way round: a larger confidence must give larger log-odds"
    )
    assert not np.isclose(given[2], np.log(0.4995 / 0.5005), atol=1e-3), (
        "the predicted class instead of the true one: take the score at y, not the largest"
    )
    assert np.allclose(given[:3], right, atol=1e-4), (
        f"for confidences 0.5, 0.9 and 0.001 the log-odds are {right.round(3)}, yours are"
        f" {given[:3].round(3)}"
    )
    order = np.argsort(p)
    assert (np.diff(given[order]) >= 0).all(), (
        "a larger confidence gets smaller log-odds somewhere: look at scores of exactly 0 and 1"
    )
    assert given[5] > given[6] + 1, (
        "confidences of 0.999999 and 0.99999999 get nearly the same log-odds: you clip too far from"
        " 1, or add too much before the log"
    )
    print("log_odds: finite, and spread out near 1.")


def exact_tpr(members, nonmembers, fpr):
    """Share of members found at the largest allowed number of accused non-members; by sorting."""
    allowed = int(np.floor(fpr * len(nonmembers) + 1e-9))
    if allowed >= len(nonmembers):
        return 1.0
    return float(np.mean(members > np.sort(nonmembers)[::-1][allowed]))


def tpr_at_fpr(student):
    """Exercise 6."""
    members, nonmembers = (
        np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        np.array([0.85, 0.55, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]),
    )
    given = float(answer_on_copies(student, members, nonmembers, 0.1))
    assert not np.isclose(given, 1 / 5), (
        "one of ten non-members may be accused, and you accuse none: 'at most' allows it"
    )
    assert np.isclose(given, 0.8), (
        "with one of ten non-members accused, the one at 0.85, four of five members are found:"
        f" 0.8, not {given:.4g}"
    )
    tied = float(
        answer_on_copies(
            student, np.array([0.9, 0.8, 0.8, 0.8]), np.array([0.8, 0.8, 0.8, 0.5]), 0.25
        )
    )
    assert not np.isclose(tied, 1), (
        "where scores are equal your threshold accuses more non-members than it may: at 0.8 it"
        " accuses three of four"
    )
    assert np.isclose(tied, 0.25), (
        "members 0.9 0.8 0.8 0.8, others 0.8 0.8 0.8 0.5, a quarter allowed: only the one at 0.9"
        f" can be found, 0.25, not {tied:.4g}"
    )
    assert np.isclose(
        float(answer_on_copies(student, np.array([0.5, 0.4]), np.array([0.5, 0.3]), 0.0)), 0
    ), (
        "no non-member may be accused and the best of them is as high as the best member: the"
        " answer is 0"
    )
    print("tpr_at_fpr: as many as can be found at that price.")
