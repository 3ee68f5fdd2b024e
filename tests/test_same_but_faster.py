"""What was made faster gives what the plain way gives."""

import re
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from purification_nb.attacks.catalogue import ATTACKS
from purification_nb.attacks.distances import Answers, distances_to_known
from purification_nb.attacks.inversion import _race_epochs
from purification_nb.attacks.membership import log_confidence, log_features
from purification_nb.attacks.reconstructions import structural_similarity
from purification_nb.audit.measure import AskedOnce
from purification_nb.audit.run import audit
from purification_nb.audit.side_by_side import working_order
from purification_nb.cache import each_in_parallel
from purification_nb.datasets import digits
from purification_nb.defences.baselines import one_hot
from purification_nb.defences.imitation import ImitationDefence
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.evaluation import planted_leak
from purification_nb.networks import mlp
from purification_nb.optimiser import PlainAdam
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget


@pytest.mark.parametrize(
    "settings", [{}, {"betas": (0.5, 0.999), "amsgrad": True}, {"weight_decay": 0.1}]
)
def test_plain_adam_is_torchs_adam_to_the_last_digit(settings):
    states = []
    for kind in (PlainAdam, torch.optim.Adam):
        torch.manual_seed(0)
        network, unused = mlp((20, 30, 5), batch_norm=True), torch.nn.Linear(2, 2)
        moved = [*network.parameters(), *unused.parameters()]
        optimiser = kind(moved, lr=2e-3, fused=True, **settings)
        x, y = torch.rand(64, 20), torch.arange(64) % 5
        for _ in range(20):
            optimiser.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimiser.step()
        states.append((network.state_dict(), optimiser.state_dict()))
    (ours, remembered), (theirs, expected) = states
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert remembered["param_groups"] == expected["param_groups"]
    for index, state in expected["state"].items():
        assert state.keys() == remembered["state"][index].keys()
        assert all(torch.equal(state[n], remembered["state"][index][n]) for n in state)


def plain_distances(asked, known, folds):
    """Give the columns one answer after the other, as they are described."""
    rows = []
    for i, scores in enumerate(asked):
        near = known[(known.argmax(1) == scores.argmax()) & (folds[1] != folds[0][i])]
        if not len(near):
            rows.append([3.0, 3.0, 3.0, 0.0, 0.5])
            continue
        logs = np.log(np.clip(scores, 1e-12, 1)), np.log(np.clip(near, 1e-12, 1))
        far = np.sqrt(((logs[1] - logs[0]) ** 2).sum(1)) / np.sqrt(len(scores))
        unsure = np.log(np.clip(1 - scores.max(), 1e-30, 1))
        theirs = np.log(np.clip(1 - near.max(1), 1e-30, 1))
        three = np.array([far.min(), np.median(far), far[theirs.argmin()]])
        same = (np.abs(near - scores).max(1) < 1e-9).sum()
        rank = ((theirs < unsure) + 0.5 * (theirs == unsure)).mean()
        rows.append([*np.log(three + 1e-9), same, rank])
    return np.array(rows)


def test_distances_to_known_answers_are_those_taken_one_by_one():
    rng = np.random.default_rng(0)
    asked, known = rng.dirichlet(np.full(6, 0.3), 70), rng.dirichlet(np.full(6, 0.3), 50)
    known[:5] = asked[:5]
    folds = rng.integers(0, 3, 70), rng.integers(0, 3, 50)
    folds[1][known.argmax(1) == 2] = 0  # some answers are left without anyone
    found = distances_to_known(Answers(asked), Answers(known), folds)
    assert np.allclose(found, plain_distances(asked, known, folds), atol=1e-12)
    nobody = np.full(70, -1), folds[1]
    assert np.allclose(
        distances_to_known(Answers(asked), Answers(known)),
        plain_distances(asked, known, nobody),
        atol=1e-12,
    )


