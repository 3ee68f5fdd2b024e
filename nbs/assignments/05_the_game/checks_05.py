"""The checks of assignment 5: each takes your function or class and says in a sentence what is
wrong with it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from purification_nb.adversary import Attack, knowledge_of
from purification_nb.attacks.membership import LabelAttack, ThresholdAttack
from purification_nb.defences.purifier_training import Player
from purification_nb.defences.purifier_training import purifier_loss as equation_2
from purification_nb.evaluation import planted_leak
from purification_nb.networks import mlp
from purification_nb.training import seeded

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import answer, near, once_written  # noqa: E402, F401


def judge_loss(student):
    """Exercise 1, first half."""

    def value(real, fake):
        return float(answer(student, torch.tensor(real), torch.tensor(fake)))

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
    print("judge_loss: minus equation 6.")


def purifier_term(student):
    """Exercise 1, second half."""

    def value(fake, beta):
        return float(answer(student, torch.tensor(fake), beta))

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
    print("purifier_term: equation 7's second half.")


class Watched(Player):
    """A small judge that remembers in which state it was asked."""

    def __init__(self, weight, k=6):
        with seeded(1):
            self.network = mlp((k, 16, 1))
        self.weight, self.asked = weight, []

    def state(self):
        return torch.cat([p.detach().clone().flatten() for p in self.network.parameters()])

    def loss(self, batch):
        self.asked.append(("loss", self.state()))
        return (
            F.softplus(-self.network(batch.scores)) + F.softplus(self.network(batch.purified))
        ).mean()

    def term(self, batch):
        self.asked.append(("term", self.state()))
        return -self.weight * F.softplus(self.network(batch.purified)).mean()


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
    """Exercise 2."""

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
    again, keeper, g_moves, p_moves, scores, lam = table(1.0)
    for _ in range(2):
        answer(student, again, keeper, g_moves, p_moves, scores, lam)
    other, twin, o_moves, t_moves, scores, lam = table(1.0)
    for _ in range(2):
        answer(student, other, twin, o_moves, t_moves, scores, lam)
        t_moves.zero_grad()
        o_moves.zero_grad()
    assert near(place(keeper.network), place(twin.network), 1e-5) and near(
        place(again), place(other), 1e-5
    ), (
        "a second round feels the gradients of the first: call zero_grad() before each backward(),"
        " for the player too, since the purifier's step leaves gradients in it"
    )
    print("one_round: the player's step, then the purifier's.")


def draws(rng, n, k=10):
    """Score vectors with a spread, all of one kind."""
    scores = np.exp(3 * rng.normal(size=(n, k)))
    return scores / scores.sum(1, keepdims=True)


def newcomer(student):
    """Exercise 3."""
    rng = np.random.default_rng(0)
    one, another = draws(rng, 600), draws(rng, 600)
    same = float(answer(student, one, another, 0))
    assert 0 <= same <= 1, f"an accuracy lies between 0 and 1, yours is {same:.4g}"
    assert same < 0.62, (
        f"two sets drawn the same way, and your newcomer tells them apart with {same:.2f}: it was"
        " tested on what it was trained on, or chosen there"
    )
    assert same > 0.38, (
        f"two sets drawn the same way, and your newcomer is right in {same:.2f} of the cases: half"
        " is asked for where there is nothing to see. Does the label agree in training and in"
        " testing?"
    )
    flat = (one + 0.004) / (one + 0.004).sum(1, keepdims=True)
    apart = float(answer(student, one, flat, 0))
    assert apart > 0.1, (
        f"where every small score was raised to 0.004 your newcomer is right in {apart:.2f} of the"
        " cases: the labels are the other way round when it is tested"
    )
    assert apart > 0.9, (
        "every small score was raised to 0.004 or more, which is easy to see in the logarithms or"
        f" in the sorted scores; your newcomer finds {apart:.2f}. Look at the small scores, train"
        " longer, or take trees"
    )
    assert near(apart, float(answer(student, one, flat, 0)), 1e-9), (
        "the same seed gives another accuracy: hand the seed to everything that draws"
    )
    print("newcomer: half where there is nothing to see, nearly 1 where there is.")


def published_only(split, service):
    """What an attacker has: known answers, and a service that can be asked but not opened."""
    return replace(knowledge_of(split, service), query=lambda x: service(x))


def balanced(attack, members, nonmembers):
    """Balanced accuracy of a fitted attack."""
    return float(
        (
            np.asarray(attack.predict(members)).mean()
            + 1
            - np.asarray(attack.predict(nonmembers)).mean()
        )
        / 2
    )


def unmask(student, split, service):
    """Exercise 4."""
    knowledge, held = (
        published_only(split, service),
        [service.answer(part) for part in (split.heldout_members, split.heldout_nonmembers)],
    )
    assert isinstance(student, type) and issubclass(student, Attack), (
        "a class is asked for, made from Attack"
    )
    attack = student()

    def fitted():
        try:
            return attack.fit(knowledge)
        except AttributeError as error:
            if "bare" in str(error):
                raise AssertionError(
                    "your attack reaches behind the mirror: an attacker can ask the service, not"
                    " open it; .bare is not at hand"
                ) from None
            raise

    answer(fitted, name="Unmask")
    values = np.asarray(answer(attack.score, held[0], name="Unmask.score"), float)
    assert values.shape == (len(held[0]),), (
        f"one number for each record is asked for, ({len(held[0])},); yours has shape"
        f" {values.shape}"
    )
    assert np.isfinite(values).all(), "some scores are NaN or infinite"
    few, many = (np.asarray(attack.score(part), float) for part in (held[1][::25], held[1]))
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
    print(
        f"Unmask: {found:.3f} where the vendor's attackers found nothing, and the label floor is"
        f" {floor:.3f}."
    )


class Parrot(Attack):
    """Knows its known members by heart, and nothing else."""

    name = "parrot"

    def learn(self, knowledge):
        self.known_, self.threshold_ = {row.tobytes() for row in knowledge.members.scores}, 0.5

    def score(self, scored):
        return np.array([float(row.tobytes() in self.known_) for row in scored.scores])


def honest(student):
    """Exercise 5."""
    knowledge, members, nonmembers = planted_leak(0.75, 300, seed=1)

    def make():
        return [
            LabelAttack(),
            Parrot(),
            ThresholdAttack("confidence"),
            ThresholdAttack("entropy"),
        ]

    given = answer(student, make(), knowledge, members, nonmembers)
    assert isinstance(given, dict) and set(given) == {
        "attack",
        "accuracy",
        "low",
        "high",
        "floor",
    }, "a dictionary with attack, accuracy, low, high and floor is asked for"
    assert given["attack"] != "parrot", (
        "the attack was chosen on the very records it had learnt: one that knows its known members"
        " by heart shines there and nowhere else. Fit on a part of the known halves and compare on"
        " the rest, as `trial` does"
    )
    _, labels_in, labels_out = planted_leak(0.85, 300, by_label=True, seed=2)
    turned = answer(student, make(), knowledge, labels_in, labels_out)
    assert turned["attack"] == given["attack"], (
        "the attack was chosen on the held-out halves: only they have changed, and you now choose"
        f" {turned['attack']!r} instead of {given['attack']!r}"
    )
    assert given["attack"] in ("confidence", "entropy"), (
        "the leak planted in the known halves is in the confidence, and you choose"
        f" {given['attack']!r}: take the attack that does best on them"
    )
    attack = {one.name: one for one in make()}[given["attack"]].fit(knowledge)
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
    floors = [
        balanced(LabelAttack(), *parts)
        for parts in ((labels_in, labels_out), (knowledge.members, knowledge.nonmembers))
    ]
    assert not near(turned["floor"], floors[1], 1e-6), (
        "the floor is measured on the known halves: it belongs beside a number of the held-out ones"
    )
    assert near(turned["floor"], floors[0], 1e-6), (
        f"the floor is what LabelAttack finds on the held-out halves, {floors[0]:.4f}; yours is"
        f" {turned['floor']:.4f}"
    )
    wide = given["high"] - given["low"]
    assert given["low"] < given["accuracy"] < given["high"], (
        "the interval does not hold the accuracy"
    )
    assert 0.04 < wide < 0.12, (
        f"with 300 members and 300 others a 95 % interval is about 0.07 wide, yours is {wide:.3f}"
    )
    print(
        "honest_row: chosen on the known halves, reported on the others, with floor and interval."
    )
