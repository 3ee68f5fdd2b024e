"""A network of one's own is audited, protected, and audited again, from Python and from files."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn
from typer.testing import CliRunner

from purification_nb import Trained, audit, purified_module
from purification_nb.audit.own_files import read_labelled, read_model
from purification_nb.audit.own_sets import OwnSets
from purification_nb.cli import app
from purification_nb.records import Records, refused

X, Y = make_classification(900, 12, n_informative=8, n_classes=4, random_state=0)
X = X.astype(np.float32)
SETS = {
    name: (X[part], Y[part])
    for name, part in (
        ("members", slice(200)),
        ("reference", slice(200, 550)),
        ("nonmembers", slice(550, 900)),
    )
}
QUICK = {"recipes": "none", "attacks": "label,confidence", "seeds": 1, "jobs": 1, "progress": False}
ANY_NUMBER = {0: torch.export.Dim("records")}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Train a network until it is right about every member."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Linear(128, 4))
    x, y = (torch.tensor(part) for part in SETS["members"])
    optimiser = torch.optim.Adam(made.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(made(x), y).backward()
        optimiser.step()
    return made.eval()


@pytest.fixture(scope="module")
def service(network) -> nn.Module:
    """Put a purifier behind it."""
    return purified_module(network, torch.tensor(SETS["reference"][0]))


@pytest.fixture(scope="module")
def files(network, service, tmp_path_factory):
    """Write models and records as their owner would, and say where."""
    folder = tmp_path_factory.mktemp("mine")
    for name, (x, y) in SETS.items():
        pd.DataFrame(x).assign(label=y).to_csv(folder / f"{name}.csv", index=False)
    example = torch.tensor(X[:8])
    any_number = torch.export.export(network, (example,), dynamic_shapes=(ANY_NUMBER,))
    torch.export.save(any_number, folder / "any.pt2")
    torch.export.save(torch.export.export(network, (example,)), folder / "fixed.pt2")
    protected = torch.export.export(service, (example,), dynamic_shapes=((ANY_NUMBER,),))
    torch.export.save(protected, folder / "service.pt2")
    torch.jit.save(torch.jit.trace(network, example), folder / "script.pt")
    torch.save(network, folder / "whole.pt")
    torch.save(network.state_dict(), folder / "weights.pt")
    torch.save(network.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder


def leak(found) -> float:
    """Give what one threshold finds of an undefended service."""
    return found.value("none", "accuracy", "confidence")


def test_a_protected_module_is_audited_as_it_stands(network, service):
    bare, protected = audit(network, **QUICK, **SETS), audit(service, **QUICK, **SETS)
    wrapped = Trained(nn.Sequential(service), answers="scores")
    assert leak(protected) == leak(audit(wrapped, **QUICK, **SETS)) < leak(bare) - 0.03
    assert protected.run["settings"]["model"].startswith("a trained PurifiedModule")


@pytest.mark.parametrize("remembered", [False, True])
def test_each_member_is_named_by_its_row_in_the_set_that_was_handed_over(network, remembered):
    found = audit(network, **QUICK, **SETS)
    told, (x, y) = found.records_at_risk(), SETS["members"]
    # the held-out half stands below the other one
    answers = found.shown["none"]["scored"][0].scores[-len(told) :]
    by_record = told.set_index("record").sort_index()
    assert len(set(by_record.row)) == len(x) // 2
    assert not np.array_equal(by_record.row, by_record.index)
    assert (y[by_record.row] == by_record.label).all()
    assert told["false alarms"].nunique() > 20  # not by an attack that cannot rank them
    with torch.no_grad():
        again = network(torch.tensor(x[by_record.row])).softmax(1).numpy()
    assert np.allclose(answers, again, atol=1e-5)


def test_equal_members_have_a_row_each():
    x = np.array([[1.0], [2.0], [1.0], [3.0], [1.0]])
    sets = [Records(x, np.zeros(5, int), 2), *[Records(x + 9, np.zeros(5, int), 2)] * 2]
    members = OwnSets(*sets, name="mine")
    assert members.rows_of(members.members[[4, 3, 0]]).tolist() == [0, 3, 2]
    table = pd.DataFrame({"size": [3, 1, 2], "town": ["a", "b", "a"]})
    members = OwnSets(Records(table, np.zeros(3, int), 2), *sets[1:], name="mine")
    assert members.rows_of(members.members[[2, 0]]).tolist() == [2, 0]


def by_command(files, model: str, *words: str):
    """Audit a model in a file, with as many jobs at once as there are by default."""
    given = [f"--{name}={files / name}.csv" for name in SETS]
    quick = ["--recipes=none", "--attacks=label,confidence", "--seeds=1"]
    out = f"--out={files / 'report'}"
    return CliRunner().invoke(app, ["audit", str(files / model), *given, *quick, out, *words])


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
@pytest.mark.parametrize("model", ["any.pt2", "script.pt"])
def test_what_cannot_travel_to_other_processes_is_measured_in_this_one(files, network, model):
    with pytest.warns(UserWarning, match="one after the other; the numbers are the same"):
        done = by_command(files, model)
    assert done.exit_code == 0, done.output
    found = audit(read_model(str(files / model)), **QUICK, **SETS)
    assert leak(found) == leak(audit(network, **QUICK, **SETS))


def test_the_command_is_told_what_a_model_answers_with(files):
    said = by_command(files, "service.pt2", "--jobs=1")
    assert said.exit_code == 2 and "--answers scores" in said.output
    done = by_command(files, "service.pt2", "--jobs=1", "--answers=scores")
    assert done.exit_code == 0, done.output


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("whole.pt", "written by torch.save"),
        ("weights.pt", "written by torch.save"),
        ("old.pt", "written by torch.save"),
        ("fixed.pt2", "exported for batches of one size"),
    ],
)
def test_a_file_that_cannot_serve_is_told_another_way(files, model, says):
    done = by_command(files, model, "--jobs=1")
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.rename(columns={"label": "target"}), "has 0, 1, ..., 11, target"),
        (lambda table: table[["0", "1"]], "it has 0, 1"),
        (lambda table: table.reset_index(names="Unnamed: 0"), "index=False"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_told_what_it_has(tmp_path, change, says):
    x, y = SETS["members"]
    table = pd.DataFrame(x, columns=[str(i) for i in range(12)]).assign(label=y)
    change(table).to_csv(tmp_path / "members.csv", index=False)
    assert says in refused(lambda: read_labelled(tmp_path / "members.csv"))


def test_records_that_were_not_scaled_are_noticed(network):
    """A network asked about other units is sure of everything, and seems to leak nothing."""
    scaled = {name: (x * 1000, y) for name, (x, y) in SETS.items()}
    with pytest.warns(UserWarning, match="hand them over as the network receives them"):
        found = audit(network, **QUICK, **scaled)
    rounded = Trained(nn.Sequential(network, nn.Softmax(1)), answers="scores")
    assert audit(rounded, **QUICK, **scaled).run["doubts"] == []  # may be sure on purpose
    right = found.value("none", "train_accuracy")
    assert f"It is right on {100 * right:.1f}% of the members" in str(found).replace("\n", " ")


def test_messages_name_what_users_handed_over(network):
    from_one = {name: (x, y + 1) for name, (x, y) in SETS.items()}
    assert "labels count from 0" in refused(lambda: audit(network, **QUICK, **from_one))
    loaders = SETS | {"members": torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))}
    assert "Dataset or DataLoader" in refused(lambda: audit(network, **QUICK, **loaders))
    with_softmax = nn.Sequential(network, nn.Softmax(1))
    said = refused(lambda: audit(with_softmax, **QUICK, **SETS))
    assert "Trained(model, answers='scores')" in said
    twice = SETS | {"nonmembers": SETS["members"]}
    assert "(the members and the non-members) overlap" in refused(
        lambda: audit(network, **QUICK, **twice)
    )
