"""The checks of assignment 4: each takes your function and says in a sentence what is wrong with
it."""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from purification_nb.adversary import Knowledge
from purification_nb.attacks.membership import LabelAttack, ThresholdAttack
from purification_nb.datasets import digits
from purification_nb.defences.purifier_training import purifier_loss as equation_2
from purification_nb.records import Records, Scored
from purification_nb.service import Predictor

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import (  # noqa: E402, F401
    COURSE_SEED,
    answer,
    near,
    once_written,
    plain,
    seeded,
    without,
)

OURS = ("split", "service", "published", "d2", "g", "bare_answers", "purified_answers")
BY_AUTOGRAD = {
    *("backward", "autograd", "requires_grad", "requires_grad_", "enable_grad", "inference_mode"),
    *("set_grad_enabled", "jacrev", "jacfwd", "jvp", "vjp", "grad", "checks"),
}


def value_of(student, logits, scores, lam):
    """A student's loss for these lists, in single precision."""
    return answer(
        student,
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(scores, dtype=torch.float32),
        lam,
    )


def loss(student):
    """Exercise 1, first part."""

    def value(logits, scores, lam):
        return value_of(student, logits, scores, lam)

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
    logits = torch.zeros(1, 2, requires_grad=True)
    result = answer(student, logits, torch.tensor([[1.0, 0.0]]), 1.0)
    assert result.requires_grad, (
        "torch cannot take the gradient of your loss: leave it a tensor, without float() or numpy"
    )
    print("purifier_loss: equation 2.")


def loss_far(student):
    """Exercise 1, second part."""
    far = float(value_of(student, [[200.0, 0.0]], [[0.2, 0.8]], 1.0))
    assert np.isfinite(far), (
        "log of zero: logits (200, 0) have a softmax of exactly 0 in the second place, and your"
        f" loss is {far}; take the logarithm of the softmax in one step"
    )
    assert near(far, 200.64), (
        f"logits (200, 0), scores (0.2, 0.8), lambda 1: the loss is 200.64, yours {far:.5g}. Were"
        " the scores clipped?"
    )
    print("purifier_loss: finite, however wrong G is.")


LOGITS, SCORES = [[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]]
SLOPE_OF_R = np.array(
    [[-0.00480851, 0.00471533, 0.0000931797], [-0.0170292, 0.0394664, -0.0224372]]
)
SLOPE_OF_LABEL = np.array([[-0.16738, 0.122364, 0.0450153], [0.0821258, 0.368062, -0.450188]])


def words_of(code):
    """The names that a function's code uses, those of functions inside it too."""
    inside = (one for one in code.co_consts if hasattr(one, "co_names"))
    return set(code.co_names).union(*map(words_of, inside))


def slope_of(student, lam, logits=LOGITS, scores=SCORES):
    """A student's gradient for these lists, where autograd is switched off."""
    used = words_of(student.__code__) if hasattr(student, "__code__") else set()
    assert not used & BY_AUTOGRAD, (
        f"`{min(used & BY_AUTOGRAD)}` is in your answer, and autograd is switched off here: write"
        " the derivative as a formula"
    )
    try:
        with torch.inference_mode():
            given = plain(
                answer(
                    student,
                    torch.tensor(logits, dtype=torch.float32),
                    torch.tensor(scores, dtype=torch.float32),
                    lam,
                )
            )
    except RuntimeError as error:
        if "grad" in str(error) or "nference" in str(error):
            raise AssertionError(
                "autograd is switched off here: write the derivative as a formula"
            ) from None
        raise
    shape = np.shape(logits)
    assert given.shape == shape, (
        f"one number for each logit is asked for, {shape}; yours have shape {given.shape}"
    )
    return given


