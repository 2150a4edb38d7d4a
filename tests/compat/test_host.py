"""Figures of the operating system from /proc files, present or missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from exai_actors.compat.health import MachineFigures
from exai_actors.compat.host import measure

MEMINFO = """\
MemTotal:       16384000 kB
MemFree:          512000 kB
MemAvailable:    8192000 kB
HugePages_Total:       0
"""


def proc_with(folder: Path, meminfo: str, statm: str) -> Path:
    (folder / "self").mkdir()
    (folder / "meminfo").write_text(meminfo)
    (folder / "self" / "statm").write_text(statm)
    return folder


def test_the_figures_come_from_proc(tmp_path: Path) -> None:
    figures = measure(tmp_path, proc_with(tmp_path, MEMINFO, "60000 12800 4000 1 0 900 0\n"))
    assert figures.process_memory == 12800 * os.sysconf("SC_PAGE_SIZE")
    assert figures.memory_total == 16_384_000 * 1024
    assert figures.memory_available == 8_192_000 * 1024


def test_the_disk_is_that_of_the_path(tmp_path: Path) -> None:
    figures = measure(tmp_path)
    assert figures.disk_total is not None
    assert figures.disk_free is not None
    assert 0 <= figures.disk_free <= figures.disk_total


def test_missing_files_give_none(tmp_path: Path) -> None:
    assert measure(tmp_path / "gone", proc=tmp_path / "gone") == MachineFigures()


def test_files_of_another_format_give_none(tmp_path: Path) -> None:
    figures = measure(tmp_path / "gone", proc_with(tmp_path, "MemTotal: a lot\n", "short"))
    assert figures == MachineFigures()


def test_this_process_has_a_memory_figure_on_linux() -> None:
    figures = measure(Path.cwd())
    assert (figures.process_memory is not None) is (sys.platform == "linux")
