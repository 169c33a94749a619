"""How a simulator's process lives and dies: with its parent, and at once on SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Ask the kernel for `signal_number` when the parent goes, however it goes.

    Call it from the main thread, first thing: a parent that was gone before is noticed by its
    replacement (pid 1), in which case the signal is raised here and now.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)


__all__ = ["die_with_parent"]
