"""The checks of assignment 5: each takes your function or class and says in a sentence what is
wrong with it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from purification_nb.adversary import Attack, Knowledge, knowledge_of
from purification_nb.attacks.membership import LabelAttack, ThresholdAttack
from purification_nb.defences.purifier_training import Batch, Player
from purification_nb.defences.purifier_training import purifier_loss as equation_2
from purification_nb.evaluation import evaluate, planted_leak
from purification_nb.networks import mlp
from purification_nb.training import seeded

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import (  # noqa: E402, F401
    COURSE_SEED,
    answer,
    near,
    once_written,
    plain,
    without,
)

OURS = (
    *("split", "service", "mirrored", "bare_knowledge", "known", "again", "vendor", "held"),
    *("d2", "g", "game", "lost", "both", "order"),
)


def number(given):
    """One number as a plain float."""
    given = plain(given)
    assert given.size == 1, f"one number is asked for; yours has shape {given.shape}"
    return float(given.ravel()[0])


def slope_at(student, logits, *others):
    """The slope of a student's loss along these logits, or along those of `others`."""
    parts = [torch.tensor(logits), *(torch.tensor(one) for one in others if np.ndim(one))]
    parts = [part.requires_grad_() for part in parts]
    loss = answer(student, *parts, *(one for one in others if not np.ndim(one)))
    assert isinstance(loss, torch.Tensor) and loss.requires_grad, (
        "torch cannot take the gradient of your loss: leave it a tensor, without float(), numpy or"
        " detach()"
    )
    loss.sum().backward()
    slopes = [torch.zeros_like(part) if part.grad is None else part.grad for part in parts]
    return np.concatenate([plain(slope) for slope in slopes])


def judge_loss(student):
    """Exercise 1, first half."""

    def value(real, fake):
        return number(answer(student, torch.tensor(real), torch.tensor(fake)))

    given, right = (
        value([2.0, 2.0, 0.0], [0.0, 0.0, -1.0]),
        (2 * np.log1p(np.exp(-2)) + np.log(2)) / 3 + (2 * np.log(2) + np.log1p(np.exp(-1))) / 3,
    )
    assert not near(given, -right), (
        "equation 6 is to be made large; a loss is made small, so change the sign"
    )
    assert not near(given, 3 * right), "the sum over the records instead of the mean"
    assert not near(given, right / 2), (
        "the mean of the two parts instead of their sum: without an opinion the judge must lose 2"
        " log 2"
    )
    flipped = (2 * np.log1p(np.exp(2)) + np.log(2)) / 3 + (2 * np.log(2) + np.log1p(np.exp(1))) / 3
    assert not near(given, flipped), (
        "real and purified are exchanged: a large logit says that the vector is F's own"
    )
    assert near(given, right), (
        f"logits 2, 2, 0 for originals and 0, 0, -1 for purified vectors: the loss is {right:.4f},"
        f" yours is {given:.4g}. I is the sigmoid of the logit"
    )
    assert near(value([0.0, 0.0], [0.0, 0.0]), 2 * np.log(2)), (
        "without an opinion (logits 0) the judge must lose 2 log 2 = 1.386"
    )
    far = value([-200.0], [200.0])
    assert np.isfinite(far), (
        f"log of zero: a judge that is sure, and wrong (logits -200 and 200), gives {far}; take the"
        " logarithm of the sigmoid in one step"
    )
    assert near(far, 400.0), (
        f"a judge that is sure, and wrong (logits -200 and 200), loses 400; yours loses {far:.4g}."
        " Was something clipped?"
    )
    slopes = slope_at(student, [0.0, 2.0], [0.0, -2.0])
    assert near(slopes, [-0.25, -0.0596015, 0.25, 0.0596015]), (
        "the number is right and its gradient is not, in one of the two halves or in both: both the"
        " logits of originals and those of purified vectors must keep their gradient"
    )
    print("judge_loss: minus equation 6.")


