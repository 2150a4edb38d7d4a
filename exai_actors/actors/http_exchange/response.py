"""The response to one request over HTTP: what of it is sent, and how it may still end.

It ends cleanly only after a whole answer, or with an error that the client can read as one.
Everything else breaks it off, because clients take a clean end for success.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from exai_actors.core import error_bodies
from exai_actors.core.calls import RelayedResponse
from exai_actors.ids import TenantName, shown_tenant
from exai_actors.wire.http_api.early_heads import STREAM, STREAM_TYPE, UNBUFFERED, WHOLE
from exai_actors.wire.http_api.errors import (
    JSON,
    REQUEST_ID,
    ApiError,
    api_error,
    error_body,
    error_event,
    error_fields,
)

if TYPE_CHECKING:
    from exai_actors.actors.http_exchange.exchange import RelayedExchange
    from exai_actors.errors import ErrorBody
    from exai_actors.messages.connection import RequestQueued
    from exai_actors.ports import Kept, Responder

_OK = 200
_CONTENT_TYPE = "content-type"


class Response:
    """Implements ``RelayReader``. ``tenant`` is None until the broker has named it. ``give_up`` is
    called when the service answers otherwise than the client was promised.

    Whatever ends it sets ``has_ended``; from then on nothing is sent.
    """

    __slots__ = (
        "_early_head",
        "_family",
        "_give_up",
        "_has_begun",
        "_model",
        "_opened_at",
        "_pipe",
        "_request_id",
        "_responder",
        "data",
        "has_ended",
        "place",
        "relays",
        "tenant",
    )

    def __init__(
        self,
        responder: Responder,
        exchange: RelayedExchange,
        now: float,
        give_up: Callable[[], object],
    ) -> None:
        self._responder = responder
        self._give_up = give_up
        self._early_head = STREAM if exchange.request.stream else WHOLE
        self._family = exchange.request.family
        self._model = exchange.request.model
        self._pipe = exchange.request.pipe
        self._request_id = exchange.request_id
        self._opened_at = now
        self._has_begun = False
        self.data = responder.write
        """The next piece of the service's response."""
        self.relays = False
        """Whether a part of the service's response is sent."""
        self.has_ended = False
        self.tenant: TenantName | None = None
        self.place: RequestQueued | None = None
        """The request's place in the queue, while it has one."""

    def head(self, status: int, fields: tuple[tuple[str, str], ...], length: int | None, /) -> None:
        """The service's response has begun."""
        if self.has_ended:
            return
        if self._has_begun:
            if self._early_head.fits(status, fields):
                self.relays = True
            else:
                self.break_off()
                self._give_up()
            return
        self._has_begun = self.relays = True
        is_stream = False
        for name, value in fields:
            if name == _CONTENT_TYPE:
                is_stream = value.startswith(STREAM_TYPE)
        more = UNBUFFERED if is_stream else ()
        self._responder.begin(status, (*fields, *more, *self._own_fields()), length)

    def open_s(self, now: float) -> float:
        """How long ago the request came."""
        return now - self._opened_at

    def show_life(self) -> None:
        """Begin the answer that the client waits for, and show that its request is alive."""
        early, place = self._early_head, self.place
        if not self._has_begun:
            self._has_begun = True
            self._responder.begin(_OK, (*early.fields, *self._own_fields()))
        position, estimate_s = (None, None) if place is None else (place.position, place.estimate_s)
        self._responder.write(early.sign_of_life(self._family, position, estimate_s))

    def end(self) -> None:
        """The service's response is whole, or an error that the client can read."""
        self.has_ended = True
        self._responder.end()

    def break_off(self) -> None:
        self.has_ended = True
        self._responder.abort()

    def complete(self, response: RelayedResponse | None) -> None:
        """The request is completed, by what has been sent or by a kept ``response`` to it."""
        if self.relays:
            self.end()
        elif response is not None and not self._has_begun:
            self.has_ended = True
            fields = (*response.fields, *self._own_fields())
            self._responder.respond(response.status, fields, response.body)
        elif response is not None and self._early_head.fits(response.status, response.fields):
            self._responder.write(response.body)
            self.end()
        else:
            self.fail(api_error(error_bodies.repeated_too_late()))

    def refuse(self, response: RelayedResponse | None, error: ErrorBody) -> None:
        """Answer with the service's own refusal if there is one and it can still be sent."""
        if response is None or self._has_begun:
            self.fail(api_error(error))
            return
        self.has_ended = True
        named = {name.lower() for name, _ in response.fields}
        ours = (each for each in error_fields(api_error(error)) if each[0].lower() not in named)
        fields = (*response.fields, *ours, *self._own_fields())
        self._responder.respond(response.status, fields, response.body)

    def fail(self, error: ApiError) -> None:
        """End with an error of the broker."""
        if self.relays or (self._has_begun and not self._early_head.streams):
            self.break_off()
            return
        self.has_ended = True
        family, request_id = self._family, self._request_id
        if self._has_begun:
            self._responder.write(error_event(family, error, request_id, self._model))
            self._responder.end()
        else:
            if error.ends_connection:
                self._responder.close_after()
            fields = ((_CONTENT_TYPE, JSON), *error_fields(error), *self._own_fields())
            self._responder.respond(error.status, fields, error_body(family, error, request_id))

    def keep(self, kept: Kept) -> bool:
        """Leave something for the next request on the connection; False if none can come."""
        return self._responder.keep(kept)

    def forget(self, kept: Kept) -> None:
        self._responder.forget(kept)

    def _own_fields(self) -> tuple[tuple[str, str], ...]:
        fields: tuple[tuple[str, str], ...] = ((REQUEST_ID[self._family], self._request_id),)
        if self.tenant is not None:
            fields += (("x-exai-tenant", shown_tenant(self.tenant)),)
        granted_at = self._pipe.source.presence.granted_at
        if granted_at is not None:
            # The request may be the repeat of one that was granted earlier.
            queued_ms = max(0, round((granted_at - self._opened_at) * 1000))
            fields += (("x-exai-queued-ms", str(queued_ms)),)
        return fields
