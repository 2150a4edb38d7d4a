"""Opens consoles, and reads the broker's figures for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from exai_actors.console.actions import Actions
from exai_actors.console.actor import ConsoleActor
from exai_actors.console.actor_actions import ActorActions
from exai_actors.console.audit import Audit, Write
from exai_actors.console.broker_actions import BrokerActions, ProcessControl
from exai_actors.console.client_actions import ClientActions
from exai_actors.console.explanations import register_explanations
from exai_actors.console.faults import Faults, Save, greeting_of
from exai_actors.console.feed import Sources
from exai_actors.console.guesses import note_wrong_token
from exai_actors.console.parts import Parts
from exai_actors.console.places import ConsolePlaces
from exai_actors.console.process import ProcessMeter
from exai_actors.console.provider_actions import ProviderActions
from exai_actors.console.questions import Questions
from exai_actors.console.ring import Ring
from exai_actors.console.tables.actors import ACTORS, ActorRows
from exai_actors.console.tables.alarms import ALARMS, alarm_rows
from exai_actors.console.tables.broker import BROKER, broker_rows
from exai_actors.console.tables.cells import StateRows
from exai_actors.console.tables.config import CONFIG
from exai_actors.console.tables.connections import CONNECTIONS, connection_row
from exai_actors.console.tables.events import (
    DEAD_LETTERS,
    EVENTS,
    EventLog,
    dead_letter_rows,
    newest_first,
    provider_event_rows,
)
from exai_actors.console.tables.providers import (
    GATES,
    HOLDS,
    PROVIDERS,
    RecentTimes,
    gate_rows,
    hold_rows,
    provider_rows,
)
from exai_actors.console.tables.requests import REQUESTS, request_row
from exai_actors.console.tables.sessions import SESSIONS, session_row
from exai_actors.console.tables.tenants import TENANTS, tenant_rows
from exai_actors.console.tables.tree import TREE, TreeRows
from exai_actors.console.tables.usage import USAGE, usage_rows
from exai_actors.console.traces import TRACES, Traces
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.observe.alarms import Alarm, AlarmChange
from exai_actors.core.observe.histogram import Histogram
from exai_actors.core.observe.parts import ProcessState
from exai_actors.core.operations.audit import AUDIT
from exai_actors.core.operators import Operators, Role
from exai_actors.core.wrong_tokens import WrongTokens
from exai_actors.ids import ProviderName
from exai_actors.ports import Clock, Outbox, Peer
from exai_actors.runtime import ActorSystem, LoopRef, PathRef, SupervisorBoard
from exai_actors.wire.console import protocol
from exai_actors.wire.console.protocol import MIN_INTERVAL_S

PATH = "/admin"
"""Where consoles connect; all other paths are for clients."""


class Consoles:
    """The consoles of one broker. They read figures without a message, and act by message."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        operators: Operators,
        parts: Parts,
        supervisors: SupervisorBoard,
        providers: Mapping[ProviderName, PathRef],
        clock: Clock,
        write_audit: Write | None = None,
        process: ProcessControl | None = None,
    ) -> None:
        self._system = system
        self._supervisor = PathRef(system, "/consoles")
        self._supervisors = supervisors
        self.operators = operators
        self._rejections = LogBudget()
        self._statistics = parts.statistics
        self._clock = clock
        self._numbers = count(1)
        self._places = ConsolePlaces()
        self._wrong_tokens = WrongTokens()
        started_at = system.driver.now()
        self._events = EventLog(started_at)
        self._sources = Sources()
        self._process = ProcessMeter(system.driver)
        self.alarms: Callable[[], tuple[Alarm, ...]] = tuple
        """The alarms that are raised; set by the one that watches for them."""
        self._add_tables(parts, started_at)
        self.ring = Ring(self._sources, system.driver, clock.wall)
        self.ring.on_cost = self._process.note_sampling
        self.questions = Questions()
        register_explanations(self.questions, parts)
        self.questions.add("history", Role.VIEWER, lambda _: self.ring.history())
        audit = Audit(write_audit)
        self._sources.add(AUDIT, audit.rows)
        self.actions = Actions(self._sources, audit, system.driver, clock)
        ProviderActions(providers, parts).register(self.actions)
        ClientActions(system, parts).register(self.actions)
        traces = Traces(system, started_at)
        self._sources.add(TRACES, traces.rows)
        ActorActions(system, supervisors, parts, traces).register(self.actions, self.questions)
        if process is not None:
            self._sources.add(CONFIG, process.settings)
            BrokerActions(process, parts, system.driver).register(self.actions)

    def _add_tables(self, parts: Parts, started_at: float) -> None:
        """Add the tables that are read from the parts of the broker, in the order of consoles."""
        add, statistics, system = self._sources.add, parts.statistics, self._system
        now, events = system.driver.now, self._events
        times = RecentTimes(parts.call_figures)
        add(BROKER, lambda: broker_rows(statistics(), parts.counts(), self.process()))
        add(PROVIDERS, lambda: provider_rows(statistics(), times, now()))
        add(GATES, lambda: gate_rows(statistics()))
        add(HOLDS, lambda: hold_rows(statistics()))
        add(ACTORS, lambda: ActorRows(system))
        add(TREE, lambda: TreeRows(self._supervisors))
        add(DEAD_LETTERS, lambda: dead_letter_rows(system.dead_letters.recent(), started_at))
        add(
            EVENTS,
            lambda: newest_first(events.rows(), provider_event_rows(statistics(), started_at)),
        )
        add(ALARMS, lambda: alarm_rows(self.alarms(), now()))
        add(TENANTS, lambda: tenant_rows(parts.tenants(), parts.recent_tokens()))
        add(USAGE, lambda: usage_rows(parts.usage()))
        add(SESSIONS, lambda: StateRows(parts.sessions(), session_row))
        add(CONNECTIONS, lambda: StateRows(parts.connections(), connection_row))
        add(REQUESTS, lambda: StateRows(parts.requests(), partial(request_row, now=now())))

    @property
    def sources(self) -> Sources:
        return self._sources

    def note_wrong_token(self, address: str) -> float:
        """Count a guess of an operator's token; return how long its answer takes."""
        return note_wrong_token(self._wrong_tokens, address, self._system.driver.now())

    def process(self) -> ProcessState:
        """The process at this moment."""
        return self._process.state(restarts=self._supervisors.restarts, alarms=len(self.alarms()))

    @property
    def loop_lags(self) -> Histogram:
        """How late the event loop was since the start."""
        return self._process.lags

    def note_alarm(self, change: AlarmChange) -> None:
        """Show the change among the events."""
        self._events.add_alarm(change)

    def watch_events(self) -> Callable[[], None]:
        """Note the events of the runtime from now on, until the result is called."""
        return self._system.on_event(self._events.add, ordinary=False)

    def measure(self) -> Callable[[], None]:
        """Measure the process from now on, until the result is called."""
        return self._process.start()

    def open(self, peer: Peer, outbox: Outbox) -> LoopRef[ConsoleActor]:
        """Spawn the actor of a console."""
        return self._system.spawn(
            ConsoleActor,
            path=f"/consoles/console-{next(self._numbers)}",
            supervisor=self._supervisor,
            outbox=outbox,
            peer=peer,
            sources=self._sources,
            questions=self.questions,
            actions=self.actions,
            operators=self.operators,
            places=self._places,
            wrong_tokens=self._wrong_tokens,
            rejections=self._rejections,
            describe=self._describe,
            clock=self._clock,
            meter=self._process,
        )

    def save_faults(self, save: Save) -> Faults:
        """Save the last minutes after each fault from now on."""

        def greeting() -> dict[str, Any]:
            tables = self._sources.tables
            return greeting_of(
                protocol.welcome(Role.VIEWER, self._describe(), tables, MIN_INTERVAL_S)
            )

        faults = Faults(self.ring, self._system.driver, self._clock.wall, greeting, save)
        self._system.on_event(faults.note, ordinary=False)
        return faults

    def _describe(self) -> dict[str, Any]:
        now = self._statistics()
        return {"version": now.version, "uptime_s": round(now.uptime_s, 3)}
