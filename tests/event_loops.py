"""The event loops that the broker supports, for conftest files that run tests on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop

Factories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

ASYNCIO: Factories = {"asyncio": asyncio.new_event_loop}
BOTH: Factories = {**ASYNCIO, "uvloop": uvloop.new_event_loop}
