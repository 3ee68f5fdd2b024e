"""A file of a target's answers is data to audit: read, refused, looked up, audited."""

import os
from pathlib import Path

import numpy as np
import pytest

from purification_nb import reproduction
from purification_nb.adversary import Knowledge
from purification_nb.attacks.catalogue import ALL_ATTACKS
from purification_nb.audit.answer_files import read_answers
from purification_nb.audit.run import audit
from purification_nb.audit.scores_only import audit_scores
from purification_nb.card import reproduce
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.evaluation import evaluate
from purification_nb.paper import PAPER
from purification_nb.records import InputError
from purification_nb.splits import PARTS

K, SIZES = 3, dict(zip(PARTS, (90, 80, 70, 60, 50), strict=True))
SHOWN = 40  # rows of each part whose pictures are in the file


def arrays(seed=0):
    """Logits that tell members from others, labels, and small pictures of some rows."""
    rng = np.random.default_rng(seed)
    made = {}
    for part, n in SIZES.items():
        y = rng.integers(0, K, n)
        sure = 6 if "_members" in part else 2
        made[f"logits_{part}"] = rng.normal(size=(n, K)).astype(np.float32)
        made[f"logits_{part}"][np.arange(n), y] += sure
        made[f"y_{part}"] = y.astype(np.uint8)
        made[f"x_{part}"] = rng.integers(0, 256, (SHOWN, 8, 8, 3), np.uint8)
        made[f"pictured_{part}"] = np.sort(rng.permutation(n)[:SHOWN]).astype(np.int32)
    return made


def write(folder, **changes):
    """Write such a file with some arrays changed; None takes one away."""
    path = Path(folder) / "answers.npz"
    kept = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez(path, **kept)
    return path


