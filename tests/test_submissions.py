"""What students might hand in, right, wrong and dishonest, gets the points that it should: each
submission in a fork of one process that runs the notebook once, without a kernel."""

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason='nbformat is not installed: pip install -e ".[dev]"')
HERE = Path(__file__).parent / "assignments"
sys.path.insert(0, str(HERE))
import course  # noqa: E402
import in_process  # noqa: E402

NAMES = course.assignments()
each_assignment = pytest.mark.parametrize("name", NAMES)
pytestmark = [
    pytest.mark.xdist_group("submissions"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]
POINTS = {"01": 60, "02": 50, "03": 60, "04": 70, "05": 70}
UNUSUAL = {"right": 25, "wrong": 60}  # there are more


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What every submission got: (row, given)."""
    table = in_process.table_of("in_process.py", tmp_path_factory.mktemp("submissions"))
    return [
        (in_process.Row(**{**row, "loses": tuple(row["loses"])}), in_process.Given(**given))
        for row, given in table
    ]


@each_assignment
def test_every_submission_gets_the_points_that_it_should(name, found):
    mine = [one for one in found if one[0].assignment == name]
    assert len(mine) == len(in_process.rows_of(name)) and in_process.wrong_of(mine) == []


def test_there_are_enough_of_both_kinds():
    rows = [row for name in NAMES for row in in_process.rows_of(name)]
    rows = [row for row in rows if row.title not in (in_process.OWN, "untouched stub")]
    kinds = Counter("right" if row.kind == "right" else "wrong" for row in rows)
    assert all(kinds[kind] > number for kind, number in UNUSUAL.items()), kinds
    assert len({(row.assignment, row.answer, row.title) for row in rows}) == len(rows)


@each_assignment
def test_every_answer_has_another_right_one_and_every_test_catches_something(name):
    rows = [row for row in in_process.rows_of(name) if row.title != "untouched stub"]
    for answer, tests in in_process.tests_of(name).items():
        mine = [row for row in rows if row.answer == answer]
        assert any(row.kind == "right" and row.title != in_process.OWN for row in mine), answer
        assert set(tests) == {test for row in mine for test in row.loses}, answer


@each_assignment
def test_points_add_up_and_the_text_says_how_they_are_dealt(name):
    says = [cell for cell in course.read(name).cells if course.kind(cell) in ("test", "manual")]
    assert sum(cell.metadata.nbgrader.points for cell in says) == POINTS[name[:2]]
    text = "\n".join(cell.source for cell in course.read(name).cells if cell.cell_type != "code")
    for tests in in_process.tests_of(name).values():
        for points in set(tests.values()) if len(tests) > 1 else ():
            assert re.search(rf"\b{points:g} (more |points|for)|{words(points)} (points|are)", text)


def words(points: float) -> str:
    """A number of points as a word."""
    return {2: "Two", 3: "Three", 4: "Four", 6: "Six"}.get(int(points), "None")


def test_pass_marks_stand_in_the_text():
    text = {
        name[:2]: "\n".join(
            cell.source for cell in course.read(name).cells if not course.kind(cell)
        )
        for name in NAMES
    }
    assert "0.72 is asked for" in text["02"] and "A linear model" in text["02"]
    assert "nine tenths of that give 6 points, eight tenths" in text["03"]
    assert "equation 2 below 1.2" in text["04"]
    assert "more than 0.9 on the planted leak" in text["05"] and "more than 0.85" in text["05"]


@each_assignment
def test_no_reference_answer_is_handed_out(name):
    handed_out = "\n".join(
        path.read_text("utf-8")
        for path in (course.COMMON, *(course.ASSIGNMENTS / name).glob("*.py"))
    )
    handed_out += "\n".join(
        course.HIDDEN.sub("", cell.source)
        for cell in course.read(name).cells
        if cell.cell_type == "code" and course.kind(cell) in ("", "test")
    )
    gone = r"def (exact_tpr|allowed_accuracies|by_torch)|softplus|\bpredict\(.*\)\.mean\(\)"
    assert [one[0] for one in re.finditer(gone, handed_out)] == []


def test_points_and_sentences_that_are_not_as_they_should_be_are_noticed():
    row = in_process.rows_of(NAMES[0])[0]
    tests = in_process.tests_of(NAMES[0])[row.answer]
    right = in_process.Given({test: 0 if test in row.loses else n for test, n in tests.items()})
    right.said = "is no shuffle"
    assert row.kind == "wrong" and in_process.wrong_of([(row, right)]) == []
    for change, said in (
        ({"points": tests}, "loses ()"),
        ({"said": ""}, "nobody says"),
        ({"broke": "KeyError"}, "breaks the notebook"),
        ({"left": ["hidden_test"]}, "leave"),
    ):
        (wrong,) = in_process.wrong_of([(row, replace(right, **change))])
        assert said in wrong
    assert "<---" in in_process.table([(row, replace(right, points=tests))])


def test_a_submission_that_crashes_or_never_ends_gets_nothing(monkeypatch):
    monkeypatch.setattr(in_process, "SECONDS", 1)

    def forever():
        while True:
            pass

    for work in (forever, lambda: os._exit(1)):
        given = in_process.in_a_copy(work)
        assert given.points == {} and "crashed" in given.said
