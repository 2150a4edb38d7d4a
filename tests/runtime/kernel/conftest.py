from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.kernel.probes import ManualSystem


@pytest.fixture
def system() -> Iterator[ManualSystem]:
    """A system that leaves nothing behind when it is shut down."""
    system = ManualSystem()
    yield system
    alive: list[tuple[str, ...]] = []
    system.begin_shutdown(10.0, alive.append)
    system.run()
    assert alive == [()]
    assert system.paths() == []
    assert system.manual.next_timer() is None
