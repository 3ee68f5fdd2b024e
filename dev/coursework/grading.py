"""How submissions are graded: what `nbgrader_config.py` puts into nbgrader's own steps.

`Tidy` keeps of a submission the expected notebook and puts deleted cells back. `GuardedExecute`
runs it in a folder (and, where it may, as a user) of its own, with `guard.py` around each test:
a test counts when it ran to its end, its check said its own sentence, and nothing that it relies on
was replaced. `Grades` lists what a mark of 0 does not tell: never handed in, a kernel that died.
"""

import ast
import builtins
import csv
import json
import os
import pwd
import re
import resource
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from minutes import minutes_said
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Integer, Unicode

HERE = Path(__file__).resolve().parent
GUARD = HERE / "guard.py"
REMARKS = "grading.json"  # beside the graded notebook
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
KEPT_FAMILIES = ("OMP_", "MKL_", "OPENBLAS_", "PURIFICATION_NB_", "NBGRADER_")


def is_test(cell) -> bool:
    """Whether a cell is a test that nbgrader marks."""
    return cell.cell_type == "code" and is_grade(cell) and not is_solution(cell)


def outline(assignment: str) -> dict:
    """What `make course` wrote down of an assignment: `cells`, the graded and locked cells in
    their order, each with the pattern of what it says when all is well; `answers`, the names that
    the answers bind."""
    path = HERE / "outline.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return known.get(assignment, {"cells": {}, "answers": []})


