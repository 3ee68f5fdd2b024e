"""Our black-box attacks beside those of adversarial-robustness-toolbox, and our audit beside the
same work written by hand; on the same scores, in one run."""

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_curve
from torch import nn
from torch.nn import functional as F

from conditions import one_core, save
from purification_nb.adversary import knowledge_of
from purification_nb.attacks.catalogue import ATTACKS
from purification_nb.audit.run import audit
from purification_nb.service import Recipe
from purification_nb.splits import digit_pairs
from purification_nb.targets import MLPTarget

ROUNDS = 5  # seeds 0 to 4, each a split and a target of its own; medians are reported
PAIRED = {
    "nn": ("art nn", "nsh_log"),
    "rf": ("art rf", "boosted"),
    "label only": ("art rule", "label"),
}  # what asks the same question
OURS = ("confidence", "modified_entropy", "nsh_log", "boosted", "neighbours", "label")


def timed(call):
    """Seconds of one call, under a cache of its own so that nothing is remembered; and what it
    returned."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PURIFICATION_NB_CACHE"] = folder
        start = time.perf_counter()
        answer = call()
        return time.perf_counter() - start, answer


def balanced(members, strangers):
    """Accuracy of yes-or-no answers about members and about strangers."""
    return float((np.mean(members) + 1 - np.mean(strangers)) / 2)


def of_ours(name, knowledge, held):
    """Fit one of ours on the known halves and measure it on the others."""
    attack = ATTACKS[name]().fit(knowledge)
    return balanced(*(attack.predict(part) for part in held))


def of_art(kind, knowledge, held):
    """The same with ART's attack."""
    from art.attacks.inference.membership_inference import (
        MembershipInferenceBlackBox,
        MembershipInferenceBlackBoxRuleBased,
    )
    from art.estimators.classification import BlackBoxClassifier

    service = BlackBoxClassifier(
        knowledge.query, (knowledge.members.x[0].size,), knowledge.members.k
    )
    if kind == "art rule":
        flat = BlackBoxClassifier(
            lambda x: knowledge.query(x.reshape(len(x), *knowledge.members.x.shape[1:])),
            (knowledge.members.x[0].size,),
            knowledge.members.k,
        )
        attack = MembershipInferenceBlackBoxRuleBased(flat)
        return balanced(*(attack.infer(part.x.reshape(len(part), -1), part.y) for part in held))
    attack = MembershipInferenceBlackBox(service, attack_model_type=kind.removeprefix("art "))
    attack.fit(
        None,
        knowledge.members.y,
        None,
        knowledge.nonmembers.y,
        pred=knowledge.members.scores,
        test_pred=knowledge.nonmembers.scores,
    )
    return balanced(*(attack.infer(None, part.y, pred=part.scores) for part in held))


def attacks():
    """Accuracy and seconds of every attack, on the undefended service of five splits."""
    found = {}
    for seed in range(ROUNDS):
        split = digit_pairs(seed)
        service = Recipe(MLPTarget())(split.d1, split.d2, seed)
        knowledge, held = (
            knowledge_of(split, service, seed=seed),
            [service.answer(part) for part in (split.heldout_members, split.heldout_nonmembers)],
        )
        for name in (*OURS, *(pair[0] for pair in PAIRED.values())):
            call = of_art if name.startswith("art") else of_ours
            torch.manual_seed(seed)
            np.random.seed(seed)
            found.setdefault(name, []).append(timed(partial(call, name, knowledge, held)))
    report = {
        name: {
            "accuracy": round(statistics.median(a for _, a in rounds), 4),
            "seconds": round(statistics.median(s for s, _ in rounds), 3),
            "each": [round(a, 4) for _, a in rounds],
        }
        for name, rounds in found.items()
    }
    for name, row in report.items():
        print(f"  {name:18s} accuracy {row['accuracy']:.3f}   {row['seconds']:7.3f} s", flush=True)
    return report


