"""The players' game is faster than it was, and the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.players import (
    AdversarialModel,
    Discriminator,
    PurifierI,
    PurifierIAndII,
    PurifierII,
)
from purification_nb.defences.purifier_training import Batch, _Game
from purification_nb.networks import mlp
from purification_nb.records import InputError, Scored
from purification_nb.training import seeded

K = 10


def scored(n=200, seed=0):
    """Give answers of 10 classes with records."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(K, 0.3), n)
    return Scored(scores, scores.argmax(1), rng.random((n, 12), np.float32))


def game(one_pass=False, rate=2e-4, **how):
    """Begin a game of G, H and I."""
    players = (
        AdversarialModel(scored(), alpha=2.0, rate=rate, **how),
        Discriminator(K, beta=0.5, in_one_pass=one_pass, rate=rate, **how),
    )
    with seeded(3):
        return _Game(mlp(purifier_sizes(K), batch_norm=True), players, 1.0, 0.01)


def play(one, steps=6):
    """Play some mini-batches; all weights, one after another."""
    held = scored()
    scores, x = torch.tensor(held.scores, dtype=torch.float32), torch.tensor(held.x)
    for at in range(0, 30 * steps, 30):
        one.step(scores[at : at + 30], x[at : at + 30])
    networks = [one.g, *(player.network for player in one.players)]
    return torch.cat([p.detach().flatten() for net in networks for p in net.parameters()])


def test_leaving_out_the_players_own_gradients_changes_no_digit():
    as_it_was = game()
    for player in as_it_was.players:
        as_it_was.weights += list(player.network.parameters())
    assert torch.equal(play(game()), play(as_it_was))


def test_the_purifier_s_step_leaves_the_players_gradients_alone():
    one, held = game(), scored()
    scores, x = torch.tensor(held.scores[:50], dtype=torch.float32), torch.tensor(held.x[:50])
    logits = one.g(scores)
    one.purifier_step(logits, Batch(scores, logits.softmax(1), scores.argmax(1), x, one.purify))
    for player in one.players:
        assert all(p.grad is None for p in player.network.parameters())
    assert all(p.grad is not None for p in one.g.parameters())


def test_one_pass_is_the_same_loss_and_the_same_gradient():
    apart, together = Discriminator(K, beta=0.1), Discriminator(K, beta=0.1, in_one_pass=True)
    scores, purified = (torch.tensor(scored(seed=s).scores).float() for s in (0, 1))
    batch, grads = Batch(scores, purified, scores.argmax(1), None, None), []
    for judge in (apart, together):
        loss = judge.loss(batch)
        loss.backward()
        grads.append((loss, [p.grad for p in judge.network.parameters()]))
    assert grads[0][0].item() == pytest.approx(grads[1][0].item(), abs=1e-6)
    for one, other in zip(grads[0][1], grads[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_only_the_paper_s_settings_judge_in_one_pass_unless_told():
    def passes(**settings):
        (judge,) = PurifierII(rate=0.01, epochs=1, **settings).settled(K).players(scored(), 0)
        assert ("in_one_pass" in judge.settings) == judge.in_one_pass
        return judge.in_one_pass

    assert not passes() and passes(paper=True)
    assert passes(in_one_pass=True) and not passes(paper=True, in_one_pass=False)


def test_moving_at_once_pulls_g_as_the_players_terms_do():
    # Where players do not learn, it makes no difference who moves first.
    in_turn, at_once = (play(game(rate=0.0, at_once=how), 2) for how in (False, True))
    assert torch.allclose(in_turn, at_once, atol=1e-5)
    assert not torch.equal(play(game(), 2), play(game(at_once=True), 2))


def test_at_once_g_s_own_step_leaves_the_players_gradients_as_their_loss_has_them():
    one, held = game(at_once=True), scored()
    scores, x = torch.tensor(held.scores[:50], dtype=torch.float32), torch.tensor(held.x[:50])
    one.step(scores, x)
    grads = [p.grad.clone() for player in one.players for p in player.network.parameters()]
    other = game()
    logits = other.g(scores)
    other.players_step(Batch(scores, logits.softmax(1), scores.argmax(1), x, other.purify))
    wanted = [p.grad for player in other.players for p in player.network.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(grads, wanted, strict=True))


def test_players_in_bfloat16_play_nearly_the_same_game_and_g_stays_in_single_precision():
    exact, rounded = game(), game(mixed=True)
    held = scored()
    scores, x = torch.tensor(held.scores, dtype=torch.float32), torch.tensor(held.x)
    losses = rounded.step(scores, x)
    for name, loss in exact.step(scores, x).items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=0.02)
        assert losses[name].dtype == torch.float32
    assert all(weight.grad.dtype == torch.float32 for weight in rounded.weights)


def test_what_was_remembered_before_there_was_a_choice_is_found_again():
    for kind in (PurifierI, PurifierII, PurifierIAndII):
        usual = kind(rate=0.01, epochs=1).settled(K)
        for player in usual.players(scored(), 0):
            assert not {"at_once", "mixed"} & set(player.settings)
        for player in replace(usual, at_once=True, mixed=True).players(scored(), 0):
            assert player.settings["at_once"] and player.settings["mixed"]


def test_at_once_needs_the_discriminator_s_loss_as_printed():
    with pytest.raises(InputError, match="saturating=False"):
        Discriminator(K, beta=0.1, saturating=False, at_once=True)
