"""Random numbers of one's own: the values of torch's shared ones, whoever else draws meanwhile."""

import threading

import joblib
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from purification_nb.adversary import knowledge_of
from purification_nb.attacks.membership import NSH
from purification_nb.cache import fingerprint, one_thread, run_parallel
from purification_nb.datasets import digits
from purification_nb.defences.in_training import Regularised
from purification_nb.draws import Draws
from purification_nb.records import Records
from purification_nb.service import Recipe
from purification_nb.targets import DenseNetTarget, MLPTarget
from purification_nb.training import adam, fit, keyed_uniform, minimise, seeded

ONES = torch.ones(4, 8)


def lstm():
    """Make a recurrent network with dropout between its layers."""
    return nn.LSTM(8, 4, 2, dropout=0.5)(ONES[None])[0]


DRAWN = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(40, dtype=torch.float64),
    "randperm": lambda: torch.randperm(30),
    "randint": lambda: torch.randint(9, (4,)),
    "randint from": lambda: torch.randint(3, 9, (4,), generator=None),
    "rand_like": lambda: torch.rand_like(ONES),
    "randint_like": lambda: torch.randint_like(ONES, 5),
    "normal": lambda: torch.normal(torch.zeros(3), torch.ones(3)),
    "multinomial": lambda: torch.multinomial(torch.ones(6), 4),
    "exponential_": lambda: torch.empty(4).exponential_(),
    "weights": lambda: nn.Sequential(nn.Linear(8, 3), nn.Conv1d(2, 2, 1))[0].weight.detach(),
    "dropout": lambda: F.dropout(ONES, 0.3),
    "dropout2d": lambda: F.dropout2d(torch.ones(2, 3, 4, 4)),
    "alpha dropout": lambda: F.alpha_dropout(ONES, 0.4, True),
    "rrelu": lambda: F.rrelu(-ONES, training=True),
    "lstm": lstm,
    "attention": lambda: nn.MultiheadAttention(8, 2, dropout=0.3)(ONES, ONES, ONES)[0],
}


@pytest.mark.parametrize("what", DRAWN)
def test_a_seed_gives_the_numbers_of_manual_seed_and_leaves_the_shared_ones_alone(what):
    torch.manual_seed(5)
    shared = DRAWN[what]()
    before = torch.get_rng_state()
    with seeded(5):
        own = DRAWN[what]()
    assert torch.equal(own, shared) and torch.equal(torch.get_rng_state(), before)


def test_dropout_in_one_piece_as_a_gpu_has_it_follows_from_the_seed():
    x = torch.rand(400, 10, requires_grad=True)
    answers = []
    for _ in range(2):
        with seeded(1):
            answers.append(torch.ops.aten.native_dropout(x, 0.25, True))
    (one, stay), (again, _) = answers
    assert torch.equal(one, again) and abs(stay.float().mean() - 0.75) < 0.03
    assert torch.allclose(one, x * stay / 0.75)
    (gradient,) = torch.autograd.grad(one.sum(), x)
    assert torch.allclose(gradient, stay / 0.75)


def test_a_network_on_the_meta_device_is_built_without_numbers():
    with seeded(0), torch.device("meta"):
        assert nn.Linear(3, 2).weight.is_meta


@pytest.fixture
def disturbed():
    """Draw from the shared generator all the time, in a thread of its own."""
    stop = threading.Event()

    def draw():
        while not stop.wait(0.0005):
            torch.rand(7)

    drawing = threading.Thread(target=draw)
    drawing.start()
    yield
    stop.set()
    drawing.join()


class Noisy(nn.Module):
    """Answer with noise that no layer of torch's has drawn."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        """Give noisy logits."""
        return self.layer(x + 0.3 * torch.randn_like(x) * (torch.rand(()) > 0.5))


def trained(kind, seed):
    """Train a small network of one kind; its fingerprint."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 6)).astype(np.float32), rng.integers(0, 3, 90)
    with seeded(seed):
        network = {
            "plain": lambda: nn.Linear(6, 3),
            "dropout": lambda: nn.Sequential(nn.Dropout(0.4), nn.Linear(6, 3), nn.RReLU()),
            "own module": Noisy,
        }[kind]()
    step = minimise(lambda x, y: F.cross_entropy(network(x), y), adam(network, 0.02))
    fit(network, step, (x, y), 6, 16, seed, device="cpu")
    return fingerprint(network)


KINDS = ("plain", "dropout", "own module")


def test_training_is_the_same_whoever_else_draws(disturbed):
    assert all(len({trained(kind, 3) for _ in range(4)}) == 1 for kind in KINDS)


