"""A purifier leaves the house: the same answers from torch.export, and from ONNX up to single
precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from purification_nb.datasets import digits
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.service import Recipe
from purification_nb.targets import MLPTarget

ROWS = {"scores": {0: torch.export.Dim("n")}}
FORMS = [(keep, decimals) for keep in (False, True) for decimals in (None, 1, 2)]
each_form = pytest.mark.parametrize("keep_label, decimals", FORMS)


@pytest.fixture(scope="module")
def trained():
    """A quickly trained purifier, and scores to purify: a target's, ties, and single spikes."""
    split = digits(0)
    target = Recipe(MLPTarget((32,), epochs=5))(split.d1, split.d2, 0)
    purifier = PurifierDefence(rate=1e-2, epochs=5)(None, target.answer(split.d2), 0)
    return purifier, np.concatenate(
        [
            target(split.d3.x),
            np.eye(10),
            np.full((1, 10), 0.1),
            np.eye(10) / 2 + np.eye(10)[::-1] / 2,
        ]
    )


@each_form
def test_torch_export_answers_the_same_to_the_last_bit(trained, keep_label, decimals, tmp_path):
    purifier, scores = replace(trained[0], keep_label=keep_label, decimals=decimals), trained[1]
    torch.export.save(
        torch.export.export(purifier.as_module(), (torch.tensor(scores[:5]),), dynamic_shapes=ROWS),
        tmp_path / "purifier.pt2",
    )
    program = torch.export.load(tmp_path / "purifier.pt2").module()
    for n in (1, 2, len(scores)):
        assert np.array_equal(
            program(torch.tensor(scores[:n])).detach().numpy(), purifier(scores[:n])
        )


@each_form
def test_onnxruntime_answers_the_same_up_to_single_precision(
    trained, keep_label, decimals, tmp_path
):
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(
            needed, reason=f'{needed} is not installed: pip install "purification_nb[onnx]"'
        )
    import onnxruntime

    purifier, scores = replace(trained[0], keep_label=keep_label, decimals=decimals), trained[1]
    torch.onnx.export(
        purifier.as_module(),
        (torch.tensor(scores[:5]),),
        tmp_path / "purifier.onnx",
        input_names=["scores"],
        output_names=["purified"],
        dynamic_shapes=ROWS,
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(
        tmp_path / "purifier.onnx", providers=["CPUExecutionProvider"]
    )
    for n in (1, 2, len(scores)):
        theirs, ours = session.run(None, {"scores": scores[:n]})[0], purifier(scores[:n])
        assert (
            theirs.shape == ours.shape
            and theirs.dtype == np.float64
            and np.allclose(theirs.sum(1), 1)
        )
        apart = np.abs(theirs - ours).max(1)
        if decimals is None:
            assert apart.max() < 1e-5
        # a row may differ, by units of the last decimal, only where a score lies on the edge
        # between two
        else:
            fine = replace(purifier, decimals=None)(scores[:n]) * 10**decimals
            on_edge = (np.abs(fine - fine.round()) < 1e-5 * 10**decimals) & (fine.round() > 0)
            assert (apart[~on_edge.any(1)] < 1e-9).all() and (apart < 2.1 * 10.0**-decimals).all()
        if keep_label:
            assert (theirs.argmax(1) == scores[:n].argmax(1)).all()
