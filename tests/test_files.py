"""Files as people have them: any line ends, blanks, cases, encodings; a disk that is full."""

import errno
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from purification_nb import cli, files
from purification_nb.attacks.membership import NSH
from purification_nb.audit import report
from purification_nb.audit import run as audit_run
from purification_nb.audit.cells import cell_path, load_cell, save_cell
from purification_nb.audit.measure import CellPlan
from purification_nb.audit.report import save, save_results
from purification_nb.audit.score_files import ROWS, read_scores
from purification_nb.audit.scores_only import audit_scores
from purification_nb.audit.streams import csv_rows, purify_file
from purification_nb.card import Card, save_card
from purification_nb.datasets import digits
from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.purifier import Purifier
from purification_nb.defences.saving import save_purifier
from purification_nb.evaluation import planted_leak
from purification_nb.networks import mlp
from purification_nb.records import InputError, Scored, check_labels, check_scores
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

HEADER = "score_0,score_1,label,group"
ROWS_OF_TWO = ["0.75,0.25,0,a", "0.5,0.5,1,b", "1,0,0,a"]


def whole(scores):
    """Publish whole percents, as a purifier does."""
    tops = np.clip(np.round(scores[:, :1], 2), 0, 1)
    return np.c_[tops, 1 - tops]


whole.decimals = 2


def text(header=HEADER, rows=ROWS_OF_TWO, end="\n"):
    """Write a small score file."""
    return (end.join([header, *rows]) + end).encode()


