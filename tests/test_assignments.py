"""The coursework is graded for real: nbgrader gives full points to right answers, and takes from
wrong ones exactly what they should lose."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import nbformat
import notebooks
import pytest

pytest.importorskip(
    "nbgrader", reason='nbgrader is not installed: pip install "purification_nb[course]"'
)
ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent / "assignments"
sys.path.insert(0, str(HERE))
import course  # noqa: E402
import submissions as handed_in  # noqa: E402

NAMES = course.assignments()
each_assignment = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.xdist_group("coursework")  # one worker grades, two assignments at a time
MARKS = ("BEGIN SOLUTION", "HIDDEN TESTS")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Begin to grade all assignments, two at a time, and give a function that waits for one: (its
    course tree, result)."""
    course_trees = tmp_path_factory.mktemp(
        "course"
    )  # before the threads: two that make pytest's first folder at once trip over each other

    def grade(name):
        tree = course_trees / name
        tree.mkdir()
        done = subprocess.run(
            [sys.executable, HERE / "submissions.py", name, tree],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (tree / "result.json").exists(), done.stdout
        return tree, json.loads((tree / "result.json").read_text())

    with ThreadPoolExecutor(2) as pool:
        jobs = {name: pool.submit(grade, name) for name in NAMES}
        yield lambda name: jobs[name].result()


def code(nb) -> list:
    """List a notebook's code cells."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def test_there_are_assignments():
    assert NAMES[:3] == [
        "01_who_was_in_the_training_set",
        "02_learning_to_tell",
        "03_reading_the_answer_back",
    ]


@each_assignment
def test_points_are_lost_exactly_where_they_should(name, graded):
    _, result = graded(name)
    assert handed_in.complaints(name, result["students"]) == []


@each_assignment
def test_there_is_another_right_answer_and_three_wrong_ones_and_every_test_catches_something(name):
    handed = handed_in.submissions(name)
    right, wrong = (
        [
            student
            for student, one in handed.items()
            if bool(one.lost) is lost and student not in ("solution", "stub")
        ]
        for lost in (False, True)
    )
    assert right and len(wrong) >= 3
    caught = set().union(*(handed[student].lost for student in wrong))
    assert caught == set(handed["stub"].lost)


@each_assignment
def test_an_untouched_stub_crashes_nothing(name, graded):
    tree, result = graded(name)
    assert set(result["students"]["stub"]["points"].values()) == {0}
    complaining = [
        cell.metadata.get("nbgrader", {}).get("grade", False)
        for cell in code(
            nbformat.read(tree / "autograded" / "stub" / name / f"{name}.ipynb", as_version=4)
        )
        if any(out.output_type == "error" for out in cell.outputs)
    ]
    assert complaining and all(complaining), (
        "a cell that is not a test ends with an error on the untouched stub"
    )


@each_assignment
def test_the_solution_runs_without_an_error_from_top_to_bottom(name, graded):
    tree, _ = graded(name)
    for student in ("solution", "another_way"):
        cells = code(
            nbformat.read(tree / "autograded" / student / name / f"{name}.ipynb", as_version=4)
        )
        assert [
            cell.source for cell in cells if any(out.output_type == "error" for out in cell.outputs)
        ] == []


@each_assignment
def test_the_release_gives_nothing_away_and_compiles(name, graded):
    tree, _ = graded(name)
    released = nbformat.read(tree / "release" / name / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in released.cells)
    assert not any(mark in text for mark in MARKS)
    source = course.read(name)
    hidden = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.S)
    told = "\n".join(
        hidden.sub("", cell.source) for cell in source.cells if course.kind(cell) != "manual"
    )  # a task may hand over a line of its own solution
    secrets = [
        line.strip()
        for cell in source.cells
        for block in hidden.findall(cell.source)
        for line in block.splitlines()
        if len(line.strip()) > 25 and line.strip() not in told
    ]
    secrets += [
        line.strip()
        for cell in source.cells
        if course.kind(cell) == "manual"
        for line in cell.source.splitlines()
        if len(line.strip()) > 25
    ]
    assert len(secrets) > 10 and [line for line in secrets if line in text] == []
    for cell in code(released):
        assert cell.outputs == []
        ast.parse(cell.source)
        if course.kind(cell) == "answer":
            assert "raise NotImplementedError()" in cell.source
    assert {path.name for path in (tree / "release" / name).iterdir()} == {
        path.name
        for path in [course.COMMON, *(course.ASSIGNMENTS / name).iterdir()]
        if not path.name.startswith((".", "__"))
    }


@each_assignment
def test_ids_are_unique_and_points_stand_where_nbgrader_wants_them(name):
    cells = [cell for cell in course.read(name).cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len(ids) == len(set(ids))
    assert all(
        ("points" in cell.metadata.nbgrader) is cell.metadata.nbgrader.grade for cell in cells
    )
    assert all(
        "### BEGIN SOLUTION" in cell.source for cell in cells if course.kind(cell) == "answer"
    )
    assert all(
        "### BEGIN HIDDEN TESTS" in cell.source and cell.metadata.nbgrader.locked
        for cell in cells
        if course.kind(cell) == "test"
    )
    assert all(
        source.count("### BEGIN") == source.count("### END")
        for source in (cell.source for cell in cells)
    )


@each_assignment
def test_each_exercise_has_difficulty_minutes_hints_and_two_mistakes(name):
    sections = re.split(
        r"^## (?=\d)", "\n\n".join(cell.source for cell in course.read(name).cells), flags=re.M
    )[1:]
    assert len(sections) >= 3
    for section in sections:
        assert (
            re.search(r"[●○]{3,}", section)
            and re.search(r"\d+ minutes", section)
            and re.search(r"\d+ points", section)
        ), section.splitlines()[0]
        assert re.search(r"<summary>.*[Hh]int", section) and re.search(
            r"<summary>.*([Mm]istakes|see this error)", section
        ), section.splitlines()[0]
        assert section.count("<details>") == section.count("</details>")


@each_assignment
def test_no_widgets(name):
    nb = course.read(name)
    assert not re.search(
        r"ipywidgets|\binteract\b|tqdm\.notebook", "\n".join(cell.source for cell in code(nb))
    )
    assert not any(
        notebooks.WIDGET in out.get("data", {}) for cell in code(nb) for out in cell.outputs
    )


@each_assignment
def test_nbdev_clean_keeps_what_nbgrader_needs(name):
    nb = course.read(name)
    kept = nbformat.reads(notebooks.cleaned(nb), as_version=4)
    needed = [cell.metadata.get("nbgrader") for cell in nb.cells]
    assert any(needed) and [cell.metadata.get("nbgrader") for cell in kept.cells] == needed


@each_assignment
def test_the_otter_form_has_every_cell_and_no_marker_of_nbgrader(name):
    source = course.read(name)
    form = course.otter_form(source, name, [])
    text = "\n".join(cell.source for cell in form.cells)
    assert not any(f"### BEGIN {mark}" in text for mark in ("SOLUTION", "HIDDEN TESTS"))
    raw = [cell.source for cell in form.cells if cell.cell_type == "raw"]
    graded_cells = [cell for cell in source.cells if course.kind(cell) in ("test", "manual")]
    assert (
        sum(cell.startswith("# BEGIN QUESTION") for cell in raw)
        == sum(cell.startswith("# END QUESTION") for cell in raw)
        == len(graded_cells)
    )

    def lines(nb):
        return [
            line
            for cell in nb.cells
            if cell.cell_type != "raw"
            for line in cell.source.splitlines()
            if line.strip()
            and not re.match(
                r"\s*(###|#) (BEGIN|END)|hidden: |\"\"\" #|\s*(# YOUR CODE HERE|raise"
                r" NotImplementedError\(\)|\"\"\" # (BEGIN|END) PROMPT)",
                line,
            )
        ]

    assert sorted(lines(form)) == sorted(lines(source))


def test_otter_assign_passes_and_gives_nothing_away(tmp_path):
    name = NAMES[0]
    made = course.otter(name, tmp_path)
    student = (made / "student" / f"{name}.ipynb").read_text()
    assert (
        "raise NotImplementedError()" in student
        and "checks.split_by_person(split_by_person)" in student
    )
    assert "hidden_" not in student and "people = np.random" not in student
    (archive,) = (made / "autograder").glob("*.zip")
    assert "hidden_" in "".join(
        zipfile.ZipFile(archive).read(one).decode()
        for one in zipfile.ZipFile(archive).namelist()
        if one.startswith("tests/")
    )


def test_building_again_keeps_what_students_handed_in(graded):
    tree, _ = graded(NAMES[0])
    before = {
        path: path.read_bytes()
        for part in ("submitted", "autograded")
        for path in (tree / part).rglob("*.ipynb")
    }
    course.release([NAMES[0]], tree)
    assert before and before == {
        path: path.read_bytes()
        for part in ("submitted", "autograded")
        for path in (tree / part).rglob("*.ipynb")
    }


def test_a_wrong_grade_and_a_silent_check_would_be_noticed(graded):
    name = NAMES[0]
    _, result = graded(name)
    found = deepcopy(result["students"])
    found["solution"]["points"]["test_gap_attack"] = 0
    found["flipped"]["points"]["test_gap_attack"] = 10
    found["never_shuffled"]["said"] = ""
    assert [wrong.split()[:2] for wrong in handed_in.complaints(name, found)] == [
        ["solution", "lost"],
        ["nobody", "told"],
        ["flipped", "lost"],
    ]


def test_an_unknown_assignment_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / "dev" / "course.py", "06_nothing"], text=True, capture_output=True
    )
    assert done.returncode == 1 and "no assignment called 06_nothing" in done.stderr
