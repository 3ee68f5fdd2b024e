"""Records, labels and models as people bring them: nothing is done to what was handed over."""

import types

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC
from torch import nn

from purification_nb.adversary import Knowledge, knowledge_of
from purification_nb.attacks.blind import Blind
from purification_nb.attacks.encoding import Encoding
from purification_nb.attacks.inversion import Inversion
from purification_nb.attacks.repeated import Averaged, LabelOnly
from purification_nb.attacks.shadow_attacks import Mlleaks
from purification_nb.attacks.shadows import Shadows
from purification_nb.audit.run import audit
from purification_nb.intervals import origins_of
from purification_nb.networks import mlp
from purification_nb.records import (
    InputError,
    Records,
    Scored,
    encode_labels,
    join,
    refused,
)
from purification_nb.repeats import row_names
from purification_nb.service import Predictor, Recipe, Trained, as_predictor, as_target, scores_of
from purification_nb.splits import split_records, split_sets
from purification_nb.tables import joined_rows, row_bytes
from purification_nb.targets import MLPTarget

N = 240
RNG = np.random.default_rng(0)


def tariffs(n=N, seed=0):
    """Make a table with names, categories, yes and no, and gaps; and labels that are names."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Rome", "Oslo", "Bath"], n)
    age = rng.normal(50, 15, n)
    frame = pd.DataFrame(
        {
            "town": pd.Categorical(town, ["Bath", "Oslo", "Rome"]),
            "tariff": rng.choice(["day", "night"], n),
            "age": np.where(rng.random(n) < 0.1, np.nan, age),
            "income": rng.lognormal(3, 1, n),
            "children": rng.integers(0, 4, n),
            "owner": rng.random(n) < 0.5,
        }
    )
    stays = (age > 50) ^ (rng.random(n) < 0.3)
    return frame, np.where(stays, "stays", "leaves")


FRAME, NAMES = tariffs()
NUMBERS = FRAME[["age", "income"]].to_numpy()
THIRDS = [np.arange(start, N, 3) for start in range(3)]


def words():
    """Make texts as people do, and the labels they were written for."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, N)
    kinds = np.array(
        [["sun", "sea", "sand", "boat", "fish"], ["snow", "ice", "wool", "fire", "boat"]]
    )
    return np.array([" ".join(rng.choice(kinds[y], 6)) for y in labels], object), labels


def pipeline(classifier):
    """Encode names and fill gaps, as a pipeline on a frame does."""
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["town", "tariff"]),
            (SimpleImputer(add_indicator=True), ["age"]),
            remainder="passthrough",
        ),
        classifier,
    )


def lightgbm():
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=30, n_jobs=1, verbose=-1)


def xgboost():
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=20, n_jobs=1)


def catboost():
    return pytest.importorskip("catboost").CatBoostClassifier(
        iterations=20,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        cat_features=["town", "tariff"],
    )


TEXTS, TOPICS = words()
BAG = TfidfVectorizer().fit_transform(TEXTS)
CODES = (NAMES == "stays").astype(int)
FOREST = RandomForestClassifier(20, random_state=0)
AS_PEOPLE_BRING_THEM = {
    "pipeline": (lambda: pipeline(FOREST), FRAME, NAMES),
    "gaps": (lambda: HistGradientBoostingClassifier(max_iter=30), NUMBERS, CODES),
    "gaps in a frame": (
        lambda: HistGradientBoostingClassifier(max_iter=30, categorical_features="from_dtype"),
        FRAME.drop(columns="tariff"),
        NAMES,
    ),
    "sparse": (lambda: LogisticRegression(C=30), BAG, TOPICS == 1),
    "texts": (lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, TOPICS),
    "series": (
        lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
        pd.Series(TEXTS, name="review"),
        TOPICS,
    ),
    "calibrated": (
        lambda: CalibratedClassifierCV(pipeline(FOREST), cv=2),
        FRAME,
        NAMES,
    ),
    "svc": (
        # with noisy labels its predict_proba contradicts its predict, see below
        lambda: make_pipeline(SimpleImputer(), SVC(probability=True, random_state=0)),
        NUMBERS,
        (FRAME.age > 50).astype(int).to_numpy(),
    ),
    "lightgbm": (lightgbm, FRAME.drop(columns="tariff"), NAMES),
    "xgboost": (xgboost, NUMBERS, CODES),
    "catboost": (catboost, FRAME.astype({"town": str}), NAMES),
}

