"""The checks of assignment 4: each takes your function and says in a sentence what is wrong with
it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from purification_nb.adversary import Knowledge
from purification_nb.attacks.membership import ThresholdAttack
from purification_nb.datasets import digits
from purification_nb.defences.purifier_training import purifier_loss as equation_2
from purification_nb.records import Records, Scored
from purification_nb.service import Predictor

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import answer, near, once_written  # noqa: E402, F401


def loss(student):
    """Exercise 1."""

    def value(logits, scores, lam):
        return answer(
            student,
            torch.tensor(logits, dtype=torch.float32),
            torch.tensor(scores, dtype=torch.float32),
            lam,
        )

    half = [[2.0, 2.0]], [[1.0, 0.0]]
    first = value(*half, 2.0)
    assert isinstance(first, torch.Tensor) and first.numel() == 1, (
        "one number is asked for, as a tensor, so that torch can take its gradient"
    )
    given, log2 = float(first), np.log(2)
    assert not near(given, 0.25 - 2 * log2), (
        "the wrong sign of lambda: a wrong label must cost something, yours is a reward"
    )
    assert not near(given, 2.5 + 2 * log2) and not near(given, 5 + 2 * log2), (
        "R compares the logits with F's scores: take their softmax first"
    )
    assert not near(given, 0.5 + 2 * log2), (
        "R is a sum over the classes: their mean is asked for, here 0.25 and not 0.5"
    )
    assert not near(given, np.sqrt(0.5) + 2 * log2), (
        "R is a length, with a square root: the mean of the squared differences is asked for"
    )
    assert near(given, 0.25 + 2 * log2), (
        "G answers (1/2, 1/2), F had answered (1, 0), lambda is 2: that is 1/4 + 2 log 2 = 1.636,"
        f" yours is {given:.4g}"
    )
    assert near(float(value(*half, 0.0)), 0.25), "with lambda = 0 only R is left, here 0.25"
    twice = float(value([[2.0, 2.0], [2.0, 2.0]], [[1.0, 0.0], [1.0, 0.0]], 2.0))
    assert not near(twice, 2 * given), (
        "the same record twice costs twice as much: take the mean over the records, not the sum"
    )
    assert near(twice, given), (
        "the same record twice must cost what it costs once: the mean over records"
    )
    turned = float(value([[2.0, 0.0]], [[0.4, 0.6]], 1.0))
    p = np.exp(2) / (1 + np.exp(2))
    assert not near(turned, (p - 0.4) ** 2 - np.log(p)), (
        "the label is taken from G's own answer: equation 2 takes it from F's scores"
    )
    assert near(turned, (p - 0.4) ** 2 - np.log(1 - p)), (
        "logits (2, 0), scores (0.4, 0.6), lambda 1: F's label is the second class, the loss"
        f" {(p - 0.4) ** 2 - np.log(1 - p):.4f}, yours {turned:.4g}"
    )
    far = float(value([[200.0, 0.0]], [[0.2, 0.8]], 1.0))
    assert np.isfinite(far), (
        "log of zero: logits (200, 0) have a softmax of exactly 0 in the second place, and your"
        f" loss is {far}; take the logarithm of the softmax in one step"
    )
    assert near(far, 200.64), (
        f"logits (200, 0), scores (0.2, 0.8), lambda 1: the loss is 200.64, yours {far:.5g}. Were"
        " the scores clipped?"
    )
    logits = torch.zeros(1, 2, requires_grad=True)
    result = answer(student, logits, torch.tensor([[1.0, 0.0]]), 1.0)
    assert result.requires_grad, (
        "torch cannot take the gradient of your loss: leave it a tensor, without float() or numpy"
    )
    print("purifier_loss: equation 2.")


def by_torch(logits, scores, lam):
    """The gradient of equation 2 with respect to the logits, as torch finds it."""
    z = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(equation_2(z, scores, lam), z)[0]


def gradient(student):
    """Exercise 2."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits, scores = 2 * torch.randn(5, 4), (3 * torch.randn(5, 4)).softmax(1)

    def given(lam):
        try:
            with torch.no_grad():
                return torch.as_tensor(answer(student, logits, scores, lam))
        except RuntimeError as error:
            if "grad" in str(error):
                raise AssertionError(
                    "autograd is switched off here: write the derivative as a formula"
                ) from None
            raise

    first, right = given(0.0), by_torch(logits, scores, 0.0)
    assert first.shape == logits.shape, (
        f"one number for each logit is asked for, {tuple(logits.shape)}; yours have shape"
        f" {tuple(first.shape)}"
    )
    r, n, k = logits.softmax(1) - scores, *logits.shape
    assert not near(first, 2 * r / (n * k), 1e-5), (
        "for lambda = 0 you give the gradient with respect to the *scores*; each logit moves all"
        " scores of its row, so a step through the softmax is missing"
    )
    for wrong, why in (
        (n, "the mean over the records is missing: divide by their number"),
        (k, "the mean over the classes is missing: divide by their number"),
        (n * k, "the mean is missing: divide by the number of records and of classes"),
        (0.5, "a factor 2 is missing: it comes from the square"),
        (-1, "the gradient points downhill: change the sign"),
    ):
        assert not near(first, wrong * right, 1e-5), f"for lambda = 0, {why}"
    assert near(first, right, 1e-5), (
        "for lambda = 0, when only R is left, your gradient is not the slope of R; compare with a"
        " small change of one logit"
    )
    second, right = given(3.0) - first, by_torch(logits, scores, 3.0) - right
    assert not near(second, -right, 1e-5), "the label term has the wrong sign"
    assert not near(second, n * right, 1e-5), (
        "the mean over the records is missing in the label term"
    )
    assert not near(second, right / 3, 1e-5), "lambda is missing in the label term"
    assert near(second, right, 1e-5), (
        "the part with lambda is not the slope of the cross-entropy: softmax minus one-hot, with"
        " the label that F predicted"
    )
    print("purifier_gradient: the slope of equation 2.")


