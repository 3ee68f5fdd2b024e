"""The defences in training: what they refuse, that a seed fixes them, and what they promise."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from purification_nb.attacks.shadows import Shadows
from purification_nb.defences import in_training as td
from purification_nb.defences.catalogue import CATALOGUE
from purification_nb.defences.in_training import (
    DPSGD,
    MinMax,
    ModelStacking,
    Regularised,
    epsilon_spent,
)
from purification_nb.networks import TwoBranch
from purification_nb.records import InputError, Records
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

IN_TRAINING = {name: entry.made for name, entry in CATALOGUE.items() if entry.in_training}

TINY = {"hidden": (16,), "epochs": 3}
TARGETS = {
    "l2": Regularised(**TINY, weight_decay=0.01),
    "dropout": Regularised(**TINY, dropout=0.5),
    "label_smoothing": Regularised(**TINY, label_smoothing=0.1),
    "early_stopping": Regularised(**TINY, patience=1),
    "min_max": MinMax(**TINY),
    "both sides": MinMax(**TINY, both=True),
    "model_stacking": ModelStacking(**TINY, trees=10),
    "dp_sgd": DPSGD(**TINY, batch_size=16),
}
each = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Remember nothing from one test to the next."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))


def records(n=120, k=4, seed=0, width=6, spread=0.5):
    """Draw n records in k clouds."""
    rng, y = np.random.default_rng(seed), np.arange(n) % k
    return Records(
        np.random.default_rng(99).random((k, width))[y] + spread * rng.normal(size=(n, width)), y, k
    )


D1, D2, D3 = records(seed=1), records(seed=2), records(seed=3)


def needs_opacus(target):
    """Skip where the extra is missing."""
    if isinstance(target, DPSGD):
        pytest.importorskip(
            "opacus", reason='opacus is not installed: pip install "purification_nb[dp]"'
        )


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: Regularised(weight_decay=-0.1), "at least 0"),
        (lambda: Regularised(weight_decay=np.nan), "at least 0"),
        (lambda: Regularised(dropout=1.5), "dropout is a share"),
        (lambda: Regularised(dropout=1), "dropout is a share"),
        (lambda: Regularised(label_smoothing=1), "label_smoothing is a share"),
        (lambda: Regularised(label_smoothing=-0.1), "label_smoothing is a share"),
        (lambda: Regularised(patience=0), "patience"),
        (lambda: MinMax(lam=-1), "lambda"),
        (lambda: MinMax(lam=np.inf), "lambda"),
        (lambda: ModelStacking(trees=0), "tree"),
        (lambda: ModelStacking(penalty=0), "penalty"),
        (lambda: DPSGD(noise=-1), "noise"),
        (lambda: DPSGD(clip=0), "clip"),
        (lambda: DPSGD(delta=0), "delta"),
        (lambda: DPSGD(delta=1), "delta"),
        (lambda: DPSGD(batch_size=0), "batch"),
        (lambda: ModelStacking(**TINY)(D1[:4], D2, 0), "4 records are too few"),
        (lambda: ModelStacking(**TINY)(D1[D1.y == 0], D2, 0), "too few to cut"),
        (lambda: MinMax(**TINY)(D1, None, 0), "not applicable: Min-Max needs a reference set"),
        (
            lambda: Regularised(**TINY, patience=2)(D1, None, 0),
            "not applicable: early stopping needs a reference set",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_the_names_are_those_of_the_audit():
    assert list(IN_TRAINING) == [
        "min_max",
        "model_stacking",
        "dp_sgd",
        "l2",
        "dropout",
        "label_smoothing",
        "early_stopping",
    ]
    assert len({hash(target) for target in IN_TRAINING.values()}) == 7


@each
def test_one_seed_one_answer_and_it_travels(target, monkeypatch, tmp_path):
    needs_opacus(target)
    made = target(D1, D2, 0)
    scores = made(D3.x)
    assert np.array_equal(pickle.loads(pickle.dumps(made))(D3.x), scores)
    recalled = target(D1, D2, 0)  # from the cache
    assert np.array_equal(recalled(D3.x), scores)
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "other"))
    again = pickle.loads(pickle.dumps(target))(D1, D2, 0)  # trained anew
    assert np.array_equal(again(D3.x), scores)
    assert not np.array_equal(target(D1, D2, 1)(D3.x), scores)
    assert {name: value for name, value in again.info.items() if name in ("epsilon", "delta")} == {
        name: value for name, value in recalled.info.items() if name in ("epsilon", "delta")
    }


@each
def test_a_recipe_and_its_shadows(target):
    needs_opacus(target)
    recipe = Recipe(target, name="defended")
    service = recipe(D1, D2, 0)
    assert service(D3.x).shape == (120, 4) and service.info["target_seconds"] >= 0
    shadows = Shadows(records(200, seed=4), D2, count=2, jobs=1)
    assert shadows.log_odds(recipe).shape == (2, 200)


@each
def test_pictures_missing_labels_and_few_records(target):
    needs_opacus(target)
    d1 = Records(
        np.random.default_rng(0).random((30, 2, 3)), np.arange(30) % 3, 5
    )  # two labels never occur
    d2 = Records(np.random.default_rng(1).random((7, 2, 3)), np.arange(7) % 3, 5)  # smaller than D1
    assert target(d1, d2, 0)(d1.x).shape == (30, 5)


@each
def test_the_callers_random_numbers_go_on(target):
    needs_opacus(target)
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    target(D1, D2, 0)
    assert torch.equal(torch.rand(3), expected)


def test_switched_off_they_are_the_plain_target():
    plain = MLPTarget(**TINY)(D1, D2, 0)(D3.x)
    assert np.array_equal(Regularised(**TINY)(D1, D2, 0)(D3.x), plain)
    assert np.array_equal(MinMax(**TINY, lam=0.0)(D1, D2, 0)(D3.x), plain)
    assert not np.array_equal(MinMax(**TINY, lam=5.0)(D1, D2, 0)(D3.x), plain)


def test_early_stopping_keeps_the_best_epoch_on_d2():
    d1 = records(60, seed=5, spread=1.0)
    made = Regularised(hidden=(64,), epochs=60, rate=0.01, patience=3)(d1, D2, 0)
    losses = made.info["history"]["validation"]
    assert len(losses) < 60 and len(losses) - 1 - int(np.argmin(losses)) == 3
    kept = -np.log(made(D2.x)[np.arange(len(D2)), D2.y]).mean()
    assert kept == pytest.approx(min(losses), abs=1e-4)


def test_a_stack_shares_the_records_out_and_keeps_labels_even(monkeypatch):
    seen, original = {}, MLPTarget.__call__

    def spy(self, d1, d2, seed):
        seen["network"] = d1
        return original(self, d1, d2, seed)

    monkeypatch.setattr(MLPTarget, "__call__", spy)
    ModelStacking(**TINY, trees=5)(D1, D2, 0)
    assert np.bincount(seen["network"].y).tolist() == [10, 10, 10, 10]


def test_the_inference_network_has_the_published_sizes_at_full_scale(monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_SCALE", "full")
    assert repr(td._Inference(10).branches) == repr(TwoBranch(12, 10))


def test_without_opacus_one_clear_message(monkeypatch):
    for name in ["opacus", *(name for name in sys.modules if name.startswith("opacus."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pip install "purification_nb\[dp\]"'):
        DPSGD(**TINY)(D1, D2, 0)
    with pytest.raises(InputError, match="opacus"):
        epsilon_spent(1.0, 0.1, 10)


def test_the_library_does_not_import_opacus():
    asked = (
        "import sys, purification_nb.defences.in_training; print([name for name in sys.modules if"
        " name.startswith('opacus')])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", asked], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_epsilon_falls_with_noise_and_rises_with_steps_and_share():
    pytest.importorskip("opacus")
    noises = [epsilon_spent(noise, 0.1, 100) for noise in (0.1, 0.3, 1.0, 3.0, 10.0)]
    assert noises == sorted(noises, reverse=True) and noises[-1] > 0
    assert epsilon_spent(1.0, 0.1, 1000) > epsilon_spent(1.0, 0.1, 100)
    assert epsilon_spent(1.0, 0.2, 100) > epsilon_spent(1.0, 0.1, 100)
    assert epsilon_spent(1.0, 0.1, 100, delta=1e-9) > epsilon_spent(1.0, 0.1, 100)
    assert epsilon_spent(0.0, 0.1, 100) == np.inf


def test_without_sampling_epsilon_is_that_of_one_gaussian():
    pytest.importorskip("opacus")
    # steps of the full batch compose to one Gaussian mechanism: RDP of order a is
    # a * steps / (2 noise^2)
    noise, steps, delta = 4.0, 10, 1e-5
    a = np.linspace(1.01, 60, 4000)
    closed = (
        a * steps / (2 * noise**2) + np.log1p(-1 / a) - (np.log(delta) + np.log(a)) / (a - 1)
    ).min()
    assert epsilon_spent(noise, 1.0, steps, delta) == pytest.approx(closed, rel=0.02)


def test_dp_sgd_counts_its_own_steps_and_delta_is_not_trained_for():
    pytest.importorskip("opacus")
    made = DPSGD(**TINY, batch_size=30, noise=1.0)(D1, D2, 0)
    assert made.info["epsilon"] == epsilon_spent(1.0, 0.25, 12) and made.info["delta"] == 1e-5
    other = DPSGD(**TINY, batch_size=30, noise=1.0, delta=1e-7)(D1, D2, 0)
    assert other.info["history"].cached and other.info["epsilon"] > made.info["epsilon"]


def test_an_empty_batch_still_gets_its_noise():
    pytest.importorskip("opacus")
    import torch

    network = MLPTarget(hidden=(8,)).network(D1, 0)
    before = [p.detach().clone() for p in network.parameters()]
    step, done = td._private_step(
        network, torch.optim.SGD(network.parameters(), lr=1.0), noise=1.0, clip=1.0, expected=1
    )
    step(torch.tensor(D1.x[:0], dtype=torch.float32), torch.tensor(D1.y[:0]))
    done()
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(network.parameters(), before, strict=True)]
    )
    assert 0.8 < moved.std() < 1.2


def test_much_noise_leaves_nothing_and_no_warnings_are_shown():
    pytest.importorskip("opacus")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lost = DPSGD(hidden=(16,), epochs=10, batch_size=32, noise=50.0)(D1, D2, 0)
        learnt = DPSGD(hidden=(16,), epochs=10, batch_size=32, noise=0.01, rate=0.02)(D1, D2, 0)
    right = [(made(D3.x).argmax(1) == D3.y).mean() for made in (lost, learnt)]
    assert right[1] > right[0] + 0.1
