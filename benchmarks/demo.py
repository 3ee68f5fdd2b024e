"""What `purification-nb audit` costs, beside the same of an earlier revision; seconds and ratios.

    python benchmarks/demo.py --against REVISION [--seeds 1] [--rounds 2]

Both run in turn, each with an empty cache: on the clock, in CPU seconds of all processes, until the
first figures are told, and once more with all remembered. Quality is not looked at here: compare
the tables of both (`--keep FOLDER` leaves the reports there).
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conditions import save

ROOT = Path(__file__).resolve().parents[1]
FIRST_FIGURES = re.compile(rb"undefended: the label alone")
RUN = "import sys; from purification_nb.cli import app; sys.argv[0] = 'purification-nb'; app()"


def unpacked(revision, folder):
    """Put the library of a revision into a folder, and give the folder."""
    archive = subprocess.run(
        ["git", "archive", revision, "purification_nb"], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return Path(folder)


def seconds_of(tree, seeds, cache, out):
    """Run the command; seconds on the clock, of CPU, and until the first figures."""
    setting = {"PYTHONPATH": str(tree), "PURIFICATION_NB_CACHE": cache, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, "audit", "--seeds", str(seeds), "--out", str(out)]
    before, start, first, said = (
        resource.getrusage(resource.RUSAGE_CHILDREN),
        time.time(),
        None,
        b"",
    )
    process = subprocess.Popen(
        command,
        cwd=cache,
        env=os.environ | setting,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while piece := process.stderr.read1():
        said += piece
        if first is None and FIRST_FIGURES.search(said):
            first = time.time() - start
    if process.wait():
        raise SystemExit(said.decode())
    wall, after = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "first figures": first}


def both_runs(tree, seeds, out):
    """Run with nothing remembered, then with everything."""
    with tempfile.TemporaryDirectory() as cache:
        found = seconds_of(tree, seeds, cache, out)
        again = seconds_of(tree, seeds, cache, out)
    return found | {"second run, wall": again["wall"], "second run, cpu": again["cpu"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", default="HEAD~1", help="a git revision")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="where the reports shall stay")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as before, tempfile.TemporaryDirectory() as reports:
        trees = {asked.against: unpacked(asked.against, before), "here": ROOT}
        out = asked.keep or Path(reports)
        rounds = [
            {
                name: both_runs(tree, asked.seeds, out / f"{name}-{i}")
                for name, tree in trees.items()
            }
            for i in range(asked.rounds)
        ]
    for measure in rounds[0]["here"]:
        of_each = {name: [one[name][measure] for one in rounds] for name in trees}
        medians = {n: statistics.median(v) for n, v in of_each.items() if None not in v}
        line = ", ".join(f"{name} {value:.1f} s" for name, value in medians.items())
        if len(medians) == len(trees):
            ratios = [one["here"][measure] / one[asked.against][measure] for one in rounds]
            line += f", ratio {statistics.median(ratios):.2f}"
        print(f"{measure}: {line}", flush=True)
    save(__file__, {"seeds": asked.seeds, "rounds": rounds})


if __name__ == "__main__":
    main()
