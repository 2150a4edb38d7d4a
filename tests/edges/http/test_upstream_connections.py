"""HttpUpstream's connections: reuse, staleness, redirects and proxies."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from yarl import URL

from exai_actors.core.calls import ChatCall, ChatMessage, Completion, FailureKind
from exai_actors.edges.http.address import proxy_for
from exai_actors.errors import ConfigError
from exai_actors.ids import PermitId
from exai_actors.messages.provider import ModelsUnavailable, ProviderMessage, UpstreamEnded
from exai_actors.messages.recipient import Offer
from exai_actors.ports import Upstream
from exai_actors.testing.probe import Probe
from exai_actors.testing.scripted_replies import Gate, answer, body, failure
from exai_actors.testing.scripted_upstream import ScriptedUpstream
from tests.edges.http.calling import caller_for

ANSWER = b'{"choices":[{"message":{"content":"x"}}]}'
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
)


class ClosingServer:
    """Answers each connection once, promises to keep it open, and closes it when it may."""

    def __init__(self, listener: socket.socket) -> None:
        self.connections = 0
        self.may_close = threading.Event()
        self.closed = threading.Event()
        self._listener = listener
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.recv(65536)
                connection.sendall(RESPONSE)
                self.may_close.wait(5)
                connection.shutdown(socket.SHUT_RDWR)
            self.closed.set()


@contextmanager
def closing_server() -> Iterator[ClosingServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ClosingServer(listener)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


class CallsAgain(Probe[ProviderMessage]):
    """Starts a second call in the turn that reports the end of the first one.

    In that turn the service closes the pooled connection, which the loop has yet to read.
    """

    def __init__(self, upstream: Upstream, server: ClosingServer) -> None:
        super().__init__()
        self._upstream = upstream
        self._server = server

    def offer(self, message: ProviderMessage, /) -> Offer:
        answer = super().offer(message)
        if isinstance(message, UpstreamEnded) and message.permit == 1:
            self._server.may_close.set()
            assert self._server.closed.wait(5)
            call = ChatCall("m", (ChatMessage("user", "hi"),))
            self._upstream.start(PermitId(2), call, self)
        return answer


async def test_no_request_is_written_to_a_connection_that_the_service_has_closed() -> None:
    with closing_server() as server:
        async with caller_for(server.base_url) as caller:
            probe = CallsAgain(caller.upstream, server)
            caller.start(stream=False, probe=probe)
            for _ in range(2):
                ended = await probe.expect(UpstreamEnded)
                assert isinstance(ended.result, Completion), ended
        assert server.connections == 2


async def test_a_connection_is_reused_after_answers_and_refusals() -> None:
    async with ScriptedUpstream() as upstream, caller_for(upstream.base_url) as caller:
        upstream.then(answer("a"), failure(429), answer("b"), failure(500), body("{}"))
        for stream in (True, False, False, True, True, False):
            await caller.start(stream=stream).end()
        assert upstream.started == 6
        assert upstream.connections == 1


async def test_a_connection_is_reused_if_its_body_ends_shortly_after_done() -> None:
    gate = Gate()
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
    reply = answer(event, gate)
    async with ScriptedUpstream(reply) as upstream, caller_for(upstream.base_url) as caller:
        started = caller.start()
        await started.piece()
        gate.open()
        assert isinstance(await started.end(), Completion)
        assert isinstance(await caller.start().end(), Completion)
        assert upstream.connections == 1


async def test_concurrent_calls_have_one_connection_each_without_a_limit() -> None:
    gate = Gate()
    reply = answer(gate, "x")
    async with ScriptedUpstream(default=reply) as upstream, caller_for(upstream.base_url) as caller:
        calls = [caller.start() for _ in range(120)]
        await upstream.wait_for_started(120)
        assert upstream.max_in_flight == 120
        gate.open()
        for started in calls:
            assert isinstance(await started.end(), Completion)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with ScriptedUpstream() as elsewhere, ScriptedUpstream() as upstream:
        target = elsewhere.base_url + "/chat/completions"
        upstream.then(body("", status=status, headers={"Location": target}))
        models = elsewhere.base_url + "/models"
        upstream.models = body("", status=status, headers={"Location": models})
        question: Probe[ProviderMessage] = Probe()
        async with caller_for(upstream.base_url) as caller:
            failed = await caller.start().failure()
            caller.upstream.ask_models(question)
            answer_of_models = await question.expect(ModelsUnavailable)
        assert failed.kind is FailureKind.REJECTED
        assert target in failed.message
        assert models in answer_of_models.failure.message
        assert elsewhere.started == elsewhere.model_requests == 0


async def test_cookies_of_the_service_are_ignored() -> None:
    async with (
        ScriptedUpstream() as upstream,
        # No cookie is ever kept for a bare IP address.
        caller_for(upstream.base_url.replace("127.0.0.1", "localhost")) as caller,
    ):
        upstream.then(answer("x", headers={"Set-Cookie": "session=1; Path=/"}))
        for _ in range(2):
            await caller.start().end()
        assert "Cookie" not in upstream.requests[1].headers


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.moonshot.ai/v1", "http://proxy.example:3128"),
        ("http://api.moonshot.ai/v1", None),
        ("https://inside.example/v1", None),
        ("https://localhost:1/v1", None),
        ("https://127.0.0.1:1/v1", None),
        ("https://[::1]:1/v1", None),
    ],
)
def test_the_proxy_comes_from_the_environment_except_for_this_machine(
    url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_for(URL(url)) == (None if proxy is None else URL(proxy))


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("localhost,192.0.2.0/24", "http://192.0.2.7/v1", True),
        ("192.0.2.0/24", "http://192.0.3.7/v1", False),
        ("10.0.0.0/8 192.168.0.0/16", "http://192.168.4.5:8000/v1", True),
        ("192.0.2.7", "http://192.0.2.7:8000/v1", True),
        ("192.0.2.7:8000", "http://192.0.2.7:8000/v1", True),
        ("192.0.2.7:8000", "http://192.0.2.7:8001/v1", False),
        ("2001:db8::/32", "http://[2001:db8::1]/v1", True),
        ("[2001:db8::1]", "http://[2001:db8::1]:80/v1", True),
        ("[2001:db8::1]:8000", "http://[2001:db8::1]:8001/v1", False),
        ("2001:db8::/32", "http://[2001:db9::1]/v1", False),
        ("*.corp.example", "http://llm.corp.example/v1", True),
        (".corp.example", "http://llm.corp.example/v1", True),
        ("corp.example", "http://LLM.Corp.Example/v1", True),
        ("corp.example", "http://notcorp.example/v1", False),
        ("*.corp.example", "http://corp.example.evil.example/v1", False),
        ("llm.corp.example:8000", "http://llm.corp.example:8000/v1", True),
        ("llm.corp.example:8000", "http://llm.corp.example/v1", False),
        ("http://llm.corp.example", "http://llm.corp.example/v1", True),
        (" , ,, ", "http://llm.corp.example/v1", False),
        ("*", "http://llm.corp.example/v1", True),
        ("300.0.0.0/8,1.2.3.4/99,[,]:x,:,/", "http://192.0.2.7/v1", False),
    ],
)
def test_no_proxy_lists_hosts_networks_and_ports(
    no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(URL(url)) == (None if direct else URL("http://proxy.example:3128"))


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_without_a_scheme_speaks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "me:word@proxy.example:3128")
    assert proxy_for(URL("https://api.example/v1")) == URL("http://me:word@proxy.example:3128")


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("named", ["socks5://me:word@proxy.example", "http://[word", "http://"])
def test_a_proxy_that_cannot_be_used_is_refused_unquoted(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(ConfigError, match="HTTPS_PROXY names cannot be used") as refused:
        proxy_for(URL("https://api.example/v1"))
    assert "word" not in str(refused.value)
