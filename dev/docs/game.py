"""Write what the site's game shows: answers about held-out records of digit_pairs, bare and
purified, and what attackers make of them.

python dev/docs/game.py     into dev/docs/static/game-data.js; some minutes, seconds once the
networks are remembered

The site is built without running anything, so this file is committed. It says which commit and
seed made it, and a test compares it with what the library gives.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import purification_nb
from purification_nb.adversary import Knowledge
from purification_nb.attacks.membership import LabelAttack, ThresholdAttack
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.records import Scored
from purification_nb.scores import confidence
from purification_nb.service import Recipe, unchanged
from purification_nb.splits import Split, digit_pairs
from purification_nb.targets import MLPTarget

DATA = Path(__file__).resolve().parent / "static" / "game-data.js"
SEED, EACH, TOP = 0, 50, 5  # of everything; members and non-members to pick from; bars to show
LAMBDAS = (0.0, 0.01, 0.1, 1.0, 10.0)  # the slider's stops behind "bare"
PARTS = ("known_members", "known_nonmembers", "heldout_members", "heldout_nonmembers")
NINES = 6.0  # 0.999999 and surer share the last bin
BINS = np.linspace(0, NINES, 25)
LEVELS = "0123456789abcdefg"  # a pixel's sixteenths

Change = Callable[[np.ndarray], np.ndarray]  # scores in, scores out


class Bench:
    """The bare service, its answers, and the purifiers that are asked for."""

    def __init__(self, split: Split | None = None, target: MLPTarget | None = None):
        self.split = digit_pairs(SEED) if split is None else split
        recipe = Recipe(MLPTarget() if target is None else target)
        self.service = recipe(self.split.d1, self.split.d2, SEED)
        self.reference = self.service.answer(self.split.d2)
        self.bare = [self.service.answer(getattr(self.split, part)) for part in PARTS]

    def purifier(self, **settings) -> Change:
        """Train a purifier on the answers about D2, with the library's own settings else."""
        return PurifierDefence(**settings)(None, self.reference, SEED)

    def published(self, change: Change) -> list[Scored]:
        """Give the answers about the four sets behind a purifier."""
        return [replace(part, scores=change(part.scores)) for part in self.bare]


def attacked(published: list[Scored]) -> dict:
    """Fit a threshold and the label attack on the known halves; measure them on the others."""
    known, held = published[:2], published[2:]
    knowledge = Knowledge(members=known[0], nonmembers=known[1], seed=SEED)
    threshold = ThresholdAttack("confidence").fit(knowledge)
    label = LabelAttack().fit(knowledge)
    return {
        "at": round(float(threshold.threshold_), 6),
        "threshold": round(threshold.accuracy(*held), 3),
        "label": round(label.accuracy(*held), 3),
        "right": [round(float((p.scores.argmax(1) == p.y).mean()), 3) for p in held],
    }


def nines(p: np.ndarray) -> np.ndarray:
    """Count the nines of a score: 0.9 has one, 0.99 two, up to `NINES`."""
    return -np.log10(np.clip(1 - p, 10**-NINES, 1))


def stop_of_slider(name: str, published: list[Scored], bare: list[Scored]) -> dict:
    """Give a stop of the slider: who got which confidence, and what it costs and leaks."""
    shares = {
        kind: (np.histogram(nines(confidence(part.scores, part.y)), BINS)[0] / len(part)).round(4)
        for kind, part in zip(("members", "nonmembers"), published[2:], strict=True)
    }
    moved = np.abs(published[3].scores - bare[3].scores).sum(1).mean()
    counts = {kind: list(map(float, share)) for kind, share in shares.items()}
    return {"name": name, **attacked(published), "moved": round(float(moved), 3), **counts}


