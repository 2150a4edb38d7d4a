"""The health file that scripts of the EX-AI daemon read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from exai_actors.errors import UsageError

log = structlog.get_logger()

INTERVAL_S = 10.0


class HealthFile:
    """Writes ``content()`` to ``path`` every ``interval_s`` seconds, as sorted, indented JSON.

    The file is replaced atomically. It stays when the broker stops; readers judge it by the age of
    its ``t`` and by its ``pid``.
    """

    def __init__(
        self, path: Path, content: Callable[[], dict[str, Any]], interval_s: float = INTERVAL_S
    ) -> None:
        self._path = path
        self._content = content
        self._interval_s = interval_s
        self._stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self) -> None:
        """Write the file once and start rewriting it. Raises UsageError if it cannot be written."""
        try:
            await self._write()
        except OSError as error:
            raise UsageError(
                f"Cannot write the health file {self._path}: {error.strerror or error}. "
                "Set [compat] health_file to another path, or to an empty text for no file."
            ) from None
        self._writing = asyncio.create_task(self._rewrite())

    async def stop(self) -> None:
        """Stop rewriting, after finishing a write in progress."""
        self._stopping.set()
        if self._writing is not None:
            await self._writing

    async def _rewrite(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval_s)
            if self._stopping.is_set():
                return
            try:
                await self._write()
            except OSError as error:
                # The cause, such as a full disk, may pass; until then one warning is enough.
                if not self._failing:
                    log.warning("compat.health_file_failed", path=str(self._path), cause=str(error))
                self._failing = True
            else:
                self._failing = False

    async def _write(self) -> None:
        text = orjson.dumps(self._content(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        await asyncio.to_thread(_replace, self._path, text + b"\n")


def _replace(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        # mkstemp gives only the owner access, but other users may run the scripts that read this.
        written.chmod(0o644)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
