"""No API key reaches a message."""

import pytest

from exai_actors.wire.openai.redaction import Redactor, without_quotations

SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize("piece", [SECRET[:12], SECRET[3:15], SECRET[-10:], SECRET[:-1]])
def test_pieces_of_a_secret_are_redacted(piece: str) -> None:
    message = Redactor(SECRET).redact_excerpt(
        f"Invalid header: b'{piece}' ^ and b'{SECRET[5:14]}' ^"
    )
    assert message == "Invalid header: b'[secret]' ^ and b'[secret]' ^"


def test_an_excerpt_skips_white_space() -> None:
    assert Redactor().redact_excerpt(" \n" * 400 + "because") == "because"


def test_a_very_short_secret_is_not_searched_for() -> None:
    assert Redactor("abc").redact("abc") == "abc"
    assert Redactor("abcd").redact("abcd") == "[secret]"


def test_a_secret_that_contains_its_replacement_is_redacted() -> None:
    assert Redactor("[secret]-1").redact_excerpt("it was [secret]-1") == "it was [secret]"


LONG = "My diagnosis is confidential, and\nnobody but my doctor should read these lines."


@pytest.mark.parametrize(
    ("message", "text", "left"),
    [
        ("crash on my secret plan!", "my secret plan", "crash on [request]!"),
        ("crash on my  plan", "short", "crash on my  plan"),
        (f"at line 3: {' '.join(LONG.split())} (500)", LONG, "at line 3: [request] (500)"),
        ("at: is confidential, and nobody but my (cut)", LONG, "at:[request](cut)"),
        ("my diagnosis", LONG, "my diagnosis"),
        (
            "rate limit exceeded, try again in 3 s",
            "x" * 500_000,
            "rate limit exceeded, try again in 3 s",
        ),
        ("said " + "y" * 40, "x" * 500_000 + "y" * 40, "said [request]"),
        ("", LONG, ""),
    ],
)
def test_words_of_a_request_are_left_out(message: str, text: str, left: str) -> None:
    assert without_quotations(message, [text, ""]) == left
