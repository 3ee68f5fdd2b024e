"""An audit that is stopped says so, writes no report, and goes on from what it remembers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = Path(sys.executable).with_name("purification-nb")
ARGUMENTS = [
    "audit",
    "--data",
    "digits",
    "--seeds",
    "2",
    "--recipes",
    "none,purifier",
    "--attacks",
    "label,confidence,inversion",
    "--jobs",
    "1",
]


def test_stop_and_go_on(tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "report"
    env = os.environ | {"PURIFICATION_NB_CACHE": str(cache)}
    own_signals = {
        "start_new_session": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    running = subprocess.Popen(
        [COMMAND, *ARGUMENTS, "--out", out],
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **own_signals,
    )
    deadline = time.monotonic() + 120
    while not list(cache.glob("*.safetensors")):
        assert time.monotonic() < deadline and running.poll() is None, running.communicate()
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and "goes on from there" in said and "Traceback" not in said
    assert not out.exists()

    remembered = {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}
    done = subprocess.run(
        [COMMAND, *ARGUMENTS, "--out", out], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in out.iterdir())
    assert written == ["audit.json", "records.csv", "report.html", "table.md"]
    assert remembered and all(
        path.stat().st_mtime_ns == when for path, when in remembered.items()
    )  # not trained again
