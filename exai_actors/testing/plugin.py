"""The pytest plugin: a real broker, a scripted upstream and leak checks as fixtures.

pytest loads it in every project that has this package installed, so it imports nothing else of
the package until a fixture is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from exai_actors.client import SyncBrokerClient
    from exai_actors.testing.broker import BrokerInThread
    from exai_actors.testing.config import AnyConfig
    from exai_actors.testing.leaks import LeakCheck
    from exai_actors.testing.upstream_thread import UpstreamInThread

_leaks: pytest.StashKey[LeakCheck] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "exai(config): the configuration of this test's exai_broker, "
        "as the text of a TOML file or as its tables in a dict",
    )


@pytest.fixture
def exai_broker_factory(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., BrokerInThread]]:
    """Start any number of brokers with ``exai_broker_factory(config)``; the fixture stops them."""
    from exai_actors.testing.broker import broker_in_thread

    with ExitStack() as stack:

        def make(config: AnyConfig = None) -> BrokerInThread:
            broker = stack.enter_context(broker_in_thread(config))
            stack.callback(_check_permits, request.node, broker)
            return broker

        yield make


@pytest.fixture
def exai_broker(
    request: pytest.FixtureRequest, exai_broker_factory: Callable[..., BrokerInThread]
) -> BrokerInThread:
    """A real broker on a free port and a separate thread.

    ``@pytest.mark.exai(config=...)`` configures it. If the configuration names no provider, the
    only provider is the ``scripted_upstream`` with a limit of 1 if the test uses that fixture,
    otherwise the synthetic one.
    """
    from exai_actors.errors import ConfigError
    from exai_actors.testing.config import with_upstream

    config = _marked_config(request.node)
    if "scripted_upstream" in request.fixturenames:
        upstream: UpstreamInThread = request.getfixturevalue("scripted_upstream")
        config = with_upstream(config, upstream.base_url)
    try:
        return exai_broker_factory(config)
    except ConfigError as error:
        text = f"the exai_broker of {request.node.nodeid}: {error}"
        raise pytest.fail.Exception(text, pytrace=False) from None


@pytest.fixture
def scripted_upstream() -> Iterator[UpstreamInThread]:
    """A service under the test's control, on a separate thread."""
    from exai_actors.testing.upstream_thread import upstream_in_thread

    with upstream_in_thread() as upstream:
        yield upstream


@pytest.fixture
def exai_client(exai_broker: BrokerInThread) -> Iterator[SyncBrokerClient]:
    """A synchronous client of ``exai_broker``; in an async test use ``exai_broker.connect()``."""
    with exai_broker.connect_sync() as client:
        yield client


@pytest.fixture
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves actors, threads, asyncio tasks or held permits behind.

    For a whole suite: ``usefixtures = leak_check`` in pytest's configuration.
    """
    from exai_actors.testing.leaks import LeakCheck

    item = request.node
    check = item.stash[_leaks] = LeakCheck()
    test = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(test):
        yield
        return
    item.obj = check.watch(test)
    yield
    item.obj = test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    # After all fixtures of the test are torn down, in whichever order they were set up.
    yield
    check = item.stash.get(_leaks, None)
    if check is not None:
        del item.stash[_leaks]
        if left := check.report():
            pytest.fail(f"{item.nodeid} left behind:\n{left}", pytrace=False)


def _marked_config(item: pytest.Item) -> Any:
    marker = item.get_closest_marker("exai")
    if marker is None:
        return None
    if marker.args or marker.kwargs.keys() - {"config"}:
        pytest.fail("@pytest.mark.exai takes config=... and nothing else", pytrace=False)
    return marker.kwargs.get("config")


def _check_permits(item: pytest.Item, broker: BrokerInThread) -> None:
    check = item.stash.get(_leaks, None)
    if check is not None and not broker.stopped:
        check.problems += [
            f"provider {provider.name}: {provider.in_flight} in flight, {provider.queued} queued"
            for provider in broker.settled().providers
            if provider.in_flight or provider.queued
        ]
