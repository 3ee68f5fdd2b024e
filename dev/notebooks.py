"""Run the notebooks in reading order and keep their outputs; check what is saved.

python dev/notebooks.py run [NOTEBOOK ...]
    execute in place, clean, stamp (all of nbs/ when none is named, without the hour of ON_REQUEST)
python dev/notebooks.py run --quick [NOTEBOOK ...]
    the same, where cells flagged slow keep the outputs they have
python dev/notebooks.py fold [NOTEBOOK ...]
    without running anything: cells of nothing but imports open folded in JupyterLab
python dev/notebooks.py check
    does every saved output belong to the source beside it?
python dev/notebooks.py stamps
    which notebook was run with what: library, threads, torch
python dev/notebooks.py exported
    is the library what the notebooks export?
python dev/notebooks.py test [--flags slow]
    nbdev_test on every notebook, two at a time, those that take longest first
"""

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from configparser import ConfigParser
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
from export import export

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "purification_nb"
MEGABYTE = 1_000_000
CELL_SECONDS = 5400  # measuring the paper's tables takes a while
ON_REQUEST = {
    "reproduce_the_paper.ipynb"
}  # its slow cells take an hour: they run only when it is named
AT_HAND = (
    "dataset_location.tgz",
    "lfw_faces.npz",
    "cifar10_6k.npz",
)  # the project's own machines have these, so no reader need miss what they show
LONGEST = (
    *("16_imitation", "11_shadows", "14_memguard", "07_players", "06_purifier", "29_playground"),
    *("15_training_defences", "28_card", "00_start", "25_audit", "10_evaluation", "02_service"),
    *("your_sklearn_model", "05_inversion", "scores_only", "27_score_files"),
)  # 60 seconds to 12
FEW_IMPORTS = 4  # lines of imports that need no fold
DRAWS = "# Only figures are drawn here."
STAMP = ("library", "library_source", "threads", "torch")  # beside the hash of a notebook's source
STAMPS_ARE_REQUIRED = True  # True once all notebooks were run and folded by this script
UNRUN = re.compile(r"^#\s*\|\s*eval:\s*false", re.M)
SLOW = re.compile(r"^#\s*\|\s*slow", re.M)
WIDGET = "application/vnd.jupyter.widget-view+json"


def reading_order(nbs: Path) -> list[Path]:
    """List the notebooks as a reader meets them: chapters, index, tutorials, the rest."""

    def rank(path: Path) -> tuple:
        top = path.relative_to(nbs).parts[0]
        return (
            0 if top[0].isdigit() else 1 if top == "index.ipynb" else 2 if top == "tutorials" else 3
        ), str(path)

    seen = (
        p
        for p in nbs.rglob("*.ipynb")
        if not any(part[0] in "._" for part in p.relative_to(nbs).parts)
    )
    return sorted(seen, key=rank)


def source_hash(nb) -> str:
    """Hash the code cells in order: outputs belong to exactly this source."""
    sources = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def folds(cell, path: Path) -> bool:
    """Say whether a chapter's cell holds nothing but imports, more than a few lines of them.

    Such cells open folded, in JupyterLab and on the site; a how-to shows its imports. So do the
    helpers that draw figures, where a cell opens with `DRAWS` and teaches nothing else.
    """
    if cell.cell_type != "code" or path.resolve().parent != ROOT / "nbs":
        return False
    if cell.source.startswith(DRAWS):
        return True
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:  # a magic or a shell command
        return False
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # a room's docstring
    for one in body[:]:
        if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING":
            body += one.body
            body.remove(one)
    if not all(isinstance(one, ast.Import | ast.ImportFrom) for one in body):
        return False
    lines = [line for line in cell.source.splitlines() if line.strip() and line[0] != "#"]
    return len(lines) > FEW_IMPORTS


def fold(nb, path: Path) -> None:
    """Fold the cells of imports, and no others."""
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        if folds(cell, path):
            cell.metadata["jupyter"] = {"source_hidden": True}
        else:
            cell.metadata.pop("jupyter", None)


def stamp(nb) -> dict:
    """Say what a notebook was run with: its own source, the library, threads, torch."""
    sources = sorted((ROOT / LIBRARY).rglob("*.py"))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    config = ConfigParser()
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return {
        "source": source_hash(nb),
        "library": config["DEFAULT"]["version"],
        "library_source": code[:12],
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "torch": version("torch").split("+")[0],
    }


def stamped(nb, before: dict, whole: bool) -> dict:
    """Give the stamp of a run; where slow cells kept their outputs, also what those were run with.

    `before` is the stamp that the notebook had.
    """
    now = stamp(nb)
    if not whole:
        of_slow = before.get("slow", {name: before[name] for name in STAMP if name in before})
        if of_slow:
            now["slow"] = of_slow
    return now


