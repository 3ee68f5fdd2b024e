"""What the checks of all assignments share: calling a student's function, reading what it gives.

`make course` lays a copy of this file beside each assignment's own checks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike

from purification_nb import training

COURSE_SEED = 0  # data and hidden cases follow from it


def answer(student: Callable, *arguments: object, name: str | None = None) -> object:
    """What the student's function gives; says so where it is not written, or gives nothing."""
    name = name or getattr(student, "__name__", "your answer")
    try:
        given = student(*arguments)
    except NotImplementedError:
        raise AssertionError(f"{name} is not written yet") from None
    assert given is not None, f"{name} returns nothing: is a `return` missing?"
    return given


def answer_on_copies(student: Callable, *arguments: object) -> object:
    """The same, where arrays are handed over as copies: what the student does to them is lost."""
    copies = (np.array(a) if isinstance(a, np.ndarray) else a for a in arguments)
    return answer(student, *copies)


def once_written(call: Callable) -> object:
    """What `call` gives; a remark where the functions it uses are not written yet."""
    try:
        return call()
    except NotImplementedError:
        print("write the answers above first, then run this again")
        return None


def plain(given: object) -> np.ndarray:
    """Numbers as a plain array of floats: from a number, a list, a table, a tensor with gradient.

    What came with rules of its own for `==` or `-` leaves them behind.
    """
    if hasattr(given, "detach"):  # a tensor, with a gradient or without
        given = given.detach().cpu().tolist()
    elif isinstance(given, (list, tuple)):
        given = [plain(one) for one in given]
    try:
        return np.array(np.asarray(given, float).tolist(), float)
    except (TypeError, ValueError):
        raise AssertionError(
            f"numbers are asked for, in rows of one length, not {str(given)[:60]}"
        ) from None


def near(a: ArrayLike, b: ArrayLike, tolerance: float = 1e-4) -> bool:
    """Whether two numbers or arrays are equal, but for the last digits."""
    a, b = plain(a), plain(b)
    if b.size != 1 and a.size != 1 and a.shape != b.shape:
        return False
    return bool(((a == b) | (abs(a - b) <= tolerance + tolerance * abs(b))).all())


@contextmanager
def without(names: dict, *taken: str) -> Iterator[None]:
    """Take names of the notebook away while an answer runs: it must do with its arguments."""
    kept = {name: names.pop(name) for name in taken if name in names}
    try:
        yield
    except NameError as error:
        if error.name not in kept:
            raise
        raise AssertionError(
            f"the answer uses `{error.name}` of the notebook: let it use its arguments alone, so"
            " that it works on other records too"
        ) from None
    finally:
        names.update(kept)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The library's `seeded`, in which NumPy's `np.random` follows from the seed as well."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        with training.seeded(seed):
            yield
    finally:
        np.random.set_state(before)
