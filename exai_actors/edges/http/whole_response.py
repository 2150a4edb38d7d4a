"""A small response, awaited as a whole."""

from __future__ import annotations

import asyncio

from multidict import CIMultiDict

from exai_actors.core.calls import Aborted, FailureKind, UpstreamFailure
from exai_actors.edges.http.client import Headers
from exai_actors.wire.openai.content_coding import BadCoding, Inflater, is_compressed


class WholeResponse:
    """Implements ``client.Receiver``. After ``end``: a response, or a failure.

    ``is_cut``: the body is larger than ``max_bytes``, and ``end`` has not waited for its rest.
    """

    def __init__(self, max_bytes: int) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: Headers = CIMultiDict()
        self.body = bytearray()
        self.is_cut = False
        self.failure: UpstreamFailure | None = None
        self._max_bytes = max_bytes
        self._inflater: Inflater | None = None

    def connected(self) -> None: ...

    def head(self, status: int, headers: Headers, /) -> None:
        self.status, self.headers = status, headers
        coding = headers.get("Content-Encoding")
        if coding is not None and is_compressed(coding):
            self._inflater = Inflater(coding)

    def whole(self, _status: int, _headers: Headers, _body: bytes, /) -> bool:
        return False

    def data(self, data: bytes, /) -> None:
        if self.end.done():
            return
        if self._inflater is None:
            self.body += data
        else:
            self._inflate(self._inflater, data)
        if len(self.body) > self._max_bytes:
            self.is_cut = True
            self._finish()

    def ended(self) -> None:
        self._finish()

    def failed(self, failure: UpstreamFailure | Aborted, /) -> None:
        if isinstance(failure, Aborted):
            self.end.cancel()
        elif not self.end.done():
            self.failure = failure
            self._finish()

    def _inflate(self, inflater: Inflater, data: bytes) -> None:
        inflater.feed(data)
        try:
            while len(self.body) <= self._max_bytes and (portion := inflater.take()):
                self.body += portion
        except BadCoding as error:
            self.failure = UpstreamFailure(FailureKind.MALFORMED, f"answered with {error}")
            self._finish()

    def _finish(self) -> None:
        if not self.end.done():
            self.end.set_result(None)