def tidy(outputs: list) -> list:
    """Drop warnings, progress bars and widget views, and join what one cell printed in pieces."""
    kept = []
    for out in outputs:
        # A widget view without its live kernel shows nothing; tqdm's bars are stderr or widgets.
        if out.get("name") == "stderr":
            continue
        if WIDGET in out.get("data", {}):
            if "image/png" not in out.data:
                continue
            del out.data[WIDGET]  # an explorer brings its figure along
        if out.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += out.text
        else:
            kept.append(out)
    for out in kept:
        if out.output_type == "stream":
            out.text = re.sub(
                r"[^\n]*\r(?!\n)", "", out.text
            )  # a carriage return rewrites its line
    return [out for out in kept if out.get("text") != ""]


def cleaned(nb) -> str:
    """Give the notebook's text as nbdev_clean would leave it."""
    from execnb.nbio import nb2str
    from nbdev.clean import clean_nb

    config = ConfigParser()
    config.read(ROOT / "settings.ini", encoding="utf-8")
    cfg = config["DEFAULT"]
    plain = json.loads(nbformat.writes(nb))
    clean_nb(
        plain,
        clean_ids=cfg.getboolean("clean_ids"),
        allowed_metadata_keys=cfg["allowed_metadata_keys"].split(),
        allowed_cell_metadata_keys=cfg["allowed_cell_metadata_keys"].split(),
    )
    return nb2str(plain)


