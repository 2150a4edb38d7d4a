"""Starts the console in this terminal."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from exai_actors.client.urls import parse_url
from exai_actors.errors import UsageError
from exai_actors.terminal.app import ConsoleApp
from exai_actors.terminal.live import LiveSource
from exai_actors.terminal.recorder import Recorder
from exai_actors.terminal.replay import Recording, ReplaySource


def watch_broker(url: str, token: str | None, record: Path | None, max_bytes: int) -> None:
    """Show the broker at ``url`` until the user leaves.

    With ``record``, all tables are recorded there too, up to ``max_bytes``. Raises UsageError if
    the URL is invalid or the file exists, and Unauthorized if the broker refuses the token.
    """
    where = parse_url(url).display
    recorder = None if record is None else Recorder(url, token, record, max_bytes)
    try:
        _run(ConsoleApp(LiveSource(url, token), where, recorder=recorder))
    finally:
        if recorder is not None:
            recorder.close()


def open_recording(file: Path) -> None:
    """Show a recording until the user leaves. Raises UsageError if it is none."""
    with contextlib.closing(Recording(file)) as recording:
        source = ReplaySource(recording)
        _run(ConsoleApp(source, file.name, timeline=source.timeline))


def _run(app: ConsoleApp) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "exai console needs a terminal; for scripts there is exai top --once --json"
        )
    error = app.run()
    if error is not None:
        raise error
