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
import builtins
import hashlib
import json
import os
import re
import shutil
import subprocess
import symtable
import sys
import textwrap
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat.v4 import new_raw_cell

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev" / "coursework"))
from guard import names_bound  # noqa: E402
from minutes import asks_for_minutes  # noqa: E402

ASSIGNMENTS = ROOT / "nbs" / "assignments"
MARKER = re.compile(r"^[ \t]*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)[ \t]*\n?", re.M)
HIDDEN = re.compile(
    r"^### BEGIN HIDDEN TESTS[ \t]*\n(.*?)^### END HIDDEN TESTS[ \t]*\n?", re.M | re.S
)
SOLUTION = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*### END SOLUTION[ \t]*$", re.M | re.S
)
GENERATE = """import sys
from nbgrader.apps import GenerateAssignmentApp
for name in sys.argv[1:]:  # `nbgrader generate_assignment NAME --force`, started once for all
    app = GenerateAssignmentApp()
    app.initialize([name, "--force"])
    app.start()
"""
STUB = "raise NotImplementedError()"
COMMON = ASSIGNMENTS / "checks_common.py"  # what the checks of all assignments share
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__")
COURSEWORK = ROOT / "dev" / "coursework"  # what grades: goes into the tree as it is


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


def common(seed: int = 0) -> str:
    """Give the text of what the checks share, with the seed of this course written into it."""
    text = COMMON.read_text(encoding="utf-8")
    line = f"COURSE_SEED = {seed}"
    if re.search(r"^COURSE_SEED = .*$", text, re.M):
        return re.sub(r"^COURSE_SEED = [^#\n]*?(?=\s*(#|$))", line, text, flags=re.M)
    return f"{text}\n\n{line}  # data and hidden cases follow from it\n"


def seeded(nb, seed: int = 0):
    """Let the data and the hidden cases of an assignment follow from the seed of this course."""
    nb = deepcopy(nb)
    if not seed:
        return nb

    def hidden(match):
        return re.sub(r"default_rng\((\d+)\)", rf"default_rng([{seed}, \1])", match[0])

    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"(?<=digit_pairs\()seed=0", f"seed={seed}", cell.source)
            cell.source = HIDDEN.sub(hidden, cell.source)
    return nb


def locked(nb):
    """Lock the cells that are given, so that nbgrader undoes what a student does to them; all but
    the one that asks for minutes."""
    nb = deepcopy(nb)
    for cell in nb.cells:
        given = cell.cell_type == "code" and "nbgrader" not in cell.metadata
        if given and not asks_for_minutes(cell.source):
            cell.metadata["nbgrader"] = {
                "grade": False,
                "grade_id": f"given-{cell.id}",
                "locked": True,
                "schema_version": 3,
                "solution": False,
                "task": False,
            }
    return nb


def outline(nb, checks: str) -> dict:
    """Say what the grader must know of an assignment: its cells in order, each test with the
    pattern of what its checks say at their end, and the names that the answers bind."""
    says, cells, answers = sentences(checks), {}, set()
    for cell in nb.cells:
        if not (about := cell.metadata.get("nbgrader")):
            continue
        called = re.findall(r"\bchecks\.(\w+)\(", HIDDEN.sub("", cell.source))
        told = [says[one] for one in called if one in says] if kind(cell) == "test" else []
        cells[about["grade_id"]] = r"[\s\S]*".join(told)
        if kind(cell) == "answer":
            answers |= names_bound(cell.source)
    return {"cells": cells, "answers": sorted(answers)}


def sentences(checks: str) -> dict[str, str]:
    """Give, of each check that ends by printing a sentence, the pattern of that sentence."""
    found = {}
    for node in ast.parse(checks).body:
        if not isinstance(node, ast.FunctionDef) or not isinstance(node.body[-1], ast.Expr):
            continue
        call = node.body[-1].value
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "print" and call.args:
            text = call.args[0]
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            found[node.name] = "".join(
                re.escape(one.value) if isinstance(one, ast.Constant) else ".+" for one in parts
            )
    return found


