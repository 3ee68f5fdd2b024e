"""Build what a teacher hands out and grades with, from the notebooks in nbs/assignments.

    python dev/course.py [ASSIGNMENT ...]     into course/: the nbgrader tree, the student release,
    the solutions, the otter form
    python dev/course.py --no-otter --into FOLDER 01_who_was_in_the_training_set

Each assignment is one notebook, nbs/assignments/NAME/NAME.ipynb, with nbgrader's metadata on its
cells; what else lies in its folder goes along.
Submissions, grades and feedback that are in the folder already stay there.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat.v4 import new_raw_cell

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = ROOT / "nbs" / "assignments"
MARKER = re.compile(r"^[ \t]*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)[ \t]*\n?", re.M)
HIDDEN = re.compile(
    r"^### BEGIN HIDDEN TESTS[ \t]*\n(.*?)^### END HIDDEN TESTS[ \t]*\n?", re.M | re.S
)
COMMON = ASSIGNMENTS / "checks_common.py"  # what the checks of all assignments share
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__")
CONFIG = '''"""nbgrader's settings for this course; made by `make course`."""
c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "{course}"
c.ExecutePreprocessor.timeout = 240  # seconds a cell may take
c.ClearSolutions.code_stub = {{"python": "# YOUR CODE HERE\\nraise NotImplementedError()"}}
# warnings and progress bars in a test cell cost no points; nbgrader would give 0
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = "."
'''


def assignments(folder: Path = ASSIGNMENTS) -> list[str]:
    """List the assignments by name, in order."""
    return sorted(
        path.stem for path in folder.glob("[0-9][0-9]_*/*.ipynb") if path.stem == path.parent.name
    )


def kind(cell) -> str:
    """Say what nbgrader takes a cell for: answer, test, manual, or nothing ("")."""
    says = cell.metadata.get("nbgrader", {})
    return {(True, False): "answer", (False, True): "test", (True, True): "manual"}.get(
        (says.get("solution", False), says.get("grade", False)), ""
    )


def read(name: str, folder: Path = ASSIGNMENTS):
    """Read an assignment's notebook."""
    return nbformat.read(folder / name / f"{name}.ipynb", as_version=4)


def run(command: list, folder: Path) -> str:
    """Run a command of this environment in a folder; where it fails, say what it said last."""
    program, *arguments = command
    here = Path(
        sys.executable
    ).parent  # make does not activate the environment, and nbgrader calls alembic by its name
    env = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        [here / program, *arguments],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        )
    return done.stdout


def write(nb, path: Path) -> None:
    """Write a notebook, without our own stamp."""
    nb.metadata.pop("executed", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)


def release(names: list[str], into: Path, folder: Path = ASSIGNMENTS) -> None:
    """Lay out the tree that nbgrader expects and let it make the student release."""
    settings = ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    for part in ("source", "release", "submitted", "autograded", "feedback"):
        (into / part).mkdir(parents=True, exist_ok=True)
    (into / "nbgrader_config.py").write_text(
        CONFIG.format(course=settings["DEFAULT"]["repo"]), encoding="utf-8"
    )
    for name in names:
        shutil.rmtree(into / "source" / name, ignore_errors=True)
        shutil.copytree(folder / name, into / "source" / name, ignore=LEFT_OUT)
        shutil.copy(COMMON, into / "source" / name)
        write(read(name, folder), into / "source" / name / f"{name}.ipynb")
        run(["nbgrader", "generate_assignment", name, "--force"], into)


def solved(nb):
    """Give the notebook with its solutions, outputs and hidden tests, and no markers."""
    nb = deepcopy(nb)
    for cell in nb.cells:
        cell.source = MARKER.sub("", cell.source).rstrip("\n")
        cell.metadata.pop("nbgrader", None)
    return nb


def boundary(text: str, **settings):
    """Make a raw cell that otter reads."""
    return new_raw_cell(
        "\n".join(
            [f"# {text}", *(f"{name}: {json.dumps(value)}" for name, value in settings.items())]
        )
    )


def otter_answer(source: str) -> str:
    """Turn nbgrader's markers into otter's, with the same stub."""

    def block(match):
        indent = match[1]
        return "\n".join(
            [
                f"{indent}# BEGIN SOLUTION NO PROMPT",
                match[2].rstrip("\n"),
                f"{indent}# END SOLUTION",
                f'{indent}""" # BEGIN PROMPT',
                f"{indent}# YOUR CODE HERE",
                f"{indent}raise NotImplementedError()",
                f'{indent}""" # END PROMPT',
            ]
        )

    return re.sub(
        r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*### END SOLUTION[ \t]*$",
        block,
        source,
        flags=re.M | re.S,
    )


def otter_tests(cell) -> list:
    """Split a test cell into the part that students see and the part that they do not."""
    hidden, seen = (
        "\n".join(HIDDEN.findall(cell.source)).strip("\n"),
        HIDDEN.sub("", cell.source).strip("\n"),
    )
    made = []
    for source, is_hidden in ((seen, False), (hidden, True)):
        if not ast.parse(source).body:
            continue
        made.append(deepcopy(cell))
        made[-1].source = (
            f'""" # BEGIN TEST CONFIG\nhidden: {str(is_hidden).lower()}\n""" # END TEST'
            f" CONFIG\n{source}"
        )
        if is_hidden and len(made) > 1:
            made[-1].outputs, made[-1].id = (
                [],
                f"{cell.id}-hidden",
            )  # what was printed belongs to the part that is seen
    return made


def otter_form(nb, name: str, files: list[str]):
    """Turn an nbgrader source into an otter source: the same cells, each answer with its tests a
    question."""
    nb = deepcopy(nb)
    cells = [
        boundary(
            "ASSIGNMENT CONFIG",
            name=name,
            files=files,
            requirements="requirements.txt",
            export_cell={"pdf": False},
            generate={"seed": 0},
        )
    ]
    waiting = []  # cells from an answer to its tests
    for cell in nb.cells:
        what, says = kind(cell), cell.metadata.pop("nbgrader", {})
        if what in ("answer", "manual"):
            cell.source = otter_answer(cell.source)
            waiting += [boundary("BEGIN SOLUTION"), cell, boundary("END SOLUTION")]
        elif what == "test":
            waiting += [boundary("BEGIN TESTS"), *otter_tests(cell), boundary("END TESTS")]
        else:
            (waiting if waiting else cells).append(cell)
        if what in ("test", "manual"):
            graded = {"manual": True} if what == "manual" else {"all_or_nothing": True}
            cells += [
                boundary("BEGIN QUESTION", name=says["grade_id"], points=says["points"], **graded),
                *waiting,
                boundary("END QUESTION"),
            ]
            waiting = []
    if waiting:
        raise ValueError(f"{name}: an answer with no test after it")
    nb.cells = cells
    return nb


def otter(name: str, into: Path, folder: Path = ASSIGNMENTS) -> Path:
    """Write the otter form of an assignment and let otter make the student's and the grader's part
    of it."""
    place = into / "otter" / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / name, place, ignore=LEFT_OUT)
    shutil.copy(COMMON, place)
    files = sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.is_file() and path.suffix != ".ipynb"
    )
    (place / "requirements.txt").write_text("purification-nb\n", encoding="utf-8")
    write(otter_form(read(name, folder), name, files), place / f"{name}.ipynb")
    run(["otter", "assign", f"{name}.ipynb", "dist"], place)
    return place / "dist"


def build(names: list[str], into: Path, with_otter: bool = True) -> None:
    """Build everything for these assignments."""
    release(names, into)
    for name in names:
        write(solved(read(name)), into / "solutions" / name / f"{name}.ipynb")
        for path in [COMMON, *(ASSIGNMENTS / name).glob("*.py")]:
            shutil.copy(path, into / "solutions" / name)
        if with_otter:
            otter(name, into)
    shutil.copy(ASSIGNMENTS / "INSTRUCTOR.md", into)
    shutil.copy(ASSIGNMENTS / "README.md", into / "release")


def main() -> None:
    """Do what the command line says; end with 1 and the reason when it cannot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ASSIGNMENT")
    parser.add_argument("--into", type=Path, default=ROOT / "course")
    parser.add_argument("--no-otter", action="store_true", help="leave out the otter form")
    args = parser.parse_args()
    there = assignments()
    if unknown := set(args.names) - set(there):
        sys.exit(
            f"there is no assignment called {', '.join(sorted(unknown))}; there are"
            f" {', '.join(there)}"
        )
    try:
        build(args.names or there, args.into.resolve(), not args.no_otter)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"{os.path.relpath(args.into)}: {', '.join(args.names or there)}")


if __name__ == "__main__":
    main()
