"""Our membership attacks beside those of other libraries, on the same halves and the same scores.

    python benchmarks/peers.py [--seeds 3] [--services none,imitation]

Everything is fitted on the known halves and measured on the held-out ones. README.md says how the
other libraries are installed; one that is not is left out, and the table says so.
"""

import argparse
import json
import logging
import os
import subprocess
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import PredefinedSplit

from conditions import conditions, one_core
from purification_nb.adversary import Attack, held_out, knowledge_of
from purification_nb.attacks.catalogue import ALL_ATTACKS, DEFAULT_ATTACKS
from purification_nb.attacks.difficulty import DifficultyModels
from purification_nb.attacks.planted import planted_shadows
from purification_nb.attacks.shadows import Shadows
from purification_nb.datasets import load
from purification_nb.defences.catalogue import recipe_called
from purification_nb.evaluation import combined, measured, planted_leak, try_on_known
from purification_nb.records import InputError, join
from purification_nb.service import Recipe, Trained
from purification_nb.targets import target_for

HERE = Path(__file__)
TF_PRIVACY_PYTHON = (
    HERE.parents[1] / ".peers/tf-privacy/bin/python"
)  # or what PEERS_TF_PRIVACY says
OURS = tuple(name for name in DEFAULT_ATTACKS if name != "inversion")
ON_RECORDS = ("calibrated",)  # reads records and D2 beside the scores; no peer's attack here does
TF_PRIVACY = ("threshold", "threshold-entropy", "lr", "mlp", "rf", "knn")
PEERS = (
    "art nn",
    "art rf",
    "art gb",
    "sacro worst case",
    *(f"tf privacy {kind}" for kind in TF_PRIVACY),
)
CHOSEN = {"chosen": OURS, "chosen, scores alone": tuple(n for n in OURS if n not in ON_RECORDS)}


# Services: what is known of them, and their answers on the held-out halves


def attacked(split, service, target, seed):
    """Known and held-out halves as an audit sees them, with models that tell how hard they are."""
    knowledge = replace(
        knowledge_of(split, service, Recipe(target), seed),
        difficulty=DifficultyModels.trained_on(split.d2, target, seed=seed, jobs=1),
    )
    if not isinstance(target, Trained):
        shadows = Shadows(join(split.d1, split.d3), split.d2, 4, seed, jobs=1)
        knowledge = replace(knowledge, shadows=shadows)
    return knowledge, held_out(service, split)


def of_recipe(name, seed):
    """A recipe of the catalogue on digit_pairs."""
    split = load("digit_pairs", seed)
    target = target_for(split)
    return attacked(split, recipe_called(name, target)(split.d1, split.d2, seed), target, seed)


def of_forest(data, leaf, seed):
    """A forest of scikit-learn that was trained on D1 elsewhere."""
    split = load(data, seed)
    forest = RandomForestClassifier(100, min_samples_leaf=leaf, random_state=seed)
    target = Trained(forest.fit(split.d1.x.reshape(len(split.d1), -1), split.d1.y))
    return attacked(split, target(split.d1, split.d2, seed), target, seed)


def of_planted_leak(seed):
    """Scores alone; nobody can reach more than .65."""
    knowledge, *held = planted_leak(0.65, 1000, seed=seed)
    return knowledge, held


def of_planted_shadows(seed):
    """With records, of which some are harder than others; nobody can reach more than .75."""
    knowledge, *held = planted_shadows(0.75, 1.0, count=4, n=1000, seed=seed)
    return knowledge, held


SERVICES = {
    "none": partial(of_recipe, "none"),
    "purifier_keep_label": partial(of_recipe, "purifier_keep_label"),
    "imitation": partial(of_recipe, "imitation"),
    "forest, digits": partial(of_forest, "digits", 1),
    "forest, digit_pairs": partial(of_forest, "digit_pairs", 5),
    "planted leak, .65": of_planted_leak,
    "planted leak, .75, hard records": of_planted_shadows,
}


# Attacks


class Said(Attack):
    """What an attack of anybody's said of the held-out halves."""

    def __init__(self, name, held, scores, threshold):
        self.name, self.threshold_ = name, threshold
        self.said = {id(part): one for part, one in zip(held, scores, strict=True)}

    def score(self, scored):
        """What was said of these very records."""
        return self.said[id(scored)]