def chosen(split: Split) -> list[tuple[int, int]]:
    """Pick records of both held-out halves, mixed: (half, row), half 0 the members."""
    rng = np.random.default_rng(SEED)
    rows = [
        (half, int(row))
        for half, part in enumerate(PARTS[2:])
        for row in rng.choice(len(getattr(split, part)), EACH, replace=False)
    ]
    return [rows[i] for i in rng.permutation(len(rows))]


def top_scores(scores: np.ndarray, digits: int) -> list:
    """Give the largest scores of one answer: label, score, label, score, ..., without zeros."""
    order = np.argsort(-scores, kind="stable")[:TOP]
    shown = [(int(i), round(float(scores[i]), digits)) for i in order]
    return [part for label, score in shown if score for part in (label, score)]


def sealed(bits: list[int]) -> str:
    """Write the truth so that it does not meet the eye of one who looks at the file."""
    key = np.random.default_rng(2005).integers(0, 2, len(bits))
    return "".join(map(str, np.array(bits) ^ key)) + "." + "".join(map(str, key))


def modes_of(bench: Bench) -> dict[str, tuple[Change, int]]:
    """Give the three services of the game, and how many digits they answer with."""
    return {
        "bare": (unchanged, 6),
        "purified": (bench.purifier(), 2),
        "kept": (bench.purifier(keep_label=True), 2),
    }


def picture(x: np.ndarray) -> str:
    """Write a record's pixels row by row, a character each."""
    return "".join(LEVELS[int(round(16 * float(v)))] for v in x.ravel())


def game(bench: Bench) -> dict:
    """Give the game's records, and how the attackers fare in each mode."""
    rows, held = chosen(bench.split), [getattr(bench.split, part) for part in PARTS[2:]]
    records = [[picture(held[half].x[row]), int(held[half].y[row])] for half, row in rows]
    modes = {}
    for name, (change, digits) in modes_of(bench).items():
        published = bench.published(change)
        found = attacked(published)
        own = [confidence(part.scores, part.y) for part in published[2:]]
        for record, (half, row) in zip(records, rows, strict=True):
            p = round(float(own[half][row]), digits)
            record.append([p, *top_scores(published[2 + half].scores[row], digits)])
        modes[name] = {"digits": digits, **found}
    truth = sealed([1 - half for half, _ in rows])
    return {"modes": modes, "records": records, "sealed": truth}


def slider(bench: Bench) -> list[dict]:
    """Give the slider's stops: the bare service, then purifiers by the weight of the label term."""
    stops = [stop_of_slider("bare", bench.bare, bench.bare)]
    for lam in LAMBDAS:
        published = bench.published(bench.purifier(lam=lam, decimals=None))
        stops.append(stop_of_slider(f"λ = {lam:g}", published, bench.bare))
    return stops


def made_by() -> dict:
    """Say what made the data."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, cwd=DATA.parent
    )
    return {
        "data": "digit_pairs",
        "seed": SEED,
        "commit": commit.stdout.strip() or "unknown",
        "library": purification_nb.__version__,
        "torch": torch.__version__.split("+")[0],
        "threads": os.environ.get("OMP_NUM_THREADS") or str(torch.get_num_threads()),
    }


def written(found: dict) -> str:
    """Write the data as a script, one record or stop a line."""

    def row(value) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    lines = []
    for name, value in found.items():
        if isinstance(value, list):
            lines.append(f"{row(name)}:[\n" + ",\n".join(map(row, value)) + "]")
        else:
            lines.append(f"{row(name)}:{row(value)}")
    head = "// Made by dev/docs/game.py: run it again instead of editing this.\n"
    return head + "const GAME = {" + ",\n".join(lines) + "};\n"


def read(path: Path = DATA) -> dict:
    """Read the data back."""
    return json.loads(path.read_text(encoding="utf-8").split("const GAME = ", 1)[1].rstrip(";\n"))


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    bench = Bench()
    found = {"made": made_by(), **game(bench), "slider": slider(bench)}
    DATA.write_text(written(found), encoding="utf-8")
    print(f"{DATA}: {DATA.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
