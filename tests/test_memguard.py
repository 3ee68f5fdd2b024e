"""MemGuard: labels, budget, one-time coins, bad input, the batched walk against the published."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from purification_nb.datasets import digits
from purification_nb.defences.memguard import (
    MemGuard,
    membership_logits,
    noise_for_many,
    noise_for_one,
)
from purification_nb.records import InputError
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget


@pytest.fixture(scope="module")
def served():
    """Answers of a target that overfits, and MemGuard for it."""
    split = digits(0)
    target = Recipe(MLPTarget((64,), epochs=60))(split.d1, split.d2, 0)
    d1, d2, d3 = (target.answer(part) for part in (split.d1, split.d2, split.d3))
    return d1, d2, d3.scores, MemGuard()(d1, d2, 0)


def odd(k=10):
    """Make rows at the edge of what scores may be."""
    return np.concatenate(
        [
            np.eye(k)[:2],
            np.full((1, k), 1 / k),
            (np.eye(k)[:2] + np.eye(k)[::-1][:2]) / 2,
            [np.r_[0.5 - 1e-12, 0.5 + 1e-12, np.zeros(k - 2)]],
        ]
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.3, 2.0])
def test_labels_stay_and_the_expected_distortion_is_borne(served, epsilon):
    guard, scores = replace(served[3], epsilon=epsilon), np.concatenate([served[2], odd()])
    published = guard(scores)
    noisy, chance = guard.noise(scores)
    assert np.array_equal(published.argmax(1), scores.argmax(1))
    assert np.allclose(published.sum(1), 1) and (published >= 0).all()
    assert (chance * np.abs(noisy - scores).sum(1) <= epsilon + 1e-9).all()
    assert ((chance >= 0) & (chance <= 1)).all()
    if epsilon == 0:
        assert np.array_equal(published, scores)


def test_noise_is_used_only_where_it_brings_h_nearer_to_undecided(served):
    noisy, chance = served[3].noise(served[2])

    def away(scores):
        """How far h is from undecided."""
        return np.abs(membership_logits(served[3].network, scores).sigmoid().numpy() - 0.5)

    assert (away(noisy) < away(served[2]))[chance > 0].all() and (chance > 0).mean() > 0.1


def test_the_same_question_gets_the_same_answer(served):
    d1, d2, scores, guard = served
    scores, guard = scores[:250], replace(guard, epsilon=0.05, answered={})
    published = guard(scores)
    again = replace(guard, answered={})

    def near(one, other):
        """The last digits depend on how many walk together."""
        return np.abs(one - other).max() < 1e-4

    assert near(np.concatenate([again(row[None]) for row in scores[:8]]), published[:8])
    assert near(replace(guard, answered={})(scores[::-1][:50])[::-1], published[-50:])
    assert np.array_equal(pickle.loads(pickle.dumps(guard))(scores[:20]), published[:20])
    with_other_coins = replace(MemGuard(0.05, key=1)(d1, d2, 0), answered=guard.answered)
    other_coins = with_other_coins(scores)
    assert (other_coins != published).any(1).mean() > 0.02


def test_together_is_one_by_one(served):
    scores = np.concatenate([served[2][:25], odd()])
    alone = np.stack([noise_for_one(served[3].network, row) for row in scores])
    together = noise_for_many(served[3].network, scores)
    moved_alone = np.abs(alone - scores).sum(1) > 1e-5
    moved_together = np.abs(together - scores).sum(1) > 1e-5
    assert np.array_equal(moved_alone, moved_together) and moved_together.any()
    assert np.abs(alone - together).max() < 1e-4


def test_what_is_remembered_is_bounded(served):
    guard = replace(
        served[3], answered={bytes([i // 256, i % 256]): np.zeros(10) for i in range(20_001)}
    )
    guard(served[2][:3])
    assert len(guard.answered) == 3


@pytest.mark.parametrize("epsilon", [-0.1, 2.1, float("nan")])
def test_a_budget_that_is_none(epsilon):
    with pytest.raises(InputError, match="L1 distance"):
        MemGuard(epsilon)


def test_members_are_needed(served):
    with pytest.raises(InputError, match="needs D1"):
        MemGuard()(None, served[1], 0)
