"""Write the library from the notebooks: python dev/export.py

nbdev does the exporting. A chapter may hold several rooms (`#| export attacks.shadows`), each a
module of its own;
a string at the top of a room's first cell is its docstring, comments beside parameters go into
docstrings (docments.py),
and ruff gives the modules their look. Nothing here is imported by the library.
"""

import ast
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from functools import partial
from pathlib import Path

from docments import docstring_of, with_parameters

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "purification_nb"


def as_new_module(make, *arguments, **settings):
    """Make nbdev write a room as a file of its own, also where it is not its notebook's default."""
    return make(*arguments, **settings | {"is_new": True})


def with_docstring_first(source: str) -> str:
    """Move the string that opens a room's first cell to the top of its module."""
    tree = ast.parse(source)
    strings = [n for n in tree.body if docstring_of(ast.Module([n], []))]
    own = strings[1:] if docstring_of(tree) else strings
    if not own:
        return source
    lines, said = source.split("\n"), own[0]
    text = lines[said.lineno - 1 : said.end_lineno]
    del lines[said.lineno - 1 : said.end_lineno]
    if (old := docstring_of(tree)) is not None:
        del lines[old.lineno - 1 : old.end_lineno]
    return "\n".join([*text, *lines])


def with_relative_imports(source: str, depth: int) -> str:
    """Let a module import its neighbours by the way to them; nbdev does so on single lines only."""
    dots = "." * depth
    source = re.sub(rf"^(\s*from ){LIBRARY}\.(?=\w)", rf"\g<1>{dots}", source, flags=re.M)
    return re.sub(rf"^(\s*from ){LIBRARY}(?= import)", rf"\g<1>{dots}", source, flags=re.M)


def rooms_of(notebook: Path) -> list[str]:
    """The rooms that a notebook's directives name, the default one first; packages are no rooms."""
    import nbformat

    code = "\n".join(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code")
    named = re.findall(r"^#\s*\|\s*(?:default_exp|export)[ \t]+(\S+)", code, re.M)
    return [room for room in dict.fromkeys(named) if not room.endswith("__init__")]


def package_source(exported: str, version: str | None) -> str:
    """What a package's `__init__.py` holds: what a notebook exports, and at the top the version."""
    own = re.sub(r"^# %% auto #0\n__all__ = \[.*?\]\n", "", exported, count=1, flags=re.M | re.S)
    return own + (f'\n__version__ = "{version}"\n' if version else "")


def export(root: Path, into: Path) -> Path:
    """Export the notebooks of one folder as a library inside another; give the library's folder."""
    from nbdev.export import nb_export
    from nbdev.maker import ModuleMaker

    library = into / LIBRARY
    config = ConfigParser()
    config.read(root / "settings.ini", encoding="utf-8")
    written: dict[str, str] = {}
    copies = into / "nbs"  # a module names its notebook by the way from one to the other
    shutil.copytree(root / "nbs", copies, ignore=lambda *_: [".ipynb_checkpoints", "tutorials"])
    for notebook in sorted(copies.glob("[0-9]*.ipynb")):
        for room in rooms_of(notebook):
            if room in written:
                sys.exit(
                    f"{notebook.name} and {written[room]} both export {room}: a room has one"
                    " chapter"
                )
            written[room] = notebook.name
            (library / f"{room.replace('.', '/')}.py").parent.mkdir(parents=True, exist_ok=True)
        nb_export(notebook, lib_path=library, mod_maker=partial(as_new_module, ModuleMaker))
    version = config["DEFAULT"]["version"]
    for folder in {library, *(path.parent for path in library.rglob("*.py"))}:
        package = folder / "__init__.py"
        exported = package.read_text() if package.exists() else ""
        package.write_text(package_source(exported, version if folder == library else None))
    for path in library.rglob("*.py"):
        text = with_relative_imports(path.read_text(), len(path.relative_to(library).parts))
        path.write_text(with_parameters(with_docstring_first(text)))
    ruff = [Path(sys.executable).with_name("ruff")]
    settings = ["--config", ROOT / "pyproject.toml", "--no-cache", "-q"]
    subprocess.run(
        [*ruff, "check", "--select", "I,F401", "--fix-only", *settings, library], check=True
    )
    subprocess.run([*ruff, "format", *settings, library], check=True)
    return library


def remove_stale(library: Path, fresh: Path) -> None:
    """Delete modules that no notebook exports any more."""
    for path in library.rglob("*.py"):
        if not (fresh / path.relative_to(library)).exists():
            path.unlink()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fresh = export(ROOT, Path(folder))
        remove_stale(ROOT / LIBRARY, fresh)
        shutil.copytree(fresh, ROOT / LIBRARY, dirs_exist_ok=True)
