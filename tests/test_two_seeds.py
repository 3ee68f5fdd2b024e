"""Last year's answers do not pass this year's tests: a course follows from its seed."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason='nbformat is not installed: pip install -e ".[dev]"')
HERE = Path(__file__).parent / "assignments"
sys.path.insert(0, str(HERE))
import course  # noqa: E402
import in_process  # noqa: E402
import two_seeds  # noqa: E402

NAMES = course.assignments()
each_assignment = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.xdist_group("submissions")
# these watch how the answer uses what it is handed, so that no list of results passes at all
WATCHED = {"03": {"test_measure", "test_measure_seed"}, "05": {"test_one_round"}}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each test says, under two seeds, of the solution and of the first seed's results."""
    return in_process.table_of("two_seeds.py", tmp_path_factory.mktemp("seeds"))


@each_assignment
def test_solutions_pass_under_both_seeds(name, found):
    rows = found[name]
    tests = [test for tests in in_process.tests_of(name).values() for test in tests]
    assert [(test, seed) for test, seed, *_ in rows] == [
        (test, seed) for seed in two_seeds.SEEDS for test in tests
    ]
    assert {(test, seed): said for test, seed, said, _ in rows if said} == {}


@each_assignment
def test_results_of_one_year_pass_that_year_and_no_other(name, found):
    first, _ = two_seeds.SEEDS
    passed = {seed: set() for seed in two_seeds.SEEDS}
    for test, seed, _, copied in found[name]:
        if not copied:
            passed[seed].add(test)
    tests = {test for tests in in_process.tests_of(name).values() for test in tests}
    watched = WATCHED.get(name[:2], set())
    assert passed == {first: tests - watched, two_seeds.SEEDS[1]: set()}


def test_what_is_played_back_is_what_was_recorded():
    import torch

    class Answer:
        def score(self, scored):
            return scored + 1

    tape = two_seeds.Tape()
    recorded = two_seeds.with_tape(two_seeds.recorded, Answer, tape)()
    assert [recorded.score(1), recorded.score(5)] == [2, 6]
    played = two_seeds.with_tape(two_seeds.played, Answer, tape)()
    assert [played.score(0), played.score(0)] == [2, 6]
    with pytest.raises(AssertionError, match="not asked this often"):
        played.score(0)

    def scaled(x):
        return lambda y: (x * y**2).sum()

    tape, x = two_seeds.Tape(), torch.tensor([1.0, 2.0])
    y = torch.tensor([3.0, 1.0], requires_grad=True)
    two_seeds.recorded(scaled, tape)(x)(y)
    again = two_seeds.played(scaled, tape)(x)(y)
    (slope,) = torch.autograd.grad(again, y)
    assert again.item() == 11 and slope.tolist() == [6, 4]