def toy(seed=1):
    """A small data set, and a service that needs no training: nearest class mean."""
    split = digits(seed)
    means = np.stack([split.d1.x[split.d1.y == label].mean(0).ravel() for label in range(10)])

    def classify(x):
        far = ((x.reshape(len(x), 1, -1) - means) ** 2).sum(2)
        scores = np.exp(-1.5 * (far - far.min(1, keepdims=True)))
        return scores / scores.sum(1, keepdims=True)

    return Predictor(classify, 10), split


def other(records, factor=0.6, labels=False):
    """The same set with other pictures, or with other true labels."""
    return Records(
        records.x if labels else records.x * factor + 0.1,
        np.roll(records.y, 7) if labels else records.y,
        records.k,
    )


def purifier(student):
    """Exercise 3."""
    service, split = toy()
    d2 = service(split.d2.x)

    def made(split):
        purify = answer(student, service, split, 1.0, 0)
        assert callable(purify), (
            "a function is asked for that takes scores and gives purified scores"
        )
        with torch.random.fork_rng(devices=[]):
            return purify, np.asarray(purify(d2.copy()), float)

    purify, purified = made(split)
    assert purified.shape == d2.shape, (
        f"for scores of shape {d2.shape} your purifier gives shape {purified.shape}"
    )
    assert np.isfinite(purified).all(), "your purifier gives NaN or infinite scores"
    assert (purified >= 0).all() and near(purified.sum(1), 1, 1e-3), (
        "the purified scores are not between 0 and 1, or do not sum to 1: is the softmax missing?"
    )
    try:
        alone = np.concatenate([np.asarray(purify(d2[[row]].copy()), float) for row in range(5)])
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        alone = np.full_like(
            purified[:5], np.nan
        )  # batch normalisation refuses a batch of one while it is training
    assert near(alone, purified[:5], 1e-4), (
        "a record asked alone gets another answer than among others, or none: batch normalisation"
        " still looks at the whole batch; call eval() after training"
    )
    changes = {
        "d1": {p: other(getattr(split, p)) for p in ("known_members", "heldout_members")},
        "d3": {p: other(getattr(split, p)) for p in ("known_nonmembers", "heldout_nonmembers")},
        "labels": {"d2": other(split.d2, labels=True)},
    }

    def moved(change):
        return not near(made(replace(split, **change))[1], purified, 1e-3)

    if moved(changes["d1"] | changes["d3"] | changes["labels"]):
        assert not moved({}), (
            "the same seed gives another purifier: draw weights and batches inside `with"
            " seeded(seed)`"
        )
        assert not moved(changes["d1"]), (
            "your purifier changes when D1 changes: it was trained on members. Train it on the"
            " scores of D2 alone"
        )
        assert not moved(changes["d3"]), (
            "your purifier changes when D3 changes: D3 is for the final measurement. Train it on"
            " the scores of D2 alone"
        )
        raise AssertionError(
            "your purifier changes when the true labels of D2 change: the label in equation 2 is"
            " the one that F predicted"
        )
    value = float(equation_2(torch.tensor(purified).clip(1e-12).log(), torch.tensor(d2), 1.0))
    assert value < 0.6, (
        f"equation 2 on D2 is {value:.2f} after your training, and 0.6 or less is easily reached:"
        " train longer, or with a larger rate"
    )
    print("make_purifier: trained on strangers, and it has learnt.")


