"""From the files that students hand in to a table of grades: what is right gets its points, what
cheats gets none, and what a mark of 0 does not tell is told."""

import itertools
import json
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import course
import nbformat
import pytest
from assignments_graded import (
    answers,
    archive,
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
from nbgrader.api import Gradebook

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev" / "coursework"))
import grade  # noqa: E402
import grading  # noqa: E402
import guard  # noqa: E402
import minutes  # noqa: E402
import solutions  # noqa: E402

NAME = course.assignments()[0]
pytestmark = pytest.mark.xdist_group("coursework")

ATTACKS = {
    "a number displayed": (
        "import sys\ndef attack():\n    sys.displayhook(4)\n    return get_ipython()\n"
    ),
    "an input transformer": """
def drop(lines):
    return ["pass\\n", lines[-1]] if "checks." in "".join(lines) else lines
get_ipython().input_transformers_post.append(drop)
""",
    "an AST transformer": """
import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
    visit_Try = visit_Raise = visit_Assert
    def visit_Expr(self, node): return ast.Pass() if "checks" in ast.dump(node) else node
get_ipython().ast_transformers.append(Drop())
""",
    "the solutions in source/": """
import glob, json, os
for path in glob.glob("../../../source/*/*.ipynb"):
    for cell in json.load(open(path))["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"): exec("".join(cell["source"]))
        cheated = True
""",
    "checks that say nothing": """
import sys
for module in (sys.modules["checks_01"], sys.modules["checks_common"]):
    for name, one in list(vars(module).items()):
        if callable(one): setattr(module, name, lambda *_, **__: True)
class Silent:
    def __getattr__(self, name): return lambda *_, **__: True
checks = sys.modules["checks_01"] = Silent()
""",
    "functions replaced": """
import builtins
yes = lambda *_, **__: True
for name in "isclose allclose array_equal all any isfinite".split(): setattr(np, name, yes)
for name in "all any abs len min max float sorted".split(): globals()[name] = yes
builtins.all = builtins.any = yes
""",
    "the end of the test, read and printed": """
def attack():
    print("\\n".join(line for line in In[-1].splitlines()[-1:]))
    raise SystemExit
""",
}
FILES = {"checks_01/__init__.py": "def __getattr__(name): return lambda *a, **k: True\n"}
FAST = {
    "hooks": ["a number displayed", "an input transformer", "an AST transformer"],
    "patches": ["checks that say nothing", "functions replaced", "the solutions in source/"],
}


def cheating(*attacks: str) -> dict[str, str]:
    """Wrong answers, with what should earn points all the same."""
    first, *_ = names = list(answers(NAME))
    code = {name: f"def {name}(*_, **__):\n    return attack()\n" for name in names}
    attack = "def attack():\n    return 0\n"
    return code | {first: attack + "".join(ATTACKS[one] for one in attacks) + code[first]}


def noisy(source: str) -> str:
    """An answer that says things on the way."""
    head, body = source.split(":\n", 1)
    return f"import sys\n{head}:\n    print(file=sys.stderr)\n    print('hello')\n{body}"


def mixed_up(nb):
    """Delete the last test, and double an answer."""
    nb = deepcopy(nb)
    places = [i for i, cell in enumerate(nb.cells) if course.kind(cell) == "test"]
    del nb.cells[places[-1]]
    answer = next(i for i, cell in enumerate(nb.cells) if course.kind(cell) == "answer")
    nb.cells.insert(answer, deepcopy(nb.cells[answer]))
    nb.cells[answer].id = "doubled"
    return nb


def says_how_long(nb, answer: str):
    """Answer the question how long it took."""
    nb = deepcopy(nb)
    (cell,) = [cell for cell in nb.cells if minutes.asks_for_minutes(cell.source)]
    cell.source = cell.source.replace("None", answer)
    return nb


def due_of(slow: bool) -> dict:
    """Give the submissions and the points they are due: some of them, unless there is time.

    The rest of them are graded in one process, in test_submissions."""
    rows = packed(NAME).items()
    return dict(rows if slow else itertools.islice(rows, 4))


def class_of(released, slow: bool) -> dict:
    """Give what each student hands in."""
    right, second = answers(NAME), list(answers(NAME))[1]
    died = right | {second: f"import os\nos._exit(1)\n{right[second]}"}
    handed = {name: filled(released, cheating(*attacks)) for name, attacks in FAST.items()}
    if slow:
        handed |= {name.replace(" ", "-"): filled(released, cheating(name)) for name in ATTACKS}
    handed |= {name: filled(released, written) for name, (written, _) in due_of(slow).items()}
    return handed | {
        "stub": released,
        "ann": says_how_long(
            mixed_up(filled(released, {name: noisy(right[name]) for name in right})), "95"
        ),
        "bob": says_how_long(filled(released, died), "too long"),
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory, request):
    """Build the course, let students hand in, and run the one command that grades them."""
    tree = tmp_path_factory.mktemp("course")
    released = built(tree, NAME)
    for student, nb in class_of(released, request.config.getoption("--slow")).items():
        if student in ("ann", "bob"):
            archive(tree, NAME, student, nb, as_zip=student != "bob")
        else:
            submitted(tree, NAME, student, nb, FILES if student in FAST else None)
    with Gradebook(f"sqlite:///{tree}/gradebook.db", "purification_nb") as book:
        book.add_student("dan")
    return graded(tree, NAME)


def test_right_answers_get_all_points_whatever_they_print(done):
    row = done.rows["ann"]
    assert float(row["score"]) == float(row["max_score"]) == sum(points(NAME).values())
    assert row["state"] == "graded"


def test_every_submission_of_the_table_gets_what_it_should(done, request):
    rows = due_of(request.config.getoption("--slow"))
    due = {student: points for student, (_, points) in rows.items()}
    assert len(due) > 3
    assert {student: by_test(done.tree, NAME, student) for student in due} == due


def test_minutes_are_in_the_table_where_a_number_was_given(done):
    assert done.rows["ann"]["minutes"] == "95"
    assert {row["minutes"] for one, row in done.rows.items() if one != "ann"} == {""}


def test_an_untouched_stub_crashes_nothing_and_right_answers_no_cell(done):
    assert complaining(done.tree, NAME, "stub") == {"test"}
    assert set(by_test(done.tree, NAME, "stub").values()) == {0}
    assert complaining(done.tree, NAME, "ann") == set()


def test_no_attack_earns_a_point(done):
    cheats = set(FAST) | (set(done.rows) & {name.replace(" ", "-") for name in ATTACKS})
    assert len(cheats) >= 2
    assert {one: by_test(done.tree, NAME, one) for one in cheats} == {
        one: dict.fromkeys(points(NAME), 0) for one in cheats
    }


def test_what_lies_beside_the_notebook_is_thrown_away(done):
    there = done.tree / "autograded" / "hooks" / NAME
    assert {path.name for path in there.iterdir()} == {
        "checks_01.py",
        "checks_common.py",
        f"{NAME}.ipynb",
        "grading.json",
    }
    assert "thrown away" in done.rows["hooks"]["remarks"]


def test_a_dead_kernel_keeps_what_was_earned_and_is_listed(done):
    row, of = done.rows["bob"], points(NAME)
    first = [name for name in of if name.startswith(f"test_{next(iter(answers(NAME)))}")]
    assert row["state"].startswith("the kernel died in")
    assert float(row["score"]) == sum(of[name] for name in first) > 0
    assert f"{NAME}, {row['state']}: bob" in done.said


def test_never_handed_in_is_listed_apart_from_nothing_right(done):
    assert done.rows["dan"]["state"] == "never handed in"
    assert f"{NAME}, never handed in: dan" in done.said
    assert done.rows["hooks"]["state"] == "graded" and float(done.rows["hooks"]["score"]) == 0


def test_deleted_tests_come_back_and_doubled_answers_are_told(done):
    first, last = next(iter(answers(NAME))), list(points(NAME))[-1]
    assert done.rows["ann"]["remarks"] == f"twice: {first}; had been deleted: {last}"


def test_every_student_who_handed_in_gets_feedback(done):
    pages = {path.parts[-3] for path in done.tree.glob(f"feedback/*/{NAME}/{NAME}.html")}
    assert pages == set(done.rows) - {"dan"} and len(pages) > 6


def test_grading_happened_on_a_copy_without_solutions(done, tmp_path):
    for file in grade.SEEN:
        shutil.copy(done.tree / file, tmp_path)
    shutil.copytree(done.tree / "source", tmp_path / "source")
    grade.HERE, before = tmp_path, grade.HERE
    (tmp_path / "work").mkdir()
    try:
        grade.copied(NAME, tmp_path / "work")
    finally:
        grade.HERE = before
    text = "".join(
        path.read_text(errors="ignore")
        for path in (tmp_path / "work").rglob("*")
        if path.is_file() and path.suffix != ".db"
    )
    assert not list((tmp_path / "work").rglob("*.ipynb")) and "BEGIN SOLUTION" not in text
    line = "np.random.default_rng(seed).permutation(np.unique(person))"
    assert line in "".join(answers(NAME).values())
    book = (tmp_path / "work" / "gradebook.db").read_bytes()
    assert line not in text and line.encode() not in book


def test_a_container_has_no_network_and_kernels_another_user(tmp_path):
    command = grade.container("purification-nb", tmp_path, ["autograde", NAME, "--student=ann"])
    assert command[:2] == ["docker", "run"] and command[-3:] == ["autograde", NAME, "--student=ann"]
    assert {"--network=none", "--env=GRADING_USER=student", "--user=root"} <= set(command)
    assert any(one.startswith("--memory=") for one in command)
    assert f"--volume={tmp_path}:/course" in command and "chmod 700 /course" in " ".join(command)


def test_cells_that_use_what_hung_wait_no_longer():
    now = grading.time.monotonic()
    one = SimpleNamespace(until=now + 500, stuck={"slow"}, patience=10, timeout=120)
    seconds = grading.GuardedExecute.seconds_for
    assert seconds(one, SimpleNamespace(source="slow(1)")) == 10
    assert seconds(one, SimpleNamespace(source="quick(1)")) == 120
    one.until = now + 50
    assert 48 <= seconds(one, SimpleNamespace(source="quick(1)")) <= 50
    one.until = now - 1
    assert seconds(one, SimpleNamespace(source="quick(1)")) == 1


PARTS = [
    ("alice_NAME.ipynb", "alice"),
    ("bob.smith_2026_11_28_NAME.ipynb", "bob.smith"),
    ("carl_last try_NAME (2).ipynb", "carl"),
    ("dora_123_NAME-1.ipynb", "dora"),
    ("eve/NAME.ipynb", "eve"),
    ("Finn Smith_77_file/NAME/NAME.ipynb", "Finn Smith"),
    ("gil/.ipynb_checkpoints/NAME-checkpoint.ipynb", None),
    ("NAME.ipynb", None),
]


@pytest.mark.parametrize("path, student", PARTS)
def test_collecting_finds_students_in_file_names(path, student):
    config = (course.COURSEWORK / "nbgrader_config.py").read_text()
    pattern = "".join(re.findall(r'^ +r"(.*)"$', config, re.M))
    found = re.match(pattern, f"/c/downloaded/{NAME}/extracted/{path.replace('NAME', NAME)}")
    assert (found and found["student_id"]) == student
    assert not found or found["file_id"] == NAME


def test_a_test_must_say_what_its_check_says_at_its_end():
    checks = textwrap.dedent("""
        def x(answer):
            print("on the way")
            print(f"x: {answer:.3f} where 1 of 10 (it) is.")

        def y(answer):
            assert answer
        """)
    cell = nbformat.v4.new_code_cell("checks.x(x)\nchecks.y(x)")
    says = {"grade": True, "solution": False, "grade_id": "test_x"}
    cell.metadata["nbgrader"] = nbformat.from_dict(says)
    known = course.outline(nbformat.v4.new_notebook(cells=[cell]), checks)
    pattern = known["cells"]["test_x"]
    assert re.search(pattern, "hello\nx: 0.655 where 1 of 10 (it) is.\nhello")
    assert not re.search(pattern, "hello\nx: 0.655 where 1 of 10 it is.\nhello")
    assert not re.search(pattern, "on the way")


@pytest.mark.parametrize("name", course.assignments())
def test_each_assignment_has_checks_that_say_something_at_their_end(name):
    checks = (course.ASSIGNMENTS / name / f"checks_{name[:2]}.py").read_text("utf-8")
    known = course.outline(course.read(name), checks)
    told = [known["cells"][test] for test in points(name)]
    assert sum(map(bool, told)) >= len(answers(name)) - 1


@pytest.mark.parametrize(
    "written, number",
    [
        ("minutes_spent = 95", 95),
        ("minutes_spent = 92.5  # for example 95", 92.5),
        ("minutes_spent = '120 minutes'", 120),
        ("x = 1\nminutes_spent =80 min", 80),
        ("minutes_spent = None  # for example 95", None),
        ("minutes_spent = two hours", None),
        ("minutes_spent = -5", None),
        ("minutes_spent = 1000000", None),
        ("", None),
    ],
)
def test_only_a_number_is_taken_for_minutes(written, number, tmp_path):
    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(written)]), path)
    assert minutes.minutes_said(path) == number
    path.write_text("no notebook")
    assert minutes.minutes_said(path) is None and minutes.minutes_said(tmp_path / "none") is None


