"""Where a network is, there the numbers are that it is asked about: on a GPU that is none."""

import copy
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fake_gpu import GPU, FakeGenerator, Watch, install, install_graphs
from torch import nn
from torch.nn import functional as F

from purification_nb import draws, efficiency, graphs, training
from purification_nb.adversary import knowledge_of
from purification_nb.attacks import inversion, membership, shadow_attacks
from purification_nb.attacks.catalogue import ALL_ATTACKS
from purification_nb.audit import own_files
from purification_nb.audit.run import audit
from purification_nb.defences import (
    fitting,
    in_training,
    memguard,
    purifier,
    purifier_training,
)
from purification_nb.defences.catalogue import CATALOGUE, RECIPES, recipe_called
from purification_nb.defences.fitting import fit_purifier, purified_module
from purification_nb.defences.purifier_training import Player
from purification_nb.defences.saving import load_purifier, save_purifier
from purification_nb.networks import device_of, mlp
from purification_nb.playground.bench import workbench
from purification_nb.records import Records, Scored
from purification_nb.service import Recipe, scores_of
from purification_nb.splits import split_sizes
from purification_nb.targets import DenseNetTarget, FaceTarget, MLPTarget
from purification_nb.training import fit, minimise

SMALL = MLPTarget((16,), epochs=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """Two epochs at most, short walks, and nothing remembered from before."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    whole = training._train
    monkeypatch.setattr(
        training, "_train", lambda loop, epochs, *rest: whole(loop, min(epochs, 2), *rest)
    )
    monkeypatch.setattr(memguard, "STEPS", 20)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is none; what it saw."""
    install(monkeypatch)
    with Watch() as watch:
        yield watch


def small_digits(n=100):
    """Scanned digits, so many in each set."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    records = Records((scans.images / 16).astype(np.float32), scans.target, 10)
    return split_sizes(records, (n, n, n), name="few digits")


def small_pictures(n=16):
    """Pictures of noise, as bytes."""
    rng = np.random.default_rng(0)
    return Records(rng.integers(0, 256, (n, 3, 16, 16), np.uint8), np.arange(n) % 4)


# --- the GPU itself


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("a sum", lambda here, there: here + there),
        ("a sum in place", lambda here, there: here.add_(there.sum())),
        ("a layer", lambda here, there: nn.Linear(3, 2)(there)),
        ("a mask of the GPU", lambda here, there: here[there > 0]),
        ("side by side", lambda here, there: torch.cat([here, there])),
        ("an array", lambda here, there: there.numpy()),
        ("an array of numpy's making", lambda here, there: np.asarray(there)),
        (
            "a foreign generator",
            lambda here, there: there.clone().uniform_(generator=torch.Generator()),
        ),
    ],
)
def test_what_a_gpu_refuses(name, wrong, gpu):
    here, there = torch.ones(4, 3), torch.ones(4, 3).to("cuda")
    with pytest.raises((RuntimeError, TypeError), match="device|cuda"):
        wrong(here, there)


def test_what_a_gpu_bears(gpu):
    there = torch.arange(12.0).reshape(4, 3).to("cuda")
    rows = torch.tensor([0, 2])
    assert there[rows].device == GPU == (there * torch.tensor(2.0)).device
    assert (there[rows].cpu().numpy() == [[0, 1, 2], [6, 7, 8]]).all()
    assert torch.empty(4, 3).copy_(there).device == CPU
    labels = torch.zeros(2, dtype=torch.int64, device="cuda")
    assert F.one_hot(labels, 3).device == torch.randn(3, device="cuda").device == GPU
    assert copy.deepcopy(nn.Linear(3, 2).to("cuda")).weight.device == GPU
    own = torch.Generator("cuda").manual_seed(0)
    assert isinstance(own, FakeGenerator) and torch.rand_like(there, generator=own).is_cuda


# --- every defence, every attack


# these draw while they train: on the GPU from a generator of their own
DRAW = ("dropout", "dp_sgd")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_answers_from_a_gpu_as_from_the_cpu(name, monkeypatch):
    if name == "dp_sgd":
        pytest.importorskip("opacus")
    split = small_digits()
    recipe = recipe_called(name, SMALL)
    if CATALOGUE[name].in_training:
        recipe = replace(recipe, target=replace(recipe.target, hidden=(16,)))
    expected = recipe(split.d1, split.d2, 0)(split.d3.x)
    monkeypatch.setenv("PURIFICATION_NB_CACHE", "/dev/null/nowhere")
    install(monkeypatch)
    with Watch() as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing can be remembered
        answers = recipe(split.d1, split.d2, 0)(split.d3.x)
    assert watch.seen > 50
    assert type(answers) is np.ndarray and answers.dtype == np.float64
    assert np.allclose(answers.sum(1), 1)
    if name not in DRAW:
        assert np.abs(answers - expected).max() < 1e-4


def test_every_attack_finds_its_way_to_a_gpu(gpu):
    few = small_pictures(60)
    other = Records(np.stack([few.x.mean((1, 2, 3))] * 64, 1).reshape(-1, 8, 8) / 255, few.y, 4)
    found = audit(
        small_digits(80),
        ["purifier"],
        "all",
        seeds=1,
        target=SMALL,
        shadows=2,
        other=other,
        jobs=1,
        progress=False,
        strongest=False,
    )
    measured = found.table[found.table.value.notna()]
    assert set(ALL_ATTACKS) <= set(measured.attack.dropna())
    told = found.table.error.dropna().astype(str)
    assert not told.str.contains("device|cuda|Error").any(), told.tolist()


def test_times_and_playground_on_a_gpu(gpu, monkeypatch):
    split = small_digits(60)
    monkeypatch.setattr(efficiency, "target_for", lambda split: SMALL)
    usual = recipe_called

    def small_recipe(name, target=SMALL):
        recipe = usual(name, target)
        hidden = replace(recipe.target, hidden=(16,))
        return replace(recipe, target=hidden) if CATALOGUE[name].in_training else recipe

    monkeypatch.setattr(efficiency, "recipe_called", small_recipe)
    times = efficiency.efficiency(split, (4,), rounds=1)
    assert (times["answering 4"] > 0).all() and len(times) == 5
    bench = workbench(split, SMALL, (1.0,), (1.0,), (1.0,), records=3, jobs=1)
    drawn = [one for drawings in bench.drawings.values() for one in drawings.values()]
    assert drawn and all(type(one) is np.ndarray and one.shape[1:] == (8, 8) for one in drawn)


# --- what is saved and loaded, and what is moved


def some_scores(n=60, k=5):
    """Score vectors, float64."""
    return np.random.default_rng(0).dirichlet(np.full(k, 0.3), n)


def test_a_purifier_of_a_gpu_is_saved_and_loaded_and_answers_in_the_form_it_was_asked(
    gpu, tmp_path
):
    scores = some_scores()
    asked = torch.tensor(scores, device="cuda")
    made = fit_purifier(asked, epochs=2, rate=1e-3)
    assert device_of(made.network) == GPU and made(asked).device == GPU
    answers = made(scores)
    assert type(answers) is np.ndarray and answers.dtype == np.float64
    again = load_purifier(save_purifier(made, tmp_path / "purifier"))
    assert device_of(again.network) == CPU and np.abs(again(scores) - answers).max() < 1e-6
    again.network.to("cuda")  # who moves it moves its answers' making, not the answers
    assert np.abs(again(scores) - answers).max() < 1e-6
    module = made.as_module().to("cpu")
    assert np.abs(module(torch.tensor(scores)).detach().numpy() - answers).max() < 1e-6
    assert {weight.device for weight in made.network.parameters()} == {GPU}
    assert np.abs(made(scores) - answers).max() < 1e-6


class OwnVectors(Player):
    """A third player, who asks about score vectors of its own, made on the CPU."""

    settings, rate = None, 1e-3

    def __init__(self):
        self.network, self.vectors = mlp((5, 4, 1)), torch.tensor(some_scores(8)).float()

    def loss(self, batch):
        """What it thinks of them, purified."""
        purified = batch.purify(self.vectors)
        return self.network(purified).square().mean()

    def term(self, batch):
        """Nothing to G."""
        return batch.scores.sum() * 0


def test_a_player_may_bring_vectors_of_its_own(gpu):
    scores = some_scores()
    g, history = purifier_training.train_purifier(
        Scored(scores, scores.argmax(1)), epochs=1, players=(OwnVectors(),)
    )
    assert device_of(g) == GPU and np.isfinite(history["OwnVectors"]).all()


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_network_and_its_purifier_are_one_module_where_the_network_is(where, gpu):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    network = mlp((4, 8, 3)).to(where).eval()
    purifier = fit_purifier(scores_of(network, x), epochs=2, rate=1e-3)
    whole = purified_module(network, purifier)
    answers = whole(torch.tensor(x, device=where))
    assert answers.device.type == where and device_of(purifier.network) == GPU
    assert np.abs(answers.detach().cpu().numpy() - purifier(scores_of(network, x))).max() < 1e-5
    learnt = purified_module(network, torch.tensor(x, device=where), epochs=2, rate=1e-3)
    assert learnt(torch.tensor(x, device=where)).device.type == where


def test_a_model_that_a_gpu_has_saved_is_read_without_one(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(torch.jit, "load", lambda path, where=None: told.append(where))
    (tmp_path / "model.pt").touch()
    for there_is_one in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there_is_one: there)
        own_files.read_model(str(tmp_path / "model.pt"))
    assert told == ["cpu", None]


def interrupt_in(epoch, monkeypatch):
    """Stop a training in that epoch, as a machine that is taken away does."""
    whole = training._Loop.epoch

    def stopped(loop, number, progress):
        if number == epoch:
            raise KeyboardInterrupt
        return whole(loop, number, progress)

    monkeypatch.setattr(training._Loop, "epoch", stopped)


@pytest.mark.parametrize(
    "target",
    [
        DenseNetTarget((1,), 4, 2, batch_size=8),
        DenseNetTarget((1,), 4, 2, batch_size=8, paper=True),
        FaceTarget(4, 2, 1e-3, 8),
    ],
)
def test_pictures_in_mixed_precision_resumed_on_a_gpu(target, gpu, monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_SCALE", "full")
    records, seen = small_pictures(), []
    network_of = type(target).network

    def watched(self, *made_of):
        network = network_of(self, *made_of)
        network.register_forward_hook(lambda _, x, y: seen.append((x[0].device, y.dtype)))
        return network

    monkeypatch.setattr(type(target), "network", watched)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="goes on from there"):
        interrupt_in(1, patch)
        target(records, None, 0)
    predictor = target(records, None, 0)
    assert set(seen) == {(GPU, torch.bfloat16)}
    assert len(predictor.info["history"].epochs) == 2
    answers = predictor(records.x)
    assert answers.dtype == np.float64 and np.array_equal(
        target(records, None, 0)(records.x), answers
    )


def test_each_batch_is_answered_by_the_weights_of_the_moment():
    """Once, in bfloat16, a whole epoch was answered by those of its first batch."""
    network, answers = nn.Linear(3, 2), []

    def step(x):
        before = network.weight.detach().clone()
        given, right = network(x).float().sum(), (x @ before.T + network.bias).float().sum()
        answers.append((given.item(), right.item()))
        with torch.no_grad():
            network.weight += 1
        return {"loss": given.detach()}

    fit(network, step, (np.ones((4, 3), np.float32),), 1, 1, device="cpu", mixed=True)
    given, right = np.array(answers).T
    assert np.allclose(given, right, rtol=0.02) and np.ptp(right) > 10


# --- a step that is recorded


def trained_with(graph, draws=False, waits=False):
    """Train a small network in mixed precision, at a rate that changes; its weights and losses."""
    with training.seeded(0):
        network = mlp((3, 8, 2))
    optimiser = torch.optim.SGD(network.parameters(), 0.1, 0.9, nesterov=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(56, 3)).astype(np.float32), rng.integers(0, 2, 56)

    def loss(x, y):
        value = F.cross_entropy(network(F.dropout(x, 0.2) if draws else x), y)
        if waits:
            value.item()
        return value

    def set_rate(epoch):
        optimiser.param_groups[0]["lr"] = 0.1 / (1 + epoch)

    step = minimise(loss, optimiser, graph)
    history = fit(network, step, (x, y), 2, 5, mixed=True, before_step=set_rate)
    return np.concatenate([w.detach().cpu().reshape(-1).numpy() for w in network.parameters()]), (
        history["loss"],
        step,
    )


def test_recorded_steps_are_the_steps_they_replay(gpu, monkeypatch):
    plain, (losses, _) = trained_with(False)
    replayed = install_graphs(monkeypatch)
    recorded, (same_losses, step) = trained_with(True)
    # 56 records in batches of 5: eight of five and four of four an epoch, three each rehearsed
    assert np.abs(plain - recorded).max() < 1e-6 and np.allclose(losses, same_losses)
    assert len(step.recordings) == 2 and len(replayed) == 13 + 5


@pytest.mark.parametrize("trouble", [{"draws": True}, {"waits": True}], ids=str)
def test_a_step_that_cannot_be_recorded_goes_on_as_it_is(trouble, gpu, monkeypatch):
    plain, _ = trained_with(False, **trouble)
    replayed = install_graphs(monkeypatch)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph: (it draws|CUDA says)"):
        recorded, (_, step) = trained_with(True, **trouble)
    assert np.array_equal(plain, recorded) and not step.recordings and not replayed


def test_without_a_gpu_nothing_is_recorded():
    assert not isinstance(minimise(lambda x: x.sum(), None, graph=True), graphs.RecordedStep)


def test_one_gpu_has_one_generator_whatever_it_is_called(gpu):
    own = draws.Draws(3)
    there = torch.ones(2).to("cuda")
    assert own.on("cuda") is own.on(there.device) is not own.on("cpu")
    other = draws.Draws(0)
    own.on("cpu")
    other.restore(own.state())
    assert torch.equal(other.on(GPU).get_state(), own.on("cuda").get_state())


# --- a device forgotten is found


def ask_memguard():
    """Noise for a few answers."""
    network = mlp((5, 8, 1)).to("cuda").requires_grad_(False)
    memguard.noise_for_many(network, some_scores(4))


def train_with_early_stopping():
    """A target that validates."""
    split = small_digits(60)
    in_training.Regularised((8,), 2, patience=1)(split.d1, split.d2, 0)


def fit_attack(name):
    """Fit an attack and ask it."""
    split = small_digits(60)
    service = Recipe(SMALL)(split.d1, split.d2, 0)
    attack = ALL_ATTACKS[name]().fit(replace(knowledge_of(split, service), recipe=Recipe(SMALL)))
    attack.score(service.answer(split.d3))


def invert():
    """A decoder, trained and asked."""
    split = small_digits(60)
    service = Recipe(SMALL)(split.d1, split.d2, 0)
    inversion.Inversion().fit(knowledge_of(split, service))


FORGETFUL = {
    memguard: ask_memguard,
    in_training: train_with_early_stopping,
    membership: partial(fit_attack, "nsh_log"),
    shadow_attacks: partial(fit_attack, "mlleaks_1"),
    inversion: invert,
    purifier_training: lambda: fit_purifier(some_scores()),
    purifier: lambda: fit_purifier(some_scores(), epochs=1, rate=1e-3)(some_scores()),
    fitting: lambda: purified_module(
        mlp((4, 8, 5)).to("cuda"), fit_purifier(some_scores(), epochs=1, rate=1e-3)
    )(torch.rand(3, 4, device="cuda")),
}


@pytest.mark.parametrize("room", FORGETFUL, ids=lambda room: room.__name__.rpartition(".")[2])
def test_a_forgotten_device_raises(room, gpu, monkeypatch):
    FORGETFUL[room]()
    monkeypatch.setattr(room, "device_of", lambda network: CPU)
    monkeypatch.setenv("PURIFICATION_NB_CACHE", "/dev/null/nowhere")
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="same device"):
        warnings.simplefilter("ignore")
        FORGETFUL[room]()


def test_a_batch_left_on_the_cpu_raises(gpu, monkeypatch):
    network = nn.Linear(3, 2)
    step = minimise(
        lambda x, y: F.cross_entropy(network(x), y), torch.optim.SGD(network.parameters(), 0.1)
    )
    arrays = np.ones((8, 3), np.float32), np.zeros(8, np.int64)
    fit(network, step, arrays, 1, 4)
    assert device_of(network) == GPU
    monkeypatch.setattr(training, "_as_batch", lambda tensor, rows: tensor[rows].cpu())
    with pytest.raises(RuntimeError, match="same device"):
        fit(network, step, arrays, 1, 4)
