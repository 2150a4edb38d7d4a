"""How actors run: pykka actors on one event loop."""

from exai_actors.messages.recipient import Offer, Recipient
from exai_actors.runtime.actor import LoopActor
from exai_actors.runtime.dead_letters import DeadLetters
from exai_actors.runtime.driver import AsyncioDriver, Cancellable, Driver
from exai_actors.runtime.errors import (
    InvalidPath,
    MailboxFull,
    NoActorSystem,
    PathTaken,
    RuntimeFault,
    SystemStopping,
    TooManyListeners,
    WouldBlockLoop,
)
from exai_actors.runtime.events import (
    ActorFailed,
    ActorStarted,
    ActorStopped,
    DeadLetter,
    DeadLetterReason,
    Event,
    MailboxRefused,
    SlowHandler,
)
from exai_actors.runtime.future import LoopFuture
from exai_actors.runtime.manual import ManualDriver
from exai_actors.runtime.ref import LoopRef, PathRef
from exai_actors.runtime.signals import Down, Exit, ExitReason
from exai_actors.runtime.statistics import ActorStatistics
from exai_actors.runtime.system import ActorSystem

__all__ = [
    "ActorFailed",
    "ActorStarted",
    "ActorStatistics",
    "ActorStopped",
    "ActorSystem",
    "AsyncioDriver",
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
    "PathRef",
    "PathTaken",
    "Recipient",
    "RuntimeFault",
    "SlowHandler",
    "SystemStopping",
    "TooManyListeners",
    "WouldBlockLoop",
]