@pytest.mark.parametrize("name", course.assignments())
def test_each_assignment_asks_how_long_it_took_and_lets_the_answer_stand(name):
    nb = course.read(name)
    forms = course.locked(nb), course.for_students(nb), course.otter_form(nb, name, [])
    for form in forms:
        (cell,) = [cell for cell in form.cells if minutes.asks_for_minutes(cell.source)]
        assert cell.source.startswith("minutes_spent = None")
        assert not cell.metadata.get("nbgrader") and course.kind(cell) == ""


class Shell:
    """As much of a shell as the guard looks at."""

    def __init__(self):
        names = ("cleanup_transforms", "line_transforms", "token_transformers")
        self.input_transformer_manager = SimpleNamespace(**{name: [] for name in names})
        self.events, self.kernel = SimpleNamespace(callbacks={}), SimpleNamespace(session=self)
        self.ast_transformers, self.input_transformers_post = [], []
        self.displayhook = self.display_pub = self.display_trap = SimpleNamespace()
        self.custom_exceptions, self.CustomTB, self.ast_node_interactivity = (), None, "last_expr"
        self.compile, self.user_ns = compile, {}


def test_the_guard_undoes_what_was_replaced_and_says_what():
    import numpy as np
    import torch
    from sklearn import metrics

    shell = Shell()
    state = guard.remember(shell, {"modules": ["checks_common", "json"]})
    assert guard.put_back(state) == [] and guard.put_back_hooks(shell, state["hooks"]) == []
    was, accuracy = np.isclose, metrics.accuracy_score
    np.isclose = torch.Tensor.__eq__ = yes = lambda *_: True
    yes.__module__ = "__main__"  # as in a notebook
    accuracy.__wrapped__.__code__ = (lambda *_: 1.0).__code__
    metrics.abs = abs
    shell.ast_transformers.append(len)
    assert {"numpy.isclose", "Tensor.__eq__"} <= set(guard.replaced())
    assert Counter(guard.put_back(state)) == Counter(
        ["numpy.isclose", "accuracy_score", "sklearn.metrics.abs", "Tensor.__eq__"]
    )
    assert guard.put_back_hooks(shell, state["hooks"]) == ["ast_transformers"]
    assert np.isclose is was and not (torch.ones(1) == torch.zeros(1)).item()
    assert accuracy([1, 0], [0, 1]) == 0 and shell.ast_transformers == []
    assert guard.put_back(state) == []
    before = guard.fingerprint(state)
    state["entries"][0] = (*state["entries"][0][:2], None)
    assert guard.fingerprint(state) != before


