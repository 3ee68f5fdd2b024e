"""A model, its scores and its records in the forms in which people have them already."""

import json
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import estimator_checks
from torch import nn
from typer.testing import CliRunner

import purification_nb
from purification_nb import PurifiedClassifier, fit_purifier, load_purifier, save_purifier
from purification_nb.audit.own_files import read_labelled, read_model
from purification_nb.audit.own_sets import own_sets
from purification_nb.audit.run import audit
from purification_nb.cli import app
from purification_nb.defences.estimator import refuse_members
from purification_nb.defences.fitting import purified_module
from purification_nb.defences.forms import as_given
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.records import InputError, Records, Scored
from purification_nb.service import Predictor, Trained
from purification_nb.splits import split_sets

K, N = 3, 300
ROOT = Path(__file__).resolve().parents[1]
QUICK = {"rate": 0.01, "epochs": 5}
SMALL = {"attacks": "label,confidence", "seeds": 1, "jobs": 1, "progress": False}


def records(seed, n=N):
    """Make records whose class can mostly be read from their first numbers."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return np.eye(K)[y] * 2 + rng.normal(size=(n, K)), y


(X1, Y1), (X2, Y2), (X3, Y3) = (records(seed) for seed in range(3))
PAIRS = {"members": (X1, Y1), "reference": (X2, Y2), "nonmembers": (X3, Y3)}
NAMES = np.array(["ant", "bee", "cat"])
FOREST = RandomForestClassifier(20, random_state=0).fit(X1, Y1)
SCORES, ASKED = FOREST.predict_proba(X2), FOREST.predict_proba(X3)
PURIFY = fit_purifier(SCORES, **QUICK)


# fit_purifier(scores)


def test_one_call_gives_the_purifier_that_an_audit_trains():
    ours = PurifierDefence(keep_label=True, **QUICK)(None, Scored(SCORES, Y2), 0)
    assert np.array_equal(PURIFY(ASKED), ours(ASKED))
    assert (PURIFY(ASKED).argmax(1) == ASKED.argmax(1)).all()
    assert not np.array_equal(fit_purifier(SCORES, seed=1, **QUICK)(ASKED), PURIFY(ASKED))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_an_array_comes_back_in_its_own_precision(dtype):
    asked = ASKED.astype(dtype)
    purified = PURIFY(asked)
    assert type(purified) is np.ndarray and purified.dtype == dtype
    assert np.allclose(purified, PURIFY(asked.astype(np.float64)), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_tensor_comes_back_as_a_tensor(dtype):
    asked = torch.tensor(ASKED, requires_grad=True).to(dtype)
    purified = fit_purifier(torch.tensor(SCORES), **QUICK)(asked)
    assert purified.dtype == dtype and not purified.requires_grad
    exact = asked.detach().double()
    expected = PURIFY((exact / exact.sum(1, keepdim=True)).numpy())
    assert np.allclose(purified.double().numpy(), expected, atol=4e-3)


def test_a_frame_comes_back_with_its_index_and_columns_and_is_matched_by_name(tmp_path):
    learnt, asked = pd.DataFrame(SCORES, columns=NAMES), pd.DataFrame(ASKED, columns=NAMES)
    asked.index = [f"person {i}" for i in range(N)]
    purify = fit_purifier(learnt, **QUICK)
    expected = pd.DataFrame(PURIFY(ASKED), asked.index, NAMES)
    assert purify(asked).equals(expected)
    turned = asked[["cat", "ant", "bee"]]
    assert purify(turned).equals(expected[turned.columns])
    stored = load_purifier(save_purifier(purify, tmp_path / "purifier"))
    assert stored(turned).equals(expected[turned.columns])
    with pytest.raises(InputError, match="fitted on the columns ant, bee, cat"):
        purify(asked.rename(columns={"cat": "dog"}))
    with pytest.raises(InputError, match="'label' is no score"):
        fit_purifier(learnt.assign(label=0))
    with pytest.raises(InputError, match="'who' holds no numbers"):
        fit_purifier(learnt.assign(who="me"))


def test_rows_in_a_list_come_back_as_such():
    assert np.array_equal(PURIFY(ASKED.tolist()), PURIFY(ASKED))
    assert type(PURIFY(ASKED.tolist())) is list


def test_the_label_survives_a_precision_in_which_two_scores_are_equal():
    purify = fit_purifier(SCORES, decimals=None, **QUICK)
    asked = ASKED.astype(np.float32)
    assert (purify(asked).argmax(1) == asked.argmax(1)).all()
    close = np.array([[0.5 - 1e-12, 0.5 + 1e-12, 0.0], [0.5 + 1e-12, 0.5 - 1e-12, 0.0]])
    for kind in (np.float32, np.float16, torch.float32, torch.bfloat16):
        torches = isinstance(kind, torch.dtype)
        given = torch.tensor(close).to(kind) if torches else close.astype(kind)
        assert as_given(close, given).argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "scores, says",
    [
        (np.log(SCORES + 1e-9), "look like logits"),
        (SCORES[:, :1], "one column"),
        (SCORES[:5], "rate and epochs"),
        ([[0.5, 0.5], [1.0]], "different lengths"),
        ({"a": [0.5]}, "dictionary"),
        (SCORES[0], "must be a table"),
    ],
)
def test_what_are_no_scores_is_refused(scores, says):
    with pytest.raises(InputError, match=says):
        fit_purifier(scores)


# PyTorch: module, softmax and purifier in one call


class Answers(nn.Module):
    """Answers with its input, in the form that a last function gives it."""

    def __init__(self, last=lambda x: x):
        super().__init__()
        self.layer, self.last = nn.Linear(K, K), last
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.last(self.layer(x))


class Output(dict):
    """What Hugging Face's models answer with, as far as anybody looks."""

    logits = property(lambda self: self["logits"])


