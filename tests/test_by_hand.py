"""Formulas beside numbers worked out on paper: a flipped sign or a reversed ratio must not pass."""

import numpy as np
import pytest
import torch
from torch import nn

from purification_nb.adversary import Attack
from purification_nb.attacks.membership import LabelAttack, ThresholdAttack
from purification_nb.attacks.shadow_attacks import RMIA
from purification_nb.attacks.shadows import Shadows
from purification_nb.defences.players import AdversarialModel, Discriminator
from purification_nb.defences.purifier_training import Batch
from purification_nb.evaluation import combined, planted_leak, try_on_known
from purification_nb.records import Records, Scored
from purification_nb.service import Predictor, Recipe
from purification_nb.trials import Trial


class Says(nn.Module):
    """A network that says the same whatever it is asked."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = [torch.tensor(answer) for answer in answers]

    def forward(self, *asked):
        """Give the answers in turn, the last one from then on."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def rmia_ratio(of_the_service: float, of_shadows: tuple[float, float], a: float) -> float:
    """Let RMIA judge one record that two shadows have not seen; scores are the true class's."""
    next_shadow = iter(of_shadows)

    def target(d1, d2, seed):
        sure = next(next_shadow)
        return Predictor(lambda x: np.tile([sure, 1 - sure], (len(x), 1)), 2)

    candidates = Records(np.arange(4.0)[:, None], np.array([0, 1, 0, 1]), 2)
    attack = RMIA()
    attack.shadows_ = Shadows(candidates, count=2, jobs=1)
    attack.recipe_, attack.a_ = Recipe(target), a
    attack.otherwise_ = 0.5  # of records that no shadow left out; there is none here
    scores = np.array([[of_the_service, 1 - of_the_service]])
    return float(attack.score(Scored(scores, np.array([0]), np.array([[99.0]])))[0])


def test_rmia_divides_the_service_by_the_mean():
    # The two shadows' mean is 0.3. With a = 0.5 the mean over models that saw the record too is
    # taken to be (1.5 * 0.3 + 0.5) / 2 = 0.475, and 0.6 / 0.475 = 1.263; the other way round 0.792.
    assert rmia_ratio(0.6, (0.2, 0.4), 0.5) == pytest.approx(0.6 / 0.475, rel=1e-6)
    # With a = 0 half of those models saw it and are sure: (0.3 + 1) / 2 = 0.65.
    assert rmia_ratio(0.6, (0.2, 0.4), 0.0) == pytest.approx(0.6 / 0.65, rel=1e-6)


def test_rmia_suspects_whom_the_service_knows_better_than_the_shadows():
    assert rmia_ratio(0.9, (0.2, 0.4), 0.5) > rmia_ratio(0.6, (0.2, 0.4), 0.5)
    assert rmia_ratio(0.6, (0.2, 0.4), 0.5) > rmia_ratio(0.6, (0.7, 0.9), 0.5)


PURIFIED = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
BATCH = Batch(
    torch.tensor([[0.9, 0.1], [0.2, 0.8]]),
    PURIFIED,
    torch.tensor([0, 1]),
    torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
    lambda scores: PURIFIED,
)


def test_equation_4_pays_the_purifier_for_what_the_adversarial_model_gets_wrong():
    records = Scored(BATCH.scores.numpy(), BATCH.label.numpy(), BATCH.x.numpy())
    model = AdversarialModel(records, alpha=5.0)
    # It draws 0.5, 0.5 and 1, 1; records are 0, 1 and 1, 0: squared errors .25, .25, 0 and 1.
    model.network = Says([[0.5, 0.5], [1.0, 1.0]])
    assert model.loss(BATCH).item() == pytest.approx(0.375)  # equation 3, which it minimises
    assert model.term(BATCH).item() == pytest.approx(-5 * 0.375)  # the worse it draws, the better


# Logits of what I takes for F's own with probability 3/4 and 1/2.
THREE_QUARTERS, HALF = float(np.log(3)), 0.0


def discriminator(*judgements, saturating: bool = True) -> Discriminator:
    """I, with its opinions typed in."""
    player = Discriminator(2, beta=0.1, saturating=saturating)
    player.network = Says(*judgements)
    return player


def test_equation_6_asks_the_discriminator_to_tell_purified_scores_from_original_ones():
    # On F's scores it says 3/4 and 3/4, on purified ones 1/2 and 1/2:
    # mean of log I(F) + log(1 - I(G)) is log(3/4) + log(1/2), and it minimises minus that.
    player = discriminator([THREE_QUARTERS] * 2, [HALF] * 2)
    assert player.loss(BATCH).item() == pytest.approx(-(np.log(3 / 4) + np.log(1 / 2)))


def test_equation_7_pays_the_purifier_for_passing_as_the_classifier():
    # On purified scores it says 3/4 and 1/2: beta times the mean of log(1/4) and log(1/2).
    term = discriminator([THREE_QUARTERS, HALF]).term(BATCH).item()
    assert term == pytest.approx(0.1 * (np.log(1 / 4) + np.log(1 / 2)) / 2)
    other = discriminator([THREE_QUARTERS, HALF], saturating=False).term(BATCH).item()
    assert other == pytest.approx(-0.1 * (np.log(3 / 4) + np.log(1 / 2)) / 2)


@pytest.mark.parametrize("saturating", [True, False])
def test_either_form_of_equation_7_falls_as_the_discriminator_is_taken_in(saturating):
    taken_in, not_fooled = (
        discriminator([logit] * 2, saturating=saturating).term(BATCH).item()
        for logit in (THREE_QUARTERS, -THREE_QUARTERS)
    )
    assert taken_in < not_fooled


def tried(right: list[int], above: list[float]) -> Trial:
    """A trial on two members and two non-members, worked out on paper."""
    return Trial(np.array(right, float), np.array(above), np.array([1, 1, 0, 0]), 0.0)


def test_how_far_behind_an_auc_is():
    # Each AUC is the mean over members, and over non-members: 0.75 and 0.5. The difference, 0.25,
    # has a variance of 0.0625 / 2 on one side and none on the other.
    ahead, behind = tried([1, 1, 0, 0], [1, 0.5, 0.75, 0.75]), tried([1, 1, 0, 0], [0.5] * 4)
    assert (ahead.auc, behind.auc) == (0.75, 0.5)
    assert behind.auc_behind(ahead) == pytest.approx(0.25 / (0.0625 / 2) ** 0.5)
    assert ahead.auc_behind(behind) == -behind.auc_behind(ahead) and behind.behind(ahead) == 0


class YesOrNo(Attack):
    """As often right as a threshold, on every record, and with no order within yes and no."""

    name = "yes or no"
    threshold_ = 0.5
    card = LabelAttack.card

    def learn(self, knowledge):
        """The threshold's line."""
        self.line_ = ThresholdAttack().fit(knowledge)

    def score(self, scored):
        """1 where the threshold says member."""
        return self.line_.predict(scored).astype(float)


def test_an_attack_that_is_as_often_right_and_orders_worse_is_not_averaged():
    knowledge, *_ = planted_leak(0.65, 500)
    makes = ThresholdAttack(), YesOrNo(), ThresholdAttack("modified_entropy")
    attacks = [attack.fit(knowledge) for attack in makes]
    trials = [try_on_known(attack, knowledge) for attack in attacks]
    assert (trials[0].right == trials[1].right).all()
    assert combined(attacks, trials, knowledge).attacks == [attacks[0], attacks[2]]
