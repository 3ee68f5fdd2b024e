"""Binder, Colab, Docker and the workflows say what the rest of the project says: goals, extras,
versions, the address."""

import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import oldest
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "nbs" / "tutorials" / "colab.ipynb"
ADDRESS = "https://github.com/OWNER/REPOSITORY"


def text(name: str) -> str:
    """Read a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def settings(root: Path = ROOT):
    """Read settings.ini."""
    read = ConfigParser()
    read.read(root / "settings.ini", encoding="utf-8")
    return read["DEFAULT"]


def sources(path: Path, kind: str = "") -> list[str]:
    """List the sources of a notebook's cells, of one kind or all."""
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if kind in ("", cell["cell_type"])
    ]


def prose() -> dict[str, str]:
    """Give all that tells a reader what to type: pages, notebooks' sources, the library's messages,
    the front door's own files."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("nbs/**/*.md"),
        *ROOT.glob("purification_nb/*.py"),
        *ROOT.glob(".binder/*"),
        *ROOT.glob(".github/workflows/*"),
        ROOT / "Dockerfile",
        ROOT / "benchmarks" / "README.md",
    ]
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages}
    return found | {
        str(path.relative_to(ROOT)): "\n".join(sources(path))
        for path in ROOT.glob("nbs/**/*.ipynb")
        if "checkpoint" not in path.name
    }


def goals(makefile: str) -> set[str]:
    """List the goals that a Makefile explains."""
    return set(re.findall(r"^([a-z-]+):[^#\n]*## ", makefile, re.M))


def asked(page: str) -> set[str]:
    """List the goals that a page asks make for, where it shows commands."""
    return set(re.findall(r"(?:^ *|`|run: )make ([a-z]+(?:-[a-z]+)*)", page, re.M))


def extras(page: str) -> set[str]:
    """List the extras that a page tells pip to install, or names after "extras:"."""
    named = ",".join(re.findall(r"(?:purification[-_]nb|[\"' ]\.|^\.)\[([a-z, ]+)\]", page, re.M))
    listed = ",".join(
        re.sub(r"\([^)]*\)", "", line)
        for line in re.findall(r"\bextras: ([^\n.;]*)", re.sub(r",\n\s*# ", ", ", page))
    )
    return {
        word.strip("` ") for word in re.split(r",| and ", f"{named},{listed}") if word.strip("` ")
    }


def steps(workflow: str) -> list[dict]:
    """List all steps of a workflow."""
    return [
        step for job in yaml.safe_load(text(workflow))["jobs"].values() for step in job["steps"]
    ]


def test_what_is_asked_of_make_is_a_goal():
    wanted = {name: asked(page) for name, page in prose().items()}
    assert {goal for found in wanted.values() for goal in found} >= {
        "demo",
        "test",
        "course",
        "test-oldest",
    }
    assert {
        name: found - goals(text("Makefile"))
        for name, found in wanted.items()
        if found - goals(text("Makefile"))
    } == {}
    assert asked("`make it`, make nothing\nmake test-all  # yes") == {"it", "test-all"}


def test_the_workflows_call_make_and_install_nothing_themselves():
    runs = [
        step["run"]
        for name in ("test", "docs")
        for step in steps(f".github/workflows/{name}.yml")
        if "run" in step
    ]
    assert all(re.fullmatch(r"make [a-z-]+", run) for run in runs)
    assert {"make test", "make demo", "make docs", "make wheel", "make test-oldest"} == set(runs)
    kept = next(
        step["with"]["path"].split()
        for step in steps(".github/workflows/test.yml")
        if "upload-artifact" in step.get("uses", "")
    )
    ignored = text(".gitignore").split()
    assert "test-artefacts/" in kept and set(kept) <= set(ignored)  # what make makes, git ignores


def test_the_extras_that_readers_are_told_of_exist():
    there = {
        name.removesuffix("_requirements") for name in settings() if name.endswith("_requirements")
    }
    wanted = {name: extras(page) for name, page in prose().items()}
    assert (
        wanted["README.md"]
        and wanted["Dockerfile"] == {"notebooks", "course"}
        and wanted[".binder/requirements.txt"] == {"notebooks"}
    )
    assert {name: found - there for name, found in wanted.items() if found - there} == {}
    assert extras('pip install ".[a,b]"; extras: `c` (with d, e),\n   # f (h, i) and g\n') == {
        "a",
        "b",
        "c",
        "f",
        "g",
    }


def test_one_python_everywhere_which_the_settings_allow():
    tested = re.search(r"\(Python ([\d.]+)\)", text("constraints.txt"))[1]
    assert text(".binder/runtime.txt").strip() == f"python-{tested}"
    assert re.search(r"^FROM python:([\d.]+)-slim$", text("Dockerfile"), re.M)[1] == tested
    in_workflows = {
        step["with"]["python-version"]
        for name in ("test", "docs")
        for step in steps(f".github/workflows/{name}.yml")
        if "setup-python" in step.get("uses", "")
    }
    assert tested in in_workflows
    assert all(
        oldest.numbers(one) >= oldest.numbers(settings()["min_python"]) for one in in_workflows
    )


def test_versions_stand_in_one_place_and_torch_is_the_one_for_the_cpu():
    for name in (".binder/requirements.txt", "Dockerfile"):
        assert not re.search(r"[=<>~]=", text(name)) and re.search(
            r"-c (\.\./)?constraints\.txt", text(name)
        ), name
    indexes = {
        where
        for name in (
            ".binder/requirements.txt",
            "Dockerfile",
            ".github/workflows/test.yml",
            ".github/workflows/docs.yml",
        )
        for where in re.findall(r"https://\S*pytorch\S*", text(name)) or ["none"]
    }
    assert indexes == {"https://download.pytorch.org/whl/cpu"}


def test_every_pin_is_at_or_above_its_bound():
    pins = dict(re.findall(r"^(\S+)==(\S+)$", text("constraints.txt"), re.M))
    assert (
        "torch" in oldest.bounds()
        and oldest.numbers("2.6.0+cpu") == (2, 6)
        and oldest.numbers("3.10") == (3, 10)
    )
    assert [
        name
        for name, bound in oldest.bounds().items()
        if oldest.numbers(pins[name]) < oldest.numbers(bound)
    ] == []


def copied() -> list[tuple[str, str]]:
    """List what the Dockerfile copies, source by source, with the folder it goes to."""
    lines = [
        line.split()[1:] for line in text("Dockerfile").splitlines() if line.startswith("COPY ")
    ]
    return [
        (source, words[-1])
        for line in lines
        for words in [[word for word in line if not word.startswith("--")]]
        for source in words[:-1]
    ]


def test_docker_is_sent_what_it_copies_and_not_the_answers():
    rules = [line for line in text(".dockerignore").splitlines() if line and line[0] != "#"]

    def sent(path: str) -> bool:
        kept = True
        for rule in rules:  # the last that fits decides
            pattern = rule.removeprefix("!").removeprefix("**/")
            if any(
                fnmatch(part, pattern)
                for part in (path, *map(str, Path(path).parents), *Path(path).parts)
            ):
                kept = rule[0] == "!"
        return kept

    assert (
        copied()
        and [source for source, _ in copied() if not ((ROOT / source).exists() and sent(source))]
        == []
    )
    assert sent("nbs/06_purifier.ipynb") and not any(
        map(
            sent,
            (
                "nbs/assignments/05_the_game",
                ".git/config",
                ".venv/bin/python",
                "purification_nb/__pycache__/a.pyc",
            ),
        )
    )


def test_docker_copies_enough_to_install_from(tmp_path):
    before_pip = text("Dockerfile").partition("RUN pip install")[0]
    for source, _ in copied():
        if f" {source} " not in before_pip:
            continue
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(
            ROOT / source, tmp_path / source
        )
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    info = tmp_path / "purification_nb.egg-info"
    assert (
        "purification_nb/defences/purifier.py" in (info / "SOURCES.txt").read_text()
        and "[course]" in (info / "requires.txt").read_text()
    )


def test_docker_serves_as_an_ordinary_user_who_needs_a_token():
    last = [line for line in text("Dockerfile").splitlines() if re.match("(USER|CMD) ", line)]
    assert last[0] == "USER student" and last[1].startswith("CMD ") and len(last) == 2
    assert not re.search(r"token|password", last[1])  # Jupyter makes a token of its own


def test_the_post_build_script_can_be_run():
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK) and subprocess.run(["bash", "-n", script]).returncode == 0
    assert [
        pattern
        for pattern in re.findall(r"\S+\.ipynb", script.read_text())
        if not list(ROOT.glob(pattern))
    ] == []


def cell(words: str, path: Path = COLAB) -> str:
    """Give the one code cell that says this."""
    (found,) = [source for source in sources(path, "code") if words in source]
    return found


def installed(folder: Path, monkeypatch, address: str, colab: bool = True) -> list[str]:
    """Run the installing cell in a folder, with an address filled in, and give what pip was asked
    for."""
    said = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: said.append(f"{name} {line}"))
    monkeypatch.chdir(folder)
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    filled = re.sub(r'^address = ".*?"', f'address = "{address}"', cell("google.colab"), flags=re.M)
    names = {"get_ipython": lambda: shell}
    exec(TransformerManager().transform_cell(filled), names)
    return [line.format(**names) for line in said]  # IPython fills in what stands in braces


def test_colab_s_address_is_the_settings():
    written = re.search(r'^address = "(.*?)"', cell("google.colab"), re.M)[1]
    assert written == settings()["git_url"], (
        "write settings.ini's git_url into nbs/tutorials/colab.ipynb, and run it"
    )


def test_colab_installs_from_the_address_and_only_there(tmp_path, monkeypatch):
    assert installed(tmp_path, monkeypatch, ADDRESS, colab=False) == []
    assert installed(tmp_path, monkeypatch, ADDRESS) == [f"pip install -q git+{ADDRESS}"]
    with pytest.raises(AssertionError, match="address"):
        installed(tmp_path, monkeypatch, "")
    (tmp_path / "purification_nb-0.1.0-py3-none-any.whl").touch()
    assert installed(tmp_path, monkeypatch, "") == [
        "pip install -q purification_nb-0.1.0-py3-none-any.whl"
    ]


def test_colab_links_to_a_chapter():
    names = {"address": ADDRESS}
    exec(cell("def on_colab").rpartition("\n\n")[0], names)
    assert (
        names["on_colab"]("04_membership.ipynb")
        == "https://colab.research.google.com/github/OWNER/REPOSITORY/blob/main/nbs/04_membership.ipynb"
    )


def test_a_registry_gets_links_that_lead_somewhere(tmp_path):
    for name in ("setup.py", "settings.ini", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text(
        "[a](nbs/a.ipynb) ![b](README_files/b.png) [c](https://example.org) [d](#d)"
    )

    def shown():
        return subprocess.run(
            [sys.executable, "setup.py", "--long-description"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert "[a](nbs/a.ipynb)" in shown() or settings()["git_url"]
    ini = tmp_path / "settings.ini"
    ini.write_text(re.sub(r"^git_url =.*$", f"git_url = {ADDRESS}", ini.read_text(), flags=re.M))
    assert (
        shown()
        == f"[a]({ADDRESS}/blob/main/nbs/a.ipynb) ![b]({ADDRESS}/raw/main/README_files/b.png)"
        " [c](https://example.org) [d](#d)"
    )
