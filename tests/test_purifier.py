"""The game: who moves when, what is recorded, what is refused, and what a folder keeps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from purification_nb.datasets import digits
from purification_nb.defences.paper_settings import (
    PAPER_SIZES,
    paper_settings,
    paper_training,
    purifier_sizes,
)
from purification_nb.defences.players import (
    PAPER_PURIFIERS,
    AdversarialModel,
    Discriminator,
    PurifierI,
    PurifierIAndII,
    PurifierII,
)
from purification_nb.defences.publishing import limit_decimals
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.defences.purifier_training import Player, purifier_loss, train_purifier
from purification_nb.defences.saving import load_purifier, save_purifier
from purification_nb.networks import mlp
from purification_nb.records import InputError
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget
from purification_nb.training import adam, seeded

VARIANTS = {
    "single": PurifierDefence(lam=0.0),
    "I": PurifierI(),
    "II": PurifierII(),
    "I & II": PurifierIAndII(),
}


@pytest.fixture(scope="module")
def served():
    """Answers of a quickly trained target on D2, with records, and on non-members."""
    split = digits(0)
    target = Recipe(MLPTarget((32,), epochs=5))(split.d1, split.d2, 0)
    return target.answer(split.d2), target(split.d3.x)


@pytest.fixture(autouse=True)
def empty_memory(tmp_path, monkeypatch):
    """Let nothing be remembered from one test to the next."""
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


class Watcher(Player):
    """A linear judge of purified scores that writes down what it saw and when."""

    rate = 0.05

    def __init__(self, log=None, weight=1.0, name=None):
        with seeded(1):
            self.network = mlp((10, 1))
        self.log, self.weight, self.name = [] if log is None else log, weight, name

    def loss(self, batch):
        self.note("loss", batch)
        return F.softplus(-self.network(batch.purified)).mean()

    def term(self, batch):
        self.note("term", batch)
        return -self.weight * F.softplus(-self.network(batch.purified)).mean()

    def note(self, what, batch):
        self.log.append(
            (
                what,
                self.name,
                self.network[0].weight.detach().clone(),
                batch.purified.detach().clone(),
                batch.purified.requires_grad,
            )
        )


def test_players_move_first_in_every_mini_batch_and_g_answers_the_moved_player(served):
    log = []
    train_purifier(
        served[0],
        epochs=2,
        batch_size=200,
        players=(Watcher(log, name="a"), Watcher(log, name="b")),
    )
    batches = [log[i : i + 4] for i in range(0, len(log), 4)]
    assert len(batches) == 6
    for b in batches:
        moves = [(what, name) for what, name, *_ in b]
        assert moves == [("loss", "a"), ("loss", "b"), ("term", "a"), ("term", "b")]
        for own, term in ((b[0], b[2]), (b[1], b[3])):
            assert not torch.equal(own[2], term[2])  # the player has moved in between
            assert torch.equal(own[3], term[3])  # G has not
            assert term[4]  # G learns from the term
            assert not own[4]  # and from nothing else
    for b, after in pairwise(batches):
        assert torch.equal(after[0][2], b[2][2])  # in G's move the players stand still


def round_by_hand(scores, moved):
    """One round of G and a bold `Watcher`; `moved` says whether G answers the moved player."""
    with seeded(0):
        g = mlp(purifier_sizes(10), batch_norm=True)
    player, g_moves = Watcher(weight=300.0), adam(g, 3e-3)
    player_moves = adam(player.network, player.rate)

    def judged(purified):
        return F.softplus(-player.network(purified)).mean()

    logits = g(scores)
    judged(logits.softmax(1).detach()).backward()
    if moved:
        player_moves.step()
    (purifier_loss(logits, scores, 1.0) - 300 * judged(logits.softmax(1))).backward()
    g_moves.step()
    return g


def test_one_round_by_hand(served, monkeypatch):
    scores = torch.tensor(served[0].scores, dtype=torch.float32)
    monkeypatch.setattr(Watcher, "rate", 1.0)  # so bold a step that G's next one depends on it
    g, _ = train_purifier(
        served[0], epochs=1, batch_size=len(scores), players=(Watcher(weight=300.0),)
    )
    # Outputs in training mode: Adam's first step is a sign, and that of a bias before batch
    # normalisation is mere rounding.
    answers = g.train()(scores)
    apart = {}
    for moved in (True, False):
        by_hand = round_by_hand(scores, moved).train()(scores)
        apart[moved] = float((by_hand - answers).detach().abs().max())
    assert apart[True] < 1e-2 < 0.05 < apart[False], apart


def test_equations_2_5_8_and_9_are_one_call(served):
    def h():
        return AdversarialModel(served[0], alpha=5.0)

    def i():
        return Discriminator(10, beta=1.0)

    made = {}
    for equation, players in ((2, ()), (5, (h(),)), (8, (i(),)), (9, (h(), i()))):
        made[equation], history = train_purifier(served[0], epochs=3, players=players)
        parties = {type(player).__name__ for player in players}
        assert set(history.epochs[0]) == {"equation 2"} | parties | (
            {"purifier"} if players else set()
        )
        assert all(
            len(history[name]) == 3 and np.isfinite(history[name]).all()
            for name in history.epochs[0]
        )
    assert not any(equal(made[a], made[b]) for a in made for b in made if a < b)


def test_players_that_nobody_minds_leave_equation_2_alone(served):
    alone, _ = train_purifier(served[0], epochs=2)
    heard, history = train_purifier(
        served[0],
        epochs=2,
        players=(AdversarialModel(served[0], alpha=0.0), Discriminator(10, beta=0.0)),
    )
    assert equal(alone, heard) and history["AdversarialModel"][1] < history["AdversarialModel"][0]


def test_two_players_of_one_kind_are_both_recorded(served):
    _, history = train_purifier(
        served[0],
        epochs=1,
        players=tuple(AdversarialModel(served[0], alpha=1.0, deeper=deeper) for deeper in (-1, 1)),
    )
    assert {"AdversarialModel 0", "AdversarialModel 1"} <= set(history.epochs[0])


class WithOwnVectors(Player):
    """A third player, with vectors of its own that it sends through G."""

    rate = 1e-2

    def __init__(self, vectors, weight):
        self.vectors = torch.tensor(vectors, dtype=torch.float32)
        self.weight = weight
        with seeded(2):
            self.network = mlp((10, 8, 1))

    def loss(self, batch):
        theirs = batch.purify(self.vectors)
        assert theirs.shape == self.vectors.shape
        assert torch.allclose(theirs.sum(1), torch.ones(len(theirs)), atol=1e-5)
        return (
            F.softplus(-self.network(batch.purified)).mean()
            + F.softplus(self.network(theirs)).mean()
        )

    def term(self, batch):
        return -self.weight * self.loss(batch)


def test_a_third_player_needs_no_change_of_the_loop(served):
    scored, nonmembers = served
    h, i = AdversarialModel(scored, alpha=5.0), Discriminator(10, beta=1.0)
    g, history = train_purifier(scored, epochs=2, players=(h, i, WithOwnVectors(nonmembers, 1.0)))
    without, _ = train_purifier(
        scored, epochs=2, players=(AdversarialModel(scored, alpha=5.0), Discriminator(10, beta=1.0))
    )
    assert {"AdversarialModel", "Discriminator", "WithOwnVectors"} <= set(history.epochs[0])
    assert not equal(g, without)


def test_vectors_that_a_player_brings_leave_no_trace_in_the_running_means(served):
    scored, nonmembers = served
    alone, _ = train_purifier(scored, epochs=2)
    visited, _ = train_purifier(scored, epochs=2, players=(WithOwnVectors(nonmembers, 0.0),))
    assert equal(alone, visited)


def test_what_cannot_be_played_is_refused(served):
    scored = served[0]
    refusals = {
        "without the records": lambda: AdversarialModel(replace(scored, x=None), alpha=5.0),
        "scores without the records they": lambda: PurifierI(rate=1e-2, epochs=1)(
            None, replace(scored, x=None), 0
        ),
        "alpha pays": lambda: AdversarialModel(scored, alpha=-1.0),
        "at least 0, not nan": lambda: AdversarialModel(scored, alpha=float("nan")),
        "no reading called 'logs': did you mean 'log'": lambda: AdversarialModel(
            scored, alpha=5.0, reading="logs"
        ),
        "deeper is -1, 0 or 1": lambda: AdversarialModel(scored, alpha=5.0, deeper=2),
        "beta pays": lambda: Discriminator(10, beta=-0.1),
        "beta pays the": lambda: PurifierII(beta=-1.0)(None, scored, 0),
        "lambda is the weight": lambda: train_purifier(scored, lam=-1.0),
    }
    for says, call in refusals.items():
        with pytest.raises(InputError, match=says):
            call()


@pytest.mark.parametrize("name", VARIANTS)
def test_one_seed_gives_one_purifier(served, name, tmp_path, monkeypatch):
    made = []
    for run, seed in enumerate((3, 3, 4)):
        monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / str(run)))
        made.append(
            replace(VARIANTS[name], rate=1e-2, epochs=2, decimals=None)(None, served[0], seed)(
                served[1]
            )
        )
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_every_setting_of_a_player_is_in_the_name_of_what_is_remembered(served, empty_memory):
    def h(alpha=1.0, **how):
        return AdversarialModel(served[0], alpha=alpha, **how)

    def i(beta=1.0, **how):
        return Discriminator(10, beta=beta, **how)

    games = [
        h(),
        h(alpha=2.0),
        h(reading="log"),
        h(deeper=1),
        h(deeper=-1),
        h(rate=1e-3),
        h(seed=1),
        i(),
        i(beta=2.0),
        i(saturating=False),
        i(rate=1e-3),
        i(seed=1),
    ]
    for player in games:
        train_purifier(served[0], epochs=1, players=(player,))
    assert len(list(empty_memory.iterdir())) == len(games)
    assert train_purifier(served[0], epochs=1, players=(h(deeper=1),))[1].cached


def test_the_sizes_of_other_data_sets_follow_one_rule():
    assert all(purifier_sizes(k) == sizes for k, sizes in PAPER_SIZES.items())
    for twin, others in ((10, (2, 3, 30, 50)), (100, (51, 200, 300)), (530, (301, 1000))):
        for k in others:
            shares = np.divide(purifier_sizes(k), k)
            assert np.allclose(shares, np.divide(PAPER_SIZES[twin], twin), atol=0.5 / k + 1e-9)
            assert paper_training(k) == paper_training(twin)
            assert paper_settings(k) == paper_settings(twin)


@pytest.mark.parametrize("name", PAPER_PURIFIERS)
def test_the_paper_s_rows_are_the_paper_s_whole(served, name):
    made = replace(PAPER_PURIFIERS[name], epochs=1)(None, served[0], 0)
    plan = paper_settings(10)[name]
    assert {n: made.settings[n] for n in ("lam", "rate", "epochs", "batch_size")} == {
        "lam": plan["lam"],
        "rate": 0.01,
        "epochs": 1,
        "batch_size": 50,
    }
    players = {player["name"]: player for player in made.settings.get("players", ())}
    assert {n: p["rate"] for n, p in players.items()} == {
        n: 2e-4 for n, weight in (("H", "alpha"), ("I", "beta")) if weight in plan
    }
    assert all(
        players[n][weight] == plan[weight]
        for n, weight in (("H", "alpha"), ("I", "beta"))
        if n in players
    )
    assert made.decimals is None and made.refit == replace(
        PAPER_PURIFIERS[name].settled(10), epochs=1, rate=0.01, batch_size=50
    )
    assert paper_training(10)["epochs"] == 50 and paper_training(100)["epochs"] == 200


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_loaded_applied(served, name, tmp_path):
    scored, nonmembers = served
    trained = replace(VARIANTS[name], rate=1e-2, epochs=2)(None, scored, 0)
    assert set(trained.history.epochs[0]) >= {
        "AdversarialModel" if player["name"] == "H" else "Discriminator"
        for player in trained.settings.get("players", ())
    }
    for keep in (False, True):
        for decimals in (None, 1, 2):
            purifier = replace(trained, keep_label=keep, decimals=decimals)
            again = load_purifier(save_purifier(purifier, tmp_path / f"{keep}{decimals}"), k=10)
            answers = purifier(nonmembers)
            assert (
                np.array_equal(again(nonmembers), answers) and again.settings == purifier.settings
            )
            assert np.allclose(answers.sum(1), 1) and (answers >= 0).all()
            if keep:
                assert (answers.argmax(1) == nonmembers.argmax(1)).all()
            if decimals:
                assert np.array_equal(answers, answers.round(decimals))
                assert np.array_equal(limit_decimals(answers, decimals), answers)
