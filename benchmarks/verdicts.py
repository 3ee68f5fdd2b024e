"""Are the sentences of an audit true? Audits of planted leaks, of planted shifts and of planted
nothing, simulated and counted.

    python benchmarks/verdicts.py --audits 400 [--sections a,b,c,d,e] [--seed 0]

a. audits in which nobody leaks: how often a leak is claimed, in the headline and anywhere;
b. how often the 95 % intervals hold the truth, which the generating model gives in closed form;
c. planted leaks: how often they are found, and how far from the truth the number lies;
d. the empirical epsilon where there is no leak: how often it is above 0;
e. a shift without a leak, a leak without a shift, both: whether the audit tells which it is.

Only fast attacks take part, label, confidence and boosted (a few hundred milliseconds an audit):
the sentences are tested here, not the attacks. Everything follows from the seed. With `--audits 40`
all sections take about two minutes of one core.
"""

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import binomtest, norm

from conditions import one_core, save
from purification_nb.adversary import Attack, Knowledge
from purification_nb.attacks.catalogue import ALL_ATTACKS
from purification_nb.audit.repeated_rows import records_of_rows
from purification_nb.audit.run import audit
from purification_nb.audit.scores_only import audit_scores
from purification_nb.epsilon import empirical_epsilon
from purification_nb.evaluation import evaluate
from purification_nb.records import Records, Scored
from purification_nb.service import Predictor
from purification_nb.splits import split_sets

ATTACKS = "label,confidence,boosted"
CENTRE = 3.0  # of the top score's log-odds, as in `planted_leak`


class Setting(NamedTuple):
    """What is handed over: how many records, of how many classes, from how many origins."""

    members: int
    nonmembers: int
    k: int = 10
    seeds: int = 1
    copies: tuple[int, int] = (1, 1)  # records of one origin, among members and among non-members
    grouped: bool = False  # such records have a group, and differ; else they are equal rows

    def __str__(self):
        text = f"{self.members:,} : {self.nonmembers:,}, k {self.k}"
        if self.seeds > 1:
            text += f", {self.seeds} seeds"
        if max(self.copies) > 1:
            kind = "records an origin" if self.grouped else "times each row"
            text += f", {self.copies[0]} and {self.copies[1]} {kind}"
        return text


SETTINGS = (
    Setting(40, 40),
    Setting(41, 40, 2, 3),
    Setting(200, 200, 10, 3),
    Setting(598, 598),
    Setting(598, 596),
    Setting(2_000, 2_000, 100, 3),
    Setting(50, 5_000),
    Setting(5_000, 50, 10, 3),
    Setting(20_000, 200, 2),
    Setting(200, 20_000, 100),
    Setting(20_000, 20_000),
    Setting(500, 500, 10, 3, (4, 4), True),
    Setting(2_000, 500, 10, 1, (4, 4), True),
    Setting(200, 200, 10, 1, (4, 4)),
    Setting(400, 400, 10, 1, (4, 1)),
    Setting(1_000, 1_000, 10, 3, (2, 2)),
)


def in_turn(settings: tuple[Setting, ...], number: int) -> Setting:
    """The settings in turn; after each round of those below 5,000 records, one of the others."""
    large = [s for s in settings if s.members + s.nonmembers > 5_000]
    usual = [s for s in settings if s not in large]
    if not large:
        return usual[number % len(usual)]
    rounds, place = divmod(number, len(usual) + 1)
    return usual[place] if place < len(usual) else large[rounds % len(large)]


class Plant(NamedTuple):
    """What members have that non-members lack; nothing when absent."""

    apart: float = 0.0  # in the top score's log-odds, in spreads
    wrong: tuple[float, float] = (0.15, 0.15)  # how often members, and others, are misclassified

    @property
    def label_floor(self) -> float:
        """The label attack's accuracy on all records there could be."""
        return 0.5 + (self.wrong[1] - self.wrong[0]) / 2


