"""The saved notebooks are clean, whole, small, and shown with the outputs of their own source."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import notebooks
import pytest
import readme

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
NO_FIGURE = {
    "22_cache": "keys and files are read, not looked at",
    "24_catalogue": "names and what they mean are a table",
    "30_cli": "a command line shows text",
}
CELL_LINES, FEW_LINES, CLASS_LINES = 45, 30, 70

paths = notebooks.reading_order(NBS)
chapters = [path for path in paths if path.parent == NBS and path.name[0].isdigit()]
each_notebook = pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(NBS)))
each_chapter = pytest.mark.parametrize("path", chapters, ids=lambda path: path.stem)


def cells(path: Path) -> list:
    """Read a notebook's cells."""
    return nbformat.read(path, as_version=4).cells


def test_reading_order_starts_with_the_first_page_and_has_the_index_and_the_quickstart():
    names = [str(path.relative_to(NBS)) for path in paths]
    assert names[:2] == ["00_start.ipynb", "01_records.ipynb"]
    assert (
        names.index("30_cli.ipynb")
        < names.index("index.ipynb")
        < names.index("tutorials/quickstart.ipynb")
    )


def test_the_longest_notebooks_are_tested_first_and_each_result_is_its_own():
    assert set(notebooks.LONGEST) <= {path.stem for path in paths}
    seen = []

    def parallel(test, files, **settings):
        seen.extend(files)
        return map(test, files)

    found = notebooks.longest_first(parallel)(lambda path: (path.stem, 1), paths, n_workers=2)
    assert [name for name, _ in found] == [path.stem for path in paths]
    assert [path.stem for path in seen][: len(notebooks.LONGEST)] == list(notebooks.LONGEST)
    assert sorted(seen) == sorted(paths)


