"""Try the library on a GPU, in under eight minutes: a table is printed and JSON is written.

    python dev/gpu.py --out gpu.json

does it all where there is an NVIDIA GPU; where there is none it says so and ends with 2. What it
asks: do all recipes and attacks find on digit_pairs what they find on the CPU, and do purifiers
answer alike (part `answers` and part `cells`); what does a step and an epoch at full scale cost
(part `speed`, and `compiled`, if time is left); do the tests of tests/test_scale.py pass (part
`tests`). Each part is a process of its own with a limit, and what a part has found by then is
kept; DP-SGD needs opacus, and is left out without. `--rehearse` does the same at tiny size on the
CPU, in seconds.

On a bare machine that has torch, torchvision, scikit-learn, scikit-image and pytest, and nothing
else within reach, from the repository's root, with opacus' wheel brought along in .whl (made here
by `python -m pip download --no-deps -d .whl opacus`):

    python3 -m pip install -q --no-index --no-deps --target /tmp/site .whl/*.whl;
    PYTHONUNBUFFERED=1 PYTHONPATH=/tmp/site:. python3 dev/gpu.py --out $OUT/gpu.json

(one line; with the tool `run`: carry [".whl"], timeout_s 520).
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 450  # for everything; eight minutes are 480
LIMITS = {"speed": 120, "answers": 60, "cells": 200, "tests": 120, "compiled": 150}
# accuracies and what else has an interval and is compared
METRICS = (
    "accuracy",
    "train_accuracy",
    "test_accuracy",
    "label_floor",
    "inversion_error_members",
    "reidentified_members",
)
SAME = 1e-4  # purified scores of one purifier, here and there


# --- parts: each yields rows as they are found


def step_seconds(batch_size: int, graph: bool, change: Callable, tiny: bool) -> dict[str, Any]:
    """Time a step of DenseNet121 on pictures of noise, the first epoch left out."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from purification_nb.records import Records
    from purification_nb.targets import DenseNetTarget, augmented
    from purification_nb.training import fit, minimise

    steps, made = (2, DenseNetTarget((1,), 4)) if tiny else (12, DenseNetTarget())
    count = steps * (8 if tiny else batch_size)
    pictures = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), np.uint8)
    records = Records(pictures, np.arange(count) % 10)
    network = made.network(records, 0).to(memory_format=torch.channels_last)
    optimiser, stamps = made.optimiser(network), []
    changed = change(network)
    descend = minimise(lambda x, y: F.cross_entropy(changed(x), y), optimiser, graph)

    def stamp(epoch: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    arrays = (records.x, records.y)
    about = {"before_epoch": stamp, "mixed": torch.cuda.is_available()}
    rates = {"before_step": lambda done: optimiser.param_groups[0].update(lr=0.01)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = fit(
            network,
            lambda x, y: descend(augmented(x), y),
            arrays,
            4,
            count // steps,
            **about,
            **rates,
        )
    stamp(4)
    refused = [str(one.message) for one in said if "CUDA graph" in str(one.message)]
    seconds = (stamps[-1] - stamps[1]) / (3 * steps)
    return {"seconds": seconds, "losses": history["loss"], "said": refused}


def speed(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield what a step and an epoch at full scale cost, as they are and as one CUDA graph."""
    losses = {}
    for batch_size, graph in ((512, False), (512, True), (128, False)):
        found = step_seconds(batch_size, graph, lambda network: network, tiny)
        losses[batch_size, graph] = found["losses"]
        yield speed_row(f"batch {batch_size}" + (", one graph" if graph else ""), batch_size, found)
    apart = max(
        abs(one - other) / other
        for one, other in zip(losses[512, True], losses[512, False], strict=True)
    )
    yield {"what": "losses with a graph and without, apart by", "gpu": apart, "good": apart < 0.05}


def speed_row(name: str, batch_size: int, found: dict[str, Any]) -> dict[str, Any]:
    """Give a row of the table: milliseconds a step, seconds an epoch, minutes for the schedule."""
    seconds, epochs = found["seconds"], 56 if batch_size == 512 else 350
    epoch = seconds * -(-50_000 // batch_size)
    row = {"what": f"DenseNet121, {name}: ms a step", "gpu": round(1000 * seconds, 2)}
    row |= {"seconds an epoch of --scale full": round(epoch, 2)}
    row |= {f"minutes for {epochs} epochs": round(epoch * epochs / 60, 1)}
    if batch_size == 512:
        row["good"] = 1000 * seconds <= 60 and not found["said"]
    return row | ({"said": found["said"]} if found["said"] else {})


def compiled(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the same with torch.compile, whose making takes a minute or two."""
    import torch

    change = (lambda network: network) if tiny else torch.compile
    found = step_seconds(512, False, change, tiny)
    yield speed_row("batch 512, compiled", 512, found) | {"good": True}


def answers(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield how far the answers of one network and one purifier are apart, here and there."""
    from dataclasses import replace

    import numpy as np
    import torch

    from purification_nb.defences.catalogue import recipe_called
    from purification_nb.networks import device_of
    from purification_nb.service import scores_of

    split, target = data_and_target(tiny)
    bare = target(split.d1, split.d2, 0)
    network, there = bare.classify.args[0], bare(split.d3.x)
    scored = [bare.answer(part) for part in (split.d1, split.d2)]
    where = str(device_of(network))
    apart = np.abs(scores_of(network.to("cpu"), split.d3.x) - there).max()
    yield {"what": f"bare scores, {where} and cpu", "gpu": float(apart), "good": apart < SAME}
    kinds = ("purifier", "purifier_i", "purifier_ii", "purifier_i_ii")
    for name in kinds[:1] if tiny else kinds:
        defence = replace(recipe_called(name).defence, decimals=None, keep_label=True)
        defence = replace(defence, epochs=1, rate=1e-3) if tiny else defence
        purifier = defence(*scored, 0)
        asked = torch.tensor(there, device=device_of(purifier.network))
        in_form = purifier(asked)
        on_gpu = purifier(there)
        purifier.network.to("cpu")
        apart = np.abs(purifier(there) - on_gpu).max()
        good = bool(apart < SAME and in_form.device == asked.device)
        yield {"what": f"{name}, {where} and cpu", "gpu": float(apart), "good": good}


def data_and_target(tiny: bool) -> tuple[Any, Any]:
    """Give digit_pairs and its usual target, or less for a rehearsal."""
    from purification_nb.datasets import digits
    from purification_nb.splits import digit_pairs
    from purification_nb.targets import MLPTarget

    return (digits(0), MLPTarget((8,), epochs=1)) if tiny else (digit_pairs(0), MLPTarget())


def units(tiny: bool) -> list[tuple[str, str]]:
    """Give (recipe, attacks) of all cells, those that take long first."""
    from purification_nb.attacks.catalogue import ALL_ATTACKS
    from purification_nb.defences.catalogue import RECIPES

    if tiny:
        return [("none", "confidence"), ("one_hot", "label")]
    slow = ["memguard", "imitation", "purifier_i_ii", "purifier_i", "purifier_ii"]
    recipes = slow + [name for name in RECIPES if name not in slow]
    usual = "label,confidence,nsh_log,inversion"
    attacks = [("purifier", name) for name in ALL_ATTACKS if name not in usual.split(",")]
    return [(name, usual) for name in recipes[:8]] + attacks + [(r, usual) for r in recipes[8:]]


def measure(unit: tuple[str, str], tiny: bool) -> list[dict[str, Any]]:
    """Audit one recipe with some attacks; what is compared of it."""
    from purification_nb.audit.run import audit

    recipe, attacks = unit
    split, target = data_and_target(tiny)
    warnings.simplefilter("ignore")
    found = audit(
        lambda seed: split,
        [recipe],
        attacks,
        seeds=[0],
        target=target,
        shadows=2 if tiny else 4,
        other="digits",
        jobs=1,
        progress=False,
        strongest=False,
    )
    table = found.table[found.table.seed.notna()]
    wanted = table[table.metric.isin(METRICS) & table.value.notna()]
    rows = [
        {
            "what": " ".join(filter(None, (row.recipe, row.attack, row.metric))),
            "adaptive": bool(row.adaptive),
            "value": row.value,
            "low": row.low,
            "high": row.high,
        }
        for row in wanted.itertuples()
    ]
    failed = table[table.error.notna() & ~table.metric.astype(str).str.startswith("tpr")]
    for row in failed.itertuples():
        rows.append({"what": f"{row.recipe} {row.attack or ''}", "error": row.error})
    return rows


def cells(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of all recipes and attacks, measured side by side."""
    import joblib

    first, *others = units(tiny)
    shared = units(tiny) if tiny else [("none", "label,confidence"), first, *others]
    yield from measure(shared[0], tiny)  # trains what the others share
    jobs = 1 if tiny else max(1, (os.cpu_count() or 2) // 2)
    pool = joblib.Parallel(jobs, return_as="generator_unordered")
    for rows in pool(joblib.delayed(measure)(unit, tiny) for unit in shared[1:]):
        yield from rows


def tests(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield how the tests of tests/test_scale.py went."""
    side_by_side = ["-n", "6"] if importlib.util.find_spec("xdist") else []
    asked = ["--version"] if tiny else ["-q", "-rfE", "tests/test_scale.py", *side_by_side]
    command = [sys.executable, "-m", "pytest", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    said = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    good = done.returncode == 0
    said = said if good or said else lines[-5:]
    yield {"what": f"tests/test_scale.py: {lines[-1] if lines else ''}", "good": good, "said": said}


PARTS = {"speed": speed, "answers": answers, "cells": cells, "tests": tests, "compiled": compiled}


# --- running them


class Part:
    """A part in a process of its own, whose rows are kept as they come."""

    def __init__(
        self, name: str, rehearse: bool, folder: Path, on_cpu: bool = False, apart: bool = True
    ):
        self.name, self.started, self.process = name, time.perf_counter(), None
        self.rows_file = folder / f"{name}{'-cpu' if on_cpu else ''}.jsonl"
        self.said_file = self.rows_file.with_suffix(".said")
        self.rows_file.touch()
        if not apart:  # a rehearsal does all in its own process, which is faster
            run_part(name, True, self.rows_file)
            return
        env = os.environ | {
            "PURIFICATION_NB_CACHE": str(folder / f"cache-{name}-{on_cpu}"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1" if name == "cells" or rehearse else "8",
        }
        if name in ("speed", "compiled"):
            env["PURIFICATION_NB_SCALE"] = "full"
        if on_cpu:
            env["CUDA_VISIBLE_DEVICES"] = ""
        command = [sys.executable, __file__, "--part", name, "--out", str(self.rows_file)]
        with open(self.said_file, "w") as said:
            self.process = subprocess.Popen(
                command + ["--rehearse"] * rehearse,
                env=env,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def wait(self, until: float) -> list[dict[str, Any]]:
        """Give its rows, of those it has found by then."""
        stopped = False
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.1, until - time.perf_counter()))
            if stopped := self.process.poll() is None:
                os.killpg(self.process.pid, 9)
                self.process.wait()
        rows = [json.loads(line) for line in self.rows_file.read_text().splitlines()]
        seconds = time.perf_counter() - self.started
        if stopped:
            rows.append({"what": f"{self.name}: stopped after {seconds:.0f} s", "good": None})
        elif self.process and self.process.returncode:
            said = self.said_file.read_text().strip().splitlines()[-3:]
            rows.append({"what": f"{self.name}: failed", "good": False, "said": said})
        return rows


def run_part(name: str, tiny: bool, out: Path) -> None:
    """Write the rows of a part, one a line, as they are found."""
    with open(out, "a") as file:
        for row in PARTS[name](tiny):
            print(json.dumps(row, default=float), file=file, flush=True)


def compared(gpu: list[dict[str, Any]], cpu: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each number of the GPU beside the CPU's, and whether it lies in its interval."""
    theirs = {(row["what"], row.get("adaptive")): row for row in cpu if "value" in row}
    rows: list[dict[str, Any]] = []
    for row in gpu:
        beside = theirs.get((row["what"], row.get("adaptive")))
        if "error" in row:
            missing = "opacus" in str(row["error"])
            rows.append(row | {"good": None if missing else False})
        elif "value" in row and beside is None:
            rows.append({"what": row["what"], "gpu": row["value"], "good": None})
        elif "value" in row:
            told = {name: beside[name] for name in ("low", "high")}
            held = None
            if None not in told.values():
                held = told["low"] - 1e-9 <= row["value"] <= told["high"] + 1e-9
            both = {"gpu": row["value"], "cpu": beside["value"]}
            rows.append({"what": row["what"]} | both | told | {"good": held})
        else:
            rows.append(row)
    return rows


def machine(rehearse: bool) -> dict[str, Any]:
    """Say where this ran."""
    import torch

    gpu = None if rehearse else torch.cuda.get_device_name(0)
    return {"gpu": gpu, "torch": torch.__version__, "python": sys.version.split()[0]}


def as_text(row: dict[str, Any]) -> str:
    """Give one line of the table."""
    mark = {True: "ok  ", False: "NO  ", None: "    "}[row.get("good")]
    rest = {name: value for name, value in row.items() if name not in ("what", "good")}
    short = {n: f"{v:.4g}" if isinstance(v, float) else v for n, v in rest.items()}
    return mark + row["what"].ljust(58) + "  ".join(f"{n} {v}" for n, v in short.items())


def everything(rehearse: bool, out: Path, seconds: float) -> list[dict[str, Any]]:
    """Run all parts, print each as it ends, and write what is known by then."""
    end, found = time.perf_counter() + seconds, []

    def limit(name: str) -> float:
        return min(end, time.perf_counter() + LIMITS[name])

    def keep(part: str, rows: list[dict[str, Any]]) -> None:
        found.extend({"part": part} | row for row in rows)
        print(f"\n{part}", *map(as_text, rows), sep="\n", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        about = {"machine": machine(rehearse), "rehearsed": rehearse, "rows": found}
        out.write_text(json.dumps(about, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        where, apart = Path(folder), not rehearse
        for name in ("speed", "answers"):
            keep(name, Part(name, rehearse, where, apart=apart).wait(limit(name)))
        on_cpu, on_gpu = (Part("cells", rehearse, where, cpu, apart) for cpu in (True, False))
        until = limit("cells")
        rows = on_gpu.wait(until)
        keep("cells", compared(rows, on_cpu.wait(until)))
        for name in ("tests", "compiled"):
            if end - time.perf_counter() > 30:
                keep(name, Part(name, rehearse, where, apart=apart).wait(limit(name)))
            else:
                keep(name, [{"what": f"{name}: no time was left", "good": None}])
    return found


def main() -> int:
    """Say how it went: 0 where all is well, 1 where something is not, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file to write")
    parser.add_argument("--rehearse", action="store_true", help="at tiny size, on the CPU")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.part:
        run_part(asked.part, asked.rehearse, asked.out)
        return 0
    import torch

    if not asked.rehearse and not torch.cuda.is_available():
        print("There is no GPU here that torch can use; `--rehearse` tries this script on the CPU.")
        return 2
    rows = everything(asked.rehearse, asked.out, asked.seconds)
    wrong = [row for row in rows if row.get("good") is False]
    right = sum(row.get("good") is True for row in rows)
    print(f"\n{right} as they should be, {len(wrong)} not; all in {asked.out}")
    print(*map(as_text, wrong), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
