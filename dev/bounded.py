"""Run a command for at most so many seconds: python dev/bounded.py SECONDS COMMAND [ARGUMENT ...]

`timeout` is not on every machine, and under make it keeps Ctrl-C from the command.
"""

import os
import signal
import subprocess
import sys


def main(seconds: str, *command: str) -> int:
    """Run the command in a process group of its own, so that its workers end with it."""
    process = subprocess.Popen(command, start_new_session=True)
    # A killed make sends SIGTERM here and nowhere else
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return process.wait(float(seconds))
    except subprocess.TimeoutExpired:
        print(
            f"stopped after {float(seconds) / 60:.0f} minutes: {' '.join(command)}", file=sys.stderr
        )
        return 124
    except KeyboardInterrupt:
        return 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