def test_a_notebook_that_calls_something_all_is_marked_by_the_true_all():
    state = {"builtins": dict(vars(guard.builtins)), "aside": {}, "given": {"np": 1}}
    space = {"all": lambda *_: True, "np": 2, "mine": 3}
    guard.take_aside(["all", "any"], space, state)
    assert space == {"np": 1, "mine": 3} and list(state["aside"]) == ["all"]
    source = (
        "import numpy.linalg as la, torch.nn\nx, (y, *z) = f()\ndef g(a): b = 1\nfor i in x: pass"
    )
    assert guard.names_bound(source) == {"la", "torch", "x", "y", "z", "g", "i"}


def test_another_seed_gives_other_data_and_other_hidden_cases(tmp_path):
    source = course.read(NAME)
    nb = course.seeded(source, 2027)
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    assert "digit_pairs(seed=2027)" in text and "digit_pairs(seed=0)" not in text
    assert "COURSE_SEED = 2027" in course.common(2027) and "COURSE_SEED = 0" in course.common()
    hidden = textwrap.dedent("""
        ### BEGIN HIDDEN TESTS
        a = np.random.default_rng(7)
        ### END HIDDEN TESTS
        b = np.random.default_rng(7)
        """)
    nb.cells = [nbformat.v4.new_code_cell(hidden)]
    (cell,) = course.seeded(nb, 3).cells
    assert "a = np.random.default_rng([3, 7])" in cell.source
    assert "b = np.random.default_rng(7)" in cell.source
    assert course.seeded(source, 0) == source


