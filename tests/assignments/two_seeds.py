"""Last year's answers in this year's course: what the tests of one course seed were told, played back
to the tests of another.

    python tests/assignments/two_seeds.py [ASSIGNMENT ...]     print what each test makes of both

A course is built with each of two seeds. In the first, the solutions are recorded while the tests
ask them: whatever a student could copy of them is on that tape. Played back in the same course, it
passes every test. In the other course it must pass none, and the solutions must pass all.
"""

import contextlib
import copy
import functools
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from in_process import answers_of, cells_of, course, notebook_names, run, tested

SEEDS = 0, 2027


class Tape(list):
    """What an answer gave, call by call."""

    at = 0  # where playing it back has come to

    def play(self):
        """What the next call gave; an error where there was no such call."""
        if self.at == len(self):
            raise AssertionError("last year it was not asked this often")
        self.at += 1
        return self[self.at - 1]


def networks_in(arguments) -> list:
    """The networks among arguments: an answer may train them where they stand."""
    found = [getattr(one, "network", one) for one in arguments]
    return [one for one in found if hasattr(one, "load_state_dict") and hasattr(one, "parameters")]


def slopes_of(given, arguments) -> list:
    """The gradients of an answer along each tensor that it was handed; None where there is none."""
    import torch

    traced = [one for one in arguments if getattr(one, "requires_grad", False)]
    if not traced or not getattr(given, "requires_grad", False):
        return []
    return torch.autograd.grad(given.sum(), traced, retain_graph=True, allow_unused=True)


def recorded(answer, tape: Tape):
    """The answer itself, and all that it gives goes on the tape."""

    @functools.wraps(answer)
    def call(*arguments, **named):
        tape.append(None)
        place, given = len(tape) - 1, answer(*arguments, **named)
        kept = "a function" if callable(given) else copy.deepcopy(plainly(given))
        states = [copy.deepcopy(one.state_dict()) for one in networks_in(arguments)]
        tape[place] = kept, slopes_of(given, arguments), states
        return recorded(given, tape) if callable(given) else given

    return call


def plainly(given):
    """A value without what made it: tensors cut from their gradients."""
    return given.detach() if hasattr(given, "detach") else given


def played(answer, tape: Tape):
    """What gives again, call by call, what is on the tape."""

    @functools.wraps(answer)
    def call(*arguments, **_):
        kept, slopes, states = tape.play()
        for network, state in zip(networks_in(arguments), states, strict=True):
            network.load_state_dict(state)
        traced = [one for one in arguments if getattr(one, "requires_grad", False)]
        for one, slope in zip(traced, slopes, strict=bool(slopes)):
            if slope is not None:
                kept = kept + ((one - one.detach()) * slope).sum()
        return played(answer, tape) if isinstance(kept, str) and kept == "a function" else kept

    return call


def with_tape(wrap, answer, tape: Tape):
    """An answer, function or attack, that is recorded or played back."""
    if not isinstance(answer, type):
        return wrap(answer, tape)
    score = wrap(answer.score, tape)  # the one method whose numbers count
    return type(answer.__name__, (answer,), {"score": lambda self, scored: score(self, scored)})


def built(name: str, seed: int, folder: Path) -> list:
    """Lay down what a course with this seed hands out beside the notebook; its code cells."""
    place = folder / f"{name}-{seed}"
    shutil.copytree(course.ASSIGNMENTS / name, place, ignore=course.LEFT_OUT)
    (place / course.COMMON.name).write_text(course.common(seed), encoding="utf-8")
    sys.path[:0] = [str(place)]
    for module in [one for one in sys.modules if one.startswith("checks_")]:
        del sys.modules[module]
    return cells_of(name, seed)


def complaint(test: tuple, names: dict) -> str:
    """What a test says against the answer that stands in these names; "" for nothing."""
    (points,) = (given := tested("", [test], names)).points.values()
    return "" if points else given.said[-300:]


def both(test: tuple, answer: str, names: dict, tapes: dict[str, Tape]) -> tuple[str, str]:
    """What a test says against the solution, and against what is on the tape of another year; this
    year's own, where there is none yet."""
    right, name = names[answer], test[0]["grade_id"]
    if name not in tapes:
        tapes[name] = Tape()
        names[answer] = with_tape(recorded, right, tapes[name])
    solution = complaint(test, names)
    tapes[name].at, names[answer] = 0, with_tape(played, right, tapes[name])
    copied = complaint(test, names)
    names[answer] = right
    return solution, copied


def year(name: str, seed: int, folder: Path, tapes: dict[str, Tape]) -> list[tuple]:
    """Go through a course: (test, seed, its complaint about the solution, about the copy)."""
    cells, names, found = built(name, seed, folder), notebook_names(), []
    answers = {place: (answer, tests) for place, answer, tests in answers_of(cells)}
    for place, (what, _, source) in enumerate(cells[: max(answers) + 1]):
        if what != "test" and "checks.once_written(" not in source:
            with contextlib.redirect_stdout(io.StringIO()):
                run(source, names, f"<cell {place}>")
        if place in answers:
            (bound,) = course.names_bound(source)
            for test in answers[place][1]:
                found.append((test[0]["grade_id"], seed, *both(test, bound, names, tapes)))
    return found


def main(*arguments: str, into: str | None = None) -> None:
    """Print what each test makes of the solutions and of the copies, in both courses."""
    names = [name for name in course.assignments() if name in arguments] or course.assignments()
    every: dict[str, list] = {}
    for name in names:
        start, tapes = time.perf_counter(), {}
        with tempfile.TemporaryDirectory() as folder:
            every[name] = [row for seed in SEEDS for row in year(name, seed, Path(folder), tapes)]
        for test, seed, *said in every[name]:
            solution, copied = (text.strip()[-50:].replace("\n", " ") or "passes" for text in said)
            print(f"{name[:2]} {test:28} {seed:5}  solution: {solution:50}  copied: {copied}")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if into:
        Path(into).write_text(json.dumps(every), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "agg")
    main(*sys.argv[1:], into=os.environ.get("TABLE_INTO"))
