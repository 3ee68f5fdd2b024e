"""What students might hand in, and what nbgrader makes of it.

    python tests/assignments/submissions.py 01_who_was_in_the_training_set     grade its submissions
    and show the points

Each assignment has a file here with its name, which `in_process.py` reads; the solution and the
untouched stub are added to what it holds.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "dev")]
import course  # noqa: E402
import in_process  # noqa: E402

STUB = r"is not written yet|NotImplementedError"


@dataclass(frozen=True)
class Submission:
    """Answers that differ from the solution, the points they must lose, and what the checks must
    say."""

    answers: dict  # grade_id of an answer -> its source
    lost: dict = field(
        default_factory=dict
    )  # grade_id of a test -> points lost; none: a correct answer
    says: (
        str | tuple
    ) = ()  # patterns found in what the cells said, and not in what they say to the solution


def submissions(name: str, every: bool = False) -> dict[str, Submission]:
    """Give an assignment's submissions by student, the answers of `in_process.rows_of` put together
    so that a student has one to each exercise; only as many wrong ones as each test needs to be
    failed by one of them, or all."""
    rows = [row for row in in_process.rows_of(name) if row.title != in_process.OWN]
    points = {test: n for tests in in_process.tests_of(name).values() for test, n in tests.items()}
    packed: dict[str, list] = {}
    for row in rows:
        if row.title == "untouched stub":
            continue
        alone = row.kind == "dishonest"  # it may spoil what comes after it
        number = sum(
            one.answer == row.answer and one.kind == row.kind for one in _before(row, rows)
        )
        student = row.title.replace(" ", "_") if alone else f"{row.kind}_{number + 1}"
        packed.setdefault(student, []).append(row)
    found = {"solution": Submission(solutions(name)), "stub": Submission({}, points, STUB)}
    caught: set = set()
    for student, several in sorted(packed.items(), key=lambda one: one[1][0].kind):
        lost = {test: points[test] for row in several for test in row.loses}
        kind = several[0].kind
        if every or student == "right_1" or (kind == "wrong" and not set(lost) <= caught):
            caught |= set(lost)
            says = tuple(row.says for row in several if row.says)
            answers = {row.answer: row.code for row in several}
            found["another_way" if student == "right_1" else student] = Submission(
                answers, lost, says
            )
    return found


def _before(row, rows: list) -> list:
    """The submissions that stand before one."""
    return rows[: rows.index(row)]


def solutions(name: str) -> dict[str, str]:
    """Give the answers of the source, by grade_id."""
    return {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in course.read(name).cells
        if course.kind(cell) == "answer"
    }


def hand_in(released: Path, answers: dict, into: Path) -> None:
    """Copy a released assignment with the answers filled in, as a student would."""
    shutil.copytree(released, into)
    path = into / f"{released.name}.ipynb"
    nb = nbformat.read(path, as_version=4)
    left = dict(answers)
    for cell in nb.cells:
        if (grade_id := cell.metadata.get("nbgrader", {}).get("grade_id")) in left:
            cell.source = left.pop(grade_id)
    if left:
        raise KeyError(f"{released.name} has no answer called {', '.join(left)}")
    nbformat.write(nb, path)


def said(path: Path) -> str:
    """Give all that the cells of a graded notebook printed or complained of."""
    outs = [
        out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])
    ]
    return "\n".join(str(out.get("text", "")) + out.get("evalue", "") for out in outs)


def grade(name: str, tree: Path) -> dict:
    """Release an assignment, hand in every submission, let nbgrader grade them: {student:
    {"points", "of", "manual", "said"}}, and seconds."""
    from nbgrader.api import Gradebook

    start = time.perf_counter()
    course.release([name], tree)
    with open(tree / "nbgrader_config.py", "a", encoding="utf-8") as config:
        config.write(
            f"import sys; sys.path.append({str(HERE)!r})\nimport warm; warm.use_warm_kernels()\n"
        )
    handed = submissions(name)
    right = handed["solution"].answers
    for student, submission in handed.items():
        answers = submission.answers if student == "stub" else {**right, **submission.answers}
        hand_in(tree / "release" / name, answers, tree / "submitted" / student / name)
    log = course.run(["nbgrader", "autograde", name], tree)
    found = {}
    with Gradebook(f"sqlite:///{tree}/gradebook.db", "purification_nb") as book:
        for student in handed:
            grades = book.find_submission_notebook(name, name, student).grades
            tests = [
                one for one in grades if one.cell.cell_type == "code" and one.auto_score is not None
            ]
            found[student] = {
                "points": {one.name: one.score for one in tests},
                "of": {one.name: one.max_score for one in tests},
                "manual": [one.name for one in grades if one.needs_manual_grade],
                "said": said(tree / "autograded" / student / name / f"{name}.ipynb"),
            }
    return {"students": found, "seconds": time.perf_counter() - start, "log": log}


def complaints(name: str, found: dict) -> list[str]:
    """Say where the points, or what was said, are not what each submission asks for."""
    wrong, pleased = [], found["solution"]["said"]
    for student, submission in submissions(name).items():
        got = found[student]
        lost = {
            test: got["of"][test] - points
            for test, points in got["points"].items()
            if points < got["of"][test]
        }
        if lost != submission.lost:
            wrong.append(f"{student} lost {lost}, and should lose {submission.lost}")
        for pattern in [submission.says] if isinstance(submission.says, str) else submission.says:
            if not re.search(pattern, got["said"]):
                wrong.append(f"nobody told {student}: {pattern}")
            if re.search(pattern, pleased):
                wrong.append(f"the solution is told what {student} is told: {pattern}")
    return wrong


def main(name: str, into: str = None) -> int:
    """Grade one assignment; with a folder, leave result.json there."""
    with tempfile.TemporaryDirectory() as folder:
        result = grade(name, Path(into or folder).resolve())
    if into:
        (Path(into) / "result.json").write_text(json.dumps(result))
    for student, got in result["students"].items():
        print(
            f"{student:24} {sum(got['points'].values()):4g} of {sum(got['of'].values()):g}",
            {test: points for test, points in got["points"].items() if points < got["of"][test]}
            or "",
        )
    print(f"{result['seconds']:.0f} s")
    wrong = complaints(name, result["students"])
    print("\n".join(wrong) or "as it should be", file=sys.stderr if wrong else sys.stdout)
    return bool(wrong)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.modules["submissions"] = sys.modules["__main__"]
    sys.exit(main(*sys.argv[1:]))