WITH_STAND_INS = ("pipeline", "sparse", "gaps")


def rows(x, where):
    """Take some records as their owner would."""
    return x.iloc[where] if hasattr(x, "iloc") else x[where]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", AS_PEOPLE_BRING_THEM)
def test_an_audit_asks_a_model_what_its_owner_would_ask(form):
    make, x, y = AS_PEOPLE_BRING_THEM[form]
    inside = THIRDS[0]
    model = make().fit(rows(x, inside), y[inside])
    d1, d2, d3 = (Records(rows(x, where), y[where], k=model) for where in THIRDS)
    assert d1.x is not None and type(d1.x) is type(rows(x, inside))
    split = split_sets(d1, d2, d3)
    predictor = as_target(model)(split.d1, split.d2, 0)
    assert np.array_equal(predictor(d1.x), model.predict_proba(rows(x, inside)))
    attacks = "label,inversion,averaged_noise" + ",calibrated" * (form in WITH_STAND_INS)
    found = audit(split, "none", attacks, 1, model, jobs=1, progress=False, strongest=False)
    said = predictor.answer(d1).scores.argmax(1)
    assert found.value("none", "train_accuracy") == (said == d1.y).mean()
    assert found.value("none", "train_accuracy") == model.score(rows(x, inside), y[inside])
    table = found.table[found.table.metric.isin(["inversion_error_members", "accuracy"])]
    failed = table[table.value.isna() & table.seed.isna()].set_index("attack").error
    assert set(failed.index) <= {"inversion", "averaged_noise"}
    assert all("not applicable" in why for why in failed)
    assert "inversion" in failed.index
    assert found.table[found.table.metric == "blind_floor"].value.notna().all()


def test_a_classifier_that_contradicts_its_own_scores_is_audited_by_its_scores():
    x, y = RNG.normal(size=(80, 3)), np.arange(80) % 2
    machine = SVC(gamma=9, C=30, probability=True, random_state=0).fit(x, y)
    d1 = Records(x, y)
    with pytest.warns(UserWarning, match="of 80 labels that SVC.predict gives are not"):
        predictor = as_target(machine)(d1, d1, 0)
    assert np.array_equal(predictor(x), machine.predict_proba(x))