def test_what_a_grader_must_know_is_in_the_outline(done):
    (known,) = json.loads((done.tree / "outline.json").read_text()).values()
    assert set(points(NAME)) <= set(known["cells"]) and set(known["answers"]) == set(answers(NAME))
    assert sum(one.startswith("given-") for one in known["cells"]) >= 8
    gap = [pattern for name, pattern in known["cells"].items() if name == "test_gap_attack"]
    assert gap == [re.escape("gap_attack: member where the service is right.")]


SNOOPING = """
import os, socket
tree, seen = {tree!r}, []
for path in [tree + "/gradebook.db", tree + "/source", tree]:
    try:
        seen.append(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(9))
    except OSError as error:
        seen.append(type(error).__name__)
try:
    more = bytearray(40 * 2**30)
except MemoryError:
    seen.append("MemoryError")
print("SEEN", os.getuid(), seen)
"""


def anyone_may_run_python() -> bool:
    """Say whether another user can start this interpreter."""
    path = Path(sys.executable).resolve()
    return all(one.stat().st_mode & 0o001 for one in [path, *path.parents])


def test_a_kernel_of_another_user_sees_nothing_of_the_course(request, tmp_path, monkeypatch):
    if not request.config.getoption("--slow") or os.getuid():
        pytest.skip("only root can start a kernel as another user; and it takes a while")
    if not anyone_may_run_python():
        pytest.skip(f"{sys.executable} lies where only its owner can go")
    course.release([NAME], tmp_path)
    released = nbformat.read(tmp_path / "release" / NAME / f"{NAME}.ipynb", as_version=4)
    first, *_ = right = answers(NAME)
    right[first] = SNOOPING.format(tree=str(tmp_path)) + right[first]
    submitted(tmp_path, NAME, "eve", filled(released, right))
    monkeypatch.setenv("GRADING_USER", "54321")
    monkeypatch.setenv("GRADING_MEMORY", str(30 * 2**30))
    done = graded(tmp_path, NAME)
    assert by_test(tmp_path, NAME, "eve") == points(NAME), done.said[-3000:]
    text = (tmp_path / "autograded" / "eve" / NAME / f"{NAME}.ipynb").read_text()
    refused = "'PermissionError', 'PermissionError', 'PermissionError', 'MemoryError'"
    assert f"SEEN 54321 [{refused}]" in text


