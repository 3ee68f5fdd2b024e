"""A million answers of 100 classes through a purifier, file to file: time over what cannot be done
without, and memory; prints and saves CPU seconds of one thread, and ratios."""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from conditions import one_core, save
from purification_nb.audit.score_files import ROWS
from purification_nb.audit.streams import purify_file
from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.purifier import Purifier
from purification_nb.defences.saving import load_purifier, save_purifier
from purification_nb.networks import mlp
from purification_nb.training import seeded

FEW, MANY, K = 100_000, 1_000_000, 100
ROUNDS = 5  # in turn; where a file is written, the time of one wavers by half
NAMES = [f"score_{i}" for i in range(K)]


def answers(n=8000):
    """Softmax vectors with a sure label, as a trained network gives them; rows are repeated to fill
    a file."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), rng.integers(0, K, n)] += rng.uniform(3, 12, n)
    scores = np.exp(logits)
    return scores / scores.sum(1, keepdims=True)


def write(kind, path, rows):
    """Fill a file with so many answers and labels; six digits in a CSV, all of them elsewhere."""
    block = answers()
    times, labels = rows // len(block) + 1, np.arange(len(block)) % K
    if kind == "csv":
        frame = pd.DataFrame(block, columns=NAMES).assign(label=labels)
        text = frame.to_csv(index=False, header=False, float_format="%.6f").splitlines(
            keepends=True
        )
        with open(path, "w") as file:
            csv.writer(file).writerow([*NAMES, "label"])
            for start in range(0, rows, len(text)):
                file.write("".join(text[: rows - start]))
    elif kind == "parquet":
        table = pa.table(
            {name: column for name, column in zip(NAMES, block.T, strict=True)} | {"label": labels}
        )
        with pq.ParquetWriter(path, table.schema, use_dictionary=False) as writer:
            for start in range(0, rows, len(block)):
                writer.write_table(table[: rows - start])
    else:
        np.save(path, np.concatenate([block] * times)[:rows])


def read(kind, path):
    """Read a file in the same parts and make numpy arrays of them, and no more."""
    if kind == "csv":
        for part in pd.read_csv(path, dtype={name: np.float64 for name in NAMES}, chunksize=ROWS):
            part[NAMES].to_numpy()
    elif kind == "parquet":
        for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16).iter_batches(
            batch_size=ROWS
        ):
            np.column_stack([batch.column(name).to_numpy() for name in NAMES])
    else:
        with open(path, "rb") as file:
            while part := file.read(ROWS * K * 8):
                np.frombuffer(part)


@torch.inference_mode()
def products(purifier, rows):
    """Do the bare matrix products of G for so many rows, in blocks of 1,024, single precision,
    nothing else."""
    weights = [
        layer.weight.T.contiguous() for layer in purifier.network if isinstance(layer, nn.Linear)
    ]
    block = torch.tensor(answers(1024), dtype=torch.float32)
    for _ in range(rows // 1024 + 1):
        x = block
        for weight in weights:
            x = x @ weight


def spent(call, *arguments):
    """CPU seconds of one call."""
    start = time.process_time()
    call(*arguments)
    return time.process_time() - start


def on_the_clock(call, *arguments):
    """Seconds of the clock, the median of several calls."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call(*arguments)
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds), 2)


def peak(folder, source, out):
    """Megabytes that the command takes at most, in a process of its own; a small process starts it,
    since a child's count begins with its parent's size."""
    command = [
        str(Path(sys.executable).with_name("purification-nb")),
        "purify",
        str(source),
        "--with",
        str(folder / "purifier"),
        "--out",
        str(out),
    ]
    starter = (
        f"import os, subprocess\nchild = subprocess.Popen({command}, stdout=subprocess.DEVNULL)\n_,"
        " status, usage = os.wait4(child.pid, 0)\nassert status == 0\nprint(usage.ru_maxrss)"
    )
    return round(
        int(
            subprocess.run(
                [sys.executable, "-c", starter], check=True, capture_output=True, text=True
            ).stdout
        )
        / 1024,
        1,
    )


def main():
    """Measure each kind of file."""
    with seeded(0):
        network = mlp(purifier_sizes(K), batch_norm=True).eval()
    report = {
        "rows": MANY,
        "classes": K,
        "pandas": pd.__version__,
        "pyarrow": pa.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_purifier(Purifier(network, K, True, 2), folder / "purifier")
        purifier = load_purifier(folder / "purifier")
        for kind in ("npy", "parquet", "csv"):
            few, many, out = folder / f"few.{kind}", folder / f"many.{kind}", folder / f"out.{kind}"
            write(kind, few, FEW)
            write(kind, many, MANY)
            calls = {
                "reader": (read, kind, many),
                "bare matrix products": (products, purifier, MANY),
                "purify_file": (purify_file, many, purifier, out),
            }
            with one_core():
                rounds = [{name: spent(*one) for name, one in calls.items()} for _ in range(ROUNDS)]
                clock = {"one thread": on_the_clock(*calls["purify_file"])}
            clock["torch's default threads"] = on_the_clock(*calls["purify_file"])
            seconds = {name: statistics.median(one[name] for one in rounds) for name in calls}
            must = seconds["reader"] + seconds["bare matrix products"]
            memory = {
                str(rows): peak(folder, source, out) for rows, source in ((FEW, few), (MANY, many))
            }
            report[kind] = {
                "seconds": {name: round(value, 2) for name, value in seconds.items()},
                "purify_file, each": [round(one["purify_file"], 2) for one in rounds],
                "purify_file on the clock": clock,
                "ratio": round(seconds["purify_file"] / must, 2),
                "megabytes_at_most": memory,
                "file_megabytes": round(many.stat().st_size / 2**20),
            }
            print(
                f"{kind:8s} "
                + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
                + f"; ratio {report[kind]['ratio']}; on the clock {clock}; at most {memory} MB for"
                f" a file of {report[kind]['file_megabytes']} MB",
                flush=True,
            )
            for path in (few, many, out):
                path.unlink()
    save(__file__, report)


if __name__ == "__main__":
    main()
