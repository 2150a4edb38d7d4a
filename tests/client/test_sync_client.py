"""The synchronous client: calls from any thread, and no thread left behind."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from exai_actors.client import (
    ConnectError,
    ConnectionLost,
    RequestCancelled,
    RequestTimeout,
    UsageError,
    connect_sync,
)
from exai_actors.client.sync import SyncBrokerClient
from tests.client.scripted_peer import ScriptedPeer, scripted_peer

T = TypeVar("T")


class PeerThread:
    """A ScriptedPeer on another thread's loop, because the client blocks its caller."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ready: asyncio.Future[ScriptedPeer] = self.loop.create_future()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        async with scripted_peer() as peer:
            self.ready.set_result(peer)
            await self._over.wait()

    def __enter__(self) -> PeerThread:
        self._thread.start()
        self.peer = self.run(self._peer)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self.loop.close()

    async def _peer(self) -> ScriptedPeer:
        return await self.ready

    def start(self, doing: Callable[[], Awaitable[T]]) -> Callable[[], T]:
        async def do() -> T:
            return await doing()

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result

    def run(self, doing: Callable[[], Awaitable[T]]) -> T:
        return self.start(doing)()

    def received(self, op: str) -> str:
        return str(self.run(lambda: self.peer.receive(op))["request_id"])


@pytest.fixture
def far() -> Iterator[PeerThread]:
    with PeerThread() as far:
        yield far


@pytest.fixture
def broker(far: PeerThread) -> Iterator[SyncBrokerClient]:
    with connect_sync(far.peer.url, call_timeout_s=10) as broker:
        far.run(lambda: far.peer.receive("hello"))
        yield broker


def _client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "exai-client"]


def test_a_call_returns_its_answer(far: PeerThread, broker: SyncBrokerClient) -> None:
    async def answer() -> None:
        frame = await far.peer.receive("call_tool")
        await far.peer.answer(frame["request_id"], frame["arguments"]["prompt"].upper())

    answered = far.start(answer)
    assert broker.call("chat", prompt="hi").text == "HI"
    answered()


def test_threads_share_one_connection(far: PeerThread, broker: SyncBrokerClient) -> None:
    async def answer_all() -> None:
        frames = [await far.peer.receive("call_tool") for _ in range(8)]
        for frame in reversed(frames):
            await far.peer.answer(frame["request_id"], frame["arguments"]["prompt"])

    answered = far.start(answer_all)
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda n: broker.call("chat", prompt=str(n)).text, range(8)))
    assert texts == [str(n) for n in range(8)]
    answered()


def test_a_stream_is_read_with_a_for_loop(far: PeerThread, broker: SyncBrokerClient) -> None:
    async def answer() -> None:
        await far.peer.receive("call_tool")
        await far.peer.chunk("s", 0, "Hel")
        await far.peer.chunk("s", 1, "lo")
        await far.peer.answer("s", "Hello")

    answered = far.start(answer)
    stream = broker.stream("chat", request_id="s", prompt="hi")
    assert list(stream) == ["Hel", "lo"]
    assert stream.result.text == "Hello"
    answered()


def test_leaving_the_loop_cancels_the_call(far: PeerThread, broker: SyncBrokerClient) -> None:
    async def begin() -> None:
        await far.peer.receive("call_tool")
        await far.peer.chunk("s", 0, "one")

    begun = far.start(begin)
    for piece in broker.stream("chat", request_id="s"):
        assert piece == "one"
        break
    begun()
    assert far.received("cancel") == "s"


def test_the_end_of_a_with_block_cancels_the_call(
    far: PeerThread, broker: SyncBrokerClient
) -> None:
    with broker.stream("chat", request_id="s") as stream:
        assert far.received("call_tool") == "s"
    assert far.received("cancel") == "s"
    with pytest.raises(RequestCancelled):
        _ = stream.result


def test_cancel_from_another_thread_ends_a_call(far: PeerThread, broker: SyncBrokerClient) -> None:
    with ThreadPoolExecutor(1) as threads:
        calling = threads.submit(broker.call, "chat", request_id="mine")
        assert far.received("call_tool") == "mine"
        broker.cancel("mine")
        assert far.received("cancel") == "mine"
        far.run(lambda: far.peer.refuse("mine", "CANCELLED"))
        with pytest.raises(RequestCancelled):
            calling.result()


def test_an_interrupt_while_waiting_cancels_the_call(
    far: PeerThread, broker: SyncBrokerClient
) -> None:
    async def interrupt() -> None:
        await far.peer.receive("call_tool")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupted = far.start(interrupt)
    with pytest.raises(KeyboardInterrupt):
        broker.call("chat", request_id="mine", timeout_s=10)
    interrupted()
    assert far.received("cancel") == "mine"


def test_a_timeout_is_enforced(broker: SyncBrokerClient) -> None:
    with pytest.raises(RequestTimeout):
        broker.call("chat", timeout_s=0.05)


def test_closing_fails_calls_of_other_threads(far: PeerThread) -> None:
    with ThreadPoolExecutor(1) as threads:
        with connect_sync(far.peer.url) as broker:
            calling = threads.submit(broker.call, "chat")
            far.run(lambda: far.peer.receive("hello"))
            far.received("call_tool")
        with pytest.raises(ConnectionLost, match="closed by this client"):
            calling.result()
    assert _client_threads() == []
    broker.close()
    with pytest.raises(UsageError, match="closed"):
        broker.ping()


def test_a_stream_can_be_closed_after_its_client(
    far: PeerThread,
) -> None:
    with connect_sync(far.peer.url) as broker, broker.stream("chat", request_id="s") as stream:
        broker.close()
    stream.close()
    with pytest.raises(ConnectionLost, match="closed by this client"):
        _ = stream.result


def test_a_failed_connection_leaves_no_thread() -> None:
    with pytest.raises(ConnectError), connect_sync("ws://127.0.0.1:1"):
        pass
    assert _client_threads() == []


def test_an_unreferenced_client_ends_its_thread(far: PeerThread) -> None:
    broker = connect_sync(far.peer.url).__enter__()
    assert len(_client_threads()) == 1
    del broker
    gc.collect()
    assert _client_threads() == []


def test_a_call_from_the_clients_thread_is_an_error(
    far: PeerThread, broker: SyncBrokerClient
) -> None:
    raised: list[Exception] = []
    tried = threading.Event()

    def call_again(_: object) -> None:
        try:
            broker.ping()
        except UsageError as error:
            raised.append(error)
        tried.set()

    async def report() -> None:
        await far.peer.receive("call_tool")
        await far.peer.send({"op": "progress", "request_id": "s"})

    reported = far.start(report)
    with ThreadPoolExecutor(1) as threads:
        calling = threads.submit(broker.call, "chat", request_id="s", on_progress=call_again)
        assert tried.wait(5)
        reported()
        far.run(lambda: far.peer.answer("s", "done"))
        assert calling.result().text == "done"
    assert "own thread" in str(raised[0])


def test_a_client_must_be_opened_before_use() -> None:
    broker = connect_sync()
    for use in (broker.ping, lambda: broker.stream("chat"), lambda: broker.session_id):
        with pytest.raises(UsageError, match=r"not connected.*`with connect_sync"):
            use()
