"""The recording of the demo: frames from what a terminal got, and an SVG from frames."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

import pytest

from exai_actors.daemon.demo.render import Style, picture, summary
from tests.daemon.demo.test_render import FIRST, LAST
from tools.record_demo import LAST_S, PICTURE, PROMPT, Film, Frame, capture, frames_of, thinned

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
SVG = "{http://www.w3.org/2000/svg}"


def update(*lines: str, up: int = 0) -> str:
    body = "".join(f"{line}\x1b[K\r\n" for line in lines)
    back = f"\x1b[{up}F" if up else ""
    return f"{BEGIN}{back}{body}\x1b[J{END}"


def test_each_redrawing_is_a_frame_and_the_rest_is_below_the_last() -> None:
    written = [
        (0.5, "\x1b[?25l" + update("one")),
        (0.6, update("two", "", up=1)[:10]),
        (0.7, update("two", "", up=1)[10:]),
        (0.8, "\r\nsummary\r\n\x1b[?25h"),
    ]
    assert frames_of(written) == [
        Frame(0.0, (PROMPT,)),
        Frame(0.5, (PROMPT, "one")),
        Frame(0.7, (PROMPT, "two")),
        Frame(0.8, (PROMPT, "two", "", "summary")),
    ]


def test_frames_are_thinned_to_the_last_of_each_step_and_the_end_is_kept() -> None:
    frames = [Frame(at / 20, (str(at),)) for at in range(11)]
    assert [frame.lines for frame in thinned(frames)] == [("3",), ("7",), ("10",)]


def drawn(*frames: Frame) -> ET.Element:
    return ET.fromstring(Film(80, 21).svg(list(frames), "a <film>"))


def shown(svg: ET.Element, number: int) -> list[str]:
    """The text of a frame, line by line."""
    lines = {f"#{line.get('id')}": line for line in svg.iter(f"{SVG}g") if line.get("id")}
    film = next(each for each in svg.iter(f"{SVG}g") if each.get("class") == "film")
    return ["".join(lines[use.get("href", "")].itertext()) for use in film[number]]


def test_a_frame_shows_its_lines_and_equal_lines_are_stored_once() -> None:
    style = Style(width=80, colour=True)
    first = Frame(0.0, (PROMPT, *picture(FIRST, style)))
    second = Frame(1.0, (PROMPT, *picture(LAST, style)))
    svg = drawn(first, second)
    assert shown(svg, 0)[0] == PROMPT
    assert (
        "".join(shown(svg, 1)[2].split()) == "3of3mishaps:aclientvanishes,thentheserviceanswers429"
    )
    ids = [line.get("id") for line in svg.iter(f"{SVG}g") if line.get("id")]
    assert len(ids) == len({line for frame in (first, second) for line in frame.lines if line})


def test_the_colours_of_the_terminal_are_classes() -> None:
    svg = drawn(Frame(0.0, tuple(picture(LAST, Style(width=80, colour=True)))))
    classes = {text.text: text.get("class") for text in svg.iter(f"{SVG}text")}
    assert classes["greedy"] == "m b"
    assert classes["small"] == "c b"
    assert classes["exai demo"] == "b"


def test_the_last_frame_has_scrolled_and_stays() -> None:
    lines = (PROMPT, *picture(LAST, Style()), "", *summary(LAST, Style()))
    svg = drawn(Frame(0.0, (PROMPT,)), Frame(2.0, lines))
    assert len(lines) > 21
    assert [_unspaced(line) for line in shown(svg, 1)] == [
        _unspaced(line) for line in lines[-21:] if line
    ]
    style = next(svg.iter(f"{SVG}style")).text or ""
    assert f"film {2.0 + LAST_S:.1f}s step-end infinite" in style
    assert "prefers-reduced-motion" in style


def _unspaced(line: str) -> str:
    return "".join(line.split())


def test_a_program_in_a_terminal_is_captured_as_it_writes() -> None:
    program = "import os; print(os.get_terminal_size().columns, os.isatty(1), 'grün')"
    written = capture([sys.executable, "-c", program], 50, 10)
    assert "".join(text for _, text in written) == "50 True grün\r\n"


def test_a_program_that_fails_is_no_recording() -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        capture([sys.executable, "-c", "raise SystemExit(3)"], 50, 10)


def test_the_recording_of_the_readme_is_that_of_the_present_demo() -> None:
    svg = ET.fromstring(PICTURE.read_text("utf-8"))
    film = next(each for each in svg.iter(f"{SVG}g") if each.get("class") == "film")
    text = " ".join(" ".join(shown(svg, number)) for number in range(len(film)))
    for act in (FIRST, LAST):
        (line,) = (line for line in picture(act, Style()) if re.match(r"  \d of 3 ", line))
        assert line.split(" of 3 ")[1].strip() in text, "run: python tools/record_demo.py"
    assert "gets all it asks for" in text