@pytest.mark.parametrize(
    "last, answers",
    [
        (lambda x: x, "logits"),
        (lambda x: x.log_softmax(1), "logits"),
        (lambda x: x.softmax(1), "scores"),
        (lambda x: {"logits": x, "loss": x.mean()}, "logits"),
        (lambda x: (x, None), "logits"),
        (lambda x: Output(logits=x), "logits"),
    ],
    ids=["logits", "log-softmax", "softmax", "dictionary", "tuple", "output object"],
)
def test_module_softmax_and_purifier_are_one_module(last, answers):
    network = Answers(last).train()
    x2, x3 = (torch.tensor(x, dtype=torch.float32) for x in (X2, X3))
    service = purified_module(network, x2, answers, **QUICK)
    scores = [x.double().softmax(1) for x in (x2, x3)]
    with torch.no_grad():
        answered, expected = service(x3), service.purifier(scores[1])
    assert (answered - expected).abs().max() < 0.011  # a last digit: its own softmax is float32
    if answers == "logits" and network.last(x3) is x3:
        assert torch.equal(answered, fit_purifier(scores[0], **QUICK)(scores[1]))
    assert np.array_equal(answered.argmax(1), x3.argmax(1)) and not service.training


def test_a_float64_module_and_an_array_of_records_and_a_ready_purifier():
    network = Answers().double()
    trained = purified_module(network, X2, **QUICK)
    ready = purified_module(network, fit_purifier(torch.tensor(X2).softmax(1), **QUICK))
    with torch.no_grad():
        assert torch.equal(trained(torch.tensor(X3)), ready(torch.tensor(X3)))
    exported = torch.export.export(ready, (torch.tensor(X3),)).module()
    assert torch.equal(exported(torch.tensor(X3)), ready(torch.tensor(X3)))


@pytest.mark.parametrize("answers", ["sigmoid", "logit"])
def test_one_output_for_two_classes(answers):
    network = Answers(lambda x: x[:, :1].sigmoid() if answers == "sigmoid" else x[:, 0])
    service = purified_module(network, X2, answers, **QUICK)
    with torch.no_grad():
        purified = service(torch.tensor(X3, dtype=torch.float32))
    assert purified.shape == (N, 2)
    assert np.array_equal(purified.argmax(1).numpy() == 1, X3[:, 0].astype(np.float32) > 0)


