"""The time cursor of a recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exai_actors.terminal.cells import clock_text
from exai_actors.terminal.lines import DIM, KEY, STRONG, Piece

SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SAMPLE_S = 1.0
"""The time between samples: so long after a fault, one of them shows it."""


class Timeline:
    """From ``begin`` to ``end``, on the wall clock; ``moved`` is called with each new instant."""

    def __init__(self, begin: float, end: float, fault_at: float | None = None) -> None:
        self.begin, self.end, self.fault_at = begin, end, fault_at
        self.at = begin if fault_at is None else min(fault_at + _SAMPLE_S, end)
        self.speed = 1.0
        self.is_playing = False
        self.moved: Callable[[], None] = lambda: None

    def seek(self, at: float) -> None:
        """Go to an instant of the recording."""
        self.at = max(self.begin, min(at, self.end))
        self.moved()

    def pass_time(self, seconds: float) -> None:
        """So much time of the viewer has passed."""
        if self.is_playing:
            self.seek(self.at + seconds * self.speed)
            self.is_playing = self.at < self.end

    def toggle(self) -> None:
        """Play or stop; at the end, play again from the beginning."""
        if self.at >= self.end:
            self.seek(self.begin)
        self.is_playing = not self.is_playing

    def change_speed(self, step: int) -> None:
        at = SPEEDS.index(self.speed) + step
        self.speed = SPEEDS[max(0, min(at, len(SPEEDS) - 1))]

    def keys(self, after: Callable[[], None]) -> dict[str, Callable[[], Any]]:
        """The keys that move the cursor; ``after`` is called after each."""

        def then(do: Callable[[], object]) -> Callable[[], None]:
            def both() -> None:
                do()
                after()

            return both

        return {
            "left": then(lambda: self.seek(self.at - 1)),
            "right": then(lambda: self.seek(self.at + 1)),
            "shift+left": then(lambda: self.seek(self.at - 10)),
            "shift+right": then(lambda: self.seek(self.at + 10)),
            "home": then(lambda: self.seek(self.begin)),
            "end": then(lambda: self.seek(self.end)),
            "space": then(self.toggle),
            "+": then(lambda: self.change_speed(1)),
            "-": then(lambda: self.change_speed(-1)),
        }

    def line(self, width: int) -> list[Piece]:
        """The cursor on a line, with the time and the speed."""
        length = max(self.end - self.begin, 1e-9)
        at = round((self.at - self.begin) / length * (width - 1))
        fault = None
        if self.fault_at is not None:
            fault = round((min(self.fault_at, self.end) - self.begin) / length * (width - 1))
        signs = "".join(
            "●" if each == at else "!" if each == fault else "─" for each in range(width)
        )
        state = f"▶ ×{self.speed:g}" if self.is_playing else "stopped"
        return [(clock_text(self.at), STRONG), (f" {signs} ", KEY), (f"{state}  ", DIM)]