def purifier_term(student):
    """Exercise 1, second half."""

    def value(fake, beta):
        return number(answer(student, torch.tensor(fake), beta))

    given, right = (
        value([1.0, 1.0, -1.0], 2.0),
        -2 * (2 * np.log1p(np.exp(1)) + np.log1p(np.exp(-1))) / 3,
    )
    assert not near(given, -right), (
        "the wrong sign: the purifier makes log(1 - I) small, which means I large, so that it is"
        " taken for F"
    )
    assert not near(given, 2 * (2 * np.log1p(np.exp(-1)) + np.log1p(np.exp(1))) / 3), (
        "that is the non-saturating form, minus log I: equation 7 as printed is asked for"
    )
    assert not near(given, right / 2), "beta is missing"
    assert not near(given, 3 * right), "the sum over the records instead of the mean"
    assert near(given, right), (
        f"logits 1, 1, -1 and beta 2: the term is {right:.4f}, yours is {given:.4g}"
    )
    far = value([200.0], 1.0)
    assert np.isfinite(far), (
        f"log of zero: where the judge is wholly deceived (logit 200) your term is {far}; take the"
        " logarithm in one step"
    )
    assert near(far, -200), (
        f"where the judge is wholly deceived (logit 200) the term is -200, yours {far:.4g}"
    )
    assert near(slope_at(student, [0.0, 2.0], 3.0), [-0.75, -1.3211956]), (
        "the number is right and its gradient is not: the purifier learns from the slope of this"
        " term"
    )
    print("purifier_term: equation 7's second half.")


class Watched(Player):
    """A small player that remembers in which state, and with which labels, it was asked.

    Its losses are squares, not those of exercise 1.
    """

    def __init__(self, weight, k=6):
        with seeded(1):
            self.network = mlp((k, 16, 1))
        self.weight, self.asked, self.labels = weight, [], []

    def state(self):
        return torch.cat([p.detach().clone().flatten() for p in self.network.parameters()])

    def loss(self, batch):
        self.asked.append(("loss", self.state()))
        self.labels.append(batch.label)
        apart = self.network(batch.scores) - self.network(batch.purified)
        return ((apart - 1) ** 2).mean()

    def term(self, batch):
        self.asked.append(("term", self.state()))
        self.labels.append(batch.label)
        return self.weight * (self.network(batch.purified) ** 2).mean()


def table(weight, k=6, lam=1.0):
    """G, a player, their optimisers, and scores; all from one seed."""
    with seeded(0):
        g, scores = mlp((k, 8, k), batch_norm=True), (2 * torch.randn(32, k)).softmax(1)
    player = Watched(weight)
    return (
        g,
        player,
        torch.optim.SGD(g.parameters(), 0.5),
        torch.optim.SGD(player.network.parameters(), 0.5),
        scores,
        lam,
    )


