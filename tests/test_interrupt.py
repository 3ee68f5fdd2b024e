"""An audit that is stopped says so, writes no report, and goes on from what it remembers."""

import os
import signal
import time

from forked import command, started

ARGUMENTS = [
    "audit",
    "--data",
    "digits",
    "--seeds",
    "2",
    "--recipes",
    "none,purifier",
    "--attacks",
    "label,confidence",
    "--jobs",
    "1",
]


def test_stop_and_go_on(tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "report"
    env = os.environ | {"PURIFICATION_NB_CACHE": str(cache)}
    with started([*ARGUMENTS, "--out", out], env=env) as (running, wait):
        deadline = time.monotonic() + 120
        while not list(cache.glob("*.safetensors")):
            assert time.monotonic() < deadline and running.is_alive(), wait(1)
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        stopped = wait(60)
    said = stopped.stderr
    assert stopped.returncode == 130 and "goes on from there" in said and "Traceback" not in said
    assert not out.exists()

    remembered = {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}
    done = command(*ARGUMENTS, "--out", out, env=env)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in out.iterdir())
    assert written == ["audit.json", "records.csv", "report.html", "table.md"]
    assert remembered and all(
        path.stat().st_mtime_ns == when for path, when in remembered.items()
    )  # not trained again
