"""What must stay a secret, and what is kept: keys, saved plans, who may read a file."""

import json
import os
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import nn

from purification_nb.cache import (
    as_safetensors,
    fingerprint,
    library_version,
    load_cached,
    package_versions,
    store,
)
from purification_nb.checkpoints import Checkpoint, Progress
from purification_nb.defences.baselines import RandomNoise
from purification_nb.defences.catalogue import CATALOGUE
from purification_nb.defences.imitation import (
    Imitation,
    ImitationDefence,
    load_imitation,
    save_imitation,
)
from purification_nb.defences.memguard import MemGuard
from purification_nb.defences.optimum import EDGES
from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.purifier import Purifier
from purification_nb.defences.saving import save_purifier
from purification_nb.draws import Draws
from purification_nb.files import atomic_file, write_together
from purification_nb.networks import mlp
from purification_nb.records import InputError
from purification_nb.training import fit

SCORES = np.random.default_rng(0).dirichlet(np.ones(3), 200)


# --- keys


@pytest.mark.parametrize("kind", [RandomNoise, MemGuard, ImitationDefence])
def test_a_key_is_a_secret_unless_it_is_given_and_stays_what_it_is(kind):
    one, other = kind(), kind()
    assert one.key != other.key and min(one.key, other.key) > 2**40
    assert kind(key=7).key == 7 and kind(key=7) == kind(key=7)
    assert pickle.loads(pickle.dumps(one)).key == replace(one).key == one.key
    assert str(one.key) not in repr(one)


def test_two_services_draw_differently_and_each_always_the_same():
    one, other = (RandomNoise()(None, None, 0) for _ in range(2))
    assert np.array_equal(one(SCORES), one(SCORES[::-1])[::-1])
    assert (one(SCORES) != other(SCORES)).any(1).all()


def test_the_catalogue_gives_keys_so_that_an_audit_can_be_repeated():
    given = {name: getattr(entry.made, "key", None) for name, entry in CATALOGUE.items()}
    assert {name: key for name, key in given.items() if key is not None} == {
        "random_noise": 0,
        "memguard": 0,
        "imitation": 2005,
    }


def test_two_answers_with_two_classes_are_not_recovered_with_the_old_public_key():
    """With key 0 whoever knows the bare answer knows the published one, and the other way round."""
    scores = np.stack([SCORES[:, 0], 1 - SCORES[:, 0]], 1)
    published = RandomNoise()(None, None, 0)(scores)
    guessed = RandomNoise(key=0)(None, None, 0)(scores)
    assert (np.abs(published - guessed).max(1) > 1e-6).all()


def test_long_keys_are_keys():
    assert np.isfinite(RandomNoise(key=2**250)(None, None, 3)(SCORES)).all()


# --- who may read