def of_art(kind, knowledge, held, seed):
    """The learned black-box attack of adversarial-robustness-toolbox."""
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import BlackBoxClassifier

    members, nonmembers = knowledge.known_records()
    service = BlackBoxClassifier(lambda x: x, (members.k,), members.k)
    attack = MembershipInferenceBlackBox(service, attack_model_type=kind)
    attack.fit(None, members.y, None, nonmembers.y, members.scores, nonmembers.scores)
    scores = [attack.infer(None, p.y, pred=p.scores, probabilities=True)[:, 0] for p in held]
    return {f"art {kind}": (scores, np.nextafter(0.5, 1))}


def of_sacro(knowledge, held, seed):
    """SACRO-ML's WorstCaseAttack, told which records to be fitted on and which to be asked about.

    Otherwise as it comes, with its feature "was the answer right" and a seed for its forest.
    """
    from sacroml.attacks import worst_case_attack as sacro

    sides = list(zip(knowledge.known_records(), held, strict=True))
    fold = np.concatenate([np.r_[np.full(len(a), -1), np.zeros(len(b))] for a, b in sides])

    class OnTheseHalves(sacro.WorstCaseAttack):
        def _make_rep_splitter(self, random_state):
            return PredefinedSplit(fold)

    with tempfile.TemporaryDirectory() as folder:
        attack = OnTheseHalves(
            folder,
            write_report=False,
            n_reps=1,
            n_dummy_reps=0,
            include_model_correct_feature=True,
            report_individual=True,
        )
    # settings count as tuned, and only then it asks for folds
    attack._tuned_params = sacro._DEFAULT_RF_PARAMS | {"random_state": seed}
    scores = [np.concatenate([a.scores, b.scores]) for a, b in sides]
    y = [np.concatenate([a.y, b.y]) for a, b in sides]
    right = [(s.argmax(1) == one).astype(int) for s, one in zip(scores, y, strict=True)]
    attack.attack_from_preds(*scores, *right)
    said = np.array(attack.attack_metrics[0]["individual"]["member_prob"])
    return {"sacro worst case": (np.split(said, [len(held[0])]), np.nextafter(0.5, 1))}


