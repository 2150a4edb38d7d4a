"""The memory of this process and its machine, as far as the system shows them."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

# Seven numbers.
_STATM_BYTES = 256


def resident_bytes() -> int:
    """The resident memory of this process; 0 where it cannot be read."""
    # Read several times a second, also while nothing is served: a file object would take nine
    # system calls instead of three.
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            pages = os.read(statm, _STATM_BYTES).split()[1]
        finally:
            os.close(statm)
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def available_bytes() -> int | None:
    """The smallest of the limits on this process: machine, control group, `ulimit -v`."""
    limits = [*_control_group_limits(), *_machine_limits()]
    return min(limits, default=None)


def _control_group_limits() -> list[int]:
    found = []
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text("ascii")))
    return found


def _machine_limits() -> list[int]:
    found = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        import resource
    except ImportError:  # Windows
        return found
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found.append(soft)
    return found


def returner() -> Callable[[], object] | None:
    """A function that returns freed memory to the system; None where libc has none.

    It takes up to a tenth of a second and lets other threads run meanwhile.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return lambda: trim(0)
