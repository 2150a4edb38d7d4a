"""The messages of the host: one JSON text a line, in both directions."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

MAX_LINE_BYTES = 12_582_912
"""The longest line from the host."""
MAX_UNWRITTEN_BYTES = 16_777_216
"""Above it, nothing more is read from the host or the broker until the host has read some."""
_READ_BYTES = 65_536


class LineReader:
    """Cuts the bytes of the host into lines; None stands for one that is too long.

    Empty bytes are the end, also that of a last line without a line feed.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._is_skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        *complete, rest = (data or b"\n").split(b"\n")
        for part in complete:
            yield from self._complete(part)
        self._add(rest)

    def _complete(self, part: bytes) -> Iterator[bytes | None]:
        self._add(part)
        line, is_too_long = b"".join(self._parts).strip(), self._is_skipping
        self._parts, self._size, self._is_skipping = [], 0, False
        if is_too_long:
            yield None
        elif line:
            yield line

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MAX_LINE_BYTES:
            self._parts, self._is_skipping = [], True
        else:
            self._parts.append(part)


class Output:
    """Writes lines on a thread of its own, so that a host that does not read stops nothing else."""

    def __init__(self, file: int) -> None:
        self.unwritten = 0
        """Bytes that wait; the thread subtracts what it has written."""
        self.on_written: Callable[[], object] = lambda: None
        """Called on the thread after each line."""
        self._file = file
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="exai-mcp-output", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        return self.unwritten > MAX_UNWRITTEN_BYTES

    @property
    def has_reader(self) -> bool:
        """Whether the host still has its end."""
        state = select.poll()
        state.register(self._file, 0)
        return not state.poll(0)

    def write(self, frame: bytes) -> None:
        with self._lock:
            self.unwritten += len(frame)
        self._queue.put(frame)

    def close(self, timeout_s: float) -> None:
        """Write the rest, within that time."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        is_open = True
        while (frame := self._queue.get()) is not None:
            try:
                rest = memoryview(frame + b"\n")
                while rest and is_open:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                # The host has closed its end. What it sends is still read, up to the end of stdin.
                is_open = False
            with self._lock:
                self.unwritten -= len(frame)
            self.on_written()


class Input:
    """Reads the host's bytes on a thread of its own; ``received`` is called on it.

    Empty bytes are the end. It reads on after ``resume``, which is to follow each ``received``.
    """

    def __init__(self, file: int, received: Callable[[bytes], object]) -> None:
        self._file = file
        self._received = received
        self._may_read = threading.Event()
        threading.Thread(target=self._run, name="exai-mcp-input", daemon=True).start()

    def resume(self) -> None:
        self._may_read.set()

    def _run(self) -> None:
        while True:
            data = read(self._file)
            self._may_read.clear()
            self._received(data)
            if not data:
                return
            self._may_read.wait()


def read(file: int) -> bytes:
    """The next bytes; empty at the end."""
    try:
        return os.read(file, _READ_BYTES)
    except OSError:
        return b""
