"""Training at the paper's scale: what is remembered under which key, a run that goes on where it
was killed, to the last bit; networks of the paper's form; bytes that stay bytes until the batch."""

import os
import shutil
import signal
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import python
from torch import nn
from torch.nn import functional as F

import purification_nb
from purification_nb import networks, targets
from purification_nb.adversary import knowledge_of
from purification_nb.attacks.inversion import Inversion
from purification_nb.attacks.reconstructions import (
    inversion_error,
    structural_similarity,
)
from purification_nb.attacks.repeated import LabelOnly
from purification_nb.attacks.shadows import Shadows, shadow_log_odds
from purification_nb.cache import (
    NO_NETWORK,
    cache_folder,
    fingerprint,
    library_version,
    load_cached,
    one_thread,
    store,
)
from purification_nb.datasets import digits
from purification_nb.defences.in_training import DPSGD, ModelStacking, Regularised
from purification_nb.defences.players import AdversarialModel
from purification_nb.draws import Draws
from purification_nb.networks import conv_decoder, densenet, face_network
from purification_nb.records import InputError, Records, as_floats
from purification_nb.service import Recipe, scores_of
from purification_nb.splits import digit_pairs, split_sizes
from purification_nb.targets import (
    TARGETS,
    DenseNetTarget,
    FaceTarget,
    MLPTarget,
    augmented,
    target_for,
)
from purification_nb.training import adam, fit, minimise, mixed_precision, seeded

