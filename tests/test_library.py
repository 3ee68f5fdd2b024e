"""The library is what the notebooks export, stands on few feet, and has no way up its own
stairs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import export
import notebooks
import pytest

from purification_nb.cache import NO_RESULT

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "purification_nb"
# Bottom first; a room imports from floors below, and from rooms of its own floor that do not import
# it.
FLOORS = [
    {
        "errors",
        "tables",
        "score_checks",
        "records",
        "repeats",
        "splits",
        "scores",
        "scale",
        "files",
    },
    {
        "draws",
        "networks",
        "graphs",
        "optimiser",
        "training",
        "checkpoints",
        "cache",
        "downloads",
        "faces",
        "datasets",
    },
    {"service", "trained", "network_answers", "targets"},
    {"adversary", "intervals", "trials", "evaluation", "controls", "epsilon"},
    {"attacks"},
    {"defences"},
    {"audit"},
    {"paper", "efficiency", "reproduction", "card", "playground"},
    {"cli", "cli_help"},
]
ROOM_LINES, FUNCTION_LINES = 300, 40
TOOLS = {
    "nbdev",
    "fastcore",
    "execnb",
    "ghapi",
    "IPython",
    "ipykernel",
    "ipywidgets",
    "notebook",
    "jupyterlab",
    "nbformat",
    "nbclient",
    "nbconvert",
    "jupyter_client",
    "jupyter_core",
    "jupyter_server",
}


def room_of(path: Path) -> str:
    """The dotted name of a module within the library."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


modules = sorted(path for path in LIBRARY.rglob("*.py") if not path.name.startswith("_"))
rooms = {room_of(path): path for path in modules}
chapters = sorted((ROOT / "nbs").glob("[0-9][0-9]*_*.ipynb"))
every_notebook = notebooks.reading_order(ROOT / "nbs")
each_room = pytest.mark.parametrize("room", rooms)


def imported(path: Path) -> set[str]:
    """What a source file imports, anywhere in it, relative imports read as absolute ones."""
    names = set()
    package = [LIBRARY.name, *path.relative_to(LIBRARY).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *filter(None, [node.module])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return names


def rooms_entered(room: str) -> set[str]:
    """The library's rooms that a room imports from."""
    start = f"{LIBRARY.name}."
    return {n.removeprefix(start) for n in imported(rooms[room]) if n.startswith(start)} & set(
        rooms
    )


def floor(room: str) -> int:
    """On which floor a room is."""
    found = [number for number, names in enumerate(FLOORS) if room.split(".")[0] in names]
    assert len(found) == 1, f"{room} is on no floor, or on two: {found}"
    return found[0]


def code_lines(node: ast.AST, source: list[str]) -> int:
    """How many lines of a definition or a module hold code: no docstrings, comments or blank
    lines."""
    first = getattr(node, "lineno", 1)
    last = getattr(node, "end_lineno", len(source))
    lines = {n for n in range(first, last + 1) if source[n - 1].strip()}
    lines -= {n for n in lines if source[n - 1].lstrip().startswith("#")}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef):
            said = export.docstring_of(inner)
            lines -= set(range(said.lineno, said.end_lineno + 1)) if said else set()
    return len(lines)


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions that may be called from outside, methods of public classes among them."""
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    functions = [
        n for part in [tree, *classes] for n in part.body if isinstance(n, ast.FunctionDef)
    ]
    return [
        n for n in functions if not n.name.startswith("_") or n.name in ("__init__", "__call__")
    ]


def untyped(function: ast.FunctionDef) -> list[str]:
    """What of a function's signature has no type."""
    spec = function.args
    named = [
        a for a in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs] if a.arg not in ("self", "cls")
    ]
    missing = [arg.arg for arg in named if arg.annotation is None]
    return missing + ["return"] * (function.returns is None and function.name != "__init__")


