"""Imitation keeps labels, tosses its coins once, survives awkward sets, keeps its bounds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import frontier
from purification_nb.datasets import digits
from purification_nb.defences.answer_parts import put_together, take_apart
from purification_nb.defences.imitation import ImitationDefence, load_imitation, save_imitation
from purification_nb.defences.optimum import EDGES, leak_of, sureness, transport
from purification_nb.defences.planning import difficulty_levels
from purification_nb.defences.rehearsal import Rehearsal, rehearse, repeated_to
from purification_nb.records import InputError, Records, Scored, refused
from purification_nb.service import Recipe
from purification_nb.splits import split_sets
from purification_nb.targets import MLPTarget
from purification_nb.training import keyed_uniform

TARGET = MLPTarget((16,), epochs=3)


def sets(n1, n2, n3, k=3, shape=(4, 4)):
    """Make a split of random pictures with the three sizes."""
    rng = np.random.default_rng(0)
    return split_sets(
        *(Records(rng.random((n, *shape)), np.arange(n) % k, k) for n in (n1, n2, n3))
    )


@pytest.fixture(scope="module")
def small():
    """Defend a small service on single digits."""
    data = digits(0)
    return data, Recipe(MLPTarget((64,), epochs=15), ImitationDefence(rehearsals=2), "imitation")(
        data.d1, data.d2, 0
    )


def test_labels_are_kept_and_answers_are_scores(small):
    data, service = small
    for part in (data.d1, data.d3):
        bare, published = service.bare(part.x), service(part.x)
        assert (bare.argmax(1) == published.argmax(1)).all()
        assert np.allclose(published.sum(1), 1)
        assert (published >= 0).all()


def test_an_answer_does_not_depend_on_its_company(small):
    data, service = small
    bare, published = service.bare(data.d3.x), service(data.d3.x)
    assert all(
        np.array_equal(service.score_map(bare[[i]])[0], published[i])
        for i in range(0, len(bare), 40)
    )
    assert np.array_equal(service.score_map(bare[::-1]), published[::-1])


def test_the_seed_fixes_the_coins_and_another_draws_others():
    data = digits(0)
    again = [
        Recipe(TARGET, ImitationDefence(rehearsals=2, key=1))(data.d1, data.d2, 0)(data.d3.x)
        for _ in range(2)
    ]
    assert np.array_equal(*again)
    other = ImitationDefence(rehearsals=2, target=TARGET)(
        None, TARGET(data.d1, data.d2, 0).answer(data.d2), 1
    )
    assert (
        other.key
        != ImitationDefence(rehearsals=2, target=TARGET)(
            None, TARGET(data.d1, data.d2, 0).answer(data.d2), 2
        ).key
    )


def test_a_recipe_hands_over_its_target_and_its_seconds(small):
    data, service = small
    assert service.score_map.refit.target == MLPTarget((64,), epochs=15)
    assert (
        service.info["defence_seconds"] > 0 and len(service.score_map.refit.rehearsed.answers) == 2
    )


@pytest.mark.parametrize("k,shape", [(2, (7,)), (3, (4, 4)), (30, (5,))])
def test_awkward_sets_get_a_plan(k, shape):
    data = sets(4 * k, 2 * k, 4 * k, k, shape)
    service = Recipe(TARGET, ImitationDefence(rehearsals=2), "imitation")(data.d1, data.d2, 0)
    published = service(data.d3.x)
    assert (published.argmax(1) == service.bare(data.d3.x).argmax(1)).all()
    assert np.allclose(service.score_map.plan.sum(1), 1)


def test_certain_and_undecided_answers_go_through():
    for k in (2, 3, 100):
        scores = np.r_[np.eye(k), np.full((1, k), 1 / k)]
        for followers in (None, (1 - np.eye(k)) / (k - 1)):
            whole = put_together(take_apart(scores, 0.6), k, followers)
            assert np.allclose(whole[:k], np.eye(k))
            assert np.allclose(whole.sum(1), 1)
            assert whole[k].argmax() == 0


def test_an_unsure_answer_tells_its_label_its_sureness_and_a_share_and_an_imitation_no_more(small):
    """Where records are unsure, their second and third class alone make no difference."""
    ours = replace(small[1].score_map, unsure=0.5)
    before = np.array([[0.4, 0.3, 0.1, 0.05, 0.04, 0.03, 0.03, 0.02, 0.02, 0.01]])
    swapped = before[:, [0, 9, 3, 2, 4, 5, 6, 7, 8, 1]]
    answers = [
        put_together(ours.own(scores, np.array([7])), 10, ours.followers)
        for scores in (before, swapped)
    ]
    assert np.array_equal(*answers) and np.argsort(-answers[0][0])[:2].tolist() == [0, 7]
    assert not np.allclose(*(put_together(take_apart(scores), 10) for scores in (before, swapped)))
    parts = ours.imitations(
        np.zeros(500, int), np.full(500, 2), np.random.default_rng(0).random((500, 4))
    )  # of those between .45 and .5
    clear = parts.top < 0.495
    assert clear.sum() > 300
    assert (parts.share3[clear] == 0).all()
    assert (parts.third == parts.second)[clear].all()
    assert (parts.second != parts.label).all()
    whole = put_together(parts, 10, ours.followers)
    assert np.allclose(
        whole[clear], put_together(take_apart(whole, 0.5), 10, ours.followers)[clear], atol=0.02
    )  # what was imitated reads like an answer


def test_whoever_is_moved_over_the_threshold_has_a_third_class_or_none_as_genuine_answers_do(small):
    ours, coins = (
        replace(small[1].score_map, unsure=0.5),
        np.random.default_rng(1).random((2000, 4)),
    )
    for bin_ in range(2, 5):  # from .45 to .6, and the threshold is .5
        parts = ours.imitations(np.arange(2000) % 10, np.full(2000, bin_), coins)
        assert (parts.share3[parts.top < 0.495] == 0).all()
        assert (parts.share3[parts.top > 0.505] > 0).mean() > 0.5


@pytest.mark.parametrize("wrong,unsure", [(0.9, 0.5), (0.0, 0.0)])
def test_the_unsure_keep_their_classes_to_themselves_where_there_is_room(wrong, unsure):
    """Hiding unsure non-members is cheap where they are answered wrongly, else dear."""
    rng, k = np.random.default_rng(0), 5
    y = np.arange(2000) % k

    def answers(label, top):
        scores = rng.dirichlet(np.ones(k - 1), len(y)) * (1 - top)[:, None]
        return np.array(
            [np.insert(row, at, share) for row, at, share in zip(scores, label, top, strict=True)]
        )

    doubtful = rng.random(2000) < 0.5
    strangers = Scored(
        answers(
            (y + (doubtful & (rng.random(2000) < wrong))) % k,
            np.where(doubtful, rng.uniform(0.55, 0.9, 2000), 0.999),
        ),
        y,
    )
    sure = answers(y, np.full(2000, 0.999))
    half = np.arange(2000) % 2 == 0
    rehearsed = Rehearsal(np.array([sure, sure]), np.array([half, ~half]))
    made = ImitationDefence(rehearsed=rehearsed)(None, strangers, 0)
    assert made.unsure == unsure
    assert ImitationDefence(rehearsed=rehearsed, unsure=0.0)(None, strangers, 0).unsure == 0


def test_what_is_left_over_goes_where_it_usually_goes():
    followers = np.array(
        [[0, 0.2, 0.7, 0.1], [0.5, 0, 0.4, 0.1], [0.2, 0.2, 0, 0.6], [1 / 3, 1 / 3, 1 / 3, 0]]
    )
    parts = take_apart([[0.6, 0.2, 0.15, 0.05]], 0.7)
    guessed, even = put_together(parts, 4, followers)[0], put_together(parts, 4)[0]
    assert np.isclose(guessed[:2], even[:2]).all()
    assert np.isclose(even[2], even[3])
    assert guessed[2] > 2 * guessed[3]
    assert np.isclose(guessed.sum(), 1)


@pytest.mark.parametrize("leak", [0.0, 0.01, 0.05])
def test_the_plan_keeps_its_bound_for_every_estimate(leak):
    rng, a = np.random.default_rng(0), len(EDGES) - 1
    centre = (EDGES[:-1] + EDGES[1:]) / 2
    inside = np.stack([shares / shares.sum() for shares in rng.random((2, a)) * centre**8])
    outside = 0.8 * centre**2 / (centre**2).sum()
    chances, cost, planned = transport(
        inside,
        outside,
        outside / 0.8,
        0 * centre,
        1 - centre,
        np.abs(centre[:, None] - centre),
        leak,
    )
    answers = chances[:, 2:] + np.diag(chances[:, 0])
    for one in inside:
        found = leak_of(
            np.r_[one @ answers, one @ chances[:, 1]],
            np.r_[outside @ answers, outside @ chances[:, 1]],
        )
        assert found <= leak + 1e-6
    assert planned == pytest.approx(leak, abs=1e-6)
    assert (
        0 <= cost <= ((1 - centre) * outside / 0.8).sum() + 1e-9
    )  # hiding everybody behind the label is always allowed


def test_the_ledger_is_kept_level_by_level():
    """Easy records are sure, hard ones differ: what evens out over both is seen by level."""
    inside = np.array([[[0.0, 0.5], [0.0, 0.5]]])  # one estimate: members are always sure
    outside = np.array([[0.05, 0.45], [0.2, 0.1]])  # hard non-members mostly are not
    everyone, own, label = np.array([0.3, 0.7]), np.zeros(2), np.array([9.0, 9.0])
    imitate = np.array([[0, 9.0], [1.0, 0]])

    def found(plan):
        answers = plan.chances[:, 2:] + np.diag(plan.chances[:, 0])
        hidden = plan.chances[:, 1]
        return sum(
            leak_of(np.r_[ours @ answers, ours @ hidden], np.r_[others @ answers, others @ hidden])
            for ours, others in zip(inside[0], outside, strict=True)
        )

    blind = transport(inside.sum(1), outside.sum(0), everyone, own, label, imitate)
    knowing = transport(inside, outside, everyone, own, label, imitate)
    assert found(blind) > 0.01 and found(knowing) < 1e-6
    assert knowing.cost > blind.cost


@pytest.mark.parametrize(
    "inside,outside,leak", [([0.1, 0.2], [0.5, 0.4], 0.3), ([0, 1], [1, 0], 0)]
)
def test_a_leak_that_no_plan_avoids_is_told(inside, outside, leak):
    """Where fewer members than non-members are right, the label alone gives some away."""
    plan = transport(inside, outside, outside, np.zeros(2), np.ones(2), np.ones((2, 2)), leak=0.01)
    assert plan.leak == pytest.approx(max(leak, 0.01), abs=1e-6)


def test_a_plan_that_misses_what_was_asked_says_so():
    y, half = np.arange(600) % 3, np.arange(600) % 2 == 0
    wrong = np.eye(3)[(y + (np.arange(600) % 10 < 6)) % 3] * 0.9 + 0.1 / 3
    rehearsed = Rehearsal(np.array([wrong, wrong]), np.array([half, ~half]))
    sure = Scored(np.eye(3)[y] * 0.9 + 0.1 / 3, y)  # the service is right, members seldom are
    with pytest.warns(UserWarning, match="leaks 0.3"):
        missed = ImitationDefence(rehearsed=rehearsed)(None, sure, 0)
    assert missed.settings["leak"] == 0.01 and missed.settings["planned"] > 0.29
    same = Rehearsal(np.array([sure.scores] * 2), np.array([half, ~half]))
    assert ImitationDefence(rehearsed=same)(None, sure, 0).settings["planned"] == 0.01


def test_a_small_reference_set_is_drawn_out_or_refused():
    data = sets(40, 20, 40)
    some = repeated_to(data.d2, 50, np.random.default_rng(0))
    assert len(some) == 50 and {x.tobytes() for x in some.x} == {x.tobytes() for x in data.d2.x}
    seen = []

    def target(d1, d2, seed):
        seen.append(len(d1))
        return TARGET(d1, d2, seed)

    made = Recipe(target, ImitationDefence(rehearsals=2), "imitation")(data.d1, data.d2, 0)
    assert seen == [40, 40, 40] and made.score_map.settings["members"] == 40
    small = data.d2[np.arange(9)]
    refusal = refused(lambda: Recipe(TARGET, ImitationDefence())(data.d1, small, 0))
    assert "9 of them are too few" in refusal and "take 10" in refusal
    bold = ImitationDefence(rehearsals=2, smallest=0.0)
    assert Recipe(TARGET, bold)(data.d1, small, 0).score_map.settings["members"] == 40
    scored = TARGET(data.d1, data.d2, 0).answer(data.d2)
    assert "too few" in refused(lambda: ImitationDefence(members=100)(None, scored, 0))


def test_difficulty_is_told_by_models_that_never_saw_the_record():
    data = digits(0)
    rehearsal = rehearse(MLPTarget((32,), epochs=5), data.d2, len(data.d2), models=3)
    assert (rehearsal.trained.sum(0) == 2).all()
    hard = rehearsal.difficulty(data.d2.y)
    unseen = rehearsal.answers[~rehearsal.trained.T.T][np.argsort(np.where(~rehearsal.trained)[1])]
    of_label = unseen[np.arange(len(hard)), data.d2.y]
    assert np.array_equal(np.argsort(hard), np.argsort(-np.log(of_label) + np.log1p(-of_label)))
    level = difficulty_levels(hard, np.ones(len(hard), bool), 3)
    assert np.bincount(level).min() >= len(hard) // 3 - 1 and hard[level == 0].max() < hard.mean()
    assert difficulty_levels(hard[:100], np.ones(100, bool), 5).max() == 0
    one_source = Records(data.d2.x[:8], data.d2.y[:8], 10, np.zeros(8, int))
    assert "one source" in refused(lambda: rehearse(TARGET, one_source, 8))


def test_genuine_answers_are_kept_among_imitations():
    centre = (EDGES[:-1] + EDGES[1:]) / 2
    inside, outside = centre**30 / (centre**30).sum(), 0.8 * centre**2 / (centre**2).sum()
    chances, *_ = transport(
        inside,
        outside,
        outside / 0.8,
        0 * centre,
        1 - centre,
        np.abs(centre[:, None] - centre),
        0.1,
        genuine=0.5,
    )
    crowd = (inside + outside / 0.8) / 2
    for j in np.flatnonzero(EDGES[:-1] < 0.95):
        assert (
            crowd[j] * chances[j, 0]
            <= 0.5 * (crowd[j] * chances[j, 0] + crowd @ chances[:, 2 + j]) + 1e-7
        )


def test_coins_are_fair_and_depend_on_key_and_row_alone():
    scores = np.random.default_rng(1).dirichlet(np.ones(4), 3000)
    coins = keyed_uniform(scores, 5, 8)
    assert coins.shape == (3000, 8)
    assert abs(coins.mean() - 0.5) < 0.02
    assert np.abs(np.corrcoef(coins.T) - np.eye(8)).max() < 0.08
    assert np.array_equal(keyed_uniform(scores[::-1], 5, 8), coins[::-1])
    assert (keyed_uniform(scores, -5) != coins[:, :1]).all()


def test_saved_and_loaded_it_answers_alike(small, tmp_path):
    data, service = small
    path = save_imitation(service.score_map, tmp_path / "deep" / "mine.safetensors")
    bare = service.bare(data.d3.x)
    assert np.array_equal(load_imitation(path, 10)(bare), service.score_map(bare))
    assert "10 classes, not for 7" in refused(lambda: load_imitation(path, 7))
    old = path.read_bytes().replace(
        b"imitation 4", b"imitation 1"
    )  # this one spread what is left over evenly
    (tmp_path / "old").write_bytes(old)
    assert "fit it again" in refused(lambda: load_imitation(tmp_path / "old"))
    path.write_bytes(path.read_bytes()[:-100])
    assert "whole one" in refused(lambda: load_imitation(path))
    (tmp_path / "text").write_text("no tensors")
    assert "whole one" in refused(lambda: load_imitation(tmp_path / "text"))
    assert "whole one" in refused(lambda: load_imitation(tmp_path / "absent"))


def test_bad_input_is_named(small):
    data, service = small
    scored = service.answer(data.d2)
    assert "without the records" in refused(
        lambda: ImitationDefence()(None, Scored(scored.scores, scored.y), 0)
    )
    for name, value in (
        ("leak", -0.1),
        ("genuine", 2),
        ("margin", -1),
        ("slack", -1),
        ("unsure", 2),
        ("rehearsals", 1),
    ):
        with pytest.raises(InputError, match=name):
            ImitationDefence(**{name: value})
    with pytest.raises(InputError, match="10 classes"):
        service.score_map(np.full((2, 3), 1 / 3))
    with pytest.raises(InputError, match="logits"):
        service.score_map(np.full((2, 10), 3.0))


def test_bins_cover_every_score():
    assert set(sureness(np.c_[np.linspace(0.5, 1, 200), 1 - np.linspace(0.5, 1, 200)])) <= set(
        range(len(EDGES) - 1)
    )


def test_the_summary_that_chapter_16_shows_is_of_the_rows_that_were_measured():
    rows, written = pd.read_json(frontier.HERE), pd.read_json(frontier.SUMMARY)
    pd.testing.assert_frame_equal(frontier.summary(rows), written, atol=1e-6)
