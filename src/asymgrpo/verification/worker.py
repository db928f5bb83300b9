"""The process that compares answers: ``python -m asymgrpo.verification.worker``, started and killed by the pool.

It reads one line of JSON per chunk and writes one line per answer, as soon as it has it: so whoever reads knows which
answer it was at when it hung or died. It ends with the pool's process: an idle worker at the end of its input, a busy
one at the latest when its answer's share of CPU time is used up, which the kernel enforces (a signal at the parent's
death would come when the thread ends that started the worker, and that is too early).
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from asymgrpo.verification.reasons import ERROR, MEMORY_LIMIT

MIB = 2**20


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the pool's process decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.fdopen(os.dup(1), "wb", buffering=0)  # whatever prints shall not be taken for a verdict
    os.dup2(2, 1)
    try:
        from asymgrpo.verification import symbolic

        symbolic.check()
    except Exception as error:
        _write(output, {"failed": f"{type(error).__name__}: {error}"})
        return
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    base = _address_space()
    gc.freeze()  # what is there now stays: nothing to look for in it
    _write(output, {"ready": True})
    for line in sys.stdin.buffer:
        chunk = json.loads(line)
        memory = chunk["memory_mb"] * MIB
        _limit(resource.RLIMIT_AS, base + memory)
        for task in chunk["tasks"]:
            _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + chunk["seconds"]) + 1)
            try:
                correct, extracted, reason = symbolic.judge(*task)
            except MemoryError:
                correct, extracted, reason = False, "", MEMORY_LIMIT
            except Exception as error:
                correct, extracted, reason = False, "", f"{ERROR}: {type(error).__name__}"
            spent = _address_space() > base + memory / 2 or reason == MEMORY_LIMIT
            _write(output, {"correct": correct, "extracted": extracted[:1000], "reason": reason, "retired": spent})
            if spent:  # the next answer shall find memory: a fresh process goes on
                return


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of the address space
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    """Bytes that the process has mapped, which is what the kernel limits; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _write(output: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[output.write(data) or 0 :]


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
