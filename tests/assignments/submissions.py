"""What students might hand in, and what nbgrader makes of it.

    python tests/assignments/submissions.py 01_who_was_in_the_training_set     grade its submissions
    and show the points

Each assignment has a file here with its name and a dictionary SUBMISSIONS; the solution and the
untouched stub are added to it.
"""

import importlib.util
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


def submissions(name: str) -> dict[str, Submission]:
    """Give an assignment's submissions by student."""
    spec = importlib.util.spec_from_file_location(f"submissions_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    points = {
        cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
        for cell in course.read(name).cells
        if course.kind(cell) == "test"
    }
    return {
        "solution": Submission(solutions(name)),
        "stub": Submission({}, points, r"is not written yet|NotImplementedError"),
        **module.SUBMISSIONS,
    }


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
