from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any, TextIO

import click
import pytest
import structlog

from exai_actors.daemon.config.tables import LogConfig
from exai_actors.daemon.logs.nonblocking import ENTRIES_LOST
from exai_actors.daemon.logs.setup import configure_logging
from exai_actors.runtime import ActorSystem, LoopActor, ManualDriver


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def entry(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def failing() -> None:
    raise KeyError("x")


def test_without_a_terminal_entries_are_json_lines() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(), stream)
    structlog.get_logger("exai").info("ready", url="ws://x", connections=3)
    found = entry(stream)
    assert list(found)[:4] == ["timestamp", "level", "logger", "message"]
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "message": "ready",
        "level": "info",
        "logger": "exai",
        "url": "ws://x",
        "connections": 3,
    }


@pytest.mark.parametrize(
    ("stream", "config", "coloured"),
    [
        (Terminal(), LogConfig(), True),
        (Terminal(), LogConfig(format="text"), True),
        (io.StringIO(), LogConfig(format="text"), False),
    ],
)
def test_text_has_the_key_first_and_then_the_fields(
    stream: io.StringIO, config: LogConfig, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    configure_logging(config, stream)
    structlog.get_logger("exai").info("broker.draining", timeout_s=30, in_flight=3)
    (line,) = stream.getvalue().splitlines()
    assert re.search(r"\] broker\.draining +timeout_s=30 in_flight=3$", click.unstyle(line))
    assert ("\x1b[" in line) is coloured


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure_logging(LogConfig(), stream)
    structlog.get_logger("exai").info("draining")
    assert "\x1b" not in stream.getvalue()


def test_entries_of_libraries_look_the_same() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)
    logging.getLogger("pykka").warning("lost %d of %d", 1, 2)
    found = entry(stream)
    assert (found["message"], found["level"], found["logger"]) == (
        "lost 1 of 2",
        "warning",
        "pykka",
    )


def test_the_level_applies_to_both() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(level="error"), stream)
    structlog.get_logger("exai").warning("quiet")
    logging.getLogger("pykka").warning("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("config", [LogConfig(format="json"), LogConfig(format="text")])
def test_an_exception_is_one_line_with_its_location(config: LogConfig) -> None:
    stream = io.StringIO()
    configure_logging(config, stream)
    try:
        failing()
    except KeyError:
        structlog.get_logger("exai").exception("an actor failed")
    (line,) = stream.getvalue().splitlines()
    assert "KeyError: 'x' (test_setup.py:" in line
    assert "in failing" in line
    assert "Traceback" not in line


def test_an_exception_logged_by_a_library_is_one_line_too() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)
    try:
        failing()
    except KeyError:
        logging.getLogger("aiohttp").exception("oops")
    assert entry(stream)["error"].startswith("KeyError: 'x' (test_setup.py:")


def test_the_debug_level_has_full_tracebacks() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(level="debug", format="json"), stream)
    try:
        failing()
    except KeyError:
        structlog.get_logger("exai").exception("an actor failed")
    assert "Traceback" in entry(stream)["exception"]


def test_secrets_are_hidden() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)
    structlog.get_logger("exai").info("hello", token="topsecret", api_key="sk-1", user="u")
    text = stream.getvalue()
    assert "topsecret" not in text
    assert "sk-1" not in text
    assert entry(stream)["user"] == "u"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def test_an_error_without_a_usable_text_is_logged() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)
    logging.getLogger("exai").error("failed", exc_info=Unspeakable())
    assert entry(stream)["error"] == "Unspeakable: (its text is unavailable)"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The non-blocking read end of a pipe, and a stream that writes to it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def messages_in(reading: int) -> list[str]:
    return [json.loads(line)["message"] for line in read_all(reading).splitlines()]


def read_all(reading: int) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reading, 65536):
            data += more
    return data


