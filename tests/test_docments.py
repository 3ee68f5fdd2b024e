"""Comments beside parameters reach `help`, and a room's opening string becomes its docstring."""

import ast

import pytest
from docments import with_parameters, without_parameters
from export import with_docstring_first, with_relative_imports

FUNCTION = '''
def distance(
    before: list,  # (n, k) scores
    # (n, k) scores, of the same records: what was said of them
    # once a defence stood in front
    after: list | None = None,
    *,
    norm: int = 1,  # 1 or 2
) -> float:  # mean over records
    """How far scores moved.

    Raises `InputError` where shapes differ.
    """
    return 0.0
'''


def documented(source: str) -> str:
    """The docstring of the first definition, as the export leaves it."""
    return ast.get_docstring(ast.parse(with_parameters(source)).body[0])


def test_parameters_and_result_stand_in_the_docstring():
    said = documented(FUNCTION)
    assert said.startswith("How far scores moved.\n\nRaises `InputError` where shapes differ.\n\n")
    assert "before : list\n    (n, k) scores\n" in said
    assert "after : list | None\n    (n, k) scores, of the same records: what was said" in said
    assert "what was said of them once a defence stood in front norm : int 1 or 2" in " ".join(
        said.split()
    )
    assert said.endswith("Returns\n-------\nfloat\n    mean over records")


def test_nothing_but_docstrings_changes():
    def bare(source: str) -> str:
        tree = ast.parse(source)
        tree.body[0].body.pop(0)
        return ast.dump(tree)

    assert bare(FUNCTION) == bare(with_parameters(FUNCTION))
    assert (
        documented(with_parameters('def f(a):\n    """Nothing to add."""\n')) == "Nothing to add."
    )


def test_the_authors_part_can_be_had_again():
    assert without_parameters(documented(FUNCTION)).endswith("where shapes differ.")


@pytest.mark.parametrize(
    "source",
    [
        'class Box:\n    """A box."""\n\n    def __init__(\n        self,\n'
        "        width,  # in cm\n    ):\n        pass\n",
        '@dataclass\nclass Box:\n    """A box."""\n\n    width: int  # in cm\n',
    ],
)
def test_a_class_tells_what_it_is_made_with(source):
    assert "width" in documented(source) and "in cm" in documented(source)


def test_the_string_that_opens_a_room_goes_to_the_top():
    made = '# header\n\n__all__ = ["x"]\n\n"What this room is"\n\nx = 1\n'
    assert ast.get_docstring(ast.parse(with_docstring_first(made))) == "What this room is"
    both = '"""The notebook\'s line"""\n\n__all__ = ["x"]\n\n"What this room is"\n\nx = 1\n'
    assert ast.get_docstring(ast.parse(with_docstring_first(both))) == "What this room is"
    kept = '"""The notebook\'s line"""\n\nx = 1\n'
    assert with_docstring_first(kept) == kept


def test_neighbours_are_imported_by_the_way_to_them():
    made = (
        "from purification_nb.cache import (\n    a,\n)\nfrom purification_nb import __version__\n"
    )
    assert with_relative_imports(made, 1).startswith("from .cache import (")
    assert with_relative_imports(made, 2).endswith("from .. import __version__\n")
    assert with_relative_imports("import purification_nb\n", 1) == "import purification_nb\n"


def test_a_word_to_ruff_is_no_word_to_readers():
    head, tail = "def f(\n", '):\n    """What one gets."""\n'
    above = head + "    # who is asked\n    a=g(),  # noqa: B008 - it is frozen\n" + tail
    assert documented(above).endswith("a\n    who is asked")
    behind = head + "    a=g(),  # noqa: B008 - it is frozen; who is asked\n" + tail
    assert documented(behind).endswith("a\n    who is asked")
