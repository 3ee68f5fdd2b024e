"""Scores and labels are enough for an audit; a saved purifier works through files of any length."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forked import command
from typer.testing import CliRunner

from purification_nb.audit.score_files import ROWS, check_shared, read_scores, score_columns
from purification_nb.audit.scores_only import audit_scores
from purification_nb.audit.streams import purify_file
from purification_nb.cli import app
from purification_nb.defences.paper_settings import purifier_sizes
from purification_nb.defences.purifier import Purifier
from purification_nb.defences.saving import load_purifier, save_purifier
from purification_nb.evaluation import planted_leak
from purification_nb.networks import mlp
from purification_nb.records import InputError, Scored

K = 10
NAMES = [f"score_{i}" for i in range(K)]


def table(scored):
    """Give scores and labels as a score file has them."""
    return pd.DataFrame(scored.scores, columns=NAMES).assign(label=scored.y)


def write(scored, path):
    """Write a score file of the kind its name says."""
    frame = table(scored)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        np.savez(path, scores=scored.scores, label=scored.y)
    return path


def run_here(folder, *command):
    """Run the command in this process: starting Python for each mistake would take too long."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, [str(word) for word in command])
    done.returncode = done.exit_code
    return done


@pytest.fixture(scope="module")
def planted():
    """Give members, non-members and a reference set; the best attack is right 3 times of 4."""
    knowledge, members, nonmembers = planted_leak(0.75, n=600)
    return members, nonmembers, knowledge.nonmembers


