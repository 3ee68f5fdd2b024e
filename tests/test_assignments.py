"""The coursework is graded for real: nbgrader and otter give right answers their points, and take
from wrong ones exactly what they should lose. One assignment is graded in `test_grading.py`; all of
them with --slow."""

import ast
import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from urllib.request import urlopen

import course
import nbformat
import notebooks
import pytest
import warm
from assignments_graded import (
    MORE,
    answers,
    built,
    by_test,
    complaining,
    filled,
    following,
    graded,
    packed,
    points,
    submitted,
)

ROOT = Path(__file__).resolve().parents[1]
NAMES = course.assignments()
each_assignment = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.xdist_group("coursework")


@pytest.fixture
def slow(request):
    """Skip what takes minutes, unless it is asked for."""
    if not request.config.getoption("--slow"):
        pytest.skip("minutes for each assignment: make test-slow")


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
def test_nbgrader_gives_each_submission_what_it_should(name, slow, tmp_path):
    released = built(tmp_path, name)
    due = {student: points for student, (_, points) in packed(name).items()}
    for student, (written, _) in packed(name).items():
        submitted(tmp_path, name, student, filled(released, written))
    submitted(tmp_path, name, "stub", released)
    submitted(tmp_path, name, "right", filled(released, answers(name)))
    due |= {"stub": dict.fromkeys(points(name), 0), "right": points(name)}
    done = graded(tmp_path, name)
    assert {student: by_test(tmp_path, name, student) for student in due} == due
    assert complaining(tmp_path, name, "stub") == {"test"}
    assert complaining(tmp_path, name, "right") == set()
    assert {row["state"] for row in done.rows.values()} == {"graded"}


@each_assignment
def test_each_answer_has_submissions_that_lose_and_every_test_catches_something(name):
    caught = {test for _, due in packed(name).values() for test, given in due.items() if not given}
    assert caught == set(points(name))
    assert all(following(name).values())


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
    for cell in code(form):
        ast.parse(cell.source)
    wanted = [line.strip() for cell in source.cells for line in cell.source.splitlines()]
    wanted = {line for line in wanted if line and not line.startswith("### ")}
    assert wanted - {line.strip() for line in text.splitlines()} == set()


@pytest.fixture(scope="module")
def otter_of(tmp_path_factory):
    """Let otter make its form of an assignment, which runs the solution on all tests."""
    pytest.importorskip("otter", reason="otter-grader is not installed")
    made = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = course.otter(name, tmp_path_factory.mktemp("otter"))
        return made[name]

    return make


def by_otter(form: Path, name: str, written: dict[str, str], folder: Path) -> dict[str, float]:
    """Let otter grade answers: the points of each question."""
    from otter.api import grade_submission

    nb, stubs = nbformat.read(form / "student" / f"{name}.ipynb", as_version=4), {}
    for cell in course.for_students(course.read(name)).cells:
        if course.kind(cell) == "answer":
            stubs[cell.source.strip()] = cell.metadata.nbgrader.grade_id
    found = [cell for cell in nb.cells if cell.source.strip() in stubs]
    assert len(found) == len(stubs)
    for cell in found:
        cell.source = written[stubs[cell.source.strip()]]
    path = folder / f"{name}.ipynb"
    nbformat.write(nb, path)
    (archive,) = (form / "autograder").glob("*.zip")
    results = grade_submission(str(path), str(archive), quiet=True)
    return {test: results.get_score(test) for test in points(name)}


def test_otter_assign_passes_and_gives_nothing_away(otter_of):
    name = NAMES[0]
    made = otter_of(name)
    student = (made / "student" / f"{name}.ipynb").read_text()
    assert (
        "raise NotImplementedError()" in student
        and "checks.split_by_person(split_by_person)" in student
    )
    assert "hidden_" not in student and "people = np.random" not in student
    assert {path.name for path in (made / "student").iterdir()} == {
        f"{name}.ipynb",
        "checks_01.py",
        "checks_common.py",
    }
    (archive,) = (made / "autograder").glob("*.zip")
    assert "def test_hidden" in "".join(
        zipfile.ZipFile(archive).read(one).decode()
        for one in zipfile.ZipFile(archive).namelist()
        if one.startswith("tests/")
    )


PATCHES = """
import sys
for module in (sys.modules["checks_01"], sys.modules["checks_common"]):
    for found, one in list(vars(module).items()):
        if callable(one): setattr(module, found, lambda *_, **__: True)
np.isclose = np.allclose = all = abs = lambda *_, **__: True
print("a printed line costs nothing")
"""


def test_otter_gives_printed_lines_no_meaning_and_patches_nothing(otter_of, tmp_path):
    name, right = NAMES[0], answers(NAMES[0])
    first, *others = right
    wrong = {answer: f"def {answer}(*_, **__):\n    return 0\n" for answer in others}
    given = by_otter(otter_of(name), name, {first: PATCHES + right[first]} | wrong, tmp_path)
    assert given == dict.fromkeys(points(name), 0)


REPLACES = re.compile(r"^(np|torch|builtins)\.\w+( = \w+\.\w+)* = ", re.M)