RNG = np.random.default_rng(0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Give an empty folder for trained networks."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pictures(channels=(), n=120, k=4, seed=0):
    """Make small pictures as bytes, each class brighter in its own corner, and split them."""
    rng, y = np.random.default_rng(seed), np.arange(n) % k
    x = rng.integers(0, 150, (n, *channels, 24, 24), np.uint8)
    for label in range(k):
        x[
            y == label,
            ...,
            12 * (label // 2) : 12 * (label // 2) + 12,
            12 * (label % 2) : 12 * (label % 2) + 12,
        ] += 100
    return split_sizes(Records(x, y, k), (60, 30, 30), name="corners")


# --- remembering


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """Give a function that edits a room in a copy of the library and tells the versions."""
    library = tmp_path / "library"
    shutil.copytree(Path(purification_nb.__file__).parent, library)
    monkeypatch.setattr(purification_nb, "__file__", str(library / "__init__.py"))

    def versions(room=None):
        if room:
            with open(library / f"{room.replace('.', '/')}.py", "a") as file:
                file.write("# edited")
        return library_version(), library_version(NO_NETWORK)

    return versions


# (room, is it part of what an audit found, is it part of what a network learnt)
@pytest.mark.parametrize(
    "room, result, network",
    [
        ("cli", False, False),
        ("playground.walk", False, False),
        ("audit.report", False, False),
        ("audit.page", False, False),
        ("audit.pooling", True, False),
        ("intervals", True, False),
        ("attacks.catalogue", True, False),
        ("attacks.shadows", True, True),
        ("defences.purifier", True, True),
        ("training", True, True),
        ("checkpoints", True, True),
        ("scale", True, True),
    ],
)
def test_an_edit_of_a_room_changes_the_keys_that_depend_on_it(room, result, network, edited):
    before, after = edited(), edited(room)
    assert [one != other for one, other in zip(before, after, strict=True)] == [result, network]


def test_a_room_is_passed_over_by_its_whole_name(edited, tmp_path):
    before = edited()
    (tmp_path / "library" / "cli_of_another_kind.py").touch()
    (tmp_path / "library" / "auditing.py").touch()
    assert all(one != other for one, other in zip(before, edited(), strict=True))


def test_rooms_that_are_passed_over_exist():
    library = Path(purification_nb.__file__).parent
    paths = [library / room.replace(".", "/") for room in NO_NETWORK]
    assert all(path.is_dir() or path.with_suffix(".py").is_file() for path in paths)


def test_a_stored_network_comes_back_and_a_full_disk_does_no_harm(tmp_path, monkeypatch):
    made, other, path = nn.Linear(3, 2), nn.Linear(3, 2), tmp_path / "folder" / "key.safetensors"
    assert load_cached(path, other) is None
    store(path, made, {"epochs": [{"loss": 0.5}], "seconds": 1.5})
    assert load_cached(path, other) == {"epochs": [{"loss": 0.5}], "seconds": 1.5}
    assert fingerprint(made) == fingerprint(other)
    with pytest.warns(UserWarning, match="is trained again"):
        assert load_cached(path, nn.Linear(4, 2)) is None
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="PURIFICATION_NB_CACHE names another folder"):
        store(tmp_path / "file" / "key.safetensors", made, {})


def test_the_cache_is_where_the_variable_says(cache):
    assert cache_folder() == cache


# --- resuming

RUN = """
import os, sys
import numpy as np
from purification_nb import checkpoints
from purification_nb.cache import fingerprint
from purification_nb.records import Records
from purification_nb.targets import DenseNetTarget, FaceTarget
rng = np.random.default_rng(0)
records = Records(rng.integers(0, 256, (96, 3, 16, 16), np.uint8), np.arange(96) % 4)
targets = {
    "densenet": DenseNetTarget((1, 1), 4, 6, .05, (3,), 5e-4, 32, True),
    "face": FaceTarget(4, 6, 1e-3, 32),
}
target, kill_after, written = targets[sys.argv[1]], int(sys.argv[2]), []
whole = checkpoints.write_atomically
def write_atomically(path, content):
    if len(written) == kill_after:
        os.kill(os.getpid(), 9)  # in the midst of an epoch's writing down
    whole(path, content)
    written.append(path)
checkpoints.write_atomically = write_atomically
predictor = target(records, None, 0)
losses = [round(epoch["loss"], 12) for epoch in predictor.info["history"].epochs]
print(fingerprint(predictor.classify.args[0]), losses)
"""


def run(name: str, kill_after: int, cache: Path):
    """Train in a process of its own, which may kill itself."""
    env = os.environ | {"PURIFICATION_NB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return python(RUN, name, kill_after, env=env, timeout=300)


@pytest.mark.parametrize("name", ["densenet", "face"])
def test_a_killed_run_ends_where_the_undisturbed_one_ends(name, tmp_path):
    undisturbed = run(name, -1, tmp_path / "one")
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = [
        run(name, after, tmp_path / "two") for after in (2, 1)
    ]  # after two epochs, and again after a third
    assert [done.returncode for done in killed] == [-signal.SIGKILL] * 2
    assert [
        path.suffix for path in (tmp_path / "two").iterdir() if not path.name.startswith(".")
    ] == [".unfinished"]
    resumed = run(name, -1, tmp_path / "two")
    assert resumed.returncode == 0 and resumed.stdout == undisturbed.stdout, resumed.stderr
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir() if not path.name.startswith(".")
    )


def corner(stop_in=None, resume=True, batch_norm=True, patience=None):
    """Train a network with dropout, batch normalisation and two optimisers, validated."""
    x, y = RNG_X, (RNG_X.sum(1) > 0).astype(np.int64)
    with seeded(0):
        network = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )
    first, second = (
        torch.optim.SGD(network[0].parameters(), 0.05, 0.9),
        adam(network[4], 0.01, betas=(0.5, 0.999), amsgrad=True),
    )

    def step(x, y):
        loss = F.cross_entropy(network(x), y)
        first.zero_grad()
        second.zero_grad()
        loss.backward()
        first.step()
        second.step()
        return {"loss": loss.detach()}

    def before_epoch(epoch):
        if epoch == stop_in:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(
            network,
            step,
            (x, y),
            12,
            16,
            device="cpu",
            validate=lambda: F.cross_entropy(network(torch.tensor(x[:40])), torch.tensor(y[:40])),
            patience=patience,
            made_of={"kind": "corner"},
            resume=(first, second) if resume else (),
            before_epoch=before_epoch,
        )
    return network, history


RNG_X = RNG.normal(size=(160, 3)).astype(np.float32)


def test_two_optimisers_the_best_epoch_and_patience_survive_a_stop(cache, tmp_path, monkeypatch):
    whole, undisturbed = corner(patience=4)
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "other"))
    for stop in (1, 5):
        corner(stop_in=stop, patience=4)
    resumed, history = corner(patience=4)
    assert history.epochs == undisturbed.epochs and fingerprint(resumed) == fingerprint(whole)
    assert corner(patience=4)[1].cached


def test_the_check_can_fail(cache, tmp_path, monkeypatch):
    whole, _ = corner()
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(Draws, "restore", lambda self, state: None)  # forget the random numbers
    corner(stop_in=5)
    assert fingerprint(corner()[0]) != fingerprint(whole)


