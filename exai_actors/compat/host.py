"""Figures of this process and its machine from the operating system; complete on Linux only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from exai_actors.compat.health import MachineFigures

PROC = Path("/proc")


def measure(disk: Path, proc: Path = PROC) -> MachineFigures:
    """Measure now; ``disk`` is any path on the disk in question.

    Reads files, so it belongs in a thread. Figures that cannot be read are None.
    """
    total, available = _memory(proc)
    disk_total, disk_free = _disk(disk)
    return MachineFigures(
        process_memory=_process_memory(proc),
        memory_total=total,
        memory_available=available,
        disk_total=disk_total,
        disk_free=disk_free,
    )


def _process_memory(proc: Path) -> int | None:
    try:
        resident_pages = int((proc / "self" / "statm").read_text().split()[1])
        return resident_pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _memory(proc: Path) -> tuple[int | None, int | None]:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        kibibytes = {
            name: int(amount.split()[0])
            for name, _, amount in (line.partition(":") for line in lines)
            if name in ("MemTotal", "MemAvailable")
        }
        return kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    except (OSError, ValueError, IndexError, KeyError):
        return None, None


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None, None
    return usage.total, usage.free
