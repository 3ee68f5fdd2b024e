"""The checks of assignment 3: each takes your function and says in a sentence what is wrong with
it."""

import sys
from pathlib import Path

import numpy as np

from purification_nb.records import Scored

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import answer_on_copies, once_written  # noqa: E402, F401


def truncate(student):
    """Exercise 1."""
    scores = np.array([[0.1, 0.5, 0.08, 0.3, 0.02], [0.04, 0.06, 0.7, 0.15, 0.05]])
    given = np.asarray(answer_on_copies(student, scores, 2), float)
    assert given.shape == (
        2,
        5,
    ), f"as many scores as before are asked for, (2, 5); yours have shape {given.shape}"
    assert not np.allclose(given, [[0, 0.5, 0, 0.3, 0], [0, 0, 0.7, 0.15, 0]]), (
        "rows no longer sum to 1: the hidden scores became zero; let them share what is left"
    )
    assert not np.allclose(
        given, [[0, 0.5 / 0.8, 0, 0.3 / 0.8, 0], [0, 0, 0.7 / 0.85, 0.15 / 0.85, 0]]
    ), "the top scores must stay as they are; you scaled them up so that they sum to 1"
    assert np.allclose(given.sum(1), 1), f"rows no longer sum to 1, but to {given.sum(1).round(3)}"
    right = np.array([[0.2 / 3, 0.5, 0.2 / 3, 0.3, 0.2 / 3], [0.05, 0.05, 0.7, 0.15, 0.05]])
    assert np.allclose(given, right), (
        f"of {scores[0]} the top two leave 0.2 for three others: {right[0].round(3)} is asked for,"
        f" yours is {given[0].round(3)}"
    )
    assert np.allclose(answer_on_copies(student, scores, 5), scores), (
        "with m as large as the number of classes nothing may change"
    )
    kept = scores.copy()
    student(scores, 2)
    assert (scores == kept).all(), "you changed the scores you were given: work on a copy"
    print("truncate: the top as it is, the rest shared equally.")


