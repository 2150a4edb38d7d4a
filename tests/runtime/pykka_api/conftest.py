from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from pykka import ActorRegistry

from exai_actors.runtime import ActorSystem, AsyncioDriver
from exai_actors.runtime.pykka_api.registry import RefDict
from tests.runtime.pykka_api.probes import ManualSystem


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pykka's registry is one for the process: a test sees only its own actors."""
    monkeypatch.setattr(ActorRegistry, "_actor_refs", RefDict())
    yield
    for ref in ActorRegistry.get_all():
        ref.stop(block=False)


@pytest.fixture
def system() -> Iterator[ManualSystem]:
    system = ManualSystem()
    yield system
    stopped = system.stop_all_nowait()
    system.run()
    assert stopped.get() == ()


@pytest.fixture
async def live_system() -> AsyncIterator[ActorSystem]:
    """A system on the test's own event loop, current for pykka's ``start()``."""
    system = ActorSystem(AsyncioDriver(asyncio.get_running_loop())).make_current()
    yield system
    assert await system.stop_all() == ()