def names_in(source: str) -> set[str]:
    """The names that a cell uses; none where it is no plain Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def modules_in(source: str) -> set[str]:
    """The modules that a cell imports."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return set()
    plain = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    return plain | {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def label(cell, index: int) -> str:
    """What a cell is called in remarks."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {index + 1}"


def failed(cell, why: str):
    """Give a cell an error, which costs a test its points and shows in the feedback."""
    error = new_output("error", ename="NotGraded", evalue=why, traceback=[f"NotGraded: {why}"])
    cell.outputs.append(error)
    return cell


def number_of(user: str) -> int:
    """The number of a user that is given by name or by number."""
    return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid


def remark(folder: Path, **said) -> None:
    """Add to what is written down about a submission."""
    path = folder / REMARKS
    known = json.loads(path.read_text()) if path.is_file() else {"state": "graded", "remarks": []}
    known["remarks"] += said.pop("remarks", [])
    path.write_text(json.dumps(known | said, indent=1))


def tidied(folder: Path, source: Path, name: str) -> list[str]:
    """Make a folder hold the files of the source, and the notebook if it is there; the names of
    what was thrown away."""
    ours = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    ours = {path for path in ours if path.suffix != ".ipynb"}
    thrown = []
    for path in sorted(folder.rglob("*"), reverse=True):
        where = path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            if not any(where in one.parents for one in ours):
                shutil.rmtree(path)
        elif where not in ours and str(where) not in (f"{name}.ipynb", "timestamp.txt"):
            path.unlink()
            thrown.append(str(where))
    for path in ours:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).unlink(missing_ok=True)
        shutil.copy(source / path, folder / path)
    return thrown


def without_doubles(nb) -> list[str]:
    """Let only the last of cells with one name count, the others be the student's own; their
    names. nbgrader leaves such cells half marked, and then refuses the whole class."""
    seen, doubled = set(), set()
    for cell in reversed(nb.cells):
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in seen:
            doubled.add(name)
            del cell.metadata["nbgrader"]
        elif name:
            seen.add(name)
    return sorted(doubled)


class Tidy(NbGraderPreprocessor):
    """Of a submission the expected notebook stays, with every cell that was handed out."""

    def preprocess(self, nb, resources):
        """Throw other files away, and put deleted cells back."""
        about, course = resources["nbgrader"], self.parent.parent.coursedir
        folder = graded_folder(course, about)
        folder.mkdir(parents=True, exist_ok=True)
        source = Path(course.format_path(course.source_directory, ".", about["assignment"]))
        thrown = tidied(folder, source, about["notebook"])
        remarks = [f"thrown away: {', '.join(thrown)}"] if thrown else []
        remarks += [f"twice: {one}" for one in without_doubles(nb)]
        with Gradebook(about["db_url"]) as book:
            back = self.put_back(nb, about, book)
        remarks += [f"had been deleted: {', '.join(back)}"] if back else []
        remark(folder, remarks=remarks, notebook=about["notebook"])
        return nb, resources

    def put_back(self, nb, about: dict, book) -> list[str]:
        """Put locked cells that were deleted behind the cell that was before them."""
        back, at = [], -1
        for grade_id in outline(about["assignment"])["cells"]:
            ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in nb.cells]
            if grade_id in ids:
                at = len(ids) - 1 - ids[::-1].index(grade_id)
                continue
            cell = book.find_source_cell(grade_id, about["notebook"], about["assignment"])
            if cell.locked:
                at += 1
                nb.cells.insert(at, self.handed_out(cell, about, book))
            back.append(grade_id)
        return back

    def handed_out(self, cell, about: dict, book):
        """Make a locked cell anew, from what nbgrader keeps of it."""
        says = {"grade_id": cell.name, "locked": True, "solution": False, "task": False}
        says |= {"schema_version": 3, "grade": False, "checksum": cell.checksum}
        for graded in book.find_notebook(about["notebook"], about["assignment"]).grade_cells:
            if graded.name == cell.name:
                says |= {"grade": True, "points": graded.max_score}
        make = new_code_cell if cell.cell_type == "code" else new_markdown_cell
        return make(cell.source, metadata={"nbgrader": says})


def graded_folder(course, about: dict) -> Path:
    """The folder in which nbgrader leaves a graded submission."""
    where = course.autograded_directory
    return Path(course.root, course.format_path(where, about["student"], about["assignment"]))


class OwnedKernel(AsyncKernelManager):
    """A kernel whose connection file belongs to the user that it runs as."""

    owner = None

    def write_connection_file(self, **kwargs):
        """Write it, and give it away."""
        super().write_connection_file(**kwargs)
        if self.owner is not None:
            os.chown(self.connection_file, self.owner, self.owner)


class GuardedExecute(Execute):
    """nbgrader's own step that runs a notebook, with a guard around each test."""

    user = Unicode("", help="Run kernels as this user (name or number); only root can.").tag(
        config=True
    )
    memory = Integer(0, help="Bytes of address space for a kernel; 0: any.").tag(config=True)
    total = Integer(600, help="Seconds that a whole notebook may take.").tag(config=True)
    patience = Integer(
        10, help="Seconds for a cell that uses an answer which ran out of time before."
    ).tag(config=True)

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("kernel_manager_class", OwnedKernel)
        super().__init__(*args, **kwargs)

    def preprocess(self, nb, resources, km=None):
        """Run the notebook in a folder of its own, and write down what happened to it."""
        about, course = resources["nbgrader"], self.parent.parent.coursedir
        source = Path(course.format_path(course.source_directory, ".", about["assignment"]))
        known = outline(about["assignment"])
        self.says, self.answers = known["cells"], set(known["answers"])
        self.key, self.record, self.ended = f"_{secrets.token_hex(8)}", None, ""
        self.stuck, self.notes, self.timeout_func = set(), [], self.seconds_for
        started = time.monotonic()
        self.until = started + self.total
        path = resources["metadata"]["path"]
        with tempfile.TemporaryDirectory(prefix="grading-") as folder:
            tidied(Path(folder), source, "")
            self.give_away(Path(folder))
            resources["metadata"]["path"] = folder
            nb, resources = super().preprocess(nb, resources, km)
        resources["metadata"]["path"] = path
        seconds, state = round(time.monotonic() - started, 1), self.ended or "graded"
        remark(graded_folder(course, about), remarks=self.notes, state=state, seconds=seconds)
        return nb, resources

    def give_away(self, folder: Path) -> None:
        """Give a folder to the user that the kernel will run as."""
        OwnedKernel.owner = number_of(self.user) if self.user else None
        for path in [folder, *folder.rglob("*")] if self.user else []:
            os.chown(path, OwnedKernel.owner, OwnedKernel.owner)

    async def async_start_new_kernel(self, **kwargs):
        """Start it with few variables of the environment, less memory, as another user."""
        folder = self.resources["metadata"]["path"]
        env = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or name.startswith(KEPT_FAMILIES)
        }
        kwargs["env"] = env | {"HOME": folder, "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
        if self.user:
            number = OwnedKernel.owner
            kwargs |= {"user": number, "group": number, "extra_groups": []}
            self.km.connection_file = str(Path(folder, "kernel.json"))
        if self.memory:
            most = (self.memory, self.memory)
            kwargs["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_AS, most)
        await super().async_start_new_kernel(**kwargs)

    start_new_kernel = run_sync(async_start_new_kernel)

    def seconds_for(self, cell) -> int:
        """How long a cell may run: less where what it uses has run out of time before."""
        left = max(1, int(self.until - time.monotonic()))
        slow = self.stuck & names_in(cell.source)
        return min(left, self.patience if slow else self.timeout or left)

    def preprocess_cell(self, cell, resources, index):
        """Run a cell, a test between two guards; once the kernel is gone, only say so."""
        if cell.cell_type != "code":
            return cell, resources
        if not self.ended and time.monotonic() > self.until:
            self.ended = f"stopped after {self.total} seconds"
        if self.ended:
            return failed(cell, f"not run: {self.ended}"), resources
        try:
            self.run_guarded(cell, resources, index)
        except DeadKernelError:
            self.ended = f"the kernel died in {label(cell, index)}"
            failed(cell, self.ended)
        except CellTimeoutError:
            self.ended = f"could not be interrupted in {label(cell, index)}"
            failed(cell, self.ended)
        if any(out.get("ename") == "CellTimeoutError" for out in cell.outputs):
            self.stuck |= names_in(cell.source) & self.answers
            self.notes.append(f"out of time: {label(cell, index)}")
        return cell, resources

    def run_guarded(self, cell, resources, index) -> None:
        """Run a cell, with what the guard has to do before and after it."""
        if self.record is None:  # the guard sees the kernel before the student does
            locked = [one.source for one in self.nb.cells if is_locked(one)]
            modules = sorted(set().union(*map(modules_in, locked)))
            self.record = self.ask("remember", modules=modules).get("record")
        if is_test(cell):
            self.run_test(cell, resources, index)
            return
        super().preprocess_cell(cell, resources, index)
        if is_locked(cell):
            self.ask("given", source=cell.source, answers=sorted(self.answers))

    def run_test(self, cell, resources, index) -> None:
        """Run a test, and judge what came of it."""
        end, source, name = secrets.token_hex(16), cell.source, cell.metadata.nbgrader.grade_id
        told = [self.ask("before", names=sorted(names_in(source) & set(dir(builtins))))]
        cell.source = f"{source}\nprint({end!r})"
        try:
            super().preprocess_cell(cell, resources, index)
        finally:
            cell.source = source
        told.append(self.ask("after"))
        printed = "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
        said, reached, _ = printed.partition(end)
        kept = [
            out
            for out in cell.outputs
            if out.output_type != "execute_result" and out.get("name") != "stdout"
        ]
        said_first = [new_output("stream", name="stdout", text=said)] if said else []
        cell.outputs = said_first + kept
        if any(out.output_type == "error" for out in kept):
            return
        if why := self.doubt(said, reached, self.says.get(name, ""), told):
            failed(cell, why)
            self.notes.append(f"{name}: {why}")

    def doubt(self, said: str, reached: str, pattern: str, told: list) -> str:
        """Why a test that raised no error still does not count; nothing where it does."""
        if not reached:
            return "the test was not run to its end"
        if not re.search(pattern, said):
            return "the check did not say that it found nothing wrong"
        if not self.record or any(one.get("record") != self.record for one in told):
            return "what the grader keeps in the kernel was changed"
        if changed := sorted(set(told[1]["changed"])):
            return f"replaced while the test ran: {', '.join(changed)}"
        return ""

    def ask(self, what: str, **more) -> dict:
        """Run the guard in the kernel; what it says, or nothing where it cannot."""
        request = {"do": what, "key": self.key, "nonce": secrets.token_hex(8), **more}
        space = {"__name__": "guard", "request": request}
        code = f"__import__('builtins').compile({GUARD.read_text()!r}, 'guard', 'exec')"
        cell = new_code_cell(f"__import__('builtins').exec({code}, {space!r})")
        self.nb.cells.append(cell)  # the client writes a cell that has run into the notebook
        try:
            self.execute_cell(cell, len(self.nb.cells) - 1, store_history=False)
        finally:
            self.nb.cells.pop()
        text = "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
        lines = [line for line in text.splitlines() if request["nonce"] in line]
        if not lines:
            self.log.warning("the guard got no answer to %r: %s", what, cell.outputs)
        return json.loads(lines[0]) if lines else {"changed": []}


def by_hand_is_due(gradebook, about: dict) -> bool:
    """Whether a submission has cells that wait for someone to mark them."""
    return gradebook.find_submission(about["assignment"], about["student"]).needs_manual_grade


class Grades(CsvExportPlugin):
    """nbgrader's table of grades, with what became of each submission."""

    def export(self, gradebook) -> None:
        """Write the table, and say apart what a mark does not."""
        super().export(gradebook)
        path = Path(self.to or "grades.csv")
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        apart: dict[str, list] = {}
        table = [[*rows[0], "state", "remarks", "minutes"]]
        for row in rows[1:]:
            about = {"assignment": row[0], "student": row[3]}
            state, remarks = self.fate(about)
            if state == "graded" and by_hand_is_due(gradebook, about):
                state = "to be marked by hand"
            minutes = minutes_said(self.handed_in(about) / f"{row[0]}.ipynb")
            said = "" if minutes is None else f"{minutes:g}"
            table.append([*row, state, "; ".join(remarks), said])
            if state != "graded":
                apart.setdefault(f"{row[0]}, {state}", []).append(row[3])
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
        for state, students in apart.items():
            self.log.warning("%s: %s", state, ", ".join(students))

    def handed_in(self, about: dict) -> Path:
        """The folder that holds a submission as it was handed in."""
        course = self.parent.coursedir
        where = course.submitted_directory
        return Path(course.format_path(where, about["student"], about["assignment"]))

    def fate(self, about: dict) -> tuple[str, list[str]]:
        """What became of a submission, and remarks on it."""
        course = self.parent.coursedir
        handed_in = self.handed_in(about)
        graded = graded_folder(course, about)
        if (graded / REMARKS).is_file():
            known = json.loads((graded / REMARKS).read_text())
            return known["state"], known["remarks"]
        if not handed_in.is_dir():
            return "never handed in", []
        if not any(handed_in.glob(f"{about['assignment']}.ipynb")):
            return "no notebook of that name", [one.name for one in handed_in.iterdir()]
        return "not graded", ["nbgrader's log says why"]
