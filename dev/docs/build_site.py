"""Build the documentation site from the notebooks' saved outputs, without running them and without
a network.

python dev/docs/build_site.py [FOLDER]     into _docs/ when no folder is named; any warning of
Sphinx's is an error
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

import course  # noqa: E402
import docments  # noqa: E402
from docments import Comments  # noqa: E402
from export import rooms_of  # noqa: E402
from notebooks import folds, reading_order  # noqa: E402
from readme import DIRECTIVE, directives  # noqa: E402

NBS, LIBRARY = ROOT / "nbs", ROOT / "purification_nb"
CHAPTER = re.compile(r"\b([Cc]hapters?) (\d+[a-z]?)\b((?:(?:, | and | or | to )(?:\d+[a-z]?)\b)*)")
CODE = re.compile(
    r"(```.*?```|~~~.*?~~~|\$\$.*?\$\$|``.*?``|`[^`\n]+`|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\))", re.S
)


# Tutorials in the order in which readers need them; others follow by name.
HOW_TO = (
    "quickstart",
    "your_pytorch_model",
    "your_sklearn_model",
    "scores_only",
    "a_live_service",
    "colab",
    "faces",
    "reproduce_the_paper",
)
PEERS = "peers"  # a page of "More": nothing to be done there
GAME = HERE / "game.md"
TO_THE_GAME = "Ten rounds in this browser, with nothing to install: [be the attacker](game.md)."

TEACHERS = re.compile(r"\[([^\]]*)\]\([^)\s]*INSTRUCTOR\.md[^)]*\)")  # holds sample answers


# The reference: what the library's source says about itself


def field_list(explained: list, result: str = "") -> list[str]:
    """Write parameters and result as Sphinx's field list."""
    return [f":param {name}: {escaped(text)}" for name, _, text in explained] + (
        [f":returns: {escaped(result)}"] if result else []
    )


