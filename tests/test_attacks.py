"""The attacks: what they must show on real services; company, planted leaks, parallel runs."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import dask
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from scipy.stats import norm
from sklearn.metrics import roc_curve

from purification_nb.adversary import Knowledge, best_threshold, knowledge_of
from purification_nb.attacks.calibrated import CALIBRATED_ATTACKS, Calibrated
from purification_nb.attacks.catalogue import ATTACKS, DEFAULT_ATTACKS
from purification_nb.attacks.difficulty import DifficultyModels
from purification_nb.attacks.membership import NSH, class_weight_for
from purification_nb.attacks.planted import planted_shadows
from purification_nb.attacks.shadow_attacks import SHADOW_ATTACKS, LiRA, Mlleaks, adapts
from purification_nb.attacks.shadows import (
    Shadows,
    draw_halves,
    log_odds,
    normal_per_record,
    shadow_log_odds,
)
from purification_nb.audit import run
from purification_nb.datasets import digits, load
from purification_nb.defences.baselines import one_hot
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.evaluation import evaluate
from purification_nb.records import Records, Scored, join, refused
from purification_nb.service import Predictor, Recipe, Trained, undefended
from purification_nb.splits import Split
from purification_nb.targets import MLPTarget

ASKS_ONCE = [name for name, make in ATTACKS.items() if not make().repeated]
# of single-query attacks, those that do not use the true label
BLIND = {"entropy", "mlleaks_1", "mlleaks_2", "mlleaks_3"}
# The first two know the true label and do not ask whether the service is right: one has a threshold
# for each label, the other looks for scores that models trained without the record do not give. The
# third, rehearsing without the defence, misreads answers that no shadow ever gave. The calibrated
# ones learn forty features from few records. So they may fall below the floor; nothing may stay
# above it.
CARELESS = {"entropy_per_class", "lira_offline", "shadow_boosted", *CALIBRATED_ATTACKS}
NAMES = [name for name in ASKS_ONCE if name != "nsh"] + [*SHADOW_ATTACKS, *CALIBRATED_ATTACKS]
SMALL = MLPTarget((32,), epochs=5)


@pytest.fixture(
    scope="module",
    params=[("digit_pairs", 1, 16), ("location30", 2, 8)],
    ids=lambda param: param[0],
)
def found(request):
    """Audit the bare target and defences that show nothing but labels.

    With --slow there are 3 seeds of both data sets, and on location30 the usual target and 32
    shadows; else a smaller one, since most of the time goes into training it.
    """
    name, seeds, shadows = request.param
    target = MLPTarget((128,), epochs=40) if name == "location30" else None
    if request.config.getoption("--slow"):
        seeds, target, shadows = 3, None, 32 if name == "location30" else shadows
    if name == "location30":
        folder = request.getfixturevalue("data_folder")
        patch = pytest.MonkeyPatch()
        patch.setenv("PURIFICATION_NB_DATA", str(folder))
        request.addfinalizer(patch.undo)
    # On location30 each shadow attack takes long, and both defences show the same: a label.
    recipes = "none,one_hot" if name == "location30" else "none,one_hot,constant_per_label"
    return run.audit(
        name,
        recipes,
        NAMES,
        seeds=seeds,
        target=target,
        shadows=shadows,
        progress=False,
        strongest=False,
    )  # which is the strongest is asked in test_spine


def both(found, recipe, attack, metric="accuracy"):
    """Give (value, low, high) of the naive and, where there is one, of the adaptive form."""
    t = found.table
    rows = t[(t.recipe == recipe) & (t.attack == attack) & (t.metric == metric) & t.seed.isna()]
    assert len(rows) == (
        2 if recipe != "none" and attack in SHADOW_ATTACKS and attack != "mlleaks_3" else 1
    )
    return rows[["value", "low", "high"]].astype(float).to_numpy()


def test_every_cell_was_measured(found):
    t = found.table
    assert set(t.attack.dropna()) == {*NAMES}
    missing = t[t.value.isna() & ~t.attack.eq("mlleaks_2")]
    assert {metric.replace("tpr_floor_", "tpr_") for metric in missing.metric} <= {
        "tpr_at_fpr_0.001",
        "tpr_at_fpr_0.01",
    } and missing.error.str.contains("too few to resolve").all()
    at_one_percent = t[(t.metric == "tpr_at_fpr_0.01") & t.seed.isna()]
    assert at_one_percent.value.notna().all()  # on location30 the seeds resolve it together


@pytest.mark.filterwarnings("error")
def test_nsh_reads_scores_of_next_to_nothing():
    sure = np.tile([[1.0, 5e-324], [1 - 1e-3, 1e-3]], (30, 1))
    unsure = np.tile([[0.9, 0.1], [0.6, 0.4]], (30, 1))
    y = np.zeros(60, int)
    members, nonmembers = Scored(sure, y), Scored(unsure, y)
    attack = NSH(log=True, updates=40).fit(Knowledge(members, nonmembers))
    assert attack.score(members).min() > attack.score(nonmembers).max()


def test_mlleaks_is_as_good_as_an_entropy_threshold(found):
    assert both(found, "none", "mlleaks_1")[0, 0] >= both(found, "none", "entropy")[0, 0] - 0.02


def show_labels(found):
    """Give the audited defences that show nothing but labels; there is at least one."""
    recipes = set(found.table.recipe) - {"none"}
    assert recipes
    return sorted(recipes)


def test_labels_alone_leave_the_label_floor(found):
    floor = found.value("none", "label_floor")
    cells = itertools.product(show_labels(found), sorted(set(NAMES) - BLIND))
    for recipe, name in cells:
        for value, low, high in both(found, recipe, name):
            assert low <= floor and (floor <= high or name in CARELESS), (
                recipe,
                name,
                value,
                low,
                high,
                floor,
            )


def test_who_does_not_know_the_true_label_is_left_with_a_coin(found):
    blind = BLIND - ({"mlleaks_2"} if found.run["settings"]["other"] is None else set())
    for recipe, name in itertools.product(show_labels(found), sorted(blind)):
        for value, low, high in both(found, recipe, name):
            assert low - 1e-9 <= 0.5 <= high + 1e-9 or abs(value - 0.5) < 0.02, (
                recipe,
                name,
                value,
                low,
                high,
            )


def test_lira_is_surest_about_single_people(found, request):
    """On location30, undefended, no attack without shadow models comes near it at 1 % FPR."""
    if found.run["settings"]["data"] != "location30":
        pytest.skip("asked of location30")
    t = found.table[
        found.table.seed.isna()
        & (found.table.recipe == "none")
        & (found.table.metric == "tpr_at_fpr_0.01")
    ].set_index("attack")
    others = max(
        *(float(t.loc[name].value) for name in ASKS_ONCE if name != "nsh"),
        float(t.loc["mlleaks_3"].value),
    )
    if request.config.getoption("--slow"):  # the published network takes long
        split = load("location30", 0)
        service = MLPTarget()(split.d1, split.d2, 0)
        nsh = NSH().fit(knowledge_of(split, service))
        others = max(
            others,
            evaluate(
                nsh,
                service.answer(split.heldout_members),
                service.answer(split.heldout_nonmembers),
            )["tpr_at_fpr_0.01"][0],
        )
    assert float(t.loc["lira_online"].value) > 1.5 * others


@pytest.fixture(scope="module")
def small():
    """A small service on single digits, with everything an adversary could want."""
    split = digits(0)
    service = Recipe(SMALL)(split.d1, split.d2, 0)
    other = Records(np.random.default_rng(0).random((300, 5)), np.arange(300) % 4)
    shadows = Shadows(join(split.d1, split.d3), split.d2, 4, jobs=1)
    return replace(
        knowledge_of(split, service, Recipe(SMALL)),
        shadows=shadows,
        difficulty=DifficultyModels.trained_on(split.d2, SMALL, 3, jobs=1),
        other=other,
    ), service.answer(split.heldout_members)


EVERY_ATTACK = ATTACKS | SHADOW_ATTACKS | CALIBRATED_ATTACKS


@pytest.mark.parametrize("name", EVERY_ATTACK)
def test_a_score_does_not_depend_on_its_company(small, name):
    knowledge, held = small
    attack = (NSH(updates=30) if name == "nsh" else EVERY_ATTACK[name]()).fit(knowledge)
    alone, together = attack.score(held[:3]), attack.score(held)[:3]
    assert np.allclose(alone, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["lira_online", "lira_offline", "rmia", "mlleaks_1", *CALIBRATED_ATTACKS]
)
def test_one_seed_fixes_a_shadow_attack(small, name):
    knowledge, held = small
    first, second = (EVERY_ATTACK[name]().fit(knowledge).score(held) for _ in range(2))
    assert (first == second).all()


def test_lira_beside_one_hot_is_never_nan(small):
    knowledge, held = small
    shown = Recipe(SMALL, one_hot, "one_hot")
    hidden = replace(held, scores=np.eye(held.k)[held.scores.argmax(1)])
    known = {
        part: replace(
            getattr(knowledge, part),
            scores=np.eye(held.k)[getattr(knowledge, part).scores.argmax(1)],
        )
        for part in ("members", "nonmembers")
    }
    for online in (True, False):
        for own in (True, False):
            assert np.isfinite(
                LiRA(online, own).fit(replace(knowledge, recipe=shown, **known)).score(hidden)
            ).all()


def test_the_outer_spread_comes_from_outside():
    """Two public codes take it from the inside (anchors.md, A1)."""
    rng = np.random.default_rng(0)
    inside = np.arange(40)[:, None] % 2 == np.zeros((1, 500), int)
    values = np.where(inside, rng.normal(5, 0.5, inside.shape), rng.normal(0, 3, inside.shape))
    for mask, spread in ((inside, 0.5), (~inside, 3.0)):
        assert np.allclose(normal_per_record(values, mask, (values, mask))[1], spread, rtol=0.02)
        assert (
            abs(normal_per_record(values, mask, (values, mask), own=True)[1].mean() - spread)
            < 0.05 * spread
        )


def test_records_that_share_a_group_are_outside_only_together():
    groups = np.random.default_rng(0).integers(0, 30, (400, 2))
    inside, outside = draw_halves(
        Records(np.random.default_rng(1).random((400, 3)), np.arange(400) % 3, groups=groups), 6
    )
    for i in range(6):
        seen = np.unique(groups[inside[i]])
        assert not np.isin(groups[outside[i]], seen).any() and inside[i].any() and outside[i].any()


def test_twins_stay_together():
    x = np.repeat(np.random.default_rng(0).random((50, 3)), 2, axis=0)
    inside, _ = draw_halves(Records(x, np.arange(100) % 2), 2)
    assert (inside[:, ::2] == inside[:, 1::2]).all()


def test_records_that_were_never_candidates_are_outside(small):
    knowledge, held = small
    stranger = held[:5]
    object.__setattr__(stranger, "x", stranger.x + 0.01)
    values, inside, outside = shadow_log_odds(knowledge.shadows, knowledge.recipe, stranger)
    assert not inside.any() and outside.all() and np.isfinite(values).all()
    LiRA(online=False).fit(knowledge).score(stranger)
    assert "among its candidates" in refused(lambda: LiRA().fit(knowledge).score(stranger))


def test_what_an_adversary_lacks_is_named(small):
    knowledge, _ = small
    assert "not applicable: this attack needs other" in refused(
        lambda: Mlleaks(2).fit(replace(knowledge, other=None))
    )
    assert "candidates" in refused(lambda: LiRA().fit(replace(knowledge, candidates=None)))
    blind = replace(
        knowledge,
        shadows=Shadows(knowledge.candidates, None, 2, jobs=1),
        recipe=Recipe(SMALL, PurifierDefence(), "purifier"),
    )
    assert "reference set" in refused(lambda: LiRA().fit(blind))
    assert "only their scores" in refused(
        lambda: ATTACKS["label_only_noise"]().fit(
            replace(knowledge, members=replace(knowledge.members, x=None))
        )
    )
    assert "pictures" in refused(
        lambda: ATTACKS["label_only_shift"]().fit(
            replace(
                knowledge,
                **{
                    p: replace(getattr(knowledge, p), x=getattr(knowledge, p).x.reshape(-1, 64))
                    for p in ("members", "nonmembers", "auxiliary")
                },
            )
        )
    )


def test_an_attack_that_cannot_apply_says_so_in_the_table():
    flat = digits(0)
    parts = [
        Records(p.x.reshape(len(p), -1), p.y, p.k)
        for p in (
            flat.known_members,
            flat.heldout_members,
            flat.d2,
            flat.known_nonmembers,
            flat.heldout_nonmembers,
        )
    ]
    table = run.audit(
        Split(*parts, name="flat"),
        "none",
        "label,label_only_shift,label_only_noise",
        seeds=1,
        target=SMALL,
        jobs=1,
        progress=False,
    ).table
    said = table[(table.attack == "label_only_shift")]
    assert said.value.isna().all() and said.error.str.contains("only pictures can be shifted").all()
    assert table[table.attack == "strongest_repeated"].value.notna().any()


def test_the_adaptive_form_is_stronger_where_the_defence_only_moves_numbers(small):
    knowledge, held_in, held_out = planted_shadows(0.9, 2.0)

    def cubed(scores):
        return scores**3 / (scores**3).sum(1, keepdims=True)

    def squeezed(scored_d1, scored_d2, seed):
        return cubed

    def moved(scored):
        return replace(scored, scores=cubed(scored.scores))

    def accuracy(attack):
        return evaluate(attack, moved(held_in), moved(held_out))["accuracy"][0]

    recipe = Recipe(knowledge.recipe.target, squeezed, "squeezed")
    facing = replace(
        knowledge, members=moved(knowledge.members), nonmembers=moved(knowledge.nonmembers)
    )
    naive, adaptive = (
        LiRA().fit(replace(facing, recipe=one)) for one in (knowledge.recipe, recipe)
    )
    assert accuracy(adaptive) > accuracy(naive) + 0.05 and abs(accuracy(adaptive) - 0.9) < 0.03


def test_log_odds_by_hand():
    assert np.allclose(
        log_odds([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], [0, 2]),
        [np.log(0.7 / 0.3), np.log(0.1 / 0.9)],
        atol=1e-12,
    )


def test_a_cluster_gives_the_same_scores(tmp_path, monkeypatch):
    """The same calls on a real Dask cluster; each way has an empty cache, so both really train."""
    split = digits(0)

    def rehearse(jobs):
        shadows = Shadows(join(split.d1, split.d3), split.d2, 4, jobs=jobs)
        return shadows.log_odds(Recipe(SMALL))

    def table(jobs):
        return run.audit(
            "digits",
            "none,one_hot",
            "label,lira_offline,mlleaks_1",
            seeds=1,
            target=SMALL,
            shadows=4,
            jobs=jobs,
            progress=False,
        ).table

    def timeless(table):
        kept = table[~table.metric.str.endswith("_seconds")]
        return kept.drop(columns="seed").to_dict("records")

    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "serial"))
    alone, alone_table = rehearse(1), table(1)
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "dask"))
    with (
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": {
                    "OMP_NUM_THREADS": 1,
                    "MALLOC_MMAP_THRESHOLD_": 1 << 28,
                }
            }
        ),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        together, together_table = rehearse(None), table(None)
    assert (alone == together).all() and len(list((tmp_path / "dask").iterdir())) >= 4
    assert timeless(alone_table) == timeless(together_table)


@pytest.mark.parametrize("name", CALIBRATED_ATTACKS)
@pytest.mark.parametrize(("bayes", "seed"), [(0.9, 0), (0.75, 1), (0.5, 2), (0.5, 3)])
def test_a_calibrated_attack_finds_what_is_planted_and_nothing_else(name, bayes, seed):
    """Records differ in hardness by four spreads; the planted leak is told by difficulty alone."""
    knowledge, members, nonmembers = planted_shadows(bayes, 4.0, seed=seed)
    attack = CALIBRATED_ATTACKS[name]().fit(knowledge)
    value, low, high, _ = evaluate(attack, members, nonmembers)["accuracy"]
    if bayes == 0.5:
        assert low <= 0.5 <= high
        return
    unaware = evaluate(ATTACKS["confidence"]().fit(knowledge), members, nonmembers)["accuracy"][0]
    # five models err by a spread each, which their mean divides by the root of five
    expected = norm.cdf(norm.ppf(bayes) / np.sqrt(1 + 1 / 5))
    assert value > unaware + 0.1 and expected - 0.04 < value < bayes + 0.02


def two_classes(part):
    """Give records as a table, even digits against odd ones."""
    return Records(part.x.reshape(len(part), -1), part.y % 2, 2)


@pytest.mark.parametrize("shown", ["scores", "labels"])
@pytest.mark.parametrize("name", CALIBRATED_ATTACKS)
def test_a_calibrated_attack_takes_vectors_two_classes_unequal_halves_and_labels(name, shown):
    split = digits(0)
    parts = {part: two_classes(getattr(split, part)) for part in split.parts}
    parts["known_nonmembers"] = parts["known_nonmembers"][:90]
    tables = Split(**parts, name="even or odd")
    recipe = Recipe(SMALL, one_hot if shown == "labels" else undefended)
    service = recipe(tables.d1, tables.d2, 0)
    knowledge = replace(
        knowledge_of(tables, service, Recipe(SMALL)),
        shadows=Shadows(join(tables.d1, tables.d3), tables.d2, 4, jobs=1),
    )
    attack = CALIBRATED_ATTACKS[name]().fit(knowledge)
    held = service.answer(tables.heldout_members)
    coarse = replace(held, scores=held.scores.astype(np.float32))
    for scored in (held, coarse):
        score = attack.score(scored)
        assert np.isfinite(score).all() and (score >= 0).all() and (score <= 1).all()
    assert attack.threshold_ == 0.5


def test_the_calibrated_attack_is_among_the_defaults_and_has_no_adaptive_form():
    assert "calibrated" in DEFAULT_ATTACKS and "calibrated_shadows" not in DEFAULT_ATTACKS
    assert not any(adapts(make()) for make in CALIBRATED_ATTACKS.values())
    assert adapts(LiRA())


def test_models_that_tell_difficulty_are_asked_once(small):
    knowledge, held = small
    asked = []

    class Counting:
        def __call__(self, x):
            asked.append(len(x))
            return np.full((len(x), 2), 0.5)

    models = DifficultyModels([Counting(), Counting()], "two that count")
    models.answers(held.x[:5])
    assert models.answers(held.x[3:8]).shape == (2, 5, 2) and asked == [5, 5, 3, 3]
    blind = replace(held, x=None)
    assert "only their scores" in refused(lambda: Calibrated().fit(knowledge).score(blind))
    assert "reference" in refused(lambda: Calibrated().fit(replace(knowledge, reference=None)))


def test_models_of_difficulty_begin_with_weights_of_their_own():
    drawn = []

    def target(d1, d2, seed):
        drawn.append(seed)
        return Predictor(lambda x: np.full((len(x), 2), 0.5), 2)

    records = Records(np.random.default_rng(0).random((40, 3)), np.arange(40) % 2)
    for seed in (0, 1):
        DifficultyModels.trained_on(records, target, seed=seed, jobs=1)
        Shadows(records, None, 4, seed, jobs=1).targets(target)
    assert len(set(drawn)) == len(drawn) == 2 * (3 + 4) and min(drawn) > 100


@pytest.mark.parametrize("name", ["rmia", "lira_offline", "calibrated_shadows"])
def test_a_record_that_no_shadow_left_out_does_not_depend_on_its_company(name):
    """A quarter of digit pairs have a scan in each of four shadows."""
    pairs = load("digit_pairs", 0)
    service = Recipe(SMALL)(pairs.d1, pairs.d2, 0)
    knowledge = replace(
        knowledge_of(pairs, service, Recipe(SMALL)),
        shadows=Shadows(join(pairs.d1, pairs.d3), pairs.d2, 4, jobs=1),
        difficulty=DifficultyModels.trained_on(pairs.d2, SMALL, 2, jobs=1),
    )
    held = service.answer(pairs.heldout_members)
    attack = EVERY_ATTACK[name]().fit(knowledge)
    _, _, outside = shadow_log_odds(knowledge.shadows, Recipe(SMALL), held)
    rows = np.flatnonzero(~outside.any(0))
    assert len(rows) > 100
    assert np.allclose(attack.score(held)[rows], attack.score(held[rows]), rtol=1e-5, atol=1e-6)


def test_the_first_few_shadows_are_those_that_so_few_would_have_been():
    pairs = load("digit_pairs", 0)
    bare = Recipe(MLPTarget((8,), epochs=1))
    candidates = join(pairs.known_members, pairs.known_nonmembers)
    many, few = (Shadows(candidates, pairs.d2, count, 3, jobs=1) for count in (6, 4))
    said = many.log_odds(bare)
    first = many.first(4)
    assert first is many.first(4) and few.first(4) is few and few.first(16) is few
    assert (first.inside == few.inside).all() and (first.outside == few.outside).all()
    assert (first.log_odds(bare) == few.log_odds(bare)).all()
    assert (first.log_odds(bare) == said[:4]).all()


def test_calibrated_does_without_shadows_where_there_can_be_none(small):
    knowledge, held = small
    unable = replace(knowledge, shadows=None)
    alone = Calibrated(shadows=0).fit(unable)
    assert alone.shadows_ is None and alone.features(held).shape[1] == 25
    for less in (
        replace(unable, candidates=None),
        replace(unable, recipe=Recipe(Trained(knowledge.recipe(held, held, 0), 10))),
    ):
        assert Calibrated().fit(less).shadows_ is None
    four = Calibrated().fit(replace(knowledge, difficulty=None))
    assert four.features(held).shape[1] == 40


@pytest.mark.parametrize("kind", ["numbers", "with ties", "few", "yes or no"])
def test_the_best_threshold_is_on_the_roc_of_scikit_learn(kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(50):
        members, nonmembers = (rng.normal(side, 1, rng.integers(2, 60)) for side in (0.5, 0))
        if kind != "numbers":
            members, nonmembers = (
                part.round(kind == "with ties") for part in (members, nonmembers)
            )
        if kind == "yes or no":
            members, nonmembers = members > 0, nonmembers > 0
        truth = np.repeat([1, 0], [len(members), len(nonmembers)])
        fpr, tpr, _ = roc_curve(truth, np.concatenate([members, nonmembers]).astype(float))
        line = best_threshold(members, nonmembers)
        found = (members >= line).mean() - (nonmembers >= line).mean()
        assert np.isclose(found, (tpr - fpr).max())
    assert "finite" in refused(lambda: best_threshold(np.array([np.nan]), np.array([0.0])))


def test_sides_are_weighted_only_where_they_differ():
    assert class_weight_for(1000, 1000) is class_weight_for(667, 666) is None
    assert class_weight_for(100, 1000) == class_weight_for(1000, 100) == "balanced"


def test_the_table_of_peers_has_every_service_and_every_peer():
    """What benchmarks/peers.py last wrote: nobody left out, nobody ahead of the default audit."""
    table = json.loads((Path(__file__).parents[1] / "benchmarks/peers.json").read_text())
    assert not table["missing"] and {"none", "purifier_keep_label", "imitation"} <= set(
        table["services"]
    )
    assert len(table["services"]) == 7 and len(table["peers"]) == 10
    for service in table["services"].values():
        assert len(service["seeds"]) == 3
        for row in service["seeds"]:
            assert set(table["peers"]) <= set(row["attacks"])
        for peer in service["differences"]["chosen, accuracy"]["peers"].values():
            assert peer["ahead"] > -2 * peer["standard_error"]