def label(student):
    """Exercise 4."""
    purified = np.array(
        [[0.1, 0.6, 0.2, 0.1], [0.25, 0.3, 0.05, 0.4], [0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1]]
    )
    scored = Scored(
        np.array(
            [
                [0.5, 0.3, 0.1, 0.1],
                [0.1, 0.6, 0.2, 0.1],
                [0.8, 0.1, 0.05, 0.05],
                [0.1, 0.1, 0.7, 0.1],
            ]
        ),
        [1, 0, 0, 2],
    )
    before, truth = purified.copy(), scored.y
    given = np.asarray(answer(student, purified, scored), float)
    assert (purified == before).all(), (
        "your function changes the scores it was handed: work on a copy"
    )
    assert given.shape == purified.shape, (
        f"shape {purified.shape} is asked for, yours is {given.shape}"
    )
    assert not (
        (given.argmax(1) == truth).all() and not (given.argmax(1) == scored.scores.argmax(1)).all()
    ), (
        "the label is taken from the ground truth: the service has only F's answer, and must"
        " publish that, right or wrong"
    )
    assert (given.argmax(1) == scored.scores.argmax(1)).all(), (
        f"F's labels are {scored.scores.argmax(1)}, the published ones {given.argmax(1)}"
    )
    assert near(np.sort(given, 1), np.sort(purified, 1)), (
        "a row's numbers have changed: only two may change places, none may get another value"
    )
    assert near(given[2], purified[2]), "where G had F's label on top already nothing may move"
    assert near(given[0], [0.6, 0.1, 0.2, 0.1]), (
        "(0.1, 0.6, 0.2, 0.1) with F's label 0: the first two change places and nothing else;"
        f" yours is {given[0]}"
    )
    assert near(
        given,
        [[0.6, 0.1, 0.2, 0.1], [0.25, 0.4, 0.05, 0.3], [0.7, 0.1, 0.1, 0.1], [0.2, 0.2, 0.5, 0.1]],
    ), "more than two numbers of a row change places: G's top score, and the score at F's label"
    print("keep_label: F's label on top, the same numbers.")


def dispersion(student):
    """Exercise 5, first half."""
    scores = np.array([[0.9, 0.1, 0], [0.7, 0.3, 0], [0.1, 0.9, 0], [0.1, 0.8, 0.1]])
    given = float(answer(student, scores))
    right = np.sqrt((2 * 0.02 + 2 * 0.005) / 4)
    assert not near(given, np.sqrt(((scores - scores.mean(0)) ** 2).sum(1).mean())), (
        "you measure from the mean of all records: take each predicted label's own mean"
    )
    assert not near(given, right / np.sqrt(3)), (
        "you take the mean over the classes too: a distance sums over the classes"
    )
    assert not near(given, right**2), "the root is missing"
    assert not near(given, 2 * right), "you sum over the records: take the mean, then the root"
    assert near(given, right), (
        f"for the four rows of the check it is {right:.4f}, yours is {given:.4g}"
    )
    assert near(float(answer(student, np.repeat(scores[:1], 3, 0))), 0), (
        "where all vectors of a label are equal the dispersion is 0"
    )
    print("dispersion: how far from the usual answer with that label.")