def test_nbdev_clean_changes_nothing(tmp_path):
    shutil.copy(ROOT / "settings.ini", tmp_path)
    shutil.copytree(NBS, tmp_path / "nbs")
    done = subprocess.run(
        [Path(sys.executable).with_name("nbdev_clean")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Failed" not in done.stderr, done.stderr
    changed = [
        str(path.relative_to(NBS))
        for path in paths
        if path.read_bytes() != (tmp_path / "nbs" / path.relative_to(NBS)).read_bytes()
    ]
    assert changed == []


@each_notebook
def test_outputs_are_of_this_source_without_errors_and_small(path):
    assert notebooks.problems(path) == []


def test_all_saved_outputs_come_from_one_number_of_threads():
    assert notebooks.of_other_threads(paths) == []


def test_results_files_have_a_row_a_line():
    for path in sorted((NBS / "tutorials" / "reproduced").glob("*.json")):
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if isinstance(found, dict) and "rows" in found:
            assert len(text.splitlines()) <= len(found["rows"]) + 3, path.name


@each_chapter
def test_a_chapter_has_a_figure(path):
    figures = [
        kind
        for cell in cells(path)
        for out in cell.get("outputs", [])
        for kind in out.get("data", {})
        if kind in ("image/png", "image/svg+xml")
    ]
    assert figures if path.stem not in NO_FIGURE else not figures, NO_FIGURE.get(
        path.stem, "no figure"
    )


@each_chapter
def test_a_chapter_opens_with_its_title_and_closes_with_exercises(path):
    first, *_ = cells(path)
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source)
    headings = [
        (number, line)
        for number, cell in enumerate(cells(path))
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if re.match(r"#+ ", line)
    ]
    exercises = [number for number, line in headings if "exercise" in line.lower()]
    exported = [
        number
        for number, cell in enumerate(cells(path))
        if re.match(r"#\s*\|\s*export", cell.source)
    ]
    assert exercises and exercises[-1] > max(exported, default=0)  # the first page exports nothing


def code_lines(source: str) -> int:
    """How many lines of a cell hold code, docstrings included."""
    lines = (line.strip() for line in source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def is_one_class(source: str) -> bool:
    """Whether a cell holds a class and nothing else."""
    body = ast.parse(source).body
    return len(body) == 1 and isinstance(body[0], ast.ClassDef)


def test_cells_are_small_and_only_a_class_is_long():
    sources = [c.source for path in chapters for c in cells(path) if c.cell_type == "code"]
    lengths = sorted(filter(None, map(code_lines, sources)))
    assert lengths[int(0.9 * (len(lengths) - 1))] <= FEW_LINES and lengths[-1] <= CLASS_LINES
    long = [source for source in sources if code_lines(source) > CELL_LINES]
    assert [source[:60] for source in long if not is_one_class(source)] == []


def own_names(node: ast.stmt) -> set[str]:
    """Names that an import, a function or a class gives a notebook."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()


def variables(node: ast.stmt) -> set[str]:
    """Names that a statement of a cell gives a value, not those inside comprehensions."""
    inner = [one for one in ast.walk(node) if isinstance(one, ast.comprehension)]
    hidden = {name.id for one in inner for name in ast.walk(one.target) if hasattr(name, "id")}
    stored = (one for one in ast.walk(node) if isinstance(getattr(one, "ctx", None), ast.Store))
    return {one.id for one in stored if isinstance(one, ast.Name)} - hidden


@pytest.mark.parametrize("path", sorted((NBS / "tutorials").glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_cell_takes_a_name_that_another_cell_imports_or_defines(path):
    """Cells that are not run each time would meet a table where they call a function."""
    code = [cell.source for cell in cells(path) if cell.cell_type == "code"]
    parsed = [ast.parse(source) for source in code if not re.search(r"^\s*[%!]", source, re.M)]
    owned, taken = set(), set()
    for node in [node for tree in parsed for node in tree.body]:
        if found := own_names(node):
            owned |= found
        else:
            taken |= variables(node) & owned
    assert taken == set()


def test_no_line_of_code_is_wider_than_a_screen():
    wide = {
        f"{path.stem}: {line}"
        for path in paths
        for cell in cells(path)
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if len(line) > 100
    }
    assert wide == set()


def test_the_readme_is_made_from_the_index():
    assert readme.differences(ROOT) == []


def test_the_readme_is_read_in_a_minute_and_fits_the_screen():
    text = (ROOT / "README.md").read_text()
    prose = re.sub(
        r"^```.*?^```|^    .*?$|^\|.*?$|<!--.*?-->|\]\([^)]*\)", "", text, flags=re.S | re.M
    )
    assert len(prose.split()) < 900 and len(text.split()) < 1400
    blocks = re.findall(r"^```.*?^```", text, re.S | re.M)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 100


TABLE_COLUMNS = 7


@each_notebook
def test_a_table_is_no_wider_than_a_page(path):
    for number, cell in enumerate(cells(path)):
        for output in cell.get("outputs", []):
            table = output.get("data", {}).get("text/html", "")
            for line in re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[-1], re.S):
                assert line.count("<td") <= TABLE_COLUMNS, number


def test_all_results_of_the_paper_are_of_one_library_and_say_which():
    files = [
        json.loads(path.read_text("utf-8")) for path in (NBS / "tutorials/reproduced").iterdir()
    ]
    runs = [run for one in files for run in (one if isinstance(one, list) else [one["run"]])]
    assert len(files) > 20 and {run["threads"] for run in runs} == {1}
    assert len({run["commit"][:12] for run in runs}) == 1


def test_the_first_page_is_plain():
    codes = [cell for cell in cells(NBS / "00_start.ipynb") if cell.cell_type == "code"]
    source = "\n".join(cell.source for cell in codes)
    read = "\n".join(cell.source for cell in codes if "jupyter" not in cell.metadata)  # not folded
    ours = {line for line in source.splitlines() if "purification_nb" in line}
    assert ours == {
        "from purification_nb.splits import digit_pairs",
        "from purification_nb.targets import MLPTarget",
    }
    assert code_lines(source) < 98 and code_lines(read) < 74 and source.count("\nassert ") >= 6
    assert max(code_lines(cell.source) for cell in codes) <= 20


def test_pictures_that_pages_share_are_legible_in_both_modes_and_fetch_nothing():
    pictures = sorted((NBS / "images").glob("*.svg"))
    assert {"service", "records", "shadows"} <= {path.stem for path in pictures}
    for path in pictures:
        drawn = path.read_text(encoding="utf-8")
        assert "<title" in drawn and "<desc" in drawn and "prefers-color-scheme: dark" in drawn
        assert min(map(int, re.findall(r"font-size[:=]\s*\"?(\d+)", drawn))) >= 12
        assert not re.search(r"@import|@font-face|(?:href|src)=|url\((?!#)", drawn)


def test_the_readme_links_to_files_that_exist():
    links = re.findall(r"\]\(([^)\s#]+)", (ROOT / "README.md").read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert local and [link for link in local if not (ROOT / link).exists()] == []


def notebook(folder: Path, *sources: str) -> Path:
    """Save a small notebook of code cells."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    path = folder / "small.ipynb"
    nbformat.write(nb, path)
    return path


def test_a_run_saves_outputs_and_a_stamp_that_an_edit_breaks(tmp_path):
    path = notebook(
        tmp_path,
        "import sys; print('bar 1\\rbar 2\\rdone'); print('warning', file=sys.stderr)",
        "2 + 3",
    )
    assert "not of this source" in notebooks.problems(path)[0]
    notebooks.execute(path)
    first, second = cells(path)
    assert [out.text for out in first.outputs] == ["done\n"]
    assert second.outputs[0].data["text/plain"] == "5" and second.execution_count is None
    assert notebooks.problems(path) == []
    path.write_text(path.read_text().replace("2 + 3", "2 + 4"))
    assert "not of this source" in notebooks.problems(path)[0]


def test_a_run_without_slow_cells_keeps_their_outputs_and_says_what_made_them(
    tmp_path, monkeypatch
):
    path = notebook(tmp_path, "#| slow\nprint('an hour')", "2 + 3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    notebooks.execute(path)
    stamp = nbformat.read(path, 4).metadata["executed"]
    assert set(stamp) == {"source", *notebooks.STAMP} and stamp["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebooks.execute(path, slow=False)
    first, second = cells(path)
    assert first.outputs[0].text == "an hour\n" and second.outputs[0].data["text/plain"] == "5"
    again = nbformat.read(path, 4).metadata["executed"]
    assert again["threads"] == 1 and again["slow"]["threads"] == 2
    (told,) = notebooks.of_other_threads([path])
    assert "OMP_NUM_THREADS" in told
    assert notebooks.unfinished(nbformat.read(path, 4), path) == []


def test_only_long_imports_of_chapters_are_folded(tmp_path):
    many = "\n".join(f"import module_{i}" for i in range(6))
    sources = [f'"A room\'s docstring."\n{many}', many, f"{many}\nx = 1", "import one", "%magic"]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    notebooks.fold(nb, NBS / "01_records.ipynb")
    assert [bool(cell.metadata) for cell in nb.cells] == [True, True, False, False, False]
    notebooks.fold(nb, NBS / "tutorials" / "quickstart.ipynb")
    assert not any(cell.metadata for cell in nb.cells)
    notebooks.fold(nb, NBS / "01_records.ipynb")
    notebooks.write(nb, tmp_path / "kept.ipynb")  # outside nbs/, so nothing is folded
    assert not any(cell.metadata for cell in nbformat.read(tmp_path / "kept.ipynb", 4).cells)
    kept = nbformat.v4.new_code_cell(many, metadata={"jupyter": {"source_hidden": True}})
    clean = notebooks.cleaned(nbformat.v4.new_notebook(cells=[kept]))
    assert json.loads(clean)["cells"][0]["metadata"] == {"jupyter": {"source_hidden": True}}


def test_a_run_that_fails_names_the_cell_and_leaves_the_file(tmp_path):
    path = notebook(tmp_path, "1", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"small\.ipynb, cell 1[^$]*ZeroDivisionError"):
        notebooks.execute(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_run_of_several_goes_on_after_one_that_fails(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
    wrong, right = notebook(tmp_path / "a", "1 / 0"), notebook(tmp_path / "b", "1 + 1")
    with pytest.raises(SystemExit, match=r"^failed: \S*a/small\.ipynb$"):
        notebooks.run([wrong, right], quick=False, named=True)
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert nbformat.read(right, 4).cells[0].outputs and not nbformat.read(wrong, 4).cells[0].outputs


def test_outputs_saved_without_data_that_was_at_hand_are_noticed(tmp_path):
    path = notebook(
        tmp_path,
        "print('skipped: dataset_location.tgz is not in /nowhere')",
        "print('skipped: dataset_purchase.tgz is not in /nowhere')",
    )
    notebooks.execute(path)
    (problem,) = notebooks.problems(path)
    assert problem.startswith("cell 0 is saved as it looks without dataset_location.tgz")
