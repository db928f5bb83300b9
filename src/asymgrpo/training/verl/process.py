"""Run a program that starts many processes of its own (Ray, vLLM), and leave none of them behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

STALL_SECONDS = float(os.environ.get("ASYMGRPO_STALL_SECONDS", "7200"))
"""A broken weight transfer makes verl wait for ever: without a sign of life for so long the run is ended."""
GRACE_SECONDS = 20.0


def run_to_end(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    watched: Sequence[Path],
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Run `command` in `directory`; its output goes where this process's goes.

    If this process is asked to end (SIGTERM, SIGINT, SIGHUP), so are the command and all that it started; if this
    process is killed, the supervisor does it (:mod:`asymgrpo.training.verl.supervisor`).

    Args:
        command: program and arguments.
        directory: to run in.
        environment: complete.
        watched: files that are written as the work goes on; if none changes for `stall_seconds`, the command is ended.
        stall_seconds: counted from the start, too, so longer than starting up takes.

    Raises:
        ValueError: the command ended with an error, or stalled.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "asymgrpo.training.verl.supervisor", str(os.getpid()), *command],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )

    def stop(number: int, _: FrameType | None) -> None:
        end_group(child)
        sys.exit(128 + number)

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = {number: signal.signal(number, stop) for number in signals}
    try:
        status = _wait(child, watched, stall_seconds)
    finally:
        end_group(child)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise ValueError(
            f"verl {how}; the reason is in the log above. What was computed is in {directory}, and the same command "
            "goes on"
        )


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started and did not detach: first politely, then by force."""
    for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
        _signal_group(child.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            child.poll()  # reaps it, so that a dead group is seen to be gone
            if not _runs(child.pid):
                return
            time.sleep(0.1)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anyone to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _runs(group: int) -> bool:
    """Whether anyone of the group runs; in a container whose first process reaps no orphans, dead ones stay for
    ever."""
    if not _signal_group(group, 0):
        return False
    if sys.platform != "linux":
        return True
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # after the name, which may contain anything: state, parent, group
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def _wait(child: subprocess.Popen[bytes], watched: Sequence[Path], stall_seconds: float) -> int:
    seen, since = _state(watched), time.monotonic()
    while True:
        try:
            return child.wait(timeout=min(5.0, stall_seconds))
        except subprocess.TimeoutExpired:
            pass
        now = _state(watched)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > stall_seconds:
            end_group(child)
            raise ValueError(
                f"verl gave no sign of life for {stall_seconds:.0f} s and was ended; the same command goes on from its "
                "last checkpoint (ASYMGRPO_STALL_SECONDS sets the patience)"
            )


def _state(paths: Sequence[Path]) -> list[int]:
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