def release(names: list[str], into: Path, folder: Path = ASSIGNMENTS, seed: int = 0) -> None:
    """Lay out the tree that nbgrader expects and let it make the student release."""
    for part in ("source", "release", "submitted", "autograded", "feedback"):
        (into / part).mkdir(parents=True, exist_ok=True)
    for path in COURSEWORK.glob("*.py"):
        shutil.copy(path, into)
    kept = into / "outline.json"
    outlines = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for name in names:
        shutil.rmtree(into / "source" / name, ignore_errors=True)
        shutil.copytree(folder / name, into / "source" / name, ignore=LEFT_OUT)
        (into / "source" / name / COMMON.name).write_text(common(seed), encoding="utf-8")
        nb = locked(seeded(read(name, folder), seed))
        checks = [path.read_text(encoding="utf-8") for path in (folder / name).glob("checks_*.py")]
        outlines[name] = outline(nb, "\n".join(checks))
        write(nb, into / "source" / name / f"{name}.ipynb")
    kept.write_text(json.dumps(outlines, indent=1), encoding="utf-8")
    run(["python", "-c", GENERATE, *names], into)


def solved(nb):
    """Give the notebook with its solutions, outputs and hidden tests, and no markers."""
    nb = deepcopy(nb)
    for cell in nb.cells:
        cell.source = MARKER.sub("", cell.source).rstrip("\n")
        cell.metadata.pop("nbgrader", None)
    return nb


def for_students(nb):
    """Give the notebook as students get it: no solutions, no hidden tests, no outputs."""
    nb = deepcopy(nb)
    for cell in nb.cells:
        if kind(cell) == "manual":
            cell.source = "YOUR ANSWER HERE"
        cell.source = HIDDEN.sub("", SOLUTION.sub(r"\1# YOUR CODE HERE\n\1" + STUB, cell.source))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
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
                f"{indent}{STUB}",
                f'{indent}""" # END PROMPT',
            ]
        )

    return SOLUTION.sub(block, source)


def used_names(source: str, given: set[str]) -> list[str]:
    """Name what a test takes from the notebook: all that it reads, in whatever depth, and neither
    makes itself nor finds among the builtins."""
    body = textwrap.indent(source, "    ")
    (function,) = symtable.symtable(f"def test():\n{body}", "test", "exec").get_children()
    own = {one.get_name() for one in function.get_symbols() if one.is_referenced()}
    scopes, names = [function], own & given
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        names |= {one.get_name() for one in scope.get_symbols() if one.is_global()}
    return sorted(names - set(dir(builtins)))


def otter_test(source: str, hidden: bool, given: set[str]) -> str:
    """Write a test as a function, which otter calls with what it names of the notebook: then
    nothing depends on what is printed."""
    body = source if source.strip() else "pass"
    return "\n".join(
        [
            f'""" # BEGIN TEST CONFIG\nhidden: {str(hidden).lower()}\n""" # END TEST CONFIG',
            f"def test_{'hidden' if hidden else 'seen'}({', '.join(used_names(body, given))}):",
            textwrap.indent(body, "    "),
        ]
    )


FRESH = """import hashlib, sys, types
from pathlib import Path
for file, digest in {digests}.items():
    text = Path(file).read_bytes()
    if hashlib.sha256(text).hexdigest() != digest:
        raise AssertionError(f"{{file}} is not the file that was handed out")
    module = types.ModuleType(file[:-3])
    module.__file__ = str(Path(file).resolve())
    sys.modules[file[:-3]] = module
    exec(compile(text, file, "exec"), vars(module))
if "guard" in sys.modules and (replaced := sys.modules["guard"].replaced()):
    raise AssertionError(f"replaced by the notebook: {{replaced}}")
checks = module
"""