def answers(rng: np.random.Generator, setting: Setting, plant: Plant, side: int) -> Scored:
    """Answers about members (side 0) or others (side 1) as a service might give them."""
    n, copies = (setting.members, setting.nonmembers)[side], setting.copies[side]
    origin = np.repeat(np.arange(-(-n // copies)), copies)[:n]
    origins, k = origin[-1] + 1, setting.k
    y = rng.integers(0, k, origins)
    wrong = rng.random(origins) < plant.wrong[side]
    label = np.where(wrong, (y + rng.integers(1, k, origins)) % k, y)
    latent, own = rng.normal(size=origins)[origin], rng.normal(size=n)
    if setting.grouped:  # alike, and each a little different
        latent = np.sqrt(0.8) * latent + np.sqrt(0.2) * own
    rest = rng.dirichlet(np.ones(k - 1), origins)[origin]
    odds = CENTRE + latent + plant.apart * (0.5 - side)
    top = np.maximum(expit(odds), 1 / k + 1e-6)
    scores = np.empty((n, k))
    others = np.arange(k) != label[origin][:, None]
    scores[others] = (rest * (1 - top)[:, None]).ravel()
    scores[~others] = top
    groups = (origin + side * 1_000_000)[:, None] if setting.grouped else None
    return Scored(as_answers(scores, label[origin]), y[origin], groups=groups)


def as_answers(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The same, with the largest score at the label: a sure second place gives way."""
    rows, best = np.arange(len(scores)), scores.argmax(1)
    kept = scores.copy()
    kept[rows, best], kept[rows, label] = scores[rows, label], scores[rows, best]
    return kept


def both_sides(rng: np.random.Generator, setting: Setting, plant: Plant) -> tuple[Scored, Scored]:
    """Answers about members, and about others."""
    return answers(rng, setting, plant, 0), answers(rng, setting, plant, 1)


def quiet_audit(members: Scored, nonmembers: Scored, attacks: str, seeds: int):
    """An audit of scores alone, without bars and without warnings: what it says is counted."""
    with warnings.catch_warnings(action="ignore"):
        return audit_scores(
            members, nonmembers, attacks=attacks, seeds=seeds, jobs=1, progress=False
        )


class Claims(NamedTuple):
    """Whether an audit says that something leaks."""

    headline: bool
    anywhere: bool


def claims_of(found) -> Claims:
    """What an audit claims, by its verdicts; nothing while a doubt about its input decides."""
    if found.run.get("deciding_doubts"):
        return Claims(False, False)
    said = found.verdicts()
    leaks = said[said.verdict == "leaks"]
    first = leaks[leaks.recipe == found.recipes[0]]
    return Claims(bool((first.attack == "strongest").any()), len(leaks) > 0)


def share(hits: int, of: int) -> str:
    """A share with its exact 95 % interval."""
    if not of:
        return "-"
    ends = binomtest(int(hits), int(of)).proportion_ci()
    return f"{hits / of:.3f} [{ends.low:.3f}, {ends.high:.3f}] ({int(hits)} of {int(of)})"


def shares(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Each column of yes and no as a share with its interval, a line a kind and one for all."""

    def line(part: pd.DataFrame) -> pd.Series:
        counted = part.drop(columns=by)
        return pd.Series({name: share(c.sum(), c.count()) for name, c in counted.items()})

    lines = {name: line(part) for name, part in rows.groupby(by, sort=False)}
    return pd.DataFrame(lines | {"all": line(rows)}).T


Found = dict[str, dict]  # a table's title, and its lines


def show(title: str, rows: pd.DataFrame, by: str) -> Found:
    """Print a table, and give it for the results file."""
    table = shares(rows, by)
    print(f"\n{title}\n{table.to_string()}", flush=True)
    return {title: table.rename(index=str).to_dict("index")}


def null_audits(audits: int, seed: int, settings: tuple[Setting, ...] = SETTINGS) -> pd.DataFrame:
    """Section a: audits in which nobody leaks, the settings in turn."""
    rows = []
    for number in range(audits):
        setting = in_turn(settings, number)
        rng = np.random.default_rng([seed, 1, number])
        found = quiet_audit(*both_sides(rng, setting, Plant()), ATTACKS, setting.seeds)
        said = claims_of(found)
        row = {"setting": str(setting), "headline": said.headline, "any": said.anywhere}
        epsilon = found.value(found.recipes[0], "empirical_epsilon", "strongest")
        rows.append(row | {"epsilon": None if epsilon is None else epsilon > 0})
    return pd.DataFrame(rows)


class FixedLine(Attack):
    """Whose top score has log-odds above a line that was drawn beforehand is called a member."""

    name = "fixed_line"
    needs = ()
    threshold_ = CENTRE

    def score(self, scored: Scored) -> np.ndarray:
        """The top score's log-odds."""
        top = np.clip(scored.scores.max(1), 1e-12, 1 - 1e-12)
        return np.log(top / (1 - top))


# What members have in section b: the fixed line is right for .60 of records, the label for .55.
LEAK = Plant(2 * norm.ppf(0.6), (0.05, 0.15))
TRUTH = {
    "label floor": LEAK.label_floor,
    "accuracy": 0.6,
    "over the floor": 0.6 - LEAK.label_floor,
    "TPR at 1% FPR": norm.sf(norm.isf(0.01) - LEAK.apart),
}


def holds(ends: tuple, truth: float) -> bool | None:
    """Whether an interval holds the truth; None where there is no interval."""
    low, high = ends
    return None if low is None else bool(low <= truth <= high)


def told_of_repeats(part: Scored, other: Scored, name: str) -> Scored:
    """The same set, which says what rows are one record, as an audit finds out."""
    if part.groups is not None:
        return part
    record = records_of_rows(part, other)
    if len(np.unique(record)) == len(record):
        return part
    return replace(part, groups=np.array([[f"{name} {number}"] for number in record]))


def coverage_of_evaluations(
    rounds: int, seed: int, settings: tuple[Setting, ...] = SETTINGS
) -> pd.DataFrame:
    """Section b, one evaluation each: intervals of a fixed line's accuracy and TPR."""
    rows = []
    for number in range(rounds):
        setting = in_turn(settings, number)
        rng = np.random.default_rng([seed, 2, number])
        inside, outside = both_sides(rng, setting, LEAK)
        members = told_of_repeats(inside, outside, "members")
        nonmembers = told_of_repeats(outside, inside, "non-members")
        found = evaluate(FixedLine().fit(Knowledge()), members, nonmembers)
        row = {"setting": str(setting._replace(seeds=1))}
        for name, metric in (("accuracy", "accuracy"), ("TPR at 1% FPR", "tpr_at_fpr_0.01")):
            row[name] = holds(found[metric][1:3], TRUTH[name])
        rows.append(row)
    return pd.DataFrame(rows)


def over_floor(found, recipe: str) -> tuple:
    """Value and ends of the strongest attack's difference to the floor, seeds pooled."""
    return tuple(found.interval(recipe, "over_floor", "strongest"))


def coverage_of_audits(
    audits: int, seed: int, settings: tuple[Setting, ...] = SETTINGS
) -> pd.DataFrame:
    """Section b, whole audits: the rows that pool the seeds.

    The line stands where it stands whatever the known halves are, so the truth is the same for
    every seed. Where the label attack is chosen, the truth about the difference is 0.
    """
    rows = []
    ALL_ATTACKS[FixedLine.name] = FixedLine
    try:
        for number in range(audits):
            setting = in_turn(settings, number)
            rng = np.random.default_rng([seed, 3, number])
            sides = both_sides(rng, setting, LEAK)
            found = quiet_audit(*sides, f"label,{FixedLine.name}", setting.seeds)
            rows.append({"setting": str(setting)} | what_an_audit_holds(found))
    finally:
        del ALL_ATTACKS[FixedLine.name]
    return pd.DataFrame(rows)


def what_an_audit_holds(found) -> dict[str, bool | None]:
    """Of each pooled interval, whether it holds the truth."""
    recipe = found.recipes[0]

    def ends(metric: str, attack: str | None = None) -> tuple:
        return tuple(found.value(recipe, metric, attack, end) for end in ("low", "high"))

    names = list(found.run["strongest"][recipe].values())
    difference = np.mean([TRUTH["over the floor"] * (name == FixedLine.name) for name in names])
    return {
        "label floor": holds(ends("label_floor"), TRUTH["label floor"]),
        "accuracy": holds(ends("accuracy", FixedLine.name), TRUTH["accuracy"]),
        "over the floor": holds(over_floor(found, recipe)[1:], difference),
        "TPR at 1% FPR": holds(ends("tpr_at_fpr_0.01", FixedLine.name), TRUTH["TPR at 1% FPR"]),
    }


BAYES = (0.53, 0.60, 0.90)


def planted_leaks(audits: int, seed: int, bayes: tuple[float, ...] = BAYES) -> pd.DataFrame:
    """Section c: 2,000 + 2,000 held-out records, one seed, nothing in the labels."""
    rows = []
    for best in bayes:
        for number in range(max(1, audits // (2 * len(bayes)))):
            rng = np.random.default_rng([seed, 4, int(100 * best), number])
            plant = Plant(2 * norm.ppf(best), (0.0, 0.0))
            found = quiet_audit(*both_sides(rng, Setting(4_000, 4_000), plant), ATTACKS, 1)
            over, low, _ = over_floor(found, found.recipes[0])
            rows.append(
                {
                    "Bayes accuracy": f"{best:.2f}",
                    "found": low > 0,
                    "within .015": abs(over - (best - 0.5)) <= 0.015,
                    "off by": over - (best - 0.5),
                }
            )
    return pd.DataFrame(rows)


def origins_of(side: Scored) -> np.ndarray | None:
    """What the rows stem from: their groups; equal rows, from one record; None: each its own."""
    if side.groups is not None:
        return side.groups
    _, first = np.unique(side.scores, axis=0, return_inverse=True)
    return None if len(np.unique(first)) == len(side) else first.reshape(-1, 1)


def null_epsilons(rounds: int, seed: int, settings: tuple[Setting, ...] = SETTINGS) -> pd.DataFrame:
    """Section d: bounds on epsilon of a line's scores where nobody leaks."""
    rows = []
    for number in range(rounds):
        setting = in_turn(settings, number)._replace(seeds=1)
        rng = np.random.default_rng([seed, 5, number])
        known, held = (both_sides(rng, setting, Plant()) for _ in range(2))
        bound = empirical_epsilon(
            *(FixedLine().score(side) for side in held),
            known=tuple(FixedLine().score(side) for side in known),
            groups=tuple(origins_of(side) for side in held),
        )
        rows.append({"setting": str(setting), "above 0": bound > 0})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class HardnessTarget:
    """A service that is the surer the easier a record is, and surer still of what it has seen.

    A record is (name, hardness, label) and two more numbers; names are random.
    """

    leak: float  # in log-odds, in spreads

    def __call__(self, d1: Records, d2: Records, seed: int) -> Predictor:
        """The service; it remembers names."""
        seen = d1.x[:, 0]

        def classify(x: np.ndarray) -> np.ndarray:
            x = np.asarray(x, float)
            own = norm.ppf(1e-9 + (1 - 2e-9) * (x[:, 0] * 7919 % 1))  # of this record, for good
            odds = CENTRE - x[:, 1] + own + self.leak * np.isin(x[:, 0], seen)
            scores = np.repeat((expit(-odds) / (d1.k - 1))[:, None], d1.k, 1)
            scores[np.arange(len(x)), x[:, 2].astype(int)] = expit(odds)
            return scores

        return Predictor(classify, d1.k)


def people(rng: np.random.Generator, n: int, harder: float = 0.0) -> Records:
    """Records with random names; a later month's are harder."""
    y = rng.integers(0, 10, n)
    hardness = harder + rng.normal(size=n)
    return Records(np.c_[rng.random(n), hardness, y, rng.normal(size=(n, 2))], y, 10)


WORLDS = {
    "nothing": (0.0, 0.0),
    "a shift": (1.0, 0.0),
    "a leak": (0.0, 1.0),
    "both": (1.0, 1.0),
}  # how much harder D3 is, and how much surer the service is of members


def shift_found(found) -> bool | None:
    """Whether the blind attacker, who sees records and no answers, tells D1 from D3."""
    return found.run.get("shift")


def shifts_and_leaks(audits: int, seed: int) -> pd.DataFrame:
    """Section e: 1,000 members and 1,000 non-members with their records, each world in turn."""
    rows = []
    for number in range(audits):
        world = list(WORLDS)[number % len(WORLDS)]
        harder, leak = WORLDS[world]
        rng = np.random.default_rng([seed, 6, number])
        d1, d2, d3 = people(rng, 1_000), people(rng, 200), people(rng, 1_000, harder)
        with warnings.catch_warnings(action="ignore"):
            found = audit(
                lambda seed, sets=(d1, d2, d3): split_sets(*sets, seed),
                "none",
                ATTACKS,
                seeds=1,
                target=HardnessTarget(leak),
                jobs=1,
                progress=False,
            )
        row = {"world": world, "says a leak": claims_of(found).headline}
        rows.append(row | {"says a shift": shift_found(found)})
    return pd.DataFrame(rows)


def section_a(audits: int, seed: int) -> Found:
    """Nobody leaks."""
    rows = null_audits(audits, seed)
    return show(
        "a. Nobody leaks: a leak is claimed, or epsilon bounded away from 0", rows, "setting"
    )


def section_b(audits: int, seed: int) -> Found:
    """Intervals."""
    rows = coverage_of_evaluations(4 * audits, seed)
    found = show("b. The interval of one evaluation holds the truth", rows, "setting")
    rows = coverage_of_audits(audits, seed)
    title = "b. The interval of an audit, seeds pooled, holds the truth"
    return found | show(title, rows, "setting")


def section_c(audits: int, seed: int) -> Found:
    """Leaks."""
    rows = planted_leaks(audits, seed)
    off = rows.groupby("Bayes accuracy")["off by"].mean().round(4).to_dict()
    title = "c. A planted leak, 2,000 + 2,000 held-out records, one seed"
    found = show(title, rows.drop(columns="off by"), "Bayes accuracy")
    print("on average off by", off)
    return found | {"c. On average off by": {str(kind): value for kind, value in off.items()}}


def section_d(audits: int, seed: int) -> Found:
    """Epsilons."""
    return show(
        "d. Epsilon is bounded away from 0 where nobody leaks",
        null_epsilons(5 * audits, seed),
        "setting",
    )


def section_e(audits: int, seed: int) -> Found:
    """Shifts."""
    rows = shifts_and_leaks(audits, seed)
    if rows["says a shift"].isna().all():
        print("\nThis audit has no blind attacker: whether it tells a shift is not shown.")
    return show("e. A shift, a leak, both, with records", rows, "world")


SECTIONS = {"a": section_a, "b": section_b, "c": section_c, "d": section_d, "e": section_e}


def main() -> None:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=400, help="how many in each section")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of a,b,c,d,e")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write verdicts.json as well")
    asked = parser.parse_args()
    found: Found = {}
    for name in asked.sections.split(","):
        start = time.perf_counter()
        found |= SECTIONS[name](asked.audits, asked.seed)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    if asked.save:
        save(__file__, {"audits": asked.audits, "seed": asked.seed, "sections": found})


if __name__ == "__main__":
    with one_core():
        main()
