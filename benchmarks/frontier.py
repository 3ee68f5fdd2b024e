"""Leak against distortion under attackers who know how hard a record is; small reference sets too.

`python benchmarks/frontier.py` measures what nbs/tutorials/reproduced/frontier.json lacks, prints a
table and saves after each service, so that it can be interrupted. The table is also written, to
frontier_summary.json beside it, which chapter 16 reads. PURIFICATION_NB_DATA holds location30's
file.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from conditions import commit
from purification_nb.adversary import held_out, knowledge_of
from purification_nb.attacks.catalogue import ALL_ATTACKS
from purification_nb.attacks.difficulty import DifficultyModels
from purification_nb.attacks.shadows import Shadows
from purification_nb.datasets import location30
from purification_nb.defences.baselines import ReleaseBelow, one_hot
from purification_nb.defences.imitation import ImitationDefence
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.evaluation import evaluate
from purification_nb.records import join
from purification_nb.scores import distortion
from purification_nb.service import Recipe
from purification_nb.splits import digit_pairs
from purification_nb.targets import MLPTarget

HERE = Path(__file__).resolve().parents[1] / "nbs/tutorials/reproduced/frontier.json"
SUMMARY = HERE.with_name("frontier_summary.json")
ATTACKS = ("label", "confidence", "nsh_log", "boosted", "neighbours", "calibrated")
IMITATION = ImitationDefence(key=2005)
SERVICES = {
    "imitation": IMITATION,
    "release_below 0.5": ReleaseBelow(0.5),
    "imitation, leak 0.03": replace(IMITATION, leak=0.03),
    "release_below 0.6": ReleaseBelow(0.6),
    "purifier_keep_label": PurifierDefence(keep_label=True),
    "one_hot": one_hot,
}
MANY, FEW = range(100, 120), range(100, 105)  # seeds that chose nothing
CLAIMED = ("imitation", "release_below 0.5")  # on many seeds
SMALLER = (0.5, 0.25)  # D2, of D1's size
WORLDS = {"digit_pairs": digit_pairs, "location30": location30}


def planned_cells():
    "Each (data set, share of D2, service, seed), what carries a claim first."
    others = [service for service in SERVICES if service not in CLAIMED]
    claim = [(data, 1.0, one, seed) for data in WORLDS for seed in MANY for one in CLAIMED]
    small = [("digit_pairs", share, "imitation", seed) for seed in FEW for share in SMALLER]
    rest = [(data, 1.0, one, seed) for data in WORLDS for seed in FEW for one in others]
    return claim[: 2 * len(MANY)] + small + claim[2 * len(MANY) :] + rest


def with_smaller_reference(split, share, seed):
    "The split with so much of its D2."
    rows = np.random.default_rng(seed).permutation(len(split.d2))[: int(share * len(split.d2))]
    return replace(split, d2=split.d2[np.sort(rows)])


def measured(data, share, service, seed):
    "What each attack finds over the label floor, and how far answers move."
    split = WORLDS[data](seed=seed)
    if share < 1:
        split = with_smaller_reference(split, share, seed)
    recipe = Recipe(MLPTarget(), SERVICES[service], service)
    made = recipe(split.d1, split.d2, seed)
    knowledge = replace(
        knowledge_of(split, made, recipe, seed),
        shadows=Shadows(join(split.d1, split.d3), split.d2, 4, seed),
        difficulty=DifficultyModels.trained_on(split.d2, recipe.target, 5, seed, jobs=1),
    )
    held = held_out(made, split)
    found = {}
    for name in ATTACKS:
        attack = ALL_ATTACKS[name]().fit(knowledge)
        found[name] = evaluate(attack, *held, rounds=2)["accuracy"][0]
    floor = found.pop("label")
    over = {name: round(accuracy - floor, 5) for name, accuracy in found.items()}
    moved = {
        f"L1 on {part}": round(float(distortion(made.bare(x), made(x), 1).mean()), 5)
        for part, x in (("D3", split.d3.x), ("D1", split.d1.x))
    }
    return over | moved | {"floor": round(floor, 5)}


def made_with():
    "The commit of the library, and the thread count, as each row says them."
    return {"commit": commit(), "threads": torch.get_num_threads()}


def mean_over_seeds(values):
    "Mean and 95 % interval by Student's t; seeds share records, so it is a little too narrow."
    mean, error = values.mean(), stats.sem(values)
    reach = stats.t.ppf(0.975, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def summary(rows):
    "Means over the seeds; of the attack that finds most on average, with its interval."
    table = []
    for key, some in rows.groupby(["data", "D2", "service"], sort=False):
        strongest = some[list(ATTACKS[1:])].mean().idxmax()
        mean, low, high = mean_over_seeds(some[strongest])
        named = dict(zip(("data", "D2", "service"), key, strict=True))
        table.append(
            named
            | {"seeds": len(some), "strongest": strongest, "leak": mean, "low": low, "high": high}
            | some[["L1 on D3", "L1 on D1"]].mean().to_dict()
            | {"commit": ", ".join(some["commit"].unique()), "threads": int(some["threads"].max())}
        )
    return pd.DataFrame(table)


def write_rows(path, rows):
    "A file of JSON with a row a line."
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def main():
    "Measure what is missing, a cell at a time."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lane",
        default="0/1",
        help="i/n: every n-th seed from the i-th on, into a file of its own",
    )
    parser.add_argument("--show", action="store_true", help="measure nothing")
    options = parser.parse_args()
    lane, lanes = map(int, options.lane.split("/"))
    path = HERE if lanes == 1 else HERE.with_name(f"frontier.{lane}.json")
    rows = json.loads(path.read_text()) if path.exists() else []
    done = {(row["data"], row["D2"], row["service"], row["seed"]) for row in rows}
    for cell in [] if options.show else planned_cells():
        if cell not in done and cell[3] % lanes == lane:
            what = dict(zip(("data", "D2", "service", "seed"), cell, strict=True))
            rows.append(what | measured(*cell) | made_with())
            write_rows(path, rows)
            print(cell, rows[-1], flush=True)
    table = summary(pd.DataFrame(rows))
    if lanes == 1:
        write_rows(SUMMARY, table.round(6).to_dict("records"))
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