def gradient(student):
    """Exercise 2, first part: the slope of R."""
    first, (n, k) = slope_of(student, 0.0), np.shape(LOGITS)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert not near(first, 2 * (p - SCORES) / (n * k), 1e-5), (
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
        assert not near(first, wrong * SLOPE_OF_R, 1e-5), f"for lambda = 0, {why}"
    assert near(first, SLOPE_OF_R, 1e-5), (
        "for lambda = 0, when only R is left, your gradient is not the slope of R; compare with a"
        " small change of one logit"
    )
    tiny = slope_of(student, 0.0, [[0.0, 8.0, 24.0, -6.0]], [[0.2, 0.1, 0.6, 0.1]])[0]
    assert near(tiny[[0, 3]] / [-1.1325399e-11, -2.3394047e-14], 1, 0.01), (
        "where the slope is tiny yours is only roughly right: a difference of two losses, instead"
        " of the derivative as a formula?"
    )
    print("purifier_gradient: the slope of R.")


def gradient_label(student):
    """Exercise 2, second part: the slope of the label term."""
    second = slope_of(student, 3.0) - slope_of(student, 0.0)
    right, n = 3 * SLOPE_OF_LABEL, 2
    assert not near(second, -right, 1e-5), "the label term has the wrong sign"
    assert not near(second, n * right, 1e-5), (
        "the mean over the records is missing in the label term"
    )
    assert not near(second, right / 3, 1e-5), "lambda is missing in the label term"
    assert near(second, right, 1e-5), (
        "the part with lambda is not the slope of the cross-entropy: softmax minus one-hot, with"
        " the label that F predicted"
    )
    print("purifier_gradient: the slope of the label term.")


def toy(seed=1):
    """A small data set, and a service that needs no training: nearest class mean."""
    split = digits(seed)
    means = np.stack([split.d1.x[split.d1.y == label].mean(0).ravel() for label in range(10)])

    def classify(x):
        far = ((x.reshape(len(x), 1, -1) - means) ** 2).sum(2)
        scores = np.exp(-1.5 * (far - far.min(1, keepdims=True)))
        return scores / scores.sum(1, keepdims=True)

    return Predictor(classify, 10), split


@cache
def small(seed=1):
    """The toy service and its split, where D2 holds the labels 0 to 4 alone; D2's scores, and
    those of D3 with the other labels."""
    service, split = toy(seed)
    told = service(split.d2.x).argmax(1) < 5
    d2 = split.d2[np.flatnonzero(told)]
    scores, others = service(d2.x), service(split.d3.x)
    return service, replace(split, d2=d2), scores, others[others.argmax(1) >= 5]


def rows_in(x):
    """The records as something that can be looked up, in whatever precision they come."""
    flat = np.asarray(x, np.float32).reshape(len(x), -1).round(4) + 0.0
    return {row.tobytes() for row in flat}


def watched(service, split):
    """The same service, and the names of the sets, D1 or D3, that it was asked about."""
    seen = {"D1": rows_in(split.d1.x), "D3": rows_in(split.d3.x)}
    asked = set()

    def classify(x):
        records = rows_in(x)
        asked.update(name for name, rows in seen.items() if records & rows)
        return service.bare(x)

    return Predictor(classify, service.k), asked


def made(student, service, split, lam, seed):
    """A student's purifier; only its arguments are at hand while it trains."""
    with without(getattr(student, "__globals__", {}), *OURS):
        purify = answer(student, service, split, lam, seed)
    assert callable(purify), "a function is asked for that takes scores and gives purified scores"

    def as_array(scores):
        with torch.random.fork_rng(devices=[]):
            return plain(purify(scores.copy()))

    return as_array


def has_learnt(purify, d2, others):
    """Complain where a purifier was not trained on these scores of D2."""
    purified, strange = purify(d2), purify(others)
    assert purified.shape == d2.shape, (
        f"for scores of shape {d2.shape} your purifier gives shape {purified.shape}"
    )
    assert np.isfinite(purified).all(), "your purifier gives NaN or infinite scores"
    assert (purified >= 0).all() and near(purified.sum(1), 1, 1e-3), (
        "the purified scores are not between 0 and 1, or do not sum to 1: is the softmax missing?"
    )
    value = float(equation_2(torch.tensor(purified).clip(1e-12).log(), torch.tensor(d2), 1.0))
    assert value < 1.2, (
        f"equation 2 on D2 is {value:.2f} after your training, 1.2 is asked for, and 0.3 is easily"
        " reached: train longer, or with a larger rate"
    )
    kept = (strange.argmax(1) == others.argmax(1)).mean()
    assert kept < 0.5, (
        "this D2 holds five labels of ten, and your purifier reproduces the scores of the other"
        f" five as well, {kept:.0%} of their labels: it has learnt nothing from D2, or has seen"
        " more than D2"
    )
    return purified


def purifier(student):
    """Exercise 3, first part."""
    service, split, d2, others = small()
    purify = made(student, service, split, 1.0, 0)
    assert purify(d2).shape == d2.shape, (
        f"for scores of shape {d2.shape} your purifier gives shape {purify(d2).shape}"
    )
    try:
        alone = np.concatenate([purify(d2[[row]]) for row in range(5)])
    except ValueError as error:
        if "more than 1 value" not in str(error):
            raise
        alone = np.full((5, d2.shape[1]), np.nan)  # batch normalisation refuses a batch of one
    assert near(alone, purify(d2)[:5], 1e-4), (
        "a record asked alone gets another answer than among others, or none: batch normalisation"
        " still looks at the whole batch; call eval() after training"
    )
    purified = has_learnt(purify, d2, others)
    apart = abs(made(student, service, split, 0.0, 0)(d2) - purified).max()
    assert apart > 0.02, (
        "lambda = 0 and lambda = 1 give the same purifier: hand `lam` on to equation 2"
    )
    print("make_purifier: it has learnt.")


def purifier_reference(student):
    """Exercise 3, second part."""
    service, split, d2, others = small()
    asked_of, asked = watched(service, split)
    purify = made(student, asked_of, split, 1.0, 0)
    assert "D1" not in asked, (
        "your purifier asks the service about D1: it was trained on members. Train it on the"
        " scores of D2 alone"
    )
    assert "D3" not in asked, (
        "your purifier asks the service about D3, which is for the final measurement: training on"
        " it is not allowed, nor is choosing when to stop. Use the scores of D2 alone"
    )
    purified = has_learnt(purify, d2, others)
    labels = Records(split.d2.x, np.roll(split.d2.y, 7), split.d2.k)
    turned = made(student, asked_of, replace(split, d2=labels), 1.0, 0)(d2)
    if not near(turned, purified, 1e-3):
        assert not near(made(student, asked_of, split, 1.0, 0)(d2), purified, 1e-3), (
            "your purifier changes when the true labels of D2 change: the label in equation 2 is"
            " the one that F predicted"
        )
    print("make_purifier: trained on the scores of D2.")


def purifier_seed(student):
    """Exercise 3, third part."""
    service, split, d2, others = small()
    first, again, other = (made(student, service, split, 1.0, seed)(d2) for seed in (0, 0, 1))
    assert near(first, again, 1e-3), (
        "the same seed gives another purifier: draw weights and batches inside `with seeded(seed)`,"
        " with torch or with np.random"
    )
    assert not near(first, other, 1e-3), (
        "seeds 0 and 1 give the same purifier: what is drawn must follow from `seed`, and nothing"
        " be kept from one call to the next"
    )
    has_learnt(lambda scores: first if scores is d2 else np.zeros_like(scores), d2, others)
    print("make_purifier: another one for another seed.")


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
    given = plain(answer(student, purified, scored))
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
    given = plain(answer(student, scores))
    assert given.size == 1, f"one number is asked for; yours has shape {given.shape}"
    given = float(given.ravel()[0])
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
    assert near(answer(student, np.repeat(scores[:1], 3, 0)), 0), (
        "where all vectors of a label are equal the dispersion is 0"
    )
    print("dispersion: how far from the usual answer with that label.")


def distortion(student):
    """Exercise 5, second half."""
    before, after = (
        np.array([[0.9, 0.1, 0], [0.5, 0.3, 0.2]]),
        np.array([[0.6, 0.2, 0.2], [0.5, 0.3, 0.2]]),
    )
    given = plain(answer(student, before, after))
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


def uneven(split):
    """The split with fewer held-out non-members, so that the halves are not equally large."""
    return replace(split, heldout_nonmembers=split.heldout_nonmembers[:400])


def measured(student, split, service, published):
    """The four numbers of a student, and the answers of the bare service for the four parts."""
    with without(getattr(student, "__globals__", {}), *OURS):
        given = answer(student, ThresholdAttack("confidence"), split, service, published)
    assert isinstance(given, dict) and set(given) == {
        "floor",
        "bare",
        "naive",
        "adaptive",
    }, "a dictionary with floor, bare, naive and adaptive is asked for"
    sides = [
        service.answer(getattr(split, part))
        for part in ("known_members", "known_nonmembers", "heldout_members", "heldout_nonmembers")
    ]
    return {name: float(plain(value)) for name, value in given.items()}, sides


def found(attack, members, nonmembers):
    """The library's own balanced accuracy of a fitted attack."""
    return attack.accuracy(members, nonmembers)


def measure(student, split, service):
    """Exercise 6, first part."""
    split = uneven(split)
    backwards = replace(service, score_map=lambda scores: scores[:, ::-1])  # no label stays
    given, sides = measured(student, split, service, backwards)
    right = found(LabelAttack(), *sides[2:])
    for wrong, why in (
        (
            found(LabelAttack(), *sides[:2]),
            "the floor is measured on the known halves: everything is reported on the held-out"
            " ones",
        ),
        (
            found(
                LabelAttack(), *(replace(side, scores=side.scores[:, ::-1]) for side in sides[2:])
            ),
            "the floor is measured on the published service: it is what the labels of the bare one"
            " give away",
        ),
    ):
        assert not near(given["floor"], wrong) or near(wrong, right), why
    shares = [float((side.scores.argmax(1) == side.y).mean()) for side in sides[2:]]
    all_alike = (len(sides[2]) * shares[0] + len(sides[3]) * (1 - shares[1])) / 1400
    assert not near(given["floor"], all_alike), (
        "1,000 members and 400 others are held out here, and you count the right answers among all"
        " of them: members and non-members count one half each"
    )
    assert near(given["floor"], right), (
        "the floor is what the label attack finds on the held-out halves of the bare service,"
        f" {right:.3f}; yours is {given['floor']:.3f}"
    )
    peeking = ThresholdAttack("confidence").fit(Knowledge(*sides[2:]))
    fair = ThresholdAttack("confidence").fit(Knowledge(*sides[:2]))
    assert not near(given["bare"], found(peeking, *sides[2:])), (
        "your threshold was chosen on the held-out halves: it changes when only they change"
    )
    assert not near(given["bare"], found(fair, *sides[:2])), (
        "you report on the known halves, where the attack was fitted; report on the held-out ones"
    )
    assert near(given["bare"], found(fair, *sides[2:])), (
        f"a threshold on confidence finds {found(fair, *sides[2:]):.3f} on the bare service, yours"
        f" {given['bare']:.3f}"
    )
    print("measure: floor and bare.")


def measure_published(student, split, service):
    """Exercise 6, second part."""
    faded = replace(
        service, score_map=lambda scores: 0.5 * scores + 0.5 / scores.shape[1]
    )  # the same order of records, on half the scale
    given, sides = measured(student, uneven(split), service, faded)
    fair = ThresholdAttack("confidence").fit(Knowledge(*sides[:2]))
    bare = found(fair, *sides[2:])
    assert not near(given["naive"], given["adaptive"]), (
        "naive and adaptive are the same: the naive attack is fitted on the bare answers, the"
        " adaptive one on the published"
    )
    assert not (near(given["adaptive"], 0.5) and near(given["naive"], bare, 0.01)), (
        "naive and adaptive are exchanged: whoever practised on the published answers is the"
        " adaptive one"
    )
    assert near(given["naive"], 0.5), (
        "here every score is faded to half, so a threshold learnt on the bare answers accuses"
        " nobody and the naive attack must get 0.5: practise on bare answers, then score published"
        " ones"
    )
    assert abs(given["adaptive"] - bare) < 0.004, (
        "here fading changes no order among the records, so whoever learns a new threshold on faded"
        f" answers must find as much as on the bare ones, {bare:.3f}; yours is"
        f" {given['adaptive']:.3f}. Was it chosen on the known halves, and does each half count"
        " alike?"
    )
    print("measure: naive and adaptive.")