def test_solutions_are_handed_out_after_the_due_date(done, tmp_path):
    book = f"sqlite:///{tmp_path}/gradebook.db"
    shutil.copy(done.tree / "gradebook.db", tmp_path)
    (tmp_path / "solutions" / NAME).mkdir(parents=True)
    (tmp_path / "solutions" / NAME / "it.ipynb").touch()
    (tmp_path / "release").mkdir()
    due, archive = datetime(2027, 1, 15, 17), tmp_path / "release" / f"{NAME}_solutions.zip"
    assert solutions.hand_out(tmp_path, due) == [f"{NAME}: no due date, kept back"]
    with Gradebook(book) as open_book:
        open_book.update_or_create_assignment(NAME, duedate=due)
    (said,) = solutions.hand_out(tmp_path, due + timedelta(days=1), timedelta(days=2))
    assert said.endswith("kept back until 2027-01-17 17:00 UTC") and not archive.exists()
    solutions.hand_out(tmp_path, due + timedelta(days=2), timedelta(days=2))
    assert archive.is_file()


def test_a_test_for_otter_takes_what_it_reads_at_any_depth():
    source = textwrap.dedent("""
        import json
        def inner(answer, split=None):
            return [answer(part) + more for part in parts] + [split]
        for members in (members[:3], members[3:]):
            assert inner(lambda split: split, split) and len(json.dumps(x := members))
        del inner
        """)
    given = {"members", "split", "parts", "answer", "json"}
    assert course.used_names(source, given) == ["json", "members", "more", "parts", "split"]


