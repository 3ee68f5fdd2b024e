"""The wheel installs into an empty environment and does the main job, without notebook tools."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from test_release import secrets

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Build the wheel and the sdist from a copy, so that nothing left lying in the tree gets in."""
    copy = tmp_path_factory.mktemp("source") / "copy"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", ".cache", "audit-report", "build", "dist", "*.egg-info", "__pycache__"
        ),
    )
    done = subprocess.run([sys.executable, "-m", "build", copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "dist"


def compiled_already(venv: Path) -> None:
    """Lend the environment the bytecode that ours has of the same files: compiling all that torch
    imports takes longer than the audit. Python looks whether it is of the source beside it."""
    ours, theirs = (
        Path(sysconfig.get_path("purelib", vars={"base": str(base)})) for base in (sys.prefix, venv)
    )
    for one in ours.rglob("__pycache__/*.pyc"):
        copy = theirs / one.relative_to(ours)
        source = copy.parents[1] / f"{one.name.split('.')[0]}.py"
        if source.exists():
            copy.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(one, copy)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """Install the wheel into a new environment and give that environment's bin folder."""
    venv = tmp_path_factory.mktemp("empty") / "venv"
    (wheel,) = built.glob("*.whl")
    for command in (
        ["venv", "--python", sys.executable, venv],
        ["pip", "install", "--python", venv, "-c", ROOT / "constraints.txt", wheel],
    ):
        done = subprocess.run([UV, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    compiled_already(venv)
    yield venv / "bin"
    shutil.rmtree(venv)  # several GB


def run(folder: Path, *command) -> str:
    """Run a command as a newcomer would: from elsewhere, with none of our settings."""
    ours = ("PURIFICATION_NB_", "PYTHON", "VIRTUAL_ENV", "MPL")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["PURIFICATION_NB_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        [*command], cwd=folder, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    library = ROOT / "purification_nb"
    modules = {str(path.relative_to(ROOT)) for path in library.rglob("*.py")}
    assets = {str(path.relative_to(ROOT)) for path in (library / "assets").iterdir()}
    assert "purification_nb/assets/paper_tables.csv" in assets
    assert {name for name in names if ".dist-info/" not in name} == (
        modules | assets | {"purification_nb/py.typed"}
    )
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_sdist_holds_the_notebooks(built):
    (sdist,) = built.glob("*.tar.gz")
    listing = subprocess.run(
        ["tar", "tzf", sdist], capture_output=True, text=True, check=True
    ).stdout
    inside = {name.partition("/")[2] for name in listing.split()}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "nbs").rglob("*.ipynb")
        if "checkpoint" not in str(path) and "assignments" not in path.parts
    }
    assert (
        wanted
        and wanted
        | {"nbs/images/service.svg", "settings.ini", "setup.py", "constraints.txt"}
        | {"README.md", "LICENSE"}
        <= inside
    )


def test_the_sdist_gives_no_solution_and_no_hidden_test_away(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = [one for one in archive.getmembers() if one.isfile()]
        text = "".join(archive.extractfile(one).read().decode(errors="ignore") for one in files)
    assert "purification_nb" in text and [line for line in secrets() if line in text] == []
    assert not [one.name for one in files if "assignments" in one.name or "/tests/" in one.name]


def test_a_registry_would_take_both(built):
    done = subprocess.run(
        [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.iterdir()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_no_notebook_tool_comes_along(installed, tmp_path):
    tools = [
        "nbdev",
        "fastcore",
        "IPython",
        "ipykernel",
        "ipywidgets",
        "jupyter_core",
        "jupyterlab",
        "notebook",
    ]
    code = (
        f"import importlib.util as u, json; print(json.dumps([n for n in {tools} if"
        " u.find_spec(n)]))"
    )
    assert json.loads(run(tmp_path, installed / "python", "-c", code)) == []


def test_help_names_the_commands(installed, tmp_path):
    said = run(tmp_path, installed / "purification-nb", "--help")
    assert re.search(r"\baudit\b", said) and re.search(r"\bdata\b", said)


def test_a_small_audit(installed, tmp_path):
    out = tmp_path / "report"
    said = run(
        tmp_path,
        installed / "purification-nb",
        "audit",
        "--data",
        "digits",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--recipes",
        "none,one_hot",
        "--attacks",
        "label,confidence",
        "--out",
        out,
    )
    assert "one_hot" in said

    results = json.loads((out / "audit.json").read_text())
    rows = results["rows"]
    assert (
        {
            "data",
            "recipe",
            "setting",
            "attack",
            "adaptive",
            "metric",
            "value",
            "low",
            "high",
            "n",
            "seed",
            "error",
        }
        == set().union(*rows)
        == set.intersection(*map(set, rows))
    )
    assert {"versions", "scale", "machine", "settings", "seconds"} <= results["run"].keys()
    assert {row["recipe"] for row in rows} == {"none", "one_hot"}
    assert {row["data"] for row in rows} == {"digits"}
    # only what too few records could resolve is missing, and says so
    assert {row["metric"].rpartition("_")[0] for row in rows if row["error"]} == {"tpr_at_fpr"}

    pooled = {
        (row["recipe"], row["attack"], row["metric"]): row
        for row in rows
        if row["seed"] is None and not row["adaptive"]
    }
    for recipe in ("none", "one_hot"):
        for attack in ("label", "confidence"):
            row = pooled[recipe, attack, "accuracy"]
            assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1 and row["n"] > 0
        assert pooled[recipe, None, "test_accuracy"]["value"] > 0.85
    # One-Hot keeps every label, so what the label tells is the same
    assert (
        pooled["none", "label", "accuracy"]["value"]
        == pooled["one_hot", "label", "accuracy"]["value"]
    )

    assert "one_hot" in (out / "table.md").read_text()
    page = (out / "report.html").read_text()
    assert "one_hot" in page and ("data:image/" in page or "<svg" in page)
    assert (
        re.findall(r"""<link\b|\bsrc\s*=\s*(?!["']?data:)[^\s>]+""", page) == []
    )  # self-contained