def softmax(logits):
    powers = np.exp(np.float64(logits))
    return powers / powers.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Give the file as it is read."""
    return read_answers(write(tmp_path_factory.mktemp("answers")), "made up")


def test_the_answers_are_those_of_the_file_row_for_row(answers):
    made = arrays()
    assert answers.k == K and answers.notes == ()
    for part, n in SIZES.items():
        scored = answers.parts[part].scored
        assert np.allclose(scored.scores, softmax(made[f"logits_{part}"]), atol=1e-12)
        assert scored.scores.dtype == np.float64 and scored.x is None
        assert (scored.y == made[f"y_{part}"]).all() and len(scored) == n
    assert len(answers.members) == 170 and len(answers.nonmembers) == 110
    assert len(answers.reference) == 70


def test_the_target_looks_up_by_row_and_by_picture(answers):
    service, made = answers.target(answers.split.d1, answers.split.d2, 0), arrays()
    for part in PARTS:
        expected = softmax(made[f"logits_{part}"])
        assert np.allclose(service(getattr(answers.split, part).x), expected)
        shown, rows = getattr(answers.pictured, part), made[f"pictured_{part}"]
        assert shown.x.shape == (SHOWN, 3, 8, 8) and shown.x.dtype == np.uint8
        assert (shown.x == made[f"x_{part}"].transpose(0, 3, 1, 2)).all()
        assert (shown.y == made[f"y_{part}"][rows]).all()
        assert np.allclose(service(shown.x), expected[rows])
    with pytest.raises(InputError, match="3 of these 3 records are not in the file of answers"):
        service(255 - shown.x[:3])


def test_a_part_with_all_its_records_has_them_in_the_order_of_its_answers(tmp_path):
    order = np.random.default_rng(1).permutation(70)
    pictures = np.random.default_rng(2).integers(0, 256, (70, 5), np.uint8)
    path = write(tmp_path, x_d2=pictures[order], pictured_d2=order)
    assert (read_answers(path).reference.x == pictures).all()
    path = write(tmp_path, x_d2=pictures, pictured_d2=None)
    assert (read_answers(path).reference.x == pictures).all()


def test_without_records_there_are_answers_all_the_same(tmp_path):
    none = {f"{kind}_{part}": None for kind in ("x", "pictured") for part in PARTS}
    made = read_answers(write(tmp_path, **none))
    assert len(made.target(made.split.d1, made.split.d2, 0)(made.split.d3.x)) == 110
    with pytest.raises(InputError, match=r"holds no records of known_members, .*: use split"):
        _ = made.pictured


def test_a_wrong_name_is_said_and_does_not_count(tmp_path):
    scores = softmax(arrays()["logits_d2"])
    with pytest.warns(UserWarning, match=r"d2 holds scores, not logits: its rows sum to 1"):
        made = read_answers(write(tmp_path, logits_d2=scores))
    assert np.allclose(made.reference.scores, scores, atol=1e-12) and len(made.notes) == 1
    wrong = {"logits_d2": None, "scores_d2": arrays()["logits_d2"]}
    with pytest.warns(UserWarning, match="d2 holds logits, not scores"):
        made = read_answers(write(tmp_path, **wrong))
    assert np.allclose(made.reference.scores, scores, atol=1e-12)
    right = read_answers(write(tmp_path, logits_d2=None, scores_d2=scores.astype(np.float32)))
    assert right.notes == () and np.allclose(right.reference.scores, scores, atol=1e-6)


WRONG = {
    "logits_d2 is missing": {"logits_d2": None},
    "y_known_members, y_d2 are missing": {"y_d2": None, "y_known_members": None},
    "y_d2 has shape (69,) for 70 rows of logits_d2": {"y_d2": np.zeros(69, int)},
    "d2 has shape (70,)": {"logits_d2": np.zeros(70)},
    "d2 has shape (70, 3) and type int64": {"logits_d2": np.ones((70, 3), int)},
    "differ in their number of classes: 3 in known_members": {"logits_d2": np.eye(70, 4) - 0.5},
    "logits_d2 has 1 numbers that are not finite": {
        "logits_d2": np.r_[np.zeros((69, 3)), [[np.inf, 0, 0]]]
    },
    "the rows of scores_d2 sum to 100 and more": {
        "logits_d2": None,
        "scores_d2": np.full((70, 3), 100 / 3),
    },
    "logits_d2 and scores_d2 stand there both": {"scores_d2": np.full((70, 3), 1 / 3)},
    "for 41 rows: one record is needed for each": {"pictured_d2": np.arange(41)},
    "must name different rows of the part": {"pictured_d2": np.zeros(SHOWN, int)},
    "as whole numbers from 0 to 69": {"pictured_d2": np.arange(31, 31 + SHOWN)},
    "pictured_d2 names rows, and there is no x_d2": {"x_d2": None},
    "a label is": {"y_d2": np.full(70, 3)},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, said):
    path = write(tmp_path, **WRONG[said])
    with pytest.raises(InputError) as caught:
        read_answers(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    assert said in text or said == "a label is" and "label" in text


class Runs:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_pickled_is_ever_loaded(tmp_path):
    harm = tmp_path / "harm"
    path = write(tmp_path, y_d2=np.array([Runs(harm)] * 70, dtype=object))
    with pytest.raises(InputError, match="pickled objects, which could run code"):
        read_answers(path)
    assert not harm.exists()


def test_a_damaged_or_absent_file_is_said(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    for wrong, said in (
        (path, "cannot be read"),
        (tmp_path / "none.npz", "there is no file"),
        (tmp_path / "answers.csv", "is no .npz"),
    ):
        with pytest.raises(InputError, match=said):
            read_answers(wrong)


def test_an_audit_runs_on_it_and_refuses_shadows(answers):
    found = audit(
        answers.pictured,
        "none,one_hot",
        "label,confidence,inversion,label_only_noise",
        seeds=1,
        target=answers.target,
        jobs=1,
        progress=False,
        strongest=False,
    )
    assert found.value("none", "accuracy", "confidence") > 0.7
    assert found.value("one_hot", "distortion_l1") > 0
    assert found.value("none", "inversion_error_members", "inversion") > 0
    asked = found.table[found.table.attack == "label_only_noise"]
    assert asked.value.isna().all() and asked.error.str.contains("not in the file").all()
    with pytest.raises(InputError, match="mlleaks_1 trains shadow models"):
        audit(answers.pictured, "none", "mlleaks_1", seeds=1, target=answers.target)
    purifier = PurifierDefence(rate=1e-2, epochs=2)
    sets = answers.members, answers.nonmembers, answers.reference
    alone = audit_scores(*sets, purifier, "label,confidence", 1, jobs=1, progress=False)
    assert alone.value("none", "accuracy", "confidence") > 0.7


def test_a_card_measures_it_and_leaves_out_what_trains_the_target_anew(answers, monkeypatch):
    quick = PurifierDefence(rate=1e-2, epochs=2)
    monkeypatch.setattr(reproduction, "_paper_purifiers", lambda: {"I & II": quick})
    card = reproduce(
        answers.pictured, "III,VIII", jobs=1, progress=False, target=answers.target
    ).lines
    ours = card[card.table == "III"].set_index("row").ours
    label = audit_label(answers)
    assert ours["none"] == pytest.approx(label) and 0 < ours["I & II"] <= 1
    assert ours[["Min-Max", "Model-Stacking"]].isna().all()
    assert card[card.table == "VIII"].note.str.contains("times are those of the usual").all()


def audit_label(answers):
    """Give the label attack's accuracy, counted."""
    service = answers.target(answers.split.d1, answers.split.d2, 0)
    halves = answers.pictured.heldout_members, answers.pictured.heldout_nonmembers
    members, others = ((service(half.x).argmax(1) == half.y).mean() for half in halves)
    return (members + 1 - others) / 2


def test_cifar10_as_the_paper_has_it(data_folder):
    path = data_folder / "cifar10_densenet121.npz"
    if not path.is_file():
        pytest.skip(f"no cifar10_densenet121.npz in {data_folder}")
    made = read_answers(path, "CIFAR10")
    sizes = [len(made.parts[part].scored) for part in PARTS]
    assert sizes == [25000, 25000, 5000, 2500, 2500]
    known = [made.parts[f"known_{end}"].scored for end in ("members", "nonmembers")]
    held = [made.parts[f"heldout_{end}"].scored for end in ("members", "nonmembers")]
    theirs = PAPER["II"].loc[("CIFAR10", "none")]
    for attack, paper in (("label", "Label"), ("confidence", "NSH")):
        found = evaluate(ALL_ATTACKS[attack]().fit(Knowledge(*known)), *held)["accuracy"]
        assert found[1] < found[0] < found[2]
        assert found[0] == pytest.approx(theirs[paper], abs=0.015)
