"""Each likely mistake gets one clear error, before any work is lost, and leaves nothing behind."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from forked import command, python

from purification_nb import downloads
from purification_nb.audit.run import audit
from purification_nb.datasets import load
from purification_nb.defences import saving
from purification_nb.defences.baselines import one_hot
from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.purifier import Purifier
from purification_nb.files import check_writable
from purification_nb.networks import mlp
from purification_nb.records import InputError, Records, Scored, check_scores, refused
from purification_nb.service import Predictor, Recipe
from purification_nb.splits import Split, split_records, split_sets
from purification_nb.targets import MLPTarget

RNG = np.random.default_rng(0)
COMMAND = Path(sys.executable).with_name("purification-nb")


def records(n=60, k=3, seed=0):
    """Make n random records of k classes."""
    return Records(np.random.default_rng(seed).random((n, 4)), np.arange(n) % k, k)


def holed():
    """Make records of which one lacks a value."""
    return Records([[0.0, np.nan], [1, 2]], [0, 1])


def rolled(d1, d2, seed):
    """Train nothing: know every record of D1, with the columns one place off."""
    known = {x.tobytes(): np.roll(np.eye(d1.k)[y], 1) for x, y in zip(d1.x, d1.y, strict=True)}
    return Predictor(
        lambda x: np.stack([known.get(one.tobytes(), np.full(d1.k, 1 / d1.k)) for one in x]), d1.k
    )


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: check_scores([[2.0, -1.0, 0.5]]), "logits"),
        (lambda: check_scores([[0.5, 0.2, 0.2]]), "sums to 0.9"),
        (
            lambda: check_scores([[50.0, 30.0, 20.0], [99.0, 0.5, 0.4]]),
            "look like percents; divide",
        ),
        (lambda: check_scores([[0.5, np.nan]]), "NaN"),
        (lambda: check_scores(np.empty((0, 3))), "empty"),
        (lambda: check_scores([[0.5, 0.5]], k=3), "3 classes"),
        (lambda: Scored([[0.5, 0.5]], [0, 1]), "1 rows of scores but 2 labels"),
        (lambda: Records(RNG.random((3, 2)), [1, 2, 3]), "start at 1"),
        (lambda: Records(RNG.random((3, 2)), [0, 1, 3], 3), "out of range"),
        (lambda: Records(RNG.random((0, 2)), []), "empty"),
        (lambda: Records([[0.0, np.inf]], [0]), "infinite"),
        (lambda: MLPTarget()(holed(), holed(), 0), "takes no missing values"),
        (lambda: Records([["1", "Rome"]], [0]), "the pandas DataFrame that your model was fitted"),
        (
            lambda: split_sets((np.zeros((4, 2)), [0, 1, 0, 1]), records(seed=1), records(seed=2)),
            "made of Records, not of a tuple",
        ),
        (lambda: audit(records()), "the data comes first and is a Split"),
        (
            lambda: audit(lambda x: x, split_records(records())),
            "the data comes first and is a Split",
        ),
        (
            lambda: audit(
                split_sets(records(39, seed=1), records(seed=2), records(seed=3)), "none", "label"
            ),
            "D1 holds 39 records: an audit needs at least 40",
        ),
        (
            lambda: audit(
                split_sets(records(90, seed=1), records(seed=2), records(seed=3)),
                "none",
                "label",
                seeds=1,
                target=rolled,
                jobs=1,
                progress=False,
            ),
            "columns were in another order",
        ),
        (lambda: split_sets(records(seed=1), records(seed=1), records(seed=2)), "overlap"),
        (lambda: split_sets(records(seed=1), records(seed=2), records(seed=1)), "overlap"),
        (lambda: split_records(records(9, 3)), "at least 6"),
        (
            lambda: Predictor(lambda x: np.full((len(x), 4), 0.25), k=3)(np.zeros((2, 1))),
            "4 columns",
        ),
        (
            lambda: Records(np.zeros((2, 1)), np.array(["cat", "dog"])),
            "such as 'cat'.*a network k=",
        ),
        (lambda: load("digit_pears"), "did you mean 'digit_pairs'"),
        (lambda: load("no/such/file.npz"), "no file"),
        (lambda: audit("digits", recipes="purifer"), "did you mean 'purifier'"),
        (lambda: audit("digits", attacks="confidense"), "did you mean 'confidence'"),
        (lambda: audit("digits", seeds=0), "seed"),
    ],
)
def test_a_likely_mistake_is_named(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_a_name_is_guessed_only_where_one_is_near():
    near = refused(lambda: audit("digits", attacks="neighbors"))
    far = refused(lambda: audit("digits", attacks="treshold"))
    assert "did you mean 'neighbours'" in near and "did you mean" not in far
    assert all("confidence" in message for message in (near, far))  # each lists what there is
    assert "did you mean" not in refused(lambda: load("imagenet"))


def test_an_npz_with_python_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object), y=[0])
    with pytest.raises(InputError, match="plain arrays"):
        load(str(tmp_path / "objects.npz"))


@pytest.fixture
def saved(tmp_path):
    """Save a small untrained purifier."""
    network = mlp(purifier_sizes(10), batch_norm=True).eval()
    return saving.save_purifier(Purifier(network, 10), tmp_path / "purifier")


def test_a_purifier_file_that_is_cut_short(saved):
    weights = saved / "purifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        saving.load_purifier(saved)


def test_a_purifier_description_that_is_cut_short(saved):
    about = saved / "purifier.json"
    about.write_text(about.read_text()[:40])
    with pytest.raises(InputError, match="cut short"):
        saving.load_purifier(saved)


def test_an_edited_purifier_description(saved):
    about = saved / "purifier.json"
    about.write_text(about.read_text().replace('"k": 10', '"k": 30'))
    with pytest.raises(InputError, match="altered"):
        saving.load_purifier(saved)


def test_a_purifier_for_another_number_of_classes(saved):
    with pytest.raises(InputError, match="10 classes, not for 30"):
        saving.load_purifier(saved, k=30)
    with pytest.raises(InputError, match="10 classes, the scores have 3"):
        saving.load_purifier(saved)(np.full((2, 3), 1 / 3))


def test_no_purifier_at_all(tmp_path):
    with pytest.raises(InputError, match="holds no purifier"):
        saving.load_purifier(tmp_path)


def test_an_altered_archive_is_refused_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFICATION_NB_DATA", str(tmp_path))
    (tmp_path / "dataset_location.tgz").write_bytes(b"half of it")
    with pytest.raises(InputError, match="cut short or altered"):
        load("location30")
    assert os.listdir(tmp_path) == ["dataset_location.tgz"]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a folder on loopback in place of the public repository."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(downloads, "ARCHIVE_SOURCE", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("PURIFICATION_NB_DATA", str(tmp_path / "data"))
    yield folder
    server.shutdown()


def test_a_broken_download_leaves_nothing(served, tmp_path):
    (served / "dataset_location.tgz").write_bytes(b"half of it")
    with pytest.raises(InputError, match="not the published file"):
        load("location30")
    assert not (tmp_path / "data").exists()


def test_an_archive_that_cannot_be_had_says_where_to_put_it(served, tmp_path):
    with pytest.raises(InputError, match="put it there by hand"):
        load("location30")
    assert not (tmp_path / "data").exists()


def test_a_true_download_is_kept(served, tmp_path, data_folder):
    true = (data_folder / "dataset_location.tgz").read_bytes()
    (served / "dataset_location.tgz").write_bytes(true)
    assert isinstance(load("location30"), Split)
    assert (tmp_path / "data" / "dataset_location.tgz").read_bytes() == true
    assert os.listdir(tmp_path / "data") == ["dataset_location.tgz"]


def test_an_unwritable_out_is_noticed_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        check_writable(tmp_path / "file" / "report")
    check_writable(tmp_path / "new" / "report")
    assert os.listdir(tmp_path) == ["file"]  # asking makes nothing


def test_an_out_that_others_own_is_noticed_first(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    if os.geteuid() != 0:
        locked.chmod(0o500)
    code = (
        "import os, sys; os.geteuid() or os.setuid(65534)\n"
        "from purification_nb.files import check_writable\n"
        "from purification_nb.records import refused\n"
        f"print(refused(lambda: check_writable({str(locked / 'report')!r})))"
    )
    done = python(code)
    assert done.returncode == 0 and "cannot write" in done.stdout, done.stderr


def test_a_defended_service_is_not_called_none():
    with pytest.raises(InputError, match="give it a name"):
        audit("digits", [Recipe(MLPTarget(), one_hot)], "label")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["data", "cifar"], "no data set called"),
        (["audit", "--data", "digit_pears"], "did you mean 'digit_pairs'"),
        (["audit", "--recipes", "none,one_hott"], "did you mean 'one_hot'"),
        (["audit", "--attacks", "lable"], "did you mean 'label'"),
        (["audit", "--scale", "huge"], "may be 'lesson' or 'full'"),
        (["audit", "--out", "/dev/null/report"], "cannot write"),
    ],
)
def test_the_command_answers_with_one_line(arguments, says, tmp_path):
    if arguments[0] == "data":  # as it was installed
        done = subprocess.run(
            [COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    else:
        done = command(*arguments, cwd=tmp_path)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and says in lines[0], done.stderr
    assert os.listdir(tmp_path) == []  # nothing was begun
