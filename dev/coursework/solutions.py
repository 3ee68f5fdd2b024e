"""Hand solutions out once nobody can hand in any more.

    python solutions.py                  zip the solutions of every assignment whose date has passed
    python solutions.py --days 3         three days after it

A due date is told to nbgrader: nbgrader db assignment add NAME --duedate "2027-01-15 18:00 CET".
Zips go to `release/`; run this from cron each night, or by hand. An assignment without a due date
keeps its solutions.
"""

import argparse
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nbgrader.api import Gradebook

HERE = Path(__file__).resolve().parent


def due_dates(folder: Path) -> dict[str, datetime | None]:
    """When each assignment is due, in UTC; None where nobody said."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return {one.name: one.duedate for one in book.assignments}


def hand_out(folder: Path, now: datetime, grace: timedelta = timedelta()) -> list[str]:
    """Zip the solutions that may be seen; say for each assignment what was done."""
    said = []
    for name, due in due_dates(folder).items():
        there = folder / "solutions" / name
        if due is None:
            said.append(f"{name}: no due date, kept back")
        elif now < due + grace:
            said.append(f"{name}: kept back until {due + grace:%Y-%m-%d %H:%M} UTC")
        elif there.is_dir():
            shutil.make_archive(str(folder / "release" / f"{name}_solutions"), "zip", there)
            said.append(f"{name}: release/{name}_solutions.zip")
    return said


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=float, default=0, help="wait so long after the due date")
    days = parser.parse_args().days
    now = datetime.now(UTC).replace(tzinfo=None)
    print(*hand_out(HERE, now, timedelta(days=days)), sep="\n")


if __name__ == "__main__":
    main()
