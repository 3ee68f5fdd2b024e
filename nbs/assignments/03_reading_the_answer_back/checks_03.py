"""The checks of assignment 3: each takes your function and says in a sentence what is wrong with
it."""

import sys
from pathlib import Path

import numpy as np

from purification_nb.records import Scored

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import (  # noqa: E402
    COURSE_SEED,  # noqa: F401
    answer_on_copies,
    near,
    once_written,  # noqa: F401
    plain,
    without,
)

OURS = ("split", "service", "auxiliary", "members", "mean_image_error")  # the notebook's own names


def truncate(student):
    """Exercise 1."""
    scores = np.array([[0.1, 0.5, 0.08, 0.3, 0.02], [0.04, 0.06, 0.7, 0.15, 0.05]])
    given = plain(answer_on_copies(student, scores, 2))
    assert given.shape == (
        2,
        5,
    ), f"as many scores as before are asked for, (2, 5); yours have shape {given.shape}"
    assert not near(given, [[0, 0.5, 0, 0.3, 0], [0, 0, 0.7, 0.15, 0]]), (
        "rows no longer sum to 1: the hidden scores became zero; let them share what is left"
    )
    assert not near(given, [[0, 0.5 / 0.8, 0, 0.3 / 0.8, 0], [0, 0, 0.7 / 0.85, 0.15 / 0.85, 0]]), (
        "the top scores must stay as they are; you scaled them up so that they sum to 1"
    )
    assert near(given.sum(1), 1), f"rows no longer sum to 1, but to {given.sum(1).round(3)}"
    right = np.array([[0.2 / 3, 0.5, 0.2 / 3, 0.3, 0.2 / 3], [0.05, 0.05, 0.7, 0.15, 0.05]])
    assert near(given, right), (
        f"of {scores[0]} the top two leave 0.2 for three others: {right[0].round(3)} is asked for,"
        f" yours is {given[0].round(3)}"
    )
    print("truncate: the top as it is, the rest shared equally.")


def truncate_edges(student):
    """Exercise 1, second part."""
    scores = np.array([[0.1, 0.5, 0.08, 0.3, 0.02], [0.04, 0.06, 0.7, 0.15, 0.05]])
    given = plain(answer_on_copies(student, scores, 4))
    assert near(given, scores), (
        "with one class less than there are the last score is all that is left over: nothing may"
        f" change, and {scores[0]} becomes {given[0].round(3)}"
    )
    assert near(plain(answer_on_copies(student, scores, 5)), scores), (
        "with m as large as the number of classes nothing may change"
    )
    kept = scores.copy()
    given = plain(student(scores, 2))
    assert (scores == kept).all(), "you changed the scores you were given: work on a copy"
    assert near(given[0], [0.2 / 3, 0.5, 0.2 / 3, 0.3, 0.2 / 3]), "see the cell above"
    print("truncate: nothing changes that should not.")


AUXILIARY = np.array(
    [
        [0.5, 0.3, 0.15, 0.05],
        [0.1, 0.8, 0.04, 0.06],
        [0.7, 0.1, 0.13, 0.07],
        [0.2, 0.2, 0.56, 0.04],
    ]
)


def read_by(student, auxiliary, *asked):
    """What a student's reader makes of scores, trained on others."""
    with np.errstate(divide="ignore", invalid="ignore"):
        read = answer_on_copies(student, auxiliary)
        assert callable(read), (
            f"make_reader must return a function of scores; it returns a {type(read).__name__}"
        )
        given = [plain(read(scores.copy())) for scores in asked]
    for scores, inputs in zip(asked, given, strict=True):
        assert inputs.shape == scores.shape, (
            f"one input for each score is asked for, {scores.shape}; yours have shape"
            f" {inputs.shape}"
        )
    return given


def scaled(auxiliary, given):
    """The spreads of the logarithms that fit what a student made of these auxiliary scores, with n
    or n - 1, as PyTorch does; None where neither does."""
    logs = np.log(auxiliary)
    for spread in (logs.std(0), logs.std(0, ddof=1)):
        if near(given, (logs - logs.mean(0)) / spread, 0.01):
            return spread
    return None


