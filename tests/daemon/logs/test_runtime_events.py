from __future__ import annotations

from structlog.testing import capture_logs

from exai_actors.runtime import MailboxRefused, SlowHandler
from exai_actors.testing.broker import running_broker


async def test_a_broker_logs_a_slow_handler_by_actor_and_message() -> None:
    async with running_broker() as broker:
        with capture_logs() as logged:
            broker.broker.system.events.publish(
                SlowHandler(1.0, "/sessions/1", 1, 0.0612, 1, "Submit", ("Submit",))
            )
    assert logged[0] == {
        "event": "actor.slow_handler",
        "log_level": "info",
        "actor": "/sessions/1",
        "message_types": ["Submit"],
        "seconds": 0.061,
    }


async def test_a_broker_logs_a_full_mailbox() -> None:
    async with running_broker() as broker:
        with capture_logs() as logged:
            broker.broker.system.events.publish(
                MailboxRefused(1.0, "/providers/kimi", 1, 10_000, 3)
            )
    assert logged[0] == {
        "event": "mailbox.full",
        "log_level": "warning",
        "actor": "/providers/kimi",
        "limit": 10_000,
    }