def test_precision_is_kept():
    seconds = 1.7e9 + np.sort(RNG.choice(40_000, 400, replace=False))[:, None] * 0.25
    labels = (np.arange(400) // 5) % 2
    neighbours = KNeighborsClassifier(5, weights="distance").fit(seconds[::2], labels[::2])
    d1, rest = Records(seconds[::2], labels[::2]), Records(seconds[1::2], labels[1::2])
    assert d1.x.dtype == np.float64
    split = split_sets(d1, rest[::2], rest[1::2])  # nothing in common
    said = as_target(neighbours)(split.d1, split.d2, 0).answer(split.d1)
    assert (said.scores.argmax(1) == said.y).all()
    assert len(np.unique(row_names(seconds))) == len(np.unique(origins_of(d1))) * 2 == 400
    large = 2**60 + np.arange(3)[:, None]
    assert len(set(row_bytes(large))) == 3 and Records(large, [0, 1, 1]).x.dtype == np.int64


def test_equal_records_have_equal_names_in_any_type():
    values = np.array([[0.0, 1.5], [-0.0, 1.5], [2, np.nan]])
    for dtype in (np.float16, np.float32, np.float64):
        assert row_bytes(values.astype(dtype)) == row_bytes(values)
    assert row_bytes(values)[0] == row_bytes(values)[1]
    assert (
        row_bytes(np.eye(3, dtype=bool)) == row_bytes(np.eye(3)) == row_bytes(np.eye(3, dtype=int))
    )
    frame = FRAME.iloc[:20]
    assert row_bytes(frame) == row_bytes(frame.astype({"town": str, "children": float}))
    assert row_bytes(sparse.coo_array(np.eye(3))) == row_bytes(sparse.csc_matrix(np.eye(3)))


def test_a_float32_run_is_what_it_was():
    x = RNG.random((6, 2)).astype(np.float32)
    assert row_bytes(x) == [row.tobytes() for row in x]
    pictures = RNG.integers(0, 255, (4, 3, 3)).astype(np.uint8)
    assert row_bytes(pictures) == [row.tobytes() for row in pictures]


class Asked:
    """A service that remembers what it was asked about."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x)
        sums = np.asarray(x, float).reshape(len(x), -1).sum(1)
        high = sums > np.median(sums)
        return np.stack([1 - high, high], 1).astype(float)


def knowing(x, asked=None):
    """What an adversary knows of a service with such records."""
    y = np.arange(x.shape[0]) % 2
    part = Records(x, y)
    service = Predictor(asked or Asked(), 2)
    answered = service.answer(part)
    half = len(y) // 2
    return Knowledge(
        answered[:half], answered[half:], service, auxiliary=answered, reference=part, seed=1
    )


@pytest.mark.parametrize(
    "make", [LabelOnly, Averaged, lambda: LabelOnly("shift"), lambda: Mlleaks(3)]
)
def test_every_query_has_the_type_and_scale_of_the_records(make):
    asked = Asked()
    pictures = RNG.integers(0, 256, (40, 6, 6)).astype(np.uint8)
    make().fit(knowing(pictures, asked))
    assert len(asked.seen) > 1 and {x.dtype for x in asked.seen} == {np.dtype(np.uint8)}
    assert all(x.max() > 200 for x in asked.seen)


def test_what_disturbs_records_gives_them_back_as_they_were():
    asked = Asked()
    frame = pd.DataFrame({"age": RNG.normal(40, 9, 40), "children": RNG.integers(0, 5, 40)})
    LabelOnly(copies=4).fit(knowing(frame, asked))
    assert all(
        x.dtypes.equals(frame.dtypes) and x.columns.equals(frame.columns) for x in asked.seen
    )
    whole = Asked()
    LabelOnly(copies=4).fit(knowing(RNG.integers(0, 9, (40, 3)), whole))
    assert {x.dtype for x in whole.seen} == {np.dtype(np.int64)}


@pytest.mark.parametrize("x", [FRAME, BAG, TEXTS, np.arange(80)[:, None], np.arange(80)], ids=type)
@pytest.mark.parametrize("make", [Inversion, LabelOnly, Averaged])
def test_what_computes_on_records_is_not_applicable_where_they_are_no_numbers(x, make):
    knowledge = knowing(x[:80], shrugs)
    assert "not applicable" in refused(lambda: make().fit(knowledge))


def test_a_blind_attacker_reads_tables_and_refuses_numbers_of_rows():
    other = FRAME.assign(town=FRAME.town.where(RNG.random(N) < 0.5, "Rome"))
    blind = Blind().fit(knowing(joined_rows(FRAME, other), shrugs))
    first, second = (tariffs(seed=seed)[0] for seed in (5, 6))
    assert balanced(blind, first, second.assign(town="Rome")) > 0.6
    assert abs(balanced(blind, first, second) - 0.5) < 0.12
    assert "numbers of rows" in refused(lambda: Blind().fit(knowing(np.arange(80), shrugs)))


def shrugs(x):
    """Answer every question alike."""
    return np.full((x.shape[0], 2), 0.5)


def balanced(blind, members, nonmembers):
    """Balanced accuracy of a blind attacker on such records."""
    both = [
        Scored(np.full((len(x), 2), 0.5), np.zeros(len(x), int), x) for x in (members, nonmembers)
    ]
    return blind.accuracy(*both)


@pytest.mark.parametrize("x", [FRAME, BAG, TEXTS, NUMBERS, FRAME.town], ids=type)
def test_an_encoding_gives_numbers_without_gaps_and_the_same_for_each_record_alone(x):
    encoding = Encoding().fit(x)
    numbers = encoding.transform(x)
    assert np.isfinite(numbers).all() and numbers.shape[0] == N
    assert np.allclose(encoding.transform(x[7:9]), numbers[7:9], atol=1e-6)


def test_shadows_are_trained_on_tables_too():
    def trains(d1, d2, seed):
        return pipeline(RandomForestClassifier(5, random_state=seed)).fit(d1.x, d1.y)

    split = split_records(Records(FRAME, NAMES, k=["leaves", "stays"]))
    service = Recipe(trains)(split.d1, split.d2, 0)
    knowledge = knowledge_of(split, service, Recipe(trains))
    shadows = Shadows(knowledge.candidates, split.d2, 2, jobs=1)
    assert shadows.log_odds(Recipe(trains)).shape == (2, len(knowledge.candidates))


def test_labels_are_read_in_the_order_of_the_model():
    model = FOREST.fit(NUMBERS[:, 1:], NAMES)
    assert Records(FRAME, NAMES, k=model).k == 2
    only = Records(FRAME[NAMES == "stays"], NAMES[NAMES == "stays"], k=model.classes_)
    assert set(only.y) == {1} and only.k == 2
    assert Records(FRAME, CODES.astype(bool)).y.tolist() == CODES.tolist()
    assert set(Records(FRAME, np.ones(N, bool)).y) == {1}
    assert Records(FRAME, pd.Series(CODES, dtype="Int64")).k == 2
    assert encode_labels([3, 1], [1, 3]).tolist() == [1, 0]
    scores = pd.DataFrame({"leaves": [0.2, 0.9], "stays": [0.8, 0.1]})
    assert Scored(scores, ["stays", "leaves"]).y.tolist() == [1, 0]
    assert "k=model.classes_" in refused(lambda: Records(FRAME, NAMES))
    assert "encode_labels" in refused(lambda: Scored([[0.5, 0.5]], ["stays"]))
    assert "none of the model's 2 classes" in refused(
        lambda: Records(FRAME, NAMES, k=["stays", "goes"])
    )


def test_sets_with_different_categories_stay_categories():
    few = FRAME.assign(town=FRAME.town.cat.remove_categories("Rome"))
    both = join(Records(FRAME, CODES), Records(few, CODES))
    assert isinstance(both.x.town.dtype, pd.CategoricalDtype)
    assert join(Records(BAG, TOPICS), Records(BAG, TOPICS)).x.format == "csr"


X = RNG.normal(size=(50, 4))
LINEAR = nn.Linear(4, 3).double()
TRUTH = LINEAR(torch.tensor(X)).softmax(1).detach().numpy()


class Answers(nn.Module):
    """Answers with what `form` makes of the logits."""

    def __init__(self, form):
        super().__init__()
        self.linear, self.form = LINEAR, form

    def forward(self, x):
        return self.form(self.linear(x))


class Output(dict):
    """Stand in for what a network of Hugging Face answers: a dictionary with attributes."""

    def __getattr__(self, name):
        return self[name]


def exported(module):
    """Export a module for batches of any size."""
    batch = torch.export.Dim("batch")
    return torch.export.export(module, (torch.zeros(3, 4).double(),), dynamic_shapes=({0: batch},))


@pytest.mark.parametrize(
    "module",
    [
        LINEAR,
        Answers(lambda z: {"hidden": z[:, :1], "logits": z}),
        Answers(lambda z: {"only": z}),
        Answers(lambda z: (z, torch.zeros(len(z), 7))),
        Answers(lambda z: Output(logits=z, loss=z.sum())),
        Answers(lambda z: types.SimpleNamespace(logits=z)),
        torch.jit.trace(LINEAR, torch.zeros(2, 4).double()),
        torch.jit.freeze(torch.jit.script(nn.Sequential(LINEAR).eval())),
        exported(LINEAR).module(),
        nn.Sequential(LINEAR, nn.Dropout(0.9)).train(),
    ],
    ids=[
        "float64",
        "dict",
        "single",
        "tuple",
        "hf",
        "namespace",
        "script",
        "frozen",
        "export",
        "train",
    ],
)
def test_a_network_is_asked_in_its_own_precision_and_its_answer_is_found(module):
    assert np.array_equal(as_predictor(module, 3, batch_size=20)(X), TRUTH)
    modes = [getattr(part, "training", None) for part in module.modules()]
    assert modes == [getattr(part, "training", None) for part in module.modules()]


def test_parts_of_a_network_keep_modes_of_their_own():
    module = nn.Sequential(LINEAR, nn.Dropout(0.9), nn.BatchNorm1d(3).double()).train()
    module[2].eval()
    as_predictor(module, 3)(X)
    assert module[1].training and not module[2].training


def test_half_precision_and_whole_numbers():
    half = as_predictor(nn.Linear(4, 3).half(), 3)(X)
    assert np.allclose(half.sum(1), 1)
    network = nn.Sequential(nn.Flatten(), mlp((4, 8, 3)))
    assert np.allclose(scores_of(network.half(), X), scores_of(network.float(), X), atol=0.01)
    tokens = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 2))
    assert as_predictor(tokens, 2)(RNG.integers(0, 9, (5, 2))).shape == (5, 2)
    counts = RNG.integers(0, 9, (5, 4))
    plain = nn.Linear(4, 3)
    assert np.array_equal(as_predictor(plain, 3)(counts), as_predictor(plain, 3)(counts * 1.0))
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert np.array_equal(as_predictor(LINEAR, 3)(frame), TRUTH)


def one_number(last=None):
    """Make a network of two classes with one output."""
    return nn.Sequential(nn.Linear(4, 1).double(), last or nn.Identity())


def test_one_output_is_two_classes():
    network = one_number()
    p = torch.sigmoid(network(torch.tensor(X))).detach().numpy()
    ends = [
        (network, "logit"),
        (nn.Sequential(network, nn.Sigmoid()), "sigmoid"),
        (nn.Sequential(network, nn.Flatten(0)), "logit"),
        (lambda x: p[:, 0], "sigmoid"),
        (lambda x: np.log(p / (1 - p)), "logit"),
    ]
    for model, answers in ends:
        scores = as_predictor(model, 2, answers)(X)
        assert np.allclose(scores, np.c_[1 - p, p])
    assert as_predictor(lambda x: np.full(len(x), 60.0), 2, "logit")(X)[0, 0] > 0
    for model in (network, lambda x: p, lambda x: p[:, 0]):
        said = refused(lambda model=model: as_predictor(model, 2)(X))
        assert "answers='sigmoid'" in said and "answers='logit'" in said
    assert "say answers='logit'" in refused(lambda: as_predictor(network, 2, "sigmoid")(9 * X))
    assert "say answers='sigmoid'" in refused(lambda: as_predictor(lambda x: p, 2, "logit")(X))
    assert "two classes" in refused(lambda: as_predictor(LINEAR, 3, "sigmoid")(X))


class Booster:
    """Stand in for LightGBM's, which has predict and no predict_proba."""

    def predict(self, x):
        return np.full(len(x), 0.5)


Booster.__module__ = "lightgbm.basic"


def breaks(x, *args):
    raise KeyError("no such column")


@pytest.mark.parametrize(
    "model, says",
    [
        (Answers(lambda z: (z, z)), "2 tensors could be meant"),
        (nn.Linear(4, 3, device="meta"), "'meta'"),
        (breaks, "KeyError: 'no such column'"),
        (lambda *args: args[1], "IndexError"),
        (lambda x: RandomForestClassifier(), "not with scores"),
        (lambda x, a, b: x, "taken for a target"),
        (lambda: 1, "can be called neither"),
        (exported(LINEAR), "hand over program.module()"),
        (Booster(), "lightgbm Booster gives its scores from predict"),
        (RandomForestRegressor(), "is a regressor"),
        (nn.Embedding(2, 3), "fails on"),
    ],
)
def test_what_a_model_raises_is_one_sentence_with_its_cause(model, says):
    d1 = Records(X, np.arange(50) % 3)
    with pytest.raises(InputError) as caught:
        Recipe(model)(d1, d1, 0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_cause_is_chained():
    with pytest.raises(InputError) as caught:
        as_predictor(breaks, 3)(X)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_target_is_told_by_what_it_names():
    def trains(d1, d2=None, seed=0):
        return FOREST

    def fits(members, reference=None, seed: int = 0) -> Predictor:
        return FOREST

    def model(x, batch_size=32, device="cpu"):
        return x

    assert as_target(trains) is trains and as_target(fits) is fits
    assert isinstance(as_target(model), Trained) and isinstance(as_target(breaks), Trained)
    assert repr(as_target(model)) == "Trained(model)"
    assert as_target(MLPTarget()) == MLPTarget()
