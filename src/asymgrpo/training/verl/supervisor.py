"""Stands between the launcher and verl: when the launcher is gone, however it went, it ends all that verl started.

Ray's helpers outlive a driver that was killed by minutes; the next start on the same node should not find them. Started
as ``python -m asymgrpo.training.verl.supervisor LAUNCHER COMMAND...``, with the launcher's process id, as the leader
of a process group of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Run the command and end as it ends."""
    command: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        if command is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)  # this process, too
        raise AssertionError("unreachable")

    signal.signal(signal.SIGTERM, stop)
    if sys.platform == "linux":  # elsewhere verl does not run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the launcher was killed before the kernel knew whom to tell")
    command = subprocess.Popen(sys.argv[2:])
    # `command.wait` would hold a lock meanwhile, for which that in `stop` would wait in vain
    os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)
    status = command.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