@pytest.fixture(scope="module")
def audited(planted, tmp_path_factory):
    """Audit three files of different kinds with the command, and train a purifier."""
    folder = tmp_path_factory.mktemp("audited")
    members, nonmembers, reference = (
        write(part, folder / name)
        for part, name in zip(
            planted, ("members.csv", "nonmembers.parquet", "reference.npz"), strict=True
        )
    )
    done = command(
        "audit-scores",
        members.name,
        nonmembers.name,
        "--reference",
        reference.name,
        "--purify",
        "--attacks",
        "label,confidence,boosted,lira_online,calibrated,label_only_noise,inversion,"
        "reference_membership",
        "--seeds",
        "2",
        "--jobs",
        "1",
        "--out",
        "report",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder, done, json.loads((folder / "report" / "audit.json").read_text())


def test_the_command_writes_the_results_file_and_finds_the_planted_leak(audited):
    folder, done, results = audited
    assert "\r" not in done.stderr  # no bars where nobody sees them move
    rows = results["rows"]
    assert (
        {
            "data",
            "recipe",
            "setting",
            "attack",
            "adaptive",
            "metric",
            "value",
            "low",
            "high",
            "n",
            "seed",
            "error",
        }
        == set().union(*rows)
        == set.intersection(*map(set, rows))
    )
    assert {row["recipe"] for row in rows} == {
        "none",
        "one_hot",
        "constant_per_label",
        "release_below",
        "purifier",
    }
    value = {
        (row["recipe"], row["attack"], row["metric"]): row for row in rows if row["seed"] is None
    }
    found = value["none", "confidence", "accuracy"]
    assert (
        0.70 < found["value"] < 0.80 and found["low"] < 0.75 < found["high"] and found["n"] == 1200
    )
    assert value["purifier", "strongest", "accuracy"]["value"] < 0.55
    assert value["none", None, "label_floor"]["value"] == 0.5
    assert (
        value["none", "reference_membership", "accuracy"]["low"]
        < 0.5
        < value["none", "reference_membership", "accuracy"]["high"]
    )
    assert (
        "Not applicable to scores alone: lira_online, calibrated, label_only_noise, inversion"
        in " ".join(done.stdout.split())
    )


def test_what_needs_records_is_not_applicable_and_says_why(audited):
    folder, _, results = audited
    left = [
        row
        for row in results["rows"]
        if row["attack"] in ("lira_online", "calibrated", "label_only_noise", "inversion")
    ]
    hidden = {row["error"] for row in left if row["attack"] == "calibrated"}
    assert len(hidden) == 1 and "knows how hard each is, may find more" in hidden.pop()
    assert len(left) == 4 * 5 * 3 and all(
        row["value"] is None and row["error"].startswith("not applicable") for row in left
    )
    assert (
        "not applicable" in (folder / "report" / "report.html").read_text()
        and "not applicable" in (folder / "report" / "table.md").read_text()
    )


def test_the_saved_purifier_is_the_one_that_was_audited(audited, planted):
    folder, _, results = audited
    purify = load_purifier(folder / "report" / "purifier", k=K)
    moved = np.abs(purify(planted[1].scores) - planted[1].scores).sum(1).mean()
    (told,) = [
        row["value"]
        for row in results["rows"]
        if row["recipe"] == "purifier" and row["metric"] == "distortion_l1" and row["seed"] is None
    ]
    assert abs(moved - told) < 1e-9


def test_no_leak_is_found_where_there_is_none():
    _, members, nonmembers = planted_leak(0.5, n=600)
    found = audit_scores(
        members, nonmembers, attacks="label,confidence,boosted", seeds=1, jobs=1, progress=False
    )
    assert found.recipes == ["none"]
    for attack in ("label", "confidence", "boosted"):
        assert (
            found.value("none", "accuracy", attack, "low")
            < 0.5
            < found.value("none", "accuracy", attack, "high")
        )


def test_the_purifier_learns_from_the_reference_alone(planted, audited):
    from purification_nb.defences.purifier import PurifierDefence

    folder, *_ = audited
    other = Scored(np.roll(planted[0].scores, 1, axis=0), np.roll(planted[0].y, 1))
    mine = audit_scores(
        other, planted[1], planted[2], PurifierDefence(), "label", seeds=1, jobs=1, progress=False
    ).purifier
    assert np.array_equal(
        mine(planted[1].scores), load_purifier(folder / "report" / "purifier")(planted[1].scores)
    )


def test_intervals_resample_groups_where_a_file_has_them(planted, tmp_path):
    """Each record stands there ten times: taken for ten, it would make the intervals too narrow."""
    files = {}
    for grouped in (True, False):
        for part, name, start in zip(
            planted[:2], ("members", "nonmembers"), (0, 1000), strict=True
        ):
            origins = np.repeat(np.arange(60), 10) if grouped else np.arange(600)
            frame = table(part[np.repeat(np.arange(60), 10)]).assign(group=start + origins)
            frame.to_csv(tmp_path / f"{name}{grouped}.csv", index=False)
        files[grouped] = tmp_path / f"members{grouped}.csv", tmp_path / f"nonmembers{grouped}.csv"
    assert (
        len(np.unique(read_scores(files[True][0]).groups)) == 60
        and len(np.unique(read_scores(files[False][0]).groups)) == 600
    )
    width = {}
    for grouped, pair in files.items():
        found = audit_scores(*pair, attacks="confidence", seeds=1, jobs=1, progress=False)
        width[grouped] = found.value("none", "accuracy", "confidence", "high") - found.value(
            "none", "accuracy", "confidence", "low"
        )
    assert width[True] > 1.5 * width[False]


def test_only_so_many_rows_take_part(planted):
    found = audit_scores(*planted[:2], attacks="label", seeds=1, most=100, jobs=1, progress=False)
    assert found.value("none", "accuracy", "label", "n") == 100 and found.run["settings"]["files"][
        "members"
    ] == {"name": "members", "rows": 600, "audited": 100}


@pytest.mark.parametrize("most", [100, 1000])
def test_each_member_is_named_by_its_row_in_the_file(most, planted):
    some = {"attacks": "label,confidence", "seeds": 1, "most": most, "jobs": 1}
    found = audit_scores(*planted[:2], **some, progress=False)
    told = found.records_at_risk().set_index("record").sort_index()
    answers = found.shown["none"]["scored"][0].scores[-len(told) :]
    assert len(set(told.row)) == min(most, 600) // 2 and told.row.max() > 300
    assert np.array_equal(answers, planted[0].scores[told.row])


def test_equal_answers_of_a_rounding_service_are_no_shared_records(planted):
    coarse = [Scored(np.eye(K)[part.scores.argmax(1)], part.y) for part in planted]
    audit_scores(*coarse, attacks="label", seeds=1, jobs=1, progress=False)
    two_digits = []
    for part in planted:
        scores = part.scores.round(2)
        scores[np.arange(len(part)), part.y] += 1 - scores.sum(1)
        two_digits.append(Scored(scores, part.y))
    check_shared(two_digits[0], two_digits[1])


def slip(change, which="members", extra=()):
    """Describe one mistake: what is changed in which file."""
    return which, change, extra


SLIPS = {
    "labels run from 1 to 10": slip(lambda t: t.assign(label=t.label + 1)),
    "look like logits": slip(lambda t: t.assign(**{n: np.log(t[n]) for n in NAMES})),
    "look like percents": slip(lambda t: t.assign(**{n: t[n] * 100 for n in NAMES})),
    "sums to 0.5": slip(lambda t: t.assign(**{n: t[n] / 2 for n in NAMES})),
    "a score is missing or no number": slip(
        lambda t: t.assign(score_3=t.score_3.where(t.index != 7)), "nonmembers"
    ),
    "is missing or no number (": slip(
        lambda t: t.assign(score_3=t.score_3.where(t.index != 7, np.inf) * 0).assign(score_3="nan")
    ),
    "rows of reference.csv stand in members.csv too": slip(
        lambda t: pd.concat([t[:560], "members"]), "reference", ["--reference", "reference.csv"]
    ),
    "rows of members.csv stand in nonmembers.csv too": slip(lambda t: "members", "nonmembers"),
    "has 30 rows": slip(lambda t: t[:30]),
    "score_4 is missing": slip(lambda t: t.drop(columns="score_4")),
    "it has p0, p1": slip(lambda t: t.rename(columns=lambda n: n.replace("score_", "p"))),
    "header seems to be missing": slip(
        lambda t: t.set_axis([f"0.{i}" for i in range(K + 1)], axis=1)
    ),
    "rename 'y'": slip(lambda t: t.rename(columns={"label": "y"})),
    "columns were in another order": slip(
        lambda t: t.rename(columns=dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)))
    ),
    "nonmembers.csv has 9": slip(
        lambda t: t.drop(columns="score_9").assign(label=0, **dict.fromkeys(NAMES[:9], 1 / 9)),
        "nonmembers",
    ),
    "label is not a number": slip(lambda t: t.assign(label="cat")),
    "--purify needs --reference": slip(lambda t: t, extra=["--purify"]),
    "cannot write": slip(lambda t: t, extra=["--out", "/dev/null/report"]),
}


