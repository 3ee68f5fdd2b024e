"""Under which conditions a benchmark ran, and its results file, which names them."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import torch
from threadpoolctl import threadpool_limits

from purification_nb.cache import library_version, one_thread

HERE = Path(__file__).resolve().parent


def commit() -> str:
    """Twelve digits of the commit that is checked out."""
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=HERE)
    return told.stdout.strip()


def processor() -> str:
    """What the machine calls its processor, or its kind where it does not say."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@contextmanager
def one_core() -> Iterator[None]:
    """Inside, torch and numpy compute with one thread each. An idle thread of numpy's spins, and
    would be counted among the CPU seconds."""
    with one_thread(), threadpool_limits(1):
        yield


def conditions() -> dict:
    """The library by commit and hash, threads, cores, processor, torch, and the load now."""
    return {
        "commit": commit(),
        "library": library_version()[:16],
        "threads": torch.get_num_threads(),
        "cores": joblib.cpu_count(),
        "processor": processor(),
        "torch": torch.__version__,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def save(script: str, report: dict) -> Path:
    """Write a report, below its conditions, as the JSON file beside its script."""
    file = Path(script).resolve().with_suffix(".json")
    file.write_text(json.dumps({"conditions": conditions()} | report, indent=1) + "\n")
    return file