@pytest.mark.parametrize(
    "network, answers, says",
    [
        (Answers(lambda x: x.softmax(1)), "logits", "softmax already"),
        (Answers(lambda x: x.sigmoid()), "logits", "look like sigmoids"),
        (Answers(lambda x: x[:, 0]), "logits", "one number a record"),
        (Answers(), "sigmoid", "one number a record"),
        (Answers(), "scores", "look like logits"),
        (Answers(), "probabilities", "not with 'probabilities'"),
        (nn.Linear(7, K), "logits", "the network fails on"),
    ],
)
def test_another_last_layer_than_was_said_is_noticed(network, answers, says):
    with pytest.raises(InputError, match=says):
        purified_module(network, X2, answers, **QUICK)


# PurifiedClassifier, as a classifier of scikit-learn


# Nothing fails; the array API is skipped by scikit-learn itself where SciPy was not told of it.
# Estimators that draw at random get a seed: the checks set `random_state` of the outer one alone.
CANNOT_APPLY: dict[str, str] = {}


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), HistGradientBoostingClassifier(max_iter=2), KNeighborsClassifier()],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_finds_nothing_wrong(estimator):
    classifier = PurifiedClassifier(estimator, rate=0.01, epochs=2)
    if not hasattr(estimator_checks, "estimator_checks_generator"):
        pytest.skip("scikit-learn before 1.6 knows no expected failures")
    found = estimator_checks.check_estimator(
        classifier, expected_failed_checks=CANNOT_APPLY, on_fail="raise"
    )
    assert sum(one["status"] == "passed" for one in found) > 40


