"""Run the notebooks in reading order and keep their outputs; check what is saved.

python dev/notebooks.py run [NOTEBOOK ...]
    execute in place, clean, stamp (all of nbs/ when none is named, without the hour of ON_REQUEST)
python dev/notebooks.py run --quick [NOTEBOOK ...]
    the same, where cells flagged slow keep the outputs they have
python dev/notebooks.py check
    does every saved output belong to the source beside it?
python dev/notebooks.py exported
    is the library what the notebooks export?
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from configparser import ConfigParser
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
                skipped = r"^#\s*\|\s*eval:\s*false" if slow else r"^#\s*\|\s*(eval:\s*false|slow)"
                if cell.cell_type == "code" and not re.search(skipped, cell.source, re.M):
                    client.execute_cell(cell, number)
                    cell.outputs = tidy(cell.outputs)
    except Exception as error:
        raise RuntimeError(
            f"{os.path.relpath(path)}, cell {number}: the notebook is left as it was.\n{error}"
        ) from error
    nb.metadata["executed"] = {"source": source_hash(nb)}
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


def differences(library: Path, fresh: Path) -> list[str]:
    """Name the modules that are not byte for byte the same in both folders."""

    def read(folder: Path) -> dict:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.py")}

    one, other = read(library), read(fresh)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def main() -> None:
    """Do what the command line says; end with 1 and the reason when it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "check", "exported"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="cells flagged slow keep the outputs they have"
    )
    args = parser.parse_intermixed_args()
    paths = args.notebooks or reading_order(ROOT / "nbs")
    if not paths:
        sys.exit("no notebooks under nbs/")

    if args.what == "run":
        for path in paths:
            print(os.path.relpath(path), end=" ", flush=True)
            start = time.time()
            named = bool(args.notebooks) or path.name not in ON_REQUEST
            try:
                execute(path.resolve(), slow=named and not args.quick)
            except RuntimeError as error:
                sys.exit(f"failed\n{error}")
            print(f"{time.time() - start:.0f} s", flush=True)
    elif args.what == "check":
        wrong = [
            f"{os.path.relpath(path)}: {problem}" for path in paths for problem in problems(path)
        ]
        sys.exit("\n".join(wrong) if wrong else 0)
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
