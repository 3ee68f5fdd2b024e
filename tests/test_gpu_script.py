"""dev/gpu.py: refused without a GPU, rehearsed on the CPU, and never cut."""

import json
import sys
import time
import warnings

import gpu
import pytest
import torch
from fake_gpu import Watch, install, install_graphs


def called(monkeypatch, *arguments):
    """Call the script; what it ends with."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    with warnings.catch_warnings():
        return gpu.main()


def test_without_a_gpu_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert called(monkeypatch, "--out", tmp_path / "gpu.json") == 2
    assert "no GPU" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_it_is_rehearsed_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path / "cache"))
    assert called(monkeypatch, "--rehearse", "--out", tmp_path / "gpu.json") == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    rows = written["rows"]
    assert {row["part"] for row in rows} == set(gpu.PARTS) and written["rehearsed"]
    assert not [row for row in rows if row.get("good") is False]
    said = {row["what"]: row for row in rows}
    assert said["none confidence accuracy"]["gpu"] == said["none confidence accuracy"]["cpu"]


def test_a_part_that_takes_too_long_keeps_what_it_has_found(tmp_path):
    part = gpu.Part("answers", True, tmp_path)
    (tmp_path / "answers.jsonl").write_text('{"what": "found before"}\n')
    found = part.wait(time.perf_counter())
    assert [row["what"] for row in found][0] == "found before"
    assert found[1]["what"].startswith("answers: stopped after") and part.process.poll() == -9


@pytest.mark.parametrize("value, good", [(0.6, True), (0.71, False)])
def test_a_number_is_good_where_it_lies_in_the_interval_of_the_cpu(value, good):
    cpu = [{"what": "none label accuracy", "value": 0.61, "low": 0.58, "high": 0.64}]
    (row,) = gpu.compared([cpu[0] | {"value": value}], cpu)
    assert row["good"] is good and row["cpu"] == 0.61


def test_a_device_error_is_not_good_and_a_missing_package_is_no_error():
    rows = [{"what": "memguard", "error": "same device"}, {"what": "dp_sgd", "error": "no opacus"}]
    assert [row["good"] for row in gpu.compared(rows, [])] == [False, None]


def test_on_a_gpu_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PURIFICATION_NB_CACHE", str(tmp_path))
    install(monkeypatch)
    replayed = install_graphs(monkeypatch)
    with Watch():
        found = [row for name in ("speed", "answers") for row in gpu.PARTS[name](True)]
    said = [row["what"] for row in found]
    assert "bare scores, cuda:0 and cpu" in said
    # how long a step takes is no test of a CPU that plays a GPU
    wrong = [row for row in found if row.get("good") is False and "a step" not in row["what"]]
    assert replayed and not wrong and not any("error" in row for row in found)