def distortion(student):
    """Exercise 5, second half."""
    before, after = (
        np.array([[0.9, 0.1, 0], [0.5, 0.3, 0.2]]),
        np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2]]),
    )
    given = np.asarray(answer(student, before, after), float)
    assert given.shape == (2,), (
        f"one number for each record is asked for, (2,) here; yours has shape {given.shape}"
    )
    assert not near(given, [0.2, 0]), (
        "you take the mean over the classes: the L1 distance is the sum"
    )
    assert not near(given, [np.sqrt(0.14), 0]), (
        "that is L2: sum the absolute differences, not the squares"
    )
    assert not near(given, [0, 0]), (
        "the differences cancel: both vectors sum to 1, so take absolute values"
    )
    assert near(given, [0.6, 0]), (
        f"(0.9, 0.1, 0) to (0.6, 0.2, 0.2) is 0.6, and an unchanged row 0; yours are {given}"
    )
    print("distortion: what the defence costs, record by record.")


def measure(student, split, service):
    """Exercise 6."""
    faded = replace(
        service, score_map=lambda scores: 0.5 * scores + 0.5 / scores.shape[1]
    )  # the same order of records, on half the scale
    given = answer(student, ThresholdAttack("confidence"), split, service, faded)
    assert isinstance(given, dict) and set(given) == {
        "floor",
        "bare",
        "naive",
        "adaptive",
    }, "a dictionary with floor, bare, naive and adaptive is asked for"
    given = {name: float(value) for name, value in given.items()}
    sides = [
        service.answer(getattr(split, part))
        for part in ("known_members", "known_nonmembers", "heldout_members", "heldout_nonmembers")
    ]
    right = [float((part.scores.argmax(1) == part.y).mean()) for part in sides]
    assert not near(given["floor"], (right[0] + 1 - right[1]) / 2) or near(right[1], right[3]), (
        "the floor is measured on the known halves: everything is reported on the held-out ones"
    )
    assert near(given["floor"], (right[2] + 1 - right[3]) / 2), (
        "the floor is what the label attack finds on the held-out halves of the bare service,"
        f" {(right[2] + 1 - right[3]) / 2:.3f}; yours is {given['floor']:.3f}"
    )

    def balanced(attack, inside, outside):
        return (attack.predict(inside).mean() + 1 - attack.predict(outside).mean()) / 2

    peeking = ThresholdAttack("confidence").fit(Knowledge(*sides[2:]))
    fair = ThresholdAttack("confidence").fit(Knowledge(*sides[:2]))
    assert not near(given["bare"], balanced(peeking, *sides[2:])), (
        "your threshold was chosen on the held-out halves: it changes when only they change"
    )
    assert not near(given["bare"], balanced(fair, *sides[:2])), (
        "you report on the known halves, where the attack was fitted; report on the held-out ones"
    )
    assert not near(given["naive"], given["adaptive"]), (
        "naive and adaptive are the same: the naive attack is fitted on the bare answers, the"
        " adaptive one on the published"
    )
    assert not (near(given["adaptive"], 0.5) and near(given["naive"], given["bare"])), (
        "naive and adaptive are exchanged: whoever practised on the published answers is the"
        " adaptive one"
    )
    assert near(given["naive"], 0.5), (
        "here every score is faded to half, so a threshold learnt on the bare answers accuses"
        " nobody and the naive attack must get 0.5: practise on bare answers, then score published"
        " ones"
    )
    assert near(given["adaptive"], given["bare"], 0.002), (
        "here fading changes no order among the records, so whoever learns a new threshold on faded"
        " answers must find as much as on the bare ones"
    )
    print("measure: floor, bare, naive and adaptive.")
