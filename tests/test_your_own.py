"""Any trained model can be audited and purified, and what is wrong with it is named."""

import http.server
import json
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from torch import nn

from purification_nb.audit.run import audit
from purification_nb.datasets import digits
from purification_nb.defences.imitation import ImitationDefence
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.records import InputError, Records, Scored
from purification_nb.service import (
    Predictor,
    Recipe,
    Trained,
    as_predictor,
    as_target,
    bind_target,
)
from purification_nb.splits import split_records
from purification_nb.targets import MLPTarget
from purification_nb.trained import check_class_order

K = 3


def records(n=300, seed=0):
    """Make records whose class can be read from their first numbers."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return Records(np.eye(K)[y] * 4 + rng.normal(size=(n, K)), y, K)


class Network(nn.Module):
    """Answers with its input times a number, through a last layer if given."""

    def __init__(self, last=None):
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.tensor(2.0)), last or nn.Identity()

    def forward(self, x):
        return self.last(x * self.weight)


D1 = records()
FOREST = RandomForestClassifier(10, random_state=0).fit(D1.x, D1.y)
EXPECTED = torch.tensor(D1.x).mul(2.0).double().softmax(1).numpy()


@pytest.mark.parametrize(
    "model",
    [
        Network(),
        Network(nn.LogSoftmax(1)),
        Trained(Network(nn.Softmax(1)), answers="scores"),
        lambda x: EXPECTED,
        Predictor(lambda x: EXPECTED, K),
    ],
    ids=["logits", "log-softmax", "softmax", "function", "predictor"],
)
def test_every_kind_of_model_gives_the_same_scores(model):
    predictor = as_target(model)(D1, D1, 0)
    assert np.allclose(predictor(D1.x), EXPECTED, atol=1e-6)


def test_an_estimator_is_asked_for_its_probabilities():
    assert np.array_equal(as_predictor(FOREST, K)(D1.x), FOREST.predict_proba(D1.x))


def test_an_estimator_that_goes_by_names_of_columns_gets_them():
    frame = pd.DataFrame(D1.x, columns=["length", "width", "weight"])
    estimator = make_pipeline(
        make_column_transformer(("passthrough", ["weight", "length"])),
        RandomForestClassifier(10, random_state=0),
    ).fit(frame, D1.y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn's own about missing names
        assert np.array_equal(as_predictor(estimator, K)(D1.x), estimator.predict_proba(frame))


def test_a_network_is_left_in_the_mode_it_was_in():
    network = nn.Sequential(Network(), nn.Dropout(0.9)).train()
    scores = as_predictor(network, K)(D1.x)
    assert network.training and network[1].training and np.allclose(scores, EXPECTED, atol=1e-6)


def test_columns_stand_where_their_class_belongs():
    seen = D1[D1.y != 1]
    estimator = RandomForestClassifier(10, random_state=0).fit(seen.x, seen.y)
    scores = as_predictor(estimator, K)(D1.x)
    assert (
        np.array_equal(scores[:, [0, 2]], estimator.predict_proba(D1.x))
        and (scores[:, 1] == 0).all()
    )


@pytest.mark.parametrize("labels", [np.array(["ant", "bee", "cat"]), np.array([1, 2, 3])])
def test_classes_by_name_or_from_1_keep_their_order(labels):
    estimator = RandomForestClassifier(10, random_state=0).fit(D1.x, labels[D1.y])
    assert np.array_equal(as_target(estimator)(D1, D1, 0)(D1.x), estimator.predict_proba(D1.x))


@pytest.mark.parametrize(
    "model, says",
    [
        (Network(nn.Softmax(1)), "end in a softmax already"),
        (Network(nn.Sigmoid()), "look like sigmoids"),
        (Trained(Network(), answers="scores"), "look like logits"),
        (Trained(Network(), answers="probabilities"), "'logits' or with 'scores'"),
        (nn.Linear(7, K), "fails on records of shape"),
        (nn.Linear(K, K + 1), "4 columns, but there are 3 classes"),
        (Network(nn.Unflatten(1, (K, 1))), "one row a record and one column a class"),
        (Network(nn.Threshold(1e9, float("nan"))), "NaN"),
        (LinearSVC(), "no predict_proba"),
        (RandomForestClassifier(), "not fitted"),
        (RandomForestClassifier, "is a class, not a model"),
        (RandomForestClassifier(3).fit(D1.x, np.arange(len(D1)) % 5), "knows 5 classes"),
        (RandomForestClassifier(3).fit(D1.x[:, :2], D1.y), "fails on records"),
        (MultiOutputClassifier(GaussianNB()).fit(D1.x, np.c_[D1.y, D1.y]), "several questions"),
        (lambda x: 5 * x, "look like logits"),
        (lambda x: np.full((len(x), 2), 0.5), "2 columns, but there are 3 classes"),
        (lambda x: np.full((len(x) - 1, K), 1 / K), "rows of scores but"),
        (lambda x: np.roll(EXPECTED[: len(x)], 1, axis=1), "columns were in another order"),
        (Predictor(lambda x: x, 5), "5 classes, the records have 3"),
        ("a file", "is not a model"),
    ],
)
def test_a_mistake_is_named(model, says):
    with pytest.raises(InputError, match=says):
        Recipe(model, PurifierDefence())(D1, records(seed=1), 0)


def test_a_model_that_is_merely_bad_passes_for_one_whose_classes_are_in_order():
    rng = np.random.default_rng(0)
    for k, n in ((2, 40), (10, 200), (100, 500), (100, 2000)):
        y = np.arange(n) % k
        for scores in (rng.dirichlet(np.ones(k), n), np.eye(k)[np.zeros(n, int)]):
            check_class_order(Scored(scores, y))


def test_targets_are_told_from_trained_models():
    def trains(d1, d2, seed):
        return Predictor(lambda x: EXPECTED, K)

    assert as_target(trains) is trains and as_target(target := MLPTarget()) is target
    assert isinstance(as_target(lambda x: x), Trained) and isinstance(as_target(Network()), Trained)
    assert Recipe(trains).target is trains and isinstance(Recipe(FOREST).target, Trained)


def test_a_defence_that_rehearses_is_refused_a_trained_model():
    with pytest.raises(InputError, match="trained already"):
        bind_target(ImitationDefence(), as_target(FOREST))


@pytest.fixture(scope="module")
def split():
    """Give single digits."""
    return digits(0)


@pytest.fixture(scope="module")
def forest(split):
    """Fit a forest on D1, as a user would."""
    return RandomForestClassifier(50, random_state=0).fit(
        split.d1.x.reshape(len(split.d1), -1), split.d1.y
    )


def test_an_audit_takes_a_trained_model_and_leaves_out_what_must_train_one(split, forest):
    found = audit(split, attacks="label,confidence", seeds=1, target=forest, jobs=1, progress=False)
    assert found.recipes == [
        "none",
        "one_hot",
        "constant_per_label",
        "release_below",
        "purifier",
        "purifier_keep_label",
    ]
    assert found.value("none", "accuracy", "confidence") > found.value("none", "label_floor") + 0.1
    assert (
        found.value("purifier_keep_label", "accuracy", "confidence")
        < found.value("none", "accuracy", "confidence") - 0.05
    )
    with pytest.raises(InputError, match="trains shadow models"):
        audit(split, "none", "lira_online", seeds=1, target=forest, progress=False)
    with pytest.raises(InputError, match="trains shadow models"):
        audit(split, "none", "calibrated_shadows", seeds=1, target=forest, progress=False)
    told = audit(split, "none,imitation", "label", seeds=1, target=forest, jobs=1, progress=False)
    assert "trained already" in told.failure("imitation")


def test_a_stand_in_tells_how_hard_records_are_where_the_model_is_trained(split, forest):
    found = audit(
        split, "none,one_hot", "label,calibrated", seeds=1, target=forest, jobs=1, progress=False
    )
    floor = found.value("none", "label_floor")
    assert found.value("none", "accuracy", "calibrated") > floor + 0.1
    assert found.value("one_hot", "accuracy", "calibrated", "low") <= floor
    told = found.run["settings"]["difficulty"]
    assert "fitted on D2: stand-ins" in told and told.startswith("5 ")
    table = found.table[found.table.attack == "calibrated"]
    assert set(table.adaptive) == {False}
    floors = found.table[found.table.metric == "difficulty_floor"]
    assert floors.value.notna().all() and set(floors.recipe) == {"none", "one_hot"}


def test_an_audit_splits_anew_for_each_seed_where_it_is_given_a_function():
    whole = records(600)
    found = audit(
        lambda seed: split_records(whole, seed, "mine"),
        "none",
        "label",
        seeds=2,
        target=lambda d1, d2, seed: as_predictor(GaussianNB().fit(d1.x, d1.y), K),
        jobs=1,
        progress=False,
    )
    rows = found.table[(found.table.metric == "test_accuracy") & found.table.seed.notna()]
    assert rows.value.nunique() == 2 and set(found.table.data) == {"mine"}


def test_an_audit_over_the_wire_finds_what_it_finds_at_home(split, forest):
    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            x = np.array(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                json.dumps(forest.predict_proba(x.reshape(len(x), -1)).tolist()).encode()
            )

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def remote(x):
        from urllib.request import urlopen

        with urlopen(
            f"http://127.0.0.1:{server.server_port}", json.dumps(x.tolist()).encode()
        ) as answer:
            return np.array(json.load(answer))

    found = [
        audit(
            split,
            "none,purifier_keep_label",
            "label,confidence",
            seeds=1,
            target=model,
            jobs=1,
            progress=False,
        ).attacks_table()
        for model in (remote, forest)
    ]
    server.shutdown()
    assert found[0].equals(found[1])
