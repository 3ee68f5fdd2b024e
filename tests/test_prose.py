"""What the prose of the notebooks says: each number is shown by an output beside it, or its source
is named."""

import csv
import json
from pathlib import Path

import notebooks
import prose_numbers
import pytest

PATHS = notebooks.reading_order(prose_numbers.NBS)
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@each_notebook
def test_numbers_in_prose_are_shown_or_have_a_source(path):
    rows = prose_numbers.without_source(path)
    assert rows == [], (
        "mend the sentence, or name the source beside the number and in tests/sourced_numbers.csv,"
        " in the place of the words:\n" + "\n".join(rows)
    )


@each_notebook
def test_sources_that_nothing_needs_are_deleted(path):
    assert prose_numbers.no_longer_needed(path) == []


def test_every_number_from_elsewhere_names_its_source():
    with prose_numbers.SOURCED.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stems = {path.stem for path in PATHS}
    assert [row for row in rows if row["notebook"] not in stems or len(row["source"]) < 5] == []


def written(folder: Path, prose: str, *shown: str) -> Path:
    """Write a notebook of one text and of these outputs."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": [one]} for one in shown]
    cells = [
        {"cell_type": "markdown", "id": "words", "source": [prose]},
        {"cell_type": "code", "id": "code", "source": ["rate = 0.25"], "outputs": outputs},
    ]
    path = folder / "small.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "prose, found",
    [
        ("It finds 0.593 of them.", []),
        ("It finds 0.59, or 59 %, or 59.3 per cent.", []),
        ("It finds 0.594.", ["0.594"]),
        ("It finds 60 % of 2,000, twice in 3 runs.", ["60%"]),
        ("A rate of 0.25 is in the code; 1.2 seconds are not.", ["1.2"]),
        ("1,234.5 records", []),
        ("`0.7`, [text](https://a.org/0.9), $0.6$, arXiv 2005.03915", []),
        ("# 0.4 in a heading", []),
    ],
)
def test_claims_are_compared_with_what_is_shown(prose, found, tmp_path):
    path = written(tmp_path, prose, "accuracy 0.5931", "<td>1,234.5</td>")
    assert [one.number for one in prose_numbers.unshown(path)] == found


def test_a_number_with_a_source_passes_until_it_is_gone(tmp_path):
    path, listed = written(tmp_path, "The paper finds 0.7.", "0.5"), tmp_path / "sourced.csv"
    listed.write_text("notebook,cell,number,source\n")
    (row,) = prose_numbers.without_source(path, listed)
    assert row == 'small,words,0.7,"The paper finds 0.7."'
    listed.write_text(f"notebook,cell,number,source\n{row}\n")
    assert prose_numbers.without_source(path, listed) == []
    assert prose_numbers.no_longer_needed(path, listed) == []
    path = written(tmp_path, "The paper finds a leak.")
    assert prose_numbers.no_longer_needed(path, listed) == [("words", "0.7")]
