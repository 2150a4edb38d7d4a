from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from pykka import ActorRegistry

from exai_actors.runtime import ActorSystem, AsyncioDriver
from exai_actors.runtime.registry import QuickRefs
from tests.runtime.probes import ManualSystem


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pykka's registry is one for the process: a test sees its own actors only."""
    monkeypatch.setattr(ActorRegistry, "_actor_refs", QuickRefs())
    yield
    for ref in ActorRegistry.get_all():
        ref.stop(block=False)


@pytest.fixture
def system() -> Iterator[ManualSystem]:
    system = ManualSystem()
    yield system
    system.begin_stop()
    system.run()
    assert system.paths() == []


@pytest.fixture
async def live_system() -> AsyncIterator[ActorSystem]:
    """A system on the test's own event loop, current for pykka's ``start()``."""
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop())).make_current()
    yield system
    assert await system.stop_all() == ()
