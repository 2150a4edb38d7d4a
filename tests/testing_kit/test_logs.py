"""The log of brokers inside tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from exai_actors.client import Unauthorized
from exai_actors.testing.broker import running_broker
from exai_actors.testing.logs import log_through_logging


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
