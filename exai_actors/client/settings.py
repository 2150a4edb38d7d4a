"""The settings of a client, with all its limits."""

from __future__ import annotations

from typing import Literal, TypedDict

import msgspec

DEFAULT_URL = "ws://127.0.0.1:8079"

IfBusy = Literal["wait_in_time", "wait", "refuse"]
"""The choice for a call that cannot run immediately.

Wait, unless the wait is predicted to outlast the call's deadline; wait, whatever the prediction; or
be refused with OverCapacity.
"""


class Settings(msgspec.Struct, frozen=True):
    """Times are in seconds; None, where allowed, means no limit.

    ``session_id`` with ``resume`` resumes an earlier session: both are in its client.
    ``call_timeout_s`` bounds a call from its sending to its outcome, ``reply_timeout_s`` the other
    operations (``tools``, ``health``, ``ping``), ``max_frame_bytes`` frames in both directions,
    ``max_unread`` the characters kept for a stream that is not read, ``max_outstanding`` the
    concurrent calls.
    """

    url: str = DEFAULT_URL
    token: str | None = None
    session_id: str | None = None
    resume: str | None = None
    open_timeout_s: float = 10.0
    call_timeout_s: float | None = 1200.0
    reply_timeout_s: float = 30.0
    close_timeout_s: float = 2.0
    max_frame_bytes: int = 33_554_432
    max_unread: int = 1_048_576
    max_outstanding: int = 1_000

    def __repr__(self) -> str:
        token = "None" if self.token is None else "'...'"
        return f"Settings(url={self.url!r}, token={token}, session_id={self.session_id!r})"


class ConnectOptions(TypedDict, total=False):
    """The fields of Settings that ``connect`` takes as keywords."""

    token: str | None
    session_id: str | None
    resume: str | None
    open_timeout_s: float
    call_timeout_s: float | None
    reply_timeout_s: float
    close_timeout_s: float
    max_frame_bytes: int
    max_unread: int
    max_outstanding: int
