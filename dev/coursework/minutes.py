"""How long an assignment took, as whoever handed it in says: nothing is marked by it.

    python minutes.py NOTEBOOK ...     a line for each notebook: minutes, or nothing, and its path

The last cell of an assignment asks for it. The number is read from the notebook as it was handed
in; nothing is run. `nbgrader export` writes it into the column `minutes` of grades.csv.
"""

import json
import re
import sys
from pathlib import Path

ASKED = re.compile(r"^minutes_spent[ \t]*=[ \t]*([^#\n]*)", re.M)
NUMBER = re.compile(r"[\"' ]*(\d+(?:\.\d+)?) *(?:min\.?|minutes)?[\"' ]*", re.I)
MOST = 10_000  # a week without sleep: what is more is a slip


def asks_for_minutes(source: str) -> bool:
    """Say whether a cell is the one that asks."""
    return bool(ASKED.search(source))


def minutes_said(path: Path) -> float | None:
    """Read the minutes from a notebook; None where there is no number, or no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    answers = [text for source in sources for text in ASKED.findall(source)]
    number = NUMBER.fullmatch(answers[-1]) if answers else None
    minutes = float(number[1]) if number else 0.0
    return minutes if 0 < minutes <= MOST else None


if __name__ == "__main__":
    for one in sys.argv[1:]:
        said = minutes_said(Path(one))
        print("" if said is None else f"{said:g}", one, sep="\t")
