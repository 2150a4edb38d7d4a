"""Puts the observation of one broker together: alarms, metrics, the access log and traces."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from exai_actors.actors.request_board import RequestBoard
from exai_actors.actors.statistics_board import StatisticsBoard
from exai_actors.console.consoles import Consoles
from exai_actors.core.alarm_readings import ProcessFigures
from exai_actors.core.observe.parts import ProcessState
from exai_actors.daemon.config.files import path_of
from exai_actors.daemon.config.tables import Config
from exai_actors.daemon.observing.alarm_watch import AlarmWatch, alarm_message
from exai_actors.daemon.observing.metrics import Figures, metrics_page
from exai_actors.daemon.process_memory import available_bytes, resident_bytes
from exai_actors.daemon.settings import operators, thresholds
from exai_actors.edges.http_server.server import Page
from exai_actors.ports import Clock
from exai_actors.runtime import ActorSystem

FULLEST_EVERY = 5
"""Looks for alarms for each look at all mailboxes, of which there may be 20,000."""


class Observing:
    """Observes the requests of a broker, and its figures once it has consoles."""

    def __init__(
        self,
        config: Config,
        system: ActorSystem,
        clock: Clock,
        requests: RequestBoard,
        board: StatisticsBoard,
    ) -> None:
        self._config = config
        self._system = system
        self._clock = clock
        self._requests = requests
        self._board = board
        self._available = available_bytes()
        self._looks = 0
        self._fullest = (0.0, "")

    def observe_requests(self, stack: AsyncExitStack) -> None:
        """Log and trace requests as configured; to be called before the first session.

        ``stack`` gets the callbacks that end it. Raises ConfigError for an access log that cannot
        be opened, and for a missing extra.
        """
        logging, tracing = self._config.logging, self._config.tracing
        source = self._config.source.file
        if logging.access != "off":
            from exai_actors.daemon.logs.access import AccessLog

            access_log = AccessLog(
                logging.access,
                (source.parent if source else Path()) / path_of(logging.access_file)
                if logging.access_file
                else None,
                wall=self._clock.wall,
                call_later=self._system.driver.call_later,
            )
            stack.callback(access_log.close)
            self._requests.observers += (access_log,)
        if tracing.endpoint:
            from exai_actors.daemon.observing.tracing import open_tracing

            self._requests.tracer, close = open_tracing(tracing)
            loop = asyncio.get_running_loop()
            stack.push_async_callback(lambda: loop.run_in_executor(None, close))

    def watch(self, stack: AsyncExitStack, consoles: Consoles) -> Page:
        """Watch for alarms, and return the page with the metrics."""
        config, board = self._config, self._board
        alarms = AlarmWatch(
            thresholds(config),
            frozenset(config.alarms.ignore),
            statistics=board.statistics,
            calls=lambda: board.call_figures,
            process=lambda: self._process(consoles.process()),
            now=self._system.driver.now,
        )
        consoles.alarms = lambda: alarms.raised
        alarms.observers += (consoles.note_alarm,)
        if config.alarms.webhook_url:
            from exai_actors.edges.webhook import Webhook

            webhook = Webhook(config.alarms.webhook_url, config.webhook_token)
            stack.push_async_callback(webhook.aclose)
            alarms.observers += (
                lambda change: webhook.send(alarm_message(change, self._clock.wall())),
            )
        stack.enter_context(alarms.watching())
        figures = Figures(
            statistics=board.statistics,
            calls=lambda: board.call_figures,
            requests=self._requests.figures,
            mailboxes=self._system.mailboxes,
            restarts=lambda: consoles.process().restarts,
            loop_lag=consoles.loop_lags,
            alarms=lambda: alarms.raised,
            http_requests=board.http_requests,
        )
        return metrics_page(figures, operators(config), config.metrics_token)

    def _process(self, state: ProcessState) -> ProcessFigures:
        available = self._available
        if self._looks % FULLEST_EVERY == 0:
            self._fullest = self._system.fullest_mailbox()
        self._looks += 1
        return ProcessFigures(
            restarts=state.restarts,
            loop_lag_s=state.loop_lag_s,
            memory_share=resident_bytes() / available if available else 0.0,
            fullest=self._fullest,
        )
