"""Score maps that need no training: what they keep and refuse, and that more of them costs more."""

import pickle

import numpy as np
import pytest

from purification_nb.datasets import digits
from purification_nb.defences.baselines import (
    RandomNoise,
    ReleaseBelow,
    Rounding,
    Temperature,
    TopK,
    constant_per_label,
    one_hot,
)
from purification_nb.records import InputError, Scored, check_scores
from purification_nb.scores import (
    calibration_error,
    distortion,
    negative_log_likelihood,
    plot_reliability,
)
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

STRENGTHS = {
    "rounding": [Rounding(d) for d in (15, 6, 3, 2, 1, 0)],
    "top_k": [TopK(t) for t in (8, 6, 4, 2, 1)],
    "hot": [Temperature(t) for t in (1.0, 1.5, 2, 5, 50)],
    "cold": [Temperature(t) for t in (1.0, 0.7, 0.5, 0.1, 0.01)],
    "release_below": [ReleaseBelow(t) for t in (1.0, 0.9, 0.7, 0.5, 0.1)],
    "random_noise": [RandomNoise(s) for s in (0.0, 0.1, 0.3, 0.6, 1.0)],
}  # of each, the weakest first
ALL = [one for family in STRENGTHS.values() for one in family] + [
    one_hot,
    Rounding(),
    TopK(),
    Temperature(),
    TopK(99),
    Temperature(1e9),
    Temperature(1e-9),
]
each = pytest.mark.parametrize("defence", ALL, ids=lambda one: getattr(one, "__name__", repr(one)))


def drawn(n=500, k=8, sharp=0.3):
    """Draw score vectors, some sure and some not, among them ties and rows that know nothing."""
    scores = np.random.default_rng(0).dirichlet(np.full(k, sharp), n)
    odd = [
        np.full(k, 1 / k),
        np.eye(k)[1],
        np.r_[0.5, 0.5, np.zeros(k - 2)],
        np.r_[np.zeros(k - 2), 0.5, 0.5],
        np.r_[1e-9, 1 - 1e-9, np.zeros(k - 2)],
        np.r_[0.5 - 1e-12, 0.5 + 1e-12, np.zeros(k - 2)],
    ]
    return np.concatenate([scores, odd])


@each
@pytest.mark.parametrize(
    "scores",
    [drawn(), drawn(k=2), drawn(k=3, sharp=50), drawn(200, 100, 0.05), drawn(50, 30, 1e4)],
    ids=["8", "2", "flat", "100", "30 flat"],
)
def test_the_label_stays_and_rows_sum_to_one(defence, scores):
    before = scores.copy()
    published = defence(None, None, 0)(scores)
    assert np.array_equal(before, scores)  # what was handed over is not written into
    assert published.dtype == np.float64 and (published >= 0).all()
    assert np.allclose(published.sum(1), 1, atol=1e-9)
    assert np.array_equal(published.argmax(1), scores.argmax(1))


@each
def test_single_precision_and_single_rows(defence):
    publish, scores = defence(None, None, 0), drawn()
    single = scores.astype(np.float32)
    published = publish(single)
    assert np.array_equal(published.argmax(1), single.argmax(1))
    assert np.allclose(published.sum(1), 1, atol=1e-6)
    for one, row in zip(scores[::50], publish(scores)[::50], strict=True):
        assert np.allclose(publish(one[None])[0], row, atol=1e-12)  # no row depends on the others
    assert np.allclose(publish([[0.6, 0.3, 0.1]]).sum(), 1)


@pytest.mark.parametrize(
    "defence",
    [
        one_hot,
        TopK(1),
        TopK(3),
        ReleaseBelow(0.5),
        Temperature(1.0),
        Rounding(0),
        Rounding(1),
        Rounding(2),
    ],
    ids=lambda one: getattr(one, "__name__", repr(one)),
)
def test_twice_is_once(defence):
    publish = defence(None, None, 0)
    once = publish(drawn())
    assert np.allclose(publish(once), once, atol=1e-9)


@pytest.mark.parametrize("family", STRENGTHS)
def test_more_of_it_distorts_more(family):
    scores = drawn(2000)
    moved = [
        distortion(scores, one.release(scores), norm).mean()
        for norm in (1, 2)
        for one in STRENGTHS[family]
    ]
    half = len(moved) // 2
    assert moved[0] < 1e-9 and moved[half] < 1e-9
    assert (np.diff(moved[:half]) > 0).all() and (np.diff(moved[half:]) > 0).all()


def test_limits_are_old_acquaintances():
    scores, alone = drawn(), one_hot(None, None, 0)
    assert np.array_equal(Rounding(0).release(scores), alone(scores))
    assert np.allclose(Temperature(1e-8).release(scores[:500]), alone(scores[:500]), atol=1e-3)
    assert np.allclose(Temperature(1e9).release(scores[:500]), 1 / 8, atol=1e-6)
    assert np.array_equal(TopK(8).release(scores), scores)
    assert np.allclose(Temperature(1.0).release(scores), scores)
    two = drawn(k=2)  # of two scores the second is known with the first
    assert np.allclose(TopK(1).release(two), two)


