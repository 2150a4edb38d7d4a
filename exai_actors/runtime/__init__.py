"""How actors run: a kernel that runs them on one event loop, and pykka's API on top of it."""

from pykka import ActorDeadError, Timeout

from exai_actors.runtime.kernel.after_reading import AfterReading
from exai_actors.runtime.kernel.driver import AsyncioDriver, Callback, Cancellable, Driver
from exai_actors.runtime.kernel.errors import MailboxFull, place_of
from exai_actors.runtime.kernel.events import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetter,
    Event,
    MailboxRefused,
    SlowHandler,
)
from exai_actors.runtime.kernel.manual_driver import ManualDriver
from exai_actors.runtime.kernel.signals import Down, Exit, ExitReason, Started
from exai_actors.runtime.kernel.statistics import ActorStatistics, MailboxFigures
from exai_actors.runtime.pykka_api.actors import ActorSystem, LoopActor, NoActorSystem
from exai_actors.runtime.pykka_api.future import LoopFuture, WouldBlockLoop
from exai_actors.runtime.pykka_api.ref import LoopRef, PathRef
from exai_actors.runtime.supervisor import GaveUp, Nursery, SupervisorActor, stop_in_order
from exai_actors.runtime.supervisor_board import Incident, SupervisorBoard, TreeRow

__all__ = [
    "ActorDeadError",
    "ActorFailed",
    "ActorStarted",
    "ActorStatistics",
    "ActorStopped",
    "ActorSystem",
    "AfterReading",
    "AsyncioDriver",
    "Callback",
    "Cancellable",
    "DeadLetter",
    "Down",
    "Driver",
    "Event",
    "Exit",
    "ExitReason",
    "GaveUp",
    "Incident",
    "LoopActor",
    "LoopFuture",
    "LoopRef",
    "MailboxFigures",
    "MailboxFull",
    "MailboxRefused",
    "ManualDriver",
    "NoActorSystem",
    "Nursery",
    "PathRef",
    "SlowHandler",
    "Started",
    "SupervisorActor",
    "SupervisorBoard",
    "Timeout",
    "TreeRow",
    "WouldBlockLoop",
    "place_of",
    "stop_in_order",
]