WRITTEN = {
    "line feeds": text(),
    "old Macs": text(end="\r"),
    "Windows": text(end="\r\n"),
    "no end behind the last row": text()[:-1],
    "blank lines before": b"\n  \r\n" + text(),
    "a mark before": b"\xef\xbb\xbf\n" + text(),
    "blanks in the header": text("score_0 , score_1, label , group"),
    "another case": text("Score_0,SCORE_1,Label,Group"),
    "quoted": text('"score_0","score_1","label","group"'),
    "blanks before numbers": text(rows=["0.75, 0.25, 0,a", "0.5, 0.5, 1,b", "1, 0, 0,a"]),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_csv_is_read_as_people_mean_it(kind, tmp_path):
    (tmp_path / "in.csv").write_bytes(WRITTEN[kind])
    read = read_scores(tmp_path / "in.csv")
    assert read.scores.tolist() == [[0.75, 0.25], [0.5, 0.5], [1, 0]]
    assert read.y.tolist() == [0, 1, 0] and np.ravel(read.groups).tolist() == ["a", "b", "a"]


@pytest.mark.parametrize("kind", WRITTEN)
def test_and_is_purified_from_a_pipe_and_from_a_file_alike(kind, tmp_path):
    class Pipe(io.RawIOBase):
        """Hand out three bytes at a time, and never go back."""

        def __init__(self, held):
            self.held = io.BytesIO(held)

        def readable(self):
            return True

        def readinto(self, buffer):
            part = self.held.read(min(3, len(buffer)))
            buffer[: len(part)] = part
            return len(part)

    (tmp_path / "in.csv").write_bytes(WRITTEN[kind])
    purify_file(tmp_path / "in.csv", whole, tmp_path / "out.csv")
    piped = io.BytesIO()
    assert purify_file(Pipe(WRITTEN[kind]), whole, piped) == 3
    assert piped.getvalue() == (tmp_path / "out.csv").read_bytes()
    assert read_scores(tmp_path / "out.csv").scores.tolist() == [[0.75, 0.25], [0.5, 0.5], [1, 0]]


LAYOUTS = [
    ["score_1", "score_0", "label"],
    ["id", "score_0", "score_1", "label", "note"],
    ["id", "score_1", "score_0"],
    ["score_1", "id", "score_0"],
    [" Score_0", "note", "score_1 ", "Label"],
]


@pytest.mark.parametrize("names", LAYOUTS, ids=",".join)
@pytest.mark.parametrize("decimals", [2, None])
@pytest.mark.parametrize("note", ['say "hm"', "two\nlines", ""])
def test_purify_keeps_names_and_order(names, decimals, note, tmp_path):
    rng = np.random.default_rng(0)
    top = rng.random(ROWS + 3)
    frame = pd.DataFrame(
        {"score_0": top, "score_1": 1 - top, "label": 1, "id": "007", "note": note}
    )
    meant = [name.strip().lower() for name in names]
    frame[meant].set_axis(names, axis=1).to_csv(tmp_path / "in.csv", index=False)

    def purify(scores):
        return whole(scores)

    purify.decimals = decimals
    purify_file(tmp_path / "in.csv", purify, tmp_path / "out.csv")
    back = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert list(back.columns) == names
    back = back.set_axis(meant, axis=1)
    assert np.abs(back.score_0.astype(float) - top.round(2)).max() < 1e-12
    assert np.abs(back.score_0.astype(float) + back.score_1.astype(float) - 1).max() < 1e-12
    for name in {"label", "id", "note"} & set(meant):
        assert (back[name] == str(frame[name][0])).all()


def test_texts_in_any_encoding_come_out_as_they_went_in(tmp_path):
    for encoding in ("latin-1", "iso8859-2", "utf-8"):
        content = "score_0,score_1,größe\n0.75,0.25,größer\n".encode(encoding)
        (tmp_path / "in.csv").write_bytes(content)
        purify_file(tmp_path / "in.csv", whole, tmp_path / "out.csv")
        assert (tmp_path / "out.csv").read_bytes() == content


REFUSED = {
    "is UTF-16": text().decode().encode("utf-16"),
    "two columns called 'label'": text("score_0,score_1,label,Label"),
    "two columns called 'score_0'": text("score_0,Score_0,label,group"),
    "cannot be read": text(rows=['0.75,0.25,"0,a']),
    "is empty": b"\r\r \n",
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_meant_is_refused_in_a_sentence(says, tmp_path):
    (tmp_path / "in.csv").write_bytes(REFUSED[says])
    with pytest.raises(InputError, match=says):
        read_scores(tmp_path / "in.csv")


def test_columns_of_others_may_differ_in_case_alone(tmp_path):
    (tmp_path / "in.csv").write_bytes(text("score_0,score_1,id,ID"))
    assert len(read_scores(tmp_path / "in.csv", labelled=False)) == 3


@pytest.mark.parametrize("kind", [".npz", ".parquet"])
def test_other_kinds_know_a_label_in_any_case(kind, tmp_path):
    scores, path = np.array([[0.75, 0.25], [0, 1]]), tmp_path / f"in{kind}"
    if kind == ".npz":
        np.savez(path, scores=scores, Label=[0, 1])
    else:
        pytest.importorskip("pyarrow")
        frame = pd.DataFrame({"Score_0": scores[:, 0], "Score_1": scores[:, 1], "LABEL ": [0, 1]})
        frame.to_parquet(path)
    assert read_scores(path).y.tolist() == [0, 1]


def test_rows_before_the_scores_are_written_as_pandas_would():
    before = pd.DataFrame({"id": ["007", 'a "b", c', ""]})
    others = pd.DataFrame({"note": ["x", "", "y,z"]})
    scores = np.array([[0.75, 0.25], [0, 1], [0.29, 0.71]])
    quick, slow = (
        pd.read_csv(io.BytesIO(csv_rows(scores, others, digits, before)), header=None, dtype=str)
        for digits in (2, None)
    )
    assert quick[[0, 3]].equals(slow[[0, 3]])
    assert np.array_equal(quick[[1, 2]].astype(float), slow[[1, 2]].astype(float))


# --- a command among other encodings


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save an untrained purifier of two classes."""
    purifier = Purifier(mlp(purifier_sizes(2), batch_norm=True).eval(), 2, True, 2)
    return save_purifier(purifier, tmp_path_factory.mktemp("saved") / "purifier")


def test_a_pipe_that_is_not_utf8_is_no_crash(saved):
    content = "score_0,score_1,größe\n0.75,0.25,größer\n".encode("latin-1")
    done = CliRunner().invoke(cli.app, ["purify", "-", "--with", str(saved)], input=content)
    assert done.exit_code == 0, done.stderr
    header, row = done.stdout_bytes.splitlines()
    assert header == content.splitlines()[0] and row.endswith("größer".encode("latin-1"))


def test_a_terminal_without_some_letters_gets_question_marks(monkeypatch):
    class Ascii(io.TextIOWrapper):
        """Know ASCII alone."""

    stream = Ascii(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli._say("ε is at most 3 – größer")
    stream.flush()
    assert stream.buffer.getvalue() == b"? is at most 3 ? gr??er\n"


# --- things handed over in Python


@pytest.mark.parametrize(
    "scores, says",
    [
        ([[0.5, 0.5], [1.0]], "different lengths, from 1 to 2"),
        ({"a": [0.5, 0.5]}, "dictionary"),
        ([{"a": 0.5}, {"b": 0.5}], "cannot be made one"),
        ([["a", "b"]], "cannot be made one"),
        (None, "must be a table"),
        ([[0.5, 0.5, -1e-3]], "logits"),
    ],
)
def test_what_is_no_table_of_scores_is_an_input_error(scores, says, saved):
    from purification_nb.defences.saving import load_purifier

    for call in (check_scores, load_purifier(saved), lambda table: Scored(table, [0])):
        with pytest.raises(InputError, match=says):
            call(scores)


def test_labels_and_sets_that_are_none_are_input_errors():
    with pytest.raises(InputError, match="different lengths"):
        check_labels([[0], [1, 2]])
    for members in ({"scores": [[0.5, 0.5]]}, [[0.5, 0.5]], 3):
        with pytest.raises(InputError, match="hand over Scored"):
            audit_scores(members, members)


def test_a_rounding_error_below_zero_is_zero_and_what_was_handed_over_stays():
    scores = np.array([[1 + 1e-17, -1e-17, 0], [0.5, 0.5 + 1e-7, -1e-7]])
    checked = check_scores(scores)
    assert checked.min() == 0 and scores.min() < 0 and abs(checked - scores).max() <= 1e-7


# --- a disk that is full


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Draw nothing: that takes the longest."""
    monkeypatch.setattr(report, "figures", lambda audit: {})


@pytest.fixture(scope="module")
def found():
    """Audit a planted leak."""
    _, members, nonmembers = planted_leak(0.75, n=60)
    return audit_scores(
        members, nonmembers, attacks="label,confidence", seeds=1, jobs=1, progress=False
    )


class FullDisk:
    """Be a file that takes some bytes and no more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        """Take what there is room for, or fail as a full disk does."""
        if len(content) > self.room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room[0] -= len(content)
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self.file.close()


@pytest.fixture
def room(monkeypatch):
    """Give a function that leaves so many bytes on the disk."""

    def leave(count):
        left = [count]
        monkeypatch.setattr(
            files,
            "open",
            lambda *about: FullDisk(Path.open(Path(about[0]), about[1]), left),
            raising=False,
        )

    return leave


@pytest.mark.parametrize("bytes_left", [0, 15_000])
def test_on_a_full_disk_no_file_of_a_report_is_left(bytes_left, found, room, tmp_path):
    room(bytes_left)
    with pytest.raises(InputError, match="No space left on device.*none of them was"):
        save(found, tmp_path / "report")
    assert os.listdir(tmp_path) == []


def test_an_older_report_stays_whole(found, room, tmp_path):
    save(found, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"audit.json", "table.md", "report.html"} <= set(before)
    room(15_000)
    with pytest.raises(InputError):
        save(found, tmp_path)
    with pytest.raises(InputError):
        save_results(found, tmp_path / "audit.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_card_and_a_purifier_are_whole_or_absent(room, tmp_path):
    room(100)
    lines = pd.DataFrame({"table": ["II"], "what": ["x"], "paper": [0.5], "ours": [0.5]})
    with pytest.raises((InputError, KeyError)):
        save_card(Card(lines, {}), tmp_path / "card")
    purifier = Purifier(mlp(purifier_sizes(2), batch_norm=True).eval(), 2)
    with pytest.raises(OSError):
        save_purifier(purifier, tmp_path / "purifier")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_command_says_so_in_one_line(saved, room, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_bytes(text())
    room(10)
    done = CliRunner().invoke(cli.app, ["purify", "in.csv", "--with", str(saved)])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "No space left" in done.stderr and os.listdir() == ["in.csv"]


# --- what an audit remembers


def plan_with(split, **attacks):
    """Plan a cell with these attacks."""
    recipe = Recipe(MLPTarget((8,), epochs=1))
    return CellPlan(split, recipe, attacks, 0, None, recipe, None, None, None)


def test_a_key_covers_the_settings_of_an_attack_not_its_name_alone():
    split = digits(0)

    class Mine(NSH):
        """Do something else under a known name."""

    makers = [NSH, lambda: NSH(updates=10), lambda: NSH(log=True)]
    paths = [cell_path(plan_with(split, nsh=make)) for make in makers]
    assert None not in paths and len(set(paths)) == 3
    assert cell_path(plan_with(split, nsh=lambda: NSH(updates=10))) == paths[1]
    assert cell_path(plan_with(split, nsh=Mine)) is None
    assert cell_path(replace(plan_with(split, nsh=NSH), seed=1)) != paths[0]


def test_a_remembered_cell_that_was_altered_is_measured_again(tmp_path):
    row = {"metric": "accuracy", "value": 0.5, "estimate": None}
    path = tmp_path / "cell.npz"
    save_cell(path, [row], {"roc": (np.arange(3.0), np.ones(2))})
    rows, result = load_cell(path)
    assert rows == [row] and result["roc"][0].tolist() == [0, 1, 2]
    with np.load(path) as file:
        held = dict(file)
    np.savez_compressed(path, **held | {"roc.0": np.array([0.0, 1, 9])})
    with pytest.warns(UserWarning, match="not what was written"):
        assert load_cell(path) is None


def test_a_run_tells_the_versions_of_what_computes():
    assert {"numpy", "scipy", "scikit-learn", "torch"} <= set(
        audit_run.versions_and_machine()["versions"]
    )