@pytest.mark.parametrize("says", SLIPS)
def test_a_mistake_gets_one_line_and_leaves_nothing(says, planted, tmp_path):
    which, change, extra = SLIPS[says]
    frames = dict(zip(("members", "nonmembers", "reference"), map(table, planted), strict=True))
    if "reference.csv stand" in says:
        frames["reference"] = pd.concat([frames["reference"][:560], frames["members"][:40]])
    elif "members.csv stand in non" in says:
        frames["nonmembers"] = frames["members"]
    else:
        frames[which] = change(frames[which])
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    before = sorted(os.listdir(tmp_path))
    done = run_here(tmp_path, "audit-scores", "members.csv", "nonmembers.csv", *extra)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and says in lines[0], done.stderr
    assert sorted(os.listdir(tmp_path)) == before


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save an untrained purifier."""
    import torch

    torch.manual_seed(0)
    return save_purifier(
        Purifier(mlp(purifier_sizes(K), batch_norm=True).eval(), K, True, 2),
        tmp_path_factory.mktemp("saved") / "purifier",
    )


@pytest.fixture(scope="module")
def many():
    """Give more rows than are read at a time."""
    rng = np.random.default_rng(0)
    return Scored(
        rng.dirichlet(np.full(K, 0.3), 2 * ROWS + 777), rng.integers(0, K, 2 * ROWS + 777)
    )


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npz"])
def test_every_kind_of_file_is_purified_as_the_whole_table_would_be(kind, many, saved, tmp_path):
    purify = load_purifier(saved)
    assert purify_file(write(many, tmp_path / f"in{kind}"), purify, tmp_path / f"out{kind}") == len(
        many
    )
    back = read_scores(tmp_path / f"out{kind}")
    assert np.abs(back.scores - purify(many.scores)).max() < 1e-12 and np.array_equal(
        back.y, many.y
    )


@pytest.mark.parametrize("decimals", [None, 0, 3, 6])
def test_any_number_of_digits_is_written(decimals, many, saved, tmp_path):
    purify = load_purifier(saved)
    purify = Purifier(purify.network, K, True, decimals)
    purify_file(write(many[:2000], tmp_path / "in.csv"), purify, tmp_path / "out.csv")
    assert (
        np.abs(read_scores(tmp_path / "out.csv").scores - purify(many.scores[:2000])).max() < 1e-15
    )


def test_single_precision_in_a_compressed_archive_and_other_arrays(many, saved, tmp_path):
    np.savez_compressed(
        tmp_path / "in.npz",
        scores=many.scores.astype(np.float32),
        id=np.arange(len(many)),
        label=many.y,
    )
    purify_file(tmp_path / "in.npz", purify := load_purifier(saved), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        purified = purify(many.scores.astype(np.float32))
        assert purified.dtype == np.float32
        assert np.array_equal(file["scores"].astype(np.float32), purified)
        assert np.array_equal(file["id"], np.arange(len(many)))


def test_texts_beside_the_scores_come_out_as_they_went_in(saved, tmp_path):
    texts = ["007", "NA", "", 'a "quoted, text"', "two\nlines"]
    frame = pd.DataFrame(np.full((5, K), 1 / K), columns=NAMES)
    frame.insert(3, "id", texts)
    frame.to_csv(tmp_path / "in.csv", index=False)
    purify_file(tmp_path / "in.csv", load_purifier(saved), tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False).id.tolist() == texts


def test_the_command_purifies_files_and_pipes_alike(many, saved, tmp_path):
    write(many, tmp_path / "scores.csv")
    done = command("purify", "scores.csv", "--with", saved, cwd=tmp_path)
    assert (
        done.returncode == 0
        and f"{len(many)} rows" in done.stdout
        and (tmp_path / "purified.csv").is_file()
    ), done.stderr
    typed = (tmp_path / "scores.csv").read_text()
    piped = command("purify", "-", "--with", saved, cwd=tmp_path, typed=typed)
    assert (
        piped.returncode == 0
        and piped.stdout == (tmp_path / "purified.csv").read_text()
        and f"{len(many)} rows" in piped.stderr
    )


@pytest.mark.parametrize(
    "name, damage, says",
    [
        ("in.csv", lambda text: text[:-200_000] + b"1,0\n", "a score is missing or no number"),
        ("in.csv", lambda text: text.replace(b",", b";"), "semicolons"),
        ("in.csv", lambda text: text[: text.index(b"\n") + 1], "not a single row"),
        ("in.csv", lambda text: b"", "is empty"),
        (
            "in.csv",
            lambda text: text + b",".join([b".1"] * 5 + [b"0"] * 5) + b",3\n",
            "rows 16384 to 17161",
        ),
        ("in.npz", lambda text: text[:-5000], "cut short"),
        ("in.parquet", lambda text: text[:-50], "cannot be read"),
        ("in.txt", lambda text: text, "known kinds of file"),
        ("other.csv", lambda text: text, "there is no file"),
    ],
)
def test_a_damaged_file_is_refused_whole(name, damage, says, many, saved, tmp_path):
    path = write(
        many, tmp_path / (name if Path(name).suffix != ".txt" else "in.csv").replace("other", "in")
    )
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    if name == "in.txt":
        path = path.rename(tmp_path / name)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=says):
        purify_file(tmp_path / name, load_purifier(saved), tmp_path / ("out" + Path(name).suffix))
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["in.csv", "--with", "nothing"], "holds no purifier"),
        (
            ["in.csv", "--out", "out.parquet"],
            "is not: a file is written as the kind it is read from",
        ),
        (["in.csv", "--out", "in.csv"], "choose another --out"),
        (["in.csv", "--out", "-"], "both or for neither"),
        (["nine.csv"], "made for 10 classes, the scores have 9"),
    ],
)
def test_the_purify_command_answers_a_mistake_with_one_line(arguments, says, many, saved, tmp_path):
    table(many[:100]).to_csv(tmp_path / "in.csv", index=False)
    pd.DataFrame(np.full((5, 9), 1 / 9), columns=NAMES[:9]).to_csv(
        tmp_path / "nine.csv", index=False
    )
    done = run_here(
        tmp_path, "purify", *arguments, *([] if "--with" in arguments else ["--with", saved])
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and says in lines[0], done.stderr
    assert sorted(os.listdir(tmp_path)) == ["in.csv", "nine.csv"]


def test_arrays_of_objects_are_not_unpickled(saved, tmp_path):
    np.savez(tmp_path / "in.npz", scores=np.array([[{}]], object), label=[0])
    for call in (
        lambda: read_scores(tmp_path / "in.npz"),
        lambda: purify_file(tmp_path / "in.npz", load_purifier(saved), tmp_path / "out.npz"),
    ):
        with pytest.raises(InputError):
            call()


def test_score_columns_are_found_by_number():
    assert (
        score_columns([f"score_{i}" for i in (10, 9, 2, 1, 0, 3, 4, 5, 6, 7, 8)])[-1] == "score_10"
    )


def test_memory_does_not_grow_with_the_file(saved, tmp_path):
    frame = table(Scored(np.random.default_rng(0).dirichlet(np.ones(K), ROWS), np.zeros(ROWS, int)))
    code = (
        "import resource, sys\n"
        "from purification_nb.defences.saving import load_purifier\n"
        "from purification_nb.audit.streams import purify_file\n"
        f"purify_file(sys.argv[1], load_purifier({str(saved)!r}), sys.argv[1] + '.csv')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    peaks = []
    for times in (2, 40):  # 1.3 and 26 MB of scores in memory, if they were held
        path = tmp_path / f"{times}.csv"
        text = (
            frame.round(6)
            .assign(score_0=lambda t: t.score_0 + 1 - t[NAMES].sum(axis=1))
            .to_csv(index=False, header=False)
        )
        path.write_text(",".join(frame.columns) + "\n" + text * times)
        # a small process starts it, since a child's peak begins with its parent's size
        starter = (
            f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {code!r},"
            f" {str(path)!r}], check=True, capture_output=True, text=True).stdout)"
        )
        peaks.append(
            float(
                subprocess.run(
                    [sys.executable, "-c", starter], check=True, capture_output=True, text=True
                ).stdout
            )
        )
    assert peaks[1] - peaks[0] < 15, peaks