def of_tf_privacy(knowledge, held, seed):
    """TF Privacy's threshold and trained attackers, in a Python of their own."""
    python = os.environ.get("PEERS_TF_PRIVACY", TF_PRIVACY_PYTHON)
    if not Path(python).exists():
        raise ImportError("TF Privacy is not installed")
    names = "known_members", "known_nonmembers", "held_members", "held_nonmembers"
    halves = {}
    for name, part in zip(names, (*knowledge.known_records(), *held), strict=True):
        halves |= {name + "_scores": part.scores, name + "_y": part.y}
    with tempfile.TemporaryDirectory() as folder:
        asked, answers = f"{folder}/asked.npz", f"{folder}/answers.npz"
        np.savez(asked, **halves)
        subprocess.run(
            [python, HERE.with_name("peers_tf_privacy.py"), asked, answers, str(seed)],
            check=True,
            capture_output=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
        found = dict(np.load(answers))
    return {
        f"tf privacy {kind}": (np.split(found[kind], [len(held[0])]), float(found[kind + " line"]))
        for kind in TF_PRIVACY
    }


THEIRS = {
    "adversarial-robustness-toolbox": [partial(of_art, kind) for kind in ("nn", "rf", "gb")],
    "sacroml": [of_sacro],
    "tensorflow-privacy": [of_tf_privacy],
}


def said_by_peers(knowledge, held, seed):
    """What each peer's attack says, and which libraries are not there."""
    found, missing = {}, {}
    for library, makers in THEIRS.items():
        for make in makers:
            np.random.seed(seed)
            torch.manual_seed(seed)
            try:
                answers = make(knowledge, held, seed)
            except ImportError as why:
                missing[library] = str(why)
                continue
            found |= {name: Said(name, held, *one) for name, one in answers.items()}
    return found, missing


def fitted_of_ours(knowledge):
    """Our default attacks, those they choose from on the known halves, and what was chosen."""
    attacks, trials = {}, {}
    for name in OURS:
        try:
            attack = ALL_ATTACKS[name]().fit(knowledge)
            beat = max((one.accuracy for one in trials.values()), default=0.0)
            trials[name] = try_on_known(attack, knowledge, beat)
        except InputError:
            continue  # no records, only scores
        attacks[name] = attack
    chosen = {}
    for which, names in CHOSEN.items():
        among = [name for name in names if name in attacks]
        chosen[which] = combined(
            [attacks[name] for name in among], [trials[name] for name in among], knowledge
        )
    return attacks, chosen


# Numbers


def compared(ours, theirs):
    """How far one attack is ahead of another on the same records: value and resampled values."""
    return {
        "accuracy": (
            ours.accuracy.value - theirs.accuracy.value,
            (ours.accuracy.resampled - theirs.accuracy.resampled).mean(0),
        ),
        "auc": (ours.auc.value - theirs.auc.value, ours.auc.resampled - theirs.auc.resampled),
    }


def ahead(pairs):
    """The mean difference over seeds and its standard error; what seeds share, they share here."""
    value = float(np.mean([one for one, _ in pairs]))
    error = float(np.mean([drawn for _, drawn in pairs], 0).std())
    return {"ahead": round(value, 4), "standard_error": round(error, 4)}


def best_of(names, found, metric):
    """Who has the largest number on the held-out halves, on average over seeds."""
    return max(names, key=lambda name: np.mean([getattr(one[name], metric).value for one in found]))


def differences(found):
    """Each choice of ours, and the best one, against the best peer and every other; `found` has a
    dictionary of measured attacks for each seed."""
    there = [name for name in PEERS if all(name in one for one in found)]
    ours = [name for name in OURS if all(name in one for one in found)]
    table = {}
    for metric in ("accuracy", "auc"):
        for which in (*CHOSEN, "best single"):
            mine = best_of(ours, found, metric) if which == "best single" else which
            against = {
                peer: ahead([compared(one[mine], one[peer])[metric] for one in found])
                for peer in there
            }
            best = best_of(there, found, metric) if there else None
            table[f"{which}, {metric}"] = {
                "ours": mine,
                "best peer": best,
                **against.get(best, {}),
                "peers": against,
            }
    return table


def measured_seed(make, seed):
    """Every attack's accuracy and AUC under one seed, what was chosen, and seconds."""
    clock = time.perf_counter()
    knowledge, held = make(seed)
    attacks, chosen = fitted_of_ours(knowledge)
    ours = time.perf_counter()
    theirs, missing = said_by_peers(knowledge, held, seed)
    seconds = {"ours": ours - clock, "peers": time.perf_counter() - ours}
    found = {name: measured(attack, *held) for name, attack in (attacks | chosen | theirs).items()}
    row = {
        "seed": seed,
        "records": [len(part) for part in held],
        "chosen": {which: attack.name for which, attack in chosen.items()},
        "attacks": {
            name: {
                "accuracy": round(one.accuracy.value, 4),
                "auc": round(one.auc.value, 4),
            }
            for name, one in found.items()
        },
        "differences": {
            what: {key: value for key, value in one.items() if key != "peers"}
            for what, one in differences([found]).items()
        },
        "seconds": {who: round(one, 1) for who, one in seconds.items()},
    }
    return row, found, missing


def shown(name, rows, table):
    """Print one service: means over seeds, then who is how far ahead."""
    print(f"\n{name}")
    for attack in (*OURS, *CHOSEN, *PEERS):
        if all(attack in row["attacks"] for row in rows):
            accuracy, auc = (
                np.mean([row["attacks"][attack][metric] for row in rows])
                for metric in ("accuracy", "auc")
            )
            print(f"  {attack:26s} {accuracy:.3f} {auc:.3f}")
    for what, one in table.items():
        if one["best peer"]:
            print(
                f"  {what:32s} {one['ahead']:+.4f} +- {one['standard_error']:.4f}"
                f"  ({one['ours']} against {one['best peer']})"
            )
    print(f"  {[row['chosen'] for row in rows]}", flush=True)


def versions():
    """Of what is compared."""
    found = {}
    for name in ("adversarial-robustness-toolbox", "sacroml", "torch", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def main(seeds, names):
    """Every service under every seed; what is measured stands in the JSON file as soon as it is."""
    file = HERE.with_suffix(".json")
    report = json.loads(file.read_text()) if file.exists() else {"services": {}}
    report |= {"versions": versions(), "seeds": seeds, "peers": PEERS, "ours": OURS}
    for name in names:
        rows, found = [], []
        for seed in range(seeds):
            row, one, missing = measured_seed(SERVICES[name], seed)
            rows.append(row)
            found.append(one)
        table = differences(found)
        report["missing"] = missing
        report["services"][name] = {"conditions": conditions(), "seeds": rows, "differences": table}
        file.write_text(json.dumps(report, indent=1) + "\n")
        shown(name, rows, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--services", help="some of them, divided by semicolons")
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning)
    with one_core():
        main(asked.seeds, asked.services.split(";") if asked.services else list(SERVICES))