def place(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def round_(student):
    """Exercise 2, first part."""

    def played(weight):
        parts = table(weight)
        try:
            answer(student, *parts)
        except RuntimeError as error:
            if "second time" in str(error):
                raise AssertionError(
                    "torch goes back through G twice: the player's own loss must be taken on"
                    " detached scores, as mere numbers"
                ) from None
            raise
        return parts

    g, player, _, _, scores, lam = played(0.0)
    alone, judge, moves, judge_moves, *_ = table(0.0)
    start, judge_start = place(alone), place(judge.network)
    logits = alone(scores)
    moves.zero_grad()
    equation_2(logits, scores, lam).backward()
    moves.step()
    assert not near(place(g), start, 1e-6), "the purifier has not moved"
    assert not near(place(player.network), judge_start, 1e-6), "the player has not moved"
    f_says, g_says = plain(scores.argmax(1)), plain(logits.argmax(1))
    for label in player.labels:
        label = plain(label if label is not None else [])
        assert label.shape != g_says.shape or not (label == g_says).all(), (
            "the label in your batch is G's own: it is the one that F predicted, from `scores`"
        )
        assert label.shape == f_says.shape and (label == f_says).all(), (
            "the label in your batch is not F's, `scores.argmax(1)`: players may look at it"
        )
    called = [name for name, _ in player.asked]
    assert "loss" in called and "term" in called, (
        "call both player.loss(batch), for its own step, and player.term(batch), for the purifier's"
    )
    assert near(place(g), place(alone), 1e-5), (
        "with a player that adds nothing (weight 0) the purifier must move as equation 2 alone"
        " says, and yours does not: the gradient of the player's own loss was not stopped, and"
        " moved the purifier too"
    )
    g, player, *_ = played(1.0)
    states = dict(player.asked)
    assert not near(states["term"], judge_start, 1e-6), (
        "the purifier moved first: here the player takes its step first, then the purifier answers"
        " to the player as it has become"
    )
    assert near(states["loss"], judge_start, 1e-6), (
        "the player's own loss was asked after it had moved"
    )
    assert not near(place(g), place(alone), 1e-5), (
        "the purifier moves as if nobody played: its batch for player.term must hold the purified"
        " scores with their gradient, not detached"
    )
    assert near(place(player.network), states["term"], 1e-6), (
        "the player moves again in the purifier's step: only the purifier's optimiser may step"
        " there"
    )
    print("one_round: the player's step, then the purifier's.")


def round_again(student):
    """Exercise 2, second part."""
    again, keeper, g_moves, p_moves, scores, lam = table(1.0)
    told = [answer(student, again, keeper, g_moves, p_moves, scores, lam) for _ in range(2)]
    assert all(isinstance(one, (tuple, list)) and len(one) == 2 for one in told), (
        "two numbers are asked for: the player's own loss, and the purifier's whole one"
    )
    other, twin, o_moves, t_moves, scores, lam = table(1.0)
    for _ in range(2):
        answer(student, other, twin, o_moves, t_moves, scores, lam)
        t_moves.zero_grad()
        o_moves.zero_grad()
    assert not near(place(keeper.network), table(1.0)[1].state(), 1e-6) and not near(
        place(again), place(table(1.0)[0]), 1e-6
    ), "the purifier or the player has not moved"
    assert near(place(keeper.network), place(twin.network), 1e-5) and near(
        place(again), place(other), 1e-5
    ), (
        "a second round feels the gradients of the first: call zero_grad() before each backward(),"
        " for the player too, since the purifier's step leaves gradients in it"
    )
    start, first, *_ = table(1.0)
    scores, logits = table(1.0)[4], start(table(1.0)[4])
    batch = Batch(scores, logits.softmax(1).detach(), scores.argmax(1), None, None)
    assert near(number(told[0][0]), first.loss(batch), 1e-4), (
        "the first number is not the player's own loss before it moved"
    )
    print("one_round: and the next one.")


def draws(rng, n, k=10):
    """Score vectors with a spread, all of one kind."""
    scores = np.exp(3 * rng.normal(size=(n, k)))
    return scores / scores.sum(1, keepdims=True)


def raised(scores):
    """The same vectors with every small score raised to 0.004."""
    return (scores + 0.004) / (scores + 0.004).sum(1, keepdims=True)


def raised_in_part(rng, scores):
    """Three of five vectors raised, and others of the same kind in the place of the rest."""
    chosen = rng.permutation(len(scores))[:, None] < 0.6 * len(scores)
    return np.where(chosen, raised(scores), draws(rng, *scores.shape))


def told_by(student, original, purified, seed):
    """The accuracy of a student's newcomer, a plain number."""
    with without(getattr(student, "__globals__", {}), *OURS):
        value = number(answer(student, original.copy(), purified.copy(), seed))
    assert 0 <= value <= 1, f"an accuracy lies between 0 and 1, yours is {value:.4g}"
    return value


def newcomer(student):
    """Exercise 3, first part: it finds what is planted."""
    rng = np.random.default_rng(0)
    one = draws(rng, 600)
    apart = told_by(student, one, raised(one), 0)
    assert apart > 0.1, (
        f"where every small score was raised to 0.004 your newcomer is right in {apart:.2f} of the"
        " cases: the labels are the other way round when it is tested"
    )
    assert apart > 0.9, (
        "every small score was raised to 0.004 or more, which is easy to see in the logarithms or"
        f" in the sorted scores; your newcomer finds {apart:.2f}, and 0.9 is asked for. Look at the"
        " small scores, train longer, or take trees"
    )
    turned = told_by(student, raised(one), one, 0)
    assert turned > 0.9, (
        f"with original and purified exchanged it finds {turned:.2f}: it goes by a rule of its own"
        " instead of learning what differs"
    )
    some = told_by(student, one, raised_in_part(rng, one), 0)
    assert 0.66 < some < 0.92, (
        "here three of five purified vectors were changed and the others are of the original kind,"
        f" so the best accuracy is near 0.8; yours is {some:.2f}. Is it the accuracy of a"
        " classifier, on records it was not trained on?"
    )
    print("newcomer: finds what is planted.")


def newcomer_control(student):
    """Exercise 3, second part: it finds nothing where nothing is."""
    rng = np.random.default_rng(0)
    one, another = draws(rng, 600), draws(rng, 600)
    assert told_by(student, one, raised(one), 1) > 0.75, (
        "a newcomer that finds a planted leak comes first: the cell above says how"
    )
    same = told_by(student, one, another, 0)
    assert same < 0.62, (
        f"two sets drawn the same way, and your newcomer tells them apart with {same:.2f}: it was"
        " tested on what it was trained on, or chosen there"
    )
    assert same > 0.38, (
        f"two sets drawn the same way, and your newcomer is right in {same:.2f} of the cases: half"
        " is asked for where there is nothing to see. Does the label agree in training and in"
        " testing?"
    )
    twins = [told_by(student, one, one, seed) for seed in (0, 1)]
    assert max(abs(value - 0.5) for value in twins) < 0.02, (
        "here the purified vectors are the originals, so whoever deals records is right about one"
        f" of each pair, exactly one half; yours is right in {twins[0]:.2f} and {twins[1]:.2f} of"
        " the cases. Take both versions of a record to the same side"
    )
    part = raised_in_part(rng, one)
    some = [told_by(student, one, part, seed) for seed in (0, 0, 1, 2)]
    assert near(some[0], some[1], 1e-9), (
        "the same seed gives another accuracy: hand the seed to everything that draws"
    )
    assert not near(some[0], some[2], 1e-9) or not near(some[0], some[3], 1e-9), (
        "seeds 0, 1 and 2 give the same accuracy to the last digit: deal the records by the seed"
    )
    print("newcomer: half where there is nothing to see.")


def published_only(scored):
    """Published answers and the true labels, without the records."""
    return replace(scored, x=None, groups=None)


def balanced(attack, members, nonmembers):
    """Balanced accuracy of a fitted attack, by the library."""
    return Attack.accuracy(attack, members, nonmembers)


def unmask(student, split, service):
    """Exercise 4."""
    assert isinstance(student, type) and issubclass(student, Attack), (
        "a class is asked for, made from Attack"
    )
    answers = knowledge_of(split, service)
    knowledge = Knowledge(published_only(answers.members), published_only(answers.nonmembers))
    held = [
        published_only(service.answer(part))
        for part in (split.heldout_members, split.heldout_nonmembers)
    ]
    with without(getattr(student.learn, "__globals__", {}), *OURS):
        unmasked(student(), knowledge, held)


def unmasked(attack, knowledge, held):
    """Complain where an attack on the mirror is none, or a weak one."""

    def fitted():
        try:
            return attack.fit(knowledge)
        except (AttributeError, TypeError) as error:
            if "bare" in str(error):
                raise AssertionError(
                    "your attack reaches behind the mirror: an attacker sees published answers, and"
                    " .bare is not at hand"
                ) from None
            if "NoneType" in str(error):
                raise AssertionError(
                    "your attack reaches for more than it has: `.scores` and `.y` of"
                    " `knowledge.members` and `knowledge.nonmembers`"
                ) from None
            raise

    answer(fitted, name="Unmask")
    try:
        values = plain(answer(attack.score, held[0], name="Unmask.score"))
    except TypeError as error:
        if "NoneType" not in str(error):
            raise
        raise AssertionError(
            "your attack looks at the records themselves: of a record in question it sees the"
            " published `.scores` and the label `.y`"
        ) from None
    assert values.shape == (len(held[0]),), (
        f"one number for each record is asked for, ({len(held[0])},); yours has shape"
        f" {values.shape}"
    )
    assert np.isfinite(values).all(), "some scores are NaN or infinite"
    few, many = (plain(attack.score(part)) for part in (held[1][::25], held[1]))
    assert near(few, many[::25], 1e-6), (
        "a record gets another score among few than among many: what you learn must come from the"
        " known halves, not from the records in question"
    )
    floor, found = balanced(LabelAttack(), *held), balanced(attack, *held)
    assert not found < 1 - floor + 0.02, (
        f"the other way round: accuracy {found:.3f} on the held-out halves; higher must mean member"
    )
    assert found > floor - 0.02, (
        f"accuracy {found:.3f} on the held-out halves, below the label floor of {floor:.3f}: a weak"
        " attack. Was it fitted on the bare scores? Learn everything from the published ones,"
        " `knowledge.members` and `knowledge.nonmembers`"
    )
    assert found > 0.62, (
        f"accuracy {found:.3f} on the held-out halves, hardly above the label floor of {floor:.3f}:"
        " it is adaptive, but one rule for all labels does not see through the mirror. Learn for"
        " each predicted label which way it is turned"
    )
    print("Unmask: finds a leak where the vendor's attackers found nothing.")


class Unsure(Attack):
    """Takes for a member whoever the service is unsure of."""

    name = "unsure"

    def score(self, scored):
        return -scored.scores[np.arange(len(scored)), scored.y]


class Parrot(Attack):
    """Has memorised its known members, and nothing else."""

    name = "parrot"

    def learn(self, knowledge):
        self.known_, self.threshold_ = {row.tobytes() for row in knowledge.members.scores}, 0.5

    def score(self, scored):
        return np.array([float(row.tobytes() in self.known_) for row in scored.scores])


def toolbox():
    """Attacks to choose from, not fitted."""
    return [
        LabelAttack(),
        Parrot(),
        Unsure(),
        ThresholdAttack("confidence"),
        ThresholdAttack("entropy"),
    ]


def row_of(student, *service):
    """A student's row, with plain numbers."""
    with without(getattr(student, "__globals__", {}), *OURS):
        given = answer(student, toolbox(), *service)
    wanted = {"attack", "accuracy", "low", "high", "floor"}
    assert isinstance(given, dict) and set(given) == wanted, (
        "a dictionary with attack, accuracy, low, high and floor is asked for"
    )
    return {
        name: str(value) if name == "attack" else number(value) for name, value in given.items()
    }


def is_found(given, knowledge, members, nonmembers):
    """Complain where a row's accuracy is not that of its attack on the held-out halves; give the
    attack, fitted."""
    attack = {one.name: one for one in toolbox()}[given["attack"]].fit(knowledge)
    right, known = (
        balanced(attack, members, nonmembers),
        balanced(attack, knowledge.members, knowledge.nonmembers),
    )
    assert not near(given["accuracy"], known, 1e-6) or near(known, right, 1e-6), (
        "the accuracy is that on the known halves: report the held-out ones"
    )
    assert near(given["accuracy"], right, 0.004), (
        f"the accuracy of {given['attack']} on the held-out halves is {right:.4f}, yours is"
        f" {given['accuracy']:.4f}. Was its threshold fitted on all of the known halves?"
    )
    return attack


def honest(student):
    """Exercise 5, first part: the attack and its accuracy."""
    knowledge, members, nonmembers = planted_leak(0.75, 300, seed=1)
    given = row_of(student, knowledge, members, nonmembers)
    assert given["attack"] != "parrot", (
        "the attack was chosen on the very records it had learnt: one that has memorised its known"
        " members is right there and nowhere else. Fit on a part of the known halves and compare on"
        " the rest, as `trial` does"
    )
    _, labels_in, labels_out = planted_leak(0.85, 300, by_label=True, seed=2)
    turned = row_of(student, knowledge, labels_in, labels_out)
    assert turned["attack"] == given["attack"], (
        "the attack was chosen on the held-out halves: only they have changed, and you now choose"
        f" {turned['attack']!r} instead of {given['attack']!r}"
    )
    assert given["attack"] in ("confidence", "entropy"), (
        "the leak planted in the known halves is in the confidence, and you choose"
        f" {given['attack']!r}: take the attack that does best on them"
    )
    is_found(given, knowledge, members, nonmembers)
    other = Knowledge(knowledge.nonmembers, knowledge.members)
    given = row_of(student, other, nonmembers, members)
    assert given["attack"] == "unsure", (
        "here the service is unsure of members, so the attack that takes the unsure answers for"
        f" members does best on the known halves, and you choose {given['attack']!r}"
    )
    is_found(given, other, nonmembers, members)
    print("honest_row: chosen on the known halves, measured on the others.")


def honest_interval(student):
    """Exercise 5, second part: the interval."""
    for n in (300, 80, 1200):
        service = planted_leak(0.75, n, seed=n)
        given = row_of(student, *service)
        attack = is_found(given, *service)
        _, low, high, _ = evaluate(attack, *service[1:])["accuracy"]
        share = (given["high"] - given["low"]) / (high - low)
        assert given["low"] < given["accuracy"] < given["high"], (
            "the interval does not hold the accuracy"
        )
        assert not 0.8 < share < 0.88, (
            f"with {n} members and {n} others your interval is {given['high'] - given['low']:.3f}"
            f" wide, {share:.0%} of a 95 % interval: is it one of 90 %?"
        )
        assert 0.88 <= share < 1.14, (
            f"with {n} members and {n} others a 95 % interval is about {high - low:.3f} wide, yours"
            f" is {given['high'] - given['low']:.3f}: it must follow from the records"
        )
        middle = (given["low"] + given["high"]) / 2
        assert abs(middle - (low + high) / 2) < 0.15 * (high - low), "the interval lies elsewhere"
    print("honest_row: with a 95 % interval.")


def honest_floor(student):
    """Exercise 5, third part: the floor."""
    knowledge, *_ = planted_leak(0.75, 300, seed=1)
    _, labels_in, labels_out = planted_leak(0.85, 300, by_label=True, seed=2)
    given = row_of(student, knowledge, labels_in, labels_out)
    right, known = (
        balanced(LabelAttack(), *parts)
        for parts in ((labels_in, labels_out), (knowledge.members, knowledge.nonmembers))
    )
    assert not near(given["floor"], known, 1e-6), (
        "the floor is measured on the known halves: it belongs beside a number of the held-out ones"
    )
    assert near(given["floor"], right, 1e-6), (
        f"the floor is what LabelAttack finds on the held-out halves, {right:.4f}; yours is"
        f" {given['floor']:.4f}"
    )
    print("honest_row: with the floor.")
