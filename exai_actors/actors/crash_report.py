"""The last words of a broker that gives up, for its log and for stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from exai_actors.runtime import Incident


class CrashReport(msgspec.Struct, frozen=True):
    """A part that could not be restarted, and the incidents before that, the latest last.

    It contains no text of exceptions, which may quote a request. As text it is the whole report.
    """

    path: str
    error: str
    restarts: int
    period_s: float
    at: float
    incidents: Sequence[Incident] = ()

    @property
    def cause(self) -> str:
        return (
            f"{self.path} failed more than {self.restarts} times in {self.period_s:g} s, "
            f"the last time with {self.error}"
        )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"the broker gave up: {self.cause}"
        for each in self.incidents:
            yield (
                f"  {self.at - each.time:.3f} s before: {each.path} failed with {each.error}: "
                f"{each.consequence}"
            )