def escaped(text: str) -> str:
    """Keep a comment from being read as Markdown, its code apart."""
    return "".join(
        part if i % 2 else re.sub(r"([*_$<>\[\]{}|])", r"\\\1", part)
        for i, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


def docstring(node) -> str:
    """Give a docstring, safe in Markdown."""
    return escaped(docments.without_parameters(ast.get_docstring(node) or ""))


class Plain(ast.NodeTransformer):
    """Turn Annotated[type, ...], which tells typer about the command line, into type."""

    def visit_Subscript(self, node):
        return node.slice.elts[0] if ast.unparse(node.value) == "Annotated" else node


def signature(function: ast.FunctionDef, method: bool = False) -> str:
    """Write (parameters) -> result, without self."""
    arguments = ast.unparse(Plain().visit(function.args))
    if method:
        arguments = re.sub(r"^(self|cls)(, |$)", "", arguments)
    return f"({arguments})" + (f" -> {ast.unparse(function.returns)}" if function.returns else "")


def directive(kind: str, head: str, body: list, depth: int = 3, options: tuple = ()) -> str:
    """Write a directive of Sphinx's in Markdown."""
    fence = "`" * depth
    return "\n".join([f"{fence}{{py:{kind}}} {head}", *options, "", *body, fence, ""])


def decorated(node, name: str) -> bool:
    """Say whether a definition carries a decorator of that name."""
    return any(name in ast.unparse(one) for one in node.decorator_list)


def described_method(node: ast.FunctionDef, comments: Comments, lines: list[str]) -> str:
    """Describe a public method of a class."""
    if decorated(node, "property"):
        return directive("property", node.name, [docstring(node)], 3)
    static = decorated(node, "staticmethod")
    known = docments.parameters(node, comments), docments.returned(node, comments, lines)
    return directive(
        "method",
        node.name + signature(node, not static),
        [docstring(node), "", *field_list(*known)],
        3,
        (":staticmethod:",) if static else (),
    )


def of_fields(node: ast.ClassDef) -> str:
    """Write what a dataclass is made with: (name, name=default)."""
    held = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    parts = []
    for one in held:
        default = "" if one.value is None else ast.unparse(one.value)
        shown = default and "field(" not in default
        parts.append(ast.unparse(one.target) + (f"={default}" if shown else ""))
    return f"({', '.join(parts)})"


def described_class(node: ast.ClassDef, comments: Comments, lines: list[str]) -> str:
    """Describe a class: what makes it, and its public methods."""
    made = docments.constructor(node)
    head = signature(made, True) if made else ""
    if not made and docments.is_dataclass(node):
        head = of_fields(node)
    body = [docstring(node), "", *field_list(docments.made_with(node, comments)), ""]
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    body += [
        described_method(one, comments, lines)
        for one in methods
        if not one.name.startswith("_") and ast.get_docstring(one)
    ]
    return directive("class", node.name + head, body, 4)


def described_data(node: ast.Assign | ast.AnnAssign, comments: Comments, public: list) -> list[str]:
    """Describe the public names that an assignment gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    value = "" if node.value is None else ast.unparse(node.value)
    shown = (f":value: {value}",) if value and len(value) < 100 and len(names) == 1 else ()
    said = escaped(comments.trailing.get(node.lineno, ""))
    return [directive("data", name, [said], options=shown) for name in names if name in public]


def public_of(tree: ast.Module) -> list[str]:
    """Read a module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def reference(path: Path, chapter: str) -> str:
    """Write the page of one module."""
    source = path.read_text(encoding="utf-8")
    tree, comments, lines = ast.parse(source), Comments(source), source.split("\n")
    public, room = public_of(tree), room_of(path)
    page = [
        f"# {room}",
        "",
        docstring(tree).rstrip(".") + ".",
        "",
        f"Explained, shown and tested in [its chapter](../{chapter}).",
        "",
        f"```{{py:module}} purification_nb.{room}\n```",
        "",
    ]
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            page += described_data(node, comments, public)
        elif isinstance(node, ast.FunctionDef) and node.name in public:
            known = docments.parameters(node, comments), docments.returned(node, comments, lines)
            head = node.name + signature(node)
            page.append(directive("function", head, [docstring(node), "", *field_list(*known)]))
        elif isinstance(node, ast.ClassDef) and node.name in public:
            page.append(described_class(node, comments, lines))
    return "\n".join(page)


def public_names() -> dict[str, str]:
    """Give room.name for each public name that only one room has."""
    where: dict[str, list[str]] = {}
    for path in modules():
        for name in public_of(ast.parse(path.read_text(encoding="utf-8"))):
            where.setdefault(name, []).append(room_of(path))
    return {
        name: f"purification_nb.{places[0]}.{name}"
        for name, places in where.items()
        if len(places) == 1
    }


def room_of(path: Path) -> str:
    """Give the dotted name of a module within the library."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def modules() -> list[Path]:
    """List the library's modules, in the order of their chapters."""
    rooms = [room for path in chapters() for room in rooms_of(path)]
    return [LIBRARY / f"{room.replace('.', '/')}.py" for room in rooms]


def chapters() -> list[Path]:
    """List the chapters' notebooks."""
    return [path for path in reading_order(NBS) if path.parent == NBS and path.name[0].isdigit()]


# The pages: the notebooks as readers should see them


def linked(text: str, here: Path, names: dict) -> str:
    """Link what the prose names: chapters by number, and the library's functions and classes."""
    numbers = {path.stem.split("_")[0].lstrip("0") or "0": path for path in chapters()}
    back = "../" * len(here.relative_to(NBS).parts[:-1])

    def link(words, number):
        path = numbers.get(number)
        return words if path is None or path == here else f"[{words}]({back}{path.name})"

    def chapter(match):
        more = re.sub(r"\d+[a-z]?", lambda number: link(number[0], number[0]), match[3])
        return link(f"{match[1]} {match[2]}", match[2]) + more

    def part(i, piece):
        if not i % 2:
            return CHAPTER.sub(chapter, piece)
        name = piece.strip("`")
        return (
            f"{{py:obj}}`~{names[name]}`"
            if re.fullmatch(r"`\w+`", piece) and name in names
            else piece
        )

    lines = "".join(part(i, piece) for i, piece in enumerate(CODE.split(text))).split("\n")
    return (
        "\n".join(
            plain if plain.startswith("#") else rich
            for plain, rich in zip(text.split("\n"), lines, strict=True)
        )
        if len(lines) == len(text.split("\n"))
        else text
    )


def for_readers(nb, path: Path, names: dict):
    """Strip nbdev's directives, drop what they hide, and link what the prose names."""
    cells = []
    for cell in nb.cells:
        if cell.cell_type == "raw":
            continue
        if cell.cell_type == "markdown":
            cell.source = linked(TEACHERS.sub(r"\1", cell.source), path, names)
            cells.append(cell)
            continue
        says = directives(cell)
        cell.source = DIRECTIVE.sub("", cell.source).strip("\n")
        if "hide" in says or says.get("include") == "false" or not cell.source:
            continue
        if says.get("output") == "false":
            cell.outputs = []
        if says.get("echo") == "false":
            cell.metadata["tags"] = ["remove-input"]
        elif folds(cell, path):
            cell.metadata["tags"] = ["hide-input"]
        cells.append(cell)
    nb.cells = cells
    if path.stem.endswith("_playground") or path == NBS / "index.ipynb":
        note = nbformat.v4.new_markdown_cell(f":::{{tip}}\n{TO_THE_GAME}\n:::")
        nb.cells.insert(1, note)
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return nb


def titled(path: Path) -> str:
    """Give a line of a table of contents."""
    title = re.search(r"^# (.*)", nbformat.read(path, as_version=4).cells[0].source, re.M)
    number = path.stem.split("_")[0] if path in chapters() else ""
    return (
        f"{number} {title[1] if title else path.stem}".strip()
        + f" <{path.relative_to(NBS).with_suffix('').as_posix()}>"
    )


def contents(caption: str, entries: list) -> str:
    """Write a table of contents for the sidebar."""
    return (
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""])
        if entries
        else ""
    )