def otter_tests(cell, given: set[str], digests: dict[str, str]) -> list:
    """Split a test cell into the part that students see, and all of it, with the checks loaded
    anew, for grading."""
    seen, all_of_it = HIDDEN.sub("", cell.source).strip("\n"), MARKER.sub("", cell.source)
    parts = [(seen, False)] if ast.parse(seen).body else []
    parts.append((FRESH.format(digests=digests) + all_of_it, True))
    made = []
    for source, is_hidden in parts:
        made.append(deepcopy(cell))
        made[-1].source = otter_test(source, is_hidden, given - {"checks"} if is_hidden else given)
        made[-1].outputs = []
        if is_hidden:
            made[-1].id = f"{cell.id}-hidden"
    return made


def otter_form(nb, name: str, files: list[str], digests: dict[str, str] | None = None):
    """Turn an nbgrader source into an otter source: the same cells, each answer with its tests a
    question."""
    nb = deepcopy(nb)
    cells = [
        boundary(
            "ASSIGNMENT CONFIG",
            name=name,
            files=files,
            autograder_files=["guard.py"],
            requirements="requirements.txt",
            export_cell={"pdf": False},
            generate={"seed": 0},
            tests={"ok_format": False},
        )
    ]
    bound = [cell.source for cell in nb.cells if cell.cell_type == "code" and kind(cell) != "test"]
    given = set().union(*map(names_bound, bound))
    waiting = []  # cells from an answer to its tests
    for cell in nb.cells:
        what, says = kind(cell), cell.metadata.pop("nbgrader", {})
        if what in ("answer", "manual"):
            cell.source = otter_answer(cell.source)
            waiting += [boundary("BEGIN SOLUTION"), cell, boundary("END SOLUTION")]
        elif what == "test":
            tests = otter_tests(cell, given, digests or {})
            waiting += [boundary("BEGIN TESTS"), *tests, boundary("END TESTS")]
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


def otter(name: str, into: Path, folder: Path = ASSIGNMENTS, seed: int = 0) -> Path:
    """Write the otter form of an assignment and let otter make the student's and the grader's part
    of it."""
    place = into / "otter" / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / name, place, ignore=LEFT_OUT)
    (place / COMMON.name).write_text(common(seed), encoding="utf-8")
    files = sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.is_file() and path.suffix != ".ipynb"
    )
    (place / "requirements.txt").write_text("purification-nb\n", encoding="utf-8")
    shutil.copy(COURSEWORK / "guard.py", place)
    checks = sorted((path for path in files if path.startswith("checks_")), reverse=True)
    digests = {
        path: hashlib.sha256((place / path).read_bytes()).hexdigest()
        for path in ["guard.py", *checks]
    }
    form = otter_form(seeded(read(name, folder), seed), name, files, digests)
    write(form, place / f"{name}.ipynb")
    run(["otter", "assign", f"{name}.ipynb", "dist"], place)
    return place / "dist"


def build(names: list[str], into: Path, with_otter: bool = True, seed: int = 0) -> None:
    """Build everything for these assignments."""
    release(names, into, seed=seed)
    for name in names:
        nb = solved(seeded(read(name), seed))
        write(nb, into / "solutions" / name / f"{name}.ipynb")
        for path in (ASSIGNMENTS / name).glob("*.py"):
            shutil.copy(path, into / "solutions" / name)
        (into / "solutions" / name / COMMON.name).write_text(common(seed), encoding="utf-8")
        if with_otter:
            otter(name, into, seed=seed)
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
    parser.add_argument(
        "--seed", type=int, default=0, help="data and hidden cases follow from it; a new one a year"
    )
    args = parser.parse_args()
    there = assignments()
    if unknown := set(args.names) - set(there):
        sys.exit(
            f"there is no assignment called {', '.join(sorted(unknown))}; there are"
            f" {', '.join(there)}"
        )
    try:
        build(args.names or there, args.into.resolve(), not args.no_otter, args.seed)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"{os.path.relpath(args.into)}: {', '.join(args.names or there)}")


if __name__ == "__main__":
    main()
