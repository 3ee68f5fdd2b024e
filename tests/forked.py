"""Processes of their own that start at once: forks of one that has imported what takes seconds.

A test in which a process is killed or stopped needs a process; it need not wait four seconds for
its imports. Where the start itself is asked about (what is imported, how much memory it takes,
whether the installed command is there), tests start Python as usual.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = [
    "torch._dynamo",
    "sklearn.ensemble",
    "sklearn.neural_network",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "pandas",
    "purification_nb.cli",
    "purification_nb.audit.report",
    "purification_nb.audit.run",
]


def _ended(work) -> int:
    """Do the work as the main program of a process would; the exit status."""
    try:
        work()
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            return int(ended.code or 0)
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _program(code: str | None, arguments: list, folder: str, environment: dict, said: str) -> None:
    """Be a new process: of this code, or of the command where there is none."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, (stream, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        file = os.open(f"{said}/{stream}", os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
        setattr(sys, stream, os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c" if code else "purification-nb", *arguments]

    def work():
        if code:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        else:
            from purification_nb.cli import app

            app()

    status = _ended(work)
    threading._shutdown()  # multiprocessing leaves without what a program does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def started(arguments, code: str | None = None, cwd=None, env=None, typed: str = ""):
    """Start a process; gives it, and a function that waits and gives what `subprocess.run` does."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(HEAVY)
    main = sys.modules["__main__"]
    hidden = getattr(main, "__file__", None)
    main.__file__ = None  # else the fork would import this program
    words = [str(word) for word in arguments]
    with tempfile.TemporaryDirectory() as said:
        Path(said, "stdin").write_text(typed, encoding="utf-8")
        process = server.Process(
            target=_program,
            args=(code, words, str(cwd or os.getcwd()), dict(env or os.environ), said),
        )
        try:
            process.start()
        finally:
            main.__file__ = hidden

        def wait(timeout: float):
            process.join(timeout)
            if process.exitcode is None:
                process.kill()
                raise subprocess.TimeoutExpired(words, timeout)
            texts = ((Path(said) / name).read_text("utf-8") for name in ("stdout", "stderr"))
            return subprocess.CompletedProcess(words, process.exitcode, *texts)

        try:
            yield process, wait
        finally:
            if process.exitcode is None:
                process.kill()
                process.join()


def command(
    *arguments, cwd=None, env=None, typed: str = "", timeout=600
) -> subprocess.CompletedProcess:
    """Run `purification-nb` with these arguments; `typed` is what it reads from standard input."""
    with started(arguments, None, cwd, env, typed) as (_, wait):
        return wait(timeout)


def python(code: str, *arguments, cwd=None, env=None, timeout=600) -> subprocess.CompletedProcess:
    """Run code as `python -c` does."""
    with started(arguments, code, cwd, env) as (_, wait):
        return wait(timeout)
