"""What several tests share."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev"))
sys.path.append(str(ROOT / "tests" / "assignments"))


def pytest_addoption(parser):
    """Let whoever has half an hour more ask for everything."""
    parser.addoption(
        "--slow", action="store_true", help="more seeds and more shadow models where a test says so"
    )


# Files of tests that take longest, some 150 seconds to 10: a worker that meets one of them last
# lets the other wait.
LONGEST = (
    *("spine", "attacks", "submissions", "grading", "two_seeds", "playground", "edges", "docs"),
    *("assignments", "scale", "wheel", "audit_cells", "devices", "interrupt", "doubts", "memguard"),
)


def pytest_collection_modifyitems(items):
    """Put the files that take longest first; the order within a file stays."""
    rank = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Give the folder of the true data files, or skip."""
    folder = Path(os.environ.get("PURIFICATION_NB_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "dataset_location.tgz").is_file():
        pytest.skip(
            f"no dataset_location.tgz in {folder}: set PURIFICATION_NB_DATA to the folder that"
            " holds it"
        )
    return folder
