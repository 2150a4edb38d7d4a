"""The actor of one console: answers it, acts for it and sends it the tables that it watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, assert_never, final

import msgspec
import structlog

from exai_actors.console.actions import Acted, Actions, ActRefused
from exai_actors.console.feed import REST, Feed, Sources
from exai_actors.console.guesses import note_wrong_token
from exai_actors.console.places import ConsolePlaces
from exai_actors.console.process import ProcessMeter
from exai_actors.console.questions import Questions
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.observe.query import QueryError
from exai_actors.core.operations.action import ActionError
from exai_actors.core.operators import Operator, Operators
from exai_actors.core.passes import Use
from exai_actors.core.wrong_tokens import WrongTokens
from exai_actors.messages.connection import (
    BinaryReceived,
    OutboxHigh,
    OutboxLow,
    ReadHandled,
    SocketClosed,
    SocketEvent,
    TextReceived,
)
from exai_actors.runtime import Cancellable, LoopActor
from exai_actors.wire.console import protocol
from exai_actors.wire.console.protocol import (
    MIN_INTERVAL_S,
    Act,
    Ask,
    Hello,
    Resync,
    Unwatch,
    Watch,
)

if TYPE_CHECKING:
    from exai_actors.ports import Clock, Outbox, Peer

log = structlog.get_logger()

HELLO_TIMEOUT_S = 5.0
TOO_MANY = 1013
MAX_QUESTIONS = 32
"""Questions and actions of one console that wait for their answers."""
MANY_TARGETS = 50
READS_WITHIN_S = 10.0
READS_BYTES = 262_144
"""A console with much to read has to read so much within that time."""
MAX_REFUSED = 100
REFUSED_WITHIN_S = 10.0

UNAUTHORIZED = 4003, "the console needs the token of an operator"
WRONG_TOKEN = 4003, "the token is not an operator's"
NONSENSE = 1008, "too many messages that were refused"
NO_HELLO = 4002, f"no hello within {HELLO_TIMEOUT_S:g} s"


@final
class HelloDue(msgspec.Struct, frozen=True):
    """The console has had its time to say hello, or its wrong token is answered now."""

    refusable: ClassVar[bool] = False


@final
class FramesDue(msgspec.Struct, frozen=True):
    """A watched table is due."""

    refusable: ClassVar[bool] = False


@final
class QuestionsDue(msgspec.Struct, frozen=True):
    """The next question may be answered."""

    refusable: ClassVar[bool] = False


@final
class UnreadDue(msgspec.Struct, frozen=True):
    """The console has had its time to read on; ``taken`` is how much it had read before."""

    refusable: ClassVar[bool] = False
    taken: int


ConsoleActorMessage = (
    SocketEvent | HelloDue | FramesDue | QuestionsDue | UnreadDue | Acted | ActRefused
)


class ConsoleActor(LoopActor):
    """Lives as long as its socket.

    ``describe`` returns the broker's name, version and the like for the greeting. A console that
    does not read is sent nothing until it does; then it gets one change for the whole time. Its
    socket is dropped if that lasts, and closed if too much of what it sends is refused. All
    consoles share ``places``, ``wrong_tokens``, ``meter``, which counts the time that they take,
    and ``rejections``, the budget for entries about refused ones.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        peer: Peer,
        sources: Sources,
        questions: Questions,
        actions: Actions,
        operators: Operators,
        places: ConsolePlaces,
        wrong_tokens: WrongTokens,
        rejections: LogBudget,
        describe: Callable[[], dict[str, Any]],
        clock: Clock,
        meter: ProcessMeter,
    ) -> None:
        super().__init__()
        self._outbox = outbox
        self._peer = peer
        self._feed = Feed(sources, clock.now)
        self._sources = sources
        self._questions = questions
        self._actions = actions
        self._operators = operators
        self._places = places
        self._wrong_tokens = wrong_tokens
        self._rejections = rejections
        self._describe = describe
        self._clock = clock
        self._meter = meter
        self._operator: Operator | None = None
        self._refused: tuple[int, str] | None = None
        self._timer: Cancellable | None = None
        self._unread_timer: Cancellable | None = None
        self._nonsense = LogBudget(MAX_REFUSED, REFUSED_WITHIN_S)
        self._questions_waiting: deque[Ask | Act] = deque()
        self._is_reading = True
        self._many: Act | None = None
        """The action on many targets that is under way: others wait for its end."""
        self._answers_at = 0.0

    def on_start(self) -> None:
        self._timer = self.schedule(HELLO_TIMEOUT_S, HelloDue())

    def on_stop(self) -> None:
        self._leave()
        self._outbox.close(1001, "the broker has ended this console")

    def on_failure(self, *_: object) -> None:
        self._leave()
        self._outbox.close(1011, "the broker failed to serve this console")

    def _leave(self) -> None:
        self._feed.close()
        self._places.free(self.path)

    def on_receive(self, message: ConsoleActorMessage) -> None:
        match message:
            case TextReceived(data):
                self._received(data)
            case BinaryReceived():
                self._refuse("invalid", "messages of consoles are text")
            case ReadHandled():
                self._is_reading = False
                self._read_on()
            case FramesDue():
                self._timer = None
                self._send_frames()
            case QuestionsDue():
                self._answer_questions()
            case Acted() | ActRefused():
                self._acted(message)
            case OutboxHigh() | OutboxLow() | UnreadDue():
                self._reading(message)
            case HelloDue():
                if self._operator is None:
                    self._outbox.close(*(self._refused or NO_HELLO))
            case SocketClosed(code=code):
                self._closed(code)
            case _:
                assert_never(message)

    def _reading(self, message: OutboxHigh | OutboxLow | UnreadDue) -> None:
        """The console reads too little, enough again, or has had its time to do so."""
        match message:
            case OutboxHigh():
                if self._unread_timer is None:
                    self._watch_unread()
            case OutboxLow():
                if self._unread_timer is not None:
                    self._unread_timer.cancel()
                    self._unread_timer = None
                self._send_frames()
            case UnreadDue(taken):
                if self._outbox.bytes_taken() - taken < READS_BYTES:
                    log.info("console.dropped", address=self._peer.address)
                    self._outbox.abort()
                else:
                    self._watch_unread()
            case _:
                assert_never(message)

    def _watch_unread(self) -> None:
        due = UnreadDue(self._outbox.bytes_taken())
        self._unread_timer = self.schedule(READS_WITHIN_S, due)

    def _closed(self, code: int) -> None:
        if self._operator is not None:
            log.debug(
                "console.closed",
                address=self._peer.address,
                operator=self._operator.name,
                code=code,
            )
        self.stop()

    def _received(self, data: bytes) -> None:
        if self._refused is not None:
            return  # a console has one attempt
        message = protocol.decode(data)
        if isinstance(message, str):
            self._refuse("invalid", message)
        elif isinstance(message, Hello):
            self._hello(message)
        elif self._operator is None:
            self._refuse("hello_first", 'begin with {"op": "hello", "token": "..."}')
        elif isinstance(message, Ask | Act):
            self._ask(message)
        else:
            self._command(message)

    def _hello(self, hello: Hello) -> None:
        if self._operator is not None:
            self._refuse("invalid", "this console has said hello already")
            return
        token = hello.token or self._peer.bearer_token
        operator = self._operators.identify(token) or self._operators.identify_pass(
            token or "", Use.FEED, self._clock.wall()
        )
        if operator is None:
            self._reject(token)
            return
        if not self._places.take(self.path):
            self._refused = TOO_MANY, f"{self._places.limit} consoles are open already"
            self._outbox.close(*self._refused)
            return
        self._operator = operator
        log.debug(
            "console.opened",
            address=self._peer.address,
            operator=operator.name,
            role=operator.role.value,
        )
        self._outbox.admit()
        self._outbox.send(
            protocol.welcome(
                operator.role,
                self._describe(),
                self._sources.tables,
                MIN_INTERVAL_S,
                self._questions.names(operator.role),
                self._actions.actions,
            )
        )

    def _reject(self, token: str | None) -> None:
        self._refused = WRONG_TOKEN if token else UNAUTHORIZED
        self._log_rejected("another token" if token else "no token")
        address = self._peer.address
        delay_s = note_wrong_token(self._wrong_tokens, address, self.now()) if token else 0.0
        if delay_s:
            self.schedule(delay_s, HelloDue())
        else:
            self._outbox.close(*self._refused)

    def _log_rejected(self, presented: str) -> None:
        if self._rejections.allow(self.now()):
            log.info(
                "console.rejected",
                address=self._peer.address,
                presented=presented,
                suppressed=self._rejections.take_suppressed(),
            )

    def _ask(self, question: Ask | Act) -> None:
        if len(self._questions_waiting) >= MAX_QUESTIONS:
            problem = f"{MAX_QUESTIONS} questions and actions wait already; send it again later"
            self._refuse("busy", problem, id_=question.id)
            return
        self._questions_waiting.append(question)
        if len(self._questions_waiting) == 1:
            self._answer_questions()

    def _answer_questions(self) -> None:
        """Answer the questions, as slowly as they cost: a console may have its part of the loop."""
        while self._questions_waiting and self._many is None:
            now = self.now()
            if now < self._answers_at:
                self.schedule(self._answers_at - now, QuestionsDue())
                return
            began = self._clock.now()
            question = self._questions_waiting[0]
            if isinstance(question, Act):
                self._act(question)
            else:
                self._outbox.send(self._answer_to(question))
            self._questions_waiting.popleft()
            self._read_on()
            took = self._clock.now() - began
            self._meter.note_sampling(took)
            self._answers_at = now + REST * took

    def _read_on(self) -> None:
        """Read on if there is room for what comes."""
        if not self._is_reading and len(self._questions_waiting) < MAX_QUESTIONS:
            self._is_reading = True
            self._outbox.read_on()

    def _act(self, act: Act) -> None:
        assert self._operator is not None
        if act.filter or len(act.targets) > MANY_TARGETS:
            self._many = act
        self._actions.act(act, self._operator, self._peer.address, self.actor_ref.tell)

    def _answer_to(self, question: Ask) -> bytes:
        assert self._operator is not None
        try:
            role = self._operator.role
            answered = self._questions.answer(question.question, question.of, role)
        except ActionError as error:
            return protocol.error(error.code, str(error), id_=question.id)
        return protocol.answer(question, answered)

    def _acted(self, message: Acted | ActRefused) -> None:
        match message:
            case Acted(act, effects, undos):
                self._outbox.send(protocol.effect(act, effects, undos))
            case ActRefused(act, code, text):
                self._outbox.send(protocol.error(code, text, id_=act.id))
            case _:
                assert_never(message)
        if message.act is self._many:
            self._many = None
            self._answer_questions()

    def _command(self, message: Watch | Unwatch | Resync) -> None:
        try:
            match message:
                case Watch():
                    self._feed.watch(message)
                case Unwatch():
                    self._feed.unwatch(message)
                case Resync():
                    self._feed.resync(message)
                case _:
                    assert_never(message)
        except QueryError as error:
            self._refuse("bad_query", str(error), message.table)
            return
        self._send_frames()

    def _send_frames(self) -> None:
        """Send the frames that are due, and set the timer for the next."""
        if self._unread_timer is not None:
            return
        now = self.now()
        began = self._clock.now()
        for frame in self._feed.frames(now, self._clock.wall()):
            self._outbox.send(frame)
        self._meter.note_sampling(self._clock.now() - began)
        due = self._feed.next_due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self.schedule(max(0.0, due - now), FramesDue())

    def _refuse(
        self, code: str, message: str, table: str | None = None, *, id_: int | None = None
    ) -> None:
        if self._nonsense.allow(self.now()):
            self._outbox.send(protocol.error(code, message, table, id_=id_))
        elif self._refused is None:
            self._refused = NONSENSE
            log.info("console.closed_for_nonsense", address=self._peer.address)
            self._outbox.close(*NONSENSE)
