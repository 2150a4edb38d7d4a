"""The relayed requests to one service: their addresses, headers and connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from yarl import URL

from exai_actors import __version__
from exai_actors.core.calls import FailureKind, RelayCall, UpstreamFailure
from exai_actors.core.families import Family
from exai_actors.core.relay import Fields
from exai_actors.core.trace_context import TraceContext
from exai_actors.edges.ended_call import EndedCall
from exai_actors.edges.http.address import checked_url, key_field
from exai_actors.edges.http.alarms import Alarms
from exai_actors.edges.http.client import HttpClient, Target
from exai_actors.edges.http.relayed_call import RelayedCall
from exai_actors.edges.http.service import HttpService
from exai_actors.edges.http.settings import Address
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Recipient
from exai_actors.ports import UpstreamCall
from exai_actors.wire.http_api.responses_by_chat import NotTranslatable, by_chat

_MAX_URLS = 256
_MAX_TARGETS = 256
_MAX_KEPT_HEADERS = 2_048
NO_PERMIT = PermitId(-1)


class Relaying:
    """Starts relayed calls. ``open_client`` is called once for each host of the addresses."""

    def __init__(
        self,
        service: HttpService,
        addresses: Mapping[Family, Address],
        api_key: str | None,
        open_client: Callable[[URL], HttpClient],
    ) -> None:
        self._service = service
        self._open_client = open_client
        self._bases = {
            family: checked_url(service.name, address.url) for family, address in addresses.items()
        }
        self._origins = {family: base.origin() for family, base in self._bases.items()}
        self._key = {
            family: key_field(service.name, api_key, address.api_key_header)
            for family, address in addresses.items()
        }
        self._clients: dict[URL, HttpClient] = {}
        self._urls: dict[tuple[Family, str], URL] = {}
        self._targets: dict[tuple[Family, str, Fields], Target] = {}
        self._alarms: Alarms[RelayedCall] | None = None
        self.running: set[RelayedCall] = set()

    @property
    def shortest_connect_s(self) -> float:
        """The shortest time in which a connection was opened, inf before the first."""
        known = (client.shortest_connect_s for client in self._clients.values())
        return min(known, default=float("inf"))

    def start(
        self,
        permit: PermitId,
        call: RelayCall,
        reply_to: Recipient[ProviderMessage],
        *,
        fresh: bool,
        trace: TraceContext | None,
    ) -> RelayedCall | EndedCall:
        """Start a call of a family that has an address, or of Responses by chat."""
        if call.family == "responses" and "responses" not in self._bases:
            try:
                call = by_chat(call)
            except NotTranslatable as error:
                failure = UpstreamFailure(
                    FailureKind.REJECTED, str(error), response=error.response()
                )
                reply_to.tell(UpstreamEnded(permit, failure))
                return EndedCall()
        origin = self._origins[call.family]
        client = self._clients.get(origin)
        if client is None:
            client = self._clients[origin] = self._open_client(origin)
        target = self._target(call)
        if self._alarms is None:
            self._alarms = Alarms()
        running = RelayedCall(
            self._service,
            self._alarms,
            client,
            target,
            permit,
            call,
            reply_to,
            self.running.discard,
            fresh=fresh,
            trace=trace,
        )
        self.running.add(running)
        return running

    def ask(self, call: RelayCall, reply_to: Recipient[ProviderMessage]) -> UpstreamCall:
        """Start a call that takes no permit; ``reply_to`` gets its end. No later actor owns it."""
        running = self.start(NO_PERMIT, call, reply_to, fresh=False, trace=None)
        if isinstance(running, RelayedCall):
            self.running.discard(running)
        return running

    async def aclose(self) -> None:
        """Abort all calls; by then every call has reported its end."""
        for call in tuple(self.running):
            call.abort()
        clients = tuple(self._clients.values())
        self._clients.clear()
        if clients:
            await asyncio.gather(*(client.aclose() for client in clients))
        if self._alarms is not None:
            self._alarms.close()

    def _target(self, call: RelayCall) -> Target:
        """Most requests of a client have the same headers as its one before."""
        key = (call.family, call.path, call.headers)
        known = self._targets.get(key)
        if known is None:
            known = Target("POST", self._url(call), self._headers(call))
            if sum(len(name) + len(value) for name, value in call.headers) <= _MAX_KEPT_HEADERS:
                if len(self._targets) >= _MAX_TARGETS:
                    self._targets.clear()
                self._targets[key] = known
        return known

    def _url(self, call: RelayCall) -> URL:
        known = self._urls.get((call.family, call.path))
        if known is not None:
            return known
        base = self._bases[call.family].update_query(dict(self._service.settings.query))
        path, _, query = call.path.partition("?")
        queries = "&".join(filter(None, (base.raw_query_string, query)))
        target = f"{base.raw_path.rstrip('/')}/{path}{'?' if queries else ''}{queries}"
        url = URL(f"{base.origin()}{target}", encoded=True)
        if len(self._urls) < _MAX_URLS:
            self._urls[call.family, call.path] = url
        return url

    def _headers(self, call: RelayCall) -> dict[str, str]:
        """The client's own, with the account's key, and the headers of the configuration."""
        headers = {"Content-Type": "application/json", "User-Agent": f"exai-actors/{__version__}"}
        names = {name.lower(): name for name in headers}
        for name, value in (*call.headers, *self._service.settings.headers.items()):
            # One that comes later replaces an earlier one, whatever the case of its name.
            headers.pop(names.get(name.lower(), ""), None)
            names[name.lower()] = name
            headers[name] = value
        # A compressed stream arrives in lumps, and every piece would have to be unpacked.
        headers["Accept-Encoding"] = "identity"
        headers.update(self._key[call.family])
        return headers