def make_reader(student):
    """Exercise 2, first part."""
    later = np.array([[0.6, 0.25, 0.1, 0.05], [0.9, 1e-5, 0.09999, 1e-7]])
    given, known, alone = read_by(student, AUXILIARY, later, AUXILIARY, later[:1])
    assert np.isfinite(given).all() and np.isfinite(known).all(), "some inputs are NaN or infinite"
    assert near(alone[0], given[0]), (
        "a record alone is read otherwise than among others: use the mean and spread of the"
        " auxiliary scores, not of those being read"
    )
    assert not near(known, (AUXILIARY - AUXILIARY.mean(0)) / AUXILIARY.std(0), 1e-3), (
        "there is no logarithm in it: 1e-5 and 1e-7 are the same number to the network"
    )
    spread = scaled(AUXILIARY, known)
    assert spread is not None, (
        "on the auxiliary scores themselves each column should have mean 0 and spread 1; yours"
        f" have means {known.mean(0).round(2)} and spreads {known.std(0).round(2)}, or the"
        " logarithm is another one"
    )
    right = (np.log(later) - np.log(AUXILIARY).mean(0)) / spread
    assert near(given, right, 0.02), (
        f"{later[1]} is read as {given[1].round(2)}, and should be as {right[1].round(2)}"
    )
    print("make_reader: small scores can be heard.")


def make_reader_zeros(student):
    """Exercise 2, second part."""
    auxiliary = np.c_[AUXILIARY[:, :3] * 0.95, np.full(4, 0.05)]
    later = np.array([[0.6, 0.35, 0.0, 0.05], [1 - 1e-9 - 1e-12, 1e-9, 1e-12, 0.0]])
    given, known = read_by(student, auxiliary, later, auxiliary)
    assert np.isfinite(given[:, :3]).all() and np.isfinite(known[:, :3]).all(), (
        "log of zero: a score of exactly zero gives minus infinity or NaN; clip before you take"
        " the log"
    )
    assert np.isfinite(given).all() and np.isfinite(known).all(), (
        "a column that is constant has spread zero, and dividing by it gives NaN: add something"
        " tiny to the spread"
    )
    logs, spread = np.log(auxiliary[:, :3]), scaled(auxiliary[:, :3], known[:, :3])
    assert spread is not None, "ordinary scores come first: the cell above says what is asked for"
    right = (np.log([1e-9, 1e-12]) - logs.mean(0)[1:]) / spread[1:]
    assert near(given[1, 1], right[0], 0.02) and abs(given[1, 2] - right[1]) < 0.5, (
        "scores of 1e-9 and 1e-12 are read as larger than they are: you clip too high, or add too"
        " much before the log"
    )
    print("make_reader: finite, also for zeros.")


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


def errors_of(student, auxiliary, heldout):
    """The error on held-out records of a student's inverter, that of the mean image, and that of
    the label alone."""
    with without(getattr(student, "__globals__", {}), *OURS):
        invert = answer_on_copies(student, auxiliary.scores, auxiliary.x, 0)
        assert callable(invert), (
            f"train_inverter must return a function of scores; it returns a {type(invert).__name__}"
        )
        drawn, alone = (plain(invert(heldout.scores[:n].copy())) for n in (len(heldout), 1))
    assert drawn.shape == heldout.x.shape, (
        f"drawings of the pictures' shape are asked for, {heldout.x.shape}; yours have shape"
        f" {drawn.shape}"
    )
    assert np.isfinite(drawn).all(), (
        "some drawings hold NaN or infinity: clip the scores before you take logs"
    )
    assert near(alone[0], drawn[0], 1e-3), (
        "a record alone is drawn otherwise than among others: later scores must be scaled with the"
        " auxiliary mean and spread"
    )
    nothing = float(((heldout.x - auxiliary.x.mean(0)) ** 2).mean())
    return float(((drawn - heldout.x) ** 2).mean()), nothing, label_error(auxiliary, heldout)


def train_inverter(student, auxiliary, heldout):
    """Exercise 3, first part, on half of the auxiliary records."""
    error, nothing, label = errors_of(student, auxiliary[np.arange(0, 2000, 2)], heldout)
    assert error < 0.95 * nothing, (
        f"no better than the mean image: the error is {error:.4f}, and {nothing:.4f} knowing"
        " nothing"
    )
    assert error < 0.9 * label, (
        f"no better than the label alone: the error is {error:.4f}, and {label:.4f} is what the"
        " mean picture of the label gives; nine tenths of that are asked for. Does the network read"
        " logarithms?"
    )
    print("train_inverter: better than the label alone.")


def train_inverter_better(student, auxiliary, heldout):
    """Exercise 3, second part."""
    error, _, label = errors_of(student, auxiliary, heldout)
    assert error < 0.8 * label, (
        f"it reads something from the scores, but little: the error is {error:.4f}, eight tenths of"
        f" the label's {label:.4f} are asked for, and 0.03 can be reached; train longer, or scale"
        " the inputs"
    )
    few = auxiliary[np.arange(0, 2000, 20)]
    first, again = (
        plain(answer_on_copies(student, few.scores, few.x, 1)(heldout.scores[:5])) for _ in range(2)
    )
    assert near(first, again, 1e-5), (
        "the same seed gives two different inverters: seed the initial weights and the shuffling"
    )
    print("train_inverter: much better, and the same for the same seed.")


