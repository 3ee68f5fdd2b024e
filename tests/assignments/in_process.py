"""What students might hand in, and what the test cells make of it, in one process.

    python tests/assignments/in_process.py                                     print the table
    python tests/assignments/in_process.py 01_who_was_in_the_training_set [WORD]     or a part of it:
    the submissions of an assignment, with this word in their title

Each assignment has a file here with its name: one heading for each answer, below it one heading for
each submission. The cells of the notebook run once, with the answers of the source, but for those
that show what is made of answers. Where the tests of an answer are reached, the process forks for
each of its submissions; the copy takes that answer instead, runs those tests and tells what they
gave. `shown` below a title asks for the cells that show the answer, too: they must not break.
"""

import contextlib
import gc
import io
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import types
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "dev"))
import course  # noqa: E402

SECONDS = 60  # that one submission may take
SUBMISSION = re.compile(
    r"^## (?P<kind>wrong|right|dishonest): (?P<title>[^\n]*)\n"
    r"(?:loses: (?P<loses>[^\n]*)\n)?(?:says: (?P<says>[^\n]*)\n)?(?P<shown>shown\n)?\n```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)
OWN = "the source's own"


@dataclass(frozen=True)
class Row:
    """A submission of one answer, and what must come of it."""

    assignment: str
    answer: str  # grade_id of the answer it replaces
    kind: str  # wrong, right or dishonest
    title: str
    code: str
    loses: tuple = ()  # grade_ids of the tests that must give nothing; the others give all
    says: str = ""  # a pattern found in what the tests say, and not in what they say to the source
    shown: bool = False  # whether the notebook's own cells that use the answer are run with it


@dataclass
class Given:
    """What the tests of an answer gave for a submission."""

    points: dict = field(default_factory=dict)  # grade_id of a test -> points
    said: str = ""
    seconds: float = 0.0
    broke: str = ""  # what the notebook's own cells complained of
    left: list = field(default_factory=list)  # names of hidden tests that are still there


def cells_of(name: str, seed: int = 0) -> list:
    """The code cells of an assignment with what they are for, markers left out."""
    return [
        (course.kind(cell), cell.metadata.get("nbgrader", {}), course.MARKER.sub("", cell.source))
        for cell in course.seeded(course.read(name), seed).cells
        if cell.cell_type == "code"
    ]


def tests_of(name: str) -> dict[str, dict[str, float]]:
    """Of each answer the tests that follow it, with their points."""
    found: dict[str, dict[str, float]] = {}
    for what, says, _ in cells_of(name):
        if what == "answer":
            found[says["grade_id"]] = {}
        elif what == "test":
            found[list(found)[-1]][says["grade_id"]] = says["points"]
    return found


def rows_of(name: str) -> list[Row]:
    """The submissions of an assignment, the source's own answers and untouched stubs among them."""
    tests, rows = tests_of(name), []
    _, *parts = re.split(r"^# (\w+)\n", (HERE / f"{name}.md").read_text("utf-8"), flags=re.M)
    for answer, text in zip(parts[::2], parts[1::2], strict=True):
        matches = list(SUBMISSION.finditer(text))
        if len(matches) != len(re.findall(r"^## ", text, re.M)):
            raise ValueError(f"{name}.md, {answer}: a submission that cannot be read")
        for one in matches:
            loses = (one["loses"] or "").split(", ") if one["loses"] else []
            rows.append(
                Row(
                    name,
                    answer,
                    one["kind"],
                    one["title"],
                    one["code"],
                    tuple(tests[answer]) if loses == ["all"] else tuple(loses),
                    one["says"] or "",
                    bool(one["shown"]),
                )
            )
    for what, says, source in cells_of(name):
        if what == "answer":
            answer = says["grade_id"]
            stub = "def {0}(*_):\n    raise NotImplementedError\n"
            if source.startswith("class "):
                head = source[: source.index("    def ")]
                stub = head + "    learn = score = lambda *_: []\n"
            rows.append(Row(name, answer, "right", OWN, source))
            rows.append(
                Row(
                    name,
                    answer,
                    "wrong",
                    "untouched stub",
                    stub.format(answer),
                    tuple(tests[answer]),
                )
            )
    return rows


def run(source: str, names: dict, where: str) -> None:
    """Run a cell in these names; its lines can be found by a traceback."""
    linecache.cache[where] = (len(source), None, source.splitlines(True), where)
    exec(compile(source, where, "exec"), names)


def complaint(error: BaseException) -> str:
    """An error in a line."""
    return "".join(traceback.format_exception_only(error)).strip()


def tested(code: str, tests: list, names: dict) -> Given:
    """Take an answer, run the tests that follow it."""
    given, said, start = Given(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(said):
        try:
            run(code, names, "<answer>")
        except Exception as error:
            print(complaint(error))
        for says, source in tests:
            try:
                run(source, names, f"<{says['grade_id']}>")
                given.points[says["grade_id"]] = says["points"]
            except Exception as error:
                print(complaint(error))
                given.points[says["grade_id"]] = 0
    given.left = [name for name in names if name.startswith("hidden")]
    given.said, given.seconds = said.getvalue(), time.perf_counter() - start
    return given


def in_a_copy(work) -> Given:
    """What `work` gives in a fork of this process, which it cannot change."""
    gc.freeze()  # so that a copy need not copy what it only counts
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        gc.disable()
        signal.alarm(SECONDS)
        os.close(read)
        try:
            given = work()
        except BaseException as error:
            given = Given(broke=complaint(error))
        with os.fdopen(write, "w") as out:
            json.dump(given.__dict__, out, default=float)
        os._exit(0)
    gc.unfreeze()
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    os.waitpid(pid, 0)
    return Given(**json.loads(text)) if text else Given(said="crashed, or took too long")


def answers_of(cells: list) -> list[tuple[int, str, list]]:
    """Of each answer where it stands, its name, and its tests with the graded cells' metadata."""
    found: list = []
    for place, (what, says, source) in enumerate(cells):
        if what == "answer":
            found.append((place, says["grade_id"], []))
        elif what == "test":
            found[-1][2].append((says, source))
    return found


def notebook_names() -> dict:
    """The names of an empty notebook."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module.__dict__


def shown(row: Row, cells: list, names: dict) -> Given:
    """Take an answer in the notebook that was run up to its last one, and run what shows it."""
    run(row.code, names, "<answer>")
    with contextlib.redirect_stdout(io.StringIO()):
        for what, _, source in cells:
            if not what and re.search(rf"\b{row.answer}\b", source):
                run(source, names, "<cell>")
    return Given()


def graded(name: str, word: str = "") -> list[tuple[Row, Given]]:
    """Run an assignment once, and the tests of each submission in a copy."""
    import torch._dynamo  # noqa: F401 - else each copy with an optimiser of torch imports it, in 2 s

    rows = [row for row in rows_of(name) if word in f"{row.answer} {row.title}"]
    cells, names, found = cells_of(name), notebook_names(), []
    sys.path.insert(0, str(course.ASSIGNMENTS / name))
    answers = {place: (answer, tests) for place, answer, tests in answers_of(cells)}
    for place, (what, _, source) in enumerate(cells):
        if place in answers:
            answer, tests = answers[place]
            for row in rows:
                if row.answer == answer:
                    code = row.code
                    work = lambda code=code, tests=tests: tested(code, tests, names)  # noqa: E731
                    found.append((row, in_a_copy(work)))
        shows = not what and "checks.once_written(" in source  # what is made of answers
        if what != "test" and not shows and place <= max(answers):
            with contextlib.redirect_stdout(io.StringIO()):
                run(source, names, f"<cell {place}>")
    for row, given in found:
        if row.shown:
            given.broke = in_a_copy(lambda row=row: shown(row, cells, names)).broke
    return found


def wrong_of(found: list[tuple[Row, Given]]) -> list[str]:
    """Say where the points, or what was said, are not what each submission asks for."""
    pleased = {row.answer: given.said for row, given in found if row.title == OWN}
    wrong = []
    for row, given in found:
        where = f"{row.assignment[:2]} {row.answer}, {row.kind}: {row.title}:"
        lost = tuple(
            test for test in tests_of(row.assignment)[row.answer] if not given.points.get(test)
        )
        if lost != row.loses:
            wrong.append(f"{where} loses {lost}, and should lose {row.loses}; {given.said[-300:]}")
        if row.says and not re.search(row.says, given.said):
            wrong.append(f"{where} nobody says {row.says!r}, but {given.said[-300:]!r}")
        if row.says and re.search(row.says, pleased.get(row.answer, "")):
            wrong.append(f"{where} the right answer is told {row.says!r} too")
        if given.left:
            wrong.append(f"{where} hidden tests leave {given.left} behind")
        if given.broke:
            wrong.append(f"{where} breaks the notebook: {given.broke}")
    return wrong


def table(found: list[tuple[Row, Given]]) -> str:
    """A line for each submission: what it is, the points expected and given, seconds."""
    lines = []
    for row, given in found:
        points = tests_of(row.assignment)[row.answer]
        expected = sum(value for test, value in points.items() if test not in row.loses)
        got = sum(given.points.values())
        mark = "" if got == expected else "  <---"
        lines.append(
            f"{row.assignment[:2]} {row.answer:19} {row.kind:9} {row.title:58.58}"
            f" {expected:4g} {got:4g} of {sum(points.values()):2g} {given.seconds:5.1f} s{mark}"
        )
    return "\n".join(lines)


def table_of(script: str, folder: Path):
    """Run a script beside this file in a process of its own; the table that it writes, as JSON."""
    into = folder / "table.json"
    done = subprocess.run(
        [sys.executable, HERE / script],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "TABLE_INTO": str(into)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert into.exists(), done.stdout
    print(done.stdout)
    return json.loads(into.read_text("utf-8"))


def main(*arguments: str, into: str | None = None) -> int:
    """Print the tables of these assignments, or of all; what is not as expected on stderr."""
    names = [name for name in course.assignments() if name in arguments] or course.assignments()
    word = next((one for one in arguments if one not in course.assignments()), "")
    every, wrong = [], []
    for name in names:
        start = time.perf_counter()
        found = graded(name, word)
        every += [(row.__dict__, given.__dict__) for row, given in found]
        wrong += wrong_of(found)
        print(table(found), f"{name}: {time.perf_counter() - start:.0f} s", sep="\n", flush=True)
        if into:
            Path(into).write_text(json.dumps(every, default=float), encoding="utf-8")
    print("\n".join(wrong) or "all as expected", file=sys.stderr if wrong else sys.stdout)
    return bool(wrong)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main(*sys.argv[1:], into=os.environ.get("TABLE_INTO")))