def table(x, y):
    """Make a table with a category and holes, of which the class can mostly be told."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(x, columns=["length", "width", "weight"])
    frame["kind"] = np.where(rng.random(len(y)) < 0.8, NAMES[y], "dog")
    frame.loc[rng.random(len(y)) < 0.1, "width"] = np.nan
    return frame.astype({"kind": "category"})


def test_a_pipeline_on_a_frame_with_categories_and_holes():
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["kind"]), remainder="passthrough"
    )
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5))
    model.fit(table(X1, Y1), NAMES[Y1])
    classifier = PurifiedClassifier(model, **QUICK).fit(table(X2, Y2))
    asked = table(X3, Y3)
    assert list(classifier.classes_) == list(NAMES)
    assert list(classifier.feature_names_in_) == list(asked.columns)
    assert np.array_equal(classifier.predict(asked), model.predict(asked))
    bare = model.predict_proba(asked)
    assert np.array_equal(
        classifier.predict_proba(asked), classifier.purifier_(bare)
    ) and not np.array_equal(classifier.predict_proba(asked), bare)


def test_a_fitted_estimator_stays_as_it_is_in_copies_searches_and_pipelines():
    classifier = PurifiedClassifier(FOREST, **QUICK)
    assert clone(classifier).estimator is FOREST
    with pytest.raises(NotFittedError):
        classifier.predict(X3)
    search = GridSearchCV(classifier, {"keep_label": [True, False], "decimals": [1, 2]}, cv=2)
    search.fit(X2, Y2)
    assert search.best_estimator_.estimator_ is FOREST
    around = make_pipeline("passthrough", classifier).fit(X2)
    assert np.array_equal(around.predict_proba(X3), PURIFY(ASKED))
    with pytest.raises(InputError, match="fitted already and would not be fitted again"):
        classifier.set_params(estimator__max_depth=2)
    assert FOREST.max_depth is None and not hasattr(classifier, "decision_function")


def test_an_estimator_that_is_not_fitted_is_fitted_on_a_part():
    classifier = PurifiedClassifier(KNeighborsClassifier(), reference_share=0.4, **QUICK)
    assert cross_val_score(classifier, X1, NAMES[Y1], cv=2).mean() > 0.6
    classifier.fit(X1, NAMES[Y1])
    assert classifier.estimator_.n_samples_fit_ == 180 and list(classifier.classes_) == list(NAMES)
    search = GridSearchCV(classifier, {"estimator__n_neighbors": [3, 9]}, cv=2).fit(X1, Y1)
    assert search.best_estimator_.estimator_.n_neighbors in (3, 9)
    with pytest.raises(ValueError, match="requires y"):
        classifier.fit(X1)


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
        GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3]}, cv=2),
        CalibratedClassifierCV(KNeighborsClassifier(), cv=2),
        CalibratedClassifierCV(SVC(), cv=2, ensemble=False),
    ],
    ids=["neighbours", "pipeline", "search", "calibrated", "support vectors"],
)
def test_records_that_the_estimator_was_fitted_on_are_refused_where_it_keeps_them(estimator):
    fitted = clone(estimator).fit(X1, Y1)
    with pytest.raises(InputError, match="records are among those that the .* was fitted on"):
        PurifiedClassifier(fitted, **QUICK).fit(np.concatenate([X2[:200], X1]))
    PurifiedClassifier(fitted, **QUICK).fit(X2)


def test_coarse_records_that_repeat_by_chance_are_no_members():
    coarse = [np.random.default_rng(seed).integers(0, 2, (N, 4)) for seed in (1, 2)]
    refuse_members(KNeighborsClassifier().fit(coarse[0], Y1), coarse[1])


@pytest.mark.parametrize(
    "estimator, says",
    [(LinearSVC(), "no predict_proba"), (LogisticRegression, "is a class, not an estimator")],
)
def test_an_estimator_without_scores_is_refused(estimator, says):
    with pytest.raises(InputError, match=says):
        PurifiedClassifier(estimator).fit(X2, Y2)


# audit(model, members=(x, y), reference=(x, y), nonmembers=(x, y))


def test_three_pairs_are_audited_as_a_split_is():
    split = split_sets(Records(X1, Y1, K), Records(X2, Y2, K), Records(X3, Y3, K))
    recipes = "none,purifier_keep_label"
    old = audit(split, recipes, target=FOREST, **SMALL)
    new = purification_nb.audit(FOREST, recipes, **PAIRS, **SMALL)
    clocks = ("train_seconds", "query_seconds")
    tables = [one.table[~one.table.metric.isin(clocks)].drop(columns="data") for one in (old, new)]
    assert tables[0].equals(tables[1])
    again = audit(target=FOREST, recipes=recipes, **PAIRS, **SMALL)
    assert again.value("none", "train_accuracy") == FOREST.score(X1, Y1)


def test_labels_by_name_are_read_from_the_model():
    forest = RandomForestClassifier(20, random_state=0).fit(X1, NAMES[Y1])
    named = {role: (x, NAMES[y]) for role, (x, y) in PAIRS.items()}
    found = audit(forest, "none", **named, **SMALL)
    assert found.value("none", "train_accuracy") == forest.score(X1, NAMES[Y1])
    assert found.value("none", "test_accuracy") == forest.score(X3, NAMES[Y3])
    named["nonmembers"] = (X3, np.where(Y3 == 2, "dog", NAMES[Y3]))
    with pytest.raises(InputError, match="'dog' is not among the classes of this model"):
        audit(forest, "none", **named, **SMALL)


@pytest.mark.parametrize("labels", [[1, 2, 3], [False, True, True], [0, 7, 9]])
def test_labels_that_are_other_numbers_are_those_of_the_model(labels):
    labels = np.array(labels)
    forest = RandomForestClassifier(5, random_state=0).fit(X1, labels[Y1])
    halved, target = own_sets(forest, *((x, labels[y]) for x, y in PAIRS.values()))
    split = halved(0)
    assert split.k == len(forest.classes_)
    predictor = target(split.d1, split.d2, 0)
    mine = predictor.labels(split.d1.x) == split.d1.y
    assert mine.mean() == forest.score(X1, labels[Y1])


def test_a_class_without_a_record_counts():
    scores = Predictor(lambda x: np.full((len(x), 5), 0.2), 5)
    network = nn.Sequential(nn.Linear(K, 5))
    for model in (scores, network, Trained(network), lambda x: np.full((len(x), 5), 0.2)):
        assert own_sets(model, *PAIRS.values())[0](0).k == 5
    absent = RandomForestClassifier(5).fit(X1[Y1 != 1], Y1[Y1 != 1])
    assert own_sets(absent, *PAIRS.values())[0](0).k == 3


def test_groups_and_records_of_ours_are_taken_too():
    groups = np.arange(N) // 2
    triples = [(X1, Y1, groups), (X2, Y2, groups + N), Records(X3, Y3, K, groups + 2 * N)]
    split = own_sets(FOREST, *triples)[0](0)
    assert split.heldout_members.groups is not None and split.d3.groups is not None
    halves = own_sets(FOREST, *PAIRS.values())[0]
    assert not np.array_equal(halves(0).known_members.x, halves(1).known_members.x)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"reference": None}, "Cut the non-members in two"),
        ({"members": None}, "members missing: audit"),
        ({"members": X1}, "must be a pair"),
        ({"members": (X1,)}, "tuple of 1"),
        ({"data": "digit_pairs"}, "a model is missing"),
        ({"target": FOREST}, "data stand there twice"),
        ({"members": (X1, Y1[:9])}, "one label is needed"),
        ({"data": LinearSVC()}, "no predict_proba"),
        ({"data": RandomForestClassifier}, "is a class, not a model"),
        ({"data": LogisticRegression()}, "not fitted"),
        ({"data": LogisticRegression(), "members": (X1, NAMES[Y1])}, "once it is fitted"),
        ({"data": Answers(), "nonmembers": (X3, NAMES[Y3])}, "numbers of its columns, from 0"),
    ],
)
def test_sets_that_are_missing_or_wrong_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        audit(**{"data": FOREST, "recipes": "none", **PAIRS, **arguments}, **SMALL)


@pytest.mark.parametrize("model", [FOREST, Answers(), Trained(FOREST)])
def test_a_model_without_its_records_is_told_how(model):
    with pytest.raises(InputError, match="members="):
        audit(model)


# The same words in the command, with files


def test_the_command_audits_a_model_in_a_file(tmp_path):
    joblib.dump(FOREST, tmp_path / "model.joblib")
    options = []
    for name, (x, y) in PAIRS.items():
        pd.DataFrame(x).assign(label=y).to_csv(tmp_path / f"{name}.csv", index=False)
        options += [f"--{name}", str(tmp_path / f"{name}.csv")]
    few = ["--recipes", "none", "--attacks", "label", "--seeds", "1", "--jobs", "1"]
    done = CliRunner().invoke(
        app,
        ["audit", str(tmp_path / "model.joblib"), *options, *few, "--out", str(tmp_path / "out")],
    )
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out" / "audit.json").read_text())["rows"]
    (accuracy,) = (
        row["value"] for row in rows if row["metric"] == "train_accuracy" and row["seed"] is None
    )
    assert accuracy == FOREST.score(X1, Y1)


def test_files_are_read_as_they_were_written(tmp_path):
    np.savez(tmp_path / "set.npz", x=X1, y=Y1, groups=np.arange(N))
    x, y, groups = read_labelled(tmp_path / "set.npz")
    assert np.array_equal(x, X1) and np.array_equal(y, Y1) and len(groups) == N
    frame = table(X1, Y1).assign(label=NAMES[Y1], group=0)
    frame.to_csv(tmp_path / "set.csv", index=False)
    x, y, groups = read_labelled(tmp_path / "set.csv")
    assert np.array_equal(x.length, X1[:, 0]) and list(x.columns)[-1] == "kind"
    assert np.array_equal(y, NAMES[Y1]) and (groups == 0).all()


def test_models_are_read_from_files_and_modules(tmp_path, monkeypatch):
    network = Answers().eval()
    asked = torch.tensor(X3, dtype=torch.float32)
    program = torch.export.export(network, (asked,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "model.pt2")
    assert torch.equal(read_model(str(tmp_path / "model.pt2"))(asked), network(asked))
    (tmp_path / "mine_for_a_test.py").write_text("model = sorted\n")
    monkeypatch.chdir(tmp_path)
    assert read_model("mine_for_a_test:model") is sorted


@pytest.mark.parametrize(
    "words, says",
    [
        (["--members", "a.csv"], "a model is missing"),
        (["model.joblib", "--members", "a.csv"], "a model needs --reference, --nonmembers"),
        (["nowhere.joblib"], "a model needs --members"),
        (
            ["model.h5", *["--members", "a", "--reference", "a", "--nonmembers", "a"]],
            "no file model.h5",
        ),
        (
            ["no_such:model", *["--members", "a", "--reference", "a", "--nonmembers", "a"]],
            "no model",
        ),
    ],
)
def test_the_command_says_what_is_missing_in_a_line(words, says, tmp_path):
    done = CliRunner().invoke(app, ["audit", *words, "--out", str(tmp_path)])
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output


# from purification_nb import ...


def fresh(code, *arguments):
    """Run code in a new interpreter and read the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_import_costs_nothing():
    loaded = fresh(
        "import sys; before = set(sys.modules); import purification_nb, json;"
        "from purification_nb import audit; dir(purification_nb);"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    heavy = {"torch", "numpy", "pandas", "sklearn", "scipy", "joblib", "matplotlib"}
    assert not heavy & set(loaded)


ORDERS = [
    "from purification_nb.audit.run import audit as room\nfrom purification_nb import audit",
    "from purification_nb import audit\nfrom purification_nb.audit.run import audit as room",
    "import purification_nb.audit.run\nfrom purification_nb import audit\n"
    "room = purification_nb.audit.run.audit",
    "import purification_nb\naudit = purification_nb.audit\nimport purification_nb.audit.report\n"
    "from purification_nb.audit.run import audit as room",
    "import purification_nb.audit.run as run\nroom = run.audit\nfrom purification_nb import *",
]
EACH = """
import inspect, json, sys
import purification_nb.audit.report, purification_nb.audit.run  # torch is loaded once
told = []
for order in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.split(".")[0] == "purification_nb"]:
        del sys.modules[name]
    here = {}
    exec(order, here)
    audit, room = here["audit"], here["room"]
    from purification_nb import InputError, audit as again
    assert callable(audit) and again is audit and audit.__call__ is room
    assert str(inspect.signature(audit)) == str(inspect.signature(room))
    try:
        audit(members=([], []))
    except InputError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def test_audit_is_the_same_in_any_order_of_imports():
    told = fresh(EACH, json.dumps(ORDERS))
    assert len(told) == len(ORDERS) and all(one.startswith("a model is missing") for one in told)


def test_help_leads_to_all_arguments_of_an_audit():
    """What the help of `audit` says to type works, where nobody has imported the room."""
    code = (
        "import json; from purification_nb import audit; print(json.dumps(audit.run.audit.__doc__))"
    )
    assert "help(audit.run.audit)" in purification_nb.audit.__doc__
    assert "nonmembers" in fresh(code)
    with pytest.raises(AttributeError, match="has no attribute 'walk'"):
        purification_nb.audit.walk  # noqa: B018 - asked for in vain


def test_every_name_is_there_listed_and_known_to_editors():
    for name in purification_nb.__all__:
        assert callable(getattr(purification_nb, name)) and name in dir(purification_nb)
    source = (ROOT / "purification_nb" / "__init__.py").read_text()
    seen = [line.split(" as ")[1] for line in source.splitlines() if line.startswith("    from .")]
    assert sorted(seen) == sorted(purification_nb.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'purify'"):
        purification_nb.purify  # noqa: B018 - asked for in vain


def test_mypy_sees_the_names(tmp_path):
    mypy = Path(sys.executable).with_name("mypy")
    if not mypy.exists():
        pytest.skip("mypy is not installed")
    code = tmp_path / "code.py"
    code.write_text(
        "from purification_nb import PurifiedClassifier, audit, fit_purifier\n"
        "reveal_type(audit)\nreveal_type(fit_purifier)\nreveal_type(PurifiedClassifier)\n"
        "import purification_nb.audit.run\nfit_purifier(seeds=3)\n"
    )
    cache = ROOT / ".mypy_cache"
    done = subprocess.run(
        [mypy, "--ignore-missing-imports", "--cache-dir", cache, code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = done.stdout
    assert "members: Any" in said and "keep_label: bool" in said and "reference_share" in said
    assert 'Unexpected keyword argument "seeds"' in said and "found 1 error" not in said.lower()[:1]
