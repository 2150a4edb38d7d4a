"""Whatever a client and a protocol do: the same calls on our transport as on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from exai_actors.edges.websocket.epoll_poller import EpollPoller
from exai_actors.edges.websocket.epoll_transport import EpollTransport
from tests.edges.websocket.served import READ_BUFFER, Recorder

Step = tuple[str, int]

client_steps = st.tuples(
    st.sampled_from(["send", "send", "read", "read", "read_all", "half_close", "close"]),
    st.sampled_from([1, 100, 50_000, 300_000]),
)
server_steps = st.tuples(
    st.sampled_from(
        ["write", "write", "pause", "resume", "resume", "write_eof", "marks", "close", "abort"]
    ),
    st.sampled_from([1, 1000, 100_000, 500_000]),
)
reactions = st.fixed_dictionaries(
    {
        "on_data": st.lists(server_steps, max_size=3),
        "keep_open": st.booleans(),
    }
)


@dataclass
class Seen:
    """What happened on one transport."""

    calls: list[str | bytes]
    states: list[tuple[bool, bool, int]]
    lost_with: type[Exception] | None
    client_read: bytes


def act(recorder: Recorder, step: Step) -> None:
    what, size = step
    transport = recorder.transport
    recorder.is_inside = what in ("close", "abort")
    match what:
        case "write":
            with contextlib.suppress(RuntimeError):
                transport.write(b"s" * size)
        case "pause":
            transport.pause_reading()
        case "resume":
            transport.resume_reading()
        case "write_eof":
            with contextlib.suppress(OSError):
                transport.write_eof()
        case "marks":
            transport.set_write_buffer_limits(size)
        case "close":
            transport.close()
        case "abort":
            transport.abort()
    recorder.is_inside = False


def client_acts(client: socket.socket, step: Step) -> bytes:
    what, size = step
    with contextlib.suppress(OSError):
        match what:
            case "send":
                client.send(b"c" * size)
            case "read":
                return client.recv(size)
            case "read_all":
                return b"".join(iter(lambda: client.recv(1 << 20), b""))
            case "half_close":
                client.shutdown(socket.SHUT_WR)
            case "close":
                client.close()
    return b""


async def play(kind: str, steps: list[tuple[str, Step]], reaction: dict[str, object]) -> Seen:
    """Local sockets deliver at once, so that after some turns of the loop all has settled."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)
    ours, client = socket.socketpair()
    client.setblocking(False)
    ours.setblocking(False)
    recorder = Recorder()
    on_data = reaction["on_data"]
    assert isinstance(on_data, list)

    def react(recorder: Recorder) -> None:
        for step in on_data:
            act(recorder, step)

    recorder.on_data = react
    recorder.on_eof = lambda _: bool(reaction["keep_open"])
    if kind == "epoll":
        EpollTransport(loop, EpollPoller(loop, READ_BUFFER), ours, recorder, "").start()
    else:
        await loop.connect_accepted_socket(lambda: recorder, ours)
    seen = Seen([], [], None, b"")
    for who, step in steps:
        if who == "client":
            seen.client_read += client_acts(client, step)
        elif "lost" not in recorder.calls:
            act(recorder, step)
        for _ in range(12):
            await asyncio.sleep(0)
        transport = recorder.transport
        seen.states.append(
            (
                transport.is_closing(),
                transport.is_reading(),
                transport.get_write_buffer_size(),
            )
        )
    client.close()
    for _ in range(3):
        await asyncio.sleep(0)
    if "lost" not in recorder.calls:
        recorder.transport.abort()
        await recorder.lost()
    await asyncio.sleep(0)
    # asyncio tells of the same end again when reading is resumed behind it; once is enough.
    seen.calls = [
        call
        for at, call in enumerate(recorder.calls)
        if call != "eof" or "eof" not in recorder.calls[:at]
    ]
    seen.lost_with = type(recorder.exc) if recorder.exc is not None else None
    return seen


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("client"), client_steps), st.tuples(st.just("server"), server_steps)
        ),
        max_size=12,
    ),
    reactions,
)
def test_any_behaviour_makes_the_same_calls_on_both_transports(
    steps: list[tuple[str, Step]], reaction: dict[str, object]
) -> None:
    ours = asyncio.run(play("epoll", steps, reaction))
    theirs = asyncio.run(play("asyncio", steps, reaction))
    assert ours == theirs
    assert ours.calls[0] == "made"
    assert ours.calls.count("lost") == 1
    assert ours.calls[-1] == "lost"
