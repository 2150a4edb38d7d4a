"""What many waiting requests, and many clients that come and go, cost: figures for tools/bench.py.

``python tools/bench_crowd.py [--quick]`` prints them alone. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import argparse
import resource
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import bench_dialects as dialects
from tools.bench_cases import broker
from tools.bench_load import AnswerError, Connection, Dialect, connect, masked_text_frame
from tools.bench_processes import ROOT, Process

SESSIONS = 1_040
FEW = 10
"""With so few waiting a request costs what it costs."""

_BUSY = """
[server]
port = 0
max_connections = 12000
ping_interval_s = 3600
[session]
window = 1000
[[provider]]
name = "busy"
kind = "synthetic"
models = ["synthetic"]
tokens_per_second = 0
delay_ms = 10
limit = 40
queue = 100000
"""

_SHORT_LIVED = """
[server]
port = 0
max_connections = 12000
ping_interval_s = 3600
[session]
resume_s = 1.0
[[provider]]
name = "instant"
kind = "synthetic"
models = ["synthetic"]
tokens_per_second = 0
limit = 4096
"""


@dataclass
class Waiting:
    """With so many requests waiting: CPU µs a request, and how long the event loop stood still."""

    count: int
    cpu_us: float
    stall_p99_ms: float
    stall_p999_ms: float
    stall_max_ms: float


def waiting(count: int, dialect: Dialect = dialects.CALL_TOOL, seconds: float = 8.0) -> Waiting:
    """Keep ``count`` requests waiting, apart from the 40 that run, and measure for a while."""
    sessions = min(SESSIONS, count + 40)
    with broker(_BUSY) as process:
        crowd = _Crowd(process, dialect, sessions, count + 40)
        # All of them have come, and the first have gone.
        crowd.run(2.0 + count / 4_000)
        with _probing(process.address, seconds) as stalls:
            cpu, served = process.cpu_seconds, crowd.served
            crowd.run(seconds)
            spent, done = process.cpu_seconds - cpu, crowd.served - served
        crowd.close()
    ordered = sorted(stalls)

    def stall_ms(q: float) -> float:
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3

    return Waiting(count, spent / done * 1e6, stall_ms(0.99), stall_ms(0.999), stall_ms(1.0))


class _Crowd:
    """Connections that keep a number of requests without an answer, as many each."""

    def __init__(self, process: Process, dialect: Dialect, sessions: int, requests: int) -> None:
        self.served = 0
        self._dialect = dialect
        self._open = connect(process.address, dialect, sessions)
        self._unsent = [deque[bytes]() for _ in self._open]
        self._poll = select.epoll()
        self._by_fd = {each.socket.fileno(): at for at, each in enumerate(self._open)}
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._number = 0
        for number in range(requests):
            self._ask(number % sessions)

    def run(self, seconds: float) -> None:
        """Ask again for each answer."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            for fd, _ in self._poll.poll(left):
                at = self._by_fd[fd]
                data = self._open[at].socket.recv(1 << 18)
                if not data:
                    raise AnswerError("the server closed a connection without a word")
                for frame in self._open[at].frames(data):
                    if self._dialect.final in frame:
                        if b'"error"' in frame:
                            raise AnswerError(f"a request was refused: {frame[:300]!r}")
                        self.served += 1
                        self._ask(at)

    def _ask(self, at: int) -> None:
        self._number += 1
        frame = masked_text_frame(self._dialect.request(f"r{self._number}"))
        connection = self._open[at].socket
        connection.setblocking(True)
        connection.sendall(frame)
        connection.setblocking(False)

    def close(self) -> None:
        for connection in self._open:
            connection.socket.close()


@contextmanager
def _probing(address: tuple[str, int], seconds: float) -> Iterator[list[float]]:
    """The times in which pings are answered meanwhile, measured by a process of its own."""
    command = [sys.executable, "-m", "tools.bench_crowd", "--probe", *map(str, (*address, seconds))]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found: list[float] = []
    try:
        yield found
    finally:
        text, _ = child.communicate(timeout=60)
        found += map(float, text.split())


def _probe(host: str, port: str, seconds: str) -> None:
    """Ping a broker every 5 ms; print how long each answer took."""
    (connection,) = connect((host, int(port)), dialects.CALL_TOOL, 1)
    sock = connection.socket
    sock.setblocking(True)
    until = time.perf_counter() + float(seconds)
    while (began := time.perf_counter()) < until:
        sock.sendall(bytes((0x89, 0x80, 0, 0, 0, 0)))
        answer = b""
        while len(answer) < 2:
            answer += sock.recv(2 - len(answer))
        print(time.perf_counter() - began)
        time.sleep(0.005)


@dataclass
class Burst:
    """Resident MB of a broker before a burst of sessions, and some time after they ended."""

    sessions: int
    before_mb: float
    at_most_mb: float
    after_mb: float
    after_again_mb: float


def burst(sessions: int, settle_s: float = 10.0) -> Burst:
    """Twice: so many clients connect, call, and leave; their sessions end a second later."""
    with broker(_SHORT_LIVED) as process:
        before = process.resident_kib / 1024
        at_most, after = _come_and_go(process, sessions, settle_s)
        _, again = _come_and_go(process, sessions, settle_s)
    return Burst(sessions, before, at_most, after, again)


def _come_and_go(process: Process, sessions: int, settle_s: float) -> tuple[float, float]:
    open_ = connect(process.address, dialects.CALL_TOOL, sessions)
    for number, connection in enumerate(open_):
        connection.socket.setblocking(True)
        connection.socket.sendall(masked_text_frame(dialects.CALL_TOOL.request(f"r{number}")))
    for connection in open_:
        _await(connection, dialects.CALL_TOOL.final)
    at_most = process.resident_kib / 1024
    for connection in open_:
        connection.close()
    time.sleep(1.5 + settle_s)
    return at_most, process.resident_kib / 1024


def _await(connection: Connection, final: bytes) -> None:
    while not any(final in frame for frame in connection.frames(connection.socket.recv(65536))):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 waiting requests at most")
    parser.add_argument("--waiting", type=int, help="only the case with so many waiting")
    parser.add_argument("--burst", type=int, help="only a burst of so many sessions")
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        _probe(*options.probe)
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    if options.burst:
        print(burst(options.burst))
    elif options.waiting is not None:
        print(waiting(options.waiting))
    else:
        for count in (FEW, 10_000) if options.quick else (FEW, 10_000, 50_000):
            print(waiting(count), flush=True)
        print(burst(1_000 if options.quick else 5_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
