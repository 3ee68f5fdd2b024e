"""What the tests of the coursework share: filling in a released notebook as students do, and having
a class of them graded by the one command that teachers use."""

import csv
import os
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import course
import nbformat
import pytest

# whoever imports this grades with nbgrader, and is skipped where it is not installed
pytest.importorskip(
    "nbgrader", reason='nbgrader is not installed: pip install "purification_nb[course]"'
)

MORE = ["purification_nb.targets", "purification_nb.evaluation", "purification_nb.splits"]
HERE = Path(__file__).resolve().parent / "assignments"
sys.path.append(str(HERE))
from in_process import rows_of  # noqa: E402 - it lies in the folder named above


def following(name: str) -> dict[str, dict[str, float]]:
    """Give, of each answer, the points of the tests that follow it."""
    found: dict[str, dict[str, float]] = {}
    for cell in course.read(name).cells:
        says = cell.metadata.get("nbgrader", {})
        if course.kind(cell) == "answer":
            found[says.grade_id] = {}
        elif course.kind(cell) == "test":
            found[list(found)[-1]][says.grade_id] = says.points
    return found


def points(name: str) -> dict[str, float]:
    """Give the points of each test."""
    return {test: of for tests in following(name).values() for test, of in tests.items()}


def answers(name: str) -> dict[str, str]:
    """Give the answers of the source."""
    cells = [cell for cell in course.read(name).cells if course.kind(cell) == "answer"]
    return {cell.metadata.nbgrader.grade_id: course.MARKER.sub("", cell.source) for cell in cells}


def packed(name: str) -> dict[str, tuple[dict, dict]]:
    """Pack all submissions of an assignment into as few notebooks as hold them, one for each
    answer: (answers, points that each test must give)."""
    right, tests, made = answers(name), following(name), {}
    rows: dict[str, list] = {answer: [] for answer in right}
    for row in rows_of(name):
        rows[row.answer].append(row)
    for number in range(max(map(len, rows.values()))):
        written, due = dict(right), points(name)
        for answer, submitted in rows.items():
            if number < len(submitted):
                written[answer] = submitted[number].code
                due |= {test: 0 for test in tests[answer] if test in submitted[number].loses}
        made[f"row{number:02}"] = written, due
    return made


def filled(released, written: dict[str, str]):
    """Write answers into a released notebook, as a student would."""
    nb = deepcopy(released)
    for cell in nb.cells:
        if (name := cell.metadata.get("nbgrader", {}).get("grade_id")) in written:
            cell.source = written[name]
    return nb


def built(tree: Path, name: str):
    """Build the course of one assignment, with kernels that start quickly; give the release."""
    course.release([name], tree)
    with open(tree / "nbgrader_config.py", "a", encoding="utf-8") as config:
        config.write(
            f"sys.path.append({str(HERE)!r})\nimport warm\n\nwarm.HEAVY += {MORE}\n"
            "warm.use_warm_kernels()\n"
            "c.GuardedExecute.timeout, c.GuardedExecute.total = 600, 1500\n"
        )
    return nbformat.read(tree / "release" / name / f"{name}.ipynb", as_version=4)


def archive(tree: Path, name: str, student: str, nb, as_zip: bool = True) -> None:
    """Lay down what a learning platform gives for a student."""
    into = tree / "downloaded" / name / "archive"
    into.mkdir(parents=True, exist_ok=True)
    if as_zip:
        with zipfile.ZipFile(into / f"{student}_2026-11-28.zip", "w") as file:
            file.writestr(f"homework/{name}.ipynb", nbformat.writes(nb))
            file.writestr("homework/checks_01.py", "raise SystemExit")
    else:
        nbformat.write(nb, into / f"{student}_last try_{name} (1).ipynb")


def submitted(tree: Path, name: str, student: str, nb, files: dict[str, str] | None = None) -> None:
    """Put a submission where nbgrader wants it, with files beside it."""
    folder = tree / "submitted" / student / name
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / f"{name}.ipynb")
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def graded(tree: Path, name: str) -> SimpleNamespace:
    """Run the one command from archives to grades: the table's rows by student, what was said."""
    done = subprocess.run(
        [sys.executable, tree / "grade.py", name, "--here"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    with open(tree / "grades.csv", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    return SimpleNamespace(tree=tree, rows=rows, said=done.stdout)


def by_test(tree: Path, name: str, student: str) -> dict[str, float]:
    """Read a student's points from nbgrader's own book."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{tree}/gradebook.db", "purification_nb") as book:
        grades = book.find_submission_notebook(name, name, student).grades
        return {one.name: one.score for one in grades if one.cell.cell_type == "code"}


def complaining(tree: Path, name: str, student: str) -> set[str]:
    """Name the kinds of the cells of a graded notebook that ended with an error."""
    path = tree / "autograded" / student / name / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    errors = [c for c in cells if any(o.output_type == "error" for o in c.get("outputs", []))]
    return {course.kind(cell) for cell in errors}
