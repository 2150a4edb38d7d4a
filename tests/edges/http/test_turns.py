"""A connection to a service reads no more than its share of a turn, and nothing in a pause."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from yarl import URL

from exai_actors.edges.http.connection import LARGE_READ_BYTES, Connection, Exchange
from exai_actors.edges.http.direct_client import DirectClient
from tests.edges.http.exchanging import Recorder, service_named, turns
from tests.edges.websocket.memory_socket import MemoryTransport

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
MUCH = b"a" * LARGE_READ_BYTES


class Service:
    """The other end of a connection in memory; ``exchange`` is the one that it was opened for."""

    def __init__(self) -> None:
        self.received = Recorder()
        self.exchange = Exchange(self.received, b"request")
        self._connection = Connection(
            DirectClient(service_named(), URL("http://127.0.0.1:1")), self.exchange
        )
        self.transport = MemoryTransport(self._connection)

    def connect(self) -> None:
        self._connection.connection_made(self.transport)

    def send(self, *portions: bytes) -> int:
        """Send as much of it as is read, and return how many portions these were."""
        for number, each in enumerate(portions):
            if not self.transport.is_reading():
                return number
            self._connection.data_received(each)
        return len(portions)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    yield made
    made.transport.abort()
    await turns(1)


async def test_after_much_data_others_have_their_turns(service: Service) -> None:
    service.connect()
    service.send(HEAD)
    for number in range(1, 4):
        assert service.send(MUCH, MUCH, MUCH) == 1
        assert len(service.received.body) == number * len(MUCH)
        await turns(1)


async def test_little_data_is_read_in_the_turn_in_which_it_comes(service: Service) -> None:
    service.connect()
    assert service.send(HEAD, *[b"a" * (LARGE_READ_BYTES - 1)] * 9) == 10


async def test_a_pause_outlasts_the_turn_and_a_turn_the_pause(service: Service) -> None:
    service.connect()
    service.send(HEAD, MUCH)
    service.exchange.pause()
    await turns(1)
    assert not service.transport.is_reading()
    service.exchange.resume()
    assert service.send(MUCH, MUCH) == 1
    service.exchange.pause()
    service.exchange.resume()
    assert not service.transport.is_reading()
    await turns(1)
    assert service.transport.is_reading()


async def test_a_pause_from_before_the_connection_holds_though_the_loop_reads_on(
    service: Service,
) -> None:
    service.exchange.pause()
    service.connect()
    # As uvloop does.
    service.transport.resume_reading()
    assert service.send(HEAD + b"little", MUCH) == 1
    assert service.received.body == b""
    service.exchange.resume()
    await turns(1)
    assert service.received.body == b"little"
    assert service.send(MUCH) == 1


async def test_a_connection_that_ends_in_its_pause_for_a_turn_is_left_alone(
    service: Service,
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    # With unread data, a transport closes before its protocol knows that.
    service.transport.reads = False
    service.connect()
    service.send(HEAD, MUCH)
    service.transport.close()
    await turns(1)
    service.transport.client_reads()
    await asyncio.wait_for(service.received.until(lambda: service.received.end is not None), 10)
    assert not service.transport.is_reading()
    assert faults == []
