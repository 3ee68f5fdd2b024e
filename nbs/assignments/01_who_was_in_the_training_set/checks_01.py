"""The checks of assignment 1: each takes your function and says in a sentence what is wrong with
it."""

import sys
from pathlib import Path

import numpy as np

from purification_nb.scores import MEMBER, NONMEMBER  # noqa: F401 - the colours of the figures

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import (  # noqa: E402, F401
    COURSE_SEED,
    answer_on_copies,
    near,
    once_written,
    plain,
)

PERSON = np.array([7, 3, 3, 9, 7, 1, 4, 4, 9, 3, 8, 2, 1, 5, 5, 7, 6, 2, 8, 0, 0, 6])


def is_fair_split(person, parts):
    """Complain where a split by person is not one; give the parts as plain row numbers."""
    assert len(parts) == 3, f"three arrays are asked for, D1, D2 and D3; these are {len(parts)}"
    parts = [np.array(part) for part in parts]
    assert all(part.ndim == 1 and not np.issubdtype(part.dtype, np.bool_) for part in parts), (
        "return row numbers, not masks: np.flatnonzero turns a mask into row numbers"
    )
    parts = [plain(part).astype(int) for part in parts]
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
    people = sum(map(len, sides))
    assert all(abs(len(side) - people / 3) <= max(1.5, 0.1 * people) for side in sides), (
        "a third of the people is asked for on each side, these hold"
        f" {', '.join(f'{len(side) / people:.0%}' for side in sides)}"
    )
    return parts


def split_by_person(student):
    """Exercise 1, first part."""
    is_fair_split(PERSON, answer_on_copies(student, PERSON, 0))
    print("split_by_person: nobody is on two sides.")


def sides_of(person, parts):
    """The side, 0 to 2, of each person in the order of their names."""
    people = np.unique(person)
    side = np.zeros(len(people), int)
    for number, part in enumerate(is_fair_split(person, parts)):
        side[np.isin(people, person[part])] = number
    return side


def split_by_person_seed(student):
    """Exercise 1, second part."""

    def dealt(person, seed):
        return sides_of(person, answer_on_copies(student, person, seed))

    first, again, *others = (dealt(PERSON, seed) for seed in (0, 0, 1, 2, 3))
    assert (first == again).all(), (
        "seed 0 gives a different split the second time: make the generator from the seed, inside"
        " the function"
    )
    assert any((first != other).any() for other in others), (
        "seeds 0 and 1 give the same split: shuffle the people with the seed"
    )
    person = np.repeat(np.arange(60), 2)
    together = [
        (np.roll(side, lag) == side).mean()
        for side in (dealt(person, seed) for seed in range(6))
        for lag in (1, 2, 3)
    ]
    assert 0.2 < np.mean(together) < 0.47 and max(together) < 0.75, (
        "people with neighbouring numbers come to the same side, or to different ones, much more"
        " often than chance would have it: moving everybody on by some places is no shuffle"
    )
    print("split_by_person: dealt by the seed.")


def gap_attack(student):
    """Exercise 2."""
    scores, y = (
        np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1]]),
        np.array([0, 1, 0, 1]),
    )
    said = plain(answer_on_copies(student, scores, y))
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


def number(given):
    """One number as a plain float."""
    given = plain(given)
    assert given.size == 1, f"one number is asked for; yours has shape {given.shape}"
    return float(given.ravel()[0])


def balanced_accuracy(student):
    """Exercise 3."""
    inside, outside = np.array([True, True, True, False]), np.array([True, False])
    given = number(answer_on_copies(student, inside, outside))
    assert not near(given, 4 / 6), (
        "3 of 4 members and 1 of 2 others are told right, and you count them as if all records were"
        " one set: take the share in each set first, then the mean of the two shares"
    )
    assert near(given, 0.625), (
        f"3 of 4 members found, 1 of 2 non-members left alone: that is 0.625, not {given:.4g}"
    )
    assert near(
        number(answer_on_copies(student, np.array([True, True]), np.array([True, True, True]))), 0.5
    ), (
        "an attack that always says member must get 0.5: non-members are right when they are NOT"
        " accused"
    )
    print("balanced_accuracy: guessing gives one half.")


def attack_accuracy(student):
    """Exercise 4, first part."""
    known = np.array([0.9, 0.8, 0.8, 0.2]), np.array([0.3, 0.2, 0.1, 0.1])
    heldout = np.array([0.9, 0.85, 0.15, 0.12]), np.array([0.05, 0.04, 0.03, 0.02])
    given = number(answer_on_copies(student, *known, *heldout))
    assert 0 <= given <= 1, f"an accuracy lies between 0 and 1, yours is {given:.4g}"
    assert not near(given, 1), (
        "your threshold was chosen on the held-out halves: it changes when only the held-out"
        " confidences change"
    )
    assert not near(given, 0.875), (
        "you report the accuracy on the known halves, where the threshold was fitted; report it on"
        " the held-out ones"
    )
    assert not near(given, 0.25), "the other way round: at or above the threshold means member"
    assert near(given, 0.75), (
        "any threshold above 0.3 and up to 0.8 is best on the known halves, and gives 0.75 on the"
        f" held-out ones; yours gives {given:.4g}"
    )
    print("attack_accuracy: chosen on the known halves, measured on the others.")


