"""Work in a process of its own, so that what a sampling engine holds - a GPU's memory above all - is free after it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch


def run_in_child(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work` in a child process and wait for it; the child ends with this process, whatever ends it.

    The child is forked, so what is imported here need not be imported again; but not once a GPU is in use, which no
    fork survives. Then `work` and its arguments must be picklable.

    Raises:
        ValueError: what `work` raised, if it was one; or the child ended otherwise, of which its output tells more.
    """
    context = multiprocessing.get_context("spawn" if torch.cuda.is_initialized() else "fork")
    receiver, sender = context.Pipe(duplex=False)
    sys.stdout.flush()
    child = context.Process(target=_call, args=(work, arguments, sender, os.getpid()))  # type: ignore[attr-defined]
    child.start()
    sender.close()
    try:
        message = receiver.recv() if receiver.poll(None) else None
    except EOFError:
        message = None  # it died
    except BaseException:
        child.kill()
        raise
    finally:
        child.join()
        receiver.close()
    if message is not None:
        raise ValueError(message)
    if child.exitcode:
        ending = f"exit status {child.exitcode}"
        if child.exitcode < 0:
            ending = f"signal {signal.Signals(-child.exitcode).name}"
        raise ValueError(f"the sampling engine ended with {ending}; what it said is above")


def _call(work: Callable[..., None], arguments: tuple[Any, ...], sender: Connection, parent: int) -> None:
    _end_with(parent)
    try:
        work(*arguments)
    except ValueError as error:
        if error.__cause__ is not None:  # not of our own making
            traceback.print_exc()
        sender.send(str(error))
    sender.close()


def _end_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent is gone, even by SIGKILL."""
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
