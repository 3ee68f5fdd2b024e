"""Grade an assignment from the archives that were handed in to a table of grades.

    python grade.py ASSIGNMENT                 in containers, where Docker is there
    python grade.py ASSIGNMENT --here          as you, on this machine: only for code that you trust
    python grade.py ASSIGNMENT --force         also what has been graded before

What lies in `downloaded/ASSIGNMENT/archive` is sorted into `submitted/` first. The grading is done
on a copy that holds no solution; of it, marks and graded notebooks come back. `make grade NAME=...`
calls this, with the image that the Dockerfile of the repository builds.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SEEN = ("nbgrader_config.py", "grading.py", "guard.py", "minutes.py", "outline.json")
SEEN += ("gradebook.db",)
MEMORY = 12 * 2**30  # bytes of address space; torch reserves more than it uses


def nbgrader(*arguments: str, folder: Path, check: bool = True) -> int:
    """Run nbgrader of this environment in a folder."""
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(BIN / "nbgrader"), *arguments]
    return subprocess.run(command, cwd=folder, env=env, check=check).returncode


def container(image: str, folder: Path, arguments: list[str]) -> list[str]:
    """The command that grades in a container: no network, bounded memory, the course readable by
    root alone, kernels as another user."""
    options = ["--rm", "--network=none", "--memory=6g", "--pids-limit=512", "--user=root"]
    options += ["--security-opt=no-new-privileges", "--env=GRADING_USER=student"]
    options += [f"--env=GRADING_MEMORY={MEMORY}", "--env=OMP_NUM_THREADS=1"]
    options += [f"--volume={folder}:/course", "--workdir=/course"]
    inside = (
        f'chmod 700 /course; nbgrader "$@"; said=$?; chown -R {os.getuid()} /course; exit $said'
    )
    return ["docker", "run", *options, image, "sh", "-c", inside, "nbgrader", *arguments]


def copied(name: str, into: Path) -> None:
    """Copy what grading needs: no solutions, no other assignment, no other course."""
    into.chmod(0o700)
    for file in SEEN:
        if (HERE / file).is_file():
            shutil.copy(HERE / file, into)
    ours = shutil.ignore_patterns("*.ipynb", ".*", "__pycache__")
    shutil.copytree(HERE / "source" / name, into / "source" / name, ignore=ours)
    for part in ("submitted", "autograded"):
        for student in sorted((HERE / part).glob(f"*/{name}")):
            shutil.copytree(student, into / part / student.parent.name / name)


def brought_back(name: str, work: Path) -> None:
    """Take marks and graded notebooks from the copy."""
    shutil.copy(work / "gradebook.db", HERE)
    for graded in sorted((work / "autograded").glob(f"*/{name}")):
        there = HERE / "autograded" / graded.parent.name / name
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(graded, there)


def grade(name: str, image: str, force: bool) -> None:
    """Grade what was handed in, each student in a container of its own or all of them here."""
    again = ["--force"] if force else []
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        work = Path(folder)
        copied(name, work)
        students = sorted(path.parent.name for path in (work / "submitted").glob(f"*/{name}"))
        if image:
            for student in students:
                arguments = ["autograde", name, f"--student={student}", *again]
                subprocess.run(container(image, work, arguments), check=False)
        elif students:
            nbgrader("autograde", name, *again, folder=work, check=False)
        brought_back(name, work)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="ASSIGNMENT")
    parser.add_argument("--image", default="purification-nb", help="the container's image")
    parser.add_argument("--here", action="store_true", help="without a container")
    parser.add_argument("--force", action="store_true", help="also what has been graded before")
    parser.add_argument("--to", default="grades.csv", help="where the table of grades goes")
    args = parser.parse_args()
    if not (HERE / "source" / args.name).is_dir():
        sys.exit(f"there is no assignment called {args.name} in {HERE / 'source'}")
    if not args.here and subprocess.run(["docker", "info"], capture_output=True).returncode:
        sys.exit(
            "Docker does not answer. Start it, or say --here: then what students wrote runs as you,"
            " and can read and change what you can"
        )
    if any((HERE / "downloaded" / args.name / "archive").glob("*")):
        nbgrader("zip_collect", args.name, "--force", folder=HERE)
    grade(args.name, "" if args.here else args.image, args.force)
    nbgrader("generate_feedback", args.name, "--force", folder=HERE, check=False)
    nbgrader("export", f"--to={args.to}", folder=HERE)


if __name__ == "__main__":
    main()
