"""What a purifier costs beside its target, in training and in answering; prints and saves CPU
seconds of one thread, and ratios."""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial

import numpy as np
from torch import nn
from torch.nn import functional as F

from conditions import one_core, save
from purification_nb.defences.paper_settings import paper_training
from purification_nb.defences.players import PurifierI, PurifierIAndII, PurifierII
from purification_nb.defences.publishing import keep_labels, limit_decimals
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.defences.purifier_training import choose_training
from purification_nb.downloads import data_folder
from purification_nb.records import Records, check_scores
from purification_nb.service import Predictor, scores_of
from purification_nb.splits import digit_pairs, split_records
from purification_nb.targets import MLPTarget
from purification_nb.training import adam, fit, minimise, seeded

ROUNDS, SIZES, BUDGET = 3, (1, 64, 1024, 10000), 6.0  # BUDGET: seconds of repetitions for each size
# epochs that are timed; a purifier's last training takes the same time every epoch, so this is
# scaled to the epochs it has
TIMED = 5
PAPER = {
    "training, purifier over target": {"CIFAR10": 0.07, "Purchase100": 6.03, "FaceScrub530": 2.47},
    "answering, purified over bare": 1.64,
}
VARIANTS = {
    "single, lambda 0": (PurifierDefence, 0.0),
    "single, lambda 1": (PurifierDefence, 1.0),
    "I": (PurifierI, 1.0),
    "II": (PurifierII, 1.0),
    "I & II": (PurifierIAndII, 1.0),
}


class ConvTarget:
    """Four convolutions and two linear layers, trained with Adam; batch normalisation
    throughout."""

    epochs, rate, batch_size = 12, 1e-3, 64

    def __call__(self, d1, d2, seed):
        """Train on D1."""

        def block(wide, narrow):
            return (
                nn.Conv2d(wide, narrow, 3, padding=1),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )

        with seeded(seed):
            network = nn.Sequential(
                *block(3, 32),
                *block(32, 64),
                *block(64, 64),
                *block(64, 128),
                nn.Flatten(),
                nn.Linear(512, 128),
                nn.ReLU(),
                nn.Linear(128, d1.k),
            )
        step = minimise(lambda x, y: F.cross_entropy(network(x), y), adam(network, self.rate))
        history = fit(network, step, (d1.x, d1.y), self.epochs, self.batch_size, seed)
        return Predictor(
            partial(scores_of, network), d1.k, info={"target_seconds": history.seconds}
        )


def pictures(seed):
    """Split the true CIFAR10 pictures, 2,000 a set; None where the file is absent."""
    path = data_folder() / "cifar10_6k.npz"
    if not path.is_file():
        return None
    with np.load(path) as file:
        return split_records(
            Records((file["x"].transpose(0, 3, 1, 2) / 255).astype(np.float32), file["y"], 10),
            seed,
            "cifar10_6k",
        )


def accuracy(predictor, records):
    return float((predictor(records.x).argmax(1) == records.y).mean())


