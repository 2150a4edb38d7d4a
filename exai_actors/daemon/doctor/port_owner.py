"""The process that listens on a port: known on Linux, of other users' processes to root only."""

from __future__ import annotations

import os
from pathlib import Path

LISTENING = "0A"
PROC = Path("/proc")


def port_owner(port: int, proc: Path = PROC) -> str:
    """``nginx (process 41)``, or empty if it cannot be found."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    if not sockets:
        return ""
    for process in proc.glob("[0-9]*"):
        try:
            files = {os.readlink(each) for each in (process / "fd").iterdir()}  # noqa: PTH115
            if files & sockets:
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return ""


def _listening(port: int, proc: Path) -> set[str]:
    """The inodes of the sockets that listen on the port."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