@pytest.mark.parametrize("shape", [(9, 8, 16), (4, 3, 12, 9), (3, 7, 7)])
def test_similarity_of_many_pictures_at_once_is_that_of_each(shape):
    from skimage.metrics import structural_similarity as of_two

    rng = np.random.default_rng(0)
    x, noise = rng.random(shape), rng.random(shape)
    drawn = 0.7 * x + 0.3 * noise
    colours = 0 if len(shape) == 4 else None
    each = [
        of_two(a, b, data_range=2.0, win_size=7, channel_axis=colours)
        for a, b in zip(drawn, x, strict=True)
    ]
    assert np.allclose(structural_similarity(drawn, x, 2.0), each, atol=1e-12)


def test_log_confidence_is_the_end_of_the_log_features():
    rng = np.random.default_rng(0)
    scores, y = rng.dirichlet(np.full(5, 0.1), 40), rng.integers(0, 5, 40)
    assert np.array_equal(log_features(scores, y)[:, -2:], log_confidence(scores, y))


def test_an_attack_is_asked_once_about_the_same_set():
    knowledge, members, _ = planted_leak(0.7, 200)
    attack = ATTACKS["confidence"]().fit(knowledge)
    asked, score = [], attack.score
    attack.score = lambda scored: asked.append(scored) or score(scored)
    once = AskedOnce(attack)
    assert np.array_equal(once.predict(members), once.score(members) >= attack.threshold_)
    assert len(asked) == 1 and (once.name, once.repeated) == ("confidence", False)
    assert np.array_equal(once.score(members[:50]), score(members[:50])) and len(asked) == 2


def test_results_come_in_order_and_before_all_are_there():
    begun = []
    with joblib.parallel_config(backend="sequential"):
        results = each_in_parallel([(begun.append, i) for i in range(3)])
        assert next(results) is None and begun == [0]
        assert list(results) == [None, None] and begun == [0, 1, 2]


def test_cells_that_train_most_are_measured_first():
    bare = Recipe(MLPTarget())
    recipes = [
        Recipe(bare.target, one_hot, "one_hot"),
        bare,
        Recipe(bare.target, PurifierDefence(), "purifier"),
        Recipe(bare.target, PurifierDefence(keep_label=True), "purifier_keep_label"),
        Recipe(bare.target, ImitationDefence(key=1), "imitation"),
        Recipe(MLPTarget(epochs=3), name="dropout"),
    ]
    plans = [
        SimpleNamespace(recipe=recipe, bare=bare, seed=seed)
        for recipe in recipes
        for seed in (0, 1)
    ]
    order = [(plans[i].recipe.name, plans[i].seed) for i in working_order(plans)]
    names = [name for name, seed in order if not seed]
    assert names[:4] == ["none", "imitation", "dropout", "purifier"]
    assert names[-1] == "purifier_keep_label" and sorted(order) == sorted(
        (plan.recipe.name, plan.seed) for plan in plans
    )


def test_first_figures_are_told_while_the_rest_runs(capfd):
    target = MLPTarget((16,), epochs=3)
    found = audit(digits, "none,one_hot", "label,confidence", 1, target, jobs=1)
    told = capfd.readouterr().err
    label, threshold = map(
        float, re.search(r"tells ([\d.]+) .* confidence ([\d.]+)", told).groups()
    )
    rows = found.table[found.table.recipe.eq("none") & found.table.metric.eq("accuracy")]
    values = rows.set_index("attack").value.astype(float)
    assert label == pytest.approx(100 * values["label"], abs=0.06)
    assert threshold == pytest.approx(100 * values["confidence"], abs=0.06)
    assert told.index("undefended") < told.index("seed 0, none") < told.index("seed 0, one_hot")
    audit(digits, "none", "label", 1, target, jobs=1, progress=False)
    assert "undefended" not in capfd.readouterr().err


@pytest.mark.parametrize("records, epochs", [(2000, 6), (1000, 11), (200, 15)])
def test_decoders_race_for_longer_where_an_epoch_is_short(records, epochs):
    kept = np.arange(records * 4 // 5)
    assert _race_epochs(SimpleNamespace(kept=kept, epochs=60)) == epochs
    assert _race_epochs(SimpleNamespace(kept=kept, epochs=3)) == 3
