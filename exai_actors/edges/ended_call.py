"""A call that has nothing left to control."""

from __future__ import annotations


class EndedCall:
    """Implements ``ports.UpstreamCall`` for a call that ended before ``start`` returned."""

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


ENDED_CALL = EndedCall()