@pytest.fixture
def umask():
    """Let nobody else read, and put back what was."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def imitation(plan=None):
    """Make an imitation of two classes that always gives its own answer."""
    bins = len(EDGES) - 1
    own = np.zeros((bins, 2 + bins))
    own[..., 0] = 1
    return Imitation(
        plan=own if plan is None else plan,
        models=np.full((bins, 3), 0.5),
        starts=np.arange(bins + 1),
        followers=1 - np.eye(2),
        unsure=0.5,
        key=5,
    )


def test_saved_keys_and_networks_follow_the_umask(umask, tmp_path):
    save_imitation(imitation(), tmp_path / "imitation")
    store(tmp_path / "network", nn.Linear(2, 2), {"seconds": 1.0})
    save_purifier(Purifier(mlp(purifier_sizes(3), batch_norm=True).eval(), 3), tmp_path / "made")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    os.umask(0o022)
    save_imitation(imitation(), tmp_path / "imitation")
    assert stat.S_IMODE((tmp_path / "imitation").stat().st_mode) == 0o644


def test_files_that_belong_together_are_all_there_or_none(tmp_path):
    (tmp_path / "folder").mkdir()
    names = [tmp_path / name for name in ("audit.json", "table.md", "folder")]
    with pytest.raises(TypeError):
        write_together(dict(zip(names, [b"a", b"b", "no bytes"], strict=True)))
    assert os.listdir(tmp_path) == ["folder"]
    write_together(dict.fromkeys(names[:2], b"c"))
    assert sorted(os.listdir(tmp_path)) == ["audit.json", "folder", "table.md"]
    with atomic_file(tmp_path / "one") as first, atomic_file(tmp_path / "one") as second:
        first.write(b"1")
        second.write(b"2")
    assert (tmp_path / "one").read_bytes() == b"1"


# --- what is remembered


class Two(nn.Module):
    """Have two layers, of which a file may hold one."""

    def __init__(self, width=3):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, width)


def altered(content: bytes) -> bytes:
    """Turn the last bit of a file."""
    return content[:-1] + bytes([content[-1] ^ 1])


def other_shape(content: bytes) -> bytes:
    """Give the file of a network whose first layer would fit."""
    return as_safetensors(Two(4).state_dict(), {"history": json.dumps({"seconds": 1})})


def unchecked(content: bytes) -> bytes:
    """Give a file as older versions wrote it, without a checksum."""
    from safetensors.torch import save as save_tensors

    return save_tensors(Two().state_dict(), {"history": json.dumps({"seconds": 1})})


DAMAGES = [altered, other_shape, unchecked, lambda content: content[:-40], lambda content: b"text"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_read_leaves_the_network_as_it_was(damage, tmp_path):
    path, network = tmp_path / "key", Two()
    store(path, Two(), {"seconds": 1.0})
    before = fingerprint(network)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="trained again"):
        assert load_cached(path, network) is None
    assert fingerprint(network) == before
    store(path, Two(), {"seconds": 1.0})
    assert load_cached(path, network) == {"seconds": 1.0} and fingerprint(network) != before


def learn(seed=0):
    """Train two layers, remembered."""
    torch.manual_seed(0)
    network = Two(2)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)

    def step(x):
        loss = network.second(network.first(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return {"loss": loss.detach()}

    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    history = fit(network, step, (x,), 2, device="cpu", made_of={"kind": "two"})
    return fingerprint(network), history


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_trained_again_from_the_start(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path))
    honest, _ = learn()
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="trained again"):
        again, history = learn()
    assert again == honest and not history.cached
    recalled, history = learn()
    assert recalled == honest and history.cached


def test_an_unfinished_training_that_was_altered_is_refused(tmp_path):
    network = Two()
    parts = tmp_path / "unfinished", network, (), torch.device("cpu"), Draws(0)
    Checkpoint(*parts).write(Progress())
    parts[0].write_bytes(altered(parts[0].read_bytes()))
    with pytest.raises(InputError, match="delete it to start again"):
        Checkpoint(*parts).restore()


def test_keys_cover_the_versions_of_what_computes(monkeypatch):
    from importlib import metadata

    from purification_nb.cache import _installed_version

    before = library_version()
    for name in ("scipy", "scikit-learn"):
        monkeypatch.setattr(
            metadata,
            "version",
            lambda asked, name=name, real=metadata.version: "0.1" if asked == name else real(asked),
        )
        _installed_version.cache_clear()  # each is looked up once
        assert library_version() != before
        monkeypatch.undo()
    _installed_version.cache_clear()
    assert package_versions().keys() == {"torch", "numpy", "scipy", "scikit-learn"}


def test_texts_in_a_table_are_told_apart_by_what_they_say():
    table = np.array([["a", 1.5], [None, "b"]], object)
    assert fingerprint(table) == fingerprint(np.array(table.tolist(), object))
    assert fingerprint(table) != fingerprint(table[::-1])


# --- a saved imitation


def rewritten(path: Path, tables=None, about=None, honest=False) -> Path:
    """Change what a saved imitation holds; `honest`: with the hash of that."""
    with safe_open(path, "numpy") as file:
        names = file.keys()
        held = {name: file.get_tensor(name) for name in names} | (tables or {})
        said = file.metadata() | (about or {})
    held = {name: table for name, table in held.items() if table is not None}
    said = {name: text for name, text in said.items() if text is not None}
    if honest:
        said.pop("hash")
        said["hash"] = fingerprint(held, said)
    path.write_bytes(save(held, said))
    return path


BINS = len(EDGES) - 1
SLIPS = {
    "no edges": ({}, {"edges": None}, True, "fit it again"),
    "no key": ({}, {"key": None}, True, "altered or is not whole"),
    "no hash": ({}, {"hash": None}, False, "altered or is not whole"),
    "another key": ({}, {"key": "6"}, False, "altered or is not whole"),
    "no plan": ({"plan": None}, {}, True, "lacks tables"),
    "a plan of another hand": (
        {"plan": np.full((BINS, 2 + BINS), 1 / (2 + BINS))},
        {},
        False,
        "altered or is not whole",
    ),
    "a plan of NaN": ({"plan": np.full((BINS, 2 + BINS), np.nan)}, {}, True, "NaN"),
    "no chances": ({"plan": np.ones((BINS, 2 + BINS))}, {}, True, "do not sum to 1"),
    "other sizes": ({"plan": np.ones((2, 4)) / 4}, {}, True, "sizes that belong together"),
    "a table too many": ({"group": np.array([0, 1])}, {}, True, "or has others"),
    "bins of nobody": ({"starts": np.arange(BINS + 1) * 2}, {}, True, "do not divide"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_an_imitation_that_was_changed_is_refused_in_one_sentence(slip, tmp_path):
    tables, about, honest, says = SLIPS[slip]
    path = save_imitation(imitation(), tmp_path / "saved")
    assert load_imitation(path, 2).key == 5
    rewritten(path, tables, about, honest)
    with pytest.raises(InputError, match=says):
        load_imitation(path)


# --- a purifier whose settings are changed


def test_a_purifier_heeds_settings_that_are_changed_after_its_first_answer():
    network = mlp(purifier_sizes(3), batch_norm=True).eval()
    purify = Purifier(network, 3, keep_label=False, decimals=2)

    def fresh():
        return Purifier(purify.network, 3, purify.keep_label, purify.decimals)(SCORES)

    first = purify(SCORES)
    for name, value in (("keep_label", True), ("decimals", None)):
        setattr(purify, name, value)
        assert np.array_equal(purify(SCORES), fresh())
    assert (purify(SCORES).argmax(1) == SCORES.argmax(1)).all()
    assert np.abs(purify(SCORES) - first).max() > 1e-4
    with torch.no_grad():
        network[0].weight.mul_(-1)
    assert np.array_equal(purify(SCORES), fresh())
    purify.network = mlp(purifier_sizes(3), batch_norm=True).eval()
    assert np.array_equal(purify(SCORES), fresh())
    assert np.array_equal(pickle.loads(pickle.dumps(purify))(SCORES), fresh())