def label_only(student):
    """Exercise 4."""
    scored = Scored(
        np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]), np.array([0, 1, 1])
    )
    given = plain(answer_on_copies(student, scored))
    assert given.shape == (
        3,
        3,
    ), f"one row for each record is asked for, (3, 3); yours has shape {given.shape}"
    assert not near(given, np.eye(3)[[0, 1, 1]]), (
        "the ground truth instead of the prediction: the service publishes the label it predicted,"
        " also where it is wrong"
    )
    assert near(given, np.eye(3)[[0, 2, 1]]), (
        f"1 at the predicted label and 0 elsewhere is asked for; for {scored.scores[1]} that is [0"
        f" 0 1], yours is {given[1]}"
    )
    print("label_only: what is left when only the label is published.")


def measured(student):
    """What a student measures of an inverter that has memorised its pictures; two small sets, and
    what the inverter was trained on."""
    rng = np.random.default_rng(0)
    auxiliary, heldout = (
        Scored(np.eye(4)[[0, 1, 2, 3, 0, 1][:n]], [0, 1, 2, 3, 0, 1][:n], rng.random((n, 2, 3)))
        for n in (6, 4)
    )
    trained_on = []

    def memorised(scores, x, seed):
        trained_on.append((plain(x), int(plain(seed))))
        return lambda later: np.stack(
            [x[np.abs(scores - row).sum(1).argmin()] for row in np.asarray(later)]
        )

    given = plain(answer_on_copies(student, memorised, auxiliary, heldout))
    assert given.size == 1, f"one number is asked for; yours has shape {given.shape}"
    assert trained_on, "`train` was never called: train the inverter on the auxiliary records"
    return float(given.ravel()[0]), auxiliary, heldout, trained_on


def is_right(given, auxiliary, heldout, trained_on):
    """Complain where a measured error is not that of the held-out records."""
    assert not any(near(x, heldout.x) for x, _ in trained_on), (
        "the inverter was trained on the held-out records; it may see the auxiliary ones only"
    )
    assert all(near(x, auxiliary.x) for x, _ in trained_on), (
        "the inverter must be trained on the auxiliary records, all of them and no others"
    )
    squares = (auxiliary.x[:4] - heldout.x) ** 2
    on_itself = ((auxiliary.x[[0, 1, 2, 3, 0, 1]] - auxiliary.x) ** 2).mean()
    assert not near(given, on_itself), (
        "measured on the records it was trained on: draw the held-out ones and compare with their"
        " pictures"
    )
    assert not any(near(given, squares.sum() / n) for n in (1, 4, 6)), (
        "a sum instead of a mean: take the mean over all pixels of all pictures"
    )
    assert not near(given, np.sqrt(squares.mean())) and not near(
        given, np.abs(auxiliary.x[:4] - heldout.x).mean()
    ), "the mean of the squares is asked for, without a root and without absolute values"
    assert near(given, squares.mean()), (
        f"on four small pictures {squares.mean():.4f} is right, yours is {given:.4g}"
    )


def measure(student):
    """Exercise 5, first part."""
    is_right(*measured(student))
    print("measure: trained on one set, measured on the other.")


def measure_seed(student):
    """Exercise 5, second part."""
    *found, trained_on = measured(student)
    is_right(*found, trained_on)
    assert [seed for _, seed in trained_on] == [0], (
        "one training with seed 0 is asked for; the seeds of yours are"
        f" {[seed for _, seed in trained_on]}"
    )
    print("measure: one training, with seed 0.")


def reidentified(student):
    """Exercise 6."""
    x, drawings = (
        np.ones((3, 2, 2)) * np.array(shades)[:, None, None]
        for shades in ([0.0, 1.0, 2.0], [0.2, 1.4, 0.7])
    )
    given = plain(answer_on_copies(student, drawings, x))
    assert given.size == 1, f"one number is asked for; yours has shape {given.shape}"
    given = float(given.ravel()[0])
    assert not near(given, 1), (
        "all are re-identified, whatever is drawn: do you compare records with records? The third"
        " drawing is closer to the second record"
    )
    assert not near(given, 1 / 3), (
        "each drawing picks a record, not each record a drawing: drawings along the rows, then"
        " argmin along axis 1"
    )
    assert not near(given, 2), "a share is asked for, between 0 and 1: take the mean"
    assert near(given, 2 / 3), (
        "the first and the second drawing are closest to their own records, the third is not: 2/3,"
        f" not {given:.4g}"
    )
    print("reidentified: each drawing picks the closest record.")