def due_by_otter(name: str, written: dict[str, str], due: dict[str, float]) -> dict[str, float]:
    """Give the points due with otter, where nobody puts back what an answer replaced in a library:
    from then on no test counts."""
    due, tests = dict(due), following(name)
    places = [place for place, answer in enumerate(tests) if REPLACES.search(written[answer])]
    for answer in list(tests)[places[0] :] if places else []:
        due |= dict.fromkeys(tests[answer], 0)
    return due


def test_what_an_answer_replaces_in_a_library_costs_all_later_points_with_otter():
    name, right = NAMES[0], answers(NAMES[0])
    first, second, *_ = right
    written = right | {second: f"np.isclose = np.allclose = lambda *_: True\n{right[second]}"}
    assert due_by_otter(name, right, points(name)) == points(name)
    due = due_by_otter(name, written, points(name))
    kept = following(name)[first]
    assert due == dict.fromkeys(points(name), 0) | kept and sum(kept.values()) == 10


@each_assignment
def test_otter_gives_each_submission_what_it_should(name, slow, otter_of, tmp_path):
    warm.HEAVY += MORE
    warm.use_warm_kernels()  # imports are most of what a graded notebook takes
    due = {
        student: due_by_otter(name, written, points)
        for student, (written, points) in packed(name).items()
    }
    assert {
        student: by_otter(otter_of(name), name, written, tmp_path)
        for student, (written, _) in packed(name).items()
    } == due


def test_building_again_keeps_what_students_handed_in(slow, tmp_path):
    built(tmp_path, NAMES[0])
    kept = [tmp_path / part / "ann" / NAMES[0] / "x.ipynb" for part in ("submitted", "autograded")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    course.release([NAMES[0]], tmp_path)
    assert [path.read_text() for path in kept] == ["{}", "{}"]


def test_another_seed_is_solved_too(slow, tmp_path):
    """What a course seed changes, the solution does not stumble over."""
    name = NAMES[0]
    course.release([name], tmp_path, seed=2027)
    released = nbformat.read(tmp_path / "release" / name / f"{name}.ipynb", as_version=4)
    assert "digit_pairs(seed=2027)" in "".join(cell.source for cell in released.cells)
    submitted(tmp_path, name, "right", filled(released, answers(name)))
    graded(tmp_path, name)
    assert by_test(tmp_path, name, "right") == points(name)


def answers_over_http(port: int) -> bool:
    """Say whether the formgrader is there."""
    try:
        return urlopen(f"http://127.0.0.1:{port}/formgrader/gradebook").status == 200
    except OSError:
        return False


@pytest.fixture
def formgrader(slow, tmp_path):
    """Grade an essay and a stub of the cells that people mark, and open nbgrader's own page."""
    name = NAMES[3]
    nb = course.read(name)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "markdown"][-4:]
    course.write(nb, tmp_path / "cut" / name / f"{name}.ipynb")
    tree = tmp_path / "course"
    course.release([name], tree, tmp_path / "cut")
    released = nbformat.read(tree / "release" / name / f"{name}.ipynb", as_version=4)
    (manual,) = [cell for cell in released.cells if course.kind(cell) == "manual"]
    essay = {manual.metadata.nbgrader.grade_id: "It falls from 0.67 to 0.60."}
    submitted(tree, name, "ann", filled(released, essay))
    submitted(tree, name, "stub", released)
    rows = graded(tree, name).rows
    assert rows["ann"]["state"] == "to be marked by hand" and rows["stub"]["state"] == "graded"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--ServerApp.token=", "--ServerApp.password="]
    extensions = "{'nbgrader.server_extensions.formgrader': True}"
    command += [f"--ServerApp.jpserver_extensions={extensions}"]
    env = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    server = subprocess.Popen(command, cwd=tree, env=env, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 90
        while not answers_over_http(port) and time.monotonic() < end:
            time.sleep(0.5)
        yield tree, name, f"http://127.0.0.1:{port}/formgrader/gradebook/{name}/{name}"
    finally:
        server.terminate()
        server.wait()


def test_a_person_marks_an_essay_in_the_formgrader(formgrader):
    if not (chromium := shutil.which("chromium")):
        pytest.skip("no Chromium here: apt-get install chromium")
    driver_of = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    tree, name, address = formgrader
    with driver_of.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = window.new_page()
        page.goto(address)
        link = page.locator('table a:text-is("ann")').first
        link.wait_for(state="attached")
        page.goto("http://" + address.split("/")[2] + link.get_attribute("href"))
        for field, text in (("input.score", "7"), ("textarea.comment", "Which attack?")):
            box = page.locator(field).last
            box.fill(text)
            with page.expect_response(lambda got: "/api/" in got.url and got.ok):
                box.press("Tab")
        page.goto(address)
        page.wait_for_selector("text=7 / 10")
        window.close()
    course.run(["nbgrader", "export", "--to=marked.csv"], tree)
    with open(tree / "marked.csv", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert float(rows["ann"]["score"]) == 7 and rows["ann"]["state"] == "graded"


def test_an_unknown_assignment_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / "dev" / "course.py", "06_nothing"], text=True, capture_output=True
    )
    assert done.returncode == 1 and "no assignment called 06_nothing" in done.stderr
