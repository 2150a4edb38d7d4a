"""The log of brokers inside tests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import structlog

from exai_actors.client import Unauthorized
from exai_actors.testing.broker import running_broker
from exai_actors.testing.logs import as_line, log_through_logging


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def test_brokers_in_tests_print_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_broker({"server": {"token": "t" * 16}}) as broker:
        with pytest.raises(Unauthorized):
            async with broker.connect(token="wrong"):
                pass
    assert capfd.readouterr().out == ""
    assert "client.rejected reason=unauthorized address=127.0.0.1" in caplog.text


def test_the_level_applies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log_through_logging()
    structlog.get_logger("exai_actors").info("a.b", c=1)
    structlog.get_logger("exai_actors").warning("a.c", c=1)
    assert [record.getMessage() for record in caplog.records] == ["a.c c=1"]


def test_a_project_that_configured_structlog_keeps_its_configuration() -> None:
    mine = [structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=mine)
    log_through_logging()
    assert structlog.get_config()["processors"] is mine


@pytest.mark.parametrize(
    "before",
    [
        structlog.testing.capture_logs,
        lambda: structlog.configure(),
        lambda: structlog.configure(processors=structlog.get_config()["processors"]),
    ],
    ids=["capture_logs", "configure without arguments", "configure with what was found"],
)
def test_structlogs_own_configuration_is_replaced_although_it_was_set(
    before: Callable[[], AbstractContextManager[Any] | None],
) -> None:
    with before() or nullcontext():
        pass
    assert structlog.is_configured()
    log_through_logging()
    assert structlog.get_config()["processors"][-1] is as_line


@pytest.mark.parametrize(
    "mine",
    [
        {"processors": [structlog.processors.KeyValueRenderer()]},
        {"logger_factory": structlog.PrintLoggerFactory(sys.stderr)},
        {"cache_logger_on_first_use": True},
    ],
)
def test_a_configuration_of_the_project_stays_as_it_is(mine: dict[str, Any]) -> None:
    structlog.configure(**mine)
    before = structlog.get_config()
    log_through_logging()
    assert structlog.get_config() == before
    assert structlog.get_config()["processors"] is before["processors"]
