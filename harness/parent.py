"""To end with the process that started this one, also where that is killed and can say nothing."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def end_with_parent(sent: int) -> None:
    """Send the signal `sent` to this process when the one that started it is gone; a main thread calls this.

    The system does so where it is Linux. Elsewhere a thread does, in a process that multiprocessing started.
    """
    started_by = parent_process()
    if not _by_the_system(sent) and started_by:
        threading.Thread(target=_watch, args=(started_by.sentinel, sent), daemon=True).start()
    if started_by and os.getppid() != started_by.pid:  # it was gone before it could be watched
        os.kill(os.getpid(), sent)


def _by_the_system(sent: int) -> bool:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            return ctypes.CDLL("libc.so.6").prctl(PARENT_DEATH_SIGNAL, sent) == 0
    return False


def _watch(parent: int, sent: int) -> None:
    wait([parent])
    os.kill(os.getpid(), sent)
