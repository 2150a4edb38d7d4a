"""The actor of a console: hello, watching, and consoles that do not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
import structlog

from exai_actors.console.actions import Actions, MakePlan, Plan
from exai_actors.console.actor import (
    MANY_TARGETS,
    MAX_QUESTIONS,
    MAX_REFUSED,
    NO_HELLO,
    NONSENSE,
    REFUSED_WITHIN_S,
    UNAUTHORIZED,
    WRONG_TOKEN,
    ConsoleActor,
)
from exai_actors.console.audit import Audit
from exai_actors.console.feed import HASTY_LOOKS, Sources
from exai_actors.console.places import ConsolePlaces
from exai_actors.console.process import ProcessMeter
from exai_actors.console.questions import Questions
from exai_actors.core.log_budget import LogBudget
from exai_actors.core.observe.query import Column, Kind, Table
from exai_actors.core.observe.tables import Row
from exai_actors.core.operations.action import Action, Effect
from exai_actors.core.operators import Operator, Operators, Role
from exai_actors.core.passes import LIFE_S
from exai_actors.core.wrong_tokens import WrongTokens
from exai_actors.messages.connection import (
    BinaryReceived,
    OutboxHigh,
    OutboxLow,
    ReadHandled,
    SocketClosed,
    TextReceived,
)
from exai_actors.ports import Peer
from exai_actors.runtime import ActorSystem, LoopFuture, ManualDriver
from exai_actors.testing.clock import ManualClock
from exai_actors.testing.outbox_probe import OutboxProbe

TABLE = Table("providers", (Column("queued", "Queued", Kind.COUNT, "waiting requests"),))
TOKEN = "token-of-an-operator"
ADA = Operators(((TOKEN, Operator("ada", Role.OPERATOR)),), on_loopback=True)


class Console:
    """A console's end of the socket, and the broker's figures."""

    def __init__(
        self,
        operators: Operators | None = None,
        bearer_token: str | None = None,
        *,
        places: ConsolePlaces | None = None,
        wrong_tokens: WrongTokens | None = None,
        rejections: LogBudget | None = None,
        number: int = 1,
    ) -> None:
        self.path = f"/consoles/console-{number}"
        self.driver = ManualDriver()
        self.clock = ManualClock()
        self.reading_s = 0.0
        self.system = ActorSystem(self.driver)
        self.rows: dict[str, Row] = {"kimi": (1,)}
        self.reads = 0
        self.sources = Sources()
        self.sources.add(TABLE, self._read)
        self.questions = Questions()
        self.actions = Actions(self.sources, Audit(), self.driver, self.clock)
        self.outbox = OutboxProbe()
        self.ref = self.system.spawn(
            ConsoleActor,
            path=self.path,
            outbox=self.outbox,
            peer=Peer("192.0.2.7", bearer_token),
            sources=self.sources,
            questions=self.questions,
            actions=self.actions,
            operators=operators or Operators((), on_loopback=True),
            places=places or ConsolePlaces(),
            wrong_tokens=wrong_tokens or WrongTokens(),
            rejections=rejections or LogBudget(),
            describe=lambda: {"version": "1.2.3"},
            clock=self.clock,
            meter=ProcessMeter(self.driver),
        )
        self.driver.run_until_idle()

    def _read(self) -> list[tuple[str, Row]]:
        self.reads += 1
        self.clock.advance(self.reading_s)
        return list(self.rows.items())

    def send(self, frame: dict[str, Any] | bytes) -> list[dict[str, Any]]:
        data = frame if isinstance(frame, bytes) else orjson.dumps(frame)
        return self.event(TextReceived(data))

    def event(self, event: object) -> list[dict[str, Any]]:
        if self.is_alive():
            self.ref.tell(event)
        self.driver.run_until_idle()
        return self.outbox.take()

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        self.driver.advance(seconds)
        return self.outbox.take()

    def is_alive(self) -> bool:
        return self.system.resolve(self.path) is not None


def greeted(operators: Operators | None = None) -> Console:
    console = Console(operators)
    console.send({"op": "hello", "token": TOKEN})
    return console


def test_the_answer_to_hello_lists_the_tables_and_the_role() -> None:
    console = Console(ADA)
    [answer] = console.send({"op": "hello", "token": TOKEN})
    assert console.outbox.is_admitted, "it no longer counts as a stranger"
    assert answer == {
        "op": "hello_ack",
        "version": 1,
        "role": "operator",
        "broker": {"version": "1.2.3"},
        "interval_s": 0.25,
        "tables": {
            "providers": [
                {"name": "queued", "title": "Queued", "kind": "count", "help": "waiting requests"}
            ]
        },
        "questions": [],
        "actions": [],
    }


def test_a_token_of_the_handshake_counts_as_well() -> None:
    [answer] = Console(ADA, bearer_token=TOKEN).send({"op": "hello"})
    assert answer["op"] == "hello_ack"


@pytest.mark.parametrize("token", ["", "guess", TOKEN + " "])
def test_a_console_without_an_operators_token_is_closed(token: str) -> None:
    console = Console(ADA)
    assert console.send({"op": "hello", "token": token}) == []
    expected = WRONG_TOKEN if token else UNAUTHORIZED
    assert (console.outbox.closed, console.outbox.is_admitted) == (expected, False)


@pytest.mark.parametrize(
    ("token", "bearer_token", "presented"),
    [
        ("", None, "no token"),
        ("guess", None, "another token"),
        ("", "guess", "another token"),
        (TOKEN + "x", TOKEN, "another token"),
    ],
)
def test_a_refused_console_is_in_the_log_without_its_token(
    token: str, bearer_token: str | None, presented: str
) -> None:
    with structlog.testing.capture_logs() as entries:
        Console(ADA, bearer_token).send({"op": "hello", "token": token})
    assert entries == [
        {
            "event": "console.rejected",
            "log_level": "info",
            "address": "192.0.2.7",
            "presented": presented,
            "suppressed": 0,
        }
    ]


def test_refused_consoles_cannot_fill_the_log() -> None:
    rejections = LogBudget()
    with structlog.testing.capture_logs() as entries:
        for _ in range(20):
            Console(ADA, rejections=rejections).send({"op": "hello", "token": "guess"})
        last = Console(ADA, rejections=rejections)
        last.advance(10.0)
        last.send({"op": "hello", "token": "guess"})
    assert [entry["suppressed"] for entry in entries] == [0, 0, 0, 0, 0, 15]


@pytest.mark.parametrize("then", [TOKEN, "another guess", ""])
def test_a_console_has_one_attempt(then: str) -> None:
    console = Console(ADA)
    console.send({"op": "hello", "token": "guess"})
    console.send({"op": "hello", "token": then})
    assert console.send({"op": "watch", "table": "providers"}) == []
    assert (console.outbox.closed, console.outbox.is_admitted) == (WRONG_TOKEN, False)


def test_guesses_of_one_address_are_slowed_down_and_reported_once() -> None:
    wrong_tokens = WrongTokens()
    with structlog.testing.capture_logs() as entries:
        for _ in range(2):
            console = Console(ADA, wrong_tokens=wrong_tokens)
            console.send({"op": "hello", "token": "guess"})
            assert console.outbox.closed == WRONG_TOKEN
        for _ in range(3):
            console = Console(ADA, wrong_tokens=wrong_tokens)
            console.send({"op": "hello", "token": "guess"})
            console.send({"op": "hello", "token": TOKEN})
            console.advance(0.9)
            assert console.outbox.closed is None
            console.advance(0.1)
            assert console.outbox.closed == WRONG_TOKEN
    reported = [entry for entry in entries if entry["event"] == "access.tokens_guessed"]
    assert [(entry["address"], entry["wrong_tokens"]) for entry in reported] == [("192.0.2.7", 3)]
    right = Console(ADA, wrong_tokens=wrong_tokens)
    assert right.send({"op": "hello", "token": TOKEN})[0]["op"] == "hello_ack"


def test_the_pass_in_a_page_is_as_good_as_the_token_and_the_one_in_the_cookie_is_not() -> None:
    console = Console(ADA)
    now = console.clock.wall()
    cookie = ADA.new_pass(TOKEN, now)
    assert cookie is not None
    (greeting,) = console.send({"op": "hello", "token": ADA.feed_pass(cookie, now)})
    assert (greeting["op"], greeting["role"]) == ("hello_ack", "operator")
    stranger = Console(ADA)
    stranger.send({"op": "hello", "token": cookie})
    assert stranger.outbox.closed == WRONG_TOKEN


def test_a_pass_that_is_over_is_refused() -> None:
    console = Console(ADA)
    long_ago = console.clock.wall() - LIFE_S
    cookie = ADA.new_pass(TOKEN, long_ago)
    assert cookie is not None
    console.send({"op": "hello", "token": ADA.feed_pass(cookie, long_ago)})
    assert console.outbox.closed == WRONG_TOKEN


def test_hello_is_said_once() -> None:
    console = greeted()
    assert console.send({"op": "hello", "token": TOKEN})[0]["code"] == "invalid"


@pytest.mark.parametrize("table", ["x" * 70_000, "providers" + " " * 65_536])
def test_a_long_message_is_refused_and_not_repeated(table: str) -> None:
    [answer] = greeted().send({"op": "watch", "table": table})
    assert (answer["code"], len(str(answer)) < 200) == ("invalid", True)


@pytest.mark.parametrize(
    "ask",
    [
        [{"op": "watch", "table": "providers", "every_s": 0.25}],
        [{"op": "resync", "table": "providers"}],
        [{"op": "unwatch", "table": "providers"}, {"op": "watch", "table": "providers"}],
        [{"op": "watch", "table": "providers", "filter": "kimi"}],
    ],
)
def test_a_console_that_asks_all_the_time_costs_no_more_than_one_that_watches(
    ask: list[dict[str, Any]],
) -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers"})
    answers = [answer for _ in range(100) for frame in ask for answer in console.send(frame)]
    assert len(answers) <= HASTY_LOOKS
    assert [answer["op"] for answer in console.advance(0.25)] == ["snapshot"]


def test_a_console_whose_tables_take_long_rests() -> None:
    console = greeted()
    console.reading_s = 0.1
    console.send({"op": "watch", "table": "providers", "every_s": 0.25})
    console.advance(1.0)
    reads = console.reads
    for _ in range(19):
        console.send({"op": "resync", "table": "providers"})
        console.advance(0.25)
    assert console.reads == reads
    assert [answer["op"] for answer in console.advance(0.25)] == ["snapshot"]


def test_a_new_query_is_answered_during_the_rest_and_lengthens_it() -> None:
    console = greeted()
    console.reading_s = 0.1
    console.send({"op": "watch", "table": "providers", "every_s": 0.25})
    console.advance(1.0)  # the second reading, after which it rests for five seconds
    console.advance(3.5)
    [snapshot] = console.send({"op": "watch", "table": "providers", "filter": "1", "id": 7})
    assert (snapshot["op"], snapshot["id"]) == ("snapshot", 7)
    console.rows["kimi"] = (11,)
    assert console.advance(2.4) == []
    assert [answer["op"] for answer in console.advance(0.2)] == ["delta"]


def test_a_small_table_is_up_to_date_beside_one_that_takes_long() -> None:
    console = greeted()
    small = Table("broker", (Column("queued", "Queued", Kind.COUNT, ""),))
    queued = iter(range(100))
    console.sources.add(small, lambda: [("broker", (next(queued),))])
    console.send({"op": "watch", "table": "broker", "every_s": 1})
    console.reading_s = 0.1
    console.send({"op": "watch", "table": "providers", "every_s": 1})
    answers = [answer["table"] for _ in range(4) for answer in console.advance(1.0)]
    assert answers == ["broker"] * 4
    assert console.reads == 2


def test_new_queries_use_the_rows_of_a_moment_ago() -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers", "every_s": 5})
    for number in range(HASTY_LOOKS - 1):
        [snapshot] = console.send({"op": "watch", "table": "providers", "skip": number})
        assert snapshot["op"] == "snapshot"
    assert console.reads == 1


def test_the_log_has_the_operator_of_a_console() -> None:
    with structlog.testing.capture_logs() as entries:
        greeted(ADA).event(SocketClosed(1000, ""))
    assert [(entry["event"], entry["operator"]) for entry in entries] == [
        ("console.opened", "ada"),
        ("console.closed", "ada"),
    ]


def test_a_console_that_does_not_say_hello_is_closed() -> None:
    console = Console()
    assert console.send({"op": "watch", "table": "providers"})[0]["code"] == "hello_first"
    console.advance(5.0)
    assert console.outbox.closed == NO_HELLO
    assert console.reads == 0


def test_the_rows_for_a_console_are_forgotten_when_it_is_gone() -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers"})
    now = console.driver.now()
    console.sources.rows("providers", now)
    assert console.reads == 1
    console.event(SocketClosed(1001, ""))
    console.sources.rows("providers", now)
    assert console.reads == 2


def test_only_admitted_consoles_have_a_place_and_each_end_frees_it() -> None:
    places = ConsolePlaces(2)

    def greet(number: int, token: str = TOKEN) -> tuple[Console, bool]:
        console = Console(ADA, places=places, number=number)
        return console, bool(console.send({"op": "hello", "token": token}))

    silent = [Console(ADA, places=places, number=number) for number in (1, 2, 3)]
    assert all(console.is_alive() for console in silent)
    assert not any(greet(number, "guess")[1] for number in (4, 5, 6))
    first, is_first_admitted = greet(7)
    second, is_second_admitted = greet(8)
    assert (is_first_admitted, is_second_admitted) == (True, True), "strangers have none"
    third, is_third_admitted = greet(9)
    assert not is_third_admitted
    assert third.outbox.closed == (1013, "2 consoles are open already")
    assert first.send({"op": "hello", "token": TOKEN}), "its place is its own"
    first.event(SocketClosed(1001, ""))
    assert greet(10)[1]
    second.event(object())
    assert not second.is_alive()
    assert greet(11)[1]
    assert not greet(12)[1]


def test_a_watched_table_is_sent_now_and_when_it_changes() -> None:
    console = greeted()
    [snapshot] = console.send({"op": "watch", "table": "providers", "every_s": 2})
    assert (snapshot["op"], snapshot["rows"]) == ("snapshot", [["kimi", 1]])
    assert console.advance(2.0) == []
    console.rows = {"kimi": (2,)}
    assert console.advance(1.9) == []
    [delta] = console.advance(0.1)
    assert (delta["op"], delta["cells"]) == ("delta", {"kimi": {"0": 2}})
    console.send({"op": "unwatch", "table": "providers"})
    reads = console.reads
    console.rows = {"kimi": (3,)}
    assert console.advance(60.0) == []
    assert console.reads == reads


def test_a_lost_console_gets_the_table_whole() -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers"})
    assert console.send({"op": "resync", "table": "providers"}) == []
    [snapshot] = console.advance(0.25)
    assert snapshot["op"] == "snapshot"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"{", "invalid"),
        (b'{"op":"erase"}', "invalid"),
        ({"op": "watch", "table": "nothing"}, "bad_query"),
        ({"op": "watch", "table": "providers", "sort": "age"}, "bad_query"),
        ({"op": "resync", "table": "providers"}, "bad_query"),
    ],
)
def test_a_bad_message_is_answered_and_nothing_else_happens(
    frame: dict[str, Any] | bytes, code: str
) -> None:
    console = greeted()
    [answer] = console.send(frame)
    assert (answer["op"], answer["code"]) == ("error", code)
    assert len(console.send({"op": "watch", "table": "providers"})) == 1


def test_binary_messages_are_refused() -> None:
    [answer] = greeted().event(BinaryReceived(3))
    assert answer["code"] == "invalid"


def test_a_console_that_does_not_read_gets_one_change_for_the_whole_time() -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers"})
    console.event(OutboxHigh())
    reads = console.reads
    for queued in range(2, 10):
        console.rows = {"kimi": (queued,)}
        assert console.advance(1.0) == []
    assert console.reads == reads
    [delta] = console.event(OutboxLow())
    assert (delta["seq"], delta["cells"]) == (1, {"kimi": {"0": 9}})
    console.rows = {"kimi": (10,)}
    assert len(console.advance(1.0)) == 1


@pytest.mark.parametrize("reads", [0, 200_000])
def test_a_console_that_reads_too_little_for_long_is_dropped(reads: int) -> None:
    console = greeted()
    console.event(OutboxHigh())
    console.advance(9.0)
    assert console.outbox.aborts == 0
    console.outbox.taken += reads
    console.advance(2.0)
    assert console.outbox.aborts == 1


def test_a_console_that_reads_slowly_is_not_dropped() -> None:
    console = greeted()
    console.event(OutboxHigh())
    for _ in range(5):
        console.advance(5.0)
        console.outbox.taken += 300_000
        console.advance(5.0)
    console.event(OutboxLow())
    console.advance(60.0)
    assert console.outbox.aborts == 0


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b'{"op": "nonsense"}',
        b'{"op": "hello"}',
        b'{"op": "watch", "table": "nowhere"}',
        b'{"op": "watch", "table": "providers", "filter": "nothing>1"}',
        b'{"op": "resync", "table": "providers"}',
    ],
)
def test_a_console_that_sends_nonsense_all_the_time_is_closed(frame: bytes) -> None:
    console = greeted()
    for _ in range(3):
        for _ in range(MAX_REFUSED):
            assert len(console.send(frame)) == 1
        console.advance(REFUSED_WITHIN_S)
    assert console.outbox.closed is None
    for _ in range(MAX_REFUSED):
        console.send(frame)
    for _ in range(1_000):
        assert console.send(frame) == []
    assert console.outbox.closed == NONSENSE


def test_a_console_that_sends_much_is_read_again_when_all_is_handled() -> None:
    console = greeted()
    handled = console.outbox.handled
    console.event(ReadHandled())
    assert console.outbox.handled == handled + 1


def test_a_console_ends_with_its_socket_and_reads_nothing_more() -> None:
    console = greeted()
    console.send({"op": "watch", "table": "providers"})
    console.event(SocketClosed(1006, ""))
    reads = console.reads
    console.advance(60.0)
    assert (console.is_alive(), console.reads) == (False, reads)


def test_questions_that_take_long_are_answered_slowly_and_bounded() -> None:
    console = Console()

    def think(of: str) -> dict[str, Any]:
        console.clock.advance(0.1)
        return {"of": of}

    console.questions.add("why", Role.VIEWER, think)
    console.send({"op": "hello"})
    ask = {"op": "ask", "question": "why"}
    assert [each["op"] for each in console.send({**ask, "id": 1})] == ["answer"]
    for number in range(2, MAX_QUESTIONS + 2):
        assert console.send({**ask, "id": number}) == []
    (refused,) = console.send({**ask, "id": 99})
    assert (refused["code"], refused["id"]) == ("busy", 99)
    assert console.advance(4.9) == []
    assert [each["id"] for each in console.advance(0.1)] == [2]
    assert [each["id"] for each in console.advance(5.0)] == [3]


TOUCH = Action("provider.touch", "Touch", "providers", Role.OPERATOR, "Change nothing.")


def acting(plan: MakePlan) -> Console:
    console = Console(ADA)
    console.actions.add(TOUCH, plan)
    console.send({"op": "hello", "token": TOKEN})
    return console


def test_actions_that_take_long_are_taken_slowly_and_no_more_is_read() -> None:
    def plan(_target: str, _arguments: Mapping[str, Any]) -> Plan:
        console.clock.advance(0.1)
        return Plan(Effect("nothing", ""), lambda _: ())

    console = acting(plan)
    act = {"op": "act", "action": "provider.touch", "targets": ["kimi"]}
    assert [each["op"] for each in console.send({**act, "id": 1})] == ["effect"]
    for number in range(2, MAX_QUESTIONS + 2):
        assert console.send({**act, "id": number, "preview": number % 2 == 0}) == []
    (refused,) = console.send({**act, "id": 99})
    assert (refused["code"], refused["id"]) == ("busy", 99)
    read = console.outbox.handled
    console.event(ReadHandled())
    assert console.outbox.handled == read
    assert [each["id"] for each in console.advance(5.0)] == [2]
    assert console.outbox.handled == read + 1


@pytest.mark.parametrize(
    "many", [{"filter": "queued>0"}, {"targets": [f"kimi-{n}" for n in range(MANY_TARGETS + 1)]}]
)
def test_what_comes_after_an_action_on_many_targets_waits_for_it(many: dict[str, Any]) -> None:
    planned: list[LoopFuture[Plan]] = []

    def plan(_target: str, _arguments: Mapping[str, Any]) -> LoopFuture[Plan]:
        planned.append(LoopFuture(console.driver))
        return planned[-1]

    console = acting(plan)
    console.questions.add("why", Role.VIEWER, lambda of: {"of": of})
    one = {"op": "act", "action": "provider.touch", "targets": ["kimi"]}
    assert console.send({**one, "id": 1}) == []
    assert console.send({"op": "act", "action": "provider.touch", "id": 2, **many}) == []
    assert console.send({"op": "ask", "question": "why", "id": 3}) == []
    for future in planned:
        future.settle(Plan(Effect("nothing", ""), lambda _: ()))
    console.driver.run_until_idle()
    assert [each["id"] for each in console.advance(0.0)] == [1, 2, 3]


def test_questions_that_cost_nothing_are_answered_immediately() -> None:
    console = Console()
    console.questions.add("why", Role.VIEWER, lambda of: {"of": of})
    console.send({"op": "hello"})
    for number in range(100):
        (answer,) = console.send({"op": "ask", "question": "why", "id": number, "of": "r"})
        assert (answer["id"], answer["answer"]) == (number, {"of": "r"})