def calls_to_compare():
    """Describe trainings of every kind that draws, each to be done twice."""
    rng = np.random.default_rng(1)
    pictures = Records(rng.integers(0, 256, (24, 3, 16, 16), np.uint8), np.arange(24) % 3)
    data = digits(0)
    targets = [
        (Regularised((16,), 2, dropout=0.5), data.d1),
        (DenseNetTarget((1,), 4, 2, 0.05, (1,), 5e-4, 12, True), pictures),
    ]
    calls = [(trained, kind, seed) for kind in KINDS for seed in (0, 1)]
    calls += [(answers_of, *one, seed) for one in targets for seed in (0, 1)]
    service = Recipe(MLPTarget((32,), epochs=4))
    return [*calls, (attacked, service, data, 0), (attacked, service, data, 1)]


def answers_of(target, records, seed):
    """Fingerprint a target's answers to what it was trained on."""
    return fingerprint(target(records, None, seed)(records.x))


def attacked(recipe, data, seed):
    """Train the attack network of Nasr, Shokri and Houmansadr; what it says of D3."""
    service = recipe(data.d1, data.d2, 0)
    knowledge = knowledge_of(data, service, seed=seed)
    return fingerprint(NSH(log=True, updates=10).fit(knowledge).score(service.answer(data.d3)))


def fresh(monkeypatch, folder):
    """Remember nothing from here on that was made before."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(folder))


def test_threads_a_dask_worker_of_four_and_alone_agree(monkeypatch, tmp_path):
    # Processes have nothing in common; chapter 22 compares them with alone.
    calls = calls_to_compare()
    fresh(monkeypatch, tmp_path / "alone")
    with one_thread():
        alone = [call(*arguments) for call, *arguments in calls]
    assert len(set(alone)) == len(alone)
    fresh(monkeypatch, tmp_path / "threads")
    with joblib.parallel_config(backend="threading", n_jobs=4):
        assert run_parallel(calls) == alone
    distributed = pytest.importorskip("distributed")
    fresh(monkeypatch, tmp_path / "dask")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert run_parallel(calls) == alone


def test_a_step_is_looked_at_only_where_it_draws():
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2))
    for step, looking in ((network, False), (lambda x: torch.rand_like(x), True)):
        draws = Draws(0)
        with draws.of_training(network):
            draws.call(step, [ONES], first=True)
        assert draws.looking == looking
    assert "forward" not in vars(network[0])


# --- coins


def sure_answers(n, k, sureness, seed=0):
    """Make answers with label 0, the odds of which are e to the power of `sureness`, or so."""
    logits = np.random.default_rng(seed).normal(0, 1, (n, k))
    logits[:, 0] = sureness
    return torch.tensor(logits).softmax(1).numpy()


@pytest.mark.parametrize("k, sureness", [(2, 18), (2, 40), (5, 25), (30, 60), (100, 200)])
def test_sure_answers_of_a_label_toss_coins_of_their_own(k, sureness):
    scores = sure_answers(200, k, sureness)
    assert len(np.unique(scores.round(6), axis=0)) <= 2
    coins = keyed_uniform(scores, 7, 2)
    assert len(np.unique(coins[:, 0])) >= 195
    assert np.abs(coins.mean(0) - 0.5).max() < 0.08
    assert np.array_equal(keyed_uniform(scores[::-1], 7, 2), coins[::-1])


def test_sure_answers_keep_their_coins_in_another_batch():
    """The last bits of a network's logits depend on how many records it is asked about."""
    logits = np.log(sure_answers(2000, 10, 20))
    noise = np.random.default_rng(1).normal(0, 2e-6, logits.shape)
    both = [torch.tensor(one).softmax(1).numpy() for one in (logits, logits + noise)]
    assert (keyed_uniform(both[0], 7) == keyed_uniform(both[1], 7)).mean() > 0.98


def test_unsure_answers_keep_the_coins_they_had_and_no_coin_is_one(monkeypatch):
    scores = np.array([[0.5, 0.3, 0.2], [0.9997, 0.0002, 0.0001]])
    assert keyed_uniform(scores, 7)[:, 0].round(6).tolist() == EARLIER_COINS
    from purification_nb import training

    class Largest:
        def digest(self):
            return b"\xff" * 8

    monkeypatch.setattr(training.hashlib, "blake2b", lambda *_, **more: Largest())
    assert keyed_uniform(scores, 7).max() < 1


EARLIER_COINS = [0.371923, 0.330783]
