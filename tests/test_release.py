"""What students get holds no solution, no hidden test and no reference answer."""

import ast
import json
import re
import shutil
from functools import cache
from pathlib import Path

import course
import nbformat
import pytest
from minutes import asks_for_minutes

ROOT = Path(__file__).resolve().parents[1]
NAMES = course.assignments()
HIDDEN = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.S)
pytestmark = pytest.mark.xdist_group("coursework")


def handed_out_files(name: str) -> list[Path]:
    """List the files that students get beside a notebook."""
    return [course.COMMON, *(course.ASSIGNMENTS / name).glob("*.py")]


def kept_back(name: str) -> str:
    """Give all that a student must not see of an assignment."""
    cells = course.read(name).cells
    blocks = [block for cell in cells for block in HIDDEN.findall(cell.source)]
    return "\n".join(blocks + [cell.source for cell in cells if course.kind(cell) == "manual"])


@cache
def public() -> str:
    """Give what anyone can read, without blanks: the library, its chapters, what tasks tell."""
    paths = [p for p in (ROOT / "nbs").rglob("*.ipynb") if course.ASSIGNMENTS not in p.parents]
    notebooks = [json.loads(path.read_text("utf-8")) for path in paths]
    parts = ["".join(cell["source"]) for nb in notebooks for cell in nb["cells"]]
    parts += [path.read_text("utf-8") for path in (ROOT / "purification_nb").rglob("*.py")]
    for name in NAMES:
        parts += [path.read_text("utf-8") for path in handed_out_files(name)]
        for cell in course.read(name).cells:
            if course.kind(cell) != "manual":
                parts.append(HIDDEN.sub("", cell.source))
    return "".join("".join(parts).split())


@cache
def secrets() -> list[str]:
    """List the lines of solutions, hidden tests and sample answers that stand nowhere else, and
    are too long to be there by chance."""
    lines = [line.strip() for name in NAMES for line in kept_back(name).splitlines()]
    cores = {line: "".join(line.rstrip(",:([{").split()) for line in lines}  # as a hint says it
    return [line for line in lines if len(line) > 25 and cores[line] not in public()]


def test_there_is_something_to_keep_back():
    assert len(secrets()) > 200
    assert all(len(kept_back(name)) > 1000 for name in NAMES)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Let nbgrader make the release of all assignments, zip it, and unpack it elsewhere."""
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    folder = tmp_path_factory.mktemp("released")
    course.release(NAMES, folder / "course")
    shutil.make_archive(str(folder / "handed_out"), "zip", folder / "course" / "release")
    shutil.unpack_archive(folder / "handed_out.zip", folder / "unpacked")
    return folder / "unpacked"


def test_an_unpacked_release_gives_nothing_away(unpacked):
    text = "\n".join(path.read_text("utf-8") for path in unpacked.rglob("*") if path.is_file())
    sources = "\n".join(
        cell.source
        for path in unpacked.rglob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
    )
    assert [line for line in secrets() if line in text or line in sources] == []
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    assert {path.suffix for path in unpacked.rglob("*") if path.is_file()} == {".ipynb", ".py"}


@pytest.mark.parametrize("name", NAMES)
def test_a_release_is_whole_and_compiles(name, unpacked):
    released = nbformat.read(unpacked / name / f"{name}.ipynb", as_version=4)
    for cell in released.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert cell.outputs == []
            assert ("nbgrader" in cell.metadata) is not asks_for_minutes(cell.source)
        if course.kind(cell) == "answer":
            assert course.STUB in cell.source
        if course.kind(cell) == "manual":
            assert "YOUR ANSWER HERE" in cell.source
    both = released, course.for_students(course.read(name))
    one, other = (
        [cell.source.strip() for cell in nb.cells if course.kind(cell) != "manual"] for nb in both
    )
    assert one == other
    there = {path.name for path in (unpacked / name).iterdir()}
    assert there == {f"{name}.ipynb", *(path.name for path in handed_out_files(name))}


@pytest.mark.parametrize("name", NAMES)
def test_no_function_of_the_checks_takes_what_an_answer_takes(name):
    """Such a function is a reference answer: a student's answer could call it."""

    def parameters(source: str) -> dict[str, tuple]:
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        return {n.name: tuple(one.arg for one in n.args.args) for n in functions}

    cells = [cell.source for cell in course.read(name).cells if course.kind(cell) == "answer"]
    answers = {names for cell in cells for names in parameters(cell).values()}
    checks = [path.read_text("utf-8") for path in (course.ASSIGNMENTS / name).glob("*.py")]
    found = {what: names for text in checks for what, names in parameters(text).items()}
    assert {what for what, names in found.items() if names in answers} == set()


def test_the_form_for_students_has_neither_solution_nor_hidden_test():
    for name in NAMES:
        nb = course.for_students(course.read(name))
        text = "\n".join(cell.source for cell in nb.cells)
        assert [line for line in secrets() if line in text] == [] and "### BEGIN" not in text
        assert not any(cell.get("outputs") for cell in nb.cells)
