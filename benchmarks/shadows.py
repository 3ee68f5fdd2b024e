"""32 shadow models of the digit_pairs network, trained in several ways; prints and saves seconds
and ratios."""

import os
import statistics
import tempfile
import time
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from conditions import save
from purification_nb.attacks.shadows import draw_halves
from purification_nb.cache import run_parallel
from purification_nb.networks import mlp
from purification_nb.records import join
from purification_nb.splits import digit_pairs
from purification_nb.targets import MLPTarget
from purification_nb.training import seeded

COUNT, ROUNDS, STACK = 32, 3, 4
TARGET = MLPTarget()
SIZES = (128, *TARGET.hidden, 100)


def halves():
    """Give the 32 training sets, all of one length so that all ways do the same work."""
    pairs = digit_pairs(0)
    candidates = join(pairs.d1, pairs.d3)
    sets = [candidates[rows] for rows in draw_halves(candidates, COUNT)[0]]
    least = min(map(len, sets))
    return [one[:least] for one in sets]


def plain(sets):
    """Train as one would without thinking of speed."""
    for seed, records in enumerate(sets):
        torch.manual_seed(seed)
        network = mlp(SIZES)
        optimiser = torch.optim.Adam(network.parameters(), lr=TARGET.rate)
        x, y = torch.tensor(records.x).flatten(1), torch.tensor(records.y)
        for _ in range(TARGET.epochs):
            for rows in torch.randperm(len(x)).split(TARGET.batch_size):
                optimiser.zero_grad()
                F.cross_entropy(network(x[rows]), y[rows]).backward()
                optimiser.step()


def library(sets, first):
    """Train as `Shadows` does; seeds from `first` on, so that no network is one remembered."""
    run_parallel([(TARGET, one, None, first + i) for i, one in enumerate(sets)])


def library_one_at_a_time(sets, first):
    """The library's target in a loop, with torch's default threads."""
    for i, one in enumerate(sets):
        TARGET(one, None, first + i)


def stack(sets, seed):
    """Train a few networks in one: weights (networks, in, out), batched products."""
    with seeded(seed):
        weights = [nn.Parameter(torch.randn(len(sets), a, b) / a**0.5) for a, b in pairwise(SIZES)]
        biases = [nn.Parameter(torch.zeros(len(sets), 1, b)) for b in SIZES[1:]]
        optimiser = torch.optim.Adam(weights + biases, lr=TARGET.rate, fused=True)
        x = torch.stack([torch.tensor(one.x).flatten(1) for one in sets])
        y = torch.stack([torch.tensor(one.y) for one in sets])
        for _ in range(TARGET.epochs):
            for rows in torch.randperm(x.shape[1]).split(TARGET.batch_size):
                hidden = x[:, rows]
                for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                    hidden = torch.baddbmm(bias, hidden, weight)
                    if layer < len(weights) - 1:
                        hidden = hidden.relu()
                loss = F.cross_entropy(
                    hidden.flatten(0, 1), y[:, rows].flatten(), reduction="sum"
                ) / len(rows)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()


def stacked(sets):
    """Stacks of four, side by side."""
    run_parallel([(stack, sets[i : i + STACK], i) for i in range(0, len(sets), STACK)])


def products(n):
    """The matrix products of one training: forward, weight gradients, and the gradients between
    layers."""
    steps = TARGET.epochs * -(-n // TARGET.batch_size)
    layers = [
        (torch.rand(TARGET.batch_size, a), torch.rand(a, b), torch.rand(TARGET.batch_size, b))
        for a, b in pairwise(SIZES)
    ]
    for _ in range(steps):
        for layer, (inputs, weight, gradient) in enumerate(layers):
            inputs @ weight
            inputs.T @ gradient
            if layer:
                gradient @ weight.T


def main():
    """Time each way in turn, several times over, and write the medians."""
    sets = halves()
    ways = {
        "plain loop": lambda turn: plain(sets),
        "library, one at a time": lambda turn: library_one_at_a_time(sets, 1000 * turn),
        "library, side by side": lambda turn: library(sets, 1000 * turn),
        f"stacked by {STACK}, side by side": lambda turn: stacked(sets),
        "bare matrix products, default threads": lambda turn: [
            products(len(sets[0])) for _ in sets
        ],
        "bare matrix products, side by side": lambda turn: run_parallel(
            [(products, len(sets[0])) for _ in sets]
        ),
    }
    seconds = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PURIFICATION_NB_CACHE"] = folder
        run_parallel([(time.sleep, 0.1)] * 4)  # the workers are up before the clock starts
        for turn in range(ROUNDS):
            for name, run in ways.items():
                start = time.perf_counter()
                run(turn)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(
            f"{name:40s} {value:6.1f} s   {medians['plain loop'] / value:4.1f} times the plain"
            f" loop's speed   {value / medians['bare matrix products, default threads']:4.2f} x"
            " bare products"
        )
    report = {
        "seconds": {name: [round(v, 2) for v in values] for name, values in seconds.items()},
        "median": {name: round(v, 2) for name, v in medians.items()},
        "records": len(sets[0]),
    }
    save(__file__, report)


if __name__ == "__main__":
    main()