def spent(call):
    """CPU seconds of one call, under a cache of its own, so that nothing is remembered; and what
    it returned."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PURIFICATION_NB_CACHE"] = folder
        start = time.process_time()
        answer = call()
        return time.process_time() - start, answer


def training(make, target):
    """Train the target, choose each purifier's training and train it, in turn, several times;
    ratios over the target's seconds of the same round."""
    rounds = []
    for seed in range(ROUNDS):
        split = make(seed)
        seconds = {}
        seconds["target"], predictor = spent(partial(target, split.d1, split.d2, seed))
        scored, paper = predictor.answer(split.d2), paper_training(split.d1.k)
        chosen = {}
        for lam in (0.0, 1.0):
            seconds[f"choosing, lambda {lam:.0f}"], (chosen[lam], _) = spent(
                partial(choose_training, scored, lam, seed=seed)
            )
        for name, (variant, lam) in VARIANTS.items():
            defence = variant(lam=lam, rate=paper["rate"], epochs=TIMED)
            few, _ = spent(partial(defence, None, scored, seed))
            for own, epochs in (
                (name, chosen[lam]["epochs"]),
                (f"{name}, paper's epochs", paper["epochs"]),
            ):
                seconds[own] = few / TIMED * epochs
        rounds.append(
            seconds
            | {
                "chosen": chosen,
                "accuracy": [accuracy(predictor, split.d1), accuracy(predictor, split.d3)],
            }
        )
        print(
            f"  round {seed + 1}: target {seconds['target']:.2f} s, accuracy"
            f" {rounds[-1]['accuracy'][0]:.3f} on D1 and {rounds[-1]['accuracy'][1]:.3f} on D3;"
            f" chosen {chosen}",
            flush=True,
        )
    ratios = {
        name: statistics.median(one[name] / one["target"] for one in rounds)
        for name in seconds
        if name != "target"
    }
    for name, value in ratios.items():
        print(
            f"  {name:34s} {statistics.median(one[name] for one in rounds):7.2f} s   {value:6.3f}"
            " of the target's",
            flush=True,
        )
    purifier = PurifierDefence(**chosen[1.0])(None, scored, seed)
    return {
        "rounds": rounds,
        "median_ratio_to_target": {name: round(value, 4) for name, value in ratios.items()},
    }, (predictor, purifier, split)


def in_turn(calls):
    """Call each in turn until the time is up; the median CPU seconds of each."""
    seconds, end = {name: [] for name in calls}, time.perf_counter() + BUDGET
    for call in calls.values():
        call()
    while time.perf_counter() < end or len(next(iter(seconds.values()))) < 9:
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def answering(predictor, purifier, split):
    """Bare and purified answers at several batch sizes, and the parts that a purified answer is
    made of."""
    report = {}
    plain = replace(purifier, decimals=None)
    purified = {
        "purified": purifier,
        "purified, label kept": replace(purifier, keep_label=True),
        "purified, all digits": plain,
    }
    for size in SIZES:
        x = np.resize(split.d3.x, (size, *split.d3.x.shape[1:]))
        services = {"bare": predictor} | {
            name: Predictor(predictor.classify, predictor.k, score_map)
            for name, score_map in purified.items()
        }
        medians = in_turn({name: partial(service, x) for name, service in services.items()})
        bare = predictor(x)
        raw = plain(bare)
        parts = in_turn(
            {
                "classify": partial(predictor.classify, x),
                "check_scores (once)": partial(check_scores, bare),
                "G, with its own check": partial(plain, bare),
                "keep_labels": partial(keep_labels, raw, bare),
                "limit_decimals, with its own check": partial(limit_decimals, raw, 2),
            }
        )
        report[size] = {
            "median_ms": {name: round(1e3 * value, 4) for name, value in medians.items()},
            "parts_ms": {name: round(1e3 * value, 4) for name, value in parts.items()},
            "ratio_to_bare": {
                name: round(value / medians["bare"], 3)
                for name, value in medians.items()
                if name != "bare"
            },
        }
        print(
            f"  {size:6d} records: bare {1e3 * medians['bare']:8.3f} ms; "
            + ", ".join(
                f"{name} {value:.2f}" for name, value in report[size]["ratio_to_bare"].items()
            ),
            flush=True,
        )
        print(
            "                  "
            + ", ".join(
                f"{name} {value:.3f} ms" for name, value in report[size]["parts_ms"].items()
            ),
            flush=True,
        )
    return report


def main():
    """Measure on the multilayer perceptron, then on the convolutional target where its pictures
    are."""
    report = {"paper": PAPER}
    for name, make, target in (
        ("digit_pairs, MLPTarget", digit_pairs, MLPTarget()),
        ("cifar10_6k, ConvTarget", pictures, ConvTarget()),
    ):
        if make(0) is None:
            print(
                f"{name}: skipped, no cifar10_6k.npz in {data_folder()}; PURIFICATION_NB_DATA names"
                " the folder that holds it",
                file=sys.stderr,
            )
            continue
        print(name, flush=True)
        trained, made = training(make, target)
        report[name] = {"training": trained, "answering": answering(*made)}
    save(__file__, report)


if __name__ == "__main__":
    with one_core():
        main()
