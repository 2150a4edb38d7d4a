"""Where and how a client connects, with every limit it keeps."""

from __future__ import annotations

from typing import Literal

import msgspec

DEFAULT_URL = "ws://127.0.0.1:8079"

IfBusy = Literal["wait_in_time", "wait", "refuse"]
"""What the broker is to do with a call that cannot run at once.

Wait, unless the wait is predicted to outlast the call's deadline; wait whatever is predicted; or
refuse it with OverCapacity.
"""


class Settings(msgspec.Struct, frozen=True):
    """All times are in seconds; None means without limit where it is allowed.

    ``call_timeout_s`` bounds a call from its sending to its outcome, ``reply_timeout_s`` what the
    broker answers by itself (``tools``, ``health``, ``ping``). ``max_frame_bytes`` bounds frames
    both ways. ``max_unread`` is the number of characters kept for a stream that is not read,
    ``max_outstanding`` the number of calls at once.
    """

    url: str = DEFAULT_URL
    token: str | None = None
    session_id: str | None = None
    open_timeout_s: float = 10.0
    call_timeout_s: float | None = 600.0
    reply_timeout_s: float = 30.0
    close_timeout_s: float = 2.0
    max_frame_bytes: int = 33_554_432
    max_unread: int = 1_048_576
    max_outstanding: int = 1_000

    def __repr__(self) -> str:
        token = "None" if self.token is None else "'...'"
        return f"Settings(url={self.url!r}, token={token}, session_id={self.session_id!r})"
