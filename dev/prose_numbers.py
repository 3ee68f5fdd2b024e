"""Numbers that prose claims and no output of its notebook shows.

    python dev/prose_numbers.py [NOTEBOOK ...]     list them, as lines for tests/sourced_numbers.csv

A number in a text cell, a decimal or a percentage, must be what some output of the same notebook,
or its code, rounds to. Otherwise it is stale, or what measured it is gone, or it comes from
elsewhere: from the paper, say, or another project. Then its source is named beside it, and it is
entered in tests/sourced_numbers.csv: notebook, cell, number, source in words. Headings, code, links
and equations are passed over.
"""

import csv
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
SOURCED = ROOT / "tests" / "sourced_numbers.csv"
CLAIMED = re.compile(r"(?<![\w.,])[-+−]?(\d*\.?\d+)(?![\w.]*\d)(\s?%| per cent| percent)?")
PASSED_OVER = re.compile(
    r"```.*?```|`[^`]*`|Python \d[\d.]*|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|^#.*?$|arXiv[: ]\S+|https?://\S+",
    re.S | re.M,
)
SHOWN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+(?:e[-+]?\d+)?")
TEXT_KINDS = ("text/plain", "text/markdown", "text/html")


class Claim(NamedTuple):
    """A number in prose."""

    cell: str  # id of its cell
    number: str  # as it is written, "%" with it
    around: str  # the words that it stands in


def text_of(output: dict) -> str:
    """Give what an output shows as text, without tags."""
    parts = ["".join(output.get("text", []))]
    parts += ["".join(output.get("data", {}).get(kind, [])) for kind in TEXT_KINDS]
    return re.sub(r"<[^>]+>", " ", " ".join(parts))


def numbers_shown(cells: list[dict]) -> list[float]:
    """List the numbers in the code of a notebook and in its outputs."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    texts = ["".join(cell["source"]) for cell in code]
    texts += [text_of(output) for cell in code for output in cell["outputs"]]
    return [float(one.replace(",", "")) for text in texts for one in SHOWN.findall(text)]


def claims_of(cell: dict) -> list[Claim]:
    """List the decimals and percentages in a text cell."""
    text = "".join(cell["source"])
    plain = PASSED_OVER.sub(lambda match: " " * len(match[0]), text)
    found = []
    for match in CLAIMED.finditer(plain):
        digits, percent = match[1], match[2]
        if percent or "." in digits:
            around = " ".join(text[max(0, match.start() - 40) : match.end() + 30].split())
            found.append(Claim(cell["id"], digits + ("%" if percent else ""), around))
    return found


def is_shown(number: str, shown: list[float]) -> bool:
    """Whether a number is what one of these rounds to; a percentage also in hundredths."""
    digits = number.rstrip("%")
    unit = 0.5 * 10.0 ** -len(digits.partition(".")[2]) + 1e-9
    scales = (1, 100) if number.endswith("%") else (1,)
    return any(abs(scale * one - float(digits)) <= unit for one in shown for scale in scales)


def unshown(path: Path) -> list[Claim]:
    """List the numbers in a notebook's prose that nothing in it shows."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = numbers_shown(cells)
    claims = [one for cell in cells if cell["cell_type"] == "markdown" for one in claims_of(cell)]
    return [one for one in claims if not is_shown(one.number, shown)]


def sourced(path: Path, listed: Path = SOURCED) -> dict[tuple[str, str], str]:
    """Give, of the numbers of a notebook that come from elsewhere, where from: by cell, number."""
    with listed.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(r["cell"], r["number"]): r["source"] for r in rows if r["notebook"] == path.stem}


def as_row(path: Path, claim: Claim) -> str:
    """Write a number as a line for the list, its words in the place of its source."""
    words = claim.around.replace('"', "'")
    return f'{path.stem},{claim.cell},{claim.number},"{words}"'


def without_source(path: Path, listed: Path = SOURCED) -> list[str]:
    """List what neither an output nor a source stands behind: lines to paste, once each."""
    known = sourced(path, listed)
    rows = [as_row(path, one) for one in unshown(path) if (one.cell, one.number) not in known]
    return list(dict.fromkeys(rows))


def no_longer_needed(path: Path, listed: Path = SOURCED) -> list[tuple[str, str]]:
    """List what is entered and no longer claimed, or now shown: (cell, number)."""
    claimed = {(one.cell, one.number) for one in unshown(path)}
    return [one for one in sourced(path, listed) if one not in claimed]


def main(*places: str) -> int:
    """Print the lines of these notebooks, or of all; 1 where there are some."""
    paths = [Path(place) for place in places] or sorted(
        path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
    )
    rows = [row for path in paths for row in without_source(path)]
    print(*rows, sep="\n" if rows else "")
    print(f"{len(rows)} numbers in prose that no output shows and no source is named of")
    return bool(rows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
