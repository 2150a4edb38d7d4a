"""The ends of all requests, without a message: counts, and those that observe each one."""

from __future__ import annotations

from collections.abc import Callable

from exai_actors.core.observe.request_ends import RequestEnd, RequestFigures, Tracer
from exai_actors.errors import ErrorBody


class RequestBoard:
    """Sessions count their requests in ``figures``; loop thread only.

    The others are to be set before the first session starts: ``observers`` are called with each
    end, and must neither wait nor raise; ``tracer`` traces each request, None for no request.

    ``cut_off`` is the error with which connections answer all that has not ended when the broker
    ends; None until then.
    """

    def __init__(self) -> None:
        self.figures = RequestFigures()
        self.observers: tuple[Callable[[RequestEnd], object], ...] = ()
        self.tracer: Tracer | None = None
        self.cut_off: ErrorBody | None = None
