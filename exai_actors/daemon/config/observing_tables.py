"""The tables of the file about metrics, alarms and traces."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from exai_actors.core.alarm_readings import AlarmName, Thresholds
from exai_actors.daemon.config.value_types import Count, Seconds

_THRESHOLDS = Thresholds()

Share = Annotated[float, Meta(gt=0, le=1)]
Url = Annotated[str, Meta(max_length=4096)]


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The access to the page with metrics."""

    token_env: str = ""
    """The environment variable that holds a token for `/metrics`. Tokens of operators are valid
    there too. Without either, the page is open on a loopback address and closed on others.
    """
    token_file: str = ""
    """A file with the token; use it instead of `token_env`. A relative path starts at the folder of
    the configuration file.
    """


class AlarmsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The alarms of the broker, and where they are sent."""

    ignore: tuple[AlarmName, ...] = ()
    """Alarms that are never raised."""
    rate_limited_per_minute: Count = _THRESHOLDS.rate_limited_per_minute
    """How many refusals of one service for its rate, in a minute, raise `rate_limited`."""
    queue_share: Share = _THRESHOLDS.queue_share
    """The part of a provider's queue that is taken when `queue_full` is raised."""
    wait_s: Seconds = _THRESHOLDS.wait_s
    """`long_waits` is raised when one in twenty requests of the last minute waited this long."""
    restarts: Count = _THRESHOLDS.restarts
    """How many restarts of actors in ten minutes raise `restarts`."""
    dead_letters_per_minute: Count = _THRESHOLDS.dead_letters_per_minute
    """How many dead letters in a minute raise `dead_letters`."""
    loop_lag_s: Seconds = _THRESHOLDS.loop_lag_s
    """The lag of the event loop from which on `loop_lag` is raised."""
    memory_share: Share = _THRESHOLDS.memory_share
    """The part of the memory available to the process that is in use when `memory` is raised."""
    mailbox_share: Share = _THRESHOLDS.mailbox_share
    """The part of a mailbox that is taken when `mailbox_full` is raised."""
    webhook_url: Url = ""
    """Each change of an alarm is sent there as JSON by POST. Empty: nowhere."""
    webhook_token_env: str = ""
    """The environment variable that holds the token for the webhook, sent as `Bearer TOKEN`."""


class TracingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces of requests; they need the extra ``otel``."""

    endpoint: Url = ""
    """Where spans are sent, as OTLP over HTTP, such as "http://127.0.0.1:4318/v1/traces". Empty:
    nothing is traced.
    """
    sample: Share = 1.0
    """The part of the requests that is traced; clients that send a trace decide for their own."""