def by_hand(seed):
    """What the audit does for `none` and `one_hot` with four attacks, as one writes it first: plain
    loops, scikit-learn, no cache."""
    split = digit_pairs(seed)
    torch.manual_seed(seed)

    def flat(part):
        return torch.tensor(part.x).flatten(1)

    target = nn.Sequential(
        nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 100)
    )
    optimiser, x, y = (
        torch.optim.Adam(target.parameters(), lr=1e-3),
        flat(split.d1),
        torch.tensor(split.d1.y),
    )
    for _ in range(40):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(target(x[rows]), y[rows]).backward()
            optimiser.step()
    parts, found = (
        (
            split.known_members,
            split.known_nonmembers,
            split.heldout_members,
            split.heldout_nonmembers,
        ),
        {},
    )
    with torch.no_grad():
        bare = [target(flat(part)).double().softmax(1).numpy() for part in parts]
    for name, scores in (("none", bare), ("one_hot", [np.eye(100)[s.argmax(1)] for s in bare])):
        own = [
            np.take_along_axis(s, part.y[:, None], 1)[:, 0]
            for s, part in zip(scores, parts, strict=True)
        ]
        right = [s.argmax(1) == part.y for s, part in zip(scores, parts, strict=True)]
        found[name, "label"] = balanced(right[2], right[3])
        false, true, thresholds = roc_curve(
            np.repeat([1, 0], [len(own[0]), len(own[1])]), np.concatenate(own[:2])
        )
        found[name, "confidence"] = balanced(
            *(o >= thresholds[(true - false).argmax()] for o in own[2:])
        )
        features = [
            np.c_[np.sort(s, 1)[:, ::-1][:, :10], o, r]
            for s, o, r in zip(scores, own, right, strict=True)
        ]
        trees = HistGradientBoostingClassifier(random_state=seed).fit(
            np.concatenate(features[:2]), np.repeat([1, 0], [len(own[0]), len(own[1])])
        )
        found[name, "boosted"] = balanced(*(trees.predict(f) for f in features[2:]))
        decoder = nn.Sequential(
            nn.Linear(100, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 128),
            nn.Sigmoid(),
        )
        optimiser, seen, drawn = (
            torch.optim.Adam(decoder.parameters(), lr=1e-3),
            torch.tensor(np.log(np.concatenate(scores[:2]).clip(1e-12)) / 10, dtype=torch.float32),
            torch.cat([flat(part) for part in parts[:2]]),
        )
        for _ in range(60):
            for rows in torch.randperm(len(seen)).split(64):
                optimiser.zero_grad()
                F.mse_loss(decoder(seen[rows]), drawn[rows]).backward()
                optimiser.step()
        with torch.no_grad():
            found[name, "inversion error"] = float(
                F.mse_loss(
                    decoder(torch.tensor(np.log(scores[2].clip(1e-12)) / 10, dtype=torch.float32)),
                    flat(parts[2]),
                )
            )
    return found


def of_audit(seed):
    """The same through `audit`, one cell at a time; it also gives intervals, floors, both
    distortions, and non-members."""
    made = audit(
        "digit_pairs",
        "none,one_hot",
        "label,confidence,boosted,inversion",
        [seed],
        jobs=1,
        progress=False,
        strongest=False,
    )
    return {
        (name, attack): made.value(
            name, "inversion_error_members" if attack == "inversion" else "accuracy", attack
        )
        for name in ("none", "one_hot")
        for attack in ("label", "confidence", "boosted", "inversion")
    }


def whole():
    """Both ways, in turn; medians of five."""
    runs = {"by hand": [], "audit": []}
    for seed in range(ROUNDS):
        runs["by hand"].append(timed(partial(by_hand, seed)))
        runs["audit"].append(timed(partial(of_audit, seed)))
    report = {
        way: {
            "seconds": round(statistics.median(s for s, _ in rounds), 2),
            "found": {
                " ".join(key): round(statistics.median(f[key] for _, f in rounds), 4)
                for key in rounds[0][1]
            },
        }
        for way, rounds in runs.items()
    }
    for way, row in report.items():
        print(f"  {way:8s} {row['seconds']:6.2f} s  {row['found']}", flush=True)
    return report


def main():
    """Measure, say what is not as good as it must be, and write the numbers down."""
    try:
        library = version("adversarial-robustness-toolbox")
    except ImportError:
        sys.exit(
            "adversarial-robustness-toolbox is not installed: pip install -r"
            " benchmarks/requirements.txt"
        )
    print("attacks on the undefended service")
    report = {
        "art": library,
        "attacks": attacks(),
    }
    report["paired"] = {
        row: {"theirs": report["attacks"][theirs], "ours": report["attacks"][ours]}
        for row, (theirs, ours) in PAIRED.items()
    }
    for row, pair in report["paired"].items():
        if pair["ours"]["accuracy"] < pair["theirs"]["accuracy"]:
            print(f"  ours is behind on {row}")
    print("the audit, and the same by hand")
    report["audit"] = whole()
    save(__file__, report)


if __name__ == "__main__":
    with one_core():
        main()