def fresh_python(code: str) -> list:
    """Run code that prints JSON in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_is_byte_for_byte_what_the_notebooks_export(tmp_path):
    fresh = export.export(ROOT, tmp_path)
    assert {room_of(path) for path in modules} <= {
        ".".join(path.relative_to(fresh).with_suffix("").parts) for path in fresh.rglob("*.py")
    }
    assert notebooks.differences(LIBRARY, fresh) == []


def test_a_changed_module_would_be_noticed(tmp_path):
    fresh = export.export(ROOT, tmp_path)
    (fresh / "records.py").write_bytes((fresh / "records.py").read_bytes() + b"\n")
    (fresh / "attacks" / "extra.py").touch()
    assert notebooks.differences(LIBRARY, fresh) == ["attacks/extra.py", "records.py"]


def test_each_room_has_one_chapter_and_each_chapter_a_room():
    exported = {path.stem: export.rooms_of(path) for path in chapters}
    named = [room for found in exported.values() for room in found]
    without = [name for name, found in exported.items() if not found]
    assert without == ["00_start"] and sorted(named) == sorted(rooms)


def test_only_chapters_export():
    assert [p.name for p in every_notebook if p not in chapters and export.rooms_of(p)] == []


@each_room
def test_imports_only_from_floors_below_or_its_own(room):
    assert {r for r in rooms_entered(room) if floor(r) > floor(room)} == set()


def test_no_result_depends_on_a_room_whose_source_is_not_part_of_the_key():
    passed_over = tuple(f"{room}." for room in NO_RESULT)
    silent = {room for room in rooms if f"{room}.".startswith(passed_over)}
    assert {"cli", "audit.report", "playground.game"} <= silent
    wrong = {room: rooms_entered(room) & silent for room in rooms.keys() - silent}
    assert {room: found for room, found in wrong.items() if found} == {}


def test_no_room_is_entered_from_a_room_that_it_enters():
    import graphlib

    # raises CycleError, with the rooms that go in circles
    assert list(graphlib.TopologicalSorter({r: rooms_entered(r) for r in rooms}).static_order())


def test_attacks_and_defences_do_not_know_each_other():
    wrong = {
        room: [
            r
            for r in rooms_entered(room)
            if {r.split(".")[0], room.split(".")[0]} == {"attacks", "defences"}
        ]
        for room in rooms
    }
    assert {room: found for room, found in wrong.items() if found} == {}


@each_room
def test_a_room_can_be_read_in_one_sitting(room):
    source = rooms[room].read_text()
    assert code_lines(ast.parse(source), source.split("\n")) < ROOM_LINES


@each_room
def test_no_function_is_longer_than_a_screen(room):
    source = rooms[room].read_text()
    lines = source.split("\n")
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    lengths = {n.name: code_lines(n, lines) for n in functions}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


@each_room
def test_public_functions_are_typed_and_say_what_one_gets(room):
    found = public_functions(ast.parse(rooms[room].read_text()))
    assert {n.name: missing for n in found if (missing := untyped(n))} == {}
    assert [n.name for n in found if not n.name.startswith("_") and not ast.get_docstring(n)] == []


@each_room
def test_a_room_says_what_it_is(room):
    assert ast.get_docstring(ast.parse(rooms[room].read_text()))


# The playground is for notebooks, and its widgets come with the extra of that name.
@each_room
def test_names_no_notebook_tool(room):
    allowed = {"ipywidgets", "IPython"} if room.startswith("playground") else set()
    assert {name.split(".")[0] for name in imported(rooms[room])} & TOOLS - allowed == set()


@pytest.fixture(scope="module")
def loaded_by() -> tuple[set, set]:
    """Give what a new interpreter has loaded after importing the audit, and after all rooms."""
    names = [f"{LIBRARY.name}.{room}" for room in rooms]
    return tuple(
        map(
            set,
            fresh_python(
                "import importlib, json, sys, purification_nb.audit.run; first = list(sys.modules);"
                f"[importlib.import_module(n) for n in {names}]; "
                "print(json.dumps([first, list(sys.modules)]))"
            ),
        )
    )


def test_importing_everything_loads_no_notebook_tool(loaded_by):
    loaded = {name.split(".")[0] for name in loaded_by[1]}
    assert {"torch", LIBRARY.name} <= loaded
    assert TOOLS & loaded == set()


def test_importing_the_audit_does_not_wait_for_torchvision(loaded_by):
    loaded = loaded_by[0]
    assert "purification_nb.audit.run" in loaded and "torchvision" not in loaded


def test_help_tells_what_stands_beside_the_parameters():
    said = fresh_python(
        "import json, pydoc; from purification_nb.scores import distortion;"
        "print(json.dumps(pydoc.render_doc(distortion, renderer=pydoc.plaintext)))"
    )
    assert "(n, k) scores without the defence" in said and "Returns" in said