def test_what_hangs_is_stopped_and_the_rest_is_marked(request, tmp_path):
    if not request.config.getoption("--slow"):
        pytest.skip("it waits for what hangs: make test-slow")
    released, right = built(tmp_path, NAME), answers(NAME)
    with open(tmp_path / "nbgrader_config.py", "a", encoding="utf-8") as config:
        config.write("g = c.GuardedExecute\ng.timeout, g.total, g.patience = 20, 90, 2\n")
    second, last = list(right)[1], list(right)[-1]
    loop = f"def {second}(*_):\n    while True:\n        pass\n"
    deaf = f"def {last}(*_):\n    while True:\n        try:\n            while True:\n"
    deaf += "                pass\n        except BaseException:\n            pass\n"
    submitted(tmp_path, NAME, "loop", filled(released, right | {second: loop}))
    submitted(tmp_path, NAME, "deaf", filled(released, right | {last: deaf}))
    done = graded(tmp_path, NAME)
    lost = {test: 0 for test in following(NAME)[second]}
    assert by_test(tmp_path, NAME, "loop") == points(NAME) | lost
    assert done.rows["loop"]["state"] == "graded"
    assert "out of time: test_" in done.rows["loop"]["remarks"]
    lost = {test: 0 for test in following(NAME)[last]}
    assert by_test(tmp_path, NAME, "deaf") == points(NAME) | lost
    assert done.rows["deaf"]["state"].startswith("could not be interrupted in test_")
    for student in ("loop", "deaf"):
        path = tmp_path / "autograded" / student / NAME / "grading.json"
        assert json.loads(path.read_text())["seconds"] < 90