def test_top_scores_are_published_as_they_are():
    scores = drawn(200, 10)
    for top in (1, 3):
        published, order = TopK(top).release(scores), np.argsort(-scores, 1, kind="stable")
        assert np.array_equal(
            np.take_along_axis(published, order[:, :top], 1),
            np.take_along_axis(scores, order[:, :top], 1),
        )
        assert np.allclose(np.ptp(np.take_along_axis(published, order[:, top:], 1), axis=1), 0)


def test_a_temperature_is_undone_where_no_score_is_lost():
    scores = drawn(500, 20, 1.0)
    for t in (0.2, 3, 40):
        assert np.allclose(
            Temperature(1 / t).release(Temperature(t).release(scores)), scores, atol=1e-9
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rounding(-1),
        lambda: Rounding(16),
        lambda: Rounding(0.01),
        lambda: Rounding(None),
        lambda: TopK(0),
        lambda: TopK(1.5),
        lambda: TopK("all"),
        lambda: Temperature(0),
        lambda: Temperature(-2),
        lambda: Temperature(np.inf),
        lambda: Temperature(np.nan),
    ],
)
def test_impossible_strengths_are_refused(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(
    "scores",
    [[[2.0, -1.0]], [[0.2, 0.2]], [0.5, 0.5], np.zeros((0, 3)), [[np.nan, 1.0]]],
    ids=["logits", "sigmoids", "vector", "empty", "nan"],
)
@pytest.mark.parametrize(
    "defence",
    [one_hot, Rounding(), TopK(), Temperature(), ReleaseBelow()],
    ids=lambda one: getattr(one, "__name__", repr(one)),
)
def test_what_is_no_table_of_scores_is_refused(defence, scores):
    with pytest.raises(InputError):
        defence(None, None, 0)(scores)


def test_they_stand_in_a_recipe_and_travel_to_workers():
    split = digits(0)
    for defence in (Rounding(2), TopK(2), Temperature(3)):
        service = Recipe(MLPTarget((16,), epochs=2), defence)(split.d1, split.d2, 0)
        seen = service.answer(split.d3)
        assert np.array_equal(seen.scores, defence.release(service.bare(split.d3.x)))
        assert pickle.loads(pickle.dumps(defence)) == defence
        assert np.array_equal(
            pickle.loads(pickle.dumps(service.score_map))(seen.scores),
            service.score_map(seen.scores),
        )


def test_constant_per_label_knows_labels_it_never_saw():
    scored = Scored(np.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]]), [0, 1])
    publish = constant_per_label(None, scored, 0)
    assert np.allclose(
        publish([[0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]), [[0.15, 0.7, 0.15], [0.7, 0.2, 0.1]]
    )
    assert np.allclose(check_scores(publish.table).sum(1), 1)


def test_calibration_is_told_by_hand():
    assert np.isclose(calibration_error(np.tile([0.9, 0.1], (10, 1)), [0] * 9 + [1]), 0)
    assert np.isclose(calibration_error(np.eye(4)[[0, 1, 2, 3]], [1, 2, 3, 0]), 1)
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 20000)
    honest, y = np.c_[top, 1 - top], (rng.random(20000) > top).astype(int)
    sharpened = Temperature(0.3).release(honest)
    assert calibration_error(honest, y) < 0.015 < calibration_error(sharpened, y)
    assert np.isclose(
        calibration_error(honest.astype(np.float32), y), calibration_error(honest, y), atol=1e-3
    )
    assert negative_log_likelihood(honest, y) < min(
        negative_log_likelihood(Temperature(t).release(honest), y) for t in (0.3, 3)
    )


@pytest.mark.parametrize("measure", [calibration_error, negative_log_likelihood])
def test_calibration_refuses_what_does_not_fit(measure):
    for scores, y in (
        ([[0.5, 0.5]], [0, 1]),
        ([[3.0, -1.0]], [0]),
        ([[0.5, 0.5]], [7]),
        (np.zeros((0, 2)), []),
    ):
        with pytest.raises(InputError):
            measure(scores, y)
    with pytest.raises(InputError):
        calibration_error([[0.5, 0.5]], [0], bins=0)


def test_one_point_a_filled_bin():
    scored = Scored(np.repeat([[0.9, 0.1], [0.6, 0.4]], 5, 0), [0] * 10)
    ax = plot_reliability({"members": scored, "others": scored})
    assert [len(line.get_xdata()) for line in ax.lines] == [2, 2, 2]
    assert np.allclose(ax.lines[1].get_xdata(), [0.6, 0.9])
