"""What the paper's two players cost a purifier of 10 classes, as they were and as they are; prints
and saves CPU seconds of one thread, and ratios."""

import statistics
import time

import numpy as np
import torch

from conditions import one_core, save
from purification_nb.defences.paper_settings import paper_settings, paper_training, purifier_sizes
from purification_nb.defences.players import AdversarialModel, Discriminator
from purification_nb.defences.purifier_training import _Game
from purification_nb.networks import mlp
from purification_nb.records import Scored
from purification_nb.training import seeded

ANSWERS, K, BATCH, ROUNDS, STEPS = 5000, 10, 50, 5, 40
UPDATES = ANSWERS // BATCH * paper_training(K)["epochs"]


def made_up():
    """Give sure answers of 10 classes, and pictures as large as CIFAR10's."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ANSWERS, K)) + 8 * np.eye(K)[rng.integers(0, K, ANSWERS)]
    scores = torch.tensor(logits).softmax(1).numpy()
    pictures = rng.random((ANSWERS, 3, 32, 32), np.float32)
    return Scored(scores, scores.argmax(1), pictures)


def played(scored, variant, one_pass, to_players):
    """Begin a game; `to_players` also takes the gradients that nobody uses, as it used to."""
    plan = paper_settings(K)[variant]
    players = ()
    if plan.get("alpha"):
        players += (AdversarialModel(scored, alpha=plan["alpha"]),)
    if plan.get("beta"):
        players += (Discriminator(K, beta=plan["beta"], in_one_pass=one_pass),)
    with seeded(0):
        game = _Game(mlp(purifier_sizes(K), batch_norm=True), players, plan["lam"], 0.01)
    if to_players:
        for player in players:
            game.weights += list(player.network.parameters())
    return game


WAYS = {  # name -> (in one pass, gradients to the players in the purifier's step)
    "as it was": (False, True),
    "no gradients to the players": (False, False),
    "and I in one pass": (True, False),
}


def seconds_a_step(game, scores, pictures):
    """Play some mini-batches; CPU seconds of each on average."""
    starts = np.arange(STEPS) * BATCH % (ANSWERS - BATCH)
    start = time.process_time()
    for at in starts:
        game.step(scores[at : at + BATCH], pictures[at : at + BATCH])
    return (time.process_time() - start) / STEPS


def measured(scored, variant):
    """Play each way in turn, some rounds; medians and ratios."""
    scores, pictures = torch.tensor(scored.scores, dtype=torch.float32), torch.tensor(scored.x)
    games = {way: played(scored, variant, *how) for way, how in WAYS.items()}
    rounds = {way: [] for way in games}
    for number in range(ROUNDS + 1):
        for way, game in games.items():
            spent = seconds_a_step(game, scores, pictures)
            if number:  # the first is a rehearsal
                rounds[way].append(spent)
    report = {}
    for way, spent in rounds.items():
        ratios = [one / before for one, before in zip(spent, rounds["as it was"], strict=True)]
        report[way] = {
            "ms a step": round(1e3 * statistics.median(spent), 2),
            "seconds of the paper's training": round(UPDATES * statistics.median(spent), 1),
            "over as it was": round(statistics.median(ratios), 3),
        }
        print(f"  {way:30s} {report[way]}", flush=True)
    return report


def main():
    """Measure Purifier II, I and both."""
    report = {"updates": UPDATES}
    scored = made_up()
    for variant in ("purifier_ii", "purifier_i", "purifier_i_ii"):
        print(variant, flush=True)
        report[variant] = measured(scored, variant)
    save(__file__, report)


if __name__ == "__main__":
    with one_core():
        main()