def make_reader(student):
    """Exercise 2."""
    auxiliary = np.array(
        [
            [0.5, 0.3, 0.15, 0.05],
            [0.1, 0.8, 0.05, 0.05],
            [0.7, 0.1, 0.15, 0.05],
            [0.2, 0.2, 0.55, 0.05],
        ]
    )
    later = np.array([[0.6, 0.35, 0.0, 0.05], [1 - 1e-9 - 1e-12, 1e-9, 1e-12, 0.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        read = answer_on_copies(student, auxiliary)
        assert callable(read), (
            f"make_reader must return a function of scores; it returns a {type(read).__name__}"
        )
        given, known, alone = (
            np.asarray(read(scores.copy()), float) for scores in (later, auxiliary, later[:1])
        )
    assert given.shape == (
        2,
        4,
    ), f"one input for each score is asked for, (2, 4); yours have shape {given.shape}"
    assert np.isfinite(given[:, :3]).all() and np.isfinite(known[:, :3]).all(), (
        "log of zero: a score of exactly zero gives minus infinity or NaN; clip before you take"
        " the log"
    )
    assert np.isfinite(given).all() and np.isfinite(known).all(), (
        "a column that is constant has spread zero, and dividing by it gives NaN: add something"
        " tiny to the spread"
    )
    assert np.allclose(alone[0], given[0]), (
        "a record alone is read otherwise than among others: use the mean and spread of the"
        " auxiliary scores, not of those being read"
    )
    assert not np.allclose(
        known[:, :3],
        ((auxiliary - auxiliary.mean(0)) / (auxiliary.std(0) + 1e-12))[:, :3],
        atol=1e-3,
    ), "there is no logarithm in it: 1e-5 and 1e-7 are the same number to the network"
    logs = np.log(auxiliary[:, :3])
    for spread in (logs.std(0), logs.std(0, ddof=1)):  # with n or n - 1, as PyTorch does
        if np.allclose(known[:, :3], (logs - logs.mean(0)) / spread, atol=0.01):
            break
    else:
        raise AssertionError(
            "on the auxiliary scores themselves each column should have mean 0 and spread 1; yours"
            f" have means {known[:, :3].mean(0).round(2)} and spreads"
            f" {known[:, :3].std(0).round(2)}, or the logarithm is another one"
        )
    assert np.isclose(
        given[1, 1], (np.log(1e-9) - logs[:, 1].mean()) / spread[1], atol=0.1
    ) and np.isclose(given[1, 2], (np.log(1e-12) - logs[:, 2].mean()) / spread[2], atol=0.5), (
        "scores of 1e-9 and 1e-12 are read as larger than they are: you clip too high, or add too"
        " much before the log"
    )
    print("make_reader: small scores can be heard.")


def label_error(auxiliary, heldout):
    """The error of drawing the mean auxiliary picture of the predicted label."""
    told, mean = auxiliary.scores.argmax(1), auxiliary.x.mean(0)
    of_label = {label: auxiliary.x[told == label].mean(0) for label in np.unique(told)}
    return float(
        (
            (
                np.stack([of_label.get(label, mean) for label in heldout.scores.argmax(1)])
                - heldout.x
            )
            ** 2
        ).mean()
    )


def train_inverter(student, auxiliary, heldout):
    """Exercise 3."""
    invert = answer_on_copies(student, auxiliary.scores, auxiliary.x, 0)
    assert callable(invert), (
        f"train_inverter must return a function of scores; it returns a {type(invert).__name__}"
    )
    drawn = np.asarray(invert(heldout.scores.copy()))
    assert drawn.shape == heldout.x.shape, (
        f"drawings of the pictures' shape are asked for, {heldout.x.shape}; yours have shape"
        f" {drawn.shape}"
    )
    assert np.isfinite(drawn).all(), (
        "some drawings hold NaN or infinity: clip the scores before you take logs"
    )
    assert np.allclose(np.asarray(invert(heldout.scores[:1].copy()))[0], drawn[0], atol=1e-3), (
        "a record alone is drawn otherwise than among others: later scores must be scaled with the"
        " auxiliary mean and spread"
    )
    nothing, label = (
        float(((heldout.x - auxiliary.x.mean(0)) ** 2).mean()),
        label_error(auxiliary, heldout),
    )
    error = float(((drawn - heldout.x) ** 2).mean())
    assert error < 0.95 * nothing, (
        f"no better than the mean image: the error is {error:.4f}, and {nothing:.4f} knowing"
        " nothing"
    )
    assert error < 0.9 * label, (
        f"no better than the label alone: the error is {error:.4f}, and {label:.4f} is what the"
        " mean picture of the label gives; does the network read logarithms?"
    )
    assert error < 0.8 * label, (
        f"it reads something from the scores, but little: the error is {error:.4f}, and 0.03 can be"
        " reached; train longer, or scale the inputs"
    )
    few = auxiliary[np.arange(0, 2000, 20)]
    first, again = (
        np.asarray(answer_on_copies(student, few.scores, few.x, 1)(heldout.scores[:5]))
        for _ in range(2)
    )
    assert np.allclose(first, again, atol=1e-5), (
        "the same seed gives two different inverters: seed the initial weights and the shuffling"
    )
    print(f"train_inverter: better than the label alone, which would give {label:.3f}.")


def label_only(student):
    """Exercise 4."""
    scored = Scored(
        np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]), np.array([0, 1, 1])
    )
    given = np.asarray(answer_on_copies(student, scored), float)
    assert given.shape == (
        3,
        3,
    ), f"one row for each record is asked for, (3, 3); yours has shape {given.shape}"
    assert not np.allclose(given, np.eye(3)[[0, 1, 1]]), (
        "the ground truth instead of the prediction: the service publishes the label it predicted,"
        " also where it is wrong"
    )
    assert np.allclose(given, np.eye(3)[[0, 2, 1]]), (
        f"1 at the predicted label and 0 elsewhere is asked for; for {scored.scores[1]} that is [0"
        f" 0 1], yours is {given[1]}"
    )
    print("label_only: what is left when only the label is published.")


def measure(student):
    """Exercise 5."""
    rng = np.random.default_rng(0)
    auxiliary, heldout = (
        Scored(np.eye(4)[[0, 1, 2, 3, 0, 1][:n]], [0, 1, 2, 3, 0, 1][:n], rng.random((n, 2, 3)))
        for n in (6, 4)
    )
    trained_on = []

    def by_heart(scores, x, seed):
        trained_on.append(np.asarray(x))
        return lambda later: np.stack(
            [x[np.abs(scores - row).sum(1).argmin()] for row in np.asarray(later)]
        )

    given = float(answer_on_copies(student, by_heart, auxiliary, heldout))
    assert trained_on, "`train` was never called: train the inverter on the auxiliary records"

    def same(one, other):
        return one.shape == other.shape and np.allclose(one, other)

    assert not any(same(x, heldout.x) for x in trained_on), (
        "the inverter was trained on the held-out records; it may see the auxiliary ones only"
    )
    assert all(same(x, auxiliary.x) for x in trained_on), (
        "the inverter must be trained on the auxiliary records, all of them and no others"
    )
    squares = (auxiliary.x[:4] - heldout.x) ** 2
    on_itself = ((auxiliary.x[[0, 1, 2, 3, 0, 1]] - auxiliary.x) ** 2).mean()
    assert not np.isclose(given, on_itself), (
        "measured on the records it was trained on: draw the held-out ones and compare with their"
        " pictures"
    )
    assert not any(np.isclose(given, squares.sum() / n) for n in (1, 4, 6)), (
        "a sum instead of a mean: take the mean over all pixels of all pictures"
    )
    assert not np.isclose(given, np.sqrt(squares.mean())) and not np.isclose(
        given, np.abs(auxiliary.x[:4] - heldout.x).mean()
    ), "the mean of the squares is asked for, without a root and without absolute values"
    assert np.isclose(given, squares.mean()), (
        f"on four small pictures {squares.mean():.4f} is right, yours is {given:.4g}"
    )
    print("measure: trained on one set, measured on the other.")


def reidentified(student):
    """Exercise 6."""
    x, drawings = (
        np.ones((3, 2, 2)) * np.array(shades)[:, None, None]
        for shades in ([0.0, 1.0, 2.0], [0.2, 1.4, 0.7])
    )
    given = float(answer_on_copies(student, drawings, x))
    assert not np.isclose(given, 1), (
        "all are re-identified, whatever is drawn: do you compare records with records? The third"
        " drawing is closer to the second record"
    )
    assert not np.isclose(given, 1 / 3), (
        "each drawing picks a record, not each record a drawing: drawings along the rows, then"
        " argmin along axis 1"
    )
    assert not np.isclose(given, 2), "a share is asked for, between 0 and 1: take the mean"
    assert np.isclose(given, 2 / 3), (
        "the first and the second drawing are closest to their own records, the third is not: 2/3,"
        f" not {given:.4g}"
    )
    print("reidentified: each drawing picks the closest record.")