@pytest.mark.parametrize("length", [10, 3000, 50_000])
def test_an_unread_log_drops_entries_and_counts_them(pipe: tuple[int, TextIO], length: int) -> None:
    reading, stream = pipe
    configure_logging(LogConfig(format="json"), stream)
    log = structlog.get_logger("exai")
    count = 20 + 100_000 // length
    for number in range(count):
        log.info("x" * length, number_of=number)
    data = read_all(reading)
    log.info("read again")
    *entries, loss, last = [json.loads(line) for line in (data + read_all(reading)).splitlines()]
    assert [each["number_of"] for each in entries] == list(range(len(entries)))
    lost = count - len(entries)
    assert (loss["message"], loss["entries"]) == (ENTRIES_LOST, lost)
    assert (loss["level"], last["message"]) == ("warning", "read again")
    log.info("and on")
    assert messages_in(reading) == ["and on"]


def test_the_entry_of_a_failed_actor_names_it_and_the_error() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)
    driver = ManualDriver()
    ActorSystem(driver).spawn(FailingActor, path="/a")
    driver.run_until_idle()
    found = entry(stream)
    assert (found["message"], found["level"]) == ("actor.failed", "error")
    assert found["actor"] == "FailingActor /a (incarnation 1)"
    assert found["error"].startswith("KeyError at test_setup.py:")


@pytest.mark.parametrize("hook", ["on_start", "on_receive", "on_failure"])
def test_the_text_of_an_actors_error_is_not_in_the_log_because_it_may_quote_a_request(
    hook: str,
) -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="json"), stream)

    class Quoting(LoopActor):
        def on_start(self) -> None:
            if hook == "on_start":
                raise KeyError("a secret prompt")

        def on_receive(self, message: object) -> None:
            int("a secret prompt")

        def on_failure(self, *_: object) -> None:
            if hook == "on_failure":
                raise LookupError("a secret prompt")

    driver = ManualDriver()
    actor = ActorSystem(driver).spawn(Quoting, path="/a")
    driver.run_until_idle()
    if hook != "on_start":
        actor.tell("go")
        driver.run_until_idle()
    assert "Error at test_setup.py:" in stream.getvalue()
    assert "secret" not in stream.getvalue()


class FailingActor(LoopActor):
    def on_start(self) -> None:
        failing()


def test_a_log_that_is_read_is_complete(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    configure_logging(LogConfig(format="json"), stream)
    for text in ("one", "tw\u00f6", "x" * 30_000):
        structlog.get_logger("exai").info(text)
        assert messages_in(reading) == [text]


def test_a_closed_log_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        configure_logging(LogConfig(format="json"), stream)
        os.close(reading)
        structlog.get_logger("exai").info("nobody is there")


def test_a_formatting_error_is_not_reported_to_an_unread_log(
    pipe: tuple[int, TextIO], capsys: pytest.CaptureFixture[str]
) -> None:
    reading, stream = pipe
    configure_logging(LogConfig(format="json"), stream)
    log = logging.getLogger("exai")
    log.info("%d", "no number")
    assert "Logging error" in capsys.readouterr().err
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"x" * 4096)
    log.info("%d", "no number")
    assert capsys.readouterr().err == ""
    read_all(reading)
    log.info("%d", "no number")
    assert "Logging error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc", "\\u202eabc"),
        ("tab\t", "tab\\t"),
        ("plain-ä", "plain-ä"),
    ],
)
def test_a_clients_words_cannot_fake_an_entry(text: str, shown: str) -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="text"), stream)
    structlog.get_logger("exai").info("handshake.refused", reason=text)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(f"[info] handshake.refused reason={shown}")


def test_text_leaves_out_fields_without_a_value() -> None:
    stream = io.StringIO()
    configure_logging(LogConfig(format="text"), stream)
    structlog.get_logger("exai").info("a.b", none=None, empty="", zero=0, suppressed=0, off=False)
    assert stream.getvalue().endswith("a.b zero=0 off=False\n")