def linked_files(nb, path: Path) -> list[str]:
    """List what a notebook links to beside it that is no notebook."""
    targets = re.findall(
        r"\]\(([^)\s#:]+)\)",
        "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown"),
    )
    return [
        target
        for target in targets
        if not target.endswith(".ipynb") and (path.parent / target).is_file()
    ]


def how_to(every: list[Path]) -> list[Path]:
    """List the tutorials in the order in which readers need them."""

    def rank(path: Path) -> tuple:
        known = path.stem in HOW_TO
        return (HOW_TO.index(path.stem) if known else len(HOW_TO)), path.name

    found = [path for path in every if path.parent.name == "tutorials" and path.stem != PEERS]
    return sorted(found, key=rank)


def sidebar(every: list[Path], linked: list[str]) -> str:
    """Write the tables of contents: the first page and the game, chapters, tutorials, the rest."""
    first = [path for path in chapters() if path.name.startswith("00_")]
    told = [path for path in chapters() if path not in first]
    tasks = how_to(every)
    rest = [p for p in every if p not in first + told + tasks and p != NBS / "index.ipynb"]
    rest.sort(key=lambda path: path.stem == PEERS)
    parts = {
        "Start": [*map(titled, first), "game"],
        "How-to": [*map(titled, tasks)],
        "Chapters": [*map(titled, told)],
        "More": [*sorted({one for one in linked if one.endswith(".md")}), *map(titled, rest)],
        "Reference": [f"api/{room_of(one)}" for one in modules()],
    }
    return "\n".join(contents(caption, entries) for caption, entries in parts.items())


def write_pages(into: Path) -> None:
    """Write what Sphinx reads: every notebook, the game, and a page for each module."""
    names, every = public_names(), reading_order(NBS)
    for path in every:
        page = into / path.relative_to(NBS)
        page.parent.mkdir(parents=True, exist_ok=True)
        nb = nbformat.read(path, as_version=4)
        if course.ASSIGNMENTS in path.parents:
            nb = course.for_students(nb)
        nb = for_readers(nb, path, names)
        if path == NBS / "index.ipynb":
            nb.cells.append(nbformat.v4.new_markdown_cell(sidebar(every, linked_files(nb, path))))
        nbformat.write(nb, page)
        for target in linked_files(nb, path):
            (page.parent / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path.parent / target, page.parent / target)
    shutil.copy(GAME, into)
    if (NBS / "images").is_dir():
        shutil.copytree(NBS / "images", into / "images", dirs_exist_ok=True)
    (into / "api").mkdir()
    chapter_of = {room: path.name for path in chapters() for room in rooms_of(path)}
    for path in modules():
        room = room_of(path)
        page = reference(path, chapter_of[room])
        (into / "api" / f"{room}.md").write_text(page, encoding="utf-8")


def build(into: Path) -> None:
    """Build the site in a new folder, and put it in place when it is whole."""
    into = Path(into).resolve()
    if into.exists() and any(into.iterdir()) and not (into / "searchindex.js").exists():
        sys.exit(f"{into} holds something that is not this site; name another folder")
    with tempfile.TemporaryDirectory() as folder:
        pages, site = Path(folder, "pages"), Path(folder, "site")
        pages.mkdir()
        write_pages(pages)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "sphinx",
                "-W",
                "--keep-going",
                "-q",
                "-b",
                "html",
                "-c",
                HERE,
                "-d",
                Path(folder, "doctrees"),
                pages,
                site,
            ]
        )
        if done.returncode:
            sys.exit(f"the site has the faults above and was not built; {into} is left as it was")
        for template in Path(site, "_static").glob("*webpack-macros.html"):
            template.unlink()  # the theme's own, no page
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(site, into)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("into", nargs="?", type=Path, default=ROOT / "_docs", help="a folder")
    build(parser.parse_args().into)
