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
    kinds = np.array(["sun sea sand boat fish".split(), "snow ice wool fire boat".split()])
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
        lambda: make_pipeline(SimpleImputer(), SVC(probability=True, random_state=0)),
        NUMBERS,
        CODES,
    ),
    "lightgbm": (lightgbm, FRAME.drop(columns="tariff"), NAMES),
    "xgboost": (xgboost, NUMBERS, CODES),
    "catboost": (catboost, FRAME.astype({"town": str}), NAMES),
}


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
    attacks = "label,confidence,calibrated,inversion,averaged_noise"
    found = audit(split, "none", attacks, 1, model, jobs=1, progress=False, strongest=False)
    said = predictor.answer(d1).scores.argmax(1)
    assert found.value("none", "train_accuracy") == (said == d1.y).mean()
    if form != "svc":  # whose predict is not the first place of its predict_proba
        own = model.score(rows(x, inside), y[inside])
        assert found.value("none", "train_accuracy") == own
    table = found.table[found.table.metric.isin(["inversion_error_members", "accuracy"])]
    failed = table[table.value.isna() & table.seed.isna()].set_index("attack").error
    assert set(failed.index) <= {"inversion", "averaged_noise"}
    assert all("not applicable" in why for why in failed)
    assert "inversion" in failed.index
    assert found.table[found.table.metric == "blind_floor"].value.notna().all()
