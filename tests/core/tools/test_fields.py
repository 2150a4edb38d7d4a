"""For each kind of argument the check and the schema agree."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from exai_actors.core.tools.fields import (
    Field,
    FieldError,
    boolean,
    empty_list,
    integer,
    json_object,
    number,
    one_of,
    text,
    text_or_texts,
    url_list,
)

URLS = url_list(("https://", "data:image/"), "images")
FIELDS = {
    "text": text(2, 5, "a text"),
    "text that is not blank": text(1, 5, "a text", blank=False),
    "any text": text(0, 5, "a text"),
    "number": number(0.1, 2, "a number"),
    "integer": integer(1, 10, "a whole number"),
    "one of": one_of(("low", "high"), "a choice"),
    "boolean": boolean("a switch"),
    "text or texts": text_or_texts(2, "one or two texts"),
    "object": json_object("an object"),
    "url list": URLS,
    "empty list": empty_list("leave it out", "nothing"),
}

LIKELY = st.sampled_from(
    ["", " ", "ab", "  ab  ", "abcdef", "low", "HIGH", "true", "off", "https://a", "data:image/x"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.integers(),
    st.floats(-1, 12, width=16),
    st.floats(allow_nan=False, allow_infinity=False),
    LIKELY,
    st.text(max_size=7),
)
JSON_VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=4), st.dictionaries(LIKELY, SCALARS))


def refusal(field: Field, value: Any) -> FieldError | None:
    try:
        field.check("x", value)
    except FieldError as error:
        return error
    return None


def why_not(field: Field, value: Any) -> str:
    error = refusal(field, value)
    assert error is not None
    assert error.field == "x"
    return error.problem


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_each_field_has_a_valid_schema_with_a_description(field: Field) -> None:
    Draft202012Validator.check_schema(field.schema)
    assert field.schema["description"]


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@given(value=JSON_VALUES)
def test_the_check_accepts_every_value_that_the_schema_allows(field: Field, value: Any) -> None:
    if Draft202012Validator(field.schema).is_valid(value):
        field.check("x", value)


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@given(value=JSON_VALUES)
def test_the_schema_allows_every_value_that_the_check_accepts(field: Field, value: Any) -> None:
    try:
        checked = field.check("x", value)
    except FieldError:
        return
    shown = list(checked) if isinstance(checked, tuple) else checked
    assert checked is None or Draft202012Validator(field.schema).is_valid(shown)


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@given(value=JSON_VALUES)
def test_errors_about_values_are_short_and_can_be_encoded(field: Field, value: Any) -> None:
    error = refusal(field, value)
    if error is not None:
        assert error.problem.startswith("must ")
        assert len(msgspec.json.encode([error.problem, error.value])) < 2000


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_the_wrong_type_is_reported_with_its_type(name: str) -> None:
    wrong, kind = ("x", "str") if name == "object" else ({}, "dict")
    assert why_not(FIELDS[name], wrong).endswith(f"got {kind}")


def test_a_text_of_spaces_counts_as_empty_in_check_and_schema() -> None:
    field = FIELDS["text that is not blank"]
    assert why_not(field, " \n ") == "must not be empty"
    assert not Draft202012Validator(field.schema).is_valid(" \n ")


def test_a_text_is_counted_after_trimming() -> None:
    assert FIELDS["text that is not blank"].check("x", " ab\n") == " ab\n"
    assert FIELDS["any text"].check("x", " a ") == " a "


def test_a_text_of_wrong_length_is_reported_without_its_content() -> None:
    assert why_not(FIELDS["text"], "abcdef") == "must have 2 to 5 characters, got 6"


def test_true_is_no_number() -> None:
    assert why_not(FIELDS["number"], True) == "must be number, got bool"
    assert why_not(FIELDS["integer"], True) == "must be int, got bool"


def test_a_whole_number_may_have_a_decimal_point() -> None:
    assert FIELDS["integer"].check("x", 5.0) == 5
    assert isinstance(FIELDS["integer"].check("x", 5.0), int)
    assert why_not(FIELDS["integer"], 5.5) == "must be int, got float"


@pytest.mark.parametrize("name", ["number", "integer"])
def test_a_number_out_of_range_is_reported_with_the_range(name: str) -> None:
    assert why_not(FIELDS[name], 11).endswith(", got 11")


@pytest.mark.parametrize("name", ["number", "integer"])
@pytest.mark.parametrize(
    "value", [10**5000, -(2**64), 1e300], ids=["5,001 digits", "beyond 64 bits", "float"]
)
def test_a_huge_number_is_not_repeated_in_the_error(name: str, value: float) -> None:
    with pytest.raises(FieldError, match=r"must be between .* and \d+$") as caught:
        FIELDS[name].check("x", value)
    assert (caught.value.field, caught.value.value) == ("x", None)


def test_a_choice_is_taken_in_any_case() -> None:
    assert FIELDS["one of"].check("x", "HiGH") == "high"
    assert why_not(FIELDS["one of"], "medium") == "must be one of low, high"


@pytest.mark.parametrize(
    ("word", "meant"), [("true", True), (" YES ", True), ("1", True), ("off", False), ("0", False)]
)
def test_a_boolean_accepts_the_words_of_old_clients(word: str, meant: bool) -> None:
    assert FIELDS["boolean"].check("x", word) is meant


@pytest.mark.parametrize("value", ["maybe", ""])
def test_a_switch_takes_no_other_words(value: str) -> None:
    assert why_not(FIELDS["boolean"], value) == "must be true or false"


def test_a_url_must_begin_as_the_field_says() -> None:
    assert URLS.check("x", ["https://a", "data:image/png;base64,"]) == (
        "https://a",
        "data:image/png;base64,",
    )
    wanted = "must hold URLs that begin with https:// or data:image/"
    assert why_not(URLS, ["https://a", "file:///etc/passwd"]) == wanted
    assert why_not(URLS, ["https://a", 1]) == "must hold strings only, got int"
    assert why_not(URLS, ["https://a"] * 101) == "must have at most 100 entries, got 101"


def test_a_long_invalid_value_is_shortened() -> None:
    with pytest.raises(FieldError) as caught:
        URLS.check("x", ["y" * 5000])
    assert caught.value.value == "y" * 100 + "..."


def test_a_list_that_must_be_empty_names_the_alternative() -> None:
    assert why_not(FIELDS["empty list"], ["a.py"]) == "must be empty: leave it out"