def test_an_unfinished_file_that_is_damaged_is_named(cache):
    corner(stop_in=3)
    (unfinished,) = cache.glob("*.unfinished")
    unfinished.write_bytes(unfinished.read_bytes()[:-50])
    with pytest.raises(InputError, match="delete it to start again"):
        corner()


def test_other_data_do_not_resume_this_run(cache, monkeypatch):
    corner(stop_in=3)
    monkeypatch.setattr(sys.modules[__name__], "RNG_X", RNG_X + 1)
    corner()
    assert len(list(cache.glob("*.unfinished"))) == 1  # the first run's, untouched


def test_without_resume_nothing_is_written_down(cache):
    corner(stop_in=3, resume=False)
    assert not cache.exists() or not list(cache.iterdir())


def test_small_networks_train_as_fast_as_a_bare_loop():
    x, y = (
        torch.tensor(RNG.normal(size=(2000, 128)).astype(np.float32)),
        torch.tensor(RNG.integers(0, 10, 2000)),
    )

    def ours():
        network = networks.mlp((128, 64, 10))
        fit(
            network,
            minimise(lambda x, y: F.cross_entropy(network(x), y), adam(network)),
            (x, y),
            12,
            device="cpu",
        )

    def bare():
        network = networks.mlp((128, 64, 10))
        optimiser = adam(network)
        for _ in range(12):
            for rows in torch.randperm(2000).tensor_split(32):
                loss = F.cross_entropy(network(x[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

    def clock(call):
        start = time.process_time()
        call()
        return time.process_time() - start

    with one_thread():
        ours(), bare()
        ratio = min(clock(ours) for _ in range(5)) / min(clock(bare) for _ in range(5))
    assert ratio < 1.4, ratio


# --- bytes and precision


def test_a_batch_of_bytes_is_shares_of_255_and_labels_are_left_alone():
    seen = []
    fit(
        nn.Linear(1, 1),
        lambda *batch: seen.append(batch) or {"loss": torch.tensor(0.0)},
        (
            np.full((4, 3, 3), 255, np.uint8),
            np.arange(4).astype(np.uint8),
            np.full((4, 2), 7, np.uint8),
        ),
        1,
        device="cpu",
    )
    ((x, y, table),) = seen
    assert (
        x.dtype == torch.float32
        and (x == 1).all()
        and y.dtype == torch.uint8
        and table.dtype == torch.uint8
    )


def test_mixed_precision_on_the_cpu():
    networks = []
    for mixed in (False, True):
        with seeded(0):
            network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        seen = []
        optimiser = adam(network, 0.01)

        def step(x, y, network=network, optimiser=optimiser, seen=seen):
            logits = network(x)
            loss = F.cross_entropy(logits, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append((logits.dtype, loss.dtype))
            return {"loss": loss.detach()}

        history = fit(
            network,
            step,
            (RNG_X, (RNG_X.sum(1) > 0).astype(np.int64)),
            20,
            device="cpu",
            mixed=mixed,
        )
        assert (
            set(seen) == {(torch.bfloat16 if mixed else torch.float32, torch.float32)}
            and history["loss"][-1] < history["loss"][0]
        )
        assert next(network.parameters()).dtype == torch.float32
        networks.append(fingerprint(network))
    assert networks[0] != networks[1]


def test_mixed_precision_is_for_full_scale_on_a_gpu(monkeypatch):
    for scale, gpu in (("lesson", True), ("full", False), ("full", True)):
        monkeypatch.setenv("PURIFICATION_NB_SCALE", scale)
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert mixed_precision() == (scale == "full" and gpu)


def test_a_picture_target_asked_for_mixed_precision_trains_so(cache, monkeypatch):
    split, asked = pictures(), []
    monkeypatch.setattr(targets, "mixed_precision", lambda: True)
    monkeypatch.setattr(
        targets,
        "fit",
        lambda *a, fit=fit, **more: asked.append(more["mixed"]) or fit(*a, **more),
    )
    predictor = FaceTarget(4, 2, 1e-3, 32)(split.d1, split.d2, 0)
    assert asked == [True] and predictor(split.d3.x).dtype == np.float64


@pytest.mark.parametrize("channels", [(), (3,)])
def test_bytes_and_their_shares_give_the_same_service(channels, cache):
    split = pictures(channels)
    as_numbers = replace(
        split,
        **{
            part: replace(getattr(split, part), x=as_floats(getattr(split, part).x))
            for part in split.parts
        },
    )
    for target in (
        MLPTarget((16,), epochs=4),
        FaceTarget(4, 4, 1e-3, 32),
        Regularised((16,), 3, patience=1),
        ModelStacking((16,), 3, trees=5),
    ):
        one, other = (target(those.d1, those.d2, 0) for those in (split, as_numbers))
        assert (
            split.d1.x.dtype == np.uint8
            and np.array_equal(one(split.d3.x), other(as_numbers.d3.x))
            and np.array_equal(one(split.d3.x), one(as_numbers.d3.x))
        )


def test_bytes_and_their_shares_are_attacked_alike(cache):
    split = pictures()
    as_numbers = replace(
        split,
        **{
            part: replace(getattr(split, part), x=as_floats(getattr(split, part).x))
            for part in split.parts
        },
    )
    found = []
    for those in (split, as_numbers):
        recipe = Recipe(MLPTarget((16,), epochs=6))
        service = recipe(those.d1, those.d2, 0)
        knowledge = replace(knowledge_of(those, service, recipe), shadows=None)
        held = service.answer(those.heldout_members)
        inversion = Inversion(hidden=((16,),), forms=("log",), epochs=3).fit(
            replace(knowledge, auxiliary=replace(knowledge.auxiliary))
        )
        drawn = inversion.reconstruct(held)
        shift = LabelOnly("shift").fit(knowledge)
        noise = LabelOnly("noise", copies=3).fit(knowledge)
        shadows = Shadows(knowledge.candidates, those.d2, 2, 0, jobs=1)
        values, inside, outside = shadow_log_odds(shadows, recipe, held)
        h = AdversarialModel(service.answer(those.d2), alpha=1.0)
        found.append(
            [
                drawn,
                inversion_error(drawn, held.x),
                structural_similarity(drawn, held.x),
                shift.score(held),
                noise.score(held),
                values,
                inside,
                outside,
                np.array([h.low, h.high]),
            ]
        )
        assert drawn.min() >= 0 and drawn.max() <= 1 and (inside ^ outside).all()
        if held.x.dtype == np.uint8:
            assert not np.array_equal(held.x, as_floats(held.x))
    low, high = found[1][-1]
    assert low < 0.01 and high > 0.95
    for one, other in list(zip(*found, strict=True))[3:8]:
        assert np.array_equal(one, other)
    for one, other in list(zip(*found, strict=True))[:3]:
        assert np.allclose(
            one, other, atol=0.02
        )  # for floats the range of the data is theirs, for bytes it is 0 to 1


def test_dp_sgd_reads_bytes(cache):
    pytest.importorskip(
        "opacus", reason='opacus is not installed: pip install "purification_nb[dp]"'
    )
    split = pictures()
    assert DPSGD((8,), 2)(split.d1, split.d2, 0)(split.d3.x).shape == (len(split.d3), 4)


# --- the paper's networks


def test_densenet121_has_the_published_size_and_sees_every_pixel():
    from torchvision.models import densenet121

    theirs, ours = densenet121(num_classes=10), densenet((3, 32, 32), 10)

    def count(network):
        return sum(p.numel() for p in network.parameters())

    assert count(theirs) - count(ours) == 64 * 3 * (
        49 - 9
    )  # they differ in the first kernel: 7 x 7 or 3 x 3
    maps = []
    ours[1].features.denseblock1.register_forward_hook(lambda *what: maps.append(what[2].shape))
    ours.eval()(torch.rand(1, 3, 32, 32))
    assert maps[0][-2:] == (32, 32)


def test_the_face_network_and_its_decoder_have_the_published_sizes():
    layers = [
        layer for layer in face_network((64, 64), 530) if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    assert [(layer.weight.shape[1], layer.weight.shape[0]) for layer in layers] == [
        (1, 128),
        (128, 256),
        (256, 512),
        (512, 1024),
        (16384, 2650),
        (2650, 530),
    ]
    assert [
        layer.in_channels
        for layer in conv_decoder(530, (64, 64), 128)
        if isinstance(layer, nn.ConvTranspose2d)
    ] == [530, 1024, 512, 256, 128]


def test_the_shoppers_network_is_nshs(monkeypatch):
    split = replace(
        split_sizes(Records(RNG.integers(0, 2, (400, 600)), np.arange(400) % 100), (200, 100, 100)),
        name="purchase100",
    )
    for scale in ("lesson", "full"):
        monkeypatch.setenv("PURIFICATION_NB_SCALE", scale)
        network = target_for(split).network(split.d1, 0)
        assert [
            layer.weight.shape[1] for layer in network.modules() if isinstance(layer, nn.Linear)
        ] == [600, 1024, 512, 256] and any(
            isinstance(layer, nn.Tanh) for layer in network.modules()
        )


def test_the_papers_schedule():
    papers = DenseNetTarget(paper=True)
    rates = [papers.rate_at(epoch) for epoch in (0, 149, 150, 249.99, 250, 349)]
    assert np.allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (papers.epochs, papers.batch_size) == (350, 128)
    assert DenseNetTarget(epochs=30, drops=(15,), paper=True).rate_at(20) == 0.01
    assert not papers.optimiser(nn.Linear(1, 1)).defaults["nesterov"]


def test_the_schedule_of_full_scale():
    usual = DenseNetTarget()
    assert TARGETS["full"]["photographs"] == usual and not usual.paper
    assert (usual.epochs, usual.batch_size, usual.weight_decay) == (56, 512, 5e-4)
    rates = [usual.rate_at(epoch) for epoch in (0, 2.8, 5.6, 30.8, 56)]
    assert np.allclose(rates, [0, 0.2, 0.4, 0.2, 0])
    moved = usual.optimiser(nn.Linear(1, 1)).defaults
    assert (moved["momentum"], moved["nesterov"], moved["weight_decay"]) == (0.9, True, 5e-4)


def test_the_rate_of_each_batch_is_what_the_schedule_says(cache, monkeypatch):
    split, seen = pictures((3,)), []
    whole = torch.optim.SGD.step

    def watched(optimiser, *more):
        seen.append(optimiser.param_groups[0]["lr"])
        return whole(optimiser, *more)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    target = DenseNetTarget((1,), 4, 5, 0.2, batch_size=30)
    target(split.d1, split.d2, 0)  # of 60 pictures: two batches an epoch
    done = np.arange(10) / 10
    falling = 0.1 * (1 + np.cos(np.pi * (done - 0.1) / 0.9))
    assert np.allclose(seen, np.where(done < 0.1, 2 * done, falling))


@pytest.mark.parametrize(
    "shape, name, kind",
    [
        ((8, 16), "digit_pairs", "small"),
        ((8, 8), "mine", "small"),
        ((446,), "location30", "small"),
        ((600,), "purchase100", "bought"),
        ((6169,), "texas100", "bought"),
        ((28, 28), "mnist", "photographs"),
        ((3, 32, 32), "cifar10", "photographs"),
        ((56, 46), "orl", "faces"),
        ((64, 64), "mine", "faces"),
    ],
)
@pytest.mark.parametrize("scale", ["lesson", "full"])
def test_the_usual_target(shape, name, kind, scale, monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_SCALE", scale)
    split = split_sizes(
        Records(RNG.random((30, *shape)), np.arange(30) % 2), (10, 10, 10), name=name
    )
    assert target_for(split) == TARGETS[scale][kind]


def test_digits_keep_their_target():
    assert target_for(digit_pairs()) == target_for(digits()) == MLPTarget()


@pytest.mark.parametrize("shape", [(24, 24), (1, 28, 28), (3, 32, 32)])
def test_augmented_pictures_are_shifted_or_mirrored_and_nothing_else(shape):
    picture = torch.tensor(RNG.random(shape).astype(np.float32)) + 0.1
    many = torch.cat([picture[None]] * 50)
    with seeded(0):
        moved = augmented(many)
    with seeded(0):
        again = augmented(many)
    assert moved.shape == many.shape and torch.equal(moved, again)
    padded = F.pad(picture, (4,) * 4)
    height, width = shape[-2:]
    ways = {
        padded[..., down : down + height, right : right + width]
        .flip(-1 if mirror else ())
        .numpy()
        .tobytes()
        for down in range(9)
        for right in range(9)
        for mirror in (0, 1)
    }
    assert {one.numpy().tobytes() for one in moved} <= ways and len(
        {one.numpy().tobytes() for one in moved}
    ) > 30


def test_a_network_for_pictures_says_so():
    for make in (densenet, face_network):
        with pytest.raises(InputError, match="at least 16"):
            make((446,), 10)


def test_large_records_are_asked_about_in_smaller_batches():
    sizes = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, x):
            sizes.append(len(x))
            return self.layer(x.flatten(1)[:, :1])

    scores_of(Counting(), np.zeros((600, 64, 64), np.uint8))
    scores_of(Counting(), np.zeros((1500, 446), np.float32))
    assert sizes == [256, 256, 88, 1024, 476]
