"""Child processes that cannot outlive their parent, however it dies.

Called in the child, before it does anything else::

    parent = os.getpid()
    subprocess.Popen(command, preexec_fn=lambda: die_with_parent(parent))       # or, in a forked child:
    die_with_parent(parent)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Looked up here and not in the function, because between fork and exec as little as possible may happen.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def die_with_parent(parent: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal as soon as the thread that started it ends.

    parent: the process id of the parent; when it is already gone the signal is sent at once. The wish survives exec of
    ordinary programs, but is not inherited by children. Outside Linux this does nothing. Raises OSError.
    """
    if _prctl is None:
        return
    if _prctl(PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def resident_bytes() -> int | None:
    """Tell how much memory this process has now; None where the machine does not say."""
    try:
        # proc(5): pages; the second number is what is resident.
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