def attack_accuracy_sizes(student):
    """Exercise 4, second part: the four sets have different sizes."""
    known = np.array([0.9, 0.5, 0.5]), np.array([0.7] * 3 + [0.6] * 2 + [0.1] * 5)
    heldout = np.array([0.95, 0.5, 0.5, 0.5]), np.array([0.65, 0.05] * 5)
    given = number(answer_on_copies(student, *known, *heldout))
    assert not near(given, 0.625) and not near(given, 11 / 14), (
        "three members stand against ten others here, and you choose the threshold that is right"
        " about most of the thirteen: choose by balanced accuracy, each set counts one half"
    )
    assert not near(given, 9 / 14), (
        "the threshold is right, but you count its right answers among all fourteen held-out"
        " records: members and non-members count one half each"
    )
    assert near(given, 0.75), (
        "three known members and ten others, four held-out members and ten others: 0.75 is right,"
        f" yours is {given:.4g}"
    )
    print("attack_accuracy: members and non-members count half each.")


def odds_case(p, y):
    """Scores of three classes with these at the true ones."""
    scores = np.repeat(((1 - p) / 2)[:, None], 3, 1)
    scores[np.arange(len(y)), y] = p
    return scores


def log_odds(student):
    """Exercise 5, first part."""
    p, y = np.array([0.5, 0.9, 0.001, 0.2]), np.array([0, 1, 2, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        given = plain(answer_on_copies(student, odds_case(p, y), y))
    assert given.shape == (4,), (
        f"one number for each record is asked for, (4,) here; yours have shape {given.shape}"
    )
    right = np.array([0, 2.197225, -6.906755, -1.386294])
    assert not near(given, -right), (
        "the other way round: a larger confidence must give larger log-odds"
    )
    assert not near(given[2], -0.002, 1e-3), (
        "the predicted class instead of the true one: take the score at y, not the largest"
    )
    assert near(given, right), (
        f"for confidences 0.5, 0.9, 0.001 and 0.2 the log-odds are {right.round(3)}, yours are"
        f" {given.round(3)}"
    )
    print("log_odds: large for large confidence.")


def log_odds_ends(student):
    """Exercise 5, second part."""
    p = np.array([0.0, 0.1, 0.9, 0.999999, 0.99999999, 1.0])
    y = np.array([0, 1, 2, 0, 1, 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        given = plain(answer_on_copies(student, odds_case(p, y), y))
    assert given.shape == (6,) and near(given[1:3], [-2.197225, 2.197225]), (
        "log-odds of confidences between 0 and 1 come first: the cell above says what is asked for"
    )
    assert np.isfinite(given).all(), (
        f"log of zero: a score of exactly {p[~np.isfinite(given)][0]:g} gives"
        f" {given[~np.isfinite(given)][0]}; clip before you take the log"
    )
    assert (np.diff(given[:4]) > 0).all() and given[3] + 1 < given[4] <= given[5], (
        "confidences of 0.999999 and 0.99999999 must still be told apart, and a larger one never"
        f" have smaller log-odds; yours are {given[3:].round(2)} for these two and 1: you clip too"
        " far from 1"
    )
    print("log_odds: finite, also for scores of exactly 0 and 1.")


def tpr_at_fpr(student):
    """Exercise 6, first part."""
    members, nonmembers = (
        np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        np.array([0.85, 0.55, 0.4, 0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]),
    )
    given = number(answer_on_copies(student, members, nonmembers, 0.1))
    assert not near(given, 1 / 5), (
        "one of ten non-members may be accused, and you accuse none: 'at most' allows it"
    )
    assert near(given, 0.8), (
        "with one of ten non-members accused, the one at 0.85, four of five members are found:"
        f" 0.8, not {given:.4g}"
    )
    given = number(answer_on_copies(student, members, nonmembers, 0.2))
    assert near(given, 1), (
        "two of ten non-members may be accused, at 0.85 and 0.55, and then all members are found:"
        f" 1, not {given:.4g}"
    )
    print("tpr_at_fpr: as many as can be found at that price.")


def tpr_at_fpr_ties(student):
    """Exercise 6, second part: scores that occur more than once, and a budget of nothing."""
    first = number(answer_on_copies(student, np.array([0.9, 0.7]), np.array([0.8, 0.6]), 0.5))
    assert near(first, 1), (
        "members 0.9 0.7, others 0.8 0.6, half of these may be accused: both members can be found,"
        f" 1, not {first:.4g}"
    )
    tied = number(
        answer_on_copies(
            student, np.array([0.9, 0.8, 0.8, 0.8]), np.array([0.8, 0.8, 0.8, 0.5]), 0.25
        )
    )
    assert not near(tied, 1), (
        "where scores are equal your threshold accuses more non-members than it may: at 0.8 it"
        " accuses three of four"
    )
    assert near(tied, 0.25), (
        "members 0.9 0.8 0.8 0.8, others 0.8 0.8 0.8 0.5, a quarter allowed: only the one at 0.9"
        f" can be found, 0.25, not {tied:.4g}"
    )
    none = number(answer_on_copies(student, np.array([0.5, 0.4]), np.array([0.5, 0.3]), 0.0))
    assert near(none, 0), (
        "no non-member may be accused and the best of them is as high as the best member: the"
        " answer is 0"
    )
    print("tpr_at_fpr: counts, also where many records have equal scores.")