def execute(path: Path, slow: bool = True) -> None:
    """Run one notebook from its own folder and save it whole, or raise and leave the file as it
    was.

    Without `slow` the cells flagged so keep the outputs they were saved with.
    """
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(
        nb,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    number = None
    try:
        with client.setup_kernel():
            for number, cell in enumerate(nb.cells):
                if cell.cell_type != "code" or UNRUN.search(cell.source):
                    continue
                if slow or not SLOW.search(cell.source):
                    client.execute_cell(cell, number)
                    cell.outputs = tidy(cell.outputs)
    except Exception as error:
        raise RuntimeError(
            f"{os.path.relpath(path)}, cell {number}: the notebook is left as it was.\n{error}"
        ) from error
    whole = slow or not any(SLOW.search(c.source) for c in nb.cells if c.cell_type == "code")
    nb.metadata["executed"] = stamped(nb, nb.metadata.get("executed", {}), whole)
    write(nb, path)


def write(nb, path: Path) -> None:
    """Save a notebook clean, its imports folded, whole or not at all."""
    fold(nb, path)
    half = path.with_name(f".{path.name}.half")
    half.write_text(cleaned(nb), encoding="utf-8")
    os.replace(half, path)


def problems(path: Path) -> list[str]:
    """Say what is wrong with a saved notebook; an empty list when nothing is."""
    nb = nbformat.read(path, as_version=4)
    found = []
    if nb.metadata.get("executed", {}).get("source") != source_hash(nb):
        found.append(
            f"its outputs are not of this source: make notebooks NB={os.path.relpath(path, ROOT)}"
        )
    if STAMPS_ARE_REQUIRED:
        found += unfinished(nb, path)
    for number, cell in enumerate(nb.cells):
        if any(out.output_type == "error" for out in cell.get("outputs", [])):
            found.append(f"cell {number} is saved with an error")
        if absent := [
            name
            for out in cell.get("outputs", [])
            for name in AT_HAND
            if f"{name} is not in" in out.get("text", "")
            or f"there is no {name} in /" in out.get("text", "")
        ]:
            found.append(
                f"cell {number} is saved as it looks without {absent[0]}: set PURIFICATION_NB_DATA"
                " and run it again"
            )
    if path.stat().st_size > MEGABYTE:
        found.append(f"{path.stat().st_size / MEGABYTE:.1f} MB is more than 1 MB")
    return found


def unfinished(nb, path: Path) -> list[str]:
    """Say what a notebook lacks that a run by this script gives."""
    found = []
    if lacks := [name for name in STAMP if name not in nb.metadata.get("executed", {})]:
        found.append(f"its stamp lacks {', '.join(lacks)}: run it again")
    if any(
        folds(cell, path) != bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        for cell in nb.cells
        if cell.cell_type == "code"
    ):
        found.append("its imports are not folded: python dev/notebooks.py fold")
    return found


def stamps(paths: list[Path]) -> dict[Path, dict]:
    """Read what each notebook was run with."""
    return {path: nbformat.read(path, 4).metadata.get("executed", {}) for path in paths}


def of_other_threads(paths: list[Path]) -> list[str]:
    """Name the notebooks whose outputs come from another number of threads than most have."""
    every = {
        path: {one["threads"] for one in (stamp, stamp.get("slow", {})) if "threads" in one}
        for path, stamp in stamps(paths).items()
    }
    counted = Counter(threads for found in every.values() for threads in found)
    if len(counted) < 2:
        return []
    usual = counted.most_common(1)[0][0]
    return [
        f"{os.path.relpath(path)}: run with {', '.join(map(str, sorted(found - {usual})))} threads,"
        f" most with {usual}: OMP_NUM_THREADS={usual} and run it again"
        for path, found in every.items()
        if found - {usual}
    ]


def differences(library: Path, fresh: Path) -> list[str]:
    """Name the modules that are not byte for byte the same in both folders."""

    def read(folder: Path) -> dict:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.py")}

    one, other = read(library), read(fresh)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def leaving_no_workers(test, *args, **settings):
    """Test a file, and end joblib's workers, for which its process would wait five minutes."""
    from joblib.externals.loky import get_reusable_executor

    try:
        return test(*args, **settings)
    finally:
        get_reusable_executor().shutdown()


def longest_first(parallel):
    """Let a function that tests files in turn begin with those that take longest.

    A long one that comes last leaves the other core idle. Results are in the order of the files.
    """

    def reordered(test, files: list[Path], *args, **settings) -> list:
        def rank(number: int) -> int:
            name = files[number].stem
            return LONGEST.index(name) if name in LONGEST else len(LONGEST)

        order = sorted(range(len(files)), key=rank)
        tested = partial(leaving_no_workers, test)
        found = list(parallel(tested, [files[number] for number in order], *args, **settings))
        return [found[order.index(number)] for number in range(len(files))]

    return reordered


def test(flags: str) -> None:
    """Run nbdev_test; its workers are forks of this process, which has the imports done."""
    import matplotlib.pyplot  # noqa: F401
    import notebooks  # by its name: a tested notebook takes the place of __main__
    import torch._dynamo  # noqa: F401
    from nbdev import test

    import purification_nb.audit.run  # noqa: F401

    test.parallel = notebooks.longest_first(test.parallel)
    test.CaptureShell = partial(test.CaptureShell, mpl_format="png")  # nobody looks at them
    test.nbdev_test.__wrapped__(flags=flags, n_workers=2, timing=True)


def run(paths: list[Path], quick: bool, named: bool) -> None:
    """Run notebooks in place, one after the other, all with one number of threads.

    One that fails keeps none of the others from running; their names are the last line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = []
    for path in paths:
        print(os.path.relpath(path), end=" ", flush=True)
        start = time.time()
        slow = not quick and (named or path.name not in ON_REQUEST)
        try:
            execute(path.resolve(), slow=slow)
        except RuntimeError as error:
            print(f"failed\n{error}", flush=True)
            failed.append(os.path.relpath(path))
        else:
            print(f"{time.time() - start:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def main() -> None:
    """Do what the command line says; end with 1 and the reason when it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "fold", "check", "stamps", "exported", "test"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--flags", default="", help="test: also cells flagged so")
    parser.add_argument(
        "--quick", action="store_true", help="cells flagged slow keep the outputs they have"
    )
    args = parser.parse_intermixed_args()
    paths = args.notebooks or reading_order(ROOT / "nbs")
    if not paths:
        sys.exit("no notebooks under nbs/")

    if args.what == "run":
        run(paths, args.quick, named=bool(args.notebooks))
    elif args.what == "fold":
        for path in paths:
            write(nbformat.read(path, as_version=4), path)
    elif args.what == "check":
        wrong = [
            f"{os.path.relpath(path)}: {problem}" for path in paths for problem in problems(path)
        ] + of_other_threads(paths)
        sys.exit("\n".join(wrong) if wrong else 0)
    elif args.what == "test":
        test(args.flags)
    elif args.what == "stamps":
        for path, found in stamps(paths).items():
            known = ", ".join(f"{name} {found[name]}" for name in STAMP if name in found)
            slow = f"; slow cells: {found['slow']}" if "slow" in found else ""
            print(f"{os.path.relpath(path)}: {known or 'an older stamp'}{slow}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            changed = differences(ROOT / LIBRARY, export(ROOT, Path(folder)))
        if changed:
            sys.exit(
                f"{LIBRARY}/ is not what the notebooks export ({', '.join(changed)}).\nThe"
                " notebooks are the source: run `make export`, and move any edit of the .py files"
                " into them."
            )


if __name__ == "__main__":
    main()
