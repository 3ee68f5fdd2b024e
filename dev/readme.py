"""Make README.md from nbs/index.ipynb.

python dev/readme.py           write README.md (and its figures, if any, in README_files/)
python dev/readme.py --check   end with 1 when they are not what the notebook gives
"""

import posixpath
import re
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FIGURES = "README_files"
HIDDEN = {"hide", "export", "exporti", "default_exp"}
DIRECTIVE = re.compile(r"^#\s*\|\s*(\w[\w-]*):?[ \t]*(.*)\n?", re.M)


def directives(cell) -> dict:
    """Read the `#| name: value` lines of a cell."""
    return {name: value.strip().lower() for name, value in DIRECTIVE.findall(cell.source)}


def for_readers(cell):
    """Give the cell as a reader should see it, or None when it is not for readers."""
    if cell.cell_type == "raw":
        return None
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"\A---\n.*?\n---\n?", "", cell.source, flags=re.S)
        cell.source = relink(cell.source)
        return cell if cell.source.strip() else None
    says = directives(cell)
    if HIDDEN & says.keys() or says.get("include") == "false":
        return None
    cell.source = DIRECTIVE.sub("", cell.source).strip("\n")
    if says.get("echo") == "false":
        cell.metadata["transient"] = {"remove_source": True}
    if says.get("output") == "false":
        cell.outputs = []
    for out in cell.outputs:
        html = out.get("data", {}).get("text/html")
        if html:  # pandas puts a style sheet before each table, which GitHub would show as text
            out.data["text/html"] = re.sub(r"<style.*?</style>\s*", "", html, flags=re.S)
    return cell


def relink(text: str) -> str:
    """Turn links that start from nbs/ into links that start from the root."""

    def moved(match):
        target = match[2]
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        return f"{match[1]}{posixpath.normpath(posixpath.join('nbs', target))}{match[3]}"

    return re.sub(r"(\]\()([^)\s]+)(\))", moved, text)


def generate(root: Path = ROOT) -> dict[str, bytes]:
    """Give the bytes of README.md and of its figures, by path from the root."""
    from nbconvert import MarkdownExporter

    nb = nbformat.read(root / "nbs" / "index.ipynb", as_version=4)
    nb.cells = [cell for cell in map(for_readers, nb.cells) if cell is not None]
    nb.metadata["language_info"] = {
        "name": "python"
    }  # nbdev_clean removes it; it names the language of the code blocks
    text, resources = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": FIGURES})
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    head = "<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->\n\n"
    return {"README.md": (head + text).encode(), **resources.get("outputs", {})}


def differences(root: Path = ROOT) -> list[str]:
    """Name the files that are not what the notebook gives."""
    made = generate(root)
    there = {"README.md", *(str(p.relative_to(root)) for p in (root / FIGURES).glob("*"))}
    return sorted(
        name
        for name in made.keys() | there
        if not (root / name).exists() or (root / name).read_bytes() != made.get(name)
    )


def write(root: Path = ROOT) -> None:
    """Write README.md and its figures, and no others."""
    made = generate(root)
    shutil.rmtree(root / FIGURES, ignore_errors=True)
    for name, content in made.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        stale = differences()
        sys.exit(
            f"{', '.join(stale)}: not what nbs/index.ipynb gives; run `make readme`" if stale else 0
        )
    write()
