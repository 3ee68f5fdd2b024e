"""The library is what the notebooks export, stands on few feet, and has no way up its own stairs."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import notebooks
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "purification_nb"
FLOORS = [
    "data",
    "training",
    "classifiers",
    "scores",
    "membership",
    "shadows",
    "inversion",
    "purifier",
    "adversarial_model",
    "discriminator",
    "baselines",
    "memguard",
    "imitation",
    "training_defences",
    "audit",
    "score_files",
    "card",
    "playground",
    "cli",
]
ATTACKS = {"membership", "shadows", "inversion"}
DEFENCES = {
    "purifier",
    "adversarial_model",
    "discriminator",
    "baselines",
    "memguard",
    "imitation",
    "training_defences",
}
TOOLS = {
    "nbdev",
    "fastcore",
    "execnb",
    "ghapi",
    "IPython",
    "ipykernel",
    "ipywidgets",
    "notebook",
    "jupyterlab",
    "nbformat",
    "nbclient",
    "nbconvert",
    "jupyter_client",
    "jupyter_core",
    "jupyter_server",
}

modules = sorted(path for path in LIBRARY.glob("*.py") if not path.name.startswith("_"))
chapters = sorted((ROOT / "nbs").glob("[0-9][0-9]*_*.ipynb"))
every_notebook = notebooks.reading_order(ROOT / "nbs")
each_module = pytest.mark.parametrize("path", modules, ids=lambda path: path.stem)


def imported(path: Path) -> set[str]:
    """List what a source file imports, anywhere in it, with `from .data` read as purification_nb.data."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, [LIBRARY.name if node.level else "", node.module]))
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def rooms(path: Path) -> set[str]:
    """List the library's modules that a source file imports."""
    return {
        name.split(".")[1] for name in imported(path) if name.startswith(LIBRARY.name + ".")
    } & set(FLOORS)


def fresh_python(code: str) -> list:
    """Run code that prints JSON in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def exports(path: Path) -> set[str]:
    """List the modules that a notebook's directives name."""
    code = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    return set(re.findall(r"^#\s*\|\s*(?:default_exp|exporti?|exports)[ \t]+(\S+)", code, re.M))


def test_is_byte_for_byte_what_the_notebooks_export(tmp_path):
    fresh = notebooks.export(tmp_path)
    assert {path.name for path in modules} <= {path.name for path in fresh.glob("*.py")}
    assert notebooks.differences(LIBRARY, fresh) == []


def test_a_changed_module_would_be_noticed(tmp_path):
    fresh = notebooks.export(tmp_path)
    (fresh / "data.py").write_bytes((fresh / "data.py").read_bytes() + b"\n")
    (fresh / "extra.py").touch()
    assert notebooks.differences(LIBRARY, fresh) == ["data.py", "extra.py"]


def test_each_chapter_exports_the_module_of_its_name():
    names = {path.stem: path.stem.split("_", 1)[1] for path in chapters}
    assert {path.stem: exports(path) for path in chapters} == {
        stem: {name} for stem, name in names.items()
    }
    assert set(names.values()) == {path.stem for path in modules}


def test_only_chapters_export():
    assert [path.name for path in every_notebook if path not in chapters and exports(path)] == []


@each_module
def test_imports_only_from_floors_below(path):
    below = set(FLOORS[: FLOORS.index(path.stem)])
    assert rooms(path) - below == set()


def test_attacks_and_defences_do_not_know_each_other():
    known = {path.stem: rooms(path) for path in modules}
    assert {
        name: known[name] & DEFENCES for name in ATTACKS & known.keys() if known[name] & DEFENCES
    } == {}
    assert {
        name: known[name] & ATTACKS for name in DEFENCES & known.keys() if known[name] & ATTACKS
    } == {}


# The playground is for notebooks, and its widgets come with the extra of that name.
@each_module
def test_names_no_notebook_tool(path):
    allowed = {"ipywidgets", "IPython"} if path.stem == "playground" else set()
    assert {name.split(".")[0] for name in imported(path)} & TOOLS - allowed == set()


def test_importing_everything_loads_no_notebook_tool():
    names = [f"{LIBRARY.name}.{path.stem}" for path in modules]
    loaded = fresh_python(
        f"import importlib, json, sys; [importlib.import_module(n) for n in {names}]; "
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    assert {"torch", LIBRARY.name} <= set(loaded)
    assert TOOLS & set(loaded) == set()


def test_importing_the_audit_does_not_wait_for_torchvision():
    loaded = fresh_python(
        "import json, sys, purification_nb.audit; print(json.dumps(sorted(sys.modules)))"
    )
    assert "purification_nb.audit" in loaded and "torchvision" not in loaded
