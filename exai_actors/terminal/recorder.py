"""Records all tables of a broker to a file, on a connection of its own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from exai_actors.client.console import ConsoleClient, open_console
from exai_actors.client.errors import ConnectError
from exai_actors.errors import UsageError
from exai_actors.wire.console.recording import header

EVERY_S = 1.0
MOST_ROWS = 500
RESYNC_S = 30.0
RETRY_S = 2.0


class Recorder:
    """Writes the frames of all tables, the first MOST_ROWS rows each, until the file is full.

    Raises UsageError if the file exists or cannot be written.
    """

    def __init__(self, url: str, token: str | None, file: Path, max_bytes: int) -> None:
        self._url, self._token = url, token
        self._max_bytes = max_bytes
        self._bytes = 0
        self._has_header = False
        self.file = file
        try:
            self._open: BinaryIO = file.open("xb", buffering=0)
        except FileExistsError:
            raise UsageError(f"{file} exists already; name a new file") from None
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror or error}") from None
        self.state = "recording"
        """The state as one or two words, for the screen."""

    async def run(self) -> None:
        """Record until cancelled or full; a lost broker is waited for."""
        while self.state == "recording":
            try:
                async with open_console(self._url, self._token) as console:
                    await self._record(console)
            except ConnectError:
                await asyncio.sleep(RETRY_S)

    async def _record(self, console: ConsoleClient) -> None:
        if not self._has_header:
            self._has_header = True
            self._write(header(console.greeting, time.time()))
        tables = list(console.greeting["tables"])
        for table in tables:
            message = {"op": "watch", "table": table, "limit": MOST_ROWS, "every_s": EVERY_S}
            await console.send(message)
        resync_at = asyncio.get_running_loop().time() + RESYNC_S
        while self.state == "recording":
            frame = await console.receive()
            if frame["op"] in ("snapshot", "delta"):
                self._write(msgspec.json.encode(frame))
            if asyncio.get_running_loop().time() >= resync_at:
                resync_at += RESYNC_S
                for table in tables:
                    await console.send({"op": "resync", "table": table})

    def _write(self, line: bytes) -> None:
        if self._bytes + len(line) + 1 > self._max_bytes:
            self.state = "recording is full"
            return
        try:
            self._open.write(line + b"\n")
        except OSError as error:
            self.state = f"recording failed: {error.strerror or error}"
            return
        self._bytes += len(line) + 1

    def close(self) -> None:
        """Close the file."""
        self._open.close()
