"""How actors run: a kernel that runs them on one event loop, and pykka's API on top of it."""

from pykka import ActorDeadError, Timeout

from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.runtime.kernel.dead_letters import DeadLetters
from exai_actors.runtime.kernel.driver import AsyncioDriver, Callback, Cancellable, Driver
from exai_actors.runtime.kernel.errors import (
    InvalidPath,
    MailboxFull,
    PathTaken,
    RuntimeFault,
    SystemStopping,
    TooManyListeners,
)
from exai_actors.runtime.kernel.events import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetter,
    DeadLetterReason,
    Event,
    MailboxRefused,
    SlowHandler,
)
from exai_actors.runtime.kernel.manual_driver import ManualDriver
from exai_actors.runtime.kernel.signals import Down, Exit, ExitReason
from exai_actors.runtime.kernel.statistics import ActorStatistics
from exai_actors.runtime.kernel.workload import Pace
from exai_actors.runtime.pykka_api.actors import ActorSystem, LoopActor, NoActorSystem
from exai_actors.runtime.pykka_api.future import LoopFuture, WouldBlockLoop
from exai_actors.runtime.pykka_api.ref import LoopRef, PathRef

__all__ = [
    "ActorDeadError",
    "ActorFailed",
    "ActorStarted",
    "ActorStatistics",
    "ActorStopped",
    "ActorSystem",
    "AsyncioDriver",
    "Callback",
    "Cancellable",
    "DeadLetter",
    "DeadLetterReason",
    "DeadLetters",
    "Down",
    "Driver",
    "Event",
    "Exit",
    "ExitReason",
    "InvalidPath",
    "LoopActor",
    "LoopFuture",
    "LoopRef",
    "MailboxFull",
    "MailboxRefused",
    "ManualDriver",
    "NoActorSystem",
    "Offer",
    "Pace",
    "PathRef",
    "PathTaken",
    "Recipient",
    "RuntimeFault",
    "SlowHandler",
    "SystemStopping",
    "Timeout",
    "TooManyListeners",
    "WouldBlockLoop",
]
