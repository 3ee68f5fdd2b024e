"""A network of one's own is audited, protected, and audited again, from Python and from files."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn
from typer.testing import CliRunner

from purification_nb import Trained, audit, purified_module
from purification_nb.audit.own_files import read_model
from purification_nb.cli import app
from purification_nb.records import refused

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


def test_messages_name_what_users_handed_over(network):
    with_softmax = nn.Sequential(network, nn.Softmax(1))
    said = refused(lambda: audit(with_softmax, **QUICK, **SETS))
    assert "Trained(model, answers='scores')" in said
    twice = SETS | {"nonmembers": SETS["members"]}
    assert "(the members and the non-members) overlap" in refused(
        lambda: audit(network, **QUICK, **twice)
    )
