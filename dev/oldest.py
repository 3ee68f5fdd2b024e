"""Print the versions of what the library requires here, and end with 1 unless each is the oldest
that settings.ini allows.

.venv/oldest/bin/python dev/oldest.py
"""

import re
import sys
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def numbers(release: str) -> tuple[int, ...]:
    """Read a release as numbers, so that 2.6 and 2.6.0+cpu are the same."""
    found = [int(part) for part in re.match(r"[\d.]*\d", release)[0].split(".")]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def bounds(root: Path = ROOT) -> dict[str, str]:
    """Give the oldest version that settings.ini allows of each of the library's requirements."""
    settings = ConfigParser()
    settings.read(root / "settings.ini", encoding="utf-8")
    return dict(one.split(">=") for one in settings["DEFAULT"]["requirements"].split())


if __name__ == "__main__":
    newer = []
    print("python", sys.version.split()[0])
    for name, oldest in bounds().items():
        here = version(name)
        print(name, here)
        if numbers(here) != numbers(oldest):
            newer.append(f"{name} {here} is here, and settings.ini says {oldest}")
    sys.exit("\n".join(newer) if newer else 0)
